"""Time and memory by the number of clips, from listing them to what a fit does before its first step.

.venv/bin/python benchmarks/scale.py                            10,000 and 100,000 windows
.venv/bin/python benchmarks/scale.py --clips 1000000 --fill     a cache of zeros, of 2 GB, in the place of a built one

Clips are overlapping windows of a few long synthetic recordings, each of which is one subject. Every step runs in a
process of its own; memory is its peak less what the process has after its imports. Seconds are by the clock, and in
brackets those of the processor, which do not depend on what else runs.

The steps: `list` the clips; `prepare` (or `fill`) the cache; `read` all of it, as the first opening of a cache from
elsewhere does; `open` it, as all others do; the `lineage` of the clips trained on; `leaks`, their comparison with the
clips to be tested; and the `order` of the second epoch.
"""

import argparse
import base64
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import soundfile

RATE, WINDOW_S, HOP_S, RECORDINGS = 8000, 0.2, 0.02, 50
STEPS = ("list", "prepare", "read", "open", "lineage", "leaks", "order")
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
    """Prints the seconds of the clock and of the processor, and the bytes, of one step."""
    from cry_lightning.callbacks.records import LineageRecorder
    from cry_lightning.corpora import Manifest
    from cry_lightning.data import soundness
    from cry_lightning.data.datamodule import CryDataModule
    from cry_lightning.data.subset import Caching
    from cry_lightning.features import MFCC

    corpus = Manifest(folder / "manifest.csv", window_s=WINDOW_S, hop_s=HOP_S)
    feature = MFCC(n_mels=20, n_mfcc=20, hop_length=160)
    data = CryDataModule(corpus, feature, clip_s=WINDOW_S, cache=Caching(str(folder / "cache")))
    recorder = LineageRecorder("scale", folder)
    trainer = SimpleNamespace(datamodule=data, is_global_zero=True, checkpoint_callback=None)
    fit = trainer, SimpleNamespace(encoder=None, modules=lambda: [])
    if step in ("lineage", "leaks", "order"):
        data.setup()
    if step == "leaks":
        recorder.own_stage(data)
    if step == "order":
        next(iter(data.train_dataloader()))
        order = data.train_dataloader().sampler
        order.set_epoch(1)
    if step == "read":
        soundness.forget(data.feature_cache().path)
    do = {
        "list": lambda: corpus.clips(folder / "cache"),
        "prepare": data.prepare_data,
        "fill": lambda: fill(data.feature_cache()),
        "read": data.setup,
        "open": data.setup,
        "lineage": lambda: recorder.own_stage(data),
        "leaks": lambda: recorder.on_fit_start(*fit),
        "order": lambda: order.positions(),
    }[step]
    before, processor, start = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        time.process_time(),
        time.perf_counter(),
    )
    do()
    seconds = time.perf_counter() - start, time.process_time() - processor
    print(*seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


def fill(cache) -> None:
    """Makes a cache as if it had been built, of clips that sound like nothing in particular."""
    from cry_lightning.data import soundness

    cache.folder.mkdir(exist_ok=True)
    file = cache._begun()
    for first in range(0, len(cache.clips), AT_ONCE):
        rows = range(first, min(first + AT_ONCE, len(cache.clips)))
        zeros = np.zeros((len(rows), *cache.shape[1:]), np.float32)
        file.write_rows(rows, zeros, [""] * len(rows), landmarks(len(rows), first))
    cache._finish()
    soundness.note_as_built(cache.path)


def landmarks(n: int, seed: int) -> list[str]:
    """Random landmarks of so many clips, four of each."""
    from cry_lightning.lineage.acoustic_fingerprint import TYPE

    rng, made = np.random.default_rng(seed), np.zeros((n, 4), TYPE)
    low, high, gap = (
        rng.integers(202, size=made.shape),
        rng.integers(202, size=made.shape),
        rng.integers(10, size=made.shape),
    )
    made["hash"], made["time"] = (low * 256 + high) * 64 + gap, np.sort(rng.integers(8, size=made.shape))
    return [base64.b64encode(each.tobytes()).decode() for each in made]


def measured(step: str, folder: Path) -> tuple[float, float, int]:
    """Seconds of the clock and of the processor, and bytes, of one step, in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    seconds, of_processor, n_bytes = done.stdout.split()
    return float(seconds), float(of_processor), int(float(n_bytes))


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
                seconds, of_processor, n_bytes = measured(step, Path(name))
                cells.append(f"{seconds:.2f} s ({of_processor:.2f}), {n_bytes / n:.0f} bytes a clip")
        print(f"| {n:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
