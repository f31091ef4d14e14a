"""Building a cache: clips decoded, features computed in batches by workers, and read back."""

import logging
import math
import mmap
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cry_lightning import audio
from cry_lightning.console import UserError, counted, first_few, progress_bar
from cry_lightning.corpora import Clip, Clips, Corpus
from cry_lightning.corpora.clips import lost
from cry_lightning.data import soundness
from cry_lightning.data.cachefile import GOOD, PENDING, CacheFile
from cry_lightning.data.inventory import SHA256, hash_anew
from cry_lightning.features.base import Feature
from cry_lightning.files import Json, sha256
from cry_lightning.lineage import Recorded
from cry_lightning.lineage.acoustic_fingerprint import landmarks

log = logging.getLogger(__name__)


# Without it Linux refuses to map caches larger than the memory; Python has a name for it from 3.13 on.
MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
BATCH_SIZE = 64  # larger batches leave the processor's cache
MAX_BAD_SHARE = 0.05
Counts = Counter[str]


class CachedFeatures:
    """The features of a cache, opened at the first use in each process; pickled, it is its path.

    Args:
        path: a whole cache file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getstate__(self) -> Json:
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
        good: np.ndarray = self._file.column("done") == GOOD
        return good

    @cached_property
    def _columns(self) -> CacheFile:
        """The file, for the columns of text, once they are known to be sound."""
        if not (soundness.was_read(self.path) or self._file.has_sound_columns()):
            raise soundness.damaged(self.path, "columns that do not match their checksum")
        return self._file

    @cached_property
    def bad(self) -> dict[int, str]:
        """Row -> why it is masked."""
        return self._columns.reasons()

    def left_out(self, clips: Clips) -> tuple[Counts, Counts]:
        """Of how many recordings all clips are masked, by what is wrong in a word; and of the others, how many clips.

        Args:
            clips: of all rows.
        """
        recording, rows = clips.each(lambda clip: clip.path).codes, [*self.bad]
        whole = set(lost(recording, rows).tolist())
        kind_of: dict[int, str] = {}
        of_clips: Counts = Counter()
        for number, reason in zip(recording[rows].tolist(), self.bad.values(), strict=True):
            kind = audio.kind_of_fault(reason)
            if number in whole:
                kind_of.setdefault(number, kind)
            else:
                of_clips[kind] += 1
        return Counter(kind_of.values()), of_clips

    @cached_property
    def content(self) -> list[str]:
        """What each row was made from: the hash of its file, and the stretch of it."""
        return self._columns.texts("content")

    def sounds(self, rows: Tensor) -> Recorded:
        """What some rows (n,) hold and how they sound, as the lineage has it."""
        return Recorded(self._columns.column("content"), self._columns.column("landmarks"), rows.numpy())

    @cached_property
    def _rows(self) -> Tensor:
        # Private and writable, though nothing writes: torch takes no read-only memory without a warning.
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | MAP_NORESERVE)
        dtype = getattr(torch, self._file.dtype.name)
        numbers = torch.frombuffer(mapped, dtype=dtype, count=math.prod(self.shape), offset=self._file.offset)
        return numbers.view(self.shape[0], -1)

    @cached_property
    def _checksums(self) -> np.ndarray:
        return self._file.column("crc32")

    @cached_property
    def _checked(self) -> np.ndarray:
        """Which rows this process has compared with their checksums (n,)."""
        return np.full(self.shape[0], soundness.was_read(self.path))

    def gather(self, rows: Tensor) -> Tensor:
        """Features (B, C, F, T) in float32 of these rows (B,), each checked where it is first read.

        Raises:
            IndexError: there is no such row.
            UserError: a row is damaged.
        """
        found = torch.index_select(self._rows, 0, rows)
        self._check(rows.numpy(), found.numpy())
        return found.view(-1, *self.shape[1:]).float()

    def _check(self, rows: np.ndarray, found: np.ndarray) -> None:
        new = np.flatnonzero(~self._checked[rows])
        for place, crc32 in zip(new.tolist(), self._checksums[rows[new]].tolist(), strict=True):
            if zlib.crc32(found[place]) != crc32:
                raise soundness.damaged(self.path, f"a damaged row, number {rows[place]}")
        self._checked[rows[new]] = True


# Rows, their features (B, C, F, T), why each is bad ("": it is good), and the landmarks of each where they are wanted.
Batch = tuple[range, np.ndarray, list[str], list[str]]


class Unread(str):
    """Why a build ends: a file cannot be read now that could be when it was hashed."""

    __slots__ = ()


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
        landmarks: find those of each clip too.
        hashes: of the files of paths, where a fault of the disk is to be told from damage: what fails is tried again.
    """

    def __init__(
        self,
        corpus: Corpus,
        clips: Sequence[Clip],
        feature: Feature,
        clip_s: float,
        fit: audio.Fit,
        dtype: str,
        landmarks: bool = False,
        hashes: Mapping[str, str] | None = None,
    ) -> None:
        columns = Clips.of(clips)
        files = corpus.files(columns.used)
        number = {path: place for place, path in enumerate(files)}
        self.files = list(files.values())
        self.hashes = [hashes[path] for path in files] if hashes else []
        self.damaged: Path | None = None  # the last file that failed twice
        self.file_of = np.array([number.get(clip.path, -1) for clip in columns.sources], np.int32)[columns.source_of]
        self.stretches = np.stack([columns.start_s, columns.duration_s], axis=1)  # NaN: to the end of the file
        self.feature = feature
        self.clip_s = clip_s
        self.fit = fit
        self.dtype = dtype
        self.landmarks = landmarks
        self.recording: audio.Recording | None = None  # of the last row, still open: many rows may be its windows

    def __getstate__(self) -> Json:
        return self.__dict__ | {"recording": None}  # a worker opens its own

    def __len__(self) -> int:
        return len(self.file_of)

    def __getitem__(self, rows: range) -> Batch:
        rate, own_rate = self.feature.sample_rate, self.feature.own_rate
        silence = np.zeros((len(rows), round(self.clip_s * rate)), np.float32)
        waveforms, rates = list(silence) if own_rate else silence, [rate] * len(rows)
        reasons = [""] * len(rows)
        for row in sorted(rows, key=lambda row: (self.path(row), self.stretches[row, 0])):  # each is decoded once
            i = row - rows.start
            found = self._waveform_or_reason(row)
            if isinstance(found, str):
                reasons[i] = found
            else:
                waveforms[i], rates[i] = found
        # Bad rows stay in the batch as silence: a row's last bit may depend on the batch's size.
        blocks = [one[None] for one in waveforms] if own_rate else [np.asarray(waveforms)]
        rates = rates if own_rate else [rate]
        with torch.inference_mode(), np.errstate(over="ignore"):
            features = np.concatenate([self.feature(torch.from_numpy(block)).numpy() for block in blocks])
            features = features.astype(self.dtype)
        finite = np.isfinite(features).all(axis=(1, 2, 3))
        reasons = [
            reason or ("" if ok else f"the feature is not finite in {self.dtype}")
            for reason, ok in zip(reasons, finite, strict=True)
        ]
        features[[bool(reason) for reason in reasons]] = 0
        marks = [landmarks(block, rate) for block, rate in zip(blocks, rates, strict=True)] if self.landmarks else []
        return rows, features, reasons, list(chain.from_iterable(marks))

    def path(self, row: int) -> Path:
        """The file of one row."""
        return self.files[int(self.file_of[row])]

    def _waveform_or_reason(self, row: int) -> tuple[np.ndarray, int] | str:
        """As `waveform`, or why there is none."""
        path = self.path(row)
        try:
            return self.waveform(row)
        except (UserError, OSError) as error:
            reason = str(error).removeprefix(f"{path}: ") or type(error).__name__
            hashed = self.hashes[int(self.file_of[row])] if self.hashes else ""
            if not SHA256.fullmatch(hashed):  # nor could it be read before
                return reason
            if (unread := self._unread(path, hashed, error)) or self.damaged == path:
                return Unread(f"{path}: {unread}") if unread else reason
        self.damaged = path
        self.close()
        found = self._waveform_or_reason(row)  # what was of a moment has passed
        if not isinstance(found, str):
            self.damaged = None
        return found

    def _unread(self, path: Path, hashed: str, error: Exception) -> str:
        """Why a file that failed is not to be judged by that; empty where it is as it was."""
        fault = audio.fault_of_system(error)
        try:
            if fault is None and self.damaged != path and sha256(path) != hashed:
                return "has changed since it was hashed"
        except OSError as failure:  # decoders do not tell it from a broken file
            fault = failure
        return f"could be read when it was hashed, and now cannot ({fault.strerror})" if fault else ""

    def waveform(self, row: int) -> tuple[np.ndarray, int]:
        """The clip of one row, decoded and fitted (N,), and its sample rate in Hz.

        Windows of one recording, in the order of time, cost least.
        """
        path, (start_s, duration_s) = self.path(row), self.stretches[row].tolist()
        length_s = None if math.isnan(duration_s) else duration_s
        if self.recording is None or self.recording.path != path:
            self.close()
            self.recording = audio.Recording(path)
        rate = self.feature.rate_of(self.recording.sample_rate)
        return self.recording.fitted(rate, self.clip_s, self.fit, start_s, length_s), rate

    def close(self) -> None:
        """Let go of the last recording."""
        if self.recording is not None:
            self.recording.close()
            self.recording = None


@contextmanager
def as_worker_errors(workers: int) -> Iterator[None]:
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


def batches_of(n: int, shard: int = 1, shards: int = 1) -> list[range]:
    """The rows of each batch, or of each in one of several shards, numbered from 1.

    They always begin at the same rows, so that a build that was stopped, or shared, gives the same bits as any other.
    """
    batches = [range(first, min(first + BATCH_SIZE, n)) for first in range(0, n, BATCH_SIZE)]
    return batches[len(batches) * (shard - 1) // shards : len(batches) * shard // shards]


def fill(file: CacheFile, dataset: ClipBatches, corpus_name: str, workers: int, batches: list[range]) -> None:
    """Compute every row of these batches that is not done, and list the bad ones at the end.

    Raises:
        UserError: more than 5 % of the clips, or of the recordings, are bad (the file is deleted then); a file can
            no longer be read; or a worker died.
    """
    done = file.column("done") != PENDING
    done[soundness.rows_to_mend(file)] = False
    n = sum(map(len, batches))
    batches = [rows for rows in batches if not done[rows.start : rows.stop].all()]
    loader: DataLoader[Batch] = DataLoader(
        dataset,
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        collate_fn=tuple,  # a batch is one already
        multiprocessing_context="spawn" if workers else None,  # a forked process inherits locks that may be held
    )
    bar = progress_bar(range(n), corpus_name, unit="clip", initial=n - sum(map(len, batches)))
    with bar, as_worker_errors(workers):
        for rows, features, reasons, sounds in loader:
            for row, reason in zip(rows, reasons, strict=True):
                if isinstance(reason, Unread):
                    hash_anew(dataset.path(row), file.path.parent)
                    raise UserError(
                        f"{reason}; what is done is kept, give the same command again, or remove the recording, or"
                        " leave it out of the manifest"
                    )
            file.write_rows(rows, features, reasons, sounds)
            bar.update(len(rows))
            if any(reasons):
                _refuse_too_many(file, dataset, corpus_name)
    if bad := file.reasons():
        listed = _listed(file, bad, 100, "\n  ")
        of = f"of {len(dataset)} clips"
        log.warning("%s: %s left out:\n  %s", corpus_name, counted(len(bad), f"{of} is", f"{of} are"), listed)


def _refuse_too_many(file: CacheFile, dataset: ClipBatches, corpus_name: str) -> None:
    """A file that cannot be read is one clip, however many windows it would have: recordings count for themselves."""
    bad = file.reasons()
    shares = {
        "clips": (len(bad), len(dataset)),
        "recordings": (len(lost(dataset.file_of, [*bad])), len(dataset.files)),
    }
    for what, (n_bad, n) in shares.items():
        if n_bad > MAX_BAD_SHARE * n:
            listed = _listed(file, bad, 10, "; ")
            file.path.unlink()  # mended clips would have another cache
            raise UserError(
                f"{corpus_name}: {n_bad} of {n} {what} are bad already, and more than {MAX_BAD_SHARE:.0%} are too many;"
                f" mend or remove them: {listed}"
            )


def _listed(file: CacheFile, bad: dict[int, str], at_most: int, between: str) -> str:
    names = [name.encode(errors="backslashreplace").decode() for name in file.texts("clip")]  # fit to be printed
    return first_few([f"{names[row]}: {reason}" for row, reason in bad.items()], at_most, between, f"{between}and")
