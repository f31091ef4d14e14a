"""Folds as jobs of a scheduler: by submitit's local executor, and what is refused."""

import shutil
import sys
from functools import partial

import pandas as pd
import pytest
import yaml
from made import REPO, stage_config

from cry_lightning.__main__ import main
from cry_lightning.console import UserError
from cry_lightning.studies import launcher
from cry_lightning.studies.launcher import executor_of, submitted


@pytest.fixture
def config(tones, tmp_path):
    config = stage_config(tones, tmp_path, "finetune")
    config["trainer"] |= {"max_epochs": 1, "logger": False}
    path = tmp_path / "finetune.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ray", "--launcher ray: it is submitit, or submitit:NAME=VALUE,NAME=VALUE"),
        ("submitit", "there is no SLURM here .no sbatch.; --jobs N trains some folds at a time"),
        ("submitit:foo", "--launcher submitit:foo: foo has no value"),
        ("submitit:a={b", "--launcher submitit:a={b: a value is not YAML"),
        ("submitit:cluster=moon", "--launcher submitit:cluster=moon: "),
        ("submitit:cluster=local,minutes=3", "--launcher submitit:cluster=local,minutes=3: .*minutes"),
    ],
)
def test_launchers_that_cannot_be_are_one_line(tmp_path, monkeypatch, given, said):
    pytest.importorskip("submitit")
    monkeypatch.setattr(launcher, "which", lambda name: None)
    with pytest.raises(UserError, match=said) as error:
        executor_of(given, tmp_path)
    assert "\n" not in str(error.value)


def test_without_submitit_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"is not installed; pip install 'cry_lightning\[cluster\]'"):
        executor_of("submitit", tmp_path)


def test_jobs_and_launcher_are_refused_together(config, capsys):
    assert main(["cross-validate", "--config", config, "--launcher", "submitit", "--jobs", "2"]) == 2
    assert "--launcher: submits all folds, so it does not go with --jobs" in capsys.readouterr().err


def halved(number: int, of_what: str) -> str:
    if number == 3:
        raise ValueError("three\nis odd")
    return f"{of_what} {number / 2}"


@pytest.mark.slow
def test_results_come_in_order_and_a_failed_job_is_one_line_that_names_its_log(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", f"{REPO}:{REPO / 'tests'}")
    half = partial(halved, of_what="half")
    done = submitted(half, [4, 2, 3], "submitit:cluster=local", tmp_path / "jobs", unit="number")
    assert [next(done), next(done)] == ["half 2.0", "half 1.0"]
    with pytest.raises(UserError, match=r"number in job \d+.*: is odd; see .*\.err, then give the same command"):
        next(done)


@pytest.mark.slow
def test_folds_as_jobs_are_the_folds_of_one_process(config, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    args = ["cross-validate", "--config", config, "--folds", "2"]
    assert main([*args, "--out", str(tmp_path / "alone")]) == 0
    assert main([*args, "--out", str(tmp_path / "jobs"), "--launcher", "submitit:cluster=local"]) == 0
    alone, by_jobs = (pd.read_csv(tmp_path / name / "predictions.csv") for name in ("alone", "jobs"))
    pd.testing.assert_frame_equal(alone, by_jobs)
    shutil.rmtree(tmp_path / "jobs/jobs")
    assert main([*args, "--out", str(tmp_path / "jobs")]) == 0  # the folds are finished
