"""Every YAML that is shipped runs: stages on made data, sub-configs as part of a stage."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from made import REPO

from cry_lightning.cli import stage as cli
from cry_lightning.commands.stage import arguments as check_arguments

CONFIGS = REPO / "configs"
STAGES = sorted(path for path in CONFIGS.glob("**/*.yaml") if "trainer:" in path.read_text())
ENCODERS = sorted((CONFIGS / "encoder").glob("*.yaml"))
DATA = sorted(path for path in CONFIGS.glob("**/data/*.yaml") if "\ncorpus:" in path.read_text())


IN_BRIEF = ("simclr.yaml", "data/own.yaml", "data/cries_waveform.yaml")  # runs that the default tier tries


LARGE = ("resnet50", "vit_tiny")  # networks that take seconds


def cases(paths: list[Path]):
    """Paths as parameters; most are for the slow tier."""
    for path in paths:
        name = str(path.relative_to(CONFIGS))
        yield pytest.param(path, id=name, marks=[pytest.mark.slow] * (name not in IN_BRIEF))


SMALL = {  # arguments that make a corpus small, by its class
    "SyntheticWords": {"n_speakers": 8, "n_words": 2, "n_takes": 2},
    "SyntheticCries": {"n_infants": 12, "n_cries": 4},
}


def class_paths(value):
    if isinstance(value, dict):
        yield from [value["class_path"]] if "class_path" in value else []
        for child in value.values():
            yield from class_paths(child)
    elif isinstance(value, list):
        for child in value:
            yield from class_paths(child)


def small_corpus_arguments(data: dict, tones: Path) -> list[str]:
    """Overrides that point data at a small or made corpus."""
    corpus = data["corpus"]
    kind = corpus["class_path"].rpartition(".")[2]
    if kind in SMALL:
        arguments = SMALL[kind] | {"folder": str(tones.parent / "synthetic")}
        return [f"--data.corpus.init_args.{key}={value}" for key, value in arguments.items()]
    return [
        "--data.corpus=cry_lightning.corpora.Manifest",
        f"--data.corpus.init_args.root={tones}",
        "--data.corpus.init_args.label=label",
        "--data.corpus.init_args.classes=null",
        *("--data.split.column=null", "--data.split.scheme=holdout", "--data.split.group=subject"),
    ]


def unmarked_arguments(tones: Path) -> list[str]:
    """Overrides that point the data of a detector at tones, in which nothing is marked."""
    corpus = "--data.corpus.init_args.corpus"
    made = ["--data.corpus=cry_lightning.corpora.Intervals", f"{corpus}=cry_lightning.corpora.UnlabelledTree"]
    return [
        *made,
        f"{corpus}.init_args.root={tones.parent}",
        "--data.clip_s=0.5",
        "--trainer.check_val_every_n_epoch=1",
    ]


def noise_arguments(stage: Path, tones: Path) -> list[str]:
    """Where a stage mixes in noise from a folder, take the tones for noise."""
    noise = yaml.safe_load(stage.read_text())["model"]["init_args"].get("augment_waveform") or []
    from_folder = [module for module in noise if "folder" in module.get("init_args", {})]
    if not from_folder:
        return []
    for module in from_folder:
        module["init_args"]["folder"] = str(tones.parent)
    return ["--model.init_args.augment_waveform", json.dumps(noise)]


def data_of(stage: Path) -> dict:
    """The data of a stage, in a YAML of its own or in that of the stage."""
    data = yaml.safe_load(stage.read_text())["data"]
    return yaml.safe_load((stage.parent / data).read_text()) if isinstance(data, str) else data


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("**/*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_yaml_says_what_it_is_and_names_classes_in_full(path):
    """A short class name means whichever class of that name was imported first."""
    text = path.read_text()
    assert text.startswith("# ")
    assert all(name.count(".") >= 1 for name in class_paths(yaml.safe_load(text)))


@pytest.mark.parametrize("path", STAGES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_stage_opens_with_the_command_that_runs_it(path):
    command = path.read_text().splitlines()[1]
    assert command == f"#   python -m cry_lightning fit --config {path.relative_to(REPO)}"


def without_weights(path: Path) -> list[str]:
    """Overrides by which a stage starts without the stage before it."""
    text = path.read_text()
    return ["--model.init_args.weights=null", *["--model.init_args.adaptation=false"] * ("adaptation: true" in text)]


def small_probe_arguments(data: dict, tones: Path) -> list[str]:
    """Overrides that make the cries small on which an encoder is probed."""
    if not data.get("probe"):
        return []
    probe = "--data.probe.init_args."
    small = SMALL["SyntheticCries"] | {"folder": str(tones.parent / "synthetic")}
    return [f"{probe}cache.folder={tones.parent}", *(f"{probe}corpus.init_args.{k}={v}" for k, v in small.items())]


def small_network_arguments(path: Path) -> list[str]:
    """For a paper with a large network, a small one (the large ones are tried on the meta device)."""
    text = path.read_text()
    if "cnn14" in text:
        small = {"model.init_args.encoder": "encoder/cnn6_small.yaml", "data.feature": "feature/logmel_8k.yaml"}
        return [argument for key, name in small.items() for argument in (f"--{key}", str(CONFIGS / name))]
    if "vggish" in text:
        return ["--model.init_args.encoder.init_args.width=4"]
    return ["--model.init_args.encoder", str(CONFIGS / "encoder/small_cnn.yaml")] * ("encoder/resnet50" in text)


@pytest.mark.parametrize("path", STAGES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_stage_is_what_its_classes_take(path):
    check_arguments(["fit", "--config", str(path)])


@pytest.mark.slow
@pytest.mark.parametrize("path", cases(STAGES))
def test_every_stage_fits_and_tests(path, tones, tmp_path):
    data = data_of(path)
    args = ["--config", str(path), "--runs", str(tmp_path), f"--data.cache.folder={tmp_path}", "--trainer.logger=null"]
    detects = "tasks.Detector" in path.read_text()
    args += unmarked_arguments(tones) if detects else small_corpus_arguments(data, tones)
    args += small_probe_arguments(data, tones) + noise_arguments(path, tones)
    args += without_weights(path) + small_network_arguments(path)
    by_gradients = "tasks.SVM" not in path.read_text()
    # As hardware that has it takes by itself.
    args += ["--trainer.precision=bf16-mixed"] * (by_gradients and path.name not in IN_BRIEF)
    run = cli.main(["fit", *args, "--trainer.max_epochs=1", "--trainer.max_steps=8"])
    folder = run.run_folder
    assert folder.best.exists()
    if "tasks.Classifier" in path.read_text() and data["split"].get("test") != 0:
        cli.main(["test", "--config", str(folder.config)])
        assert (folder.path / "predictions.csv").exists()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("path", cases(DATA))
def test_every_data_config_serves_a_stage(path, tones, tmp_path):
    stage = CONFIGS / ("finetune_noise.yaml" if "waveform_8k" in path.read_text() else "finetune.yaml")
    args = ["fit", "--config", str(stage), "--data", str(path)]
    args += small_corpus_arguments(data := yaml.safe_load(path.read_text()), tones) + noise_arguments(stage, tones)
    args += ["--data.split.val=0.2"] * (data["split"].get("val") == 0)
    args += ["--model.init_args.weights=null", "--trainer.logger=null", "--trainer.fast_dev_run=true"]
    if not re.search("waveform_8k|mfcc_8k|logmel_8k", path.read_text()):  # the stage's small network wants 40 bands
        args += ["--data.feature", str(CONFIGS / "feature/logmel_8k.yaml")]
    args += ["--data.sampling.balanced=false", "--data.subset.unlabelled=false", "--data.probe=null"]
    args += ["--runs", str(tmp_path), f"--data.cache.folder={tmp_path}", "--data.clip_s=0.5"]
    assert len(cli.main(args).datamodule.rows("train"))


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in LARGE)) for path in ENCODERS]
)
def test_every_encoder_keeps_the_contract(path):
    """On the meta device: shapes without numbers, so that the largest network costs nothing."""
    config = yaml.safe_load(path.read_text())
    module, _, name = config["class_path"].rpartition(".")
    make = getattr(__import__(module, fromlist=[name]), name)
    with torch.device("meta"):
        encoder = make(**config.get("init_args", {}), **config.get("dict_kwargs", {}))
        arguments = config.get("init_args", {}) | config.get("dict_kwargs", {})
        channels = arguments.get("in_chans", 3 if name == "TimmNetwork" else 1)
        size = arguments.get("img_size") or ((64, 96) if name == "VGGish" else (arguments.get("n_mels", 40), 101))
        if name == "Flatten":
            size = (arguments["num_features"], 1)
        assert encoder(torch.empty(2, channels, *size)).shape == (2, encoder.num_features)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [path for path in STAGES if path.parent == CONFIGS and path.stem != "detect"],  # which needs real recordings
    ids=lambda path: path.stem,
)
def test_every_stage_runs_whole_as_its_first_line_says(path, tones, tmp_path):
    """With its own corpus and epochs; a stage that needs weights starts without them."""
    command = path.read_text().splitlines()[1].split()[4:]
    args = [*command, *without_weights(path), f"--runs={tmp_path}", *noise_arguments(path, tones)]
    args += [f"--data.cache.folder={tmp_path}", f"--data.corpus.init_args.folder={tmp_path}"]
    environment = os.environ | {"WANDB_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-m", "cry_lightning", *args], cwd=REPO, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*/*/best.ckpt"))


def test_a_tilde_is_the_home_of_the_user(stage, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    read = cli.ReadCLI(["fit", f"--config={stage()}", "--runs=~/runs", "--data.cache.folder=~/caches"])
    assert read.run_folder.path == tmp_path / "home/runs/tones/pretrain"
    assert read.datamodule.feature_cache().path.parent == tmp_path / "home/caches"


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"]])
def test_a_reader_who_has_enough_ends_a_command_quietly(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "cry_lightning", *arguments]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=REPO)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
