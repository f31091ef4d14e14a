"""Folds as jobs of a scheduler: by submitit's local executor, and what is refused."""

import json
import os
import pickle
import shutil
import signal
import sys
import time
from functools import partial

import pandas as pd
import pytest
import yaml
from made import REPO, stage_config

from cry_lightning.__main__ import main
from cry_lightning.console import Interrupted, UserError, stopped_by_signals
from cry_lightning.files import write_json
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
    numbers = {str(number): number for number in (4, 2, 3)}
    done = submitted(half, numbers, "submitit:cluster=local", tmp_path / "jobs", unit="number")
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


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A stand-in of SLURM: what was submitted is in one file, and what waits or runs in another."""
    (folder := tmp_path / "slurm").mkdir()
    programs = {
        "srun": "",
        "sbatch": f"echo $1 >> {folder}/submitted; echo Submitted batch job 12",
        "squeue": f"cat {folder}/queue",
        "sacct": f"echo 'JobID|State|NodeList'; sed 's/$/|PENDING|/' {folder}/queue",
    }
    for name, does in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    (folder / "submitted").touch()
    (folder / "queue").write_text("12_0\n12_1\n")
    return folder


def sizes_of(numbers, folder):
    return list(submitted(abs, {str(number): number for number in numbers}, "submitit", folder, unit="number"))


def test_jobs_of_slurm_go_on_after_a_signal_and_are_not_submitted_again(slurm, tmp_path, monkeypatch, caplog):
    submitit = pytest.importorskip("submitit")
    folder = tmp_path / "jobs"
    monkeypatch.setattr(submitit.SlurmJob, "wait", lambda job: signal.raise_signal(signal.SIGTERM))
    for _ in range(2):
        with pytest.raises(Interrupted) as stop:
            sizes_of([-4, -2], folder)
        told = "stopped by SIGTERM; the same command goes on, and waits for 2 jobs (12) still under way"
        assert stop.value.message == f"{told} (`squeue --me` shows, `scancel 12` ends them)"
    assert len((slurm / "submitted").read_text().split()) == 1
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(slurm), prepend=os.pathsep)
    for number, result in enumerate((4, 2)):
        with (folder / f"12_{number}_0_result.pkl").open("wb") as file:
            pickle.dump(("success", result), file)
    with caplog.at_level("INFO"):
        assert sizes_of([-4, -2], folder) == [4, 2]
    assert "2 jobs (12) submitted before and still under way: waiting" in caplog.text
    assert len((slurm / "submitted").read_text().split()) == 1
    (slurm / "queue").write_text("")
    assert sizes_of([-4, -2], folder) == [4, 2]  # a job that has ended does not count
    assert len((slurm / "submitted").read_text().split()) == 2


def test_without_word_of_the_queue_nothing_is_submitted(slurm, tmp_path):
    pytest.importorskip("submitit")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/submitted.json").write_text('{"slurm": {"-4": "12_0"}}')
    (slurm / "queue").unlink()
    with pytest.raises(UserError, match=r"squeue does not say which jobs are under way \(cat: .*\); give the same"):
        sizes_of([-4, -2], tmp_path / "jobs")
    assert (slurm / "submitted").read_text() == ""


def long(number, folder):
    (folder / str(number)).touch()
    with stopped_by_signals():  # as a training
        time.sleep(60)


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [False, True])
def test_jobs_on_this_machine_end_with_a_signal(tmp_path, monkeypatch, capfd, elsewhere):
    """Those of an earlier command, which was killed, too."""
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", f"{REPO}:{REPO / 'tests'}")
    function, folder = partial(long, folder=tmp_path), tmp_path / "jobs"
    if elsewhere:
        jobs = executor_of("submitit:cluster=local", folder).map_array(function, [0, 1])
        write_json({"local": {str(number): job.job_id for number, job in enumerate(jobs)}}, folder / "submitted.json")
        wait_for_both(tmp_path)
    before = json.loads((folder / "submitted.json").read_text()) if elsewhere else {}

    def stop(job):
        wait_for_both(tmp_path)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(launcher, "result_of", lambda job, unit: stop(job))
    with pytest.raises(KeyboardInterrupt, match=r"^stopped by SIGINT; the same command goes on$"):
        list(submitted(function, {"0": 0, "1": 1}, "submitit:cluster=local", folder))
    after = json.loads((folder / "submitted.json").read_text())
    assert not elsewhere or after == before
    executor = executor_of("submitit:cluster=local", folder)
    assert launcher.under_way(executor, ["0", "1"]) == {} and not (folder / "%j").exists()
    assert "Traceback" not in capfd.readouterr().err


def wait_for_both(folder):
    until = time.monotonic() + 120
    while not ((folder / "0").exists() and (folder / "1").exists()):
        assert time.monotonic() < until
        time.sleep(0.05)
