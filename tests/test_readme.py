"""Every command that the README shows, in its order, on made data."""

import os
import re
import shlex
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import yaml
from conftest import RATE, REPO

from cry_lightning.__main__ import COMMANDS as COMMAND_TABLE
from cry_lightning.__main__ import main

README = (REPO / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
CRY = [line for line in COMMANDS if line.startswith("python -m cry_lightning ")]
MAKE = [line for line in COMMANDS if line.startswith("make ")]


def shrink(path, change):
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A folder with the configs, made small, in which commands can be run."""
    shutil.copytree(REPO / "configs", tmp_path / "configs")
    shutil.copy(REPO / "Makefile", tmp_path)
    small = {
        "words": {"n_speakers": 8, "n_words": 2, "n_takes": 2},
        "cries": {"n_infants": 12, "n_cries": 4},
    }
    small["unlabelled"], small["unlabelled_cries"] = small["words"], small["cries"]
    for name, arguments in small.items():
        shrink(tmp_path / f"configs/data/{name}.yaml", lambda c, a=arguments: c["corpus"].update(init_args=a))
    for name in ("pretrain", "finetune", "simclr", "adapt"):
        shrink(tmp_path / f"configs/{name}.yaml", lambda c: c["trainer"].update(max_epochs=1, logger=None))
    shrink(tmp_path / "configs/few_labels.yaml", lambda c: c["trainer"].update(max_steps=2))
    probe = tmp_path / "configs/data/probe.yaml"
    shrink(probe, lambda c: c["init_args"]["corpus"].update(init_args=small["cries"]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made_donateacry(folder):
    (folder / "hungry").mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) / 10
    soundfile.write(
        folder / "hungry" / "0776b33b-c41a-4a2e-8b9c-f1c184be00c8-1437123838264-1.7-f-26-hu.wav", sound, RATE
    )
    return folder


def test_readme_shows_commands():
    assert len(CRY) > 10 and len(MAKE) > 3
    assert set(CRY) | set(MAKE) == set(COMMANDS)


def test_every_command_and_config_that_is_named_exists():
    for command in CRY:
        name, *args = shlex.split(command)[3:]
        assert name in COMMAND_TABLE, command
        assert all((REPO / arg).exists() for arg in args if arg.startswith("configs/")), command


@pytest.mark.slow
def test_every_command_runs_in_order(house):
    for command in CRY:
        args = shlex.split(command.replace("--folds 3", "--folds 2").replace("--seeds 0 1", "--seeds 0"))[3:]
        args = [arg.replace("path/to/recordings", str(made_donateacry(house / "recordings"))) for arg in args]
        args = [arg.replace("path/to/videos", str(house / "cache/synthetic")) for arg in args]
        if args[0] == "download":  # what it would fetch lies here
            args = [*args, "--from", str(made_donateacry(house / "fetched"))]
        assert main(args) == 0, command
    assert (house / "runs/comparison/report.md").exists()


@pytest.mark.parametrize("command", MAKE)
def test_every_make_command_has_its_chain(house, command):
    (house / ".venv").mkdir()
    (house / ".venv/installed").touch()
    for name in ("pyproject.toml", "constraints.txt"):
        (house / name).touch()
        os.utime(house / name, (0, 0))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    args = [
        arg.replace("path/to/recordings", str(house)).replace("data/donateacry", str(house))
        for arg in shlex.split(command)
    ]
    done = subprocess.run([*args, "-n"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.search("cry_lightning|pytest|grid.sh", done.stdout)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (REPO / link).exists()
