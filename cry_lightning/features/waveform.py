"""The waveform itself, for front ends that run on the device behind augmentations of the sound."""

from torch import Tensor

from cry_lightning.features.base import Feature


class Waveform(Feature):
    """Waveforms (B, N) as features (B, 1, 1, N).

    Args:
        sample_rate: Hz.
    """

    hop_length = 1

    def __init__(self, sample_rate: int = 8000) -> None:
        super().__init__()
        self.check_sizes(sample_rate=sample_rate)
        self.sample_rate = sample_rate

    def forward(self, waveform: Tensor) -> Tensor:
        """Features (B, 1, 1, N) of waveforms (B, N)."""
        return waveform[:, None, None].float()
