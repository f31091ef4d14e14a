"""The command line: its table, its help, and one line for every mistake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cry_lightning import __main__ as command_line
from cry_lightning import cli
from cry_lightning.callbacks import wandb_is_online
from cry_lightning.errors import UserError


def shell(*args, **kwargs):
    return subprocess.run([sys.executable, "-m", "cry_lightning", *args], capture_output=True, text=True, **kwargs)


def test_command_table_needs_no_torch():
    script = (
        "import sys; from cry_lightning.__main__ import main; code = main([]);"
        "heavy = {'torch', 'lightning', 'numpy', 'pandas', 'sklearn'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in command_line.COMMANDS)


@pytest.mark.parametrize("command", list(command_line.COMMANDS))
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.main([command, "--help"])
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out


@pytest.fixture
def mistake(capsys):
    """Runs a command that must fail as a user's mistake, and returns its message."""

    def run(*args) -> str:
        assert command_line.main([str(arg) for arg in args]) == 2
        *_, last = capsys.readouterr().err.strip().splitlines()
        assert last.startswith("cry_lightning: error: ")
        return last

    return run


def changed(path: Path, change) -> Path:
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))
    return path


def test_unknown_command(mistake):
    assert "unknown command 'fti'" in mistake("fti")


def test_wrong_key_in_the_yaml(mistake, stage):
    config = changed(stage(), lambda c: c["data"].update(clip_seconds=1))
    assert "clip_seconds" in mistake("fit", "--config", config)


def test_wrong_key_on_the_command_line(mistake, stage):
    assert "trainer.max_epoch" in mistake("fit", "--config", stage(), "--trainer.max_epoch=3")


def test_wrong_type_of_a_value(mistake, stage):
    assert "batch_size" in mistake("fit", "--config", stage(), "--data.batch_size=many")


def test_missing_config(mistake):
    assert "nowhere.yaml" in mistake("fit", "--config", "nowhere.yaml")


def test_missing_sub_config(mistake, stage):
    config = changed(stage(), lambda c: c["model"]["init_args"].update(encoder="encoder/nothing.yaml"))
    assert "nothing.yaml" in mistake("fit", "--config", config)


def test_unknown_class(mistake, stage):
    config = changed(stage(), lambda c: c["data"]["feature"].update(class_path="cry_lightning.features.MFC"))
    assert "cry_lightning.features.MFC" in mistake("fit", "--config", config)


def test_missing_corpus(mistake, stage):
    config = changed(stage(), lambda c: c["data"]["corpus"]["init_args"].update(root="nowhere/manifest.csv"))
    assert "nowhere/manifest.csv" in mistake("fit", "--config", config)


def test_missing_checkpoint(mistake, stage):
    assert "best.ckpt: no such checkpoint" in mistake("test", "--config", stage())


def test_clip_too_short_for_the_network(mistake, stage):
    config = changed(stage(), lambda c: c["data"].update(clip_s=0.016, shift_s=0.0))
    assert "Res8" in mistake("fit", "--config", config)


def test_a_mistake_is_one_line_and_exit_code_2():
    done = shell("fit", "--config", "nowhere.yaml")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "nowhere.yaml" in done.stderr


def test_debug_shows_the_traceback():
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        command_line.main(["fit", "--config", "nowhere.yaml", "--debug"])


def test_sub_configs_resolve_from_the_file_that_names_them_two_levels_deep(stage, tmp_path, monkeypatch):
    config = yaml.safe_load(stage().read_text())
    for folder in ("configs/data", "configs/feature", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "configs/feature/mfcc.yaml").write_text(yaml.safe_dump(config["data"]["feature"]))
    (tmp_path / "configs/data/tones.yaml").write_text(
        yaml.safe_dump(config["data"] | {"feature": "../feature/mfcc.yaml"})
    )
    (tmp_path / "configs/stage.yaml").write_text(yaml.safe_dump(config | {"data": "data/tones.yaml"}))
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = cli.main(["fit", "--config", "../configs/stage.yaml", "--data.batch_size=4", "--trainer.max_epochs=1"])
    assert run.datamodule.batch_size == 4 and run.datamodule.feature.n_mfcc == 40


def test_prepare_builds_lists_and_removes(stage, tmp_path, capsys):
    config = changed(stage(), lambda c: c["data"].update(cache_dir=str(tmp_path / "cache")))
    assert command_line.main(["prepare", "--config", str(config)]) == 0
    assert "96 clips, 0 left out" in capsys.readouterr().out
    assert command_line.main(["prepare", "--list", "--folder", str(tmp_path / "cache")]) == 0
    listed = capsys.readouterr().out
    assert "tones" in listed and "MFCC" in listed
    assert command_line.main(["prepare", "--config", str(config), "--verify"]) == 0
    capsys.readouterr()
    (cache,) = (tmp_path / "cache").glob("*.h5")
    assert command_line.main(["prepare", "--remove", cache.stem, "--folder", str(tmp_path / "cache")]) == 0
    assert not cache.exists()


@pytest.mark.parametrize(
    ("key", "mode", "online"),
    [("", None, False), ("k" * 40, None, True), ("k" * 40, "offline", False), ("k" * 40, "disabled", False)],
)
def test_wandb_goes_online_only_with_a_key_and_leave(monkeypatch, tmp_path, key, mode, online):
    monkeypatch.setenv("HOME", str(tmp_path))  # no netrc there
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.delenv("WANDB_MODE") if mode is None else monkeypatch.setenv("WANDB_MODE", mode)
    assert wandb_is_online() is online


def test_wandb_offline_run_has_group_job_type_and_never_asks(stage, tmp_path):
    config = changed(
        stage(),
        lambda c: c["trainer"].update(
            logger=[{"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"project": "cries"}}]
        ),
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | {"HOME": str(tmp_path)}
    done = shell("fit", "--config", str(config), "--pipeline=babies", env=env, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 0, done.stderr
    (offline,) = (tmp_path / "runs/wandb").glob("offline-run-*")
    (log,) = offline.glob("*.wandb")
    assert all(word in log.read_bytes() for word in (b"cries", b"babies", b"pretrain"))  # project, group, job type
    pictures = {path.parent.name for path in offline.rglob("*.png")}
    assert {"val"} <= pictures
    run = tmp_path / "runs/tones/pretrain"
    assert (run / "best.ckpt").exists() and (run / "fit/metrics.csv").exists()
