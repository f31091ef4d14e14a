"""`prepare`: what it builds and what it finds; and that `fit` trusts no damaged cache."""

import logging
from pathlib import Path

import pytest
from cache_fakes import flip_byte

from cry_lightning.__main__ import main, run as command
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.data.cachefile import CacheFile


@pytest.fixture
def config(stage, tmp_path) -> tuple[str, ...]:
    return "--config", str(stage()), f"--data.cache.folder={tmp_path / 'cache'}"


def cache_in(folder: Path) -> Path:
    (path,) = folder.glob("cache/*.h5")
    return path


@pytest.mark.slow
def test_verify_tells_a_sound_cache_from_one_with_damaged_rows(config, tmp_path, capsys):
    assert main(["prepare", *config, "--verify"]) == 0  # nothing there yet: built, then read
    assert "96 rows and their audio were read, and are sound" in capsys.readouterr().out
    path = cache_in(tmp_path)
    sound, file = path.read_bytes(), CacheFile(path)
    row_bytes = file.dtype.itemsize * file.shape[1] * file.shape[2] * file.shape[3]
    for row in (3, 70):
        flip_byte(path, file.offset + row * row_bytes + 11)
    assert main(["prepare", *config, "--verify"]) == 2
    told = capsys.readouterr()
    assert told.out.count("its row in the cache is damaged") == 2
    assert all(f"{name}#0.000-end: its row" in told.out for name in file_names(file, (3, 70)))
    assert f"{path}: 2 faults" in told.err and "without --verify" in told.err and told.err.count("\n") == 1
    assert main(["prepare", *config]) == 0
    assert path.read_bytes() == sound


def file_names(file: CacheFile, rows) -> list[str]:
    return [file.texts("clip")[row].partition("#")[0] for row in rows]


@pytest.mark.slow
def test_verify_of_a_broken_file(config, tmp_path, capsys):
    command("prepare", list(config))
    path = cache_in(tmp_path)
    path.write_bytes(b"\0" * 5000)
    with pytest.raises(UserError, match=r"\.h5: 1 faults; the same command without --verify"):
        command("prepare", [*config, "--verify"])
    assert "cannot be read" in capsys.readouterr().out
    command("prepare", list(config))
    command("prepare", [*config, "--verify"])


@pytest.mark.slow
def test_fit_computes_damaged_rows_again(config, tmp_path, caplog):
    command("prepare", list(config))
    path = cache_in(tmp_path)
    sound = path.read_bytes()
    flip_byte(path, CacheFile(path).offset + 1000)
    caplog.set_level(logging.WARNING)
    cli.main(["fit", *config, "--trainer.max_epochs=1"])
    assert sum("1 damaged rows of 96" in message for message in caplog.messages) == 1
    assert path.read_bytes() == sound
