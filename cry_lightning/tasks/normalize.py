"""Normalisation of features, which acts on what is left after crops and augmentation."""

from torch import Tensor, nn

from cry_lightning.errors import UserError


class MeanSubtraction(nn.Module):
    """Takes from each band of features (B, C, F, T) its mean over time, clip by clip.

    Source: Gorin et al. 2023, "Self-supervised learning for infant cry analysis".
    """

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, F, T) of zero mean over T."""
        return features - features.mean(-1, keepdim=True)


class RelativeLevel(nn.Module):
    """Levels of features (B, C, F, T) in dB, relative to each clip's loudest: 1 there, 0 at `range_db` below and under.

    Neither the distance to the microphone, nor the noise or digital silence around a clip, then reaches the network.
    """

    def __init__(self, range_db: float = 40.0) -> None:
        super().__init__()
        if range_db <= 0:
            raise UserError(f"RelativeLevel: range_db must be above 0, not {range_db}")
        self.range_db = range_db

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, F, T) between 0 and 1."""
        loudest = features.amax((1, 2, 3), keepdim=True)
        return (1 + (features - loudest) / self.range_db).clamp(min=0)
