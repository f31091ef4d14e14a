"""Log-mel spectrograms as EfficientAT takes them."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from cry_lightning.audio.from_torchaudio import torchaudio
from cry_lightning.features.mel import MelFeature

WINDOW = 800  # samples
PRE_EMPHASIS = 0.97
OFFSET = 1e-5  # added to the mel energies, so that silence lies at (log(1e-5) + 4.5) / 5
MEAN, SPREAD = -4.5, 5.0  # that the logarithms are brought to about 0 and 1 by


class EfficientATLogMel(MelFeature):
    """EfficientAT's log-mel spectrograms (B, 1, n_mels, T) of sound at 32 kHz, T = 1 + (N - 1) // hop_length.

    Pre-emphasis y[n] = x[n + 1] - 0.97 x[n], one sample shorter; frames of n_fft samples, mirrored at the ends, under a
    symmetric Hann window of 800 samples in their middle; power; Kaldi's mel bands; natural log; (x + 4.5) / 5.

    Args:
        sample_rate: Hz.
        n_fft: frame and Fourier transform length, in samples.
        hop_length: samples between frames.
        n_mels: mel bands between `f_min` and `f_max` (Hz).

    Raises:
        UserError: for arguments that contradict each other, or a waveform too short to be mirrored.

    Source: Schmid et al. 2023, "Efficient large-scale audio tagging via transformer-to-CNN knowledge distillation", as
    its released code has it.
    """

    def __init__(
        self,
        sample_rate: int = 32000,
        n_fft: int = 1024,
        hop_length: int = 320,
        n_mels: int = 128,
        f_min: float = 0.0,
        f_max: float = 15000.0,
    ) -> None:
        super().__init__(sample_rate, n_fft, hop_length, n_mels, f_min, f_max)

    def make_window(self) -> Tensor:
        """Window (n_fft,) of every frame."""
        before = (self.n_fft - WINDOW) // 2
        return pad(torch.hann_window(WINDOW, periodic=False), (before, self.n_fft - WINDOW - before))

    def make_filters(self) -> Tensor:
        """Weights (n_fft // 2 + 1, n_mels) of the mel bands, none of half the sample rate."""
        no_warp = (100.0, -500.0, 1.0)
        banks = torchaudio("compliance.kaldi").get_mel_banks(
            self.n_mels, self.n_fft, float(self.sample_rate), self.f_min, self.f_max, *no_warp
        )
        return pad(banks[0], (0, 1)).T.contiguous()

    def compress(self, energy: Tensor) -> Tensor:
        """Features (B, n_mels, T) of mel energies (B, T, n_mels)."""
        return energy.add_(OFFSET).log_().sub_(MEAN).div_(SPREAD).transpose(1, 2).contiguous()

    def forward(self, waveform: Tensor) -> Tensor:
        """Log-mel spectrograms (B, 1, n_mels, T) of waveforms (B, N)."""
        waveform = waveform.float()
        return super().forward(waveform[..., 1:] - PRE_EMPHASIS * waveform[..., :-1])
