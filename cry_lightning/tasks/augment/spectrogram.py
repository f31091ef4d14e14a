"""Augmentations of features (B, C, F, T), each row drawn by itself."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cry_lightning.console import UserError

FEATURES = "B, C, F, T"
WAVEFORMS = "B, N"
DB_PER_LOG = 10 / math.log(10)  # decibels of a unit of the natural logarithm of power


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


class Sometimes(nn.Module):
    """What augmentations of some of the rows share: how probable it is that a row is one of them."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability <= 1:  # nor NaN
            raise UserError(f"{type(self).__name__}: probability {probability} must lie in 0..1")
        self.probability = probability

    def chosen(self, batch: Tensor) -> Tensor:
        """Which rows are changed (B, 1)."""
        return uniform(batch, 0, 1) < self.probability


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
