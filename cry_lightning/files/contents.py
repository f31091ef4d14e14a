"""Types of what files contain, JSON objects read with a clear error, the hash of a file, what its first bytes say."""

import hashlib
import json
import re
import zipfile
from codecs import getincrementaldecoder
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required, TypedDict

from cry_lightning.console import UserError

if TYPE_CHECKING:
    from torch import Tensor

Config = dict[str, Any]  # a resolved YAML: each value is of the type that its place in the config asks for
Json = dict[str, object]  # a JSON object: look at a value's type before you use it
Stamp = tuple[int, ...]  # see `stamp`; one of an older release is shorter, and no file has it
CHECKPOINT, TRUNCATED = "a checkpoint", "a truncated document, checkpoint or archive"
LOOKED_AT = 512  # bytes
BY_BEGINNING = {
    rb"RIFF....WAVE|RF64|FORM....AIF|\.snd|OggS|fLaC|#!AMR|\x1aE\xdf\xa3|....ftyp": "a recording",
    rb"ID3|\xff[\xe2\xe3\xf0-\xf3\xf8-\xfb]": "a recording",  # MP3 and AAC
    rb"\x89HDF": "HDF5",
    rb"\x1f\x8b": "a gzip archive",
    rb"\x89PNG|\xff\xd8\xff": "a picture",
    rb"%PDF": "a PDF",
    rb"ooBinaryFile": "a binary file of Praat",
}
BEGINNINGS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in BY_BEGINNING.items()]


class Checkpoint(TypedDict, total=False):
    """A stage's checkpoint, as Lightning and the stage write it; one from elsewhere may contradict any of it."""

    state_dict: Required[dict[str, "Tensor"]]
    hyper_parameters: Config
    datamodule_hyper_parameters: Config
    CryDataModule: dict[str, str]  # what the datamodule adds
    classes: list[str]  # in the order of the logits
    front_end: str | None  # its identity, as JSON
    precision: str
    lineage: Json
    described: dict[str, str]  # hashes of the labels, and of the subjects, of the clips
    probe_uar: float | None
    probed_in: int | None  # epoch
    source: Json  # of published weights that were imported


def read_object(path: Path, way_out: str) -> Json:
    """The JSON object in a file.

    Args:
        path: the file.
        way_out: what the user can do where it is damaged.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); {way_out}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not a JSON object; {way_out}")
    return content


def read_object_if_any(path: Path) -> Json:
    """The JSON object in a file, empty where there is none, or it is damaged."""
    try:
        return read_object(path, "")
    except UserError:
        return {}


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> Stamp:
    """By what one knows that a file is as it was: size, time of change, number and time of change of its entry.

    The last two tell of what was put in its place with the same size and time, as `tar` and `touch -d` do.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns


def kind_of(path: str | Path) -> str:
    """In words, "a recording" or "text"; empty of a file that is of no known kind, or cannot be read."""
    path = Path(path)
    try:
        if path.is_dir():
            return "a folder"
        if not path.is_file():  # to look into a pipe would empty it
            return ""
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
    except (OSError, ValueError):
        return ""
    if not start:
        return "an empty file"
    if start.startswith(b"PK\x03\x04"):
        return _archive(path)
    if found := next((kind for pattern, kind in BEGINNINGS if pattern.match(start)), ""):
        return found
    return "text" if _is_text(start) else ""


def _archive(path: Path) -> str:
    """Of what torch.save writes, a ZIP archive, or of another one."""
    try:
        with zipfile.ZipFile(path) as bundle:
            names = bundle.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return TRUNCATED
    return CHECKPOINT if any(name.endswith("/data.pkl") for name in names) else "a ZIP archive"


def _is_text(start: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        getincrementaldecoder("utf-8")().decode(start)  # whose last character may be cut
        return b"\0" not in start
    return False
