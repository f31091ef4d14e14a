"""Reading a whole feature cache: batches gathered from a memory map."""

import math
import mmap
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cry_lightning.data.cachefile import GOOD, CacheFile

# Without it Linux refuses to map caches larger than the memory; Python has a name for it from 3.13 on.
MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class CachedFeatures:
    """The features of a cache, opened at the first use in each process; pickled, it is its path.

    Args:
        path: a whole cache file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    @cached_property
    def _file(self) -> CacheFile:
        return CacheFile(self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, C, F, T): one row per clip of the corpus, bad ones included."""
        return self._file.shape

    @cached_property
    def good(self) -> np.ndarray:
        """Which rows hold a feature (n,); the others are masked: all zeros."""
        return self._file.column("done") == GOOD

    @cached_property
    def bad(self) -> dict[int, str]:
        """Row -> why it is masked."""
        return self._file.reasons()

    @cached_property
    def content(self) -> list[str]:
        """What each row was made from: the hash of its file, and the stretch of it."""
        return self._file.texts("content")

    @cached_property
    def _rows(self) -> Tensor:
        # Private and writable, though nothing writes: torch takes no read-only memory without a warning.
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | MAP_NORESERVE)
        dtype = getattr(torch, self._file.dtype.name)
        numbers = torch.frombuffer(mapped, dtype=dtype, count=math.prod(self.shape), offset=self._file.offset)
        return numbers.view(self.shape[0], -1)

    def gather(self, rows: Tensor) -> Tensor:
        """Features (B, C, F, T) in float32 of these rows (B,).

        Raises:
            IndexError: there is no such row.
        """
        return torch.index_select(self._rows, 0, rows).view(-1, *self.shape[1:]).float()
