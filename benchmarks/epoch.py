"""Time of a training epoch of Res8 on the CPU, as ratios within one run: the warm cache against librosa in a Dataset.

.venv/bin/python benchmarks/epoch.py                           on synthetic words
.venv/bin/python benchmarks/epoch.py --data path/to/fsdd       on the Free Spoken Digit Dataset

Wants the package installed with its extra `dev` (`make install`).
"""

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from common import data_set_up, librosa_mfcc, machine, measured, note, options, seconds
from lightning.pytorch.profilers import SimpleProfiler
from torch.utils.data import DataLoader, Dataset

from cry_lightning import audio
from cry_lightning.cli.precision import automatic
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.splits import Split
from cry_lightning.encoders import Res8
from cry_lightning.features import MFCC
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.optimisation import Optimisation

PRECISION = automatic("cpu")[0]  # as `fit` chooses it; the peer trains in 32 bits, as the Trainer does by itself
OURS = "Trainer, warm cache"
PEER_AND_LIMIT = ("Trainer, librosa in a Dataset, 0 workers", "no Trainer, batches in RAM")
Times = tuple[float, float]  # seconds of an epoch, and how many of them were spent waiting for batches


class LibrosaClips(Dataset[dict[str, Any]]):
    """The training clips of a datamodule, each decoded and given to librosa when it is asked for; without a shift."""

    def __init__(self, data: CryDataModule) -> None:
        self.data, self.rows = data, data.rows("train").tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> dict[str, Any]:
        data, row = self.data, self.rows[item]
        clip, rate = data.clips[row], data.feature.sample_rate
        path = data.corpus.path_of(clip)
        waveform = audio.load_fitted(path, rate, data.clip_s, data.fit, clip.start_s, clip.duration_s)
        features = torch.from_numpy(librosa_mfcc(waveform, data.feature))[None]
        return {"features": features, "label": data.labels[row], "index": row}


def classifier(data: CryDataModule) -> Classifier:
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    return Classifier(Res8(), Optimisation(sgd), num_classes=len(data.classes))


def trained(data: CryDataModule, loader: Any, precision: Any) -> Times:
    """One training epoch by the Trainer."""
    profiler = SimpleProfiler()
    quiet = {f"enable_{part}": False for part in ("checkpointing", "progress_bar", "model_summary")}
    trainer = L.Trainer(
        "cpu", max_epochs=1, limit_val_batches=0, logger=False, profiler=profiler, precision=precision, **quiet
    )
    data.train_dataloader = lambda: loader
    trainer.fit(classifier(data), datamodule=data)
    taken = dict(profiler.recorded_durations)
    return sum(taken["run_training_epoch"]), sum(taken["[_TrainingEpochLoop].train_dataloader_next"])


def computed(model: Classifier, batches: list[dict[str, torch.Tensor]]) -> Times:
    """The network's work on batches that lie in memory, in a plain loop."""
    optimizer = model.configure_optimizers()["optimizer"]
    start = time.perf_counter()
    for batch in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == "bf16-mixed"):
            loss = model.loss(model(batch["features"]), batch["label"])
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start, 0.0


def loaded(loader: Iterable[Any]) -> Times:
    """Batches made and dropped, without a network."""
    taken = seconds(lambda: [None for _ in loader])
    return taken, taken


def compare(data: CryDataModule, epochs: int) -> None:
    """Prints how long each way takes, how many times the product's epoch that is, and its share of waiting."""
    loaders = {"warm cache": data.loader("train", train=True)}
    model, batches = classifier(data).to(memory_format=torch.channels_last), list(loaders["warm cache"])
    for workers in (0, 2):
        per_clip = DataLoader(LibrosaClips(data), data.sampling.batch_size, shuffle=True, num_workers=workers)
        loaders[f"librosa in a Dataset, {workers} workers"] = per_clip
    names = {f"Trainer, {name}": name for name in loaders}
    ways = {
        way: partial(trained, data, loaders[name], PRECISION if way == OURS else "32-true")
        for way, name in names.items()
    }
    ways |= {"no Trainer, batches in RAM": partial(computed, model, batches)}
    ways |= {f"no network, {name}": partial(loaded, loader) for name, loader in loaders.items()}
    times = measured(ways, epochs)
    print(f"{machine()}, ours in {PRECISION}")
    print(f"{len(data.rows('train'))} clips of {data.clip_s:g} s; medians of {epochs} epochs")
    product = np.array(times[OURS])[:, 0]
    for name, taken in times.items():
        total, waited = np.array(taken).T
        ratio, share = np.median(total / product), np.median(waited / total)
        print(f"  {name:44} {np.median(total):8.3f} s {ratio:8.3f} x   waiting for data {share:6.1%}")
    per_clip, alone = ((name, float(np.median(np.array(times[name])[:, 0]))) for name in PEER_AND_LIMIT)
    note("epoch of Res8 by the Trainer", float(np.median(product)), per_clip, alone)


def main() -> None:
    arguments = options(__doc__, "epochs of each way")
    with data_set_up(arguments.data, MFCC(), Split(group="clip"), shift_s=0.1) as data:
        compare(data, arguments.epochs)


if __name__ == "__main__":
    main()
