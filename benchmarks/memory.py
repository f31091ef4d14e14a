"""What it saves that commands have glibc keep freed memory: training steps with and without, and memory.
.venv/bin/python benchmarks/memory.py

Each way is a process of its own, in turns. Wants the package installed (`make install`).
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from cry_lightning.__main__ import keep_freed_memory
from cry_lightning.cli.precision import MIXED, automatic
from cry_lightning.encoders import CNN6, Res8

PRECISION = automatic("cpu")[0]
NETWORKS = {"Res8": (Res8, 64, (40, 101)), "small CNN6": (partial(CNN6, 40, 8), 256, (40, 80))}  # batch, (F, T)


def steps(name: str, n: int = 8) -> None:
    """Prints milliseconds of the processor for a training step, as `fit` computes it, and megabytes at the peak."""
    network, batch, shape = NETWORKS[name]
    encoder = network()
    model = torch.nn.Sequential(encoder, torch.nn.Linear(encoder.num_features, 10)).to(
        memory_format=torch.channels_last
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, label = torch.randn(batch, 1, *shape), torch.randint(0, 10, (batch,))
    times = []
    for _ in range(n + 2):
        start = time.process_time()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == MIXED):
            loss = cross_entropy(model(x), label)
        loss.backward()
        optimizer.step()
        times.append(1000 * (time.process_time() - start))
    print(np.median(times[2:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)  # a network, and whether memory is kept
    options = parser.parse_args()
    if options.child:
        if options.child[1] == "kept":
            keep_freed_memory()
        steps(options.child[0])
        return
    print(f"{torch.backends.cpu.get_cpu_capability()}, {PRECISION}; medians of {options.rounds} rounds")
    for name in NETWORKS:
        found = {way: [] for way in ("as it is", "kept")}
        for _ in range(options.rounds):
            for way, rows in found.items():
                child = [sys.executable, __file__, "--child", name, way]
                rows.append([float(value) for value in subprocess.check_output(child, text=True).split()])
        for way, rows in found.items():
            ms, mb = np.median(rows, axis=0)
            print(f"  {name:12} {way:10} {ms:8.1f} ms a step  {mb:8.0f} MB at the peak")
        ratio = np.median(np.array(found["as it is"])[:, 0] / np.array(found["kept"])[:, 0])
        print(f"  {name:12} kept: {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
