"""SpecAugment: a warp of time, then masks in time and frequency."""

import torch
from torch import Tensor, nn

from cry_lightning.errors import UserError
from cry_lightning.tasks.augment.rows import FEATURES, check_axes, interpolate, uniform


class SpecAugment(nn.Module):
    """Warps features (B, C, F, T) in time, then masks bands in time and frequency, filling with each row's mean.

    The mean stands for the zero of the paper's mean-normalised spectrograms.

    Args:
        time_warp: a random frame is moved by up to so many frames, what lies on either side being stretched to fit.
        time_masks: masks in time per row.
        time_width: largest width of each, in frames; the smallest is 0.
        freq_masks: masks in frequency per row.
        freq_width: largest width of each, in bins; the smallest is 0.

    Source: Park et al. 2019, "SpecAugment", section 2.
    """

    def __init__(
        self, time_warp: int = 0, time_masks: int = 2, time_width: int = 10, freq_masks: int = 2, freq_width: int = 10
    ) -> None:
        super().__init__()
        if min(time_warp, time_masks, time_width, freq_masks, freq_width) < 0:
            raise UserError("SpecAugment: the warp, and numbers and widths of masks, must not be negative")
        self.time_warp = time_warp
        self.time_masks = time_masks
        self.time_width = time_width
        self.freq_masks = freq_masks
        self.freq_width = freq_width

    def forward(self, batch: Tensor) -> Tensor:
        """Features (B, C, F, T), each row under its own warp and masks."""
        check_axes(self, batch, FEATURES)
        n_rows, _, n_bins, n_frames = batch.shape
        if self.time_warp and n_frames > 1:
            batch = interpolate(batch, _warped(batch, self.time_warp), -1)
        in_time = _bands(n_rows, self.time_masks, self.time_width, n_frames, batch.device)
        in_freq = _bands(n_rows, self.freq_masks, self.freq_width, n_bins, batch.device)
        masked = (in_freq[:, :, None] | in_time[:, None, :])[:, None]
        return torch.where(masked, batch.mean((1, 2, 3), keepdim=True), batch)


def _warped(batch: Tensor, max_warp: float) -> Tensor:
    """For each frame the fractional one (B, T) that moves there: the ends stay, a random frame between them moves."""
    last = batch.shape[-1] - 1
    reach = min(max_warp, last / 2)
    source = uniform(batch, reach, last - reach).flatten(1)
    target = source - uniform(batch, -reach, reach).flatten(1)  # above 0, as the upper bound is never drawn
    frame = torch.arange(last + 1, device=batch.device)
    left = frame * source / target
    right = last - (last - frame) * (last - source) / (last - target)
    return torch.where(frame <= target, left, right)


def _bands(n_rows: int, n_masks: int, max_width: int, size: int, device: torch.device) -> Tensor:
    """Boolean (n_rows, size), true inside any of a row's bands."""
    width = torch.randint(0, min(max_width, size) + 1, (n_rows, n_masks, 1), device=device)
    start = (torch.rand(n_rows, n_masks, 1, device=device) * (size - width + 1)).long()
    position = torch.arange(size, device=device)
    return ((position >= start) & (position < start + width)).any(1)
