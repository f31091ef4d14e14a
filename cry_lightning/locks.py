"""One process at a time in a folder: a lock that goes with the process that holds it, however that ends."""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from cry_lightning.errors import UserError

LOCK = ".lock"  # held while a command is at work in a folder, empty afterwards; it stays, as the mark of a run
log = logging.getLogger(__name__)
_held: set[TextIOWrapper] = set()


def _let_go() -> None:
    """Close in a forked child what its parent holds, or the lock would outlive the parent with the child."""
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where it is missing, against every other process.

    Raises:
        UserError: another process holds it; it is named, with its machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(folder / LOCK, flags, 0o666), "r+", encoding="utf-8") as file:  # noqa: PTH123
        _take(file, folder)
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)
            file.seek(0)
            file.truncate()


def _take(file: TextIOWrapper, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = file.read().strip() or "another process"
        raise UserError(f"{folder}: {holder} is at work there; wait for its end, or give another --name") from error
    except OSError as error:  # some network file systems have none
        log.warning("%s: no locks there (%s); let no two commands work in it at once", folder, error.strerror)
    file.truncate()
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
