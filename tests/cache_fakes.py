"""A tiny corpus and a tiny front end for the tests of the feature cache."""

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.multiprocessing import parent_process

from cry_lightning.corpora.base import Corpus
from cry_lightning.corpora.clips import Clip
from cry_lightning.data import cachefile
from cry_lightning.data.building import CachedFeatures
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.cachefile import CacheFile
from cry_lightning.features.base import Feature
from cry_lightning.features.checks import LEVELS

SAMPLE_RATE = 8000
N_CLIPS = 130  # two batches of 64 and a rest


class Folder(Corpus):
    """Every file of a folder, by name."""

    collection = "folder"

    def recordings(self) -> list[Clip]:
        return [Clip(path.name, subject=f"folder:{path.stem}") for path in sorted(self.root.iterdir())]


class Energy(Feature):
    """Power and mean of each frame: (B, 1, 2, T). Attributes that are not init arguments make it fail to order."""

    def __init__(self, sample_rate: int = SAMPLE_RATE, hop_length: int = 80, gain: float = 1.0) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.gain = gain
        self.batches: list[int] = []  # sizes of the batches computed here
        self.pause_s = 0.0
        self.fatal_batch: int | None = None  # the one during which a worker is killed
        self.interrupted_batch: int | None = None

    def forward(self, waveform: Tensor) -> Tensor:
        if len(waveform) not in (1, len(LEVELS)):  # not the probe for the shape, nor the check of rows
            self.batches.append(len(waveform))
            time.sleep(self.pause_s)
            if len(self.batches) == self.interrupted_batch:
                raise KeyboardInterrupt
            if len(self.batches) == self.fatal_batch and parent_process() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
        frames = waveform.unfold(1, self.hop_length, self.hop_length)
        return self.gain * torch.stack([frames.square().mean(-1), frames.mean(-1)], 1).unsqueeze(1)


def write_wav(path: Path, seed: int, duration_s: float = 0.2) -> None:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(duration_s * SAMPLE_RATE))
    soundfile.write(path, noise, SAMPLE_RATE)


def make_cache(tmp_path: Path, n: int = N_CLIPS, **options) -> FeatureCache:
    """A cache, not built, of `n` made recordings below `tmp_path`; those that exist stay as they are."""
    root = tmp_path / "audio"
    root.mkdir(exist_ok=True)
    for i in range(n):
        path = root / f"{i:03d}.wav"
        if not path.exists():
            write_wav(path, seed=i)
    return cache_of(root, tmp_path / "cache", **options)


def cache_of(root: Path, folder: Path, **options) -> FeatureCache:
    feature, corpus = options.pop("feature", None) or Energy(), Folder(root)
    corpus.window_s = options.pop("window_s", None)
    return FeatureCache(corpus, feature, **{"clip_s": 0.25, "folder": folder} | options)


def features_of(cache: FeatureCache) -> Tensor:
    """All rows of a cache that has been built."""
    return cache.open().gather(torch.arange(len(cache.clips)))


def send_rows(features: CachedFeatures, rows: list[int], answer: Connection) -> None:
    """What a spawned process does with opened features."""
    answer.send(features.gather(torch.tensor(rows)).numpy())


def rows_done(cache) -> int:
    try:
        return int((CacheFile(cache.part).column("done") != cachefile.PENDING).sum())
    except cachefile.UNREADABLE:
        return 0


def flip_byte(path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
