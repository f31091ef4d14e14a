"""Recordings as mono float32 arrays: whole, in part, fitted to a length, or block after block."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import soxr

from cry_lightning.audio.recording import Fit, Recording, mono, opened
from cry_lightning.console import UserError

FRONT_END_VERSION = 1  # raise it when healthy files begin to give other samples: checkpoints are then refused
DECODING_VERSION = 2  # raise it when any file begins to give other samples, or a length: caches are then rebuilt


@dataclass(frozen=True)
class AudioInfo:
    """What a recording declares of itself."""

    sample_rate: int  # Hz
    n_channels: int
    duration_s: float


def info(path: str | Path) -> AudioInfo:
    """Sample rate, channels and duration, from the header where it can be trusted, else by decoding the file once."""
    with opened(path) as source:
        return AudioInfo(source.sample_rate, source.n_channels, source.n_samples / source.sample_rate)


def load(path: str | Path, sample_rate: int, start_s: float = 0.0, duration_s: float | None = None) -> np.ndarray:
    """A recording, or a segment of it, as float32 (N,): mean of the channels, resampled to `sample_rate` in Hz.

    A segment equals the same slice of the whole recording loaded at that rate. Of several in one file, a `Recording`
    gives the same samples at less cost.

    Raises:
        AudioError: the file is no sound, is truncated, holds NaN or infinity, or ends before the segment does; or its
            channels cancel each other.
    """
    with Recording(path) as recording:
        return recording.segment(sample_rate, start_s, duration_s)


def load_fitted(
    path: str | Path,
    sample_rate: int,
    duration_s: float,
    fit: Fit,
    start_s: float = 0.0,
    clip_duration_s: float | None = None,
) -> np.ndarray:
    """A clip, or the centre of one that is longer, as exactly `round(duration_s * sample_rate)` samples, float32 (N,).

    Raises:
        AudioError: as `load`, or the clip is silent (all zero), shorter than 10 ms, or too short for the fit "crop".
    """
    with Recording(path) as recording:
        return recording.fitted(sample_rate, duration_s, fit, start_s, clip_duration_s)


def blocks(
    path: str | Path, sample_rate: int, block_s: float, start_s: float = 0.0, duration_s: float | None = None
) -> Iterator[np.ndarray]:
    """A recording, or a segment of it, in blocks (N,) of `block_s` seconds, the last one shorter, in constant memory.

    Raises:
        AudioError: as `load`.
    """
    with opened(path) as source:
        begin = round(start_s * source.sample_rate)
        end = None if duration_s is None else begin + round(duration_s * source.sample_rate)
        stream = soxr.ResampleStream(source.sample_rate, sample_rate, num_channels=1, quality="HQ")
        resampled = chain(
            (stream.resample_chunk(chunk) for chunk in mono(Path(path), source, source.chunks(begin, end), begin, end)),
            (stream.resample_chunk(np.zeros(0, np.float32), last=True) for _ in range(1)),  # what it still holds
        )
        yield from _in_blocks(resampled, max(1, round(block_s * sample_rate)))


def _in_blocks(pieces: Iterable[np.ndarray], n_samples: int) -> Iterator[np.ndarray]:
    """Pieces of any lengths as blocks (N,) of one length, the last one shorter."""
    waiting: list[np.ndarray] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= n_samples:
            joined = np.concatenate(waiting)
            whole = joined.size // n_samples * n_samples
            yield from joined[:whole].reshape(-1, n_samples)
            waiting = [joined[whole:]]
    if rest := sum(map(len, waiting)):
        yield np.concatenate(waiting)[:rest]


def torchaudio(module: str) -> ModuleType:
    """A module of torchaudio, such as "functional".

    Raises:
        UserError: it is not installed, or was built for another release of torch.
    """
    try:
        return import_module(f"torchaudio.{module}")
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"torchaudio does not load with the torch that is installed ({reason}); install the releases that go"
            " together: pip install --constraint constraints.txt torch torchvision torchaudio"
        ) from error
