"""Where in a recording cries are: activity above the noise floor, voiced at the pitch of cries, cut into units."""

import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, repeat

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, signal

from cry_lightning.acquire.settings import FRAME_S, SAMPLE_RATE, Settings

HOP = round(FRAME_S * SAMPLE_RATE)
BLOCK_S = 1.0  # the floor moves from block to block
SILENCE_DB = -120.0
LOUDEST_PERCENTILE = 99  # of the levels: a knock on the table is no cry

Span = tuple[int, int]  # first frame, and the one after the last
ACTIVE_RANGE_DB = 20.0  # frames this far below the loudest one, or further, do not count as active
CLIPPED = 0.97  # of full scale: resampling makes the flat tops of clipped waves ripple
PITCH_FRAME_S = 0.032
RECURRING = 0.95  # a peak at a shorter lag that is as high as this times the highest tells the pitch


def frame_levels(samples: np.ndarray) -> np.ndarray:
    """Root-mean-square level (T,) of each whole frame of samples (N,), in dB re full scale."""
    n_frames = samples.size // HOP
    power = np.square(samples[: n_frames * HOP].reshape(n_frames, HOP)).mean(axis=1)
    return 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10)))


@cache
def highpass(settings: Settings) -> np.ndarray:
    """Second-order sections of the filter through which activity and pitch are measured."""
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
    """Active spans of frames that are so far above their floor, as soon as they are known.

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


@dataclass(frozen=True)
class Unit:
    """A stretch of a recording at 16 kHz, and how periodic it is."""

    start_s: float
    samples: np.ndarray  # float32 (N,)
    harmonicity: float  # 0 to 1

    @property
    def duration_s(self) -> float:
        """Its length."""
        return self.samples.size / SAMPLE_RATE

    @property
    def peak_db(self) -> float:
        """The highest sample, in dB re full scale."""
        return float(20 * np.log10(np.abs(self.samples).max()))

    @property
    def active_level_db(self) -> float:
        """Root-mean-square level of the frames less than 20 dB below the loudest, in dB re full scale."""
        levels = frame_levels(self.samples)
        active = levels[levels > levels.max() - ACTIVE_RANGE_DB]
        return float(10 * np.log10((10 ** (active / 10)).mean()))

    @property
    def clipped_fraction(self) -> float:
        """Share of the samples that are within 0.3 dB of full scale, or above it."""
        return float((np.abs(self.samples) >= CLIPPED).mean())


class Recent:
    """The last seconds of a stream of blocks (N,) of `BLOCK_S`."""

    def __init__(self, seconds: float) -> None:
        self.blocks: deque[np.ndarray] = deque(maxlen=math.ceil(seconds / BLOCK_S))
        self.n_passed = 0

    def passing(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks as they come, each kept for a while."""
        for block in blocks:
            self.blocks.append(block)
            self.n_passed += block.size
            yield block

    def between(self, begin: int, end: int) -> np.ndarray:
        """The samples from `begin` to `end`, counted from the beginning of the stream."""
        kept = np.concatenate(self.blocks)
        first = self.n_passed - kept.size
        return kept[begin - first : end - first]


def units(blocks: Iterable[np.ndarray], settings: Settings) -> Iterator[Unit]:
    """The units of a recording at 16 kHz that comes in blocks of `BLOCK_S`."""
    longest_context_s = settings.floor_window_s + 3 * settings.max_unit_s + settings.min_gap_s  # ample
    recent = Recent(longest_context_s + 2 * BLOCK_S)
    for first, last in spans(above_floor(filtered_levels(recent.passing(blocks), settings), settings), settings):
        samples = np.clip(recent.between(first * HOP, last * HOP), -1, 1)  # AMR decodes to more than 16 bits hold
        periodic = harmonicity(samples, settings)
        if periodic >= settings.min_harmonicity:
            yield Unit(first * HOP / SAMPLE_RATE, samples, periodic)


def harmonicity(samples: np.ndarray, settings: Settings) -> float:
    """How periodic a unit (N,) is at the pitch of a cry, 0 to 1: the median over its active frames.

    A frame's is the highest peak of its normalised autocorrelation within the pitch range; 0 where the pitch is higher,
    so that the period only recurs within the range.

    Source: Boersma 1993, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of
    a sampled sound": the window's own autocorrelation is divided out; peaks between lags are found by a parabola.
    """
    shortest, longest = math.floor(SAMPLE_RATE / settings.f0_max_hz), math.ceil(SAMPLE_RATE / settings.f0_min_hz)
    window = signal.windows.hann(round(PITCH_FRAME_S * SAMPLE_RATE), sym=False)
    filtered = signal.sosfilt(highpass(settings), samples)
    correlation = autocorrelation(sliding_window_view(filtered, window.size)[::HOP] * window, longest + 1)
    energy = correlation[:, :1]
    active = energy[:, 0] > energy.max() * 10 ** (-ACTIVE_RANGE_DB / 10)
    normalised = correlation[active] / energy[active] / (autocorrelation(window, longest + 1) / np.square(window).sum())
    before, here, after = (normalised[:, first : first + longest] for first in range(3))  # lags from 1 on
    bend = np.maximum(2 * here - before - after, np.finfo(float).eps)
    peaks = np.where((here >= before) & (here >= after), here + (after - before) ** 2 / (8 * bend), 0.0)
    within, above = peaks[:, shortest - 1 :].max(axis=1), peaks[:, : shortest - 1].max(axis=1)
    return float(np.clip(np.median(np.where(above < RECURRING * within, within, 0.0)), 0, 1))


def autocorrelation(frames: np.ndarray, longest: int) -> np.ndarray:
    """Autocorrelation (..., longest + 1) of frames (..., N) at lags from 0 on."""
    n = fft.next_fast_len(frames.shape[-1] + longest, real=True)
    return fft.irfft(np.abs(fft.rfft(frames, n)) ** 2, n)[..., : longest + 1]
