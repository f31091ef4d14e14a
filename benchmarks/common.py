"""What the benchmarks share: arguments, a clock, the machine they ran on, and MFCCs computed clip by clip."""

import argparse
import json
import logging
import os
import platform
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import librosa
import numpy as np
import torch

from cry_lightning.__main__ import keep_freed_memory
from cry_lightning.corpora import FSDD, Corpus, SyntheticWords
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.splits import Split
from cry_lightning.data.subset import Caching
from cry_lightning.features import MFCC, Feature

keep_freed_memory()  # as every command does; what others' ways need is kept, too
Measure = TypeVar("Measure")
FILE = "CRY_LIGHTNING_BENCHMARK"  # names the file of `note`


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def options(about: str | None, epochs_help: str) -> argparse.Namespace:
    """What the benchmarks on a corpus take: --data and --epochs."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the Free Spoken Digit Dataset; synthetic words without it")
    parser.add_argument("--epochs", type=int, default=3, help=f"{epochs_help} (default: %(default)s)")
    return parser.parse_args()


def words(data: Path | None, folder: str) -> Corpus:
    """Spoken digits where they lie, or words made into a folder."""
    corpus = FSDD(data) if data else SyntheticWords(n_speakers=20, folder=folder)
    corpus.prepare()
    return corpus


@contextmanager
def data_set_up(data: Path | None, feature: Feature, split: Split, **arguments: Any) -> Iterator[CryDataModule]:
    """The words as data with a cache in a temporary folder; Lightning is kept quiet meanwhile."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    with TemporaryDirectory() as folder:
        made = CryDataModule(words(data, folder), feature, split, cache=Caching(folder), **arguments)
        made.prepare_data()
        made.setup()
        yield made


def measured(ways: dict[str, Callable[[], Measure]], epochs: int) -> dict[str, list[Measure]]:
    """What each way measures in each epoch, in a random order; before them once for nothing, which may cost more."""
    for way in ways.values():
        way()
    found: dict[str, list[Measure]] = {name: [] for name in ways}
    for _ in range(epochs):
        for name in random.sample(list(ways), len(ways)):
            found[name].append(ways[name]())
    return found


def machine() -> str:
    """What figures depend on beside the code."""
    cores, threads, load = len(os.sched_getaffinity(0)), torch.get_num_threads(), os.getloadavg()[0]
    return (
        f"{platform.machine()}, {cores} cores, {threads} threads of torch {torch.__version__}, load average {load:.1f}"
    )


def note(name: str, ours: float, peer: tuple[str, float] | None = None, limit: tuple[str, float] | None = None) -> None:
    """Add a line to the file of `make benchmark`, if it runs: how many times as fast as what, by medians of seconds.

    Args:
        name: what is done.
        ours: seconds that it takes here.
        peer: how others do it, and their seconds.
        limit: what it cannot be faster than, and the seconds of that.
    """
    if FILE not in os.environ:
        return
    row: dict[str, Any] = {"name": name}
    if peer is not None:
        row |= {"peer": peer[0], "ratio": peer[1] / ours}
    if limit is not None:
        row |= {"limit": limit[0], "share": limit[1] / ours}
    with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def librosa_mfcc(waveform: np.ndarray, mfcc: MFCC) -> np.ndarray:
    """One clip as honk computes it (n_mfcc, T)."""
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=mfcc.sample_rate, n_fft=mfcc.n_fft, hop_length=mfcc.hop_length, n_mels=mfcc.n_mels,
        fmin=mfcc.f_min, fmax=mfcc.f_max, pad_mode="reflect",
    )  # fmt: skip
    mel[mel > 0] = np.log(mel[mel > 0])
    return librosa.feature.mfcc(S=mel, n_mfcc=mfcc.n_mfcc, norm="ortho")
