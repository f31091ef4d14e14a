"""Augmentations of whole batches: every row drawn alone from torch's global generator, identity in eval mode."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor, nn

from cry_lightning.errors import UserError

NOISE_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
ACTIVE_FRAME_S = 0.02
ACTIVE_RANGE_DB = 40.0


class Augmentation(nn.Module):
    """A random change of a batch while training, none in eval mode."""

    def forward(self, batch: Tensor) -> Tensor:
        """The batch, augmented in training mode and untouched in eval mode."""
        return self.augment(batch) if self.training else batch

    def augment(self, batch: Tensor) -> Tensor:
        """The augmented batch, of the same shape."""
        raise NotImplementedError


class TimeShift(Augmentation):
    """Shifts features (B, C, F, T) by up to `max_frames` either way, filling with zeros.

    Zeros are what an MFCC of digital silence is, so they stand for shifting the waveform into silence.
    """

    def __init__(self, max_frames: int) -> None:
        super().__init__()
        if max_frames < 0:
            raise UserError(f"TimeShift: max_frames must not be negative, not {max_frames}")
        self.max_frames = max_frames

    def augment(self, batch: Tensor) -> Tensor:
        """Features (B, C, F, T), each row shifted by its own number of frames."""
        n_frames = batch.shape[-1]
        shift = torch.randint(-self.max_frames, self.max_frames + 1, (len(batch), 1), device=batch.device)
        source = torch.arange(n_frames, device=batch.device) - shift
        inside = (source >= 0) & (source < n_frames)
        index = source.clamp(0, n_frames - 1)[:, None, None].expand_as(batch)
        return batch.gather(-1, index).masked_fill(~inside[:, None, None], 0.0)


class SpecAugment(Augmentation):
    """Masks bands of features (B, C, F, T) in time and frequency, filling with each row's mean.

    A mask is up to `time_width` frames or `freq_width` bins wide, zero included. The mean stands for the zero of the
    paper's mean-normalised spectrograms.

    Source: Park et al. 2019, "SpecAugment", section 2 (its time warping is left out).
    """

    def __init__(self, time_masks: int = 2, time_width: int = 10, freq_masks: int = 2, freq_width: int = 10) -> None:
        super().__init__()
        if min(time_masks, time_width, freq_masks, freq_width) < 0:
            raise UserError("SpecAugment: numbers and widths of masks must not be negative")
        self.time_masks = time_masks
        self.time_width = time_width
        self.freq_masks = freq_masks
        self.freq_width = freq_width

    def augment(self, batch: Tensor) -> Tensor:
        """Features (B, C, F, T), each row under its own masks."""
        n_rows, _, n_bins, n_frames = batch.shape
        in_time = _bands(n_rows, self.time_masks, self.time_width, n_frames, batch.device)
        in_freq = _bands(n_rows, self.freq_masks, self.freq_width, n_bins, batch.device)
        masked = (in_freq[:, :, None] | in_time[:, None, :])[:, None]
        return torch.where(masked, batch.mean((1, 2, 3), keepdim=True), batch)


def _bands(n_rows: int, n_masks: int, max_width: int, size: int, device: torch.device) -> Tensor:
    """Boolean (n_rows, size), true inside any of a row's bands."""
    width = torch.randint(0, min(max_width, size) + 1, (n_rows, n_masks, 1), device=device)
    start = (torch.rand(n_rows, n_masks, 1, device=device) * (size - width + 1)).long()
    position = torch.arange(size, device=device)
    return ((position >= start) & (position < start + width)).any(1)


class WaveformNoise(Augmentation):
    """Adds recorded noise to waveforms (B, N) at a random signal-to-noise ratio.

    Both levels are measured where there is sound (see `active_power`). Recordings are read at the first batch, not
    before, so that a trained model is tested without them. A row that is silent, or meets silence, stays as it is.

    Args:
        folder: holds the noise recordings (WAV, FLAC, OGG, MP3), searched with its subfolders.
        sample_rate: of the waveforms, Hz.
        snr_db: lowest and highest ratio, drawn uniformly.
        probability: of adding noise to a row.

    Raises:
        UserError: at the first batch, where the folder holds no sound or a recording cannot be read.
    """

    noise: Tensor | None  # all recordings, one after the other
    lengths: Tensor | None  # of each, in samples

    def __init__(
        self,
        folder: str | Path,
        sample_rate: int,
        snr_db: tuple[float, float] = (5.0, 20.0),
        probability: float = 0.8,
    ) -> None:
        super().__init__()
        if snr_db[0] > snr_db[1] or not 0 <= probability <= 1:
            raise UserError(f"WaveformNoise: snr_db {snr_db} must ascend, probability {probability} lie in 0..1")
        self.folder = Path(folder)
        self.sample_rate = sample_rate
        self.snr_db = snr_db
        self.probability = probability
        self.register_buffer("noise", None, persistent=False)
        self.register_buffer("lengths", None, persistent=False)

    def load(self) -> None:
        """Read the recordings, if they are not in memory yet."""
        if self.noise is not None:
            return
        recordings = read_noise(self.folder, self.sample_rate)
        self.lengths = torch.tensor([len(recording) for recording in recordings])
        self.noise = torch.from_numpy(np.concatenate(recordings))

    def augment(self, batch: Tensor) -> Tensor:
        """Waveforms (B, N), each row with its own stretch of noise."""
        self.load()
        self.to(batch.device)
        noise = self._draw(*batch.shape)
        lowest, highest = self.snr_db
        snr_db = lowest + (highest - lowest) * torch.rand(len(batch), device=batch.device)
        signal_power, noise_power = (active_power(sound, self.sample_rate) for sound in (batch, noise))
        gain = (signal_power / (noise_power * 10 ** (snr_db / 10))).sqrt()
        mixed_in = (torch.rand(len(batch), device=batch.device) < self.probability) & (noise_power > 0)
        return batch + gain.masked_fill(~mixed_in, 0.0)[:, None] * noise

    def _draw(self, n_rows: int, n_samples: int) -> Tensor:
        """A stretch (B, N) of a random recording per row; a recording shorter than N is repeated."""
        assert self.noise is not None and self.lengths is not None  # `augment` has loaded them
        device = self.noise.device
        which = torch.randint(len(self.lengths), (n_rows, 1), device=device)
        length = self.lengths[which]
        first = (torch.rand(n_rows, 1, device=device) * ((length - n_samples).clamp(min=0) + 1)).long()
        position = (first + torch.arange(n_samples, device=device)) % length
        return self.noise[(self.lengths.cumsum(0) - self.lengths)[which] + position]


def active_power(waveform: Tensor, sample_rate: int) -> Tensor:
    """Mean power (B,) of waveforms (B, N) over the frames within 40 dB of each one's loudest frame."""
    frame = min(round(ACTIVE_FRAME_S * sample_rate), waveform.shape[1])
    power = waveform.unfold(1, frame, frame).square().mean(2)
    active = power >= power.amax(1, keepdim=True) * 10 ** (-ACTIVE_RANGE_DB / 10)
    return (power * active).sum(1) / active.sum(1)


def read_noise(folder: Path, sample_rate: int) -> list[np.ndarray]:
    """Every noise recording of a folder, float32 (N,) each, mono, resampled, without the zeros that pad its ends."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in NOISE_SUFFIXES)
    recordings = []
    for path in paths:
        try:
            sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise UserError(f"{path}: not a readable noise recording ({error}); remove it from {folder}") from error
        recordings.append(np.trim_zeros(soxr.resample(sound.mean(1), rate, sample_rate)))
    recordings = [recording for recording in recordings if len(recording)]
    if not recordings:
        raise UserError(f"{folder}: no noise to add; it must be a folder of {', '.join(sorted(NOISE_SUFFIXES))} files")
    return recordings
