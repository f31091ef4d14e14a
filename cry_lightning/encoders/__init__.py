"""Encoders: features (B, C, F, T) -> embeddings (B, num_features)."""

from cry_lightning.encoders.res8 import Res8

__all__ = ["Res8"]
