"""Files of intervals: Praat TextGrids, Audacity labels and Raven selection tables, by their names."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cry_lightning.annotations.formats import audacity, parse_table, parse_textgrid, raven, textgrid
from cry_lightning.audio import EXTENSIONS
from cry_lightning.console import UserError
from cry_lightning.files import nfc, read_text, write_text


class Interval(NamedTuple):
    """A stretch of a recording, and what is there."""

    start_s: float
    end_s: float
    label: str


FORMS = {"textgrid": ".TextGrid", "audacity": ".txt", "raven": ".selections.txt"}  # name of a form -> end of its files
ENDING = re.compile(r"(\.textgrid|(\.table\.\d+)?\.selections\.txt|\.txt)$", re.IGNORECASE)
LONGEST_S = 1e6  # no recording lasts 12 days
ROUNDING_S = 1e-6  # neighbours in a tier may overlap by this
SLACK_S = 0.1  # an interval may end this much behind the sound, whose length differs between decoders
Call = Callable[[str], str]  # what a path is called


@dataclass(frozen=True)
class Found:
    """An interval, and where in its file it stands."""

    place: str
    interval: Interval


def find(folder: str | Path) -> dict[str, Path]:
    """The files of intervals in a folder, at any depth: path of each below it, without the end of its form -> the file.

    Raises:
        UserError: there is no such folder, none in it, or two called alike.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one of {_forms()}")
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if ENDING.search(path.name) and path.is_file()):
        name = nfc(ENDING.sub("", path.relative_to(folder).as_posix()))
        if name in found:
            raise UserError(f"{folder}: {found[name]} and {path} are both of {name}; move one of them out")
        found[name] = path
    if not found:
        raise UserError(f"{folder}: holds no file of intervals; give a folder of {_forms()}")
    return found


def matched(files: Mapping[str, Path], recordings: Iterable[str]) -> dict[str, Path]:
    """Which file of `find` each recording has, of those that have one.

    A file is called like the path of its recording, with the ending of that or without; else, wherever it lies, like
    its name. Recordings may be given without endings, too.

    Raises:
        UserError: one file might be of several recordings, or several of one.
    """
    names = list(dict.fromkeys(recordings))
    found: dict[str, str] = {}
    parts: list[Call] = [str, _name]
    endings: list[tuple[Call, Call]] = [(str, str), (str, _bare), (_bare, str), (str, _without_ending)]
    for part, (of_file, of_recording) in product(parts, endings):
        taken = {*found.values()}
        free = _grouped((key for key in files if key not in taken), part, of_file)
        # Of one name with others, a recording may own their file even if it has one by its path.
        asking = (name for name in names if part is _name or name not in found)
        for called, ours in _grouped(asking, part, of_recording).items():
            theirs = free.get(called, [])
            if theirs and not found.keys() >= {*ours}:
                if len(theirs) > 1 or len(ours) > 1:
                    which, of = " and ".join(str(files[key]) for key in theirs[:2]), " and ".join(ours[:2])
                    raise UserError(
                        f"{which} may be of {of}; call files like the paths of their recordings ({ours[0]})"
                    )
                found[ours[0]] = theirs[0]
    return {name: files[found[name]] for name in names if name in found}


def _grouped(names: Iterable[str], part: Call, of: Call) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(nfc(of(part(name))), []).append(name)
    return groups


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _bare(path: str) -> str:
    """A path without the ending of a recording."""
    ending = PurePosixPath(path).suffix
    return path.removesuffix(ending) if ending.lower() in EXTENSIONS else path


def _without_ending(path: str) -> str:
    """A path without whatever stands behind its last dot, which a recording may well have."""
    return str(PurePosixPath(path).with_suffix(""))


def names_for(recordings: Sequence[str]) -> list[str]:
    """What the files of intervals of recordings are called, but for the ends of their form.

    They lose the endings of the recordings, unless some differ in nothing else.
    """
    names = [_bare(path) for path in recordings]
    return names if len({*names}) == len(names) else list(recordings)


def read(
    path: str | Path,
    tier: str | None = None,
    duration_s: float | None = None,
    or_only: bool = False,
    unlabelled: bool = False,
) -> list[Interval]:
    """The labelled intervals of a file, in the order of their beginnings.

    Args:
        path: a Praat TextGrid (long or short text), Audacity labels, or a Raven selection table; in UTF-8, UTF-16 or
            UTF-32.
        tier: of a TextGrid that has several tiers of intervals.
        duration_s: of the recording, where it is known; an interval may end a tenth of a second behind it at most.
        or_only: a TextGrid with one tier of intervals need not call it so.
        unlabelled: also those of Audacity and Raven that have no label; in a TextGrid, they are what is not marked.

    Raises:
        UserError: the file is none of these, has no such tier, or has intervals that are reversed, endless, overlap
            under one label or in one tier, or end behind the sound; or it marks several sound files.
    """
    path = Path(path)
    text, tier = nfc(read_text(path)), tier and nfc(tier)
    is_textgrid = path.suffix.lower() == ".textgrid"
    rows = parse_textgrid(text, path, tier, or_only) if is_textgrid else parse_table(text, path)
    found = sorted((Found(place, Interval(*row)) for place, row in rows), key=lambda one: one.interval)
    labelled = [one for one in found if one.interval.label]
    _check(labelled, path, duration_s)
    if is_textgrid:
        _refuse_overlaps(labelled, path)
    return [one.interval for one in (found if unlabelled else labelled)]


def of_label(label: str, intervals: Iterable[Interval], path: Path) -> list[Interval]:
    """The intervals of a file that have a label.

    Raises:
        UserError: another label differs from it in case or blanks alone, and would count as absence.
    """
    intervals = list(intervals)
    for other in sorted({one.label for one in intervals} - {label}):
        if _spelled(other) == _spelled(label):
            raise UserError(
                f"{path}: has intervals labelled {other!r}, which would not count as {label!r}; rename them"
            )
    return [one for one in intervals if one.label == label]


def _spelled(label: str) -> str:
    return "".join(label.split()).casefold()


def write(intervals: Iterable[Interval], path: str | Path, duration_s: float, tier: str = "cries") -> None:
    """Write intervals in the form that the name asks for, whole or not at all; `read` gives them back unchanged.

    Args:
        intervals: not overlapping, with labels of words that have one blank between them.
        path: ends in .TextGrid (Praat), .selections.txt (Raven) or else .txt (Audacity).
        duration_s: of the recording.
        tier: name of the only tier of a TextGrid.

    Raises:
        UserError: the intervals contradict each other, or the file cannot be written.
    """
    path = Path(path)
    if not (ending := ENDING.search(path.name)):
        raise UserError(f"{path}: the name must end in one of {_forms()}")
    if not 0 <= duration_s <= LONGEST_S:
        raise UserError(f"{path}: a recording cannot last {duration_s:g} s; give its length")
    ordered = sorted(Interval(float(start), float(end), label) for start, end, label in intervals)
    found = [Found(f"interval {number}", one) for number, one in enumerate(ordered, 1)]
    _check(found, path, duration_s)
    for one in found:
        label = one.interval.label
        if not label or label != " ".join(label.encode(errors="ignore").decode().split()):  # else no Unicode
            raise UserError(
                f"{path}: {one.place} has the label {label!r}, which would not be read as it is; give words with one"
                " blank between them"
            )
    if ending[0].lower() == ".textgrid":
        _refuse_overlaps(found, path)
        text = textgrid(ordered, float(duration_s), tier)
    else:
        text = raven(ordered) if "selections" in ending[0].lower() else audacity(ordered)
    write_text(text, path)


def _check(found: list[Found], path: Path, duration_s: float | None) -> None:
    """Refuse intervals, in the order of their beginnings, that cannot be true of one recording."""
    for place, (start_s, end_s, label) in ((one.place, one.interval) for one in found):
        if not 0 <= start_s < end_s <= LONGEST_S:  # nor NaN
            raise UserError(f"{path}: {place} ({label!r}) goes from {start_s:g} to {end_s:g} s; correct its ends")
        if duration_s is not None and end_s > duration_s + SLACK_S:
            raise UserError(
                f"{path}: {place} ({label!r}) ends at {end_s:g} s, but the recording has {duration_s:g} s; correct it,"
                " or put the file with its own recording"
            )
    for label in {one.interval.label for one in found}:
        _refuse_overlaps([one for one in found if one.interval.label == label], path)


def _refuse_overlaps(found: list[Found], path: Path) -> None:
    for one, other in pairwise(found):
        if other.interval.start_s < one.interval.end_s - ROUNDING_S:
            both = " and ".join(f"{each.place} ({each.interval.label!r})" for each in (one, other))
            between = f"between {other.interval.start_s:g} and {one.interval.end_s:g} s"
            raise UserError(f"{path}: {both} overlap {between}; move an end, or make them one")


def _forms() -> str:
    return ", ".join(f"*{ending} ({name})" for name, ending in FORMS.items())
