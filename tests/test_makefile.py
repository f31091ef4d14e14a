"""The chain of stages in make: what is made, where, and what makes it out of date. The stages are stand-ins."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import REPO

STAND_IN = """#!/bin/bash
# Records what it was asked to do, and makes the files that the real command makes.
echo "$*" >> commands.log
corpus=synthetic-cries
for ((i = 1; i <= $#; i++)); do
  [ "${!i}" = --data.corpus.init_args.name ] && next=$((i + 1)) && corpus="${!next}"
done
case "$*" in
  *"fit --config configs/pretrain.yaml"*) run=runs/synthetic-words/pretrain; mkdir -p $run; touch $run/best.ckpt ;;
  *"fit --config configs/simclr.yaml"*) run=runs/synthetic-words/simclr; mkdir -p $run; touch $run/best.ckpt ;;
  *"fit --config configs/adapt.yaml"*) run=runs/$corpus/adapt; mkdir -p $run; touch $run/best.ckpt ;;
  *"fit --config configs/finetune.yaml"*)
    run=runs/$corpus/finetune; mkdir -p $run; touch $run/best.ckpt $run/config.yaml ;;
  *"cry_lightning test --config"*) touch "$(dirname "${@: -1}")/predictions.csv" ;;
  *"cry_lightning evaluate"*) echo "table of $4" ;;
esac
"""


@pytest.fixture
def house(tmp_path):
    """The Makefile and the configs, with a stand-in for the installed Python."""
    shutil.copytree(REPO / "configs", tmp_path / "configs")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPO / name, tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (tmp_path / ".venv/installed").touch()
    return tmp_path


@pytest.fixture
def make(house):
    def run(*args: str) -> list[str]:
        """The stages that make ran, in order."""
        log = house / "commands.log"
        log.write_text("")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        done = subprocess.run(["make", *args], cwd=house, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        run.output = done.stdout
        time.sleep(0.02)  # so that what is touched next is newer
        return re.findall(r"cry_lightning (\w+ (?:--config )?\S+)", log.read_text())

    return run


CHAIN = ["pretrain", "finetune", "evaluate"]
FIT_PRETRAIN = "fit --config configs/simclr.yaml"
FIT_SUPERVISED = "fit --config configs/pretrain.yaml"
FIT_ADAPT = "fit --config configs/adapt.yaml"
FIT_FINETUNE = "fit --config configs/finetune.yaml"


def tail(corpus: str) -> list[str]:
    return [f"test --config runs/{corpus}/finetune/config.yaml", f"evaluate runs/{corpus}/finetune"]


def own_corpus(house: Path, name: str = "my cries") -> Path:
    folder = house / name
    (folder / "hungry").mkdir(parents=True)
    (folder / "hungry" / "a.wav").write_bytes(b"sound")
    return folder


def test_default_chain_runs_once(make):
    assert make(*CHAIN) == [FIT_PRETRAIN, FIT_FINETUNE, *tail("synthetic-cries")]
    assert "table of runs/synthetic-cries/finetune" in make.output
    assert make(*CHAIN) == []
    assert "table of runs/synthetic-cries/finetune" in make.output


def test_own_data_after_the_default_gets_a_folder_of_its_own(make, house):
    make(*CHAIN)
    data = own_corpus(house)
    assert make(*CHAIN, f"DATA={data}") == [FIT_FINETUNE, *tail("my-cries")]
    assert "table of runs/my-cries/finetune" in make.output
    assert make(*CHAIN, f"DATA={data}") == []
    assert make(*CHAIN) == []


def test_another_folder_of_the_same_name_takes_nothing_away(make, house):
    first, second = own_corpus(house, "cries"), own_corpus(house, "elsewhere/cries")
    make(*CHAIN, f"DATA={first}")
    stages = make(*CHAIN, f"DATA={second}")
    assert stages[0] == FIT_FINETUNE and re.fullmatch(r"evaluate runs/cries-\d+/finetune", stages[-1])
    assert make(*CHAIN, f"DATA={second}") == []
    assert make(*CHAIN, f"DATA={first}") == []


def test_the_long_chain_hands_on_the_adapted_encoder(make, house):
    data = own_corpus(house)
    long = ["simclr", "adapt", "finetune", "evaluate"]
    assert make(*long) == [FIT_PRETRAIN, FIT_ADAPT, FIT_FINETUNE, *tail("synthetic-cries")]
    assert "--model.init_args.weights runs/synthetic-cries/adapt/best.ckpt" in (house / "commands.log").read_text()
    assert make(*long) == []
    assert make(*long, f"DATA={data}") == [FIT_ADAPT, FIT_FINETUNE, *tail("my-cries")]
    assert "--model.init_args.weights runs/my-cries/adapt/best.ckpt" in (house / "commands.log").read_text()
    assert make(*long, f"DATA={data}", "ARGS=--trainer.max_epochs=3") == [FIT_FINETUNE, *tail("my-cries")]


def test_who_is_tested_is_told_to_the_adaptation_too(make, house):
    long = ["simclr", "adapt", "finetune", "evaluate"]
    other = "--data.split.seed=3"
    make(*long)
    assert make(*long, f"ARGS={other} --trainer.max_epochs=3")[:2] == [FIT_ADAPT, FIT_FINETUNE]
    adapted, finetuned = (house / "commands.log").read_text().splitlines()[:2]
    assert other in adapted and "max_epochs" not in adapted and other in finetuned


def test_another_method_is_fitted_anew(make, house):
    make(*CHAIN)
    assert make(*CHAIN, "METHOD=supervised") == [FIT_SUPERVISED, FIT_FINETUNE, *tail("synthetic-cries")]
    assert "--model.init_args.weights runs/synthetic-words/pretrain/best.ckpt" in (house / "commands.log").read_text()
    assert make(*CHAIN, "METHOD=supervised") == []
    assert make(*CHAIN) == [FIT_FINETUNE, *tail("synthetic-cries")]


def test_what_make_cannot_use_is_told(house):
    done = subprocess.run(["make", "pretrain", "METHOD=magic"], cwd=house, capture_output=True, text=True)
    assert done.returncode and "METHOD=magic: it is simclr, supervised or adapt" in done.stderr
    done = subprocess.run(["make", "finetune", "DATA=my cries"], cwd=house, capture_output=True, text=True)
    assert done.returncode and done.stderr.startswith("Makefile:") and "DATA=my cries: no such" in done.stderr


def test_manifest_is_named_by_its_folder(make, house):
    folder = own_corpus(house, "ward 7")
    (folder / "manifest.csv").write_text("path,label,subject\n")
    assert make(*CHAIN, f"DATA={folder / 'manifest.csv'}")[1:] == [FIT_FINETUNE, *tail("ward-7")]


def test_changed_recordings_are_fitted_anew(make, house):
    data = own_corpus(house)
    make(*CHAIN, f"DATA={data}")
    (data / "hungry" / "b.wav").write_bytes(b"more sound")
    assert make(*CHAIN, f"DATA={data}") == [FIT_FINETUNE, *tail("my-cries")]


def test_changed_recordings_of_a_manifest_are_fitted_anew(make, house):
    recordings = own_corpus(house)
    (recordings / "manifest.csv").write_text("path,label,subject\nhungry/a.wav,hungry,1\n")
    (house / "configs/data/ward.yaml").write_text(f"corpus: {{init_args: {{path: '{recordings}/manifest.csv'}}}}\n")
    for data in (recordings / "manifest.csv", "configs/data/ward.yaml"):
        make(*CHAIN, f"DATA={data}")
        assert make(*CHAIN, f"DATA={data}") == []
        with (recordings / "hungry/a.wav").open("a") as sound:
            sound.write("more of it")
        assert FIT_FINETUNE in make(*CHAIN, f"DATA={data}")
        with (recordings / "manifest.csv").open("a") as manifest:
            manifest.write("hungry/a.wav,hungry,2\n")
        assert FIT_FINETUNE in make(*CHAIN, f"DATA={data}")


def test_a_manifest_depends_on_no_file_that_it_does_not_name(make, house):
    (house / "ward.csv").write_text("path,label,subject\n")
    make(*CHAIN, "DATA=ward.csv")
    assert make(*CHAIN, "DATA=ward.csv") == []


def test_other_arguments_are_fitted_anew(make):
    make(*CHAIN)
    assert make(*CHAIN, "ARGS=--trainer.max_epochs=3") == [FIT_FINETUNE, *tail("synthetic-cries")]


@pytest.mark.parametrize(
    ("config", "stages"),
    [
        ("configs/simclr.yaml", [FIT_PRETRAIN, FIT_FINETUNE]),
        ("configs/data/unlabelled.yaml", [FIT_PRETRAIN, FIT_FINETUNE]),
        ("configs/data/probe.yaml", [FIT_PRETRAIN, FIT_FINETUNE]),
        ("configs/feature/logmel_8k.yaml", [FIT_PRETRAIN, FIT_FINETUNE]),
        ("configs/encoder/cnn6_small.yaml", [FIT_PRETRAIN, FIT_FINETUNE]),
        ("configs/finetune.yaml", [FIT_FINETUNE]),
        ("configs/data/cries.yaml", [FIT_FINETUNE]),
        ("configs/data/own.yaml", []),
        ("configs/pretrain.yaml", []),
        ("configs/encoder/resnet18.yaml", []),
    ],
)
def test_changed_config_makes_its_stages_out_of_date(make, house, config, stages):
    make(*CHAIN)
    (house / config).touch()
    assert make(*CHAIN) == [*stages, *(tail("synthetic-cries") if stages else [])]


def test_own_data_depends_on_its_own_config(make, house):
    data = own_corpus(house)
    make(*CHAIN, f"DATA={data}")
    (house / "configs/data/own.yaml").touch()
    assert make(*CHAIN, f"DATA={data}") == [FIT_FINETUNE, *tail("my-cries")]


def test_data_may_be_a_yaml(make, house):
    (house / "configs/data/ward.yaml").write_text((house / "configs/data/own.yaml").read_text())
    assert make(*CHAIN, "DATA=configs/data/ward.yaml") == [FIT_PRETRAIN, FIT_FINETUNE, *tail("ward")]


def test_dry_run_prints_the_chain_and_runs_nothing(make, house):
    assert make("-n", "evaluate") == []
    stages = [
        "fit --config configs/simclr.yaml",
        "fit --config configs/finetune.yaml",
        "test --config",
        "evaluate runs",
    ]
    places = [make.output.index(stage) for stage in stages]
    assert places == sorted(places)
    assert not (house / "runs/synthetic-cries/finetune/best.ckpt").exists()


def test_help_lists_every_target(make):
    make("help")
    targets = re.findall(r"^([a-z][a-z-]*):", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert len(targets) > 8
    assert all(f"make {target}" in make.output for target in targets)
