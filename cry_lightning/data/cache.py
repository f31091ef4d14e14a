"""The feature cache: one HDF5 file per corpus, front end and clip length, built once and then only read."""

import glob
import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock, Timeout

from cry_lightning import audio
from cry_lightning.console import UserError
from cry_lightning.corpora import Clips, Corpus
from cry_lightning.corpora.clips import stretch_of
from cry_lightning.data import cachefile, soundness
from cry_lightning.data.building import CachedFeatures, ClipBatches, batches_of, fill
from cry_lightning.data.cachefile import CacheFile
from cry_lightning.data.inventory import content_hashes
from cry_lightning.features.base import Feature
from cry_lightning.features.checks import check_rows
from cry_lightning.files import waited_for, way_out
from cry_lightning.lineage.acoustic_fingerprint import LANDMARKS_VERSION, most_letters
from cry_lightning.lineage.recorded import LazyTexts

log = logging.getLogger(__name__)
ZERO = "\0"  # between texts
CACHE_VERSION = 2  # raise it when the file's layout changes


class Texts(LazyTexts):
    """A text for each clip.

    Args:
        clips: one per row.
        texts_of: what they are made by.
    """

    def __init__(self, clips: Clips, texts_of: Callable[[Clips], list[str]]) -> None:
        self.clips = clips
        self.texts_of = texts_of

    def __len__(self) -> int:
        return len(self.clips)

    def some(self, at: slice) -> list[str]:
        """Those of some clips."""
        return self.texts_of(self.clips[at])


class FeatureCache:
    """One feature of every clip of a corpus, kept in a file that is keyed by all that the numbers depend on.

    Args:
        corpus: where the clips come from.
        feature: front end from waveform to feature.
        clip_s: seconds that every clip is fitted to.
        fit: how a shorter clip is fitted.
        dtype: of the numbers on the disk.
        folder: where caches lie.
    """

    def __init__(
        self,
        corpus: Corpus,
        feature: Feature,
        clip_s: float,
        fit: audio.Fit = "pad",
        dtype: Literal["float32", "float16"] = "float32",
        folder: str | Path = "cache",
    ) -> None:
        self.corpus = corpus
        self.feature = feature
        self.clip_s = float(clip_s)
        self.fit = fit
        self.dtype = dtype
        self.folder = Path(folder).expanduser()

    @cached_property
    def clips(self) -> Clips:
        """The clips of the corpus, one per row."""
        clips = Clips.of(self.corpus.clips(self.folder))
        if not clips:
            raise UserError(f"corpus {self.corpus.name} has no clips: check its root and classes")
        return clips

    @property
    def _texts(self) -> dict[str, Texts]:
        """The columns of text that the cache has, by their names there."""
        hashes = self._hashes
        return {
            "clip": Texts(self.clips, lambda clips: clips.names),
            "content": Texts(self.clips, lambda clips: _content(clips, hashes)),
        }

    @property
    def content(self) -> list[str]:
        """What each row is made from: the hash of its file, and the stretch of it."""
        return _content(self.clips, self._hashes)

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return self._hashed()

    def _hashed(self, reread: bool = False) -> dict[str, str]:
        """The hash of the file of each path that clips have."""
        files = self.corpus.files(self.clips.used)
        hashes = content_hashes(files.values(), self.folder, reread)
        return {path: hashes[file] for path, file in files.items()}

    @property
    def settings(self) -> dict[str, str | int | float]:
        """What the numbers depend on besides the audio."""
        return {
            "cache_version": CACHE_VERSION,
            "decoding_version": audio.DECODING_VERSION,
            "landmarks_version": LANDMARKS_VERSION,
            "feature": json.dumps(self.feature.identity()),
            "clip_s": self.clip_s,
            "fit": self.fit,
            "dtype": self.dtype,
        }

    @cached_property
    def key(self) -> str:
        """Hash of all that the numbers depend on."""
        digest = hashlib.sha256()
        for text in self._keyed():  # together the JSON of settings, clips and content
            digest.update(text)
        return digest.hexdigest()

    def _keyed(self) -> Iterator[bytes]:
        yield f"[{json.dumps(self.settings)}".encode()
        located = {path: f"[{json.dumps(path)}, " for path in self._hashes}
        content = {path: f"{json.dumps(file)[:-1]}#" for path, file in self._hashes.items()}
        for before, write, after in ((located, _times, "]"), (content, stretch_of, '"')):
            between = ", ["
            for clip, rows in self.clips.runs():
                begun, stretches = before[clip.path], (self.clips.start_s[rows], self.clips.duration_s[rows])
                texts = _joined(write, *(times.tobytes() for times in stretches))
                yield f"{between}{begun}{texts.replace(ZERO, f'{after}, {begun}')}".encode()
                between = f"{after}, "
            yield f"{after}]".encode()
        yield b"]"

    @property
    def path(self) -> Path:
        """Where the whole cache lies."""
        return self.folder / f"{self.corpus.name}-{type(self.feature).__name__.lower()}-{self.key[:10]}.h5"

    @property
    def part(self) -> Path:
        """Where the cache lies until it is whole."""
        return self.path.with_suffix(".h5.part")

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, C, F, T), found by running the front end on silence."""
        with torch.inference_mode():
            silence = torch.zeros(1, round(self.clip_s * self.feature.sample_rate))
            return len(self.clips), *self.feature(silence).shape[1:]

    def fault(self) -> str | None:
        """Why the cache cannot be used, by its structure, columns and rows; None if it can.

        Of a file that was found sound, and has not changed since, only the structure is looked at, see `soundness`.
        """
        return self._fault_of_the_whole() or self._fault_of_rows()

    @property
    def _attributes(self) -> dict[str, str | int | float]:
        return self.settings | {"corpus": self.corpus.name, "key": self.key}

    def _fault_of_the_whole(self) -> str | None:
        if not os.path.lexists(self.path):
            return "has not been built"
        return soundness.damage(self.path, self._attributes, self.shape)

    def _fault_of_rows(self) -> str | None:
        try:
            file = CacheFile(self.path)
            damaged, unread = soundness.newly_damaged_rows(file), soundness.unread_rows(file)
        except cachefile.UNREADABLE as error:
            return f"cannot be read: {' '.join(str(error).split())}"
        if unread and not os.access(self.folder, os.W_OK):
            found = f"{len(unread)} rows whose files could not be read when it was built"
            audio.warn_once(f"{self.path} leaves out {found}; as {self.folder} cannot be written, it is used as it is")
            unread = []
        for what, rows in (("damaged rows", damaged), ("rows whose files could not be read then", unread)):
            if len(rows):
                return f"has {len(rows)} {what} of {len(self.clips)}, the first that of {self.clips[rows[0]].name}"
        return None

    def open(self) -> CachedFeatures:
        """The features, to be read.

        Raises:
            UserError: the cache has not been built, or is damaged.
        """
        if fault := self.fault():
            raise UserError(f"{self.path} {fault}: run `prepare` with the same config first")
        return CachedFeatures(self.path)

    def build(self, workers: int = 0) -> Path:
        """Build the cache unless it is whole, going on where an earlier build was stopped.

        Args:
            workers: processes that decode and compute; 0 is this process.

        Raises:
            UserError: no room, too many bad clips, or a worker that died.
        """
        if self.fault() is None:  # asked before any lock, so that a read-only folder serves
            return self.path
        with self._writing(), self._no_shards(), self._locked():
            if self.fault():
                self._fill(self._begun(), workers, batches_of(len(self.clips)))
                self._finish()
                soundness.note_as_built(self.path)
        return self.path

    def build_shard(self, shard: int, shards: int, workers: int = 0) -> int:
        """Build one of several shares of the rows, which other processes and machines may build at the same time.

        All write into one file, each its own rows; whoever is the last one finishes it. A share that was stopped is
        gone on with, and `build` does what is missing.

        Args:
            shard: its number, from 1.
            shards: how many there are.
            workers: as of `build`.

        Returns: how many rows of other shares are still missing.

        Raises:
            UserError: as `build`; or another process builds this very share, or all.
        """
        if self.fault() is None:
            return 0
        with self._writing(), self._alone(shard, shards):
            with self._locked():
                if self.fault() is None:
                    return 0
                file = self._begun()
            self._fill(file, workers, batches_of(len(self.clips), shard, shards))
            with self._locked():
                return self._finish() if self.fault() else 0

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise self._cannot_write(error) from error

    def _begun(self) -> CacheFile:
        """The file to be filled, with what there is of it."""
        check_rows(self.feature, self.clip_s)
        self._set_aside()
        if (begun := self._partial()) is not None:
            return begun
        attributes, texts = self._attributes | {"created": time.time()}, self._texts
        room = most_letters(self.clip_s)
        return cachefile.create(self.part, self.shape, self.dtype, texts["clip"], texts["content"], attributes, room)

    def _fill(self, file: CacheFile, workers: int, batches: list[range]) -> None:
        kinds = (self.clip_s, self.fit, self.dtype, True)
        dataset = ClipBatches(self.corpus, self.clips, self.feature, *kinds, self._hashes)
        fill(file, dataset, self.corpus.name, workers, batches)

    def _finish(self) -> int:
        """Give a file its name in which no row is missing; how many are."""
        file = CacheFile(self.part)  # opened anew, since other machines may have written to it
        missing = int((file.column("done") == cachefile.PENDING).sum())
        if not missing:
            file.seal()
            self.part.replace(self.path)
        return missing

    def verify(self) -> list[str]:
        """What is wrong with the cache, found by reading all audio and the whole cache again; nothing, if it is sound.

        Nothing is mended: the next build computes damaged rows again, and changed audio has another cache.
        """
        soundness.forget(self.path)
        if fault := self._fault_of_the_whole():
            return [f"{self.path} {fault}"]
        file = CacheFile(self.path)
        damaged, unread = file.damaged_rows(), soundness.unread_rows(file)
        now = _content(self.clips, self._hashed(reread=True))
        changed = [name for name, old, new in zip(self.clips.names, self.content, now, strict=True) if old != new]
        return [f"{self.clips[row].name}: its row in the cache is damaged" for row in damaged] + [
            *(f"{self.clips[row].name}: its file could not be read then ({file.reasons()[row]})" for row in unread),
            *(f"{name}: its audio is not what the cache was made of" for name in changed),
        ]

    def _set_aside(self) -> None:
        """Make way for a new file; one of which only rows are damaged becomes the partial one that is gone on with."""
        if not os.path.lexists(self.path):
            return
        if fault := self._fault_of_the_whole():
            log.warning("%s %s: building it again", self.path, fault)
            cachefile.clear(self.path)
        else:
            log.warning("%s %s: computing these again", self.path, self._fault_of_rows())
            cachefile.clear(self.part)
            damaged = CacheFile(self.path)
            damaged.forget(soundness.rows_to_mend(damaged))  # or a process with other rows would take it for finished
            self.path.replace(self.part)

    def _locked(self) -> AbstractContextManager[None]:
        return waited_for(self.path.with_suffix(".lock"), f"{self.path} is being built by another process: waiting")

    @contextmanager
    def _alone(self, shard: int, shards: int) -> Iterator[None]:
        lock = FileLock(self.path.with_suffix(f".shard-{shard}-of-{shards}.lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(
                f"--shard {shard}/{shards}: another process builds this very shard of {self.path}, or all of it; give"
                " each its own shard, or wait for its end"
            ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _no_shards(self) -> Iterator[None]:
        """Wait for whoever builds a share of the rows."""
        with ExitStack() as stack:
            for lock in sorted(self.folder.glob(f"{glob.escape(self.path.stem)}.shard-*.lock")):
                stack.enter_context(waited_for(lock, f"{self.path} is being built in shards: waiting"))
            yield

    def _partial(self) -> CacheFile | None:
        """What an earlier build left behind, if it can be gone on with."""
        try:
            file = CacheFile(self.part)
            same_rows = all(file.holds(name, texts) for name, texts in self._texts.items())
            return file if same_rows and file.fault(self._attributes, self.shape) is None else None
        except cachefile.UNREADABLE:
            return None

    def _cannot_write(self, error: OSError) -> UserError:
        if isinstance(error, FileNotFoundError) and self.folder.is_dir():
            return UserError(
                f"{self.part.name} is gone: another process that builds this cache has ended it; see what that one"
                " reports, and give the command again"
            )
        n_bytes = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        free = shutil.disk_usage(self.folder).free if self.folder.is_dir() else 0
        return UserError(
            f"{self.path.name} needs {n_bytes:,} bytes and cannot be written ({error.strerror or error}; {free:,} bytes"
            f" are free in {self.folder.resolve()}): {way_out(error)}, or choose another cache folder"
        )


def _times(start_s: float, duration_s: float | None) -> str:
    return f"{start_s!r}, {'null' if duration_s is None else repr(duration_s)}"  # as JSON has them


@lru_cache(maxsize=2**8)  # the windows of one recording begin where those of the next do
def _joined(write: Callable[[float, float | None], str], start_s: bytes, duration_s: bytes) -> str:
    """The texts of neighbours, with zeros between them."""
    times = (np.frombuffer(column).tolist() for column in (start_s, duration_s))
    return ZERO.join(write(start, None if length != length else length) for start, length in zip(*times, strict=True))


def _content(clips: Clips, hashes: dict[str, str]) -> list[str]:
    """What each clip is made from, by the hash of the file of each path."""
    return [f"{hashes[path]}#{stretch}" for path, stretch in zip(clips.paths, clips.stretches, strict=True)]
