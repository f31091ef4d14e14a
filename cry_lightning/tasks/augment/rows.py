"""What augmentations share: a draw for each row, and each row read at its own places."""

import math

import torch
from torch import Tensor, nn

from cry_lightning.errors import UserError

FEATURES = "B, C, F, T"
WAVEFORMS = "B, N"


class Gain(nn.Module):
    """What gains share: a strength of up to `max_db` decibels either way."""

    def __init__(self, max_db: float) -> None:
        super().__init__()
        if not 0 <= max_db < math.inf:
            raise UserError(f"{type(self).__name__}: max_db must be a number of at least 0, not {max_db}")
        self.max_db = max_db

    def draw_db(self, batch: Tensor) -> Tensor:
        """One gain per row, in decibels (B, 1, ...)."""
        return uniform(batch, -self.max_db, self.max_db)


def check_axes(module: nn.Module, batch: Tensor, axes: str) -> None:
    """Refuse, in the name of `module`, a batch that has not these axes, `FEATURES` or `WAVEFORMS`."""
    if batch.ndim != len(axes.split(", ")):
        raise UserError(
            f"{type(module).__name__}: wants a batch ({axes}), not one of shape {tuple(batch.shape)}; "
            "augment_waveform takes augmentations of waveforms, augment those of features"
        )


def uniform(batch: Tensor, low: float, high: float) -> Tensor:
    """One number per row, uniform between `low` and `high`, with as many axes as the batch: (B, 1, ...)."""
    return torch.empty(len(batch), *[1] * (batch.ndim - 1), device=batch.device).uniform_(low, high)


def cut(batch: Tensor, start: Tensor, length: int) -> Tensor:
    """`length` frames or samples of each row (B, ..., length) from its own start (B,) on the last axis."""
    # Indexing windows copies stretches that lie together; a gather with one index per element takes twice as long.
    windows = batch.unfold(-1, length, 1)
    return windows[torch.arange(len(batch), device=batch.device), ..., start, :]


def interpolate(batch: Tensor, position: Tensor, dim: int) -> Tensor:
    """Features (B, C, F, T) read along `dim` at each row's own fractional places (B, L), the edges replicated."""
    lines = batch.movedim(dim, 1)
    last = lines.shape[1] - 1
    position = position.clamp(0, last)
    lower = position.long()
    share = (position - lower)[:, :, None, None]
    rows = torch.arange(len(batch), device=batch.device)[:, None]
    upper = (lower + 1).clamp(max=last)
    return lines[rows, lower].lerp_(lines[rows, upper], share).movedim(1, dim)
