"""Mel-frequency cepstral coefficients as the honk keyword spotter computes them."""

from torch import Tensor
from torchaudio.functional import create_dct

from cry_lightning.errors import UserError
from cry_lightning.features.mel import MelFeature


class MFCC(MelFeature):
    """MFCCs (B, 1, n_mfcc, T), T = 1 + N // hop_length: mel energies, natural log, orthonormal DCT-II.

    The log is taken only where the mel energy is above zero, so digital silence gives exact zeros.

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
        super().__init__(sample_rate, n_fft, hop_length, n_mels, f_min, f_max)
        if not 1 <= n_mfcc <= n_mels:
            raise UserError(f"MFCC: n_mfcc must lie between 1 and n_mels ({n_mels}), not {n_mfcc}")
        self.n_mfcc = n_mfcc
        self.register_buffer("dct", create_dct(n_mfcc, n_mels, norm="ortho").T.contiguous(), persistent=False)

    def compress(self, energy: Tensor) -> Tensor:
        """MFCCs (B, n_mfcc, T) of mel energies (B, T, n_mels)."""
        log_energy = energy.masked_fill_(energy <= 0, 1.0).log_()
        return self.dct @ log_energy.transpose(1, 2)
