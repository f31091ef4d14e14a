"""Which recordings there are, and whose they are by their names."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from multiprocessing import parent_process
from pathlib import Path
from typing import NotRequired, Protocol, TypedDict

import numpy as np
import soundfile

from cry_lightning import audio
from cry_lightning.acquire.segmentation import BLOCK_S, Unit, harmonicity, units
from cry_lightning.acquire.settings import SAMPLE_RATE, Settings
from cry_lightning.console import UserError, printable, progress_bar
from cry_lightning.corpora import ClassFolders, DonateACry
from cry_lightning.corpora.base import warn_of_unknown_subjects
from cry_lightning.corpora.trees import has_subject_folders
from cry_lightning.files import Json, named_columns, nfc, read_table, replacing_folder, safe_name, sha256, stamp

UNITS = "units"  # folder in OUT
RECORD = "source.json"
TABLE_COLUMNS = ("source", "label", "subject")
MEASURED = ("source_start_s", "duration_s", "peak_db", "active_level_db", "clipped_fraction", "harmonicity")
LONGEST_NAME = 80  # a Donate-a-Cry name is kept whole
VERSION = 2  # raise it when the same source and thresholds begin to give other units: sources are then cut again


@dataclass(frozen=True)
class Identity:
    """What is known of a source; blank: nothing."""

    label: str = ""
    subject: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


class Finder(Protocol):
    """Finds the cries in a recording, in place of the thresholds."""

    digest: str  # of the network

    def __call__(self, recording: Path) -> tuple[list[tuple[float, float]], float]:
        """Begin and end of each, and the length of the recording, in seconds."""


Identities = dict[str, Identity]  # source, relative to IN -> whose it is


def by_form(root: Path, sources: Sequence[str]) -> Identities:
    """By the Donate-a-Cry code where most names are such, else by class folders where there are, with subject folders.

    Class folders have no source outside of them; the folder below one is the subject.

    Raises:
        UserError: some sources have a subject folder and some have none.
    """
    coded = DonateACry(root)
    clips = {source: coded.clip_at(source) for source in sources}
    if sum(clip is not None for clip in clips.values()) <= len(sources) / 2:
        folders = {source.rpartition("/")[0].partition("/")[0] for source in sources}
        if "" in folders:
            return {}
        has_subjects = has_subject_folders(root, sources, "tell subjects by --name-pattern or --table")
        tree = ClassFolders(root, "^[^/]+/([^/]+)/" if has_subjects else None)
        clips = {source: tree.clip_at(source) for source in sources}
    return {
        source: Identity(clip.label or "", clip.subject.partition(":")[2], clip.columns)
        for source, clip in clips.items()
        if clip
    }


def by_pattern(pattern: str, sources: Sequence[str]) -> Identities:
    """By a regular expression, sought in each path, whose groups are named `label` and `subject`, or one of them.

    Raises:
        UserError: it is none, has other groups, or is found nowhere.
    """
    try:
        compiled = re.compile(nfc(pattern))
    except re.error as error:
        raise UserError(f"--name-pattern {pattern!r} is not a regular expression: {error}") from error
    if not compiled.groupindex or set(compiled.groupindex) - {"label", "subject"}:
        raise UserError(
            f"--name-pattern {pattern!r} needs groups named label or subject, e.g. '(?P<subject>baby\\d+)_'"
        )
    found = {source: compiled.search(nfc(source)) for source in sources}
    named = {source: match.groupdict(default="") for source, match in found.items() if match}
    identities = {source: Identity(one.get("label", ""), one.get("subject", "")) for source, one in named.items()}
    if not identities:
        raise UserError(f"--name-pattern {pattern!r} is found in no path, e.g. not in {sources[0]!r}")
    return identities


def by_table(path: Path, sources: Sequence[str]) -> Identities:
    """By a CSV file with the columns source (a path relative to IN), and label, subject or others; capitals or not.

    Raises:
        UserError: the file is no such table, tells of a source twice, or of none that is there.
    """
    spelled = {nfc(source): source for source in sources}  # as the disk has it

    def columns_of(header: Sequence[str]) -> list[str]:
        columns = named_columns(path, header, TABLE_COLUMNS)
        if "source" not in columns:
            raise UserError(f"{path}: no column `source`; the header is source,label,subject")
        return columns

    identities: Identities = {}
    for line, row in read_table(path, columns_of):
        source = Path(row.pop("source").replace("\\", "/")).as_posix()
        source = spelled.get(nfc(source), source)
        if source in identities:
            raise UserError(f"{path}: line {line} names {source} once more")
        identities[source] = Identity(row.pop("label", ""), row.pop("subject", ""), row)
    if not identities.keys() & set(sources):
        raise UserError(f"{path}: names no source that is there, e.g. not {sources[0]!r}; paths are relative to IN")
    return identities


def warn_of_unnamed(identities: Identities, sources: Sequence[str], root: Path) -> None:
    """Say that sources are taken for subjects of their own where no more is known."""
    if any(identities.get(source, Identity()).subject in ("", source) for source in sources):
        warn_of_unknown_subjects(root, "give --name-pattern, e.g. '(?P<subject>baby\\d+)', or --table")


class Measures(TypedDict):
    """What is measured of a unit."""

    source_start_s: float
    duration_s: float
    peak_db: float
    active_level_db: float
    clipped_fraction: float
    harmonicity: float


class UnitRow(Measures):
    """A unit, as a row of the manifest."""

    path: str


class MadeOf(TypedDict):
    """What a source is cut with, and by what one knows that it is as it was."""

    source: str
    version: int
    size: int
    mtime_ns: int
    settings: Json
    detector: NotRequired[str]
    entry: NotRequired[list[int]]  # its number and time of change, as of the others in `files.Stamp`
    sha256: NotRequired[str]  # which counts where those differ; records of older releases have neither


class Record(MadeOf):
    """A source that was cut."""

    duration_s: float
    units: list[UnitRow]


def folder_name(source: str) -> str:
    """A name for what comes from a source, given relative to IN: safe, readable, and no other source's."""
    digest = hashlib.sha256(source.encode(errors="surrogateescape")).hexdigest()[:12]
    return f"{safe_name(source)[-LONGEST_NAME:].lstrip('-.')}-{digest}"


def done(root: Path, source: str, out: Path, settings: Settings, finder: Finder | None = None) -> Record | None:
    """The record of a source that was cut with these settings, is unchanged since, and has all its units."""
    try:
        record: Record = json.loads((out / UNITS / folder_name(source) / RECORD).read_text())
        if not _is_as_it_was(root / source, record, _identity(root, source, settings, finder)):
            return None
        if finder is None and "detector" in record:
            return None
        numbers = [record["duration_s"], *(unit.get(name) for unit in record["units"] for name in MEASURED)]
        whole = all((out / unit["path"]).is_file() for unit in record["units"])
        return record if whole and all(isinstance(number, int | float) for number in numbers) else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):  # damaged: cut again
        return None


def cut(root: Path, source: str, out: Path, settings: Settings, finder: Finder | None = None) -> Record:
    """Write the units of a source and its record, in memory that does not grow with its length.

    Raises:
        AudioError: the source cannot be decoded from beginning to end; nothing is kept of it.
        UserError: a unit cannot be written.
    """
    folder = out / UNITS / folder_name(source)
    with replacing_folder(folder) as part:
        made_of = _identity(root, source, settings, finder, read=True)
        measured = _Measured(root / source)
        rows: list[UnitRow] = []
        found = units(measured.blocks(), settings) if finder is None else measured.events(finder, settings)
        for number, unit in enumerate(found, 1):
            name = f"{folder.name}-{number:04}.wav"
            buffer = BytesIO()  # libsndfile does not say why it cannot write
            soundfile.write(buffer, unit.samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
            (part / name).write_bytes(buffer.getbuffer())
            rows.append({"path": f"{UNITS}/{folder.name}/{name}", **_measures(unit)})
        record: Record = {**made_of, "duration_s": measured.n_samples / SAMPLE_RATE, "units": rows}
        (part / RECORD).write_text(json.dumps(record, indent=1))
        shutil.rmtree(folder, ignore_errors=True)  # of another state of the source, or other settings
    return record


class _Measured:
    """A recording as it streams by."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_samples = 0

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks (N,) at 16 kHz; of a long recording, a bar tells the seconds."""
        stream = audio.blocks(self.path, SAMPLE_RATE, BLOCK_S)
        hidden = parent_process() is not None  # one of several bars would write over the others
        for block in progress_bar(stream, printable(self.path.name), unit="s", delay=10, leave=False, hidden=hidden):
            self.n_samples += block.size
            yield block
        if not self.n_samples:
            raise audio.AudioError(f"{self.path}: holds no samples")

    def events(self, finder: Finder, settings: Settings) -> Iterator[Unit]:
        """The events that a network finds, as long as they are."""
        spans, duration_s = finder(self.path)
        self.n_samples = round(duration_s * SAMPLE_RATE)
        with audio.Recording(self.path) as recording:
            for begin_s, end_s in spans:
                samples = np.clip(recording.segment(SAMPLE_RATE, begin_s, end_s - begin_s), -1, 1)
                yield Unit(begin_s, samples, harmonicity(samples, settings))


def _is_as_it_was(path: Path, record: Record, now: MadeOf) -> bool:
    """Whether a source is what a record is of; what has its size and time and may be another is read."""
    others = {key: value for key, value in now.items() if key != "entry"}
    if dict(record) | others != record:
        return False
    return "entry" not in record or record["entry"] == now["entry"] or record["sha256"] == sha256(path)


def _identity(root: Path, source: str, settings: Settings, finder: Finder | None, read: bool = False) -> MadeOf:
    try:
        size, mtime_ns, *entry = stamp(root / source)
        content = sha256(root / source) if read else ""
    except OSError as error:
        raise audio.AudioError(f"{root / source}: cannot be read ({error.strerror})") from error
    known: MadeOf = {
        "source": source,
        "version": VERSION,
        "size": size,
        "mtime_ns": mtime_ns,
        "settings": asdict(settings),
        "entry": entry,
    }
    if read:
        known["sha256"] = content
    if finder is not None:
        known["detector"] = finder.digest
    return known


def _measures(unit: Unit) -> Measures:
    """The columns of the manifest that are measured."""
    return {
        "source_start_s": unit.start_s,
        "duration_s": unit.duration_s,
        "peak_db": round(unit.peak_db, 2),
        "active_level_db": round(unit.active_level_db, 2),
        "clipped_fraction": round(unit.clipped_fraction, 5),
        "harmonicity": round(unit.harmonicity, 3),
    }
