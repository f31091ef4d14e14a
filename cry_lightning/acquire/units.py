"""Cry units of a recording: active, voiced, cut from a stream of blocks in constant memory."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, signal

from cry_lightning.acquire.activity import BLOCK_S, HOP, above_floor, filtered_levels, frame_levels, highpass, spans
from cry_lightning.acquire.settings import SAMPLE_RATE, Settings

ACTIVE_RANGE_DB = 20.0  # frames this far below the loudest one, or further, do not count as active
CLIPPED = 0.97  # of full scale: resampling makes the flat tops of clipped waves ripple
PITCH_FRAME_S = 0.032
RECURRING = 0.95  # a peak at a shorter lag that is as high as this times the highest tells the pitch


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
    heard_ahead_s = settings.floor_window_s + 3 * settings.max_unit_s + settings.min_gap_s  # ample
    recent = Recent(heard_ahead_s + 2 * BLOCK_S)
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
