"""Augmentations of waveforms (B, N)."""

import math
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor, nn

from cry_lightning.errors import UserError
from cry_lightning.tasks.augment.rows import WAVEFORMS, Gain, check_axes, uniform

NOISE_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
ACTIVE_FRAME_S = 0.02
ACTIVE_RANGE_DB = 40.0


class WaveformGain(Gain):
    """Makes waveforms (B, N) louder or quieter by up to `max_db` decibels, without clipping."""

    def forward(self, batch: Tensor) -> Tensor:
        """Waveforms (B, N), each row times its own constant."""
        check_axes(self, batch, WAVEFORMS)
        return batch * 10 ** (self.draw_db(batch) / 20)


class WaveformNoise(nn.Module):
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
        if sample_rate < 1:
            raise UserError(f"WaveformNoise: sample_rate must be at least 1 Hz, not {sample_rate}")
        if not -math.inf < snr_db[0] <= snr_db[1] < math.inf or not 0 <= probability <= 1:
            raise UserError(f"WaveformNoise: snr_db {snr_db} must ascend, probability {probability} lie in 0..1")
        self.folder = Path(folder)
        self.sample_rate = sample_rate
        self.snr_db = snr_db
        self.probability = probability
        self.shortest = 0  # samples of the shortest recording in memory
        self.register_buffer("noise", None, persistent=False)
        self.register_buffer("lengths", None, persistent=False)

    def load(self, n_samples: int) -> None:
        """Read the recordings, those shorter than `n_samples` being repeated, unless that is done."""
        if n_samples <= self.shortest:
            return
        recordings = [
            np.resize(sound, max(len(sound), n_samples)) for sound in read_noise(self.folder, self.sample_rate)
        ]
        self.lengths = torch.tensor([len(recording) for recording in recordings])
        self.noise = torch.from_numpy(np.concatenate(recordings))
        self.shortest = int(self.lengths.min())

    def forward(self, batch: Tensor) -> Tensor:
        """Waveforms (B, N), each row with its own stretch of noise."""
        check_axes(self, batch, WAVEFORMS)
        self.load(batch.shape[1])
        self.to(batch.device)
        noise = self._draw(*batch.shape)
        snr = 10 ** (uniform(batch, *self.snr_db) / 10)
        signal_power, noise_power = (active_power(sound, self.sample_rate) for sound in (batch, noise))
        mixed_in = (uniform(batch, 0, 1) < self.probability) & (noise_power > 0)
        gain = (signal_power / (noise_power * snr)).sqrt()
        return torch.addcmul(batch, gain.masked_fill(~mixed_in, 0.0), noise)

    def _draw(self, n_rows: int, n_samples: int) -> Tensor:
        """A random stretch (B, N) of a random recording per row."""
        assert self.noise is not None and self.lengths is not None  # `forward` has loaded them
        device = self.noise.device
        which = torch.randint(len(self.lengths), (n_rows,), device=device)
        n_starts = self.lengths[which] - n_samples + 1
        first = self.lengths.cumsum(0)[which] - self.lengths[which]
        start = first + torch.randint(2**62, (n_rows,), device=device) % n_starts
        return self.noise.unfold(0, n_samples, 1)[start]


def active_power(waveform: Tensor, sample_rate: int) -> Tensor:
    """Mean power (B, 1) of waveforms (B, N) over the frames within 40 dB of each one's loudest frame."""
    frame = min(round(ACTIVE_FRAME_S * sample_rate), waveform.shape[1])
    power = waveform.unfold(1, frame, frame).square().mean(2)
    active = power >= power.amax(1, keepdim=True) * 10 ** (-ACTIVE_RANGE_DB / 10)
    return (power * active).sum(1, keepdim=True) / active.sum(1, keepdim=True)


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
