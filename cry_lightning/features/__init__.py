"""Front ends: waveform (B, N) -> features (B, C, F, T)."""

from cry_lightning.features.base import Feature
from cry_lightning.features.efficientat import EfficientATLogMel
from cry_lightning.features.logmel import Fbank, LogMel
from cry_lightning.features.measures import AcousticMeasures
from cry_lightning.features.mfcc import MFCC
from cry_lightning.features.spectrogram import OwnRateSpectrogram, Spectrogram
from cry_lightning.features.vggish import VGGishLogMel
from cry_lightning.features.waveform import Waveform

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
