"""Features of many clips, computed in batches by this process or by workers; what fails is told row by row."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from cry_lightning import audio
from cry_lightning.corpora.base import Clip, Corpus
from cry_lightning.errors import UserError
from cry_lightning.features.base import Feature

Batch = tuple[range, np.ndarray, list[str]]  # rows, their features (B, C, F, T), and why each is bad ("": it is good)


class ClipBatches(Dataset[Batch]):
    """Maps a range of rows to their features; the features of bad rows are zeros.

    A recording stays open from row to row, so that a long one is decoded once, not for each of its windows.

    Args:
        corpus: where the clips lie.
        clips: one per row.
        feature: front end from waveform to feature.
        clip_s: seconds that every clip is fitted to.
        fit: how a shorter clip is fitted.
        dtype: of the features returned.
    """

    def __init__(
        self, corpus: Corpus, clips: list[Clip], feature: Feature, clip_s: float, fit: audio.Fit, dtype: str
    ) -> None:
        self.paths = [corpus.path_of(clip) for clip in clips]
        self.stretches = [(clip.start_s, clip.duration_s) for clip in clips]
        self.feature = feature
        self.clip_s = clip_s
        self.fit = fit
        self.dtype = dtype
        self.recording: audio.Recording | None = None  # of the last row, still open: many rows may be its windows

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"recording": None}  # a worker opens its own

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: range) -> Batch:
        waveforms = np.zeros((len(rows), round(self.clip_s * self.feature.sample_rate)), np.float32)
        reasons = [""] * len(rows)
        for row in sorted(rows, key=lambda row: (self.paths[row], self.stretches[row][0])):  # each is decoded once
            i = row - rows.start
            try:
                waveforms[i] = self.waveform(row)
            except (UserError, OSError) as error:
                reasons[i] = str(error).removeprefix(f"{self.paths[row]}: ") or type(error).__name__
        # Bad rows stay in the batch as silence: a row's last bit may depend on the batch's size.
        with torch.inference_mode(), np.errstate(over="ignore"):
            features = self.feature(torch.from_numpy(waveforms)).numpy().astype(self.dtype)
        finite = np.isfinite(features).all(axis=(1, 2, 3))
        reasons = [
            reason or ("" if ok else f"the feature is not finite in {self.dtype}")
            for reason, ok in zip(reasons, finite, strict=True)
        ]
        features[[bool(reason) for reason in reasons]] = 0
        return rows, features, reasons

    def waveform(self, row: int) -> np.ndarray:
        """The clip of one row, decoded and fitted (N,); windows of one recording, in the order of time, cost least."""
        path, (start_s, duration_s) = self.paths[row], self.stretches[row]
        if self.recording is None or self.recording.path != path:
            self.close()
            self.recording = audio.Recording(path)
        return self.recording.fitted(self.feature.sample_rate, self.clip_s, self.fit, start_s, duration_s)

    def close(self) -> None:
        """Let go of the last recording."""
        if self.recording is not None:
            self.recording.close()
            self.recording = None


def batch_loader(dataset: ClipBatches, batches: list[range], workers: int) -> DataLoader[Batch]:
    """Yields the features of these ranges of rows, computed by workers of one thread each or, with none, here."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        multiprocessing_context="spawn" if workers else None,  # a forked process inherits locks that may be held
    )


def _as_it_is(batch: Any) -> Any:
    return batch


@contextmanager
def killed_workers_told(workers: int) -> Iterator[None]:
    """Turns the loader's alarm, which a signal raises wherever the process is then, into a UserError."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise UserError(
            f"a worker that computed features was killed, perhaps for want of memory: use fewer than {workers} workers;"
            " what was done is kept"
        ) from error
