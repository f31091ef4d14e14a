"""What distinguishes a sound cache from a damaged one, and a note of it, so that a cache is read as a whole once.

The note beside a cache says in which state of the file all of it was sound: the next process that opens the same state
reads the columns `done` and `crc32` alone. Every other column, and every row, is checked where it is first used, see
`building.CachedFeatures`.
"""

import errno
import json
import os
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from cry_lightning.audio.containers import NO_FILE
from cry_lightning.console import UserError
from cry_lightning.data.cachefile import PENDING, TWICE, UNREADABLE, CacheFile
from cry_lightning.files import Stamp, replacing, stamp

RACY_NS = 2 * 10**9  # a file changed again this soon may bear the same time, as clocks of file systems are coarse
OF_SYSTEM = ["ENOENT", "ESTALE", "EIO", "EMFILE", "ENFILE", "EACCES", "EPERM", "ETIMEDOUT", "EHOSTDOWN", "ENOTCONN"]
FAULTS_OF_SYSTEM = (NO_FILE, *(f"({os.strerror(getattr(errno, name))})" for name in OF_SYSTEM if hasattr(errno, name)))

_read: set[Stamp] = set()  # states of files that this process has read as a whole, and found sound


def note_of(path: Path) -> Path:
    """Where the note of a cache file lies."""
    return path.with_suffix(".sound")


def damage(path: Path, attributes: Mapping[str, object], shape: tuple[int, ...]) -> str | None:
    """Why a cache file cannot be trusted, from its structure and columns alone; None if it can."""
    try:
        file = CacheFile(path)
        if fault := file.fault(attributes, shape):
            return fault
        if _is_noted(file):
            return None
        if n_missing := int((file.column("done") == PENDING).sum()):
            return f"lacks {n_missing} rows"
        if not file.has_sound_columns():
            return "has columns that do not match their checksum"
    except UNREADABLE as error:
        return f"cannot be read: {' '.join(str(error).split())}"
    return None


def newly_damaged_rows(file: CacheFile) -> np.ndarray:
    """As `CacheFile.damaged_rows`; of a file that was found sound, and that nobody has changed since, none is read."""
    if _is_noted(file):
        return np.array([], int)
    state, settled = stamp(file.path), abs(time.time_ns() - file.path.stat().st_mtime_ns) > RACY_NS
    damaged = file.damaged_rows()
    if settled and not len(damaged):
        _read.add(state)
        _write(file, state)
    return damaged


def unread_rows(file: CacheFile) -> list[int]:
    """Rows that are bad for a fault of the system, as of a network's disk, which may have been there for a moment only.

    Files that were read twice before that was said, as they are now, have none.
    """
    reasons = {} if TWICE in file.attributes else file.reasons()
    found = [row for row, reason in reasons.items() if reason.endswith(FAULTS_OF_SYSTEM)]
    content = file.column("content")
    return [row for row in found if not bytes(content[row]).startswith(b"unreadable:")]


def rows_to_mend(file: CacheFile) -> np.ndarray:
    """Those that are damaged, found by reading all, and those that could not be read."""
    return np.union1d(file.damaged_rows(), unread_rows(file)).astype(int)


def note_as_built(path: Path) -> None:
    """Note that a file is sound which this process has just written, or read, as a whole."""
    with suppress(OSError):
        status = path.stat()
        # A change that follows at once must not bear the same time, however coarse the clock.
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 2 * RACY_NS))
        _write(CacheFile(path), stamp(path))


def forget(path: Path) -> None:
    """Have a file read as a whole again by whoever opens it next."""
    with suppress(OSError):
        note_of(path).unlink(missing_ok=True)
    with suppress(OSError):
        _read.discard(stamp(path))


def was_read(path: Path) -> bool:
    """Whether this process has read all of a file as it is now, and found it sound."""
    return stamp(path) in _read


def damaged(path: Path, what: str) -> UserError:
    """The error of whoever finds damage in a file that is in use; the next build reads all of it, and mends it."""
    forget(path)
    first = f"have {note_of(path)} removed by its owner, then " if note_of(path).exists() else ""
    return UserError(
        f"{path} has {what}: {first}run `prepare` with the same config, or this command again, which mends it"
    )


def _is_noted(file: CacheFile) -> bool:
    state = stamp(file.path)
    if state in _read:
        return True
    try:
        return bool(json.loads(note_of(file.path).read_text()) == [*state, _of_few_bytes(file)])
    except (OSError, ValueError, RecursionError):
        return False


def _write(file: CacheFile, state: Stamp) -> None:
    with suppress(OSError, UserError), replacing(note_of(file.path)) as part:  # a folder may be read-only
        part.write_text(json.dumps([*state, _of_few_bytes(file)]))


def _of_few_bytes(file: CacheFile) -> int:
    """CRC-32 of the columns that every opening uses."""
    return zlib.crc32(file.column("crc32").data, zlib.crc32(file.column("done").data))
