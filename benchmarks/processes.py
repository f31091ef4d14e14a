"""How much faster two processes are than one: clips a second of an epoch of CNN6 by the Trainer, on the CPU.

.venv/bin/python benchmarks/processes.py                     each process has one thread
.venv/bin/python benchmarks/processes.py --processes 1 2 4

Efficiency is the rate of each process over that of each of the first number of processes.
"""

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning as L
import numpy as np
import torch
from common import data_set_up, machine
from lightning.pytorch.profilers import SimpleProfiler

from cry_lightning.data.splits import Split
from cry_lightning.data.subset import Sampling
from cry_lightning.encoders import CNN6
from cry_lightning.features import LogMel
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.optimisation import Optimisation


def train(processes: int, epochs: int, out: Path) -> None:
    """Writes the clips a second of each epoch but the first, from within one of the processes."""
    torch.set_num_threads(1)
    with data_set_up(None, LogMel(), Split(group="clip"), sampling=Sampling(batch_size=32, drop_last=True)) as data:
        how = Optimisation(partial(torch.optim.SGD, lr=0.01))
        model = Classifier(CNN6(n_mels=40, width=16), how, num_classes=len(data.classes))
        profiler = SimpleProfiler()
        quiet = {f"enable_{part}": False for part in ("checkpointing", "progress_bar", "model_summary")}
        trainer = L.Trainer(
            "cpu",
            devices=processes,
            strategy="ddp" if processes > 1 else "auto",
            max_epochs=1 + epochs,
            limit_val_batches=0,
            logger=False,
            profiler=profiler,
            **quiet,
        )
        trainer.fit(model, datamodule=data)
        if trainer.is_global_zero:
            taken = np.array(profiler.recorded_durations["run_training_epoch"][1:])
            out.write_text(json.dumps((trainer.num_training_batches * 32 * processes / taken).tolist()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="of each, after one that does not count (%(default)s)")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.out:
        return train(arguments.processes[0], arguments.epochs, arguments.out)
    print(machine())
    alone = 0.0
    for processes in arguments.processes:
        with TemporaryDirectory() as folder:
            out = Path(folder) / "rates"
            given = ["--processes", str(processes), "--epochs", str(arguments.epochs), "--out", str(out)]
            subprocess.run([sys.executable, __file__, *given], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            rate = float(np.median(json.loads(out.read_text())))
        alone = alone or rate / processes
        print(
            f"{processes} processes: {rate:.1f} clips a second, efficiency {rate / alone / processes:.2f}", flush=True
        )


if __name__ == "__main__":
    main()
