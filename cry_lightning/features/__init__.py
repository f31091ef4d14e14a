"""Front ends: waveform (B, N) -> features (B, C, F, T)."""

from cry_lightning.features.base import Feature, Waveform
from cry_lightning.features.measures import AcousticMeasures
from cry_lightning.features.mel import MFCC, EfficientATLogMel, Fbank, LogMel, VGGishLogMel
from cry_lightning.features.spectrogram import OwnRateSpectrogram, Spectrogram

__all__ = [
    "MFCC",
    "AcousticMeasures",
    "EfficientATLogMel",
    "Fbank",
    "Feature",
    "LogMel",
    "OwnRateSpectrogram",
    "Spectrogram",
    "VGGishLogMel",
    "Waveform",
]
