"""Mel-frequency cepstral coefficients as the honk keyword spotter computes them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import threshold

from cry_lightning.audio.from_torchaudio import torchaudio
from cry_lightning.console import UserError
from cry_lightning.features.mel import MelFeature


class MFCC(MelFeature):
    """MFCCs (B, 1, n_mfcc, T), T = 1 + N // hop_length: mel energies, natural log, orthonormal DCT-II.

    The log is taken only where the mel energy is above zero, so digital silence gives exact zeros.

    Args:
        n_mfcc: coefficients kept, at most `n_mels`.
        **kwargs: see `MelFeature`.

    Raises:
        UserError: for arguments that contradict each other, or a waveform too short to be mirrored.

    Source: Tang & Lin 2018, "Deep residual learning for small-footprint keyword spotting"; padding and
    window are the defaults of librosa at that time.
    """

    dct: Tensor  # (n_mfcc, n_mels)

    def __init__(self, n_mfcc: int = 40, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 1 <= n_mfcc <= self.n_mels:
            raise UserError(f"MFCC: n_mfcc must lie between 1 and n_mels ({self.n_mels}), not {n_mfcc}")
        self.n_mfcc = n_mfcc
        with torch.device("cpu"):
            dct = torchaudio("functional").create_dct(n_mfcc, self.n_mels, norm="ortho").T.contiguous()
        self.register_buffer("dct", dct, persistent=False)

    def compress(self, energy: Tensor) -> Tensor:
        """MFCCs (B, n_mfcc, T) of mel energies (B, T, n_mels)."""
        log_energy = threshold(energy, 0.0, 1.0, inplace=True).log_()
        return self.dct @ log_energy.transpose(1, 2)
