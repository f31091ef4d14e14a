"""Encoders: features (B, C, F, T) -> embeddings (B, num_features)."""

from cry_lightning.encoders.audioset import CNN6, CNN10, CNN14, EfficientAT, VGGish
from cry_lightning.encoders.small import Flatten, Res8, SmallCNN, Statistics

__all__ = ["CNN6", "CNN10", "CNN14", "EfficientAT", "Flatten", "Res8", "SmallCNN", "Statistics", "VGGish"]
