"""NT-Xent on the CPU, forward and backward, as ratios within one run: blocked against lightly's and the plain way.

.venv/bin/python benchmarks/ntxent.py

Wants the package installed (`make install`); lightly's is measured where `pip install --no-deps lightly` was run too.
"""

import argparse
import multiprocessing
import random
import resource
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from common import machine, note, seconds
from torch import Tensor

from cry_lightning.tasks.losses import nt_xent

TEMPERATURE = 0.1
D = 128
VIEWS = (256, 1024, 4096)

Loss = Callable[[Tensor], Tensor]


def plain(z: Tensor) -> Tensor:
    """All similarities at once."""
    z = F.normalize(z)
    itself = torch.eye(len(z), dtype=torch.bool)
    similarity = (z @ z.T / TEMPERATURE).masked_fill(itself, -torch.inf)
    return F.cross_entropy(similarity, torch.arange(len(z)).roll(len(z) // 2))


def losses() -> dict[str, Loss]:
    ways: dict[str, Loss] = {"blocked": lambda z: nt_xent(z, TEMPERATURE), "plain": plain}
    if find_spec("lightly"):
        from lightly.loss import NTXentLoss

        theirs = NTXentLoss(TEMPERATURE)
        ways["lightly"] = lambda z: theirs(*z.chunk(2))
    return ways


def step(loss: Loss, n: int) -> Tensor:
    """Gradient (n, D) of the loss of n random views."""
    z = torch.randn(n, D, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss(z).backward()
    assert z.grad is not None
    return z.grad


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_bytes(name: str, n: int) -> int:
    """How far one step raises the peak of a process in which a small one has been made."""
    loss = losses()[name]
    step(loss, 16)
    before = peak_bytes()
    step(loss, n)
    return peak_bytes() - before


def times_s(ways: dict[str, Loss], n: int, repeats: int) -> dict[str, list[float]]:
    expected = step(plain, n)
    for loss in ways.values():
        torch.testing.assert_close(step(loss, n), expected, rtol=1e-3, atol=1e-6)  # the same work is compared
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name in random.sample(list(ways), len(ways)):
            times[name].append(seconds(partial(step, ways[name], n)))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11, help="steps of each way (default: %(default)s)")
    repeats = parser.parse_args().repeats
    ways = losses()
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as fresh:  # before all else: a child's peak starts at what its parent held
        memory = {(name, n): fresh.apply(memory_bytes, (name, n)) for n in VIEWS for name in ways}

    print(f"{machine()}\n{D} dimensions, float32; medians of {repeats} steps, and peak memory of one")
    for n in VIEWS:
        times = times_s(ways, n, repeats)
        ours = np.array(times["blocked"])
        other = "lightly" if "lightly" in times else "plain"
        note(f"NT-Xent of {n:,} views", float(np.median(ours)), (other, float(np.median(times[other]))))
        for name, taken in times.items():
            ratio, megabytes = np.median(np.array(taken) / ours), memory[name, n] / 2**20
            print(f"  {n:5,} views  {name:8} {1e3 * np.median(taken):8.1f} ms {ratio:6.2f} x {megabytes:8.1f} MB")
    if "lightly" not in ways:
        print("  lightly is not installed: pip install --no-deps lightly")


if __name__ == "__main__":
    main()
