"""Mel-frequency cepstral coefficients as the honk keyword spotter computes them."""

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.functional import create_dct, melscale_fbanks

from cry_lightning.errors import UserError
from cry_lightning.features.base import Feature


class MFCC(Feature):
    """MFCCs (B, 1, n_mfcc, T), T = 1 + N // hop_length: power spectra, Slaney mels, natural log, orthonormal DCT-II.

    The log is taken only where the mel energy is above zero, so digital silence gives exact zeros. Frames are centred,
    the waveform being mirrored at its ends.

    Args:
        sample_rate: Hz.
        n_fft: frame and Fourier transform length, in samples.
        hop_length: samples between frames.
        n_mels: mel bands between `f_min` and `f_max` (Hz).
        n_mfcc: coefficients kept, at most `n_mels`.

    Raises:
        UserError: for arguments that contradict each other, or a waveform too short to be mirrored.

    Source: Tang & Lin 2018, "Deep residual learning for small-footprint keyword spotting"; padding and
    window are the defaults of librosa at that time.
    """

    window: Tensor  # (n_fft,)
    mel: Tensor  # (n_fft // 2 + 1, n_mels)
    dct: Tensor  # (n_mfcc, n_mels)

    def __init__(
        self,
        sample_rate: int = 8000,
        n_fft: int = 240,
        hop_length: int = 80,
        n_mels: int = 40,
        n_mfcc: int = 40,
        f_min: float = 20.0,
        f_max: float = 4000.0,
    ) -> None:
        super().__init__()
        for name, value in {"sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length}.items():
            if value < 1:
                raise UserError(f"MFCC: {name} must be at least 1, not {value}")
        if not 0 <= f_min < f_max <= sample_rate / 2:
            raise UserError(
                f"MFCC: f_min {f_min} and f_max {f_max} Hz must lie in order between 0 and half the sample_rate, "
                f"{sample_rate / 2} Hz"
            )
        if not 1 <= n_mfcc <= n_mels:
            raise UserError(f"MFCC: n_mfcc must lie between 1 and n_mels ({n_mels}), not {n_mfcc}")
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.n_mfcc = n_mfcc
        self.f_min = f_min
        self.f_max = f_max
        mel = melscale_fbanks(n_fft // 2 + 1, f_min, f_max, n_mels, sample_rate, norm="slaney", mel_scale="slaney")
        dct = create_dct(n_mfcc, n_mels, norm="ortho").T.contiguous()
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("mel", mel, persistent=False)
        self.register_buffer("dct", dct, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """MFCCs (B, 1, n_mfcc, T) of waveforms (B, N), in float32 under autocast too."""
        if waveform.ndim != 2:
            raise UserError(f"MFCC: wants waveforms of shape (B, N), not {tuple(waveform.shape)}")
        margin = self.n_fft // 2
        if waveform.shape[1] <= margin:
            raise UserError(f"MFCC: {waveform.shape[1]} samples are too few; n_fft {self.n_fft} wants over {margin}")
        # The log of a bfloat16 product would be off by tenths.
        with torch.autocast(waveform.device.type, enabled=False):
            padded = pad(waveform.float(), (margin, margin), mode="reflect")
            spectrum = torch.fft.rfft(padded.unfold(1, self.n_fft, self.hop_length) * self.window)
            # |z|^2 without the square root that abs() takes, and two times faster.
            energy = (spectrum.real.square() + spectrum.imag.square()) @ self.mel
            log_energy = energy.masked_fill_(energy <= 0, 1.0).log_()
            return (self.dct @ log_energy.transpose(1, 2)).unsqueeze(1)
