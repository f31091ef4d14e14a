"""The processes and the devices of a study's trainings and tests."""

import pytest
import yaml
from made import stage_config

from cry_lightning.console import UserError
from cry_lightning.studies import engine, label_efficiency, tune


@pytest.fixture
def stage(tones, tmp_path):
    (tmp_path / "stage.yaml").write_text(yaml.safe_dump(stage_config(tones, tmp_path)))
    return engine.StageConfig(str(tmp_path / "stage.yaml"))


def test_several_tasks_of_slurm_are_refused_and_one_is_not(stage, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(UserError, match=r"trainings itself \(trainer.devices\); give srun one task, not 4"):
        engine.read_study(stage)
    monkeypatch.setenv("SLURM_NTASKS", "1")  # as submitit's jobs have it
    assert engine.read_study(stage).config["name"] == "pretrain"


@pytest.mark.parametrize(("named", "tested_on"), [([1], [1]), ([2, 3], [2]), ("3, 2", [3]), (2, 1), ("auto", 1)])
def test_a_study_tests_on_one_of_the_devices_that_are_named(tmp_path, monkeypatch, named, tested_on):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"trainer": {"devices": named}}))
    asked = []
    monkeypatch.setattr(engine.cli, "main", lambda arguments, **_: asked.extend(arguments))
    engine.test(tmp_path)
    assert f"--trainer.devices={tested_on}" in asked


def test_trials_and_points_are_trained_on_a_device_that_is_named(stage, tmp_path, monkeypatch):
    """On its first one: as no machine of the tests has several, the trainings are stood in for."""
    study = engine.Study(stage, {"trainer": {"devices": [2, 3], "max_steps": 1, "max_epochs": 1}}, data=None)
    asked = []
    monkeypatch.setattr(engine, "train", lambda study, changes, *_, **__: asked.append(changes["trainer.devices"]))
    with pytest.raises(UserError, match=r"metrics\.csv is not there, by which trials are ranked"):  # of no training
        tune.fit(study, tune.Goal("val/uar", "max"), {}, tmp_path / "study/trials/tones/0000")
    opened = []
    monkeypatch.setattr(engine, "open_study", lambda stage: opened.append(stage) or study)
    label_efficiency.open_study(stage.changed({"trainer.devices": [2, 3]}))
    assert asked == [[2]] and opened[0].arguments[-1] == "--trainer.devices=[2]"
