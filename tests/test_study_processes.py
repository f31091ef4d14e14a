"""The processes and the devices of a study's trainings and tests."""

import pytest
import yaml
from conftest import stage_config

from cry_lightning.console import UserError
from cry_lightning.studies import engine


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


@pytest.mark.parametrize(("named", "tested_on"), [([1], [1]), ([2, 3], [2]), (2, 1), ("auto", 1)])
def test_a_study_tests_on_one_of_the_devices_that_are_named(tmp_path, monkeypatch, named, tested_on):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"trainer": {"devices": named}}))
    asked = []
    monkeypatch.setattr(engine.cli, "main", lambda arguments, **_: asked.extend(arguments))
    engine.test(tmp_path)
    assert f"--trainer.devices={tested_on}" in asked
