"""Speed of the feature cache, as ratios within one run: building it against librosa, reading it against RAM and h5py.

.venv/bin/python benchmarks/cache.py                           on made noise
.venv/bin/python benchmarks/cache.py --data path/to/fsdd       on the Free Spoken Digit Dataset

Wants the package installed with its extra `dev` (`make install`).
"""

import argparse
import os
import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for everyone: librosa uses one

import h5py
import numpy as np
import soundfile
import torch
from common import librosa_mfcc, machine, note, seconds

from cry_lightning import audio
from cry_lightning.audio import recording
from cry_lightning.corpora import FSDD, UnlabelledTree
from cry_lightning.corpora.base import Corpus
from cry_lightning.data import cachefile
from cry_lightning.data.building import CachedFeatures
from cry_lightning.data.cache import FeatureCache
from cry_lightning.features import MFCC

CLIP_S = 1.0
RATE = MFCC().sample_rate
BUILD_BATCH = 64
READ_BATCH = 256


def build_speed(corpus: Corpus, folder: Path, repeats: int) -> CachedFeatures:
    """Prints clips per second of decoding and of the feature, by librosa clip by clip and by the cache."""
    mfcc = MFCC()
    paths = [corpus.path_of(clip) for clip in corpus.clips()]
    waveforms = np.stack([audio.load_fitted(path, mfcc.sample_rate, CLIP_S, "pad") for path in paths])
    batches = torch.from_numpy(waveforms).split(BUILD_BATCH)
    reference = librosa_mfcc(waveforms[0], mfcc)
    np.testing.assert_allclose(mfcc(batches[0])[0, 0].numpy(), reference, atol=2e-3)  # the same work is compared

    def load(path: Path) -> np.ndarray:
        return audio.load_fitted(path, mfcc.sample_rate, CLIP_S, "pad")

    frames = [batch.unfold(1, mfcc.n_fft, mfcc.hop_length).contiguous() for batch in batches]

    def limit() -> list[torch.Tensor]:
        return [torch.fft.rfft(some).real @ mfcc.mel for some in frames]

    work: dict[str, Callable[[], object]] = {
        "feature only: librosa, clip by clip": lambda: [librosa_mfcc(waveform, mfcc) for waveform in waveforms],
        "feature only: MFCC, batches of 64": lambda: [mfcc(batch) for batch in batches],
        "decode + feature: librosa, clip by clip": lambda: [librosa_mfcc(load(path), mfcc) for path in paths],
    }
    times: dict[str, list[float]] = {}
    for repeat in range(repeats):
        cache = FeatureCache(corpus, mfcc, CLIP_S, folder=folder / str(repeat))
        for name, function in (
            work | {"whole build of the cache, hashing too": cache.build, "rfft and mel alone": limit}
        ).items():
            times.setdefault(name, []).append(seconds(function))
    report(f"build, {len(paths)} clips of {CLIP_S:g} s", "clips", len(paths), times)
    librosa, ours, per_clip, build, limit = (float(np.median(taken)) for taken in times.values())
    note("MFCC", ours, ("librosa, clip by clip", librosa), ("rfft and product with the mel bands", limit))
    note("building a cache", build, ("decoding and librosa, clip by clip", per_clip))
    return cache.open()


def decode_speed(corpus: Corpus, repeats: int) -> None:
    """Prints clips per second of decoding WAVs with soundfile alone, by libsndfile here, and as plain WAVs."""
    paths = [corpus.path_of(clip) for clip in corpus.clips()]

    def load() -> list[np.ndarray]:
        return [audio.load(path, RATE) for path in paths]

    def by_libsndfile() -> list[np.ndarray]:
        with mock.patch.object(recording, "plain_wav", lambda file: None):
            return load()

    for ours, reference in zip(load(), by_libsndfile(), strict=True):
        np.testing.assert_array_equal(ours, reference)
    ways: dict[str, Callable[[], object]] = {
        "soundfile.read, nothing checked": lambda: [soundfile.read(path, dtype="float32") for path in paths],
        "libsndfile, checked": by_libsndfile,
        "plain read, checked": load,
        "reading the bytes": lambda: [path.read_bytes() for path in paths],
    }
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name in random.sample(list(ways), len(ways)):
            times.setdefault(name, []).append(seconds(ways[name]))
    report(f"decode, {len(paths)} WAVs", "clips", len(paths), {name: times[name] for name in ways})
    _, slower, ours, limit = (float(np.median(times[name])) for name in ways)
    note("decoding short WAVs", ours, ("libsndfile with the same checks", slower), ("reading the bytes", limit))


def read_speed(features: CachedFeatures, repeats: int) -> None:
    """Prints rows per second of a shuffled epoch from RAM, from the cache, and from h5py item by item."""
    n = features.shape[0]
    ram = features.gather(torch.arange(n)).flatten(1)
    with h5py.File(features.path) as file:
        items = file["features"]
        ways: dict[str, Callable[[torch.Tensor], object]] = {
            "RAM tensor": lambda rows: torch.index_select(ram, 0, rows),
            "cache": features.gather,
            "h5py, item by item": lambda rows: torch.from_numpy(np.stack([items[row] for row in rows.tolist()])),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            batches = torch.randperm(n).split(READ_BATCH)
            for name in random.sample(list(ways), len(ways)):  # none is always the one that finds the caches warm
                times[name].append(seconds(partial(visit, ways[name], batches)))
    report(f"shuffled epoch of {n} rows, batches of {READ_BATCH}", "rows", n, times)
    in_ram, ours, by_item = (float(np.median(taken)) for taken in times.values())
    note(f"reading {n} shuffled rows", ours, ("h5py, item by item", by_item), ("a tensor in memory", in_ram))


def visit(read: Callable[[torch.Tensor], object], batches: Iterable[torch.Tensor]) -> None:
    for rows in batches:
        read(rows)


def report(title: str, unit: str, n: int, times: dict[str, list[float]]) -> None:
    """Prints the median speed of each way and how many times the first one's it is."""
    first = next(iter(times.values()))
    print(f"\n{title}; medians of {len(first)} rounds")
    for name, taken in times.items():
        ratio = np.median(np.array(first) / np.array(taken))
        print(f"  {name:42} {n / np.median(taken):12,.0f} {unit}/s   {ratio:6.2f} x")


def made_noise(folder: Path, n: int) -> Corpus:
    folder.mkdir()
    for i in range(n):
        soundfile.write(folder / f"{i:05d}.wav", np.random.default_rng(i).uniform(-0.5, 0.5, 8000), 8000)
    return UnlabelledTree(folder)


def made_rows(path: Path, n: int) -> CachedFeatures:
    """A cache of `n` random rows in the shape of one second's MFCCs."""
    shape = (n, 1, 40, 101)
    file = cachefile.create(path, shape, "float32", [str(row) for row in range(n)], [""] * n, {})
    for first in range(0, n, READ_BATCH):
        rows = range(first, min(first + READ_BATCH, n))
        features = np.random.default_rng(first).standard_normal((len(rows), *shape[1:]), np.float32)
        file.write_rows(rows, features, [""] * len(rows))
    return CachedFeatures(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the Free Spoken Digit Dataset; made noise without it")
    parser.add_argument("--clips", type=int, default=1000, help="clips of made noise (default: %(default)s)")
    parser.add_argument(
        "--rows", type=int, default=30_000, help="rows of the large reading test (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each measurement (default: %(default)s)")
    arguments = parser.parse_args()
    print(machine())
    with TemporaryDirectory() as name:
        folder = Path(name)
        corpus = FSDD(arguments.data) if arguments.data else made_noise(folder / "noise", arguments.clips)
        decode_speed(corpus, arguments.repeats)
        features = build_speed(corpus, folder, arguments.repeats)
        read_speed(features, arguments.repeats)
        read_speed(made_rows(folder / "rows.h5", arguments.rows), arguments.repeats)


if __name__ == "__main__":
    main()
