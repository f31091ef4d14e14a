"""Encoders: features (B, C, F, T) -> embeddings (B, num_features)."""

from cry_lightning.encoders.audioset import (
    CNN6 as CNN6,
    CNN10 as CNN10,
    CNN14 as CNN14,
    EfficientAT as EfficientAT,
    VGGish as VGGish,
)
from cry_lightning.encoders.small import (
    Flatten as Flatten,
    Res8 as Res8,
    SmallCNN as SmallCNN,
    Statistics as Statistics,
)
