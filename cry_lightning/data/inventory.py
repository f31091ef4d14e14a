"""What lies in a cache folder, and how to be rid of it."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from cry_lightning.data.cachefile import BAD, PENDING, UNREADABLE, CacheFile, clear, damage
from cry_lightning.errors import UserError


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
            with FileLock(Path(folder) / f"{name}.lock", timeout=0):
                files = [path for path in _files(folder, name) if os.path.lexists(path)]
                for path in files:
                    clear(path)
        except Timeout as error:
            raise UserError(f"cache {name} is being built: stop that build first") from error
        removed += files
    return removed


def _files(folder: str | Path, name: str) -> list[Path]:
    return [Path(folder) / f"{name}{suffix}" for suffix in (".h5", ".h5.part")]


def _describe(path: Path) -> CacheInfo:
    name, status = path.name.partition(".h5")[0], path.lstat()
    age_s = time.time() - status.st_mtime
    try:
        file = CacheFile(path)
        done, attributes = file.column("done"), file.attributes
        whole = path.suffix == ".h5"
        if whole and damage(path, {}, file.shape):
            raise ValueError("damaged")
        arguments = json.loads(attributes["feature"])
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
