"""Spans of frames: found in the probabilities of frames, and compared with those that are true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from cry_lightning.console import UserError

FRAME_S = 0.01
Span = tuple[float, float]  # begin and end, in any unit
LEAST_IOU = 0.5  # of spans that are one event
ONSET_S = 0.2  # that the beginnings of one event may differ by
COLUMN = "intervals"  # of a clip: what is marked in its recording, in seconds, e.g. "0.5-1.25 2.0-3.1"
ONSETS, RELEASES = (0.5, 0.6, 0.7, 0.8), (0.3, 0.4, 0.5, 0.6)  # that `choose` tries
GAPS, LENGTHS = (5, 10, 15), (5, 10, 15)


@dataclass(frozen=True)
class Hysteresis:
    """How probabilities of frames become events.

    Args:
        onset: an event has a frame of at least this probability,
        release: and reaches as far as the probability stays at this.
        min_gap: shorter gaps, in frames, are bridged.
        min_length: shorter events, in frames, are dropped; after gaps were bridged.
    """

    onset: float = 0.5
    release: float = 0.4
    min_gap: int = 10
    min_length: int = 10

    def spans(self, probabilities: np.ndarray) -> list[tuple[int, int]]:
        """First frame, and the one after the last, of each event in probabilities (T,)."""
        found: list[tuple[int, int]] = []
        for begin, end in runs(probabilities >= self.release):
            if probabilities[begin:end].max() < self.onset:
                continue
            if found and begin - found[-1][1] < self.min_gap:
                begin = found.pop()[0]
            found.append((begin, end))
        return [(begin, end) for begin, end in found if end - begin >= self.min_length]


def as_column(spans: Sequence[Span]) -> str:
    """Spans as the text of a clip's column."""
    return " ".join(f"{round(begin, 6)}-{round(end, 6)}" for begin, end in spans)


def marked_in(name: str, columns: Mapping[str, str]) -> list[Span]:
    """The spans in the columns of the clip `name`.

    Raises:
        UserError: they have no such column.
    """
    if COLUMN not in columns:
        raise UserError(f"{name}: has no column `intervals` of marks; take the corpus cry_lightning.corpora.Intervals")
    pairs = (text.split("-") for text in columns[COLUMN].split())
    return [(float(begin), float(end)) for begin, end in pairs]


def score(hysteresis: Hysteresis, probabilities: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """F1 of the frames and of the events in clips, of probabilities and targets (n, T); 0 where there are none."""
    frames_in_common = events_in_common = n_frames = n_events = 0
    for probability, target in zip(probabilities, targets, strict=True):
        there, found = runs(target), hysteresis.spans(probability)
        detected = np.zeros(len(target), bool)
        for begin, end in found:
            detected[begin:end] = True
        frames_in_common += int((detected & target).sum())
        n_frames += int(detected.sum() + target.sum())
        events_in_common += matches(there, found)
        n_events += len(there) + len(found)
    return 2 * frames_in_common / max(n_frames, 1), 2 * events_in_common / max(n_events, 1)


def choose(probabilities: np.ndarray, targets: np.ndarray) -> tuple[Hysteresis, tuple[float, float]]:
    """How probabilities (n, T) become events so that the sum of both F1 is highest, the first of equals; and these."""
    tried = [Hysteresis(*one) for one in product(ONSETS, RELEASES, GAPS, LENGTHS) if one[0] >= one[1]]
    scores = [score(one, probabilities, targets) for one in tried]
    best = max(range(len(tried)), key=lambda place: sum(scores[place]))
    return tried[best], scores[best]


def runs(active: np.ndarray) -> list[tuple[int, int]]:
    """First index, and the one after the last, of each run of True in a mask (T,)."""
    edges = np.flatnonzero(np.diff(active, prepend=False, append=False))
    return [(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


def frames(spans: Sequence[Span], n_frames: int, frame_s: float = FRAME_S) -> np.ndarray:
    """Which of T frames have their centre within a span, given in seconds (T,)."""
    centres = (np.arange(n_frames) + 0.5) * frame_s
    active = np.zeros(n_frames, bool)
    for begin, end in spans:
        active |= (begin <= centres) & (centres < end)
    return active


def matches(reference: Sequence[Span], predicted: Sequence[Span]) -> int:
    """How many events of each were found: pairs with an intersection of at least half of their union.

    Among spans that do not overlap each other, one can have no more than one such partner, but at exactly half.
    """
    return _paired([[iou(one, other) >= LEAST_IOU for other in predicted] for one in reference])


def onset_matches(reference: Sequence[Span], predicted: Sequence[Span]) -> int:
    """How many events of each were found by their beginnings alone: most pairs that are possible, each used once."""
    return _paired([[abs(one[0] - other[0]) <= ONSET_S + 1e-9 for other in predicted] for one in reference])


def iou(one: Span, other: Span) -> float:
    """Intersection of two spans over their union."""
    common = min(one[1], other[1]) - max(one[0], other[0])
    return max(common, 0) / (one[1] - one[0] + other[1] - other[0] - max(common, 0))


def _paired(fits: list[list[bool]]) -> int:
    """Size of the largest one-to-one matching of rows and columns, both in the order of time.

    With spans in order, the first free partner for each gives the largest: it fits no later one better.
    """
    found, free = 0, 0
    for row in fits:
        place = next((column for column in range(free, len(row)) if row[column]), None)
        if place is not None:
            found, free = found + 1, place + 1
    return found
