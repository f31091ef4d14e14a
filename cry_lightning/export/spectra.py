"""Fourier transforms as products with cosines and sines: all that front ends do differently when they are exported.

ONNX has operators for them, but onnxruntime's take twenty times as long for frames of 240 samples, and are off by 0.5
in the MFCCs of a pure tone.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.overrides import TorchFunctionMode

from cry_lightning.files import Json

Usual = dict[str, tuple[object, ...] | None]
# What is replaced, by its arguments: others than these values are left to torch, None where any will do.
RFFT: Usual = {"input": None, "n": None, "dim": (-1,), "norm": (None, "backward")}
STFT: Usual = {
    **dict.fromkeys(("input", "n_fft", "hop_length", "win_length", "window", "center", "pad_mode")),
    "normalized": (False,),
    "onesided": (None, True),
    "return_complex": (True,),
    "align_to_window": (None,),
}


class Products(TorchFunctionMode):
    """While it is active, `torch.fft.rfft` and `torch.stft` of real numbers are products with matrices.

    The matrices are kept, so that tracing finds them as constants after a first run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bases: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., object], types: object, args: Sequence[object] = (), kwargs: Json | None = None
    ) -> object:
        replaced: list[tuple[object, Usual, Callable[..., Tensor]]] = [
            (torch.fft.rfft, RFFT, self.rfft),
            (torch.stft, STFT, self.stft),
        ]
        for transform, usual, ours in replaced:
            if func is transform and (given := _usual(usual, args, kwargs or {})):
                return ours(**given)
        return func(*args, **kwargs or {})

    def rfft(self, input: Tensor, n: int | None = None) -> Tensor:
        """Spectra (..., n // 2 + 1) of frames (..., N), which are cut or filled up with zeros to n samples.

        A cosine is the same from both ends of the frame, a sine is its negative: so half of each matrix will do.
        """
        n_fft = n or input.shape[-1]
        frames = pad(input[..., :n_fft], (0, max(0, n_fft - input.shape[-1])))
        n_pairs = (n_fft - 1) // 2
        ahead, behind = frames[..., 1 : 1 + n_pairs], frames[..., n_fft - n_pairs :].flip(-1)
        alone = frames[..., :1], frames[..., 1 + n_pairs : n_fft - n_pairs]  # the first sample, and one in the middle
        cosine, sine = self.bases_of(n_fft, input.dtype)
        return torch.complex(torch.cat([alone[0], ahead + behind, alone[1]], -1) @ cosine, (behind - ahead) @ sine)

    def stft(
        self,
        input: Tensor,
        n_fft: int,
        hop_length: int | None = None,
        win_length: int | None = None,
        window: Tensor | None = None,
        center: bool = True,
        pad_mode: str = "reflect",
    ) -> Tensor:
        """Spectra (B, n_fft // 2 + 1, T) of waveforms (B, N)."""
        win_length = win_length or n_fft
        if window is None:
            window = torch.ones(win_length, dtype=input.dtype)
        before = (n_fft - win_length) // 2
        window = pad(window, (before, n_fft - win_length - before))
        if center:
            input = pad(input, (n_fft // 2, n_fft // 2), mode=pad_mode)
        return self.rfft(input.unfold(-1, n_fft, hop_length or win_length // 4) * window).transpose(-1, -2)

    def bases_of(self, n_fft: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines (n_fft // 2 + 1, F) and sines ((n_fft - 1) // 2, F) of the F = n_fft // 2 + 1 frequencies."""
        key = n_fft, dtype
        if key not in self.bases:
            frequencies = torch.arange(n_fft // 2 + 1)
            turns = frequencies[:, None] * frequencies % n_fft  # in whole numbers, which are not rounded
            angles = turns.double() * (2 * torch.pi / n_fft)
            self.bases[key] = angles.cos().to(dtype), angles[1 : 1 + (n_fft - 1) // 2].sin().to(dtype)
        return self.bases[key]


def _usual(usual: Usual, args: Sequence[object], kwargs: Json) -> Json:
    """The arguments by name, without those that are the default; none where one has another value than usual."""
    given = dict(zip(usual, args, strict=False)) | kwargs
    if len(args) > len(usual) or not given.keys() <= usual.keys():
        return {}
    if any((values := usual[name]) is not None and value not in values for name, value in given.items()):
        return {}
    return {name: value for name, value in given.items() if usual[name] is None}
