"""What the Trainer adds to a step, in milliseconds: a network with next to nothing to compute, against a plain loop.

.venv/bin/python benchmarks/steps.py                           on synthetic words
.venv/bin/python benchmarks/steps.py --data path/to/fsdd       on the Free Spoken Digit Dataset

Time is that of the processor, in one thread: what else runs on the machine hardly counts. Wants the package installed
with its extra `dev` (`make install`).
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from common import data_set_up, machine, measured, options

from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.splits import Split
from cry_lightning.data.subset import Sampling
from cry_lightning.encoders import Res8
from cry_lightning.features import MFCC
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.optimisation import Optimisation

QUIET: dict[str, Any] = {f"enable_{part}": False for part in ("checkpointing", "progress_bar", "model_summary")}


def classifier(data: CryDataModule) -> Classifier:
    return Classifier(Res8(n_maps=2), Optimisation(partial(torch.optim.SGD, lr=0.01)), num_classes=len(data.classes))


def processor_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def by_trainer(data: CryDataModule, epochs: int) -> float:
    """So many epochs by the Trainer."""
    trainer = L.Trainer("cpu", max_epochs=epochs, limit_val_batches=0, logger=False, **QUIET)
    return processor_s(lambda: trainer.fit(classifier(data), datamodule=data))


def in_a_loop(data: CryDataModule, epochs: int) -> float:
    """The same steps on the same loader without a Trainer."""
    model, loader = classifier(data), data.train_dataloader()
    optimizer = model.configure_optimizers()["optimizer"]

    def loop() -> None:
        for _ in range(epochs):
            for batch in loader:
                optimizer.zero_grad()
                model.loss(model(batch["features"]), batch["label"]).backward()
                optimizer.step()

    return processor_s(loop)


def main() -> None:
    arguments = options(__doc__, "measured rounds of each way")
    torch.set_num_threads(1)
    sampling = Sampling(batch_size=4, drop_last=True)
    with data_set_up(arguments.data, MFCC(), Split(group="clip"), clip_s=0.1, sampling=sampling) as data:
        steps = len(data.train_dataloader())
        ways = {
            f"{name}, {epochs} epochs": partial(way, data, epochs)
            for name, way in (("Trainer", by_trainer), ("loop", in_a_loop))
            for epochs in (1, 3)
        }
        times = {name: np.array(taken) for name, taken in measured(ways, arguments.epochs).items()}
    print(f"{machine()}\n{steps} steps an epoch; medians of {arguments.epochs} rounds")
    of_step = {
        name: 1000 * np.median(times[f"{name}, 3 epochs"] - times[f"{name}, 1 epochs"]) / (2 * steps)
        for name in ("Trainer", "loop")
    }
    print("  ".join(f"{name} {taken:.3f} ms a step" for name, taken in of_step.items()))
    print(f"the Trainer adds {of_step['Trainer'] - of_step['loop']:.3f} ms to a step")


if __name__ == "__main__":
    main()
