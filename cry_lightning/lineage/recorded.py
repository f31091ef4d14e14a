"""Sounds as a cache records them, and their fingerprints; of millions, no text is made of each."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple, overload

import numpy as np

from cry_lightning.lineage.acoustic_fingerprint import Landmarks, unpacked

HASH = 64  # letters of a file's hash, before the hash sign
END_MS = 2**36  # of a stretch to the end of its file: two years
AT_ONCE = 10_000  # whose texts and landmarks are in memory


@lru_cache(maxsize=2**10)  # the clips of a file are neighbours
def fingerprint(text: str) -> str:
    """First 16 hex digits of SHA-256: lets subjects be compared without being named."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def sound_fingerprint(content: str, landmarks: str | None = None) -> str:
    """Of "file#start-duration", as a cache names what a row holds, and of how it sounds.

    The stretch stays in clear, to find overlaps by, and so do the landmarks (`acoustic_fingerprint`), behind a second
    hash sign.
    """
    file, hash_sign, stretch = content.partition("#")
    name = fingerprint(file) + hash_sign + stretch
    return name if landmarks is None else f"{name}#{landmarks}"


class Columns(NamedTuple):
    """Some sounds (n,), without their landmarks."""

    files: list[str]  # fingerprints of the files, sorted
    file: np.ndarray  # of each sound, as a place among these
    start: np.ndarray  # in ms
    end: np.ndarray
    stretch: np.ndarray  # its text as numbers (n, k), which are in the order of the texts

    def at(self, rows: np.ndarray) -> "Columns":
        """Some of them."""
        return Columns(self.files, *(column[rows] for column in self[1:]))


class LazyTexts(Sequence[str]):
    """Texts made whenever they are asked for: lists of millions would fill the memory."""

    @abstractmethod
    def some(self, at: slice) -> list[str]:
        """Those of a slice."""

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return self.some(at)
        place = range(len(self))[at]
        return self.some(slice(place, place + 1))[0]

    def __iter__(self) -> Iterator[str]:
        for part in parts_of(len(self)):
            yield from self.some(part)


class Recorded(LazyTexts):
    """The `sound_fingerprint`s of rows of a cache, made whenever they are asked for.

    Args:
        content: what each row was made from: the hash of its file, and the stretch of it.
        landmarks: of each row, how it sounds.
        rows: which of them (n,).
    """

    def __init__(self, content: np.ndarray, landmarks: np.ndarray, rows: np.ndarray) -> None:
        self.content = content
        self.landmarks = landmarks
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def some(self, at: slice) -> list[str]:
        """Those of some rows."""
        content, letters = (
            [text.decode(errors="surrogateescape") for text in column[self.rows[at]].tolist()]
            for column in (self.content, self.landmarks)
        )
        return [*map(sound_fingerprint, content, letters)]

    @cached_property
    def columns(self) -> Columns | None:
        """Where they lie; None where a file's hash is not known, as of one that could not be read at first."""
        numbers: dict[bytes, int] = {}
        found = [_located(self.content[self.rows[part]], numbers) for part in parts_of(len(self))]
        if not found or not all(found):
            return None
        number, start, end, stretch = (np.concatenate(column) for column in zip(*filter(None, found), strict=True))
        names = [fingerprint(name.decode()) for name in numbers]
        files = sorted(set(names))
        place = {name: place for place, name in enumerate(files)}
        return Columns(files, np.array([place[name] for name in names], np.int32)[number], start, end, stretch)

    def distinct(self) -> "Recorded":
        """Each of them once, sorted as their texts are; their `columns` must be known."""
        assert self.columns is not None
        columns = self.columns
        order = np.lexsort((*columns.stretch.T[::-1], columns.file))
        same = _as_before(columns.file[order]) & _as_before(columns.stretch[order])
        if same.any():  # of one stretch: their landmarks decide
            several = same | np.append(same[1:], False)
            group, letters = np.cumsum(~same)[several], self.landmarks[self.rows[order[several]]]
            by_letters = np.lexsort((letters, group))
            order[several] = order[several][by_letters]
            twice = _as_before(group[by_letters]) & _as_before(letters[by_letters])
            order = np.delete(order, np.flatnonzero(several)[twice])
        found = Recorded(self.content, self.landmarks, self.rows[order])
        found.columns = columns.at(order)
        return found

    def n_letters(self) -> int:
        """Of all landmarks."""
        each = (np.strings.str_len(self.landmarks[self.rows[part]]).sum() for part in parts_of(len(self)))
        return int(sum(each))

    def decoded(self, part: slice) -> Landmarks:
        """The landmarks of some of them, as of `acoustic_fingerprint.decoded`; their `columns` must be known."""
        assert self.columns is not None
        present, file = np.unique(self.columns.file[part], return_inverse=True)
        files = [self.columns.files[place] for place in present.tolist()]
        return unpacked(files, file, self.columns.start[part] / 1000, self.landmarks[self.rows[part]].tolist())


def parts_of(n: int) -> Iterator[slice]:
    """All of some sounds, as many as are in memory at once."""
    return (slice(first, first + AT_ONCE) for first in range(0, n, AT_ONCE))


def _located(content: np.ndarray, numbers: dict[bytes, int]) -> tuple[np.ndarray, ...] | None:
    """Of rows of a cache: number of the file, which is given anew to each new one, and the columns of the stretch."""
    letters = np.ascontiguousarray(content).view(np.uint8).reshape(len(content), -1)
    if letters.shape[1] <= HASH or not (letters[:, HASH] == ord("#")).all():
        return None
    new = np.flatnonzero(~_as_before(letters[:, :HASH]))
    names = letters[new, :HASH].tobytes()
    number = [numbers.setdefault(names[at : at + HASH], len(numbers)) for at in range(0, len(names), HASH)]
    stretch = letters[:, HASH + 1 :]
    words = np.pad(stretch, ((0, 0), (0, -stretch.shape[1] % 8))).view(">u8").astype(np.uint64)
    return np.repeat(number, np.diff(new, append=len(letters))), *_milliseconds(stretch), words


def _milliseconds(stretch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of `start-duration` as letters (n, k), where seconds have three decimals."""
    times, behind, has_duration = np.zeros((2, len(stretch)), int), np.zeros(len(stretch), int), False
    for letter in stretch.T:
        digit = (letter >= ord("0")) & (letter <= ord("9"))
        for place, time in enumerate(times):
            time[:] = np.where(digit & (behind == place), 10 * time + letter - ord("0"), time)
        has_duration |= digit & (behind == 1)
        behind += letter == ord("-")
    return times[0], np.where(has_duration, times[0] + times[1], END_MS)


def _as_before(rows: np.ndarray) -> np.ndarray:
    """Which rows (n,) or (n, k) are the same as the one before."""
    same = rows[1:] == rows[:-1]
    return np.append(False, same if rows.ndim == 1 else same.all(axis=1))[: len(rows)]
