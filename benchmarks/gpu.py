"""Training speed on a GPU, in one command of under eight minutes: networks, precisions, memory, front ends.

.venv/bin/python benchmarks/gpu.py                  on the GPU that there is
.venv/bin/python benchmarks/gpu.py --device cpu --toy      the same at toy size, to see that it runs

Each line is a whole training step (views or batch on the device, forward, loss, backward, optimiser). The share is
that of the rate at which the device multiplies large matrices in the same precision, measured first; the operations of
a step are counted by torch. What does not fit into the time, or the memory, is listed as left out.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cry_lightning.encoders import CNN14, EfficientAT, Res8
from cry_lightning.features import MFCC, EfficientATLogMel, Feature, LogMel
from cry_lightning.tasks.heads import Projector
from cry_lightning.tasks.losses import nt_xent

TEMPERATURE, N_CLASSES = 0.5, 10
PRECISIONS = ("fp32", "bf16", "bf16, compiled")
PANNS = partial(LogMel, sample_rate=16000, n_fft=512, hop_length=160, n_mels=64, f_min=50.0, f_max=8000.0)


@dataclass(frozen=True)
class Case:
    """A network with its front end, and the clips that it is trained on."""

    encoder: Callable[[], nn.Module]
    front_end: Callable[[], Feature]
    clip_s: float
    batch: int  # clips of a step
    sizes: tuple[int, ...]  # of which the memory is measured


CASES = {
    "CNN14": Case(CNN14, PANNS, 4.0, 128, (32, 64, 128, 256)),
    "EfficientAT 1.0": Case(EfficientAT, EfficientATLogMel, 4.0, 128, (32, 64, 128, 256)),
    "Res8": Case(Res8, MFCC, 1.0, 512, (128, 512, 2048, 8192)),
}
TOY = {
    "CNN14": Case(partial(CNN14, width=4), PANNS, 0.5, 4, (2, 4)),
    "EfficientAT 0.1": Case(partial(EfficientAT, 0.1), EfficientATLogMel, 0.5, 4, (2, 4)),
    "Res8": Case(partial(Res8, 8), MFCC, 0.5, 8, (4, 8)),
}


@dataclass(frozen=True)
class Row:
    """What was measured of one kind of step."""

    network: str
    task: str
    precision: str
    batch: int
    clips_per_s: float
    teraflops: float
    share: float  # of the measured rate of matrix products
    peak_mb: float | None  # None where the device does not tell


class Stopwatch:
    """Medians of so many seconds, until all of the time is spent."""

    def __init__(self, device: torch.device, each_s: float, minutes: float) -> None:
        self.device, self.each_s = device, each_s
        self.ends = time.monotonic() + 60 * minutes

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.ends

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object]) -> float:
        """The median of three rounds or more, after two for nothing."""
        work(), work()
        times: list[float] = []
        while len(times) < 3 or (sum(times) < self.each_s and len(times) < 1000):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision != "fp32")


def matmul_rate(watch: Stopwatch, n: int, dtype: torch.dtype) -> float:
    """Operations per second of one large product."""
    left, right = (torch.randn(n, n, device=watch.device).to(dtype) for _ in range(2))
    return 2 * n**3 / watch.seconds(lambda: left @ right)


def step_of(case: Case, task: str, precision: str, batch: int, device: torch.device) -> Callable[[], Tensor]:
    """One training step on random features that lie on the device."""
    front_end, encoder = case.front_end().to(device), case.encoder().to(device, memory_format=torch.channels_last)
    waveforms = 0.1 * torch.randn(batch, round(case.clip_s * front_end.sample_rate), device=device)
    with torch.inference_mode():
        features = torch.cat([front_end(some) for some in waveforms.split(64)])
    features = features.clone().contiguous(memory_format=torch.channels_last)
    contrastive = task != "supervised"
    head = (Projector(encoder.num_features) if contrastive else nn.Linear(encoder.num_features, N_CLASSES)).to(device)
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=1e-3, momentum=0.9)
    labels = torch.arange(batch, device=device) % N_CLASSES
    network = nn.Sequential(encoder, head)
    if precision.endswith("compiled"):
        network.compile()
    loss = loss_of(task, labels)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        inputs = features
        if contrastive:  # two views, which differ by noise
            inputs = torch.cat([features, features + 0.1 * torch.randn_like(features)])
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            value = loss(network(inputs))
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def loss_of(task: str, labels: Tensor) -> Callable[[Tensor], Tensor]:
    if task == "supervised":
        return lambda scores: nn.functional.cross_entropy(scores, labels)
    if task == "SimCLR":
        return lambda z: nt_xent(z, TEMPERATURE)
    from lightly.loss import NTXentLoss  # the same loop with their loss

    theirs = NTXentLoss(TEMPERATURE)
    return lambda z: theirs(*z.chunk(2))


def peak_mb(device: torch.device, work: Callable[[], object]) -> float | None:
    if device.type != "cuda":
        work()
        return None
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**20


def measured(watch: Stopwatch, cases: dict[str, Case], rates: dict[str, float]) -> Iterator[Row | str]:
    """A row for each network, task and precision; a text for what could not be."""
    tasks = ["supervised", "SimCLR", *(["SimCLR, lightly's loss"] if find_spec("lightly") else [])]
    for precision in PRECISIONS:  # the slowest to begin comes last
        for name, case in cases.items():
            for task in tasks:
                what = f"{name}, {task}, {precision}"
                if watch.is_over:
                    yield f"{what}: left out, the time is over"
                    continue
                try:
                    yield row_of(watch, name, case, task, precision, rates[precision[:4]])
                except Exception as error:  # no compiler, no memory: the others are still of use
                    yield f"{what}: left out, {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def row_of(watch: Stopwatch, name: str, case: Case, task: str, precision: str, rate: float) -> Row:
    counted = step_of(case, task, precision.removesuffix(", compiled"), case.batch, watch.device)
    with FlopCounterMode(display=False) as counter:
        counted()
    step = step_of(case, task, precision, case.batch, watch.device)
    taken = watch.seconds(step)
    done = counter.get_total_flops() / taken
    memory = peak_mb(watch.device, step)
    return Row(name, task, precision, case.batch, case.batch / taken, done / 1e12, done / rate, memory)


def memory_by_batch(watch: Stopwatch, cases: dict[str, Case]) -> Iterator[tuple[str, int, float | None]]:
    """Peak memory of a SimCLR step in bfloat16 at some sizes of the batch."""
    for name, case in cases.items():
        for size in case.sizes:
            if watch.is_over:
                return
            try:
                yield name, size, peak_mb(watch.device, step_of(case, "SimCLR", "bf16", size, watch.device))
            except torch.OutOfMemoryError:
                yield name, size, float("inf")


def front_ends(watch: Stopwatch, cases: dict[str, Case]) -> Iterator[tuple[str, float, float]]:
    """Clips per second of each front end on the device, and of copying cached features to it."""
    for name, case in cases.items():
        front_end = case.front_end().to(watch.device)
        n_samples = round(case.clip_s * front_end.sample_rate)
        waveforms = 0.1 * torch.randn(case.batch, n_samples, device=watch.device)
        with torch.inference_mode():
            cached = front_end(waveforms).cpu()
            computed = watch.seconds(partial(front_end, waveforms))
            copied = watch.seconds(lambda cached=cached: cached.to(watch.device, copy=True))
        yield name, case.batch / computed, case.batch / copied


def in_mb(megabytes: float | None) -> str:
    return "memory not told" if megabytes is None else f"{megabytes:,.0f} MB"


def machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    return f"{name}, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--toy", action="store_true", help="networks and batches of toy size")
    parser.add_argument("--minutes", type=float, default=7.0, help="after which nothing new is begun (%(default)s)")
    parser.add_argument("--json", type=Path, help="write what was measured to this file, too")
    arguments = parser.parse_args()
    device, cases = torch.device(arguments.device), TOY if arguments.toy else CASES
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU is found by torch; --device cpu --toy shows that the script runs")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # fp32 means 32 bits
    watch = Stopwatch(device, 0.05 if arguments.toy else 2.0, arguments.minutes)
    n = 256 if arguments.toy else 8192
    rates = {name: matmul_rate(watch, n, dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    print(machine(device))
    print(", ".join(f"{name}: {rate / 1e12:.3g} TFLOP/s of matrix products" for name, rate in rates.items()))
    rows: list[Row] = []
    for row in measured(watch, cases, rates):
        if isinstance(row, Row):
            rows.append(row)
            what = f"{row.network:16} {row.task:24} {row.precision:15} batch {row.batch:5}"
            speed = f"{row.clips_per_s:12,.0f} clips/s {row.teraflops:8.3g} TFLOP/s {row.share:6.1%}"
            print(f"  {what} {speed} {in_mb(row.peak_mb)}")
        else:
            print(f"  {row}")
    memory_rows = list(memory_by_batch(watch, cases))
    for name, size, megabytes in memory_rows:
        print(
            f"  {name:16} SimCLR in bf16, batch {size:5}: {'not told' if megabytes is None else f'{megabytes:,.0f} MB'}"
        )
    front_end_rows = list(front_ends(watch, cases))
    for name, computed, copied in front_end_rows:
        print(f"  {name:16} front end {computed:12,.0f} clips/s, cached features copied {copied:12,.0f} clips/s")
    if arguments.json:
        found = {"machine": machine(device), "matmul": rates, "steps": [asdict(row) for row in rows]}
        found |= {"memory": memory_rows, "front_ends": front_end_rows}
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
