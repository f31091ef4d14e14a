"""What front ends on mel energies share: framing, power spectra and one product with the filters."""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import pad

from cry_lightning.audio.from_torchaudio import torchaudio
from cry_lightning.console import UserError
from cry_lightning.features.base import Feature, in_blocks, power_of


class MelFeature(Feature):
    """Features (B, 1, F, T), T = 1 + N // hop_length, that `compress` makes of mel energies.

    Frames are centred, the waveform being mirrored at its ends; periodic Hann window, power spectra, Slaney filters.

    Args:
        sample_rate: Hz.
        n_fft: frame and Fourier transform length, in samples.
        hop_length: samples between frames.
        n_mels: mel bands between `f_min` and `f_max` (Hz).

    Raises:
        UserError: for arguments that contradict each other, or a waveform too short to be mirrored.
    """

    pad_mode = "reflect"
    window: Tensor  # (n_fft,)
    mel: Tensor  # (n_fft // 2 + 1, n_mels)

    def __init__(
        self,
        sample_rate: int = 8000,
        n_fft: int = 240,
        hop_length: int = 80,
        n_mels: int = 40,
        f_min: float = 20.0,
        f_max: float = 4000.0,
    ) -> None:
        super().__init__()
        self.check_sizes(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)
        if not 0 <= f_min < f_max <= sample_rate / 2:
            raise UserError(
                f"{type(self).__name__}: f_min {f_min} and f_max {f_max} Hz must lie in order between 0 and half the "
                f"sample_rate, {sample_rate / 2} Hz"
            )
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.f_min = f_min
        self.f_max = f_max
        with torch.device("cpu"):  # also where a network is drafted without numbers: filters are looked into
            self.register_buffer("window", self.make_window(), persistent=False)
            self.register_buffer("mel", self.make_filters(), persistent=False)

    def make_window(self) -> Tensor:
        """Window (n_fft,) of every frame."""
        return torch.hann_window(self.n_fft)

    def make_filters(self) -> Tensor:
        """Weights (n_fft // 2 + 1, n_mels) of the mel bands: triangles of equal area."""
        filters: Tensor = torchaudio("functional").melscale_fbanks(
            self.n_fft // 2 + 1,
            self.f_min,
            self.f_max,
            self.n_mels,
            self.sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        return filters

    @abstractmethod
    def compress(self, energy: Tensor) -> Tensor:
        """Features (B, F, T) of mel energies (B, T, n_mels), which it may overwrite."""

    def forward(self, waveform: Tensor) -> Tensor:
        """Features (B, 1, F, T) of waveforms (B, N), in float32 under autocast too."""
        if waveform.ndim != 2:
            raise UserError(f"{type(self).__name__}: wants waveforms of shape (B, N), not {tuple(waveform.shape)}")
        margin = self.n_fft // 2
        if waveform.shape[1] <= margin:
            raise UserError(
                f"{type(self).__name__}: {waveform.shape[1]} samples are too few: n_fft {self.n_fft} wants {margin + 1}"
            )
        # The log of a bfloat16 product would be off by tenths.
        with torch.autocast(waveform.device.type, enabled=False):
            return in_blocks(self._features, waveform.float(), self.n_fft / self.hop_length)

    def _features(self, waveform: Tensor) -> Tensor:
        margin = self.n_fft // 2
        padded = pad(waveform, (margin, margin), mode=self.pad_mode)
        spectrum = torch.fft.rfft(padded.unfold(1, self.n_fft, self.hop_length) * self.window)
        return self.compress(power_of(spectrum) @ self.mel).unsqueeze(1)
