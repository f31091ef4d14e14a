"""A killed run, resumed, ends with the weights of the run that was not killed: bit for bit."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
import soundfile
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger
from made import stage_config

from cry_lightning.callbacks import resuming
from cry_lightning.callbacks.dashboard import Figures
from cry_lightning.callbacks.resuming import SIGNALS
from cry_lightning.cli import stage as cli
from cry_lightning.cli.runfolder import RunFolder, made_from
from cry_lightning.console import Interrupted, UserError
from cry_lightning.data.datamodule import CryDataModule

KILLER = """
import os, signal, sys
from cry_lightning.cli import stage as cli
from cry_lightning.callbacks.dashboard import Figures

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
    halving = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1, "gamma": 0.5}}
    config = stage_config(
        tones,
        folder,
        head={"class_path": "cry_lightning.tasks.heads.MLPHead", "init_args": {"hidden": [8], "dropout": 0.5}},
        augment=[{"class_path": "cry_lightning.tasks.augment.SpecAugment"}],
        optimisation={"scheduler": halving},
    )
    config["save_every_n_steps"] = 2
    config["trainer"]["max_epochs"] = 3
    config["trainer"]["precision"] = "32-true"  # also in processes of their own, where `made` changes nothing
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


# 40 training clips in batches of 8 make 5 steps an epoch; last.ckpt is written at even steps, but for one between which
# and the epoch's end is a validation alone: that is written after it.
@pytest.mark.parametrize(
    ("step", "hook", "resumed_from"),
    [
        pytest.param(
            7, "on_train_batch_end", 6, marks=pytest.mark.slow
        ),  # in the second epoch, one step after a checkpoint
        pytest.param(10, "on_train_epoch_end", 8, marks=pytest.mark.slow),  # before the schedule steps
        pytest.param(4, "on_train_batch_end", 2, marks=pytest.mark.slow),  # the checkpoint of this step is not written
        pytest.param(5, "on_validation_start", 4, marks=pytest.mark.slow),  # an epoch's last step is done again
        pytest.param(10, "on_validation_start", 8, marks=pytest.mark.slow),  # nor is one before a validation
        pytest.param(12, "on_train_batch_start", 12, marks=pytest.mark.slow),
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
    assert_same(whole / "tones/pretrain", last.parent)
    first_epoch_ended = step > 5
    assert (runs / "tones/pretrain/fit/metrics-1.csv").exists() == first_epoch_ended  # the curves before the kill


def assert_same(whole: Path, resumed: Path) -> None:
    """Weights, choice of the best, its score, and every row of the curves that the resumed run has written."""
    for name in ("last.ckpt", "best.ckpt"):
        expected, found = (torch.load(folder / name, weights_only=True) for folder in (whole, resumed))
        assert (expected["global_step"], expected["epoch"]) == (found["global_step"], found["epoch"]), name
        assert best_scores(expected) == best_scores(found), name
        for key, value in expected["state_dict"].items():
            assert torch.equal(value, found["state_dict"][key]), (name, key)
    assert curves(whole) == curves(resumed)


def best_scores(checkpoint: dict) -> list[float]:
    states = (state for key, state in checkpoint["callbacks"].items() if key.startswith("ModelCheckpoint"))
    return [float(state["best_model_score"]) for state in states]


def curves(folder: Path) -> dict[tuple[int, str], float]:
    """Every value that was logged, the later of two; a resumed run does some steps again."""
    found = {}
    for path in [*sorted(folder.glob("fit/metrics-*.csv")), folder / "fit/metrics.csv"]:
        if path.exists():
            for row in pd.read_csv(path).to_dict("records"):
                found |= {(row["step"], key): value for key, value in row.items() if value == value}
    return found


SCHEMES = {
    "every epoch": ["--save_every_n_steps=null"],
    "at an epoch's last step": ["--save_every_n_steps=5"],
    "two validations an epoch": ["--trainer.val_check_interval=0.4"],
    "a validation every second epoch": ["--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=4"],
    "validations by steps": ["--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=3"],
    "two batches a step": ["--trainer.accumulate_grad_batches=2", "--save_every_n_steps=1"],
    "so many steps": ["--trainer.max_steps=13", "--trainer.max_epochs=-1", "--save_every_n_steps=5"],
    "a warm-up": [
        *("--model.optimisation.scheduler=null", "--model.optimisation.warmup_epochs=1", "--save_every_n_steps=3")
    ],
    "chosen by the training": ["--checkpoint.monitor=train/loss", "--checkpoint.mode=min", "--save_every_n_steps=5"],
}
QUICK = ("at an epoch's last step",)  # once in the default tier
HOOKS = [
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_end",
    "on_train_epoch_end",
    "on_train_end",
]


@pytest.fixture
def interrupted(monkeypatch):
    """Ends fits at their n-th hook; None ends none, and counts the hooks."""
    state = {"passed": 0, "last": None}

    def counting(earlier):
        def hook(self, trainer, *args):
            if earlier:
                earlier(self, trainer, *args)
            state["passed"] += 1
            if state["passed"] == state["last"]:
                raise Interrupted(signal.SIGINT, "ended")

        return hook

    for name in HOOKS:
        monkeypatch.setattr(Figures, name, counting(getattr(Figures, name, None)), raising=False)

    def at(n: int | None, args: list[str]) -> int:
        state.update(passed=0, last=n)
        with pytest.raises(KeyboardInterrupt) if n else nullcontext():
            cli.main(args)
        return state["passed"]

    return at


@pytest.mark.parametrize(
    "scheme", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name) for name in SCHEMES]
)
def test_a_run_ended_anywhere_resumes_to_the_same(config, tmp_path, interrupted, request, scheme):
    args = ["fit", "--config", str(config), *SCHEMES[scheme]]
    n_hooks = interrupted(None, [*args, "--runs", str(tmp_path / "whole")])
    is_quick = scheme in QUICK and "slow" in request.config.getoption("-m")
    ends = [13] if is_quick else range(7, n_hooks + 1, max(1, n_hooks // 10))  # 13: before the first validation's end
    for n in ends:
        runs = tmp_path / f"ended-{n}"
        interrupted(n, [*args, "--runs", str(runs)])
        interrupted(None, [*args, "--runs", str(runs)])  # from its last.ckpt, where there was one already
        assert_same(tmp_path / "whole/tones/pretrain", runs / "tones/pretrain")


@pytest.fixture
def signalled(monkeypatch):
    """Sends this process a scheduler's signal at the first such hook from a step on."""

    def at(step: int, hook: str, name: str) -> None:
        left = [name]

        def send(self, trainer, *args):
            if trainer.global_step >= step and left:
                signal.raise_signal(getattr(signal, left.pop()))

        monkeypatch.setattr(Figures, hook, send, raising=False)

    return at


@pytest.mark.parametrize(
    ("step", "hook", "name", "written"),
    [
        (7, "on_train_batch_end", "SIGUSR1", 7),
        pytest.param(5, "on_validation_start", "SIGTERM", 5, marks=pytest.mark.slow),  # after the validation
        pytest.param(9, "on_train_batch_start", "SIGTERM", 10, marks=pytest.mark.slow),  # an epoch's last step
        pytest.param(12, "on_train_batch_start", "SIGUSR1", 13, marks=pytest.mark.slow),
        pytest.param(11, "on_train_batch_end", "SIGINT", 11, marks=pytest.mark.slow),  # as in test_one_process.py
    ],
)
def test_the_same_command_goes_on_after_a_signal(whole, config, tmp_path, signalled, caplog, step, hook, name, written):
    args = ["fit", "--config", str(config), "--runs", str(tmp_path)]
    signalled(step, hook, name)
    folder, handlers = tmp_path / "tones/pretrain", [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises((Interrupted, KeyboardInterrupt)) as stop:
        cli.main(args)
    by_hand = isinstance(stop.value, KeyboardInterrupt)
    assert by_hand == (name == "SIGINT") and (by_hand or stop.value.code == 128 + getattr(signal, name))
    assert getattr(stop.value, "message", str(stop.value)) == (
        f"stopped by {name} after step {written}, with {folder}/last.ckpt written; the same command goes on from there"
    )
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == written
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    with caplog.at_level("INFO"):
        cli.main(args)
    assert f"{folder}: goes on from its last.ckpt; --overwrite=true would begin anew" in caplog.messages
    assert_same(whole / "tones/pretrain", folder)
    assert (folder / "fit/finished").exists()


@pytest.mark.parametrize("older", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_fit_that_overwrites_goes_on_too_and_keeps_the_older_run_until_its_end(
    whole, config, tmp_path, signalled, caplog, older
):
    args = ["fit", "--config", str(config), "--runs", str(tmp_path), "--overwrite=true", "--trainer.max_epochs=1"]
    folder = tmp_path / "tones/pretrain"
    if older:
        shutil.copytree(whole / "tones/pretrain", folder)
    caplog.set_level("INFO")
    signalled(2, "on_train_batch_end", "SIGUSR1")
    with pytest.raises(Interrupted) as stop:
        cli.main(args)
    assert f"after step 2, with {folder}/last.ckpt written; the same" in stop.value.message
    assert (folder / ".replaced/fit/finished").exists() == (folder / ".replaced/best.ckpt").exists() == older
    cli.main(args)
    told = f"{folder}: goes on from its last.ckpt; without {folder}/last.ckpt it would begin anew"
    assert told in caplog.messages
    assert (folder / "fit/finished").exists() and not (folder / ".replaced").exists()


def test_what_never_was_finished_does_not_take_the_place_of_a_finished_run(tmp_path):
    folder, replaced = RunFolder(tmp_path), tmp_path / ".replaced"
    (tmp_path / "fit").mkdir()
    for name in ("best.ckpt", "fit/finished", "report.md", "made_from.json"):
        (tmp_path / name).write_text("old")
    for config in ("name: new", "name: newer"):
        folder.begin(config, overwrite=True)
        for name in ("best.ckpt", "last.ckpt", "predictions.csv"):
            (tmp_path / name).write_text(config)
    assert {path.read_text() for path in replaced.rglob("*") if path.is_file()} == {"old"}
    assert sorted(path.name for path in replaced.iterdir()) == ["best.ckpt", "fit", "made_from.json", "report.md"]
    folder.finish(1)
    folder.begin("name: newest", overwrite=True)  # and of two that are finished, the later one is kept
    assert (replaced / "predictions.csv").read_text() == "name: newer"


def test_a_fit_that_overwrites_goes_on_only_from_the_weights_and_inputs_that_it_began_with(tmp_path):
    folder, weights = RunFolder(tmp_path / "run"), tmp_path / "weights.ckpt"
    config = f"model: {{init_args: {{weights: {weights}}}}}"
    folder.path.mkdir()
    weights.write_text("pretrained")
    told = made_from.set("of these recordings")
    try:
        folder.begin(config, overwrite=True)
        folder.last.touch()
        assert folder.is_begun(config, overwrite=True)
        weights.write_text("pretrained again")
        assert not folder.is_begun(config, overwrite=True)
        weights.unlink()  # a fit that goes on reads none
        assert folder.is_begun(config, overwrite=True)
        made_from.set("of other recordings")
        assert not folder.is_begun(config, overwrite=True)
    finally:
        made_from.reset(told)


def test_a_fit_whose_weights_were_replaced_does_not_go_on_unasked(tmp_path):
    folder, weights = RunFolder(tmp_path / "run"), tmp_path / "best.ckpt"
    config = f"{{name: run, model: {{init_args: {{weights: {weights}}}}}}}"
    weights.write_bytes(b"first")
    with folder.held():
        folder.begin(config, overwrite=False)
        folder.last.touch()
        assert folder.is_begun(config)
        weights.write_bytes(b"other")
        with pytest.raises(UserError, match=r"began with other weights .* --overwrite=true begins anew"):
            folder.is_begun(config)
        weights.unlink()
        assert folder.is_begun(config)  # it needs them no more


@pytest.mark.parametrize("names", [["SIGUSR1", "SIGTERM", "SIGTERM"], ["SIGINT", "SIGINT"], ["SIGTERM", "SIGINT"]])
def test_the_same_signal_again_ends_what_hangs(config, tmp_path, monkeypatch, names):
    """In the first step, which goes on for ever."""
    monkeypatch.setattr(resuming, "AGAIN_S", 0.0)
    monkeypatch.setattr(resuming, "BY_HAND_S", 0.0)
    sent, handlers = [], [signal.getsignal(number) for number in SIGNALS]

    def hang(*_):
        for name in names[len(sent) :]:
            sent.append(name)
            signal.raise_signal(getattr(signal, name))
        sent.append("not ended")

    monkeypatch.setattr(Figures, "on_train_batch_start", hang, raising=False)
    monkeypatch.setattr(CSVLogger, "finalize", hang)  # among what ends a fit
    with pytest.raises(KeyboardInterrupt if "SIGINT" in names else Interrupted) as stop:
        cli.main(["fit", "--config", str(config), "--runs", str(tmp_path)])
    said = f"stopped by {names[-1]} again; the same command goes on"
    assert sent == [*names, "not ended"] and getattr(stop.value, "message", str(stop.value)) == said  # the logger's
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_one_signal_on_two_ways_is_one(config, tmp_path, monkeypatch):
    """As a scheduler sends it to all of a job's processes, and GNU make to those that it runs."""
    monkeypatch.setattr(Figures, "on_train_batch_start", lambda *_: signal.raise_signal(signal.SIGTERM), raising=False)
    with pytest.raises(Interrupted) as stop:
        cli.main(["fit", "--config", str(config), "--runs", str(tmp_path)])
    assert "stopped by SIGTERM after" in stop.value.message and (tmp_path / "tones/pretrain/last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_signal_anywhere_leaves_what_resumes_to_the_same(config, tmp_path, signalled, scheme):
    args = ["fit", "--config", str(config), *SCHEMES[scheme]]
    cli.main([*args, "--runs", str(tmp_path / "whole")])
    for step, hook in [(3, "on_train_batch_end"), (5, "on_validation_start"), (6, "on_train_batch_start")]:
        signalled(step, hook, "SIGTERM")
        runs = ["--runs", str(tmp_path / f"{step}-{hook}")]
        with pytest.raises(Interrupted):
            cli.main([*args, *runs])
        cli.main([*args, *runs])
        assert_same(tmp_path / "whole/tones/pretrain", tmp_path / f"{step}-{hook}/tones/pretrain")


def test_a_fit_goes_on_unasked_only_from_what_it_was(tones, tested, config, tmp_path, signalled, caplog):
    rows = [line.split(",") for line in tones.read_text().split()[1:]]
    content = yaml.safe_load(config.read_text())
    table, path = tmp_path / "manifest.csv", tmp_path / "stage.yaml"
    content["data"]["corpus"]["init_args"]["root"] = str(table)
    path.write_text(yaml.safe_dump(content))
    args, folder = ["fit", "--config", str(path), "--runs", str(tmp_path)], tmp_path / "tones/pretrain"
    other = {"low": "high", "high": "low"}

    def write(label, subject):
        lines = [f"{tones.parent / name},{label(one)},{subject(infant)}" for name, one, infant, _ in rows]
        table.write_text("\n".join(["path,label,subject", *lines]))

    write(str, str)
    signalled(7, "on_train_batch_end", "SIGUSR1")
    with pytest.raises(Interrupted):
        cli.main(args)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    cli.main([*args, "--trainer.fast_dev_run=true"])  # a trial of the code alone
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    edits = {"labels": (other.get, str), "labels and subjects": (other.get, "{}b".format)}
    for what, edit in edits.items():
        write(*edit)
        with pytest.raises(UserError, match=f"pretrain: {what} of the clips have changed since this fit began"):
            cli.main(args)
    write(str, str)
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    checkpoint["lineage"]["stages"][-1]["clips"].pop()  # as if there were one clip more now
    torch.save(checkpoint, folder / "last.ckpt")
    with pytest.raises(UserError, match="or their division, have changed since this fit began; --overwrite=true would"):
        cli.main(args)
    (folder / "last.ckpt").write_bytes(before[folder / "last.ckpt"][:1000])
    with pytest.raises(UserError, match=r"last\.ckpt.*; --overwrite=true would begin anew"):
        cli.main(args)
    (folder / "last.ckpt").write_bytes(before[folder / "last.ckpt"])
    heard = pd.read_csv(tested.with_name("predictions.csv")).query("split == 'test'")["recording"][0]  # divided alike
    samples, rate = soundfile.read(tones.parent / heard)
    soundfile.write(tmp_path / "another.wav", samples / 2, rate)
    table.write_text(table.read_text().replace(str(tones.parent / heard), str(tmp_path / "another.wav")))
    cli.main(args)
    assert "the test clips (" in caplog.text and "it goes on" in caplog.text


@pytest.mark.slow
def test_a_signal_at_the_last_step_lets_the_fit_finish(whole, config, tmp_path, signalled):
    signalled(15, "on_validation_start", "SIGTERM")
    cli.main(["fit", "--config", str(config), "--runs", str(tmp_path)])
    expected, found = weights(whole, "best.ckpt"), weights(tmp_path, "best.ckpt")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert (tmp_path / "tones/pretrain/fit/finished").exists()


def test_only_an_unfinished_run_of_the_same_config_goes_on(tmp_path):
    folder = RunFolder(tmp_path / "tones/pretrain")
    folder.finished.parent.mkdir(parents=True)
    folder.config.write_text("trainer: {max_epochs: 3}")
    assert not folder.is_begun("trainer: {max_epochs: 3}")  # before there was any checkpoint
    folder.last.touch()
    assert folder.is_begun("trainer: {max_epochs: 3}")
    assert folder.is_begun("{trainer: {max_epochs: 3, logger: false}, ckpt_path: last.ckpt}")
    assert not folder.is_begun("trainer: {max_epochs: 4}")
    assert not folder.is_begun("trainer: {max_epochs: 3, gradient_clip_val: 0.1}")
    folder.finished.touch()
    assert not folder.is_begun("trainer: {max_epochs: 3}")


@pytest.mark.slow
def test_a_scheduler_ends_a_process_and_starts_it_again(whole, config, tmp_path):
    """As under `sbatch --signal=USR1@120 --requeue`, and by Ctrl-C: the same command each time, until it is done."""
    command = [sys.executable, "-m", "cry_lightning", "fit", "--config", str(config), "--runs", str(tmp_path)]
    folder = tmp_path / "tones/pretrain"
    for number in (signal.SIGUSR1, signal.SIGINT):
        before = stamp(folder / "last.ckpt")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and stamp(folder / "last.ckpt") == before:
            time.sleep(0.01)
        process.send_signal(number)
        said = process.communicate()[1]
        assert process.returncode == 128 + number, said
        assert said.endswith("/last.ckpt written; the same command goes on from there\n") and "Traceback" not in said
    subprocess.run(command, check=True, capture_output=True)
    assert_same(whole / "tones/pretrain", folder)


def stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def test_resuming_with_nothing_left_leaves_the_run_as_it_is(whole, config, capsys):
    folder = whole / "tones/pretrain"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    cli.main(["fit", "--config", str(config), "--ckpt_path", str(folder / "last.ckpt")])
    assert capsys.readouterr().out == f"{folder}: nothing is left to train; the run is as it was\n"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_finished_run_that_cannot_be_made_longer_is_as_it_was(whole, config, tmp_path, monkeypatch):
    folder = tmp_path / "tones/pretrain"
    shutil.copytree(whole / "tones/pretrain", folder)
    (folder / "predictions.csv").touch()
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    longer = ["fit", "--config", str(config), "--runs", str(tmp_path), "--trainer.max_epochs=4"]
    longer += ["--ckpt_path", str(folder / "last.ckpt")]
    with monkeypatch.context() as patch, pytest.raises(UserError, match="the recordings are gone"):
        patch.setattr(CryDataModule, "setup", Mock(side_effect=UserError("the recordings are gone")))
        cli.main(longer)
    after = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {**after, "hparams.yaml": before["hparams.yaml"]} == before  # which the logger writes as it begins
    cli.main(longer)
    assert not (folder / "predictions.csv").exists()
    assert "max_epochs: 4" in (folder / "config.yaml").read_text()


@pytest.mark.slow
def test_a_fit_killed_at_any_moment_resumes_to_the_same(whole, config, tmp_path):
    """SIGKILL at twenty moments, in set-up too; started again where there is no last.ckpt yet."""
    command = [sys.executable, "-m", "cry_lightning", "fit", "--config", str(config), "--save_every_n_steps=2"]
    began = time.monotonic()
    subprocess.run([*command, "--runs", str(tmp_path / "timed")], check=True, capture_output=True)
    took = time.monotonic() - began
    for moment in range(20):
        runs = tmp_path / f"killed-{moment}"
        process = subprocess.Popen(
            [*command, "--runs", str(runs)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(took * (0.5 + 0.5 * moment / 20))
        process.kill()
        process.wait()
        last = runs / "tones/pretrain/last.ckpt"
        resume = ["--ckpt_path", str(last)] if last.exists() else []
        cli.main(["fit", "--config", str(config), "--runs", str(runs), *resume])
        assert_same(whole / "tones/pretrain", last.parent)
        assert not list(last.parent.rglob("*.part"))


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


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["--data.seed=1", "--seed_everything=1"])
def test_another_seed_is_another_run(whole, config, tmp_path, seed):
    """The other side of reproducible randomness."""
    cli.main(["fit", "--config", str(config), "--runs", str(tmp_path / "other"), seed])
    first, other = weights(whole), weights(tmp_path / "other")
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_an_interruption_goes_from_one_process_to_another():
    sent = pickle.loads(pickle.dumps(Interrupted(10, "stopped")))
    assert (sent.code, sent.number, sent.message) == (138, 10, "stopped")
