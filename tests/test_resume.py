"""A killed run, resumed, ends with the weights of the run that was not killed: bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import stage_config

from cry_lightning import cli

KILLER = """
import os, signal, sys
from cry_lightning import cli
from cry_lightning.callbacks import Figures

def kill(self, trainer, *args):
    if trainer.global_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

setattr(Figures, "{hook}", kill)
cli.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def config(tones, tmp_path_factory):
    """A stage with everything random in it: shuffling, shift, SpecAugment, dropout; and a schedule."""
    folder = tmp_path_factory.mktemp("resume")
    config = stage_config(
        tones,
        folder,
        head={"class_path": "cry_lightning.tasks.heads.MLPHead", "init_args": {"hidden": [8], "dropout": 0.5}},
        augment=[{"class_path": "cry_lightning.tasks.augment.SpecAugment"}],
        scheduler={"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1, "gamma": 0.5}},
    )
    config["save_every_n_steps"] = 2
    config["trainer"]["max_epochs"] = 3
    path = folder / "pretrain.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def whole(config):
    """Run folders of the run that is not killed."""
    cli.main(["fit", "--config", str(config)])
    return config.parent / "runs"


def weights(folder: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    return torch.load(folder / "tones/pretrain" / name, weights_only=True)["state_dict"]


def run_killed(config: Path, runs: Path, step: int, hook: str) -> None:
    script = KILLER.format(step=step, hook=hook)
    args = ["fit", "--config", str(config), "--runs", str(runs)]
    done = subprocess.run([sys.executable, "-c", script, *args], env=os.environ, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


# 40 training clips in batches of 8 make 5 steps an epoch; last.ckpt is written at even steps.
@pytest.mark.parametrize(
    ("step", "hook", "resumed_from"),
    [
        (7, "on_train_batch_end", 6),  # in the second epoch, one step after a checkpoint
        pytest.param(10, "on_train_epoch_end", 10, marks=pytest.mark.slow),  # before the schedule steps
        pytest.param(4, "on_train_batch_end", 2, marks=pytest.mark.slow),  # the checkpoint of this step is not written
        pytest.param(5, "on_validation_start", 4, marks=pytest.mark.slow),  # an epoch's last step is done again
        pytest.param(10, "on_validation_start", 10, marks=pytest.mark.slow),  # checkpoint at an epoch's last step
    ],
)
def test_killed_run_resumes_bit_for_bit(whole, config, tmp_path, step, hook, resumed_from):
    runs = tmp_path / "killed"
    run_killed(config, runs, step, hook)
    last = runs / "tones/pretrain/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == resumed_from
    (last.parent / "predictions.csv").write_text("of the checkpoint before")
    cli.main(["fit", "--config", str(config), "--runs", str(runs), "--ckpt_path", str(last)])
    assert not (last.parent / "predictions.csv").exists()
    for name in ("last.ckpt", "best.ckpt"):
        expected, resumed = weights(whole, name), weights(runs, name)
        assert all(torch.equal(expected[key], resumed[key]) for key in expected), name
    first_epoch_ended = step > 5
    assert (runs / "tones/pretrain/fit/metrics-1.csv").exists() == first_epoch_ended  # the curves before the kill


@pytest.mark.slow
def test_epoch_end_checkpoint_resumes_bit_for_bit(config, tmp_path):
    """Without save_every_n_steps, last.ckpt is written at the end of each epoch."""
    args = ["fit", "--config", str(config), "--save_every_n_steps=null"]
    cli.main([*args, "--runs", str(tmp_path / "runs")])
    runs = tmp_path / "killed"
    cli.main([*args, "--runs", str(runs), "--trainer.max_epochs=2"])
    last = runs / "tones/pretrain/last.ckpt"
    cli.main([*args, "--runs", str(runs), "--ckpt_path", str(last)])
    whole, resumed = weights(tmp_path / "runs"), weights(runs)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("seed", ["--data.seed=1", "--seed_everything=1"])
def test_another_seed_is_another_run(whole, config, tmp_path, seed):
    """The other side of reproducible randomness."""
    cli.main(["fit", "--config", str(config), "--runs", str(tmp_path / "other"), seed])
    first, other = weights(whole), weights(tmp_path / "other")
    assert not all(torch.equal(first[name], other[name]) for name in first)
