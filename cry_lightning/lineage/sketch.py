"""Stretches of files; and the sounds of very many clips in a few bytes each, as a large stage keeps them."""

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from cry_lightning.console import UserError
from cry_lightning.files import Json
from cry_lightning.lineage.acoustic_fingerprint import LETTERS, Landmarks, decoded, of_no_device
from cry_lightning.lineage.recorded import END_MS, Recorded, parts_of

FROM = 20_000  # clips, of which and fewer a stage keeps all
MOST_LANDMARKS = 2**20  # that are kept of those of more clips: of windows of 1 s, those of 18 hours
SECONDS = 4  # of a copy for each landmark that is left out for one kept: nearly all that long are found
BITS = 64  # of the hash of a file
MIN_OVERLAP_MS = 2  # names give times to the millisecond, so that neighbours may seem to share as much
MOST_BYTES = {"stretches": 2**28, "landmarks": 32 * MOST_LANDMARKS}  # unpacked: a sketch may come from anybody


class Stretches(NamedTuple):
    """Stretches of files, as columns (n,)."""

    file: np.ndarray  # the first `BITS` of its hash
    start: np.ndarray  # in ms
    end: np.ndarray

    @classmethod
    def of(cls, sounds: Iterable[str]) -> Self:
        """Those of `sound_fingerprint`s; one that is given without its stretch is a whole file of its own."""
        if isinstance(sounds, Recorded) and (known := sounds.columns):
            within = (np.minimum(time, END_MS) for time in (known.start, known.end))
            return cls(_numbers(known.files)[known.file], *within)
        parts = [[*sound.split("#"), ""][:2] for sound in sounds]
        names = {file: place for place, file in enumerate(dict.fromkeys(file for file, _ in parts))}
        times = {stretch: _times(stretch) for stretch in {stretch for _, stretch in parts}}
        files = _numbers(names)[[names[file] for file, _ in parts]]
        return cls(files, *np.array([times[stretch] for _, stretch in parts], int).reshape(-1, 2).T)

    def merged(self) -> "Stretches":
        """The same without gaps between neighbours, sorted by file and time; what is too short to be found is gone."""
        order = np.lexsort((self.start, self.file))
        file, start, end = (column[order] for column in self)
        new_file = np.append(True, file[1:] != file[:-1])[: len(file)]
        base = np.cumsum(new_file) * (2 * END_MS)  # so that nothing of a file reaches into the next
        until = np.maximum.accumulate(base + end) - base
        first = np.flatnonzero(new_file | (start > np.append(0, until)[:-1]))
        last = np.append(first[1:], len(file))[: len(first)] - 1
        kept = until[last] - start[first] > MIN_OVERLAP_MS
        return Stretches(file[first][kept], start[first][kept], until[last][kept])

    def found_in(self, others: "Stretches") -> np.ndarray:
        """Which of these (n,) share more than 2 ms of a file with any of the others, which are `merged`."""
        if not len(others.file):
            return np.zeros(len(self.file), bool)
        files = np.unique(others.file)
        place, of_others = np.searchsorted(files, self.file), np.searchsorted(files, others.file)
        ends = of_others * (2 * END_MS) + others.end  # ascending, since none overlap
        at = np.searchsorted(ends, place * (2 * END_MS) + self.start + MIN_OVERLAP_MS, side="right")
        at = np.minimum(at, len(ends) - 1)  # the first that ends late enough; those behind it begin later still
        shared = np.minimum(self.end, others.end[at]) - np.maximum(self.start, others.start[at])
        return (others.file[at] == self.file) & (shared > MIN_OVERLAP_MS)


def _numbers(files: Iterable[str]) -> np.ndarray:
    """The first `BITS` of the fingerprints of files (n,)."""
    return np.array([int(file, 16) for file in files], np.uint64) >> np.uint64(64 - BITS)


def _times(stretch: str) -> tuple[int, int]:
    """Start and end in ms."""
    start, _, duration = (stretch or "0-end").partition("-")
    start_ms = round(1000 * float(start))
    end_ms = END_MS if duration == "end" else start_ms + round(1000 * float(duration))
    return min(start_ms, END_MS), min(end_ms, END_MS)


@dataclass(frozen=True, eq=False)
class Sketch:
    """The sounds of many clips: where they lie in their files, neighbours joined, and some of their landmarks.

    No stretch is missing: what shares a stretch with a clip is always found.

    Args:
        n_clips: how many clips they are.
        stretches: file, start and length of each, see `_packed`.
        landmarks: place of the file, time and hash of each; files in ascending order.
        one_in: so many landmarks one is kept of.
    """

    n_clips: int
    stretches: str
    landmarks: str
    one_in: int

    @classmethod
    def of(cls, sounds: Sequence[str]) -> Self:
        """That of `sound_fingerprint`s."""
        stretches = Stretches.of(sounds).merged()
        n_landmarks = _n_letters(sounds) // LETTERS
        one_in = max(1, -(-n_landmarks // MOST_LANDMARKS))
        place, time, hashes = _some_landmarks(sounds, np.unique(stretches.file), one_in)
        order = np.lexsort((time, place))
        return cls(
            n_clips=len(sounds),
            stretches=_packed(stretches.file.view(np.int64), stretches.start, stretches.end - stretches.start),
            landmarks=_packed(place[order], time[order], hashes[order]),
            one_in=one_in,
        )

    @classmethod
    def parse(cls, content: Json) -> Self:
        """The sketch in plain data.

        Raises:
            UserError: there is none in it.
        """
        n_clips, one_in = content.get("n_clips"), content.get("one_in")
        stretches, landmarks = content.get("stretches"), content.get("landmarks")
        if not (isinstance(n_clips, int) and isinstance(one_in, int) and 0 < n_clips < 2**53 and 0 < one_in < 2**53):
            raise UserError("is not a sketch")
        if not (isinstance(stretches, str) and isinstance(landmarks, str)):
            raise UserError("is not a sketch")
        found = cls(n_clips, stretches, landmarks, one_in)
        try:
            sound = found.is_sound
        except (ValueError, zlib.error, MemoryError) as error:
            raise UserError("is a damaged sketch") from error
        if not sound:
            raise UserError("is a damaged sketch")
        return found

    @property
    def is_sound(self) -> bool:
        """Whether its stretches are `merged`, without which they would not be found, and its landmarks are of them."""
        located, known = self.located, self.known
        in_file = (located.start >= 0) & (located.start < located.end) & (located.end <= END_MS)
        if not len(located.file) or not in_file.all():
            return False
        if not all(map(np.array_equal, located, located.merged())):
            return False
        times, hashes = (known.time >= 0) & (known.time < END_MS), (known.hash >= 0) & (known.hash < 2**32)
        return bool((times & hashes & (known.file >= 0) & (known.file < len(known.files))).all())

    def as_dict(self) -> Json:
        """Plain data, for JSON and checkpoints."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __len__(self) -> int:
        return self.n_clips

    def __eq__(self, other: object) -> bool:
        """Whether the content is the same; letters differ where it was compressed by another release."""
        if not isinstance(other, Sketch) or (len(self), self.one_in) != (len(other), other.one_in):
            return False
        texts = (self.stretches, other.stretches), (self.landmarks, other.landmarks)
        limits = MOST_BYTES.values()
        return all(
            np.array_equal(_unpacked(ours, most), _unpacked(theirs, most))
            for (ours, theirs), most in zip(texts, limits, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def located(self) -> Stretches:
        """Where they lie, `merged`."""
        file, start, length = _unpacked(self.stretches, MOST_BYTES["stretches"])
        return Stretches(file.view(np.uint64), start, start + length)

    @cached_property
    def known(self) -> Landmarks:
        """The landmarks that are kept, of no device; each file is one sound, since which clip they are of is lost."""
        file, time, hashes = _unpacked(self.landmarks, MOST_BYTES["landmarks"])
        names = [f"{number:016x}" for number in (np.unique(self.located.file) << np.uint64(64 - BITS)).tolist()]
        return of_no_device(Landmarks(names, file, time, hashes, file))

    @property
    def chance(self) -> float:
        """How probable it is that a file that is none of theirs is taken for one, by its hash."""
        return len(np.unique(self.located.file)) / 2.0**BITS

    def __str__(self) -> str:
        """What it can tell, in words."""
        text = (
            f"{self.n_clips:,} clips are kept as a sketch: whatever shares a stretch of a file with them is found, and"
            f" a file that is none of theirs is taken for one with a probability of {self.chance:.0e}"
        )
        if self.one_in > 1:
            text += (
                f"; one in {self.one_in} of their landmarks is kept, so that copies in other files, where they are"
                f" shorter than about {SECONDS * self.one_in} s, may be missed"
            )
        return text


def _n_letters(sounds: Sequence[str]) -> int:
    """Of the landmarks of all of them."""
    if isinstance(sounds, Recorded):
        return sounds.n_letters()
    return sum(len(sound) - sound.rindex("#") - 1 for sound in sounds)


def _some_landmarks(sounds: Sequence[str], files: np.ndarray, one_in: int) -> np.ndarray:
    """Place of the file, time and hash (3, L) of one in so many of all landmarks."""
    found, n_passed = [np.zeros((3, 0), int)], 0
    for part in parts_of(len(sounds)):
        known = sounds.decoded(part) if isinstance(sounds, Recorded) else decoded(sounds[part])
        own = _numbers(known.files)
        columns = np.stack([np.searchsorted(files, own)[known.file], known.time, known.hash])
        found.append(columns[:, -n_passed % one_in :: one_in])
        n_passed += columns.shape[1]
    return np.concatenate(found, axis=1)


def _packed(*columns: np.ndarray) -> str:
    """Columns of whole numbers as letters: differences from row to row, their bytes sorted by weight, compressed."""
    differences: np.ndarray = np.diff(np.stack(columns).astype(np.int64), prepend=0)
    folded = differences << 1 ^ differences >> 63  # small numbers of either sign have few bits
    by_weight = np.ascontiguousarray(folded[..., None].view(np.uint8).transpose(0, 2, 1))
    return base64.b64encode(zlib.compress(by_weight.tobytes())).decode()


def _unpacked(text: str, most_bytes: int) -> np.ndarray:
    """The three columns (3, n) of which these letters are, in so many bytes at most.

    Raises:
        ValueError: they are of none.
    """
    reader = zlib.decompressobj()
    raw = reader.decompress(base64.b64decode(text, validate=True), most_bytes)
    if not reader.eof:
        raise ValueError("incomplete, or too large")
    by_weight = np.frombuffer(raw, np.uint8).reshape(3, 8, -1)
    folded = np.ascontiguousarray(by_weight.transpose(0, 2, 1)).view(np.uint64)[..., 0]
    differences = (folded >> np.uint64(1)).view(np.int64) ^ -(folded & np.uint64(1)).view(np.int64)
    return np.cumsum(differences, axis=1)


def sketched(*parts: Sequence[str]) -> list[str] | Sketch:
    """Some `sound_fingerprint`s as a stage keeps them: each once, sorted, or of very many a sketch."""
    parts = tuple(filter(len, parts))
    if len(parts) == 1 and isinstance(parts[0], Recorded) and len(parts[0]) > FROM and parts[0].columns:
        sounds: Sequence[str] = parts[0].distinct()
    else:
        sounds = sorted(set().union(*parts))
    return Sketch.of(sounds) if len(sounds) > FROM else [*sounds]
