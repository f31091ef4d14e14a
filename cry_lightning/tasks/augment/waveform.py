"""Augmentations of waveforms (B, N): gain, noise, and each row made slower, faster, higher or lower."""

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from cry_lightning.console import UserError
from cry_lightning.files import sha256
from cry_lightning.lineage import sound_fingerprint
from cry_lightning.lineage.acoustic_fingerprint import landmarks
from cry_lightning.tasks.augment.channel import Changed, Range
from cry_lightning.tasks.augment.spectrogram import WAVEFORMS, Gain, Sometimes, check_axes, interpolate, uniform

NOISE_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
ACTIVE_FRAME_S = 0.02
ACTIVE_RANGE_DB = 40.0
MINUTE_S = 60
HOPS = 4  # in a window
WINDOW_S = 0.032
OVERSAMPLED = 4  # before samples are read between samples


class WaveformGain(Gain):
    """Makes waveforms (B, N) louder or quieter by up to `max_db` decibels, without clipping."""

    def forward(self, batch: Tensor) -> Tensor:
        """Waveforms (B, N), each row times its own constant."""
        check_axes(self, batch, WAVEFORMS)
        return batch * 10 ** (self.draw_db(batch) / 20)


class RecordedNoise(Sometimes):
    """What augmentations with recorded noise share: the recordings, and which row meets which stretch of them.

    Recordings are read at the first batch, not before, so that a trained model is tested without them.

    Args:
        folder: holds the noise recordings (WAV, FLAC, OGG, MP3), searched with its subfolders.
        sample_rate: of the waveforms, Hz.
        probability: of adding noise to a row.
        share: of each recording, from its beginning; the rest is never used in training, and can be tested on.

    Raises:
        UserError: at the first batch, where the folder holds no sound or a recording cannot be read.
    """

    noise: Tensor | None  # all recordings, one after the other
    lengths: Tensor | None  # of each, in samples

    def __init__(self, folder: str | Path, sample_rate: int, probability: float, share: float) -> None:
        super().__init__(probability)
        name = type(self).__name__
        if sample_rate < 1:
            raise UserError(f"{name}: sample_rate must be at least 1 Hz, not {sample_rate}")
        if not 0 < share <= 1:
            raise UserError(f"{name}: share {share} must lie above 0 and up to 1")
        self.folder = Path(folder)
        self.sample_rate = sample_rate
        self.share = share
        self.shortest = 0  # samples of the shortest recording in memory
        self.register_buffer("noise", None, persistent=False)
        self.register_buffer("lengths", None, persistent=False)

    def check_inputs(self) -> None:
        """Refuse a folder without recordings before anything is trained.

        Raises:
            UserError: the folder holds no sound.
        """
        noise_files(self.folder)

    def load(self, n_samples: int) -> None:
        """Read the recordings, those shorter than `n_samples` being repeated, unless that is done."""
        if n_samples <= self.shortest:
            return
        sounds = read_noise(self.folder, self.sample_rate, self.share)
        recordings = [np.resize(sound, max(len(sound), n_samples)) for sound in sounds]
        self.lengths = torch.tensor([len(recording) for recording in recordings])
        self.noise = torch.from_numpy(np.concatenate(recordings))
        self.shortest = int(self.lengths.min())

    @cached_property
    def sounds(self) -> list[str]:
        """What is read of the recordings, as of `lineage.sound_fingerprint`, a minute at a time."""
        found, n_samples = [], MINUTE_S * self.sample_rate
        for path, sound in noise_recordings(self.folder, self.sample_rate, self.share):
            content = sha256(path)
            for first in range(0, len(sound), n_samples):
                piece = sound[first : first + n_samples]
                stretch = f"{first / self.sample_rate:.3f}-{len(piece) / self.sample_rate:.3f}"
                found.append(sound_fingerprint(f"{content}#{stretch}", *landmarks(piece[None], self.sample_rate)))
        return found

    def draw(self, batch: Tensor) -> Tensor:
        """A random stretch (B, N) of a random recording per row of the waveforms (B, N)."""
        check_axes(self, batch, WAVEFORMS)
        self.load(batch.shape[1])
        self.to(batch.device)
        assert self.noise is not None and self.lengths is not None  # just loaded
        which = torch.randint(len(self.lengths), (len(batch),), device=batch.device)
        n_starts = self.lengths[which] - batch.shape[1] + 1
        first = self.lengths.cumsum(0)[which] - self.lengths[which]
        start = first + torch.randint(2**62, (len(batch),), device=batch.device) % n_starts
        return self.noise.unfold(0, batch.shape[1], 1)[start]


class WaveformNoise(RecordedNoise):
    """Adds recorded noise to waveforms (B, N) at a random signal-to-noise ratio.

    Both levels are measured where there is sound (see `active_power`). A row that is silent, or meets silence, stays as
    it is.

    Args:
        folder: see `RecordedNoise`.
        sample_rate: see `RecordedNoise`.
        snr_db: lowest and highest ratio, drawn uniformly.
        probability: see `RecordedNoise`.
        share: see `RecordedNoise`.
    """

    def __init__(
        self,
        folder: str | Path,
        sample_rate: int,
        snr_db: tuple[float, float] = (5.0, 20.0),
        probability: float = 0.8,
        share: float = 1.0,
    ) -> None:
        super().__init__(folder, sample_rate, probability, share)
        if not -math.inf < snr_db[0] <= snr_db[1] < math.inf:
            raise UserError(f"WaveformNoise: snr_db {snr_db} must ascend")
        self.snr_db = snr_db

    def forward(self, batch: Tensor) -> Tensor:
        """Waveforms (B, N), each row with its own stretch of noise."""
        noise = self.draw(batch)
        snr = 10 ** (uniform(batch, *self.snr_db) / 10)
        signal_power, noise_power = (active_power(sound, self.sample_rate) for sound in (batch, noise))
        mixed_in = self.chosen(batch) & (noise_power > 0)
        gain = (signal_power / (noise_power * snr)).sqrt()
        return torch.addcmul(batch, gain.masked_fill(~mixed_in, 0.0), noise)


class BackgroundNoise(RecordedNoise):
    """Adds recorded noise to waveforms (B, N), whatever their level, times a random gain, without clipping.

    Args:
        folder: see `RecordedNoise`.
        sample_rate: see `RecordedNoise`.
        max_gain: the gain is drawn uniformly between 0 and this.
        probability: see `RecordedNoise`.
        share: see `RecordedNoise`.

    Source: Tang & Lin 2018, "Deep residual learning for small-footprint keyword spotting", section 3.1.
    """

    def __init__(
        self,
        folder: str | Path,
        sample_rate: int,
        max_gain: float = 0.1,
        probability: float = 0.8,
        share: float = 1.0,
    ) -> None:
        super().__init__(folder, sample_rate, probability, share)
        if not 0 <= max_gain < math.inf:
            raise UserError(f"BackgroundNoise: max_gain must be a number of at least 0, not {max_gain}")
        self.max_gain = max_gain

    def forward(self, batch: Tensor) -> Tensor:
        """Waveforms (B, N), each row with its own stretch of noise and gain."""
        noise = self.draw(batch)
        gain = uniform(batch, 0, self.max_gain)
        return torch.addcmul(batch, gain.masked_fill(~self.chosen(batch), 0.0), noise)


def active_power(waveform: Tensor, sample_rate: int) -> Tensor:
    """Mean power (B, 1) of waveforms (B, N) over the frames within 40 dB of each one's loudest frame."""
    frame = min(round(ACTIVE_FRAME_S * sample_rate), waveform.shape[1])
    power = waveform.unfold(1, frame, frame).square().mean(2)
    active = power >= power.amax(1, keepdim=True) * 10 ** (-ACTIVE_RANGE_DB / 10)
    return (power * active).sum(1, keepdim=True) / active.sum(1, keepdim=True)


def noise_files(folder: Path) -> list[Path]:
    """The noise recordings of a folder and of those in it.

    Raises:
        UserError: there is none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in NOISE_SUFFIXES)
    if not paths:
        raise UserError(f"{folder}: no noise to add; it must be a folder of {', '.join(sorted(NOISE_SUFFIXES))} files")
    return paths


def read_noise(folder: Path, sample_rate: int, share: float = 1.0) -> list[np.ndarray]:
    """Every noise recording of a folder, float32 (N,) each, mono, resampled, without the zeros that pad its ends.

    Args:
        folder: searched with its subfolders.
        sample_rate: to resample to, Hz.
        share: of each recording, from its beginning.

    Raises:
        UserError: there is no sound, or a recording that cannot be read.
    """
    recordings = [np.trim_zeros(sound) for _, sound in noise_recordings(folder, sample_rate, share)]
    recordings = [recording for recording in recordings if len(recording)]
    if not recordings:
        raise UserError(f"{folder}: its recordings are silent, so there is no noise to add; give others")
    return recordings


def noise_recordings(folder: Path, sample_rate: int, share: float) -> Iterator[tuple[Path, np.ndarray]]:
    """Every noise recording of a folder and its samples (N,); see `read_noise`.

    Raises:
        UserError: one cannot be read.
    """
    for path in noise_files(folder):
        try:
            sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise UserError(f"{path}: not a readable noise recording ({error}); remove it from {folder}") from error
        yield path, soxr.resample(sound[: int(share * len(sound))].mean(1), rate, sample_rate)


class TimeStretch(Changed):
    """Makes waveforms (B, N) slower or faster at their pitch and level; what no longer fits is cut, the rest silent.

    Args:
        sample_rate: of the waveforms, Hz.
        rate: lowest and highest speed, above 0; 1 is as it was.
        probability: see `Changed`.

    Source: Flanagan & Golden 1966, "Phase vocoder".
    """

    def __init__(self, sample_rate: int, rate: Range = (0.8, 1.25), probability: float = 0.5) -> None:
        super().__init__(probability, rate=rate)
        if not 0.25 <= rate[0] <= rate[1] <= 4:
            raise UserError(f"TimeStretch: rate {rate} must lie between 0.25 and 4")
        self.sample_rate = sample_rate
        self.rate = rate

    def change(self, rows: Tensor) -> Tensor:
        """Each row (n, N) at its own speed, its centre where it was."""
        return stretched(rows, uniform(rows, *self.rate), rows.shape[1], self.sample_rate, fixed=0.5)


class PitchShift(Changed):
    """Moves the pitch of waveforms (B, N) without making them slower, faster, louder or quieter.

    Args:
        sample_rate: of the waveforms, Hz.
        max_semitones: largest shift, up or down.
        probability: see `Changed`.
    """

    def __init__(self, sample_rate: int, max_semitones: float = 2.0, probability: float = 0.5) -> None:
        super().__init__(probability)
        if not 0 <= max_semitones <= 24:
            raise UserError(f"PitchShift: max_semitones must lie in 0..24, not {max_semitones}")
        self.sample_rate = sample_rate
        self.max_semitones = max_semitones

    def change(self, rows: Tensor) -> Tensor:
        """Each row (n, N) stretched by its own factor, and played that much faster."""
        factor = 2 ** (uniform(rows, -self.max_semitones, self.max_semitones) / 12)
        length = math.ceil(rows.shape[1] * float(factor.max()))
        return played(stretched(rows, 1 / factor, length, self.sample_rate), factor, rows.shape[1])


def stretched(rows: Tensor, rate: Tensor, length: int, sample_rate: int, fixed: float = 0.0) -> Tensor:
    """Waveforms (n, length) of rows (n, N), each at its own rate (n, 1), with zeros where it has no more sound.

    Args:
        rows: waveforms.
        rate: speed of each.
        length: samples that are wanted.
        sample_rate: Hz.
        fixed: what stays where it is, as a share of the rows: 0 their beginning, 0.5 their centre.
    """
    n_fft = 2 ** math.ceil(math.log2(WINDOW_S * sample_rate))
    hop, window = n_fft // HOPS, torch.hann_window(n_fft, device=rows.device)
    short = torch.stft(rows, n_fft, hop, window=window, return_complex=True, pad_mode="constant")  # (n, F, T)
    centre = fixed * (short.shape[2] - 1)
    place = centre + (torch.arange(length // hop + 1, device=rows.device) - centre) * rate  # (n, T')
    there = (place >= 0) & (place < short.shape[2])
    slow = vocoded(short, place.clamp(0, short.shape[2]), hop) * there[:, None]
    changed = torch.istft(slow, n_fft, hop, window=window, length=length)
    # Phases that no longer fit each other cancel, by which a cry would lose 3 to 4 dB.
    middle, sample = fixed * rows.shape[1], torch.arange(rows.shape[1], device=rows.device)
    taken = (middle - middle * rate <= sample) & (sample < middle + (length - middle) * rate)
    energy, left = ((one**2).sum(1, keepdim=True) for one in (rows * taken, changed))
    return changed * (energy / rate / left.clamp(min=1e-12)).sqrt()


def vocoded(short: Tensor, place: Tensor, hop: int) -> Tensor:
    """Spectra (n, F, T) read at fractional frames (n, T'), whose phases go on as fast as they did there: (n, F, T').

    The same as torchaudio.functional.phase_vocoder, which has one rate for all rows.
    """
    n, n_bins, n_frames = short.shape
    padded = torch.cat([short, short.new_zeros(n, n_bins, 2)], 2)
    lower = place.long().clamp(max=n_frames)
    first, second = (padded.gather(2, index[:, None].expand(-1, n_bins, -1)) for index in (lower, lower + 1))
    share = (place - lower)[:, None]
    advance = torch.linspace(0, math.pi * hop, n_bins, device=short.device)[:, None]  # of a frame, at each bin's centre
    turned = second.angle() - first.angle() - advance
    turned = advance + turned - 2 * math.pi * (turned / (2 * math.pi)).round()
    # In long sounds the sum has many turns, of which float32 would keep too few digits.
    phase = torch.cat([short[..., :1].angle(), turned[..., :-1]], 2).double().cumsum(2).remainder(2 * math.pi)
    return torch.polar(torch.lerp(first.abs(), second.abs(), share), phase.float())


def played(rows: Tensor, speed: Tensor, length: int) -> Tensor:
    """Waveforms (n, length): rows (n, M) read at their own speeds (n, 1), without what would fold back."""
    n_samples = rows.shape[1]
    spectrum = torch.fft.rfft(rows)
    bins = torch.arange(spectrum.shape[1], device=rows.device)
    spectrum = spectrum * (bins * speed < spectrum.shape[1])
    fine = torch.fft.irfft(spectrum, OVERSAMPLED * n_samples)[:, None, None] * OVERSAMPLED
    place = torch.arange(length, device=rows.device) * speed
    return interpolate(fine, OVERSAMPLED * place, -1)[:, 0, 0] * (place < n_samples)
