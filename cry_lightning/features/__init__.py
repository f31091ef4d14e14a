"""Front ends: waveform (B, N) -> features (B, C, F, T)."""

from cry_lightning.features.base import Feature as Feature, Waveform as Waveform
from cry_lightning.features.measures import AcousticMeasures as AcousticMeasures
from cry_lightning.features.mel import (
    MFCC as MFCC,
    EfficientATLogMel as EfficientATLogMel,
    Fbank as Fbank,
    LogMel as LogMel,
    VGGishLogMel as VGGishLogMel,
)
from cry_lightning.features.spectrogram import OwnRateSpectrogram as OwnRateSpectrogram, Spectrogram as Spectrogram
