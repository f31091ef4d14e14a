"""What is on disk: hashes of recordings, kept by path and stamp, and the caches that there are."""

import json
import logging
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Literal

import pandas as pd
from filelock import FileLock, Timeout

from cry_lightning.audio import what_it_is
from cry_lightning.console import UserError, progress_bar
from cry_lightning.data.cachefile import BAD, PENDING, UNREADABLE, CacheFile, clear
from cry_lightning.data.soundness import damage, forget
from cry_lightning.files import Json, Stamp, replacing, sha256, stamp, waited_for

log = logging.getLogger(__name__)


SHA256 = re.compile("[0-9a-f]{64}")
INDEX_NAME = "content-index.json"


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
        state, known = index.get(str(path.absolute()), (None, ""))
        if state is not None and state == _stamp(path):
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


def hash_anew(path: Path, folder: Path) -> None:
    """Have a file read by whoever asks for its hash next, since it can be read no more, perhaps for ever."""
    _merge(folder, {}, str(path.absolute()))


def recordings_of(hashes: Iterable[str], folder: Path) -> dict[str, Path]:
    """The files that have these hashes, as the index in a folder knows them, if they have not changed since."""
    wanted = set(hashes)
    known = ((Path(name), state, content) for name, (state, content) in _read(folder / INDEX_NAME).items())
    return {content: path for path, state, content in known if content in wanted and state == _stamp(path)}


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp(path)
    except OSError:
        return None


def _hash(path: Path, new: Index) -> str:
    before = _stamp(path)
    try:
        if kind := what_it_is(path):
            return f"unreadable:is {kind}"  # opening a named pipe would wait for ever
        content = sha256(path)
    except OSError as error:
        return f"unreadable:{error.strerror}"
    if before is not None and before == _stamp(path):  # else it changed while it was read
        new[str(path.absolute())] = before, content
    return content


def _read(path: Path) -> Index:
    try:
        entries = json.loads(path.read_text())
        return {
            name: (tuple(state), content) for name, (*state, content) in entries.items() if SHA256.fullmatch(content)
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        log.warning("%s is damaged (%s): all audio is read again", path, error)
        return {}


def _merge(folder: Path, new: Index, gone: str = "") -> None:
    path = folder / INDEX_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            waited_for(path.with_suffix(".lock"), f"{path} is being written by another process: waiting"),
            replacing(path) as part,
        ):
            merged = (_read(path) | new).items()
            entries = {name: (*state, content) for name, (state, content) in merged if name != gone}
            part.write_text(json.dumps(entries, indent=0))
    except (OSError, UserError) as error:
        log.warning("%s; the audio will be read again next time", error)


@dataclass(frozen=True)
class CacheInfo:
    """One cache, as a listing shows it; a damaged one has no more than a name, a size and an age."""

    name: str  # by which it is removed
    state: Literal["whole", "partial", "damaged"]
    bytes: int
    age_s: float
    corpus: str = ""
    feature: str = ""  # class and arguments
    rows: int = 0
    bad: int = 0
    shape: tuple[int, ...] = ()  # (C, F, T) of a row


def list_caches(folder: str | Path) -> list[CacheInfo]:
    """Every cache in a folder, whole or not, by name."""
    paths = [path for path in sorted(Path(folder).glob("*.h5*")) if path.name.endswith((".h5", ".h5.part"))]
    return [_describe(path) for path in paths]


def remove_caches(folder: str | Path, names: list[str]) -> list[Path]:
    """Delete caches by their listed names, whole and partial; returns the files deleted.

    Raises:
        UserError: a name is not listed (nothing is deleted then), or a cache is being built.
    """
    known = sorted({info.name for info in list_caches(folder)})
    for name in names:
        if name not in known:
            raise UserError(f"no cache {name!r} in {folder}; there are: {', '.join(known) or 'none'}")
    removed: list[Path] = []
    for name in names:
        try:
            with ExitStack() as locks:
                for lock in (Path(folder) / f"{name}.lock", *Path(folder).glob(f"{escape(name)}.shard-*.lock")):
                    locks.enter_context(FileLock(lock, timeout=0))
                paths = [Path(folder) / f"{name}{suffix}" for suffix in (".h5", ".h5.part")]
                files = [path for path in paths if os.path.lexists(path)]
                for path in files:
                    forget(path)
                    clear(path)
        except Timeout as error:
            raise UserError(f"cache {name} is being built: stop that build first") from error
        removed += files
    return removed


def _describe(path: Path) -> CacheInfo:
    name, status = path.name.partition(".h5")[0], path.lstat()
    age_s = max(0.0, time.time() - status.st_mtime)  # the clock of another machine may be ahead
    try:
        file = CacheFile(path)
        done, attributes = file.column("done"), file.attributes
        whole = path.suffix == ".h5"
        if whole and damage(path, {}, file.shape):
            raise ValueError("damaged")
        arguments = json.loads(str(attributes["feature"]))
        feature = arguments.pop("class_path").rpartition(".")[2]
        arguments.pop("version")
        return CacheInfo(
            name=name,
            state="whole" if whole else "partial",
            bytes=status.st_size,
            age_s=age_s,
            corpus=str(attributes["corpus"]),
            feature=f"{feature}({', '.join(f'{key}={value}' for key, value in arguments.items())})",
            rows=int((done != PENDING).sum()),
            bad=int((done == BAD).sum()),
            shape=file.shape[1:],
        )
    except UNREADABLE:
        return CacheInfo(name, "damaged", status.st_size, age_s)


def look_after(folder: str, listed: bool, remove: Sequence[str]) -> None:
    """Remove and list caches."""
    if remove:
        for path in remove_caches(folder, list(remove)):
            print(f"removed {path}")
    if listed:
        rows = [describe(cache) for cache in list_caches(folder)]
        print(pd.DataFrame(rows).to_string(index=False) if rows else f"no cache in {folder}")


def describe(cache: CacheInfo) -> Json:
    """One line of the list."""
    return {
        "name": cache.name,
        "state": cache.state,
        "corpus": cache.corpus,
        "feature": cache.feature,
        "clips": cache.rows,
        "bad": cache.bad,
        "shape": "x".join(map(str, cache.shape)),
        "MB": f"{cache.bytes / 1e6:.1f}",
        "age (h)": f"{cache.age_s / 3600:.1f}",
    }
