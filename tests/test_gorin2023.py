"""The grid of Gorin et al. 2023: which stages it runs, on whose encoders, without whom. The stages are stand-ins."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import REPO

STAND_IN = """#!/bin/bash
# Records what it was asked to do, and makes the files that the real command makes.
[ "$2" = cry_lightning.inputs ] && exec "$REAL_PYTHON" "$@"
echo "$*" >> commands.log
corpus=synthetic-cries
for ((i = 1; i <= $#; i++)); do
  [ "${!i}" = --name ] && next=$((i + 1)) && name="${!next}"
done
case "$*" in
  *words.yaml*) corpus=synthetic-words ;;
  *init_args.clip_list*) corpus=vggsound ;;
  *init_args.root*) corpus=cries ;;
esac
run=runs/$corpus/$name
case "$3" in
  fit) mkdir -p $run/fit; echo "$RANDOM" > $run/best.ckpt; touch $run/fit/finished $run/config.yaml ;;
  test) echo subject > "$(dirname "$5")/predictions.csv" ;;
  evaluate) echo table ;;
esac
"""


@pytest.fixture
def grid(tmp_path):
    """Runs the script among stand-ins; the commands that it gave."""
    shutil.copytree(REPO / "configs", tmp_path / "configs")
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)

    def run(*args: str) -> list[str]:
        log = tmp_path / "commands.log"
        log.write_text("")
        script = "configs/papers/gorin2023/grid.sh"
        environment = os.environ | {"PYTHON": str(python), "REAL_PYTHON": sys.executable}
        done = subprocess.run(
            ["bash", script, *(args or ("", ""))], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        run.code, run.output = done.returncode, done.stderr
        return log.read_text().splitlines()

    return run


def fits(commands: list[str]) -> dict[str, str]:
    return {re.search(r"--name (\S+)", line)[1]: line for line in commands if " fit " in line}


def test_every_cell_is_trained_from_its_own_encoder_and_tested(grid):
    commands = grid()
    assert grid.code == 0, grid.output
    cells = fits(commands)
    wanted = {"scratch": "null", "supervised": "synthetic-words/gorin2023-supervised", "adapt": "gorin2023-adapt"}
    wanted["simclr"] = "synthetic-words/gorin2023-simclr"
    for target in ("injury", "trigger"):
        for start, weights in wanted.items():
            for way in ("probe", "finetune"):
                line = cells[f"gorin2023-{target}-{start}-{way}"]
                assert f"gorin2023/{way}.yaml" in line
                assert weights in re.search(r"--model.init_args.weights=(\S+)", line)[1]
    assert len(cells) == 16 + 3
    assert sum(" test " in line for line in commands) == 16
    assert len(re.findall("runs/synthetic-cries/gorin2023-", commands[-1])) == 16


def test_adaptation_comes_after_the_tests_whose_subjects_it_leaves_out(grid):
    commands = grid()
    adapt = next(i for i, line in enumerate(commands) if "--name gorin2023-adapt" in line)
    excluded = re.search(r"--data.exclude_subjects=\[(.*?)\]", commands[adapt])[1].replace('"', "").split(",")
    assert len(excluded) == 2
    for table in excluded:
        config = table.replace("predictions.csv", "config.yaml")
        assert any(f"test --config {config}" in line for line in commands[:adapt])


def test_what_is_finished_is_not_run_again(grid, tmp_path):
    grid()
    assert [line.split()[2] for line in grid()] == ["evaluate"]
    (tmp_path / "runs/synthetic-cries/gorin2023-adapt/fit/finished").unlink()
    again = fits(grid())
    assert set(again) == {
        "gorin2023-adapt",
        *(f"gorin2023-{target}-adapt-{way}" for target in ("injury", "trigger") for way in ("probe", "finetune")),
    }


@pytest.mark.slow
def test_what_is_made_of_other_recordings_or_networks_is_run_again(grid, tmp_path):
    sounds, cries = tmp_path / "sounds", tmp_path / "ward/manifest.csv"
    for folder in (sounds, cries.parent):
        folder.mkdir()
    (sounds / "vggsound.csv").write_text("a,0,speech,train\n")
    cries.write_text("path,subject,injury,trigger\n")
    given = str(sounds), str(cries)
    everything = set(fits(grid(*given)))
    assert len(everything) == 16 + 3
    assert fits(grid(*given)) == {}
    for path in (cries, sounds / "vggsound.csv", tmp_path / "configs/encoder/cnn14.yaml"):
        with path.open("a") as file:
            file.write("\n")
        assert set(fits(grid(*given))) == everything, path


def test_one_of_the_two_inputs_is_not_enough(grid, tmp_path):
    assert grid(str(tmp_path), "") == []
    assert grid.code == 2
    assert "must both be there" in grid.output


@pytest.mark.slow
def test_rehearsal_ends_in_a_clean_table(tmp_path):
    """Whole, with the real commands; two epochs a stage."""
    shutil.copytree(REPO / "configs", tmp_path / "configs")
    environment = os.environ | {"PYTHON": sys.executable, "WANDB_MODE": "disabled"}
    args = ["--trainer.max_epochs=2", "--trainer.enable_progress_bar=false"]
    done = subprocess.run(
        ["bash", "configs/papers/gorin2023/grid.sh", "", "", *args],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()  # with counts of clips, recordings and subjects: not the paired differences
    rows = [row for row in lines if re.match(r"runs/synthetic-cries/gorin2023-\S+ +clip +\d+/\d+/\d+ ", row)]
    assert len([row for row in rows if row.rstrip().endswith("CLEAN")]) == 16
