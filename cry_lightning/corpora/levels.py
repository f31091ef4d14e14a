"""How loud the windows of long recordings are, remembered from one listing to the next."""

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

from cry_lightning import audio
from cry_lightning.files import read_object_if_any, stamp

log = logging.getLogger(__name__)
BLOCK_S = 10.0
FLOOR_DB = -120.0  # the level of digital silence


class LevelIndex:
    """The levels of windows already measured, in a JSON file that is written when the `with` block ends.

    A recording at the same path, and as it was, is not decoded again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "LevelIndex":
        self.known = _read(self.path)
        self.n_measured = 0
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.n_measured:
            return
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(self.known))
            part.replace(self.path)
        except OSError as failure:
            log.warning("%s cannot be written (%s): levels are measured again next time", self.path, failure.strerror)
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def of(self, path: Path, spans: list[tuple[float, float]]) -> list[float]:
        """Level of each span (start and duration in seconds) of a recording, in dB relative to full scale.

        The spans lie on one grid: same duration, same distance.

        Raises:
            AudioError: the recording cannot be decoded.
        """
        key = json.dumps([str(path.absolute()), *stamp(path), spans[0], spans[-1][0], len(spans)])
        if len(self.known.get(key, [])) != len(spans):
            self.known[key] = measure(path, spans)
            self.n_measured += 1
        return self.known[key]


def _read(path: Path) -> dict[str, list[float]]:
    numbers = (int, float)
    return {
        key: levels
        for key, levels in read_object_if_any(path).items()
        if isinstance(levels, list) and all(isinstance(level, numbers) and level == level for level in levels)
    }


def measure(path: Path, spans: list[tuple[float, float]]) -> list[float]:
    """Root-mean-square level of each span, in dB relative to full scale, from one pass in constant memory."""
    sample_rate = audio.info(path).sample_rate
    origin_s, end_s = spans[0][0], max(start_s + duration_s for start_s, duration_s in spans)
    edges = np.rint(np.array([(s - origin_s, s - origin_s + d) for s, d in spans]) * sample_rate).astype(int)
    energy_until = np.zeros(edges.shape)  # summed up from the origin to each edge
    position, total = 0, 0.0
    for block in audio.blocks(path, sample_rate, BLOCK_S, origin_s, end_s - origin_s):
        summed = total + np.concatenate([[0.0], np.cumsum(np.square(block, dtype=np.float64))])
        here = (edges >= position) & (edges <= position + block.size)
        energy_until[here] = summed[edges[here] - position]
        position, total = position + block.size, summed[-1]
    energy_until[edges > position] = total
    power = (energy_until[:, 1] - energy_until[:, 0]) / np.maximum(edges[:, 1] - edges[:, 0], 1)
    return np.round(10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10))), 2).tolist()
