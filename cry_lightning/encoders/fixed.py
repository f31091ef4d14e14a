"""Encoders without weights: what classical machines are given."""

import torch
from torch import Tensor, nn

from cry_lightning.errors import UserError


class Flatten(nn.Module):
    """Features (B, C, F, T) as they stand, in one row: embeddings (B, C * F * T).

    Args:
        num_features: C * F * T.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, num_features); features of another size are a UserError that tells theirs."""
        rows = features.flatten(1)
        if rows.shape[1] != self.num_features:
            raise UserError(
                f"Flatten: num_features is {self.num_features}, but features of shape {tuple(features.shape[1:])} are"
                f" {rows.shape[1]} numbers; set the encoder's num_features to that"
            )
        return rows


class Statistics(nn.Module):
    """Mean and standard deviation over time of every band of features (B, C, F, T): embeddings (B, 2 * C * F).

    Args:
        n_bands: C * F, such as the coefficients of an MFCC.
    """

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.n_bands = n_bands
        self.num_features = 2 * n_bands

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, 2 * n_bands), the means first; another number of bands is a UserError that tells it."""
        bands = features.flatten(1, 2)
        if bands.shape[1] != self.n_bands:
            raise UserError(
                f"Statistics: n_bands is {self.n_bands}, but features of shape {tuple(features.shape[1:])} have"
                f" {bands.shape[1]}; set the encoder's n_bands to that"
            )
        return torch.cat([bands.mean(-1), bands.std(-1, correction=0)], dim=1)
