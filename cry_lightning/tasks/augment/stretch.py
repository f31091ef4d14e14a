"""Waveforms (B, N) made slower, faster, higher or lower, each row by its own amount."""

import math

import torch
from torch import Tensor

from cry_lightning.console import UserError
from cry_lightning.tasks.augment.channel import Changed, Range
from cry_lightning.tasks.augment.spectrogram import interpolate, uniform

HOPS = 4  # in a window
WINDOW_S = 0.032
OVERSAMPLED = 4  # before samples are read between samples


class TimeStretch(Changed):
    """Makes waveforms (B, N) slower or faster without moving their pitch; what no longer fits is cut, the rest silent.

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
    """Moves the pitch of waveforms (B, N) without making them slower or faster.

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
    return torch.istft(slow, n_fft, hop, window=window, length=length)


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
