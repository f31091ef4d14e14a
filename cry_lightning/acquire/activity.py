"""Where a recording is active: levels above a floor that follows it, by hysteresis, in constant memory.

The floor is a low percentile of the levels some seconds before and after, in the spirit of minimum statistics (Martin
2001, IEEE Trans. Speech Audio Process. 9(5)); units are therefore known only half a window after their sound.
"""

import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, repeat

import numpy as np
from scipy import signal

from cry_lightning.acquire.settings import FRAME_S, SAMPLE_RATE, Settings

HOP = round(FRAME_S * SAMPLE_RATE)
BLOCK_S = 1.0  # the floor moves from block to block
SILENCE_DB = -120.0
LOUDEST_PERCENTILE = 99  # of the levels: a knock on the table is no cry

Span = tuple[int, int]  # first frame, and the one after the last


def frame_levels(samples: np.ndarray) -> np.ndarray:
    """Root-mean-square level (T,) of each whole frame of samples (N,), in dB re full scale."""
    n_frames = samples.size // HOP
    power = np.square(samples[: n_frames * HOP].reshape(n_frames, HOP)).mean(axis=1)
    return 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10)))


@cache
def highpass(settings: Settings) -> np.ndarray:
    """Second-order sections of the filter through which activity and pitch are heard."""
    return signal.butter(2, settings.highpass_hz, "highpass", fs=SAMPLE_RATE, output="sos")


def filtered_levels(blocks: Iterable[np.ndarray], settings: Settings) -> Iterator[np.ndarray]:
    """Levels (T,) of blocks (N,) that follow each other, above the high-pass frequency; less than a frame has none."""
    sos = highpass(settings)
    state = np.zeros((len(sos), 2))
    for block in blocks:
        filtered, state = signal.sosfilt(sos, block, zi=state)
        if block.size >= HOP:
            yield frame_levels(filtered)


def above_floor(levels: Iterable[np.ndarray], settings: Settings) -> Iterator[float]:
    """How far each frame is above its floor, in dB, of levels (T,) that come in blocks of `BLOCK_S`."""
    ahead = round(settings.floor_window_s / 2 / BLOCK_S)
    around: deque[np.ndarray] = deque(maxlen=2 * ahead + 1)
    for block in chain(levels, repeat(np.zeros(0), ahead)):
        around.append(block)
        if len(around) > ahead:
            low, loudest = np.percentile(np.concatenate(around), [settings.floor_percentile, LOUDEST_PERCENTILE])
            floor = max(low, loudest - settings.floor_range_db, settings.floor_min_db)
            yield from (around[-1 - ahead] - floor).tolist()


def spans(above_db: Iterable[float], settings: Settings) -> Iterator[Span]:
    """Active spans of frames that are so far above their floor, no sooner known than told.

    A stretch above the release threshold that is somewhere above the onset threshold is a span, or several where it is
    too long. Spans with a short gap between them are one, if it is not too long. Short ones are dropped.
    """
    shortest, longest, gap = _in_frames(settings.min_unit_s, settings.max_unit_s, settings.min_gap_s)
    held: Span | None = None
    for start, end in chain(stretches(above_db, settings), [(sys.maxsize, sys.maxsize)]):
        if held and (start - held[1] >= gap or end - held[0] > longest):
            if held[1] - held[0] >= shortest:
                yield held
            held = None
        if end > start:
            held = (held[0] if held else start, end)


def stretches(above_db: Iterable[float], settings: Settings) -> Iterator[Span]:
    """Spans of frames above the release threshold, cut where quietest if too long, those without an onset left out.

    Every frame below it is an empty span: time has passed.
    """
    shortest, longest = _in_frames(settings.min_unit_s, settings.max_unit_s)
    stretch: list[float] = []
    for index, level in enumerate(chain(above_db, [-math.inf])):
        active = level >= settings.release_db
        if active:
            stretch.append(level)
        while stretch and (not active or len(stretch) >= longest + shortest):
            start, length = index + active - len(stretch), _whole_or_cut(stretch, shortest, longest)
            if max(stretch[:length]) >= settings.onset_db:
                yield start, start + length
            stretch = stretch[length:]
        if not active:
            yield index, index


def _whole_or_cut(stretch: list[float], shortest: int, longest: int) -> int:
    """How many frames of a stretch are its first span: up to the quietest place that leaves no part too short."""
    if len(stretch) <= longest:
        return len(stretch)
    last = min(longest, len(stretch) - shortest)
    return shortest + int(np.argmin(stretch[shortest : last + 1]))


def _in_frames(*seconds: float) -> list[int]:
    return [round(length_s / FRAME_S) for length_s in seconds]
