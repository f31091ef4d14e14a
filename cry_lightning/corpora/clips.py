"""A clip of a recording; and many of them in columns, since there may be millions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Literal, Self, overload

import numpy as np
import pandas as pd

from cry_lightning.files import nfc

# How it is known who made a clip: the user wrote it down, a rule found it in the path, the id is that of an app install
# or a video, where several infants or one infant in several may be, or it is not known and the recording stands for it.
SubjectSource = Literal["given", "rule", "stand-in", "unknown"]
Names = Sequence[str] | np.ndarray | pd.Categorical
MOST_IN_A_RUN = 1000  # clips


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of one recording: where it lies, what it is, and who made it."""

    path: str  # POSIX, relative to the corpus's root
    subject: str  # "collection:id", one id space for every form of a collection
    label: str | None = None  # None: unlabelled
    start_s: float = 0.0
    duration_s: float | None = None  # None: to the end of the file
    columns: Mapping[str, str] = field(default_factory=dict)  # whatever else is known (sex, age, site, split ...)
    subject_source: SubjectSource = "rule"

    def __post_init__(self) -> None:
        if not self.subject.isascii():
            object.__setattr__(self, "subject", nfc(self.subject))  # folders on macOS are spelled otherwise than tables
        if self.label is not None and not self.label.isascii():
            object.__setattr__(self, "label", nfc(self.label))

    def cut(self, start_s: float, duration_s: float | None) -> "Clip":
        """Another stretch of the same recording; as `replace`, which takes three times as long."""
        return Clip(self.path, self.subject, self.label, start_s, duration_s, self.columns, self.subject_source)

    @property
    def name(self) -> str:
        """Collection-relative `path#start-duration`, in seconds; the clip's name in every table."""
        return name_of(self.path, self.start_s, self.duration_s)


def further_columns(clips: Sequence[Clip]) -> pd.DataFrame:
    """The corpus's further columns, one row per clip, blank where a clip has no such column."""
    return pd.DataFrame([dict(clip.columns) for clip in clips], dtype=object).fillna("").astype(str)


def name_of(path: str, start_s: float, duration_s: float | None) -> str:
    """The name of a stretch of a file, in the composed form of Unicode whatever that of the path."""
    return f"{nfc(path)}#{stretch_of(start_s, duration_s)}"


@lru_cache(maxsize=2**16)  # the windows of one recording begin where those of the next do
def stretch_of(start_s: float, duration_s: float | None) -> str:
    """`start-duration` in seconds, as it ends a clip's name."""
    return f"{start_s:.3f}-end" if duration_s is None else f"{start_s:.3f}-{duration_s:.3f}"


def as_names(values: Names) -> pd.Categorical:
    """Names (n,), sorted and each kept once, and its number where it stands: a few bytes each."""
    if isinstance(values, pd.Categorical):
        return values
    names, numbers = np.unique(np.asarray(values, dtype=str), return_inverse=True)
    return pd.Categorical.from_codes(numbers, pd.Index(names.tolist(), dtype=object))  # of whatever letters


def lost(recording: np.ndarray, bad: Sequence[int]) -> np.ndarray:
    """Which recordings, by the number of that of each clip (n,), have nothing but bad clips, of these rows."""
    n_clips, n_bad = (np.bincount(numbers, minlength=recording.max() + 1) for numbers in (recording, recording[bad]))
    return np.flatnonzero((n_bad > 0) & (n_bad == n_clips))


class Clips(Sequence[Clip]):
    """Clips as stretches of their sources, in 20 bytes each: a clip of which there are many stretches is kept once.

    Args:
        sources: clips that have all but the time of their stretches.
        source_of: index of each clip's source (n,).
        start_s: where each begins in its file (n,).
        duration_s: of each (n,); NaN: to the end of the file.
    """

    def __init__(
        self, sources: Sequence[Clip], source_of: np.ndarray, start_s: np.ndarray, duration_s: np.ndarray
    ) -> None:
        self.sources = sources
        self.source_of = source_of.astype(np.int32, copy=False)
        self.start_s = start_s.astype(float, copy=False)  # 1 s and 1.0 s are one
        self.duration_s = duration_s.astype(float, copy=False)

    @classmethod
    def of(cls, clips: Iterable[Clip]) -> "Clips":
        """Some clips in columns, each its own source; or themselves, if they are in columns already."""
        if isinstance(clips, Clips):
            return clips
        sources = list(clips)
        start_s = np.array([clip.start_s for clip in sources], float)
        return cls(sources, np.arange(len(sources)), start_s, np.array([clip.duration_s for clip in sources], float))

    @classmethod
    def windows(cls, clip: Clip, start_s: np.ndarray, window_s: float) -> Self:
        """Windows of one clip, which begin at these seconds (n,) of its file."""
        n = len(start_s)
        return cls([clip], np.zeros(n, np.int32), start_s, np.full(n, window_s))

    @classmethod
    def joined(cls, parts: Iterable["Clips"]) -> "Clips":
        """Those of several, one after the other."""
        parts = list(parts)
        if not parts:
            return cls.of([])
        first = np.cumsum([0, *(len(part.sources) for part in parts)])
        return cls(
            [source for part in parts for source in part.sources],
            np.concatenate([part.source_of + place for part, place in zip(parts, first, strict=False)]),
            np.concatenate([part.start_s for part in parts]),
            np.concatenate([part.duration_s for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.source_of)

    @overload
    def __getitem__(self, row: int) -> Clip: ...

    @overload
    def __getitem__(self, row: slice | np.ndarray) -> "Clips": ...

    def __getitem__(self, row: int | slice | np.ndarray) -> "Clip | Clips":
        if isinstance(row, slice | np.ndarray):
            return Clips(self.sources, self.source_of[row], self.start_s[row], self.duration_s[row])
        return self._cut(self.source_of[row], float(self.start_s[row]), float(self.duration_s[row]))

    def __iter__(self) -> Iterator[Clip]:
        columns = (column.tolist() for column in (self.source_of, self.start_s, self.duration_s))
        return map(self._cut, *columns)

    def _cut(self, source: int, start_s: float, duration_s: float) -> Clip:
        clip, length_s = self.sources[source], None if duration_s != duration_s else duration_s
        return clip if (clip.start_s, clip.duration_s) == (start_s, length_s) else clip.cut(start_s, length_s)

    @cached_property
    def used(self) -> list[Clip]:
        """The sources of which there is a stretch: they tell all that does not depend on time."""
        return [self.sources[source] for source in np.flatnonzero(np.bincount(self.source_of)).tolist()]

    def runs(self) -> Iterator[tuple[Clip, slice]]:
        """A source and the rows of neighbours that are its stretches, at most 1000 at once; all rows, in their order.

        Each thousand begins at its own place of a run, so that windows of several recordings may be the same stretches.
        """
        begins = np.flatnonzero(np.diff(self.source_of, prepend=-1)).tolist()
        for begin, end in pairwise([*begins, len(self)]):
            source = self.sources[self.source_of[begin]]
            for first in range(begin, end, MOST_IN_A_RUN):
                yield source, slice(first, min(first + MOST_IN_A_RUN, end))

    def replaced(self, change: Callable[[Clip], Clip]) -> "Clips":
        """The same stretches of changed sources."""
        return Clips([*map(change, self.sources)], self.source_of, self.start_s, self.duration_s)

    def each(self, value: Callable[[Clip], str]) -> pd.Categorical:
        """What each clip has of its source (n,), as few names and their numbers."""
        return as_names([value(source) for source in self.sources]).take(self.source_of)

    @property
    def durations(self) -> list[float | None]:
        """Of each clip; None: to the end of the file."""
        return [None if duration != duration else duration for duration in self.duration_s.tolist()]

    @property
    def paths(self) -> list[str]:
        """Of each clip."""
        return [self.sources[source].path for source in self.source_of.tolist()]

    @property
    def stretches(self) -> list[str]:
        """`start-duration` of each clip, as it ends the clip's name."""
        return [*map(stretch_of, self.start_s.tolist(), self.durations)]

    @property
    def names(self) -> list[str]:
        """Of each clip."""
        of_each = (path if path.isascii() else nfc(path) for path in self.paths)
        return [f"{path}#{stretch}" for path, stretch in zip(of_each, self.stretches, strict=True)]
