"""A small corpus of made sounds and a stage that trains on it in a second or two."""

import os
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml

from cry_lightning import lineage
from cry_lightning.cli import stage as cli
from cry_lightning.evaluation import predictions
from cry_lightning.lineage import Lineage, StageRecord, sound_fingerprint, subject_fingerprint
from cry_lightning.report import page

REPO = Path(__file__).parents[1]
DATA = Path(os.environ.get("CRY_LIGHTNING_DATA", REPO / "data"))  # real recordings, none in git
RATE = 8000

torch.cpu.get_capabilities = dict  # tests compare digits: they train in 32 bits on processors with bfloat16, too


def real(folder: str):
    """Marks a test that wants real recordings, which cannot be committed."""
    return pytest.mark.skipif(not (DATA / folder).is_dir(), reason=f"no {folder} in {DATA}; see CONTRIBUTING.md, Tests")


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """manifest.csv of 96 half-second clips: two classes an octave apart, 12 subjects with a pitch of their own."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    time = np.arange(RATE // 2) / RATE
    lines = ["path,label,subject,site"]
    for subject in range(12):
        for take in range(8):
            label = ("low", "high")[take % 2]
            pitch = (300 + 20 * subject) * (1 + take % 2)
            sound = 0.3 * np.sin(2 * np.pi * pitch * time + rng.uniform(0, 6)) + 0.02 * rng.standard_normal(len(time))
            name = f"{label}_{subject:02}_{take}.wav"
            soundfile.write(folder / name, sound.astype(np.float32), RATE)
            lines.append(f"{name},{label},baby{subject:02},site{subject % 3}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


def stage_config(corpus: Path, folder: Path, name: str = "pretrain", **model) -> dict:
    """A whole stage YAML as a dict: a tiny Res8 on the tones, in folder/runs."""
    return {
        "name": name,
        "runs": str(folder / "runs"),
        "seed_everything": 7,
        "data": {
            "corpus": {
                "class_path": "cry_lightning.corpora.Manifest",
                "init_args": {"root": str(corpus), "name": "tones"},
            },
            "feature": {"class_path": "cry_lightning.features.MFCC"},
            "split": {"val": 0.2, "test": 0.4},
            "clip_s": 0.4,
            "shift_s": 0.05,
            "sampling": {"batch_size": 8},
            "cache": {"folder": str(corpus.parent / "cache")},
        },
        "model": {
            "class_path": "cry_lightning.tasks.Classifier",
            "init_args": {
                "encoder": {"class_path": "cry_lightning.encoders.Res8", "init_args": {"n_maps": 4}},
                **model,
                "optimisation": {
                    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05, "momentum": 0.9}},
                    **model.get("optimisation", {}),
                },
            },
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False},
    }


def cry(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Five harmonics of a pitch that wanders, in bouts, as no other seed has them (N,)."""
    rng = np.random.default_rng(seed)
    n = np.arange(round(seconds * RATE))
    knots = np.arange(0, len(n) + 400, 400)
    wander = np.interp(n, knots, rng.normal(0, 0.5, len(knots)).cumsum())
    phase = 2 * np.pi * np.cumsum(420 + 60 * np.tanh(wander)) / RATE
    voiced = sum(np.sin(k * phase) / k for k in range(1, 6)) * (np.sin(n / 2500 + seed) > -0.5)
    return (0.1 * voiced + 0.001 * rng.standard_normal(len(n))).astype(np.float32)


def ward(folder: Path, n_infants: int = 8) -> Path:
    """Recordings of 1.5 s in a folder for each class, named by infant and take, as in docs/new_corpus.md."""
    for number, label in enumerate(("pain", "hunger")):
        (folder / label).mkdir(parents=True)
        for infant in range(n_infants):
            for take in (1, 2):
                sound = cry(100 * infant + 10 * take + number, 1.5)
                soundfile.write(folder / label / f"baby{infant:02}_{take}.wav", sound, RATE)
    return folder


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Reports without their figures, which are most of the time that they take."""

    def named(name: str, drawing: object, out: Path, prefix: str, style: object) -> page.Picture:
        return page.Picture(name, f"figures/{prefix}{name}.png", svg="")

    monkeypatch.setattr(page, "_drawn", named)


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Reports of `describe` without their figure, in the same way."""
    command = import_module("cry_lightning.describe.command")  # by this, since `cry_lightning.describe` is a function
    monkeypatch.setattr(command, "draw", lambda *_: None)
    monkeypatch.setattr(command, "save", lambda _, path: path.touch())


def write_run(folder: Path, table: pd.DataFrame, trained_on: str) -> Path:
    """A run folder with these predictions, of a model that was trained on one subject."""
    predictions.write(table, folder / "predictions.csv")
    subjects = [subject_fingerprint(trained_on, "given")]
    stage = StageRecord("finetune", "made", subjects, [], [], subject_sources={"given": 1})
    sounds = {
        clip: sound_fingerprint(f"sound {number}#0.000-end", "") for number, clip in enumerate(table["clip"].unique())
    }
    lineage.write(Lineage(True, [stage], sounds), folder / "lineage.json")
    return folder


def bind(folder: Path) -> None:
    """Make the lineage of a run that of its table again, which was changed."""
    lineage.write(lineage.read(folder / "lineage.json"), folder / "lineage.json")


@pytest.fixture
def stage(tones, tmp_path):
    """Writes a stage YAML into tmp_path and returns its path: stage("pretrain", **model_init_args)."""

    def write(name: str = "pretrain", **model) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(stage_config(tones, tmp_path, name, **model)))
        return path

    return write


@pytest.fixture(scope="session")
def pretrained_once(tones, tmp_path_factory) -> Path:
    """Run folders of one pretraining, fitted once for all tests."""
    folder = tmp_path_factory.mktemp("pretrained")
    path = folder / "pretrain.yaml"
    path.write_text(yaml.safe_dump(stage_config(tones, folder)))
    cli.main(["fit", "--config", str(path)])
    return folder / "runs"


@pytest.fixture(scope="session")
def tested(pretrained_once, tmp_path_factory):
    """best.ckpt of a pretraining that was tested, with its reference beside it."""
    runs = tmp_path_factory.mktemp("tested") / "runs"
    shutil.copytree(pretrained_once, runs)
    cli.main(["test", "--config", str(runs / "tones/pretrain/config.yaml"), "--runs", str(runs)])
    return runs / "tones/pretrain/best.ckpt"


@pytest.fixture
def pretrained(pretrained_once, tmp_path) -> Path:
    """best.ckpt of a pretraining in this test's own run folders."""
    shutil.copytree(pretrained_once, tmp_path / "runs", dirs_exist_ok=True)
    config = tmp_path / "runs/tones/pretrain/config.yaml"
    config.write_text(config.read_text().replace(str(pretrained_once), str(tmp_path / "runs")))
    return config.with_name("best.ckpt")


@pytest.fixture
def own_tested(tested, pretrained) -> Path:
    """The same, and tested."""
    config = pretrained.with_name("config.yaml").read_bytes()
    shutil.copytree(tested.parent, pretrained.parent, dirs_exist_ok=True)
    pretrained.with_name("config.yaml").write_bytes(config)
    return pretrained
