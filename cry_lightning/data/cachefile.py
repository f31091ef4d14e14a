"""The file behind a feature cache: its layout, rows that outlive a kill, and what distinguishes sound from damaged."""

import errno
import math
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from cry_lightning.console import UserError
from cry_lightning.files import Json

PENDING, GOOD, BAD = 0, 1, 2  # values of the `done` column
# Dataset -> kinds of numpy types that it may hold.
COLUMNS = {
    "features": "f",
    "done": "u",
    "crc32": "u",
    "reason": "S",
    "landmarks": "S",
    "clip": "S",
    "content": "S",
    "checksum": "u",
}
TWICE = "bad_are_read_twice"  # an attribute: a moment's fault of the disk is no reason there
REASON_BYTES = 200
ATTRIBUTE_BYTES = 60_000  # HDF5 has room for 64 KB
STRUCTURE_BYTES = 2**18  # more than HDF5 needs for headers, attributes and alignment
# Format 1.8 has checksums in its headers, and no "open for writing" mark for a kill to leave behind. Datasets begin at
# memory pages.
HDF5_OPTIONS = {"libver": ("v108", "v108"), "alignment_threshold": 4096, "alignment_interval": 4096}
# What HDF5's bindings are known to raise on broken files, and what broken columns make of the code below.
UNREADABLE = (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError)
BLOCK_BYTES, BLOCK_ROWS = 2**22, 10_000  # read at once for checking
NO_RESERVING = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)


class CacheFile:
    """An HDF5 file of contiguous datasets, one row per clip, each dataset reached by its offset in the file.

    HDF5 makes the file and tells its layout, no more: rows are written past it, so that there is no moment at which
    a killed process leaves a broken structure behind.

    Datasets: features (n, C, F, T); done, crc32, reason and landmarks (how it sounds, see `acoustic_fingerprint`) (n,)
    of each row; clip and content (n,), what the row was made from; checksum (1,), over all of these but the features.

    Raises:
        UNREADABLE: the file is not readable as such.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():  # a pipe would be waited for
            raise OSError("it is no file")
        # Through a file object HDF5 takes no lock, which a listing would then wait for, or a builder.
        with path.open("rb") as raw, h5py.File(raw, "r") as file:
            self.attributes: Json = dict(file.attrs)
            self.layout = {name: _place(file, name) for name in COLUMNS}
        self.offset, self.shape, self.dtype = self.layout["features"]
        self._check_layout()

    def _check_layout(self) -> None:
        size, n = self.path.stat().st_size, self.shape[0]
        for name, (offset, shape, dtype) in self.layout.items():
            if offset + math.prod(shape) * dtype.itemsize > size:
                raise ValueError(f"{name} goes beyond the end of the file")
            if name != "features" and shape != ((1,) if name == "checksum" else (n,)):
                raise ValueError(f"{name} has shape {shape}")
            if dtype.kind not in COLUMNS[name] or not dtype.isnative:
                raise ValueError(f"{name} holds {dtype}")

    def column(self, name: str) -> np.ndarray:
        """A dataset as a read-only memory map, which follows later writes."""
        offset, shape, dtype = self.layout[name]
        return np.memmap(self.path, dtype, "r", offset, shape)

    def _rows(self, name: str, rows: slice) -> np.ndarray:
        """Some rows of a column, read, not mapped."""
        offset, _, dtype = self.layout[name]
        return np.fromfile(self.path, dtype, rows.stop - rows.start, offset=offset + rows.start * dtype.itemsize)

    def texts(self, name: str) -> list[str]:
        """A dataset of texts."""
        return [text.decode(errors="surrogateescape") for text in self.column(name).tolist()]

    def holds(self, name: str, texts: Sequence[str]) -> bool:
        """Whether a dataset is of these texts."""
        return self.shape[0] == len(texts) and all(
            self._rows(name, rows).tolist() == [_encoded(text) for text in texts[rows]] for rows in _blocks(len(texts))
        )

    def reasons(self) -> dict[int, str]:
        """Row -> why it is bad."""
        reasons = self.column("reason")
        rows = np.flatnonzero(self.column("done") == BAD).tolist()
        return {row: bytes(reasons[row]).decode(errors="ignore") for row in rows}

    def checksum(self) -> int:
        """CRC-32 over every column but the features, which have one per row."""
        total = 0
        with self.path.open("rb") as file:  # read, not mapped: maps of large columns would count as memory
            for name in ("done", "crc32", "reason", "landmarks", "clip", "content"):
                offset, shape, dtype = self.layout[name]
                file.seek(offset)
                left = math.prod(shape) * dtype.itemsize
                while left and (block := file.read(min(left, BLOCK_BYTES))):
                    total, left = zlib.crc32(block, total), left - len(block)
        return total

    def has_sound_columns(self) -> bool:
        """Whether every column but the features is as it was stored; it reads them."""
        return bool(self.column("checksum")[0] == self.checksum())

    def begin(self, texts: Mapping[str, Sequence[str]]) -> None:
        """Store the columns of text of a new file, and that no row is done."""
        with self.path.open("r+b") as file:
            for rows in _blocks(self.shape[0]):
                for name in ("done", "crc32", "reason", "landmarks"):
                    self._put(file, name, rows.start, np.zeros(rows.stop - rows.start, self.layout[name][2]))
                for name, column in texts.items():
                    values = [_encoded(text) for text in column[rows]]
                    self._put(file, name, rows.start, np.array(values, self.layout[name][2]))

    def write_rows(self, rows: range, features: np.ndarray, reasons: list[str], landmarks: Sequence[str] = ()) -> None:
        """Store rows (B, C, F, T), and mark them as done once they have reached the disk.

        Args:
            reasons: of each row, why it is bad; empty for a good one.
            landmarks: of each row, or of none.
        """
        features = np.ascontiguousarray(features)
        crc32 = np.array([zlib.crc32(row) for row in features], np.uint32)
        encoded = [reason.encode()[:REASON_BYTES] for reason in reasons]
        done = np.array([BAD if reason else GOOD for reason in reasons], np.uint8)
        with self.path.open("r+b") as file:
            self._put(file, "features", rows.start, features)
            self._put(file, "crc32", rows.start, crc32)
            self._put(file, "reason", rows.start, np.array(encoded, f"S{REASON_BYTES}"))
            if landmarks:
                self._put(file, "landmarks", rows.start, np.array(landmarks, self.layout["landmarks"][2]))
            _to_disk(file)
            self._put(file, "done", rows.start, done)

    def forget(self, rows: np.ndarray) -> None:
        """Mark rows as not done."""
        done = self.column("done").copy()
        done[rows] = PENDING
        with self.path.open("r+b") as file:
            self._put(file, "done", 0, done)

    def seal(self) -> None:
        """Store the checksum, once every row is done, and tell of the bad rows in the file's attributes."""
        if bad := self.reasons():
            names = self.texts("clip")
            listed = "\n".join(f"{names[row]}: {reason}" for row, reason in bad.items()).encode(errors="replace")
            with h5py.File(self.path, "r+", **HDF5_OPTIONS) as hdf5:
                # As far as there is room: the dataset `reason` has them all.
                listed = listed[:ATTRIBUTE_BYTES]
                hdf5.attrs.update({"n_bad": len(bad), "bad": listed.decode(errors="ignore"), TWICE: 1})
        with self.path.open("r+b") as file:
            self._put(file, "checksum", 0, np.array([self.checksum()], np.uint32))
            _to_disk(file)

    def _put(self, file: BinaryIO, name: str, first_row: int, values: np.ndarray) -> None:
        offset, shape, dtype = self.layout[name]
        file.seek(offset + first_row * math.prod(shape[1:]) * dtype.itemsize)
        file.write(np.ascontiguousarray(values, dtype).view(np.uint8).data)

    def damaged_rows(self) -> np.ndarray:
        """Rows that are done but do not match their checksum, found by reading all of them, a few megabytes at once.

        CRC-32 takes 0.5 s per GB on one core, and reading as long as the disk takes; memory does not grow.
        """
        done, crc32 = self.column("done"), self.column("crc32")
        damaged = done > BAD
        for part in _blocks(len(done)):  # so torn in an unfinished file
            damaged[part] |= (done[part] != PENDING) & ((self._rows("reason", part) == b"") != (done[part] == GOOD))
        n_rows, n_bytes = len(done), math.prod(self.shape[1:]) * self.dtype.itemsize
        at_once = max(1, BLOCK_BYTES // n_bytes)
        with self.path.open("rb") as file:
            for first in range(0, n_rows, at_once):
                rows = range(first, min(first + at_once, n_rows))
                if not done[rows.start : rows.stop].any():
                    continue
                file.seek(self.offset + first * n_bytes)
                block = memoryview(file.read(len(rows) * n_bytes))
                found = [zlib.crc32(block[start : start + n_bytes]) for start in range(0, len(block), n_bytes)]
                damaged[first : rows.stop] |= np.array(found, np.uint32) != crc32[first : rows.stop]
        return np.flatnonzero(damaged & (done != PENDING))

    def fault(self, attributes: Mapping[str, object], shape: tuple[int, ...]) -> str | None:
        """Why this file is not the one that these stand for; None if it is. Its rows may be unfinished."""
        if any(self.attributes[name] != value for name, value in attributes.items()):
            return "was made of other audio or with other settings"
        if self.shape != shape:
            return f"holds features of shape {self.shape}, not {shape}"
        if self.dtype != self.attributes["dtype"]:
            return f"holds features in {self.dtype}, not in {self.attributes['dtype']}"
        return None


def _place(file: h5py.File, name: str) -> tuple[int, tuple[int, ...], np.dtype]:
    """Offset, shape and type of a dataset whose numbers lie in the file itself, in one piece."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is missing, or elsewhere")
    data = file[name]
    offset = data.id.get_offset()
    if offset is None:
        raise ValueError(f"{name} lies in other files, or in pieces")
    return offset, data.shape, data.dtype


def clear(path: Path) -> None:
    """Remove what stands where a cache file shall be.

    Raises:
        UserError: it is a folder with something in it.
    """
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
    elif any(path.iterdir()):
        raise UserError(f"{path}: is a folder with something in it, where a cache shall be; remove it")
    else:
        path.rmdir()


def create(
    path: Path,
    shape: tuple[int, ...],
    dtype: str,
    clips: Sequence[str],
    content: Sequence[str],
    attributes: Mapping[str, object],
    landmark_bytes: int = 1,
) -> CacheFile:
    """Make a cache file with no row done, room for landmarks of that many bytes, and all space on the disk reserved.

    Raises:
        OSError: there is no room for it; nothing is left behind.
    """
    n, texts = len(clips), {"clip": clips, "content": content}
    widths = {name: max(1, max(map(len, map(_encoded, column)))) for name, column in texts.items()}
    columns: dict[str, str | np.dtype] = {
        "done": "u1",
        "crc32": "u4",
        "reason": f"S{REASON_BYTES}",
        "landmarks": f"S{landmark_bytes}",
        **{name: f"S{width}" for name, width in widths.items()},
    }
    columns_bytes = sum(n * np.dtype(kind).itemsize for kind in columns.values())
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize + columns_bytes + STRUCTURE_BYTES
    clear(path)  # not what a link there may point to
    try:
        # HDF5 writes through this file object, because given a path it would free what has been reserved.
        with path.open("wb+") as raw, h5py.File(raw, "w", **HDF5_OPTIONS) as file:
            _reserve(raw, n_bytes)
            _allocate(file, "features", shape, dtype)
            for name, kind in columns.items():
                _allocate(file, name, (n,), kind)
            file.create_dataset("checksum", data=np.zeros(1, np.uint32))
            file.attrs.update(attributes)
        made = CacheFile(path)
        made.begin(texts)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return made


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _blocks(n: int) -> Iterator[slice]:
    """The rows (n,) of columns, as many as are in memory at once."""
    for first in range(0, n, BLOCK_ROWS):
        yield slice(first, min(first + BLOCK_ROWS, n))


def _reserve(file: BinaryIO, n_bytes: int) -> None:
    """Take the space on the disk; where the system cannot (macOS, some file systems), make sure that it is free now."""
    try:
        os.posix_fallocate(file.fileno(), 0, n_bytes)
        return
    except AttributeError:
        pass
    except OSError as error:
        if error.errno not in NO_RESERVING:
            raise
    if shutil.disk_usage(Path(file.name).parent).free < n_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    file.truncate(n_bytes)


def _allocate(file: h5py.File, name: str, shape: tuple[int, ...], dtype: str | np.dtype) -> None:
    # Contiguous and allocated at once, so that rows have an address before the first is written.
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(np.dtype(dtype))
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), properties)


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    getattr(os, "fdatasync", os.fsync)(file.fileno())  # macOS lacks the first
