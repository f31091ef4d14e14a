"""Augmentations of features (B, C, F, T)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cry_lightning.errors import UserError
from cry_lightning.tasks.augment.rows import FEATURES, Gain, check_axes, interpolate, uniform

DB_PER_LOG = 10 / math.log(10)  # decibels of a unit of the natural logarithm of power


class FeatureGain(Gain):
    """Makes log-power features (B, C, F, T), in decibels, louder or quieter by up to `max_db`."""

    def forward(self, batch: Tensor) -> Tensor:
        """Features (B, C, F, T), each row raised by its own constant."""
        check_axes(self, batch, FEATURES)
        return batch + self.draw_db(batch)


class FrequencyResponse(Gain):
    """Colours log-power features (B, C, F, T), in decibels, as another microphone or room would.

    Gains of up to `max_db` either way are drawn at `n_points` bins, evenly spread from the first to the last, and
    joined by straight lines.

    Source: Nam et al. 2022, "FilterAugment", the linear type; the points there lie at random.
    """

    def __init__(self, max_db: float, n_points: int = 6) -> None:
        super().__init__(max_db)
        if n_points < 2:
            raise UserError(f"FrequencyResponse: n_points must be at least 2, not {n_points}")
        self.n_points = n_points

    def forward(self, batch: Tensor) -> Tensor:
        """Features (B, C, F, T), each row under its own response."""
        check_axes(self, batch, FEATURES)
        points = torch.cat([self.draw_db(batch) for _ in range(self.n_points)], 2)
        return batch + functional.interpolate(points, (batch.shape[2], 1), mode="bilinear", align_corners=True)


class MixupNoise(nn.Module):
    """Mixes another clip of the batch into each as background: log-power features (B, C, F, T) in decibels.

    Powers are added, with a share of up to `max_share` for the background. A row is never its own background unless it
    is alone. Where the batch holds two views of B clips, the background is now and then, once in 2B - 1 draws, the
    other view of the same clip: too rare to be worth knowing of views here.

    Source: Niizumi et al. 2021, "BYOL for audio", section "Mixup for foreground acoustic event"; backgrounds there come
    from earlier batches.
    """

    def __init__(self, max_share: float = 0.4) -> None:
        super().__init__()
        if not 0 <= max_share <= 1:
            raise UserError(f"MixupNoise: max_share must lie in 0..1, not {max_share}")
        self.max_share = max_share

    def forward(self, batch: Tensor) -> Tensor:
        """Features (B, C, F, T), each row with its own background and share."""
        check_axes(self, batch, FEATURES)
        order = torch.randperm(len(batch), device=batch.device)
        background = order.roll(1)[order.argsort()]  # each row's predecessor in the random order, never itself
        share = uniform(batch, 0, self.max_share)
        level = batch / DB_PER_LOG
        return torch.logaddexp(level + torch.log1p(-share), level[background] + share.log()) * DB_PER_LOG


class FrequencyShift(nn.Module):
    """Shifts features (B, C, F, T) up or down by up to `max_bins` bins, fractions included, repeating the edge bins.

    Above about 1 kHz, where mel bins are spaced by a ratio, this is a change of pitch.
    """

    def __init__(self, max_bins: float) -> None:
        super().__init__()
        if not 0 <= max_bins < math.inf:
            raise UserError(f"FrequencyShift: max_bins must be a number of at least 0, not {max_bins}")
        self.max_bins = max_bins

    def forward(self, batch: Tensor) -> Tensor:
        """Features (B, C, F, T), each row shifted by its own number of bins."""
        check_axes(self, batch, FEATURES)
        shift = uniform(batch, -self.max_bins, self.max_bins).flatten(1)
        return interpolate(batch, torch.arange(batch.shape[2], device=batch.device) - shift, 2)


class RandomResizedCrop(nn.Module):
    """Stretches a random rectangle of features (B, C, F, T) to their size, bilinearly: a change of pitch and tempo.

    A rectangle larger than the features lies anywhere around them, their edges repeated.

    Args:
        freq_scale: smallest and largest height of the rectangle, as a share of F.
        time_scale: smallest and largest width of it, as a share of T.

    Source: Niizumi et al. 2021, "BYOL for audio", the random resize crop; zeros there fill what lies outside.
    """

    def __init__(
        self, freq_scale: tuple[float, float] = (0.6, 1.5), time_scale: tuple[float, float] = (0.6, 1.5)
    ) -> None:
        super().__init__()
        for name, (low, high) in {"freq_scale": freq_scale, "time_scale": time_scale}.items():
            if not 0 < low <= high < math.inf:
                raise UserError(f"RandomResizedCrop: {name} must ascend from above 0, not {low} to {high}")
        self.freq_scale = freq_scale
        self.time_scale = time_scale

    def forward(self, batch: Tensor) -> Tensor:
        """Features (B, C, F, T), each row from its own rectangle."""
        check_axes(self, batch, FEATURES)
        for dim, scale in ((2, self.freq_scale), (3, self.time_scale)):  # bilinear is linear along each axis in turn
            batch = interpolate(batch, _stretch(batch, batch.shape[dim], scale), dim)
        return batch


def _stretch(batch: Tensor, size: int, scale: tuple[float, float]) -> Tensor:
    """Fractional places (B, size) evenly spread over a random stretch of an axis, `scale` times as long as it."""
    zoom = uniform(batch, *scale).flatten(1)
    start = uniform(batch, 0, 1).flatten(1) * (1 - zoom) * size
    centre = 0.5  # of a bin or frame, so that the edges of the stretch meet the edges of the axis
    return start + (torch.arange(size, device=batch.device) + centre) * zoom - centre
