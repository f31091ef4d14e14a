"""What goes to Weights & Biases: offline runs read back, and the views made of their keys."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from lightning.pytorch.loggers import WandbLogger
from made import stage_config
from wandb.proto import wandb_internal_pb2

import cry_lightning
from cry_lightning.__main__ import main
from cry_lightning.api.evaluation import KINDS as DISTURBANCES
from cry_lightning.callbacks import clips
from cry_lightning.callbacks.dashboard import harmless
from cry_lightning.commands.stage import check_overrides
from cry_lightning.console import UserError
from cry_lightning.corpora import Clip
from cry_lightning.dashboard import runs, views
from cry_lightning.dashboard.runs import RunOfWandb, find, metrics, send_curves
from cry_lightning.dashboard.views import SECTIONS
from cry_lightning.files import sha256
from cry_lightning.lineage import fingerprint
from cry_lightning.studies.engine import consequential

PRIVATE = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
LR = "model.init_args.optimisation.optimizer.init_args.lr"
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
    def media(self) -> dict[str, Path]:
        """What its tables hold beside their cells, by its name there; offline it waits where W&B keeps it."""
        made = [each for each in self.artifacts if each.type == "run_table"]
        return {one.path: Path(one.local_path) for each in made for one in each.manifest.contents}

    def table(self, name: str) -> pd.DataFrame:
        """One of its tables, whose cells of media name them."""
        (path,) = (path for key, path in self.media.items() if key.endswith(f"/{name}.table.json"))
        read = json.loads(path.read_text())
        return pd.DataFrame(read["data"], columns=read["columns"])

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
    assert "warning" not in done.stderr.lower(), done.stderr


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
    others = {f"{name}Logger": {"save_dir": str(folder / "runs" / name)} for name in ("TensorBoard", "CSV")}
    beside = [{"class_path": f"lightning.pytorch.loggers.{one}", "init_args": given} for one, given in others.items()]
    for config, loggers in ((simclr, [WANDB]), (finetune, [WANDB, *beside])):
        config["trainer"]["logger"] = loggers
        (folder / f"{config['name']}.yaml").write_text(yaml.safe_dump(config))
    run = folder / "runs/tones/finetune"
    in_one_process(
        folder,
        ["fit", "--config", str(folder / "simclr.yaml"), "--pipeline=babies"],
        ["fit", "--config", str(folder / "finetune.yaml"), "--pipeline=babies"],
        ["test", "--config", str(run / "config.yaml"), "--log-audio"],
        ["evaluate", str(run), "--send-report"],
        ["robustness", "--ckpt", str(run / "best.ckpt"), "--out", str(folder / "robust"), "--noise", str(tones.parent)],
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
    assert sha256(chain / "runs/tones/finetune/best.ckpt") in checkpoint.metadata


@pytest.mark.slow
def test_pictures_and_tables_name_no_recording(chain, written):
    of_model = {"confusion", "curves", "reliability", "examples"}
    assert written[0].pictures == {"val/embeddings", "val/views"}
    assert written[1].pictures == {f"val/{name}" for name in of_model | {"embeddings"}}
    assert written[2].pictures == {f"test/{name}" for name in of_model}
    assert written[1].table("clips").columns.tolist() == ["clip", "label", "score_high", "score_low", "picture"]
    files = [path for each in written for path in each.log.parent.rglob("*") if path.name != "report.html"]
    files += [path for each in written for path in each.media.values()]
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
def test_the_table_of_clips_has_pictures_and_only_if_asked_sound(chain, written):
    """What is most worth a look comes first; what W&B sends beside its log is what its artifacts hold."""
    predicted = pd.read_csv(chain / "runs/tones/finetune/predictions.csv")
    assert not [path for each in written[:2] for path in each.media if path.endswith(".mp3")]
    table, media = written[2].table("clips"), written[2].media
    assert len(table) == (predicted["split"] == "test").sum() and not predicted["clip"].isin(table["clip"]).any()
    scores = table[["score_high", "score_low"]]
    wrong = scores.idxmax(axis=1).str.removeprefix("score_") != table["label"]
    assert wrong.is_monotonic_decreasing and scores[~wrong].max(axis=1).is_monotonic_increasing
    for column, kind, length in (("picture", ".png", 5_000), ("sound", ".mp3", 4_000)):
        files = [media[cell["path"]] for cell in table[column]]
        assert len(files) == len(table) and {path.suffix for path in map(Path, media)} >= {kind}
        assert np.mean([len(file.read_bytes()) for file in files]) < length
    heard, rate = soundfile.read(media[table["sound"][0]["path"]])
    pitch = np.abs(np.fft.rfft(heard, rate)).argmax()  # a bin each hertz
    assert (pitch > 550) == (table["label"][0] == "high") and len(heard) / rate == pytest.approx(0.5, abs=0.05)


def test_clips_beyond_the_first_have_neither_picture_nor_sound(tmp_path, monkeypatch):
    """And so has the sound of a recording that is gone."""
    monkeypatch.setattr(clips, "N_EXAMINED", 2)
    soundfile.write(tmp_path / "0.wav", np.sin(np.arange(4000)), 8000)
    listed = [Clip(f"{n}.wav", f"baby:{n}", label) for n, label in enumerate(("cry", "cry", "not"))]
    data = SimpleNamespace(
        clips=listed,
        features=SimpleNamespace(content=["a", "b", "c"], gather=lambda rows: torch.rand(len(rows), 1, 40, 30)),
        corpus=SimpleNamespace(path_of=lambda clip: tmp_path / clip.path),
    )
    table = pd.DataFrame({"clip": [clip.name for clip in listed], "label": [clip.label for clip in listed]})
    table[["score_cry", "score_not"]] = [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]]
    found = clips.of_clips(data, table, [2, 1, 0], tmp_path)
    assert found["clip"].tolist() == [*map(fingerprint, "cba")]  # a mistake, then what is least sure
    assert found["picture"].notna().tolist() == [True, True, False]
    assert found["sound"].notna().tolist() == [False, False, False]
    found = clips.of_clips(data, table.iloc[:1], [0], tmp_path)
    assert found["sound"].notna().all()
    assert "sound" not in clips.of_clips(data, table, [0, 1, 2], None)


def test_only_the_command_itself_asks_for_sound(tones, tmp_path, caplog):
    config = stage_config(tones, tmp_path)
    config["trainer"] |= {"fast_dev_run": True}
    path = tmp_path / "stage.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(path), "--log-audio"]) == 0
    assert "--log-audio: no sound is sent, as this run does not log to W&B" in caplog.text
    with pytest.raises(UserError, match="unrecognized arguments: --log-audio"):
        check_overrides(path, ["--log-audio"])
    path.write_text(yaml.safe_dump(config | {"log_audio": True}))
    with pytest.raises(UserError, match="log_audio: no such key"):
        check_overrides(path, [])


@pytest.mark.slow
def test_evaluate_adds_its_intervals_and_report_to_the_run_that_was_tested(chain, written):
    tested, evaluated, robust = written[2:]
    assert tested.run.run_id == evaluated.run.run_id == robust.run.run_id
    table = pd.read_csv(chain / "runs/tones/finetune/metrics.csv")
    own = table[(table["predictor"] == "model") & (table["metric"] == "uar")].iloc[0]
    assert evaluated.summary[f"test/{own['level']}/uar"] == pytest.approx(own["value"])
    assert evaluated.summary["test/lineage"] == "CLEAN"
    (report,) = evaluated.artifacts
    assert report.type == "report" and sha256(chain / "runs/tones/finetune/report.html") in report.metadata
    assert evaluated.files == ["report.html"]
    gains = [step["robustness/gain/place"] for step in robust.steps if "robustness/gain/uar" in step]
    assert gains == [-30, -20, -10, 0, 10, 20]


@pytest.mark.slow
def test_other_loggers_get_the_same_curves(chain):
    own, beside = chain / "runs/tones/finetune/fit", next(chain.glob("runs/CSV/*/version_0/metrics.csv"))
    assert pd.read_csv(beside).equals(pd.read_csv(own / "metrics.csv"))
    board = chain / "runs/TensorBoard"
    fit, test = (b"".join(path.read_bytes() for path in board.glob(f"*/version_{n}/*")) for n in (0, 1))
    assert all(key in fit for key in (b"train/lr", b"train/grad_norm", b"val/uar")) and b"test/uar" in test


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
    own, where = find(tmp_path / "cv/folds/tones/fold1")
    assert own.id == "id1" and where == tmp_path / "cv/folds"
    study, where = find(tmp_path / "cv")
    assert (study.name, study.project, study.group, study.job_type) == ("tones/cv", "cries", "cv", "study")
    assert where == tmp_path / "cv" and find(tmp_path / "cv") == (study, where)  # the same the next time
    (tmp_path / "cv/wandb.json").write_text("[]")
    assert find(tmp_path / "cv")[0].id not in ("id0", "id1", study.id)  # a damaged mark begins another


@pytest.mark.parametrize("broken", ["resumed", "find"])
def test_what_w_and_b_refuses_is_a_warning(tmp_path, monkeypatch, caplog, broken):
    def refuse(*_):
        raise OSError("no server")

    RunOfWandb("id", "cries").write(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(*{"resumed": (RunOfWandb, "resumed"), "find": (runs, "find")}[broken], refuse)
    send_curves(tmp_path, [{"a": 1.0}], {"b": 2.0})
    assert "its figures were not sent to W&B (no server)" in caplog.text


@pytest.mark.parametrize("place", ["", "test"])
def test_a_study_that_is_gone_on_with_sends_each_point_once(tmp_path, monkeypatch, place):
    """Where its mark lies, too, if that is of a run that was tested; another run of W&B gets all of them."""
    steps = []
    fake = SimpleNamespace(log=steps.append, summary={}, finish=lambda: None)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(RunOfWandb, "resumed", lambda *_: fake)
    RunOfWandb("id", "cries").write(tmp_path / place)
    points = [{"tune/trial": n, "tune/score": n / 10} for n in range(3)]
    for n in (2, 2, 3):
        send_curves(tmp_path, points[:n], {"best": n})
    assert steps == points and fake.summary == {"best": 3} and len(find(tmp_path)[0].sent) == 3
    send_curves(tmp_path, [points[0] | {"tune/score": 0.5}])
    assert len(steps) == 4
    RunOfWandb("another", "cries").write(tmp_path / place)
    send_curves(tmp_path, points)
    assert steps[4:] == points


def test_what_w_and_b_refuses_is_told_once_and_ends_no_training(tmp_path, monkeypatch, caplog):
    begun = []

    def refuse(**_):
        begun.append(1)
        raise RuntimeError("no\nserver")

    monkeypatch.setattr("wandb.init", refuse)
    for _ in range(2):  # trials of a search
        logger = harmless(WandbLogger(offline=True, save_dir=tmp_path))
        for _ in range(3):
            logger.log_metrics({"val/uar": 0.5}, step=1)
            logger.log_hyperparams({"stage": {}})
        logger.finalize("success")
    assert len(begun) == 2 and caplog.text.count("W&B: RuntimeError: no server; the run goes on") == 1


@pytest.mark.slow
@pytest.mark.parametrize("refused", ["wandb.init", "wandb.Run.log", "wandb.Run.finish"])
def test_trials_have_the_scores_that_they_have_without_w_and_b(tones, tmp_path, monkeypatch, caplog, refused):
    @wraps(resolve_name(refused))  # whose arguments a stage YAML may give
    def refuse(*_, **__):
        raise RuntimeError(f"{refused} is out of order")

    (tmp_path / "space.yaml").write_text(yaml.safe_dump({LR: {"low": 0.01, "high": 0.1}}))
    scores = {}
    for mode in ("disabled", "offline"):
        monkeypatch.setenv("WANDB_MODE", mode)
        config = stage_config(tones, tmp_path / mode, "short")
        config["trainer"] |= {"logger": [WANDB], "max_epochs": 1, "limit_train_batches": 2}
        path = tmp_path / f"{mode}.yaml"
        path.write_text(yaml.safe_dump(config))
        monkeypatch.setattr(refused, refuse)
        search = ["tune", "--config", str(path), "--space", str(tmp_path / "space.yaml"), "--trials", "2"]
        assert main([*search, "--out", str(tmp_path / mode / "search")]) == 0
        scores[mode] = pd.read_csv(tmp_path / mode / "search/trials.csv").drop(columns="failure")
    pd.testing.assert_frame_equal(scores["offline"], scores["disabled"])
    assert scores["offline"]["val/uar"].notna().all() and f"{refused} is out of order" in caplog.text


def test_only_what_was_tested_online_is_sent_there(monkeypatch):
    given = []
    monkeypatch.setattr("wandb.init", lambda **options: given.append(options["mode"]))
    monkeypatch.setattr(runs, "is_online", lambda: True)
    for mode in ("online", "offline", ""):
        RunOfWandb("id", "cries", mode=mode).resumed(Path())
    assert given == ["online", "offline", "offline"]


def test_learning_rate_and_gradient_norm_are_logged(pretrained):
    curves = pd.read_csv(pretrained.with_name("fit") / "metrics.csv").dropna(subset=["train/loss"])
    assert np.allclose(curves["train/lr"], 0.05) and (curves["train/grad_norm"] > 0).all()


@pytest.fixture(scope="module")
def studies(tones, tmp_path_factory) -> list[Logged]:
    """What studies of few steps have logged: a cross-validation, a leakage ladder, a label curve and a search."""
    folder = tmp_path_factory.mktemp("studies")
    config = stage_config(tones, folder, "short")
    config["trainer"] |= {"logger": [WANDB], "max_epochs": 1, "limit_train_batches": 2}
    path = folder / "short.yaml"
    path.write_text(yaml.safe_dump(config))
    few, labels, space = folder / "few.yaml", str(folder / "labels"), folder / "space.yaml"
    space.write_text(yaml.safe_dump({LR: {"low": 0.01, "high": 0.1}, "map_every_n_epochs": {"choices": [0, 5]}}))
    unlogged = yaml.safe_load(path.read_text())
    unlogged["trainer"]["logger"] = None
    (folder / "unlogged.yaml").write_text(yaml.safe_dump(unlogged))
    search = ["tune", "--space", str(space), "--trials", "2"]
    few.write_text(yaml.safe_dump(config | {"trainer": config["trainer"] | {"max_epochs": -1, "max_steps": 2}}))
    in_one_process(
        folder,
        ["cross-validate", "--config", str(path), "--folds", "2", "--out", str(folder / "cv")],
        ["leakage", "--config", str(path), "--folds", "2", "--copies", "0", "--out", str(folder / "ladder")],
        [
            "label-efficiency",
            "--config",
            str(few),
            *["--encoders", "scratch", "--per-class", "2", "4", "--seeds", "0", "--out"],
            labels,
        ],
        [*search, "--config", str(path), "--out", str(folder / "search")],
        [*search, "--config", str(folder / "unlogged.yaml"), "--out", str(folder / "unlogged")],
    )
    assert not [*(folder / "unlogged").rglob("wandb*")]
    places = ("cv", "cv/folds", "ladder", "ladder/*/folds", "labels", "search", "search/trials")
    return [one for place in places for runs in folder.glob(place) for one in logged(runs)]


@pytest.mark.slow
def test_a_study_has_a_run_of_its_own_in_the_group_of_its_folds(studies):
    own = {each.run.display_name: each for each in studies if each.run.job_type == "study"}
    assert set(own) == {"tones/cv", "tones/ladder", "tones/labels", "tones/search"}
    pooled = own["tones/cv"]
    assert {each.run.job_type for each in studies if each.run.run_group == pooled.run.run_group} >= {"test", "study"}
    assert (
        pooled.summary["test/clip/uar_low"] <= pooled.summary["test/clip/uar"] <= pooled.summary["test/clip/uar_high"]
    )
    assert [step["label_efficiency/labels"] for step in own["tones/labels"].steps] == [4, 8]
    assert "leakage/by_clip/model/uar" in own["tones/ladder"].summary


@pytest.mark.slow
def test_a_search_has_its_trials_in_one_group_and_its_winner_in_a_run_of_its_own(studies):
    """The trial's score and settings in its run; a table of all, figures and the best in the search's."""
    found = {each.run.display_name: each for each in studies if each.run.run_group == "search"}
    assert set(found) == {"tones/0000", "tones/0001", "tones/search"}
    search = found.pop("tones/search")
    (path,) = search.log.parent.rglob("table_*.table.json")
    table = pd.DataFrame(**json.loads(path.read_text()))
    scores = {f"tones/{trial:04.0f}": score for trial, score in zip(table["trial"], table["val/uar"], strict=True)}
    assert scores == {name: trial.summary["val/uar"] for name, trial in found.items()}
    for name, trial in found.items():
        (stage,) = [json.loads(item.value_json) for item in trial.run.config.update if name_of(item) == "stage"]
        learning_rate = stage["model"]["init_args"]["optimisation"]["optimizer"]["init_args"]["lr"]
        assert learning_rate == pytest.approx(table.set_index("trial")[LR][int(name[-4:])])
    winner = table.loc[table["val/uar"].idxmax()]
    best = {key: search.summary[f"tune/best/{key}"] for key in ("trial", "val/uar", LR)}
    assert best == winner[list(best)].to_dict()
    assert [step["tune/score"] for step in search.steps if "tune/score" in step] == table["val/uar"].tolist()
    assert search.pictures >= {"tune/trials", "tune/history"}


@pytest.mark.slow
def test_every_key_of_the_dashboard_is_one_that_a_run_logs(written, studies):
    """Those of validated clips, of tests, and of what was added to them; media lie under their key."""
    keys = {re.sub(r"/(_type|count)$", "", key) for each in [*written, *studies] for key in each.keys}
    panels = [panel for section in SECTIONS for panel in section.panels]
    assert len(panels) > 25
    for panel in panels:
        for key in panel.keys:
            assert any(re.fullmatch(key, known) for known in keys) if panel.pattern else key in keys, key
        assert panel.kind != "lines" or panel.x in keys, panel.x
    assert {f"robustness/{kind}/uar" for kind in DISTURBANCES} <= keys


def test_without_a_key_the_dashboard_is_written_down(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.chdir(tmp_path)
    assert cry_lightning.dashboard(project="cries") == ["dashboard.json"]
    printed = capsys.readouterr().out
    assert "WANDB_API_KEY" in printed and "python -m cry_lightning dashboard --project cries" in printed
    found = json.loads(Path("dashboard.json").read_text())
    sections = found["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    assert [each["name"] for each in sections] == [section.title for section in SECTIONS]
    for own, sent in zip(SECTIONS, sections, strict=True):
        shown = json.dumps(sent)
        assert len(sent["panels"]) == len(own.panels)
        assert all(json.dumps(key)[1:-1] in shown for panel in own.panels for key in panel.keys)
    assert all(section.about in json.dumps(found["report"], ensure_ascii=False) for section in SECTIONS)


def test_a_dashboard_that_cannot_be_sent_is_written_down(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(views, "send", lambda entity, project: 1 / 0)
    monkeypatch.chdir(tmp_path)
    assert cry_lightning.dashboard(project="cries", entity="ward") == ["dashboard.json"]
    assert "W&B does not take the dashboard: division by zero" in caplog.text


def test_a_study_that_was_begun_without_maps_goes_on():
    before, now = ({"stages": {"0": {"model": "x", **more}}} for more in ({}, {"map_every_n_epochs": 5}))
    assert consequential(before, now) == []
