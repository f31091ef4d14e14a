"""Recordings to mono float32 arrays: any container, any part of it, at any sample rate, fitted to a length."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import soxr

from cry_lightning.audio.decoding import AudioError, Reader, opened
from cry_lightning.errors import UserError

__all__ = [
    "EXTENSIONS",
    "FRONT_END_VERSION",
    "AudioError",
    "AudioInfo",
    "Fit",
    "blocks",
    "fit_to_length",
    "info",
    "load",
    "load_fitted",
]

Fit = Literal["pad", "repeat", "crop"]

FRONT_END_VERSION = 1  # raise it when the same file begins to give other samples: caches are then rebuilt
LOSSLESS = {".wav", ".flac", ".aif", ".aiff"}
LOSSY = {".ogg", ".opus", ".mp3", ".m4a", ".caf", ".aac", ".amr"}
VIDEO = {".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm"}
EXTENSIONS = frozenset(LOSSLESS | LOSSY | VIDEO)  # lower case

SHORTEST_S = 0.01  # a clip shorter than this holds no sound worth a row
SLACK_S = 0.1  # containers with lossy codecs declare their duration only roughly
MARGIN_S = 0.05  # read on both sides of a segment, so that resampling does not hear its edges


@dataclass(frozen=True)
class AudioInfo:
    """What a recording declares of itself."""

    sample_rate: int  # Hz
    n_channels: int
    duration_s: float


def info(path: str | Path) -> AudioInfo:
    """Sample rate, channels and duration from the header; decodes only where the container declares no duration."""
    with opened(path) as source:
        return AudioInfo(source.sample_rate, source.n_channels, _duration_s(path, source))


def load(path: str | Path, sample_rate: int, start_s: float = 0.0, duration_s: float | None = None) -> np.ndarray:
    """A recording, or a segment of it, as float32 (N,): mean of the channels, resampled to `sample_rate` in Hz.

    Only the segment is decoded; it equals the same slice of the whole recording loaded at that rate.

    Raises:
        AudioError: the file is no sound, is truncated, holds NaN or infinity, or ends before the segment does.
    """
    with opened(path) as source:
        return _segment(path, source, sample_rate, start_s, duration_s)


def fit_to_length(waveform: np.ndarray, n_samples: int, fit: Fit) -> np.ndarray:
    """A waveform (N,) made `n_samples` long: the centre of a longer one, a shorter one as `fit` says.

    "pad" puts zeros on both sides, "repeat" tiles from the beginning, "crop" refuses.

    Raises:
        UserError: the waveform is shorter and may only be cropped.
    """
    missing = n_samples - waveform.size
    if missing <= 0:
        return waveform[-missing // 2 :][:n_samples]
    if fit == "pad":
        padded = np.zeros(n_samples, waveform.dtype)
        padded[missing // 2 :][: waveform.size] = waveform
        return padded
    if fit == "repeat":
        return np.resize(waveform, n_samples)
    raise UserError(f"{waveform.size} samples where {n_samples} are needed; use the fit `pad` or `repeat`")


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
    with opened(path) as source:
        length_s = _duration_s(path, source) - start_s if clip_duration_s is None else clip_duration_s
        if length_s > duration_s:
            start_s, clip_duration_s = start_s + (length_s - duration_s) / 2, duration_s
        waveform = _segment(path, source, sample_rate, start_s, clip_duration_s)
    if waveform.size < SHORTEST_S * sample_rate:
        raise AudioError(f"{path}: {waveform.size} samples at {start_s:g} s are too short for a clip")
    if not waveform.any():
        raise AudioError(f"{path}: silent, every sample at {start_s:g} s is zero")
    try:
        return fit_to_length(waveform, round(duration_s * sample_rate), fit)
    except UserError as error:
        raise AudioError(f"{path}: {error}") from error


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
            (stream.resample_chunk(chunk) for chunk in _checked(path, source, begin, end)),
            (stream.resample_chunk(np.zeros(0, np.float32), last=True) for _ in range(1)),  # what it still holds
        )
        yield from _in_blocks(resampled, max(1, round(block_s * sample_rate)))


def _duration_s(path: str | Path, source: Reader) -> float:
    n_samples = source.n_samples
    if n_samples is None:
        with opened(path) as another:  # the source's own chunks can be had only once
            n_samples = sum(map(len, another.chunks(0, None)))
    return n_samples / source.sample_rate


def _segment(
    path: str | Path, source: Reader, sample_rate: int, start_s: float, duration_s: float | None
) -> np.ndarray:
    """What `load` returns, of a source that is open."""
    first = round(start_s * sample_rate)
    n_samples = None if duration_s is None else round(duration_s * sample_rate)
    # Begin on a sample that both rates share, so that the resampled grid is that of the whole recording.
    step = source.sample_rate // math.gcd(source.sample_rate, sample_rate)
    margin = 0 if source.sample_rate == sample_rate else math.ceil(MARGIN_S * source.sample_rate)
    begin = max(0, first * source.sample_rate // sample_rate - margin) // step * step
    end = None
    if n_samples is not None:
        end = math.ceil((first + n_samples) * source.sample_rate / sample_rate) + margin
    waveform = np.concatenate([np.zeros(0, np.float32), *_checked(path, source, begin, end)])
    if source.sample_rate != sample_rate:
        waveform = soxr.resample(waveform, source.sample_rate, sample_rate, quality="HQ")
    waveform = waveform[first - begin * sample_rate // source.sample_rate :]
    if not waveform.size:
        raise AudioError(f"{path}: holds no samples at {start_s:g} s")
    if n_samples is not None and waveform.size < n_samples - SLACK_S * sample_rate:
        wanted_s, ends_s = start_s + n_samples / sample_rate, start_s + waveform.size / sample_rate
        raise AudioError(f"{path}: ends at {ends_s:.2f} s, before the segment that should end at {wanted_s:.2f} s")
    return waveform[:n_samples]


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


def _checked(path: str | Path, source: Reader, begin: int, end: int | None) -> Iterator[np.ndarray]:
    """The mono chunks of a source between two of its samples, refused where they cannot be trusted."""
    n_read = 0
    for chunk in source.chunks(begin, end):
        if not np.isfinite(chunk).all():
            raise AudioError(f"{path}: holds NaN or infinite samples")
        n_read += chunk.size
        yield chunk
    declared = source.n_samples if source.n_samples is not None else 0
    if begin + n_read < min(declared, end or declared) - SLACK_S * source.sample_rate:
        at_s, of_s = (begin + n_read) / source.sample_rate, declared / source.sample_rate
        raise AudioError(f"{path}: truncated or damaged, breaks off at {at_s:.2f} s of {of_s:.2f} s")
