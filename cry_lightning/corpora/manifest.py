"""A corpus listed in a CSV file, and the one that lies at a path."""

import math
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cry_lightning.audio import EXTENSIONS, warn_once
from cry_lightning.console import UserError, counted, first_few
from cry_lightning.corpora import cries, words
from cry_lightning.corpora.base import Corpus, warn_of_unknown_subjects
from cry_lightning.corpora.clips import Clip
from cry_lightning.corpora.cries import CryCeleb, DonateACry
from cry_lightning.corpora.listing import find_recordings, on_disk
from cry_lightning.corpora.trees import ClassFolders, UnlabelledTree
from cry_lightning.corpora.words import FSDD
from cry_lightning.files import kind_of, named_columns, nfc, read_table, safe_name

TIMES = {"start_s", "end_s", "duration_s"}
OWN_COLUMNS = {"path", "label", "subject", *TIMES}
PLAIN = re.compile(r"/?((?!\.*/|~)[ !-.0-9:-\[\]-~]+/)*(?!\.*$|~)[ !-.0-9:-\[\]-~]+")  # names in ASCII, none only dots
AGREEING_S = 0.001  # `end_s` and `start_s` + `duration_s` may differ by this much
STRAYS = 0.05  # of the recordings of a known corpus may lie in folders of other names, and are left out
BY_NAME: dict[type[Corpus], Callable[[str], object]] = {  # what parses the name, or path, of a recording of these
    DonateACry: lambda path: cries.DONATEACRY_NAME.match(Path(path).name),
    FSDD: lambda path: words.NAME.match(Path(path).name),
    CryCeleb: cries.CRYCELEB_PATH.match,
}
Further = dict[tuple[tuple[str, str], ...], dict[str, str]]  # columns that are not our own, by what is in them


class Manifest(Corpus):
    """A CSV file as `read_table` takes it, with a header and one clip per row.

    Columns, in capitals or not: `path` (relative to the CSV's folder, or absolute), and by choice `label` (blank:
    unlabelled), `subject` (blank, or the path or the file's name, or what the column `source` says a clip was cut from:
    not known, and the recording stands for it), `start_s` and either of `duration_s` and `end_s`
    (blank: from the beginning, to the end). Further columns are kept in `Clip.columns`; empty rows, and empty columns
    without a name, are ignored.

    Args:
        root: the CSV file.
        collection: the id space of the subjects; the CSV file's name by default. Tables that call the same infants by
            the same ids must have the same.
        label: another column to take the label from, where one table answers several questions.
    """

    def __init__(self, root: str | Path, collection: str | None = None, label: str = "label", **kwargs: Any) -> None:
        self.collection = collection or safe_name(Path(root).stem)
        super().__init__(root, **kwargs)
        self.label = nfc(label)
        self.columns: list[str] = []  # of the table, once it is read

    def path_of(self, clip: Clip) -> Path:
        """The file that holds a clip; paths are relative to the manifest's folder."""
        return self.root.parent / clip.path

    def recordings(self) -> list[Clip]:
        """One clip per row, in the order of the file."""
        rows = read_table(self.root, self._columns)
        if not rows:
            raise UserError(f"{self.root}: lists no recordings; write one row for each clip")
        further: Further = {}
        clips = [self._clip(line, row, further) for line, row in rows]
        self._refuse_misplaced(clips)
        self._refuse_duplicates([line for line, _ in rows], clips)
        if any(clip.subject_source == "unknown" for clip in clips):
            warn_of_unknown_subjects(self.root, "fill in the column `subject`")
        return clips

    def _columns(self, header: Sequence[str]) -> list[str]:
        """The names of the columns, our own in lower case, empty where they have none."""
        columns = named_columns(self.root, header, OWN_COLUMNS)
        if "path" not in columns:
            raise UserError(
                f"{self.root}: no column `path`, only {columns}; the header needs at least `path`, and commas,"
                " semicolons or tabs between columns"
            )
        if self.label not in ("label", *columns):
            raise UserError(
                f"{self.root}: no column {self.label!r} for the label; the columns are {', '.join(columns)}"
            )
        self.columns = columns
        return columns

    def _clip(self, line: int, row: dict[str, str], further: Further) -> Clip:
        """The clip of a row; what it has as other rows have it is kept once."""
        if not row["path"]:
            raise UserError(f"{self.root}: line {line} has no path")
        path = self._path(row["path"])
        start_s = self._seconds(line, row, "start_s") or 0.0
        duration_s = self._duration_s(line, row, start_s)
        subject, label = row.get("subject") or path, row.get(self.label)
        columns = {column: nfc(value) for column, value in row.items() if column not in OWN_COLUMNS}
        names = {nfc(name) for name in (path, row["path"], Path(path).name, row.get("source", ""))}
        return Clip(
            path=path,
            subject=sys.intern(f"{self.collection}:{subject}"),
            subject_source="unknown" if nfc(subject) in names else "given",
            label=sys.intern(label) if label else None,
            start_s=start_s,
            duration_s=duration_s,
            columns=further.setdefault(tuple(columns.items()), columns),
        )

    def _path(self, given: str) -> str:
        """A path of the table as the disk spells it, relative to the table where it was."""
        if PLAIN.fullmatch(given) and str(self.root.parent).isascii():
            return given  # as what follows gives it, in a tenth of the time
        path = Path(given.replace("\\", "/"))
        if given.startswith("~"):
            with suppress(RuntimeError):  # no such user: it may be a name
                path = path.expanduser()
        spelled = self.root.parent / path
        found = on_disk(spelled)
        return (
            found if path.is_absolute() else path if found == spelled else found.relative_to(self.root.parent)
        ).as_posix()

    def _duration_s(self, line: int, row: dict[str, str], start_s: float) -> float | None:
        """What `duration_s` says, or `end_s`; of both, that they agree."""
        duration_s, end_s = (self._seconds(line, row, column) for column in ("duration_s", "end_s"))
        if end_s is None:
            return duration_s
        if end_s <= start_s:
            raise UserError(f"{self.root}: line {line}: end_s {end_s:g} is not behind start_s {start_s:g}")
        if duration_s is not None and abs(start_s + duration_s - end_s) > AGREEING_S:
            reason = f"duration_s {duration_s:g} and end_s {end_s:g} do not agree, start_s being {start_s:g}"
            raise UserError(f"{self.root}: line {line}: {reason}")
        return round(end_s - start_s, 6) if duration_s is None else duration_s

    def _seconds(self, line: int, row: dict[str, str], column: str) -> float | None:
        if not row.get(column):
            return None
        try:
            seconds = float(row[column])
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf or (column == "duration_s" and seconds == 0):
            raise UserError(f"{self.root}: line {line}: {column} is {row[column]!r}, not a length of time in seconds")
        return seconds

    def _refuse_misplaced(self, clips: list[Clip]) -> None:
        """Refuse a table none of whose files is there; a file that is missing is left out by whoever reads it."""
        if not any(os.path.exists(self.path_of(clip)) for clip in clips):  # noqa: PTH110  that of Path may raise
            named = first_few([*dict.fromkeys(clip.path for clip in clips)], 3)
            raise UserError(
                f"{self.root}: no listed file exists, first {named}; paths are relative to {self.root.parent}"
            )

    def _refuse_duplicates(self, lines: list[int], clips: list[Clip]) -> None:
        numbers = np.array([hash(clip.name) for clip in clips])  # the names themselves would be most of the memory
        if len(np.unique(numbers)) == len(clips):
            return
        lines_of = defaultdict(list)
        for line, clip in zip(lines, clips, strict=True):
            lines_of[clip.name].append(line)
        if twice := {name: at for name, at in lines_of.items() if len(at) > 1}:
            name, at = next(iter(twice.items()))
            which = counted(len(twice), "clip is", "clips are")
            raise UserError(f"{self.root}: {which} listed more than once (to 1 ms), first {name} on lines {at}")


TAKEN_BY: dict[str, tuple[type[Corpus], ...]] = {
    "target": (DonateACry, CryCeleb),
    "subject_pattern": (ClassFolders, UnlabelledTree),
    "collection": (ClassFolders, UnlabelledTree, Manifest),
}


def corpus_at(
    path: str | Path,
    name: str | None = None,
    target: Literal["reason", "age", "sex", "period"] | None = None,
    subject_pattern: str | None = None,
    collection: str | None = None,
    classes: dict[str, list[str]] | None = None,
    window_s: float | None = None,
    hop_s: float | None = None,
    min_active_db: float | None = None,
) -> Corpus:
    """The corpus that lies at a path, its form guessed.

    A CSV file is a Manifest, as is a folder with a manifest.csv in it. Another folder is a DonateACry, an FSDD or a
    CryCeleb if most names parse as such, in each of its folders, or nearly all; ClassFolders if all its recordings lie
    in folders; and else an UnlabelledTree.

    Args:
        path: a CSV file or a folder.
        name: names the run folder and the cache; by default what the path ends in, of a manifest.csv its folder.
        target: the label, of Donate-a-Cry reason (default), age or sex, of CryCeleb period.
        subject_pattern: regular expression whose group, `(...)` or `(?P<subject>...)`, finds the subject in a
            recording's relative path, in ClassFolders and UnlabelledTree only.
        collection: the id space of the subjects, in ClassFolders, UnlabelledTree and Manifest only; corpora that call
            the same infants by the same ids must have the same. By default the name of the folder or the CSV file.
        classes: new class -> the corpus's own labels that belong to it.
        window_s: cut every clip longer than this into windows of this many seconds.
        hop_s: from window to window; the window's length by default.
        min_active_db: leave out windows whose level (dB relative to full scale, RMS) is below this.

    Raises:
        UserError: nothing is there, or `target`, `subject_pattern` or `collection` is given for another form.
    """
    path = Path(path).expanduser()
    if (path / "manifest.csv").is_file():
        path = path / "manifest.csv"
    form = _form(path)
    folder = path.resolve().parent if path.name == "manifest.csv" else path.resolve()
    name = name or safe_name(path.stem if form is Manifest and folder == path.resolve() else folder.name)
    own = {"target": target, "subject_pattern": subject_pattern, "collection": collection}
    own = {argument: value for argument, value in own.items() if value is not None}
    for argument in own:
        if form not in TAKEN_BY[argument]:
            forms = " and ".join(taker.__name__ for taker in TAKEN_BY[argument])
            raise UserError(f"{path}: {argument} is for {forms}, this looks like a {form.__name__}")
    return form(path, name=name, classes=classes, window_s=window_s, hop_s=hop_s, min_active_db=min_active_db, **own)


def _form(path: Path) -> type[Corpus]:
    if path.suffix.lower() == ".csv":
        return Manifest
    if path.is_file():
        kind = "a recording" if path.suffix.lower() in EXTENSIONS else kind_of(path) or "a file"
        its_folder = f"its folder, {path.parent}" if kind == "a recording" else "a folder of recordings"
        raise UserError(f"{path}: is {kind}; give {its_folder}, or a manifest, a .csv file")
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give a folder of recordings or a manifest, a .csv file")
    in_folder: dict[str, list[str]] = {}
    for recording in find_recordings(path):
        in_folder.setdefault(recording.rpartition("/")[0].partition("/")[0], []).append(recording)
    n_recordings = sum(map(len, in_folder.values()))
    for form, named in BY_NAME.items():
        known = {folder: sum(map(bool, map(named, own))) for folder, own in in_folder.items()}
        others = [folder for folder, n in known.items() if 2 * n <= len(in_folder[folder])]
        if n_recordings and (not others or sum(known.values()) > (1 - STRAYS) * n_recordings):
            return form
        if len(others) < len(in_folder):
            whole = "is taken as recordings without labels" if "" in in_folder else "each folder is taken as a class"
            warn_once(
                f"{path}: recordings in {_some(in_folder.keys() - set(others))} have names as of {form.__name__}, those"
                f" in {_some(others)} have not: {whole}; move one kind away, or say by a manifest.csv whose they are"
            )
    return UnlabelledTree if "" in in_folder else ClassFolders


def _some(folders: Collection[str]) -> str:
    return first_few([folder or "the folder itself" for folder in sorted(folders)], 3)
