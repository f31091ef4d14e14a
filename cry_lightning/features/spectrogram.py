"""Spectrograms in decibels, resized to a picture."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cry_lightning.console import UserError
from cry_lightning.features.base import Feature, in_blocks, power_of

LOWEST_DB = -120.0  # SoX's range: below what the rounding of 16-bit samples leaves


class Spectrogram(Feature):
    """Spectrograms (B, 1, F, T) in dB between -120 and 0, F and T being the height and width of a picture.

    Frames are centred, with zeros around the waveform; Hann window; frequency is linear from 0 Hz to half the sample
    rate, lowest first; 0 dB is a sine of full scale. The levels are then resized as a picture is (bilinear, averaging
    where it shrinks), so that T is the same for every length of sound.

    Args:
        sample_rate: Hz.
        n_fft: frame and Fourier transform length, in samples.
        hop_length: samples between frames, before resizing.
        size: height F and width T.

    Raises:
        UserError: for arguments below 1, or waveforms not of shape (B, N).

    Source: SoX, effect `spectrogram`, for window, range and reference level; Le et al. 2019, "Using transfer learning,
    SVM, and ensemble classification to classify baby cries based on their spectrogram images", for the size.
    """

    window: Tensor  # (n_fft,)

    def __init__(
        self, sample_rate: int = 8000, n_fft: int = 256, hop_length: int = 64, size: tuple[int, int] = (60, 90)
    ) -> None:
        super().__init__()
        self.check_sizes(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length)
        self.check_sizes(size=max(size))
        if min(size) < 1 or n_fft < 2:
            given = f"{sample_rate}, {hop_length}, {list(size)} and {n_fft}"
            raise UserError(
                f"Spectrogram: sample_rate, hop_length and size must be at least 1 and n_fft 2, not {given}"
            )
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.size = (size[0], size[1])
        window = torch.hann_window(n_fft)
        self.register_buffer("window", window * 2 / window.sum(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Pictures (B, 1, F, T) of waveforms (B, N), in float32 under autocast too."""
        if waveform.ndim != 2:
            raise UserError(f"Spectrogram: wants waveforms of shape (B, N), not {tuple(waveform.shape)}")
        with torch.autocast(waveform.device.type, enabled=False):
            return in_blocks(self._picture, waveform.float(), self.n_fft / self.hop_length)

    def _picture(self, waveform: Tensor) -> Tensor:
        spectrum = torch.stft(
            waveform, self.n_fft, self.hop_length, window=self.window, pad_mode="constant", return_complex=True
        )
        level = power_of(spectrum).clamp_(10 ** (LOWEST_DB / 10), 1.0).log10_().mul_(10)
        return interpolate(level.unsqueeze(1), self.size, mode="bilinear", antialias=True)


class OwnRateSpectrogram(Spectrogram):
    """Spectrograms (B, 1, F, T) in dB of recordings at their own sample rates, as SoX draws a file.

    As `Spectrogram`, with frames and hops of as many samples at any rate, and frequencies up to half of it. Where
    recordings have several rates, a picture shows which, and with it the recorder. `sample_rate` is that of waveforms
    which come from no recording.
    """

    own_rate = True
