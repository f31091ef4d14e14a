"""Files and folders written completely or not at all, by one process at a time."""

import errno
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout

from cry_lightning.console import UserError, for_spreadsheets

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
LOCK = ".lock"  # held while a command is at work in a folder, empty afterwards; it stays, as the mark of a run
MADE_FROM = "made_from.json"  # in a run folder: what it was made from
OLDER = ".replaced"  # in one: the run there until the one that takes its place is finished; the mark of such a one
MOVING = f"{OLDER}.part"  # where it lies while it is moved there, or back
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # of some network file systems


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A `.part` path to write to, which takes the place of `path` only when the block ends well, else is removed.

    A file is on the disk before it is renamed, so that a power cut leaves the older one or the new one whole.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if part.is_file():
            with part.open("r+b") as file:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The same, for what a command writes.

    Raises:
        UserError: the disk is full, or the path cannot be written for another reason; what was there is unchanged.
    """
    try:
        with whole(path) as part:
            yield part
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({reason}); {way_out(error)}, or name another place") from error


def way_out(error: OSError) -> str:
    """What helps where the system does not let a file be written."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "get the right to write there"
    return "raise the limit on the size of files (ulimit -f)" if error.errno == errno.EFBIG else "make room"


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Write a JSON object by `replacing`."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")


def write_text(text: str, path: Path) -> None:
    """Write a text by `replacing`; of a file name that is no UTF-8, the bytes are escaped."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_table(
    table: "pd.DataFrame",
    path: Path,
    float_format: str | None = None,
    errors: Literal["strict", "backslashreplace"] = "strict",
) -> None:
    """Write a CSV file for people by `replacing`; arguments as of pandas."""
    with replacing(path) as part:
        for_spreadsheets(table).to_csv(part, index=False, float_format=float_format, errors=errors)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """The same of a folder: a `.part` folder to write into, which becomes `path`, where nothing may be yet."""
    with replacing(path) as part:
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir()
        try:
            yield part
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where it is missing, against every other process.

    Raises:
        UserError: another process holds it; it is named, with its machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        holder = path.read_text(encoding="utf-8").strip() or "another process"
        raise UserError(
            f"{folder}: {holder} is at work there; wait for its end, or give another --name, or a study another --out"
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        log.warning("%s: no locks there (%s); let no two commands work in it at once", folder, error)
    path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.truncate(path, 0)
        lock.release()


@contextmanager
def waited_for(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock file, which another process may hold for a while: that is logged once."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
