"""A training step on the processor: with our BatchNorm and with torch's, in 32 bits and in bfloat16.

.venv/bin/python benchmarks/training_step.py        with as many threads as the machine has cores

Wants the package installed with its extra `dev` (`make install`), and nothing else at work on the machine.
"""

import argparse
from functools import partial

import numpy as np
import torch
from common import machine, measured, seconds
from torch import nn
from torch.nn.functional import cross_entropy

from cry_lightning.encoders import CNN6, EfficientAT
from cry_lightning.encoders.batch_norm import BatchNorm2d

NETWORKS = {  # batch, (F, T)
    "small CNN6": (partial(CNN6, 40, 8), 256, (40, 80)),
    "EfficientAT mn04": (partial(EfficientAT, 0.4), 32, (128, 100)),
}


def step(name: str, own: bool, mixed: bool) -> partial[float]:
    """What takes the time of one step of ten classes, as `fit` computes it."""
    torch.manual_seed(0)
    network, batch, shape = NETWORKS[name]
    encoder = network()
    model = nn.Sequential(encoder, nn.Linear(encoder.num_features, 10)).to(memory_format=torch.channels_last)
    for module in model.modules():
        if isinstance(module, BatchNorm2d) and not own:
            module.__class__ = nn.BatchNorm2d
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, label = torch.randn(batch, 1, *shape), torch.randint(0, 10, (batch,))
    x = x.contiguous(memory_format=torch.channels_last)

    def once() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = cross_entropy(model(x), label)
        loss.backward()
        optimizer.step()

    return partial(seconds, once)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="steps of each way (default: %(default)s)")
    rounds = parser.parse_args().rounds
    print(f"{machine()}; medians of {rounds} steps")
    for name in NETWORKS:
        ways = {
            (bits, norm): step(name, norm == "ours", bits == "bfloat16")
            for bits in ("bfloat16", "32 bits")
            for norm in ("torch's", "ours")
        }
        times = {way: 1000 * np.median(taken) for way, taken in measured(ways, rounds).items()}
        for (bits, norm), taken in times.items():
            ratio = times[bits, "torch's"] / taken
            print(f"  {name:17} {bits:9} BatchNorm {norm:8} {taken:7.1f} ms  {ratio:.2f} times as fast")
        print(
            f"  {name:17} bfloat16 {times['32 bits', 'ours'] / times['bfloat16', 'ours']:.2f} times as fast as 32 bits"
        )


if __name__ == "__main__":
    main()
