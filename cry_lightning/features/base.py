"""What every front end shares: its identity, by which caches are keyed; and the waveform itself as features."""

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cry_lightning.console import UserError
from cry_lightning.files import Json
from cry_lightning.files.former_names import KNOWN_AS

HIGHEST_RATE_HZ = 768_000
BLOCK = 2**19  # samples of frames that are transformed at once: 2 MB, which a core keeps at hand
LARGEST = {"sample_rate": HIGHEST_RATE_HZ, "n_fft": 65_536, "n_mels": 2_048, "size": 4_096}


class Feature(nn.Module, ABC):
    """A front end from waveform (B, N) at `sample_rate` to features (B, C, F, T) in float32.

    Each row of the output depends on the same row of the input alone. Every argument of `__init__` is kept as an
    attribute of the same name (scikit-learn's convention), so that the arguments are the front end's identity.
    """

    version: int = 1  # raise it when the same arguments begin to give other numbers: caches are then rebuilt
    sample_rate: int  # Hz
    own_rate: bool = False  # a recording is taken at its own sample rate; `sample_rate` is that of bare waveforms
    hop_length: int  # samples between frames

    def identity(self) -> Json:
        """Class path, version and every init argument: equal identities give equal features.

        Raises:
            UserError: an argument is not kept, or is none that a cache can be keyed by.
        """
        class_path = f"{type(self).__module__}.{type(self).__qualname__}"
        try:
            arguments = {name: getattr(self, name) for name in _arguments(type(self))}
            json.dumps(arguments)
        except (AttributeError, TypeError) as error:
            raise UserError(
                f"{class_path}: caches are keyed by its arguments; keep each as an attribute of the same name, and take"
                f" numbers and texts alone ({error})"
            ) from error
        return {"class_path": KNOWN_AS.get(class_path, class_path), "version": self.version} | arguments

    def check_sizes(self, **sizes: int) -> None:
        """Refuse arguments below 1, or larger than any memory is for.

        Raises:
            UserError: naming the argument and the limit.
        """
        for name, value in sizes.items():
            if not 1 <= value <= LARGEST.get(name, 2**31):
                most = f" and at most {LARGEST[name]}" if name in LARGEST else ""
                raise UserError(f"{type(self).__name__}: {name} must be at least 1{most}, not {value}")

    def rate_of(self, recorded_hz: int) -> int:
        """The sample rate at which a recording of this one is taken, both in Hz."""
        return recorded_hz if self.own_rate else self.sample_rate

    def n_frames(self, seconds: float) -> int:
        """Frames T of this much sound."""
        return self(torch.zeros(1, round(seconds * self.sample_rate))).shape[-1]

    @abstractmethod
    def forward(self, waveform: Tensor) -> Tensor:
        """Features (B, C, F, T) of waveforms (B, N)."""


def in_blocks(front_end: Callable[[Tensor], Tensor], waveform: Tensor, overlap: float) -> Tensor:
    """Features of waveforms (B, N), a few rows at a time on a processor: three times as fast as all at once.

    Larger blocks leave the processor's cache, and the system hands out and clears their memory anew each time.

    Args:
        front_end: from waveforms (b, N) to features, each row by itself.
        waveform: (B, N).
        overlap: samples of frames to each sample of a waveform.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if waveform.device.type != "cpu" or traced:  # a graph is for any B
        return front_end(waveform)
    n_rows = max(1, int(BLOCK / (overlap * max(1, waveform.shape[1]))))
    blocks = [front_end(block) for block in waveform.split(n_rows)]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def power_of(spectrum: Tensor) -> Tensor:
    """|z|^2 of a complex spectrum of any shape, which is overwritten; without the square root of abs()."""
    squares = torch.view_as_real(spectrum).square_()
    return squares[..., 0] + squares[..., 1]


def _arguments(feature: type) -> list[str]:
    """Names of the arguments of `__init__`; where it hands `**kwargs` on, those of the next base follow."""
    names = []
    for init in (vars(base)["__init__"] for base in feature.__mro__ if "__init__" in vars(base)):
        arguments = list(inspect.signature(init).parameters.values())[1:]  # without self
        names += [argument.name for argument in arguments if argument.kind != argument.VAR_KEYWORD]
        if not any(argument.kind == argument.VAR_KEYWORD for argument in arguments):
            break
    return names


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
