"""The chain of `make` with real stages: all of them in one process, as if each had one of its own."""

import gc
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning import Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _basic_subprocess_cmd
from made import REPO, stage_config

from cry_lightning.callbacks.dashboard import Figures
from cry_lightning.cli import stage as cli
from cry_lightning.cli.process import restored, started_alone
from cry_lightning.make import command as pipeline

SCHEDULERS = [("SIGTERM", 143), ("SIGUSR1", 138)]
CHAIN = ["pretrain", "finetune", "evaluate", "--method=supervised"]
TRAININGS = ["pretrain", "finetune", "--method=supervised"]
STAGES = {"pretrain": "synthetic-words", "finetune": "synthetic-cries"}
FINETUNE = Path("runs/synthetic-cries/finetune-supervised")
MADE = ("best.ckpt", "last.ckpt", "predictions.csv", "reference.pt", "lineage.json", "report.md", "fit/metrics.csv")


@pytest.fixture
def house(tones, tmp_path, monkeypatch):
    """A folder whose stages are tiny ones on the tones, with augmentation and dropout; and this as the current one."""
    (tmp_path / "configs").mkdir()
    for name, corpus in STAGES.items():
        head = {"class_path": "cry_lightning.tasks.heads.MLPHead", "init_args": {"hidden": [8], "dropout": 0.5}}
        config = stage_config(
            tones, tmp_path, name, head=head, augment=[{"class_path": "cry_lightning.tasks.augment.SpecAugment"}]
        )
        config["runs"], config["trainer"]["precision"] = "runs", "32-true"
        config["data"]["corpus"]["init_args"]["name"] = corpus
        del config["data"]["cache"]  # which is then beside the runs
        (tmp_path / f"configs/{name}.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # from an interrupted test on, Lightning ignores Ctrl-C
    return tmp_path


def made(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in MADE}


def state() -> list[object]:
    """What a stage could leave in its process for the next one."""
    own = ("MALLOC", "OMP_WAIT", "ORT")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    settings = [torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark]
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    return [environment, [*sys.argv], sys.modules["__main__"], torch.get_num_threads(), *settings, *handlers]


def trainers() -> set[int]:
    """Those in memory."""
    return {id(one) for one in gc.get_objects() if isinstance(one, Trainer)}


def test_stages_share_a_process_and_leave_nothing_in_it(house, no_figures, capsys):
    before, others = state(), trainers()
    assert pipeline.main(CHAIN) == 0
    assert state() == before
    gc.collect()
    assert trainers() <= others, "whose networks are still in memory"
    out = capsys.readouterr().out
    ran = re.findall(r"^python -m cry_lightning (\w+)", out, re.MULTILINE)
    assert ran == ["fit", "fit", "test", "evaluate"]
    table = (FINETUNE / "report.txt").read_text()
    assert "UAR" in table and f"\n{table}Model card: " in out and out.count(table.splitlines()[0]) == 1
    assert pipeline.main(CHAIN) == 0
    assert not any(line.startswith("python -m") for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("name", "code"), [("SIGINT", 130), *(pytest.param(*one, marks=pytest.mark.slow) for one in SCHEDULERS)]
)
def test_a_signal_ends_the_chain_and_the_same_command_goes_on(house, capsys, monkeypatch, name, code):
    sent = []

    def send(self, trainer, *_):
        if trainer.global_step == 4 and not sent:
            sent.append(name)
            signal.raise_signal(getattr(signal, name))

    monkeypatch.setattr(Figures, "on_train_batch_end", send, raising=False)
    assert pipeline.main(TRAININGS) == code
    done = capsys.readouterr()
    last = "runs/synthetic-words/pretrain/last.ckpt"
    said = f"stopped by {name} after step 4, with {last} written; the same command goes on from there"
    assert done.err.endswith(f"cry_lightning: {said}\n")
    assert done.out.count("python -m cry_lightning") == 1
    assert pipeline.main(TRAININGS) == 0
    assert f"--ckpt_path={last}" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "code"), [pytest.param("SIGINT", 130, marks=pytest.mark.slow), SCHEDULERS[0]])
def test_a_signal_in_the_last_step_of_a_training_ends_the_chain_after_it(house, capsys, monkeypatch, name, code):
    sent = []

    def send(self, trainer, *_):
        if trainer.is_last_batch and trainer.current_epoch == trainer.max_epochs - 1 and not sent:
            sent.append(name)
            signal.raise_signal(getattr(signal, name))

    monkeypatch.setattr(Figures, "on_train_batch_end", send, raising=False)
    before = state()
    assert pipeline.main(TRAININGS) == code and state() == before
    done = capsys.readouterr()
    assert done.err.endswith(f"cry_lightning: stopped by {name}; the same command goes on\n")
    assert done.out.count("python -m cry_lightning") == 1
    assert pipeline.main(TRAININGS) == 0
    assert "runs/synthetic-words/pretrain: up to date" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_before_the_training_leaves_no_run(house, monkeypatch, name):
    monkeypatch.setattr(pipeline.runpy, "run_module", lambda *_, **__: signal.raise_signal(getattr(signal, name)))
    assert pipeline.main(CHAIN) == 128 + getattr(signal, name)
    assert not [*house.rglob("made_from.json")]


def test_settings_of_torch_end_with_their_command():
    with pytest.raises(RuntimeError), restored():
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = True
        os.environ["OF_A_STAGE"] = "1"
        raise RuntimeError
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert "OF_A_STAGE" not in os.environ


def test_further_processes_of_a_training_run_its_command_alone():
    before = [os.environ.get("PYTHONPATH"), [*sys.argv], sys.modules["__main__"]]
    with started_alone(["fit", "--config", "stage.yaml"]):
        command = _basic_subprocess_cmd()
        found = subprocess.run([*command[:3], "--version"], cwd="/", capture_output=True, text=True)
    assert command[1:] == ["-m", "cry_lightning.__main__", "fit", "--config", "stage.yaml"]
    assert found.stdout.startswith("cry_lightning ")
    assert [os.environ.get("PYTHONPATH"), sys.argv, sys.modules["__main__"]] == before


@pytest.mark.parametrize("alone", [False, True])
def test_further_processes_of_a_fit_outside_of_studies_run_its_script(house, alone):
    seen, main = [], sys.modules["__main__"]

    class Fit(cli.ReadCLI):
        def fit(self, **_):
            seen.append(sys.modules["__main__"])

    Fit(["fit", "--config", "configs/finetune.yaml", "--trainer.devices=2"], alone=alone)
    assert (seen == [main]) == (not alone) and sys.modules["__main__"] is main


def test_a_mistake_in_a_stage_ends_the_chain_in_a_line(house, capsys):
    assert pipeline.main([*CHAIN, "--arguments=--model.init_args.num_classes=17"]) == 2
    done = capsys.readouterr()
    assert "error: model.init_args.num_classes is 17, but the corpus has 2" in done.err.splitlines()[-1]
    assert "cry_lightning test" not in done.out
    assert (house / "runs/synthetic-words/pretrain/made_from.json").exists()
    assert not [*house.glob("runs/synthetic-cries/*/made_from.json")]


@pytest.mark.slow
def test_one_process_makes_the_bits_of_many(house):
    given = [sys.executable, "-m", "cry_lightning.make.command", *CHAIN]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    printed = subprocess.run(given, env=environment, check=True, capture_output=True, text=True).stdout
    together = {path.parent: made(path.parent) for path in Path("runs").glob("*/finetune*/best.ckpt")}
    Path("runs").rename("together")
    for line in re.findall(r"^python -m (cry_lightning .*)$", printed, re.MULTILINE):
        subprocess.run([sys.executable, "-m", *shlex.split(line)], env=environment, check=True, capture_output=True)
    assert {folder: made(folder) for folder in together} == together and len(together) == 1


@pytest.mark.slow
def test_a_script_fits_and_tests_its_own_class_in_several_processes(house):
    config = yaml.safe_load((house / "configs/finetune.yaml").read_text())
    config["trainer"] |= {"devices": 2, "strategy": "ddp"}
    config["model"]["init_args"]["encoder"]["class_path"] = "__main__.Net"
    (house / "both.yaml").write_text(yaml.safe_dump(config))
    (house / "both.py").write_text(
        "import cry_lightning as cry\n"
        "from cry_lightning.encoders import Res8\n"
        "class Net(Res8):\n"
        "    pass\n"
        "if __name__ == '__main__':\n"
        "    cry.fit('both.yaml')\n"
        "    cry.test('both.yaml')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    subprocess.run([sys.executable, "both.py"], env=environment, check=True, timeout=300)
    assert (house / "runs/synthetic-cries/finetune/predictions.csv").exists()


@pytest.mark.slow
def test_stages_of_several_processes_follow_each_other(house):
    for name in STAGES:
        config = yaml.safe_load((house / f"configs/{name}.yaml").read_text())
        config["trainer"] |= {"devices": 2, "strategy": "ddp"}
        (house / f"configs/{name}.yaml").write_text(yaml.safe_dump(config))
    given = [sys.executable, "-m", "cry_lightning.make.command", *CHAIN]
    done = subprocess.run(given, env=os.environ | {"PYTHONPATH": str(REPO)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "UAR" in (FINETUNE / "report.txt").read_text()
    assert done.stdout.count("python -m cry_lightning fit") == 2
