"""A build of a made corpus and its cache that is killed at any moment, then given again."""

import shutil
import signal
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from cry_lightning.corpora import SyntheticCries
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.cachefile import COLUMNS, UNREADABLE, CacheFile
from cry_lightning.features import MFCC

MOMENTS = 40
RENDERING, BUILDING, WITH_WORKER = "rendering", "building", "with a worker"
WAYS = (RENDERING, BUILDING, BUILDING, BUILDING, WITH_WORKER)


class SlowMFCC(MFCC):
    """Takes a tenth of a second more for each batch, so that many kills fall between batches."""

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        time.sleep(0.1 * (len(waveform) > 1))
        return super().forward(waveform)


def prepare(root: Path, workers: int) -> FeatureCache:
    """Render 300 cries and build their cache, all below one folder."""
    torch.set_num_threads(1)  # threads of the parent's are not forked
    corpus = SyntheticCries(n_infants=30, n_cries=10, folder=str(root / "corpora"))
    cache = FeatureCache(corpus, SlowMFCC(), 1.0, folder=root / "cache")
    cache.build(workers)
    return cache


def begun(root: Path, way: str, unharmed: Path) -> Path:
    """A new folder, with the corpus in it unless that is to be rendered first."""
    shutil.rmtree(root, ignore_errors=True)
    if way != RENDERING:
        shutil.copytree(unharmed / "corpora", root / "corpora")
    return root


def seconds_of(root: Path, way: str) -> float:
    """How long a build takes that nothing befalls."""
    if way == RENDERING:
        shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(root / "cache", ignore_errors=True)
    start = time.monotonic()
    process = get_context("fork").Process(target=prepare, args=(root, int(way == WITH_WORKER)))
    process.start()
    process.join()
    return time.monotonic() - start


def killed_after(seconds: float, root: Path, workers: int) -> bool:
    """Kill a build after so long; False if it had ended by then."""
    process = get_context("fork").Process(target=prepare, args=(root, workers))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def content(cache: FeatureCache) -> dict[str, np.ndarray]:
    file = CacheFile(cache.path)
    return {name: np.array(file.column(name)) for name in COLUMNS}


@pytest.mark.slow
def test_build_killed_at_forty_moments_equals_an_unbroken_one(tmp_path):
    unharmed = tmp_path / "unbroken"
    durations = {way: seconds_of(unharmed, way) for way in (RENDERING, BUILDING, WITH_WORKER)}
    unbroken = content(prepare(unharmed, workers=0))
    states = Counter()
    for moment in range(MOMENTS):
        way, root = WAYS[moment % len(WAYS)], tmp_path / str(moment)
        seconds = durations[way] * (moment + 0.5) / MOMENTS
        while not killed_after(seconds, begun(root, way, unharmed), workers=int(way == WITH_WORKER)):
            seconds *= 0.9  # it had ended by then
        states[state(root)] += 1
        cache = prepare(root, workers=0)
        again = content(cache)
        assert all(np.array_equal(unbroken[name], again[name]) for name in COLUMNS), moment
        assert not cache.verify()
        assert not list(root.rglob("*.part"))
    print(f"killed in: {dict(states)}")
    assert sum(states.values()) == MOMENTS and len(states) > 2


def state(root: Path) -> str:
    """How far a killed build had come."""
    if list(root.glob("corpora/*.part")):
        return "rendering"
    if parts := list(root.glob("cache/*.h5.part")):
        try:
            done = CacheFile(parts[0]).column("done")
        except UNREADABLE:
            return "making the file"
        return "no row done" if not done.any() else "all rows done" if done.all() else "some rows done"
    return "whole" if list(root.glob("cache/*.h5")) else "between" if list(root.glob("corpora/*")) else "nothing yet"
