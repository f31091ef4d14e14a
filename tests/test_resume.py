"""A killed run, resumed, ends with the weights of the run that was not killed: bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from cry_lightning import cli

KILLER = """
import os, signal, sys
from lightning import Callback
from cry_lightning import cli
from cry_lightning.callbacks import Figures

def kill(self, trainer, *args):
    if trainer.global_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

setattr(Figures, "{hook}", kill)
cli.main(sys.argv[1:])
"""


@pytest.fixture
def config(stage, tmp_path):
    """A stage with everything random in it: shuffling, shift, SpecAugment, dropout; and a schedule."""
    path = stage(
        "pretrain",
        head={"class_path": "cry_lightning.tasks.heads.MLPHead", "init_args": {"hidden": [8], "dropout": 0.5}},
        augment=[{"class_path": "cry_lightning.tasks.augment.SpecAugment"}],
        scheduler={"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1, "gamma": 0.5}},
    )
    config = yaml.safe_load(path.read_text())
    config["save_every_n_steps"] = 2
    config["trainer"]["max_epochs"] = 3
    path.write_text(yaml.safe_dump(config))
    return path


def weights(folder: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    return torch.load(folder / "tones/pretrain" / name, weights_only=True)["state_dict"]


def run_killed(config: Path, runs: Path, step: int, hook: str) -> None:
    script = KILLER.format(step=step, hook=hook)
    args = ["fit", "--config", str(config), "--runs", str(runs)]
    done = subprocess.run([sys.executable, "-c", script, *args], env=os.environ, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


# 40 training clips in batches of 8 make 5 steps an epoch; last.ckpt is written at even steps.
@pytest.mark.parametrize(
    ("step", "hook"),
    [
        (4, "on_train_batch_end"),  # at a step whose checkpoint is not yet written
        (7, "on_train_batch_end"),  # in the second epoch, one step after a checkpoint
        (5, "on_validation_start"),  # between an epoch's last step and its validation
        (10, "on_validation_start"),  # checkpoint written at the very last step of an epoch
        (10, "on_train_epoch_end"),  # after validation, before the schedule steps
    ],
)
def test_killed_run_resumes_bit_for_bit(config, tmp_path, step, hook):
    cli.main(["fit", "--config", str(config)])
    runs = tmp_path / "killed"
    run_killed(config, runs, step, hook)
    last = runs / "tones/pretrain/last.ckpt"
    cli.main(["fit", "--config", str(config), "--runs", str(runs), "--ckpt_path", str(last)])
    whole, resumed = weights(tmp_path / "runs"), weights(runs)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    best, resumed_best = weights(tmp_path / "runs", "best.ckpt"), weights(runs, "best.ckpt")
    assert all(torch.equal(best[name], resumed_best[name]) for name in best)


def test_epoch_end_checkpoint_resumes_bit_for_bit(config, tmp_path):
    """Without save_every_n_steps, last.ckpt is written at the end of each epoch."""
    args = ["fit", "--config", str(config), "--save_every_n_steps=null"]
    cli.main(args)
    runs = tmp_path / "killed"
    cli.main([*args, "--runs", str(runs), "--trainer.max_epochs=2"])
    last = runs / "tones/pretrain/last.ckpt"
    cli.main([*args, "--runs", str(runs), "--ckpt_path", str(last), "--overwrite=true"])
    whole, resumed = weights(tmp_path / "runs"), weights(runs)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_dropout_and_order_differ_between_steps(config, tmp_path):
    """The other side of reproducible randomness: another seed gives another run."""
    cli.main(["fit", "--config", str(config)])
    cli.main(["fit", "--config", str(config), "--runs", str(tmp_path / "other"), "--data.seed=1"])
    first, other = weights(tmp_path / "runs"), weights(tmp_path / "other")
    assert not all(torch.equal(first[name], other[name]) for name in first)
