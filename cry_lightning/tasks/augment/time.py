"""Augmentations of the last axis: frames of features (B, C, F, T), or samples of waveforms (B, N)."""

import torch
from torch import Tensor, nn

from cry_lightning.errors import UserError
from cry_lightning.tasks.augment.rows import cut


class RandomCrop(nn.Module):
    """Keeps a random stretch of `length` frames or samples of each row.

    Raises:
        UserError: where the rows are shorter than that.

    Source: Saeed et al. 2021, "Contrastive learning of general-purpose audio representations", whose positive pairs are
    two crops of one clip.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        if length < 1:
            raise UserError(f"RandomCrop: length must be at least 1, not {length}")
        self.length = length

    def forward(self, batch: Tensor) -> Tensor:
        """The batch (B, ..., T) cut to (B, ..., length)."""
        spare = batch.shape[-1] - self.length
        if spare < 0:
            raise UserError(
                f"RandomCrop: a clip is {batch.shape[-1]} long, shorter than the crop of {self.length}; "
                "raise data.clip_s or lower the crop"
            )
        start = torch.randint(spare + 1, (len(batch),), device=batch.device)
        return cut(batch, start, self.length)


class TimeRoll(nn.Module):
    """Shifts each row round in a circle, either way by up to `max_share` of its length; 0.5 reaches every shift.

    What leaves at one end comes in at the other, so nothing of the sound is lost.
    """

    def __init__(self, max_share: float) -> None:
        super().__init__()
        if not 0 <= max_share <= 1:
            raise UserError(f"TimeRoll: max_share must lie in 0..1, not {max_share}")
        self.max_share = max_share

    def forward(self, batch: Tensor) -> Tensor:
        """The batch (B, ..., T), each row shifted by its own whole number of frames or samples."""
        length = batch.shape[-1]
        reach = int(self.max_share * length)
        start = torch.randint(-reach, reach + 1, (len(batch),), device=batch.device) % length
        return cut(torch.cat([batch, batch], -1), start, length)
