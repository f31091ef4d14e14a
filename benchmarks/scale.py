"""Time and memory by the number of clips: listing, building a cache, opening it, and the order of an epoch.

.venv/bin/python benchmarks/scale.py                            10,000 and 100,000 windows
.venv/bin/python benchmarks/scale.py --clips 1000000 --fill     a cache of zeros, of 2 GB, in the place of a built one

Clips are overlapping windows of a few long synthetic recordings, each of which is one subject. Every step runs in a
process of its own; memory is its peak less what the process has after its imports. The order is measured at the second
epoch.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from cry_lightning.data import soundness

RATE, WINDOW_S, HOP_S, RECORDINGS = 8000, 0.2, 0.02, 50
STEPS = ("list", "prepare", "open", "order")
AT_ONCE = 10_000  # rows of zeros


def make_recordings(folder: Path, n: int) -> None:
    """Recordings of noise that is louder and softer, with so many windows in all; and their manifest."""
    per_recording = -(-n // RECORDINGS)
    n_samples = round(RATE * ((per_recording - 1) * HOP_S + WINDOW_S)) + 1
    rows = ["path,subject,label"]
    for number in range(RECORDINGS):
        rng = np.random.default_rng(number)
        loudness = np.interp(
            np.arange(n_samples), np.arange(0, n_samples + 4000, 4000), rng.random(n_samples // 4000 + 2)
        )
        soundfile.write(folder / f"{number}.wav", 0.1 * loudness * rng.standard_normal(n_samples), RATE)
        rows.append(f"{number}.wav,infant{number},{'ab'[number % 2]}")
    (folder / "manifest.csv").write_text("\n".join(rows))


def measure(step: str, folder: Path) -> None:
    """Prints how many clips there are, seconds, and megabytes of one step."""
    from cry_lightning.corpora import Manifest
    from cry_lightning.data.datamodule import CryDataModule
    from cry_lightning.data.groups import Caching
    from cry_lightning.features import MFCC

    corpus = Manifest(folder / "manifest.csv", window_s=WINDOW_S, hop_s=HOP_S)
    feature = MFCC(n_mels=20, n_mfcc=20, hop_length=160)
    data = CryDataModule(corpus, feature, clip_s=WINDOW_S, cache=Caching(str(folder / "cache")))
    if step == "order":
        data.setup()
        next(iter(data.train_dataloader()))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if step == "list":
        corpus.clips(folder / "cache")
    elif step == "prepare":
        data.prepare_data()
    elif step == "fill":
        fill(data.feature_cache())
    elif step == "open":
        data.setup()
    else:
        order = data.train_dataloader().sampler
        order.set_epoch(1)
        order.positions()
    seconds = time.perf_counter() - start
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


def fill(cache) -> None:
    """Makes a cache as if it had been built."""
    cache.folder.mkdir()
    file = cache._begun()
    for first in range(0, len(cache.clips), AT_ONCE):
        rows = range(first, min(first + AT_ONCE, len(cache.clips)))
        file.write_rows(rows, np.zeros((len(rows), *cache.shape[1:]), np.float32), [""] * len(rows))
    cache._finish()
    soundness.note_as_built(cache.path)


def measured(step: str, folder: Path) -> tuple[float, int]:
    """Seconds and bytes of one step, in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    seconds, n_bytes = done.stdout.split()
    return float(seconds), int(float(n_bytes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000], help="(default: %(default)s)")
    parser.add_argument("--step", choices=(*STEPS, "fill"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--fill", action="store_true", help="build no cache, but make one of zeros")
    arguments = parser.parse_args()
    steps = ["fill" if step == "prepare" and arguments.fill else step for step in STEPS]
    if arguments.step:
        return measure(arguments.step, arguments.folder)
    print(f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.1f}\n")
    print(f"| clips | {' | '.join(steps)} |")
    print(f"|---{'|---' * len(steps)}|")
    for n in arguments.clips:
        cells = []
        with TemporaryDirectory() as name:
            make_recordings(Path(name), n)
            for step in steps:
                seconds, n_bytes = measured(step, Path(name))
                cells.append(f"{seconds:.2f} s, {n_bytes / n:.0f} bytes a clip")
        print(f"| {n:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
