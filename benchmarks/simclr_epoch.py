"""Time of a SimCLR epoch on the CPU, as ratios within one run: the whole stage against its network's work alone.

.venv/bin/python benchmarks/simclr_epoch.py                           on synthetic words
.venv/bin/python benchmarks/simclr_epoch.py --data path/to/fsdd       on the Free Spoken Digit Dataset

The network's work alone is that on two views of every clip that lie in memory, ready made: forward, NT-Xent, backward
and the optimiser's step. Wants the package installed with its extra `dev` (`make install`).
"""

from collections.abc import Iterable
from functools import partial

import lightning as L
import numpy as np
import torch
from common import data_set_up, machine, measured, note, options, seconds
from lightning.pytorch.profilers import SimpleProfiler
from torch import Tensor

from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.splits import Split
from cry_lightning.data.subset import Sampling, Subset
from cry_lightning.encoders import CNN6
from cry_lightning.features import LogMel
from cry_lightning.tasks import SimCLR
from cry_lightning.tasks.augment import RandomCrop, RandomResizedCrop, SpecAugment
from cry_lightning.tasks.base import RelativeLevel
from cry_lightning.tasks.heads import Projector
from cry_lightning.tasks.losses import nt_xent
from cry_lightning.tasks.optimisation import Optimisation

BATCH = 128
BY_TRAINER = "Trainer: the same stage"
FRAMES = 80


def simclr() -> SimCLR:
    """The stage of configs/simclr.yaml."""
    return SimCLR(
        CNN6(40, 8),
        Optimisation(partial(torch.optim.AdamW, lr=2e-3)),
        projector=partial(Projector, hidden=[256], out_features=128),
        temperature=0.5,
        augment=[RandomCrop(FRAMES), RandomResizedCrop((0.7, 1.3), (0.7, 1.3)), SpecAugment(0, 1, 10, 1, 6)],
        normalize=RelativeLevel(),
    )


def trained(data: CryDataModule) -> float:
    """Seconds of one training epoch by the Trainer, from the warm cache; not of what comes before the first."""
    profiler = SimpleProfiler()
    quiet = {f"enable_{part}": False for part in ("checkpointing", "progress_bar", "model_summary")}
    trainer = L.Trainer("cpu", max_epochs=1, limit_val_batches=0, logger=False, profiler=profiler, **quiet)
    trainer.fit(simclr(), datamodule=data)
    return sum(profiler.recorded_durations["run_training_epoch"])


def learned(model: SimCLR, optimizer: torch.optim.Optimizer, views: Iterable[Tensor]) -> None:
    """The network's work on views (2B, 1, F, T), in a plain loop."""
    for pair in views:
        optimizer.zero_grad()
        nt_xent(model.projector(model.encoder(pair)), model.temperature).backward()
        optimizer.step()


def compare(data: CryDataModule, epochs: int) -> None:
    """Prints how long each way takes, and how many times the network's work alone that is."""
    model = simclr().to(memory_format=torch.channels_last)
    optimizer = model.configure_optimizers()["optimizer"]

    def views() -> Iterable[Tensor]:
        for batch in data.loader("train", train=True):
            yield model.view(torch.cat([batch["features"], batch["features"]]), augmented=True)

    ready = list(views())
    alone = "network alone, views in RAM"
    ways = {
        alone: lambda: learned(model, optimizer, ready),
        "plain loop: cache, views, network": lambda: learned(model, optimizer, views()),
        "cache and views, no network": lambda: [None for _ in views()],
        "cache, no views": lambda: [None for _ in data.loader("train", train=True)],
    }
    timed = {name: partial(seconds, way) for name, way in ways.items()} | {BY_TRAINER: partial(trained, data)}
    times = measured(timed, epochs)
    print(f"{machine()}\n{len(data.rows('train'))} clips, {BATCH} per batch; medians of {epochs} epochs")
    for name, taken in times.items():
        ratio = np.median(np.array(taken) / np.array(times[alone]))
        print(f"  {name:44} {np.median(taken):8.3f} s {ratio:8.3f} x")
    note(
        "epoch of SimCLR by the Trainer",
        float(np.median(times[BY_TRAINER])),
        limit=(alone, float(np.median(times[alone]))),
    )


def main() -> None:
    arguments = options(__doc__, "epochs of each way")
    whole = {"subset": Subset(unlabelled=True), "sampling": Sampling(BATCH, drop_last=True)}
    with data_set_up(arguments.data, LogMel(), Split(group="clip", test=0.0), **whole) as data:
        compare(data, arguments.epochs)


if __name__ == "__main__":
    main()
