"""Log-mel spectrograms in decibels: plain, PANNs' and SpeechBrain's."""

import math

import torch
from torch import Tensor

from cry_lightning.features.mel import MelFeature

FLOOR = 1e-10  # energy, -100 dB: just below what the rounding of 16-bit samples leaves in a LogMel
RANGE_DB = 80.0  # of an Fbank


class LogMel(MelFeature):
    """Log-mel spectrograms (B, 1, n_mels, T) in dB, no lower than -100.

    PANNs' own is that of 16 kHz, n_fft 512, hop 160 and 64 bands from 50 to 8000 Hz.

    Source: Kong et al. 2020, "PANNs: large-scale pretrained audio neural networks for audio pattern recognition".
    """

    def compress(self, energy: Tensor) -> Tensor:
        """Decibels (B, n_mels, T) of mel energies (B, T, n_mels)."""
        return decibels(energy).transpose(1, 2).contiguous()


class Fbank(MelFeature):
    """Log-mel spectrograms (B, 1, n_mels, T) in dB as SpeechBrain computes them, within 80 dB of each clip's loudest.

    What differs from LogMel: Hamming window, zeros around the waveform, the HTK mel scale, and filters of unit height
    that are symmetric in Hz, as wide as the distance to the band below. The subtraction of each band's mean, which
    belongs to it, is tasks.normalize.MeanSubtraction: it acts on the crop that the network sees.

    Source: Ravanelli et al. 2021, "SpeechBrain: a general-purpose speech toolkit"; Gorin et al. 2023,
    "Self-supervised learning for infant cry analysis".
    """

    pad_mode = "constant"

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 400,
        hop_length: int = 160,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float = 8000.0,
    ) -> None:
        super().__init__(sample_rate, n_fft, hop_length, n_mels, f_min, f_max)

    def make_window(self) -> Tensor:
        """Window (n_fft,) of every frame."""
        return torch.hamming_window(self.n_fft)

    def make_filters(self) -> Tensor:
        """Weights (n_fft // 2 + 1, n_mels) of the mel bands: triangles of equal height."""
        lowest, highest = (2595 * math.log10(1 + f_hz / 700) for f_hz in (self.f_min, self.f_max))
        mels = torch.linspace(lowest, highest, self.n_mels + 2, dtype=torch.float64)
        corners = 700 * (10 ** (mels / 2595) - 1)
        centre, width = corners[1:-1], corners.diff()[:-1]
        frequency = torch.linspace(0, self.sample_rate // 2, self.n_fft // 2 + 1, dtype=torch.float64)
        return (1 - (frequency[:, None] - centre).abs() / width).clamp(min=0).float()

    def compress(self, energy: Tensor) -> Tensor:
        """Decibels (B, n_mels, T) of mel energies (B, T, n_mels)."""
        level = decibels(energy).transpose(1, 2)
        return level.maximum(level.amax((1, 2), keepdim=True) - RANGE_DB).contiguous()


def decibels(energy: Tensor) -> Tensor:
    """Levels in dB of energies of any shape, which are overwritten."""
    return energy.clamp_(min=FLOOR).log10_().mul_(10)
