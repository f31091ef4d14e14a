"""Content hashes of audio files, kept in an index so that only changed files are read again."""

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path

from cry_lightning.audio import what_it_is
from cry_lightning.errors import UserError
from cry_lightning.locks import waited_for
from cry_lightning.progress import progress_bar
from cry_lightning.writing import replacing

log = logging.getLogger(__name__)
SHA256 = re.compile("[0-9a-f]{64}")
INDEX_NAME = "content-index.json"
Stamp = tuple[int, int]  # size in bytes, time of last change in nanoseconds
Index = dict[str, tuple[Stamp, str]]  # absolute path -> when it was read, and its hash


def content_hashes(paths: Iterable[Path], folder: Path, reread: bool = False) -> dict[Path, str]:
    """The SHA-256 of each file's bytes, or "unreadable:<reason>".

    Args:
        paths: files, in any order, repeated or not.
        folder: where the index lies.
        reread: read every file, whatever the index says.
    """
    index: Index = {} if reread else _read(folder / INDEX_NAME)
    hashes: dict[Path, str] = {}
    unread: list[Path] = []
    for path in dict.fromkeys(paths):
        stamp, known = index.get(str(path.absolute()), (None, ""))
        if stamp is not None and stamp == _stamp(path):
            hashes[path] = known
        else:
            unread.append(path)
    new: Index = {}
    try:
        for path in progress_bar(unread, "hash audio", unit="file", leave=False, hidden=not unread):
            hashes[path] = _hash(path, new)
    finally:  # an interrupted run keeps what it has read
        if new:
            _merge(folder, new)
    return hashes


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _hash(path: Path, new: Index) -> str:
    before = _stamp(path)
    try:
        if kind := what_it_is(path):
            return f"unreadable:is {kind}"  # opening a named pipe would wait for ever
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable:{error.strerror}"
    if before is not None and before == _stamp(path):  # else it changed while it was read
        new[str(path.absolute())] = before, content
    return content


def _read(path: Path) -> Index:
    try:
        entries = json.loads(path.read_text())
        return {
            name: ((size, mtime_ns), content)
            for name, (size, mtime_ns, content) in entries.items()
            if SHA256.fullmatch(content)
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        log.warning("%s is damaged (%s): all audio is read again", path, error)
        return {}


def _merge(folder: Path, new: Index) -> None:
    path = folder / INDEX_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            waited_for(path.with_suffix(".lock"), f"{path} is being written by another process: waiting"),
            replacing(path) as part,
        ):
            entries = {name: (*stamp, content) for name, (stamp, content) in (_read(path) | new).items()}
            part.write_text(json.dumps(entries, indent=0))
    except (OSError, UserError) as error:
        log.warning("%s; the audio will be read again next time", error)
