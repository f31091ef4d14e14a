"""Augmentations of whole batches on the device: they augment whenever they are called, and a stage says when.

Every row is drawn alone, from torch's global generator; a strength of 0 turns an augmentation off.
"""

from cry_lightning.tasks.augment.channel import BandLimit, Clipping, Codec, RoomResponse
from cry_lightning.tasks.augment.spectrogram import (
    FeatureGain,
    FrequencyResponse,
    FrequencyShift,
    MixupNoise,
    RandomCrop,
    RandomResizedCrop,
    SpecAugment,
    TimeRoll,
)
from cry_lightning.tasks.augment.waveform import BackgroundNoise, PitchShift, TimeStretch, WaveformGain, WaveformNoise

__all__ = [
    "BackgroundNoise",
    "BandLimit",
    "Clipping",
    "Codec",
    "FeatureGain",
    "FrequencyResponse",
    "FrequencyShift",
    "MixupNoise",
    "PitchShift",
    "RandomCrop",
    "RandomResizedCrop",
    "RoomResponse",
    "SpecAugment",
    "TimeRoll",
    "TimeStretch",
    "WaveformGain",
    "WaveformNoise",
]
