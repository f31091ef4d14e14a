"""What goes to Weights & Biases: offline runs read back, and the views made of their keys."""

import json
import os
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import stage_config
from wandb.proto import wandb_internal_pb2

from cry_lightning.dashboard.results import metrics
from cry_lightning.dashboard.runs import RunOfWandb, find
from cry_lightning.lineage import digest

PRIVATE = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
WANDB = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"project": "cries"}}


@dataclass
class Logged:
    """What one offline run of W&B has written."""

    log: Path
    run: Any = None
    summary: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[Any] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for record in records(self.log):
            match record.WhichOneof("record_type"):
                case "run":
                    self.run = record.run
                case "summary":
                    self.summary |= {name_of(item): json.loads(item.value_json) for item in record.summary.update}
                case "history":
                    self.steps.append({name_of(item): json.loads(item.value_json) for item in record.history.item})
                case "artifact":
                    self.artifacts.append(record.artifact)
                case "files":
                    self.files += [each.path for each in record.files.files]

    @property
    def keys(self) -> set[str]:
        """Of all that it logged."""
        return set(self.summary).union(*self.steps)

    @property
    def pictures(self) -> set[str]:
        """Names of its pictures, as val/embeddings."""
        media = self.log.parent / "files/media/images"
        return {str(path.relative_to(media)).partition("_")[0] for path in media.rglob("*.png")}


def name_of(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def records(path: Path) -> list[wandb_internal_pb2.Record]:
    """The records of a log of W&B, which has LevelDB's form after a header of seven bytes."""
    data, place, whole, found = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        size, kind = struct.unpack("<4xHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or its last part
            found.append(wandb_internal_pb2.Record.FromString(whole))
            whole = b""
    return found


def logged(runs: Path) -> list[Logged]:
    """What lies in a folder of runs, in the order in which it was written."""
    return [Logged(log) for log in sorted(runs.glob("wandb/offline-run-*/*.wandb"))]


def in_one_process(folder: Path, *commands: list[str]) -> None:
    """Run commands one after the other, as somebody without any key for W&B."""
    script = "import json, sys\nfrom cry_lightning.__main__ import main\n"
    script += "assert not any(main(args) for args in json.loads(sys.argv[1]))"
    given = [sys.executable, "-c", script, json.dumps(commands)]
    env = PRIVATE | {"HOME": str(folder)}
    done = subprocess.run(given, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, timeout=500)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def chain(tones, tmp_path_factory) -> Path:
    """A folder in which SimCLR was trained, then a classifier from it, tested, evaluated and put under noise."""
    folder = tmp_path_factory.mktemp("dashboard")
    simclr = stage_config(tones, folder, "simclr")
    arguments = simclr["model"]["init_args"]
    simclr["model"] = {
        "class_path": "cry_lightning.tasks.SimCLR",
        "init_args": arguments
        | {"augment": [{"class_path": "cry_lightning.tasks.augment.RandomCrop", "init_args": {"length": 30}}]},
    }
    simclr["checkpoint"] = {"monitor": "val/loss", "mode": "min"}
    simclr["data"]["probe"] = {
        "class_path": "cry_lightning.data.datamodule.CryDataModule",
        "init_args": {key: value for key, value in simclr["data"].items() if key != "probe"},
    }
    finetune = stage_config(tones, folder, "finetune", weights=str(folder / "runs/tones/simclr/best.ckpt"))
    for config in (simclr, finetune):
        config["trainer"]["logger"] = [WANDB]
        (folder / f"{config['name']}.yaml").write_text(yaml.safe_dump(config))
    run = folder / "runs/tones/finetune"
    in_one_process(
        folder,
        ["fit", "--config", str(folder / "simclr.yaml"), "--pipeline=babies"],
        ["fit", "--config", str(folder / "finetune.yaml"), "--pipeline=babies"],
        ["test", "--config", str(run / "config.yaml")],
        ["evaluate", str(run), "--send-report"],
        ["robustness", "--ckpt", str(run / "best.ckpt"), "--out", str(folder / "robust"), "--kinds", "gain"],
    )
    return folder


@pytest.fixture(scope="module")
def written(chain) -> list[Logged]:
    """What the chain has logged: both fits, the test, and what was added to the test."""
    return logged(chain / "runs")


@pytest.mark.slow
def test_a_chain_is_one_group_of_runs_named_by_corpus_and_stage(written):
    runs = [each.run for each in written]
    assert [run.display_name for run in runs] == ["tones/simclr", *4 * ["tones/finetune"]]
    assert [run.job_type for run in runs] == ["simclr", "finetune", *3 * ["test"]]
    assert {run.run_group for run in runs} == {"babies"} and {run.project for run in runs} == {"cries"}
    assert list(runs[2].tags) == ["Classifier", "Res8", "MFCC", "CLEAN"]


@pytest.mark.slow
def test_the_summary_is_of_the_chosen_checkpoint(chain, written):
    summary = written[1].summary
    curves = pd.read_csv(chain / "runs/tones/finetune/fit/metrics.csv")
    validated = curves.dropna(subset=["val/uar"])
    chosen = validated.loc[validated["val/uar"].idxmax()]
    assert summary["chosen/epoch"] == chosen["epoch"]
    assert summary["val/auc"] == pytest.approx(chosen["val/auc"])
    (checkpoint,) = (each for each in written[1].artifacts if each.type == "checkpoint")
    assert checkpoint.name == "tones-finetune"
    assert digest(chain / "runs/tones/finetune/best.ckpt") in checkpoint.metadata


@pytest.mark.slow
def test_pictures_and_tables_name_no_recording(chain, written):
    of_model = {"confusion", "curves", "reliability", "examples"}
    assert written[0].pictures == {"val/embeddings", "val/views"}
    assert written[1].pictures == {f"val/{name}" for name in of_model | {"embeddings"}}
    assert written[2].pictures == {f"test/{name}" for name in of_model}
    (table,) = written[2].log.parent.rglob("clips_*.table.json")
    assert sorted(json.loads(table.read_text())["columns"]) == ["clip", "label", "score_high", "score_low"]
    files = [path for each in written for path in each.log.parent.rglob("*") if path.name != "report.html"]
    sent = b"".join(path.read_bytes() for path in files if path.is_file() and "logs" not in path.parts)
    for word in (
        socket.gethostname() + "\n",
        sys.executable,
        "git@",
        "--pipeline",
        "jsonargparse==",
        "CPython",
        ".wav",
    ):
        assert word.encode() not in sent, word


@pytest.mark.slow
def test_evaluate_adds_its_intervals_and_report_to_the_run_that_was_tested(chain, written):
    tested, evaluated, robust = written[2:]
    assert tested.run.run_id == evaluated.run.run_id == robust.run.run_id
    table = pd.read_csv(chain / "runs/tones/finetune/metrics.csv")
    own = table[(table["predictor"] == "model") & (table["metric"] == "uar")].iloc[0]
    assert evaluated.summary[f"test/{own['level']}/uar"] == pytest.approx(own["value"])
    assert evaluated.summary["test/lineage"] == "CLEAN"
    (report,) = evaluated.artifacts
    assert report.type == "report" and digest(chain / "runs/tones/finetune/report.html") in report.metadata
    assert evaluated.files == ["report.html"]
    assert [step["robustness/gain/place"] for step in robust.steps] == [-30, -20, -10, 0, 10, 20]


@pytest.mark.slow
def test_a_second_evaluation_sends_no_report_without_being_asked(chain, written):
    in_one_process(chain, ["evaluate", str(chain / "runs/tones/finetune")])
    again = logged(chain / "runs")[-1]
    assert again.run.run_id == written[2].run.run_id and again.files == []
    assert again.summary["test/clip/uar"] == written[3].summary["test/clip/uar"]


def test_bounds_are_sent_where_there_are_intervals():
    rows = [("clip", "uar", "", "model", 0.8, 0.7, 0.9), ("clip", "recall", "cry", "model", 0.5, *2 * [float("nan")])]
    rows.append(("clip", "uar", "", "majority", 0.5, 0.5, 0.5))
    columns = ["level", "metric", "class", "predictor", "value", "low", "high"]
    found = dict(metrics(pd.DataFrame(rows, columns=columns)))
    assert found == {"clip/uar": 0.8, "clip/uar_low": 0.7, "clip/uar_high": 0.9, "clip/recall/cry": 0.5}


def test_a_run_is_found_by_its_mark_and_a_study_by_those_of_its_folds(tmp_path):
    assert find(tmp_path) is None
    for fold in (0, 1):
        RunOfWandb(f"id{fold}", "cries", group="cv").write(tmp_path / f"cv/folds/tones/fold{fold}/test")
    own, runs = find(tmp_path / "cv/folds/tones/fold1")
    assert own.id == "id1" and runs == tmp_path / "cv/folds"
    study, runs = find(tmp_path / "cv")
    assert (study.name, study.project, study.group, study.job_type) == ("tones/cv", "cries", "cv", "study")
    assert runs == tmp_path / "cv/folds" and find(tmp_path / "cv") == (study, runs)  # the same the next time
    (tmp_path / "cv/wandb.json").write_text("[]")
    assert find(tmp_path / "cv")[0].id not in ("id0", "id1", study.id)  # a damaged mark begins another


def test_learning_rate_and_gradient_norm_are_logged(pretrained):
    curves = pd.read_csv(pretrained.with_name("fit") / "metrics.csv").dropna(subset=["train/loss"])
    assert np.allclose(curves["train/lr"], 0.05) and (curves["train/grad_norm"] > 0).all()
