"""Studies ended by a signal, whether their trainings are one after the other or at the same time."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import yaml
from made import REPO, stage_config

from cry_lightning.callbacks.dashboard import Figures
from cry_lightning.cli.runfolder import RunFolder
from cry_lightning.console import Interrupted
from cry_lightning.studies import engine

STUDY = """
import sys, time
from functools import partial
from pathlib import Path
from cry_lightning.console import Interrupted, stopped_by_signals
from cry_lightning.studies import engine

def train(folder, number):
    (folder / str(number)).touch()
    try:
        with stopped_by_signals():
            time.sleep(0 if number < 2 else 60)
    except KeyboardInterrupt:  # as a training that ends after its step
        (folder / f"{number} ended").touch()
        raise

if __name__ == "__main__":
    engine.GRACE_S = float(sys.argv[2])
    try:
        print(*engine.side_by_side(partial(train, Path(sys.argv[1])), range(9), 2))
    except Interrupted as stop:
        sys.exit(stop.message)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "times", "to_all", "grace_s"),
    [
        (signal.SIGINT, 1, True, 60.0),  # from a terminal: the trainings end of themselves
        (signal.SIGTERM, 1, False, 0.5),  # to the study alone, which ends them
        (signal.SIGINT, 2, False, 60.0),
    ],
)
def test_a_signal_ends_all_trainings_and_begins_no_other(tmp_path, number, times, to_all, grace_s):
    with studied(tmp_path, grace_s) as (study, began):
        for _ in range(times):
            (os.killpg if to_all else os.kill)(study.pid, number)
            time.sleep(0.5)
        assert f"stopped by {signal.Signals(number).name}; the same command goes on" in study.communicate(timeout=50)[1]
        assert {path.name for path in began.iterdir()} == {*"0123"} | ({"2 ended", "3 ended"} if to_all else set())
        wait_for(lambda: not is_there(study.pid))


@pytest.mark.slow
def test_trainings_end_with_a_study_that_is_killed(tmp_path):
    with studied(tmp_path) as (study, began):
        study.kill()
        study.communicate(timeout=50)  # which all of them have let go
        assert {path.name for path in began.iterdir()} == {*"0123"}
        wait_for(lambda: not is_there(study.pid))


@contextmanager
def studied(folder, grace_s=60.0):
    """A study whose third and fourth training are under way, and the folder of what has begun."""
    (folder / "study.py").write_text(STUDY)
    began = folder / "began"
    began.mkdir()
    command = [sys.executable, str(folder / "study.py"), str(began), str(grace_s)]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    study = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: len([*began.iterdir()]) == 4)
        yield study, began
    finally:
        if is_there(study.pid):
            os.killpg(study.pid, signal.SIGKILL)


def test_a_process_that_was_stopped_does_nothing_more(monkeypatch):
    monkeypatch.setattr(engine, "STOPS", [])
    assert engine.unless_stopped(abs, -1) == 1
    with pytest.raises(SystemExit):
        engine.unless_stopped(sys.exit, 143)
    with pytest.raises(SystemExit) as stop:
        engine.unless_stopped(abs, -1)
    assert stop.value.code == 143


@pytest.mark.parametrize(("name", "code"), [("SIGINT", None), pytest.param("SIGTERM", 143, marks=pytest.mark.slow)])
def test_a_signal_in_the_last_step_of_a_training_ends_the_study(tones, tmp_path, monkeypatch, name, code):
    (tmp_path / "stage.yaml").write_text(yaml.safe_dump(stage_config(tones, tmp_path)))
    study = engine.read_study(engine.StageConfig(str(tmp_path / "stage.yaml")))
    folder = tmp_path / "runs/tones/first"

    def send(self, trainer, *_):
        if trainer.is_last_batch and trainer.current_epoch == trainer.max_epochs - 1:
            signal.raise_signal(getattr(signal, name))

    monkeypatch.setattr(Figures, "on_train_batch_end", send, raising=False)
    with pytest.raises((Interrupted, KeyboardInterrupt)) as stop:
        engine.train(study, {"trainer.logger": False}, folder, {}, engine.BEST)
    assert getattr(stop.value, "message", str(stop.value)) == f"{folder}: {engine.STOPPED}"
    assert getattr(stop.value, "code", None) == code
    assert (folder / "fit/finished").exists() and not (folder / "predictions.csv").exists()
    assert not (folder / engine.MARK).exists()


def test_a_training_of_a_study_goes_on_only_from_one_of_the_same_data(tones, tmp_path, monkeypatch):
    (tmp_path / "stage.yaml").write_text(yaml.safe_dump(stage_config(tones, tmp_path)))
    study = engine.read_study(engine.StageConfig(str(tmp_path / "stage.yaml")))
    run, begun = RunFolder(tmp_path / "runs/tones/first"), []
    run.path.mkdir(parents=True)

    def train(*_, **__):
        begun.append(run.is_begun("name: first", overwrite=True))
        run.begin("name: first", overwrite=True)
        run.last.touch()
        if len(begun) < 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine.cli, "main", train)
    for data in ("a", "a", "b"):
        with pytest.raises(KeyboardInterrupt):
            engine.train(study, {}, run.path, {"data_sha256": data})
    engine.train(study, {}, run.path, {"data_sha256": "b", **study.config})  # which is_begun compares by itself
    assert begun == [False, True, False, True]
    assert not (run.path / "made_from.json").exists() and (run.path / engine.MARK).exists()


def is_there(group):
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition):
    """Wait until it holds; processes may take long to import torch."""
    until = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
