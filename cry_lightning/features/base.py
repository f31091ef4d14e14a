"""What every front end shares: its identity, by which caches are keyed."""

import inspect

from torch import Tensor, nn


class Feature(nn.Module):
    """A front end from waveform (B, N) at `sample_rate` to features (B, C, F, T) in float32.

    Each row of the output depends on the same row of the input alone. Every argument of `__init__` is kept as an
    attribute of the same name (scikit-learn's convention), so that the arguments are the front end's identity.
    """

    version: int = 1  # raise it when the same arguments begin to give other numbers: caches are then rebuilt
    sample_rate: int  # Hz
    hop_length: int  # samples between frames

    def identity(self) -> dict:
        """Class path, version and every init argument: equal identities give equal features."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        class_path = f"{type(self).__module__}.{type(self).__qualname__}"
        return {"class_path": class_path, "version": self.version} | {name: getattr(self, name) for name in names}

    def forward(self, waveform: Tensor) -> Tensor:
        """Features (B, C, F, T) of waveforms (B, N)."""
        raise NotImplementedError
