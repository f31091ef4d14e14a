"""Encoders: features (B, C, F, T) -> embeddings (B, num_features)."""

from cry_lightning.encoders.efficientat import EfficientAT
from cry_lightning.encoders.panns import CNN6, CNN10, CNN14
from cry_lightning.encoders.small import Flatten, Res8, SmallCNN, Statistics
from cry_lightning.encoders.vggish import VGGish

__all__ = ["CNN6", "CNN10", "CNN14", "EfficientAT", "Flatten", "Res8", "SmallCNN", "Statistics", "VGGish"]
