"""Speed and memory of `predict` on one long recording: each row is a process of its own.

    python benchmarks/predict.py RUN/best.ckpt [--minutes 10 120] [--threads 2]

The recording is noise of 8 kHz in a WAV. The real-time factor is of the time beyond that of one minute, which is mostly
the start of Python; that of the processor's time, in one core's, counts no waiting for other programs.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

RATE = 8000


def measured(ckpt: Path, folder: Path, minutes: int, threads: int) -> tuple[float, float, float]:
    """Seconds that passed, seconds of processor and peak memory in MB of one command."""
    minute = np.random.default_rng(0).integers(-3000, 3000, 60 * RATE, np.int16)
    with soundfile.SoundFile(folder / f"{minutes}.wav", "w", RATE, 1) as file:
        for _ in range(minutes):
            file.write(minute)
    command = [sys.executable, "-m", "cry_lightning", "predict", "--ckpt", str(ckpt), str(folder / f"{minutes}.wav")]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--out", str(folder / f"{minutes}.csv")],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    passed = time.perf_counter() - start
    return passed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("--minutes", type=int, nargs="+", default=[10, 120])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        first = measured(args.ckpt, Path(folder), 1, args.threads)
        for minutes in args.minutes:
            passed, used, peak = measured(args.ckpt, Path(folder), minutes, args.threads)
            extra_s = 60 * (minutes - 1)
            print(
                f"{minutes} min: peak {peak:.0f} MB, {extra_s / (passed - first[0]):.0f} times real time,"
                f" {extra_s / (used - first[1]):.0f} times in one core's time"
            )


if __name__ == "__main__":
    main()
