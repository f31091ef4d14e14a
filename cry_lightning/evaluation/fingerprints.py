"""Hashes by which subjects and sounds are compared without being told."""

import hashlib
import math
from collections.abc import Iterable

MIN_OVERLAP_S = 0.002  # names give times to the millisecond, so that neighbours may seem to share as much


def fingerprint(text: str) -> str:
    """First 16 hex digits of SHA-256: lets subjects be compared without being told."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sound_fingerprint(content: str) -> str:
    """Of "file#start-duration", as a cache tells what a row holds: the stretch stays in clear, to find overlaps by."""
    file, hash_sign, stretch = content.partition("#")
    return fingerprint(file) + hash_sign + stretch


def count_heard(tested: Iterable[str], trained: Iterable[str]) -> int:
    """How many of some sounds share a stretch of a file with any of others, both as from `sound_fingerprint`."""
    wanted = [_located(sound) for sound in tested]
    heard: dict[str, list[tuple[float, float]]] = {file: [] for file, _, _ in wanted}
    for file, start, end in map(_located, trained):
        if file in heard:
            heard[file].append((start, end))
    return sum(any(min(end, e) - max(start, s) > MIN_OVERLAP_S for s, e in heard[file]) for file, start, end in wanted)


def _located(sound: str) -> tuple[str, float, float]:
    """File, start and end in seconds; one that is told without its stretch is a whole file of its own."""
    file, _, stretch = sound.partition("#")
    start, _, duration = (stretch or "0-end").partition("-")
    return file, float(start), math.inf if duration == "end" else float(start) + float(duration)
