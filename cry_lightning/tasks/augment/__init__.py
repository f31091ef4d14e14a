"""Augmentations of whole batches on the device: they augment whenever they are called, and a stage says when.

Every row is drawn alone, from torch's global generator; a strength of 0 turns an augmentation off.
"""

from cry_lightning.tasks.augment.channel import (
    BandLimit as BandLimit,
    Clipping as Clipping,
    Codec as Codec,
    RoomResponse as RoomResponse,
)
from cry_lightning.tasks.augment.spectrogram import (
    FeatureGain as FeatureGain,
    FrequencyResponse as FrequencyResponse,
    FrequencyShift as FrequencyShift,
    MixupNoise as MixupNoise,
    RandomCrop as RandomCrop,
    RandomResizedCrop as RandomResizedCrop,
    SpecAugment as SpecAugment,
    TimeRoll as TimeRoll,
)
from cry_lightning.tasks.augment.waveform import (
    BackgroundNoise as BackgroundNoise,
    PitchShift as PitchShift,
    TimeStretch as TimeStretch,
    WaveformGain as WaveformGain,
    WaveformNoise as WaveformNoise,
)
