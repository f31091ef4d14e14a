"""A disk that fills up while something is written: one line that names the file, nothing half-written, nothing lost."""

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile
from made import RATE, write_run
from test_evaluation import by_hand

from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.evaluation import predictions
from cry_lightning.files import replacing


class FullDisk:
    """Lets files below a folder grow to so many bytes in all, then fails as a full disk does."""

    def __init__(self, monkeypatch, folder: Path, free: int) -> None:
        self.folder, self.free = str(folder), free
        monkeypatch.setattr("io.open", self.open)
        monkeypatch.setattr("builtins.open", self.open)

    def open(self, file, mode="r", *args, opened=open, **kwargs):
        handle = opened(file, mode, *args, **kwargs)
        if set(mode) & set("wax+") and str(file).startswith(self.folder):
            write = handle.write

            def limited(data):
                size = memoryview(data).nbytes if not isinstance(data, str) else len(data)
                if size > self.free:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as Python does: without a file name
                self.free -= size
                return write(data)

            return _Limited(handle, limited)
        return handle


class _Limited:
    """A file with another `write`."""

    def __init__(self, handle, write) -> None:
        self.handle, self.write = handle, write

    def __getattr__(self, name):
        return getattr(self.handle, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.handle.close()

    def __iter__(self):
        return iter(self.handle)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_full(monkeypatch, folder: Path, free: int, run) -> None:
    """Run something on a disk with little room: one line that names a file in the folder, and all is as before."""
    before = files(folder)
    with monkeypatch.context() as patch:
        FullDisk(patch, folder, free)
        with pytest.raises(UserError, match=r"No space left on device") as error:
            run()
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    assert files(folder) == before


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """What a command keeps in the current folder is no other's."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ckpt(pretrained_once) -> Path:
    return pretrained_once / "tones/pretrain/best.ckpt"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("free", [0, 500, 8000])
def test_predict(tones, ckpt, tmp_path, monkeypatch, free):
    out = tmp_path / "disk" / "predictions.csv"
    arguments = ["--ckpt", str(ckpt), *map(str, sorted(tones.parent.glob("*.wav"))), "--out", str(out)]
    check_full(monkeypatch, tmp_path / "disk", free, lambda: command("predict", arguments))
    command("predict", arguments)  # the same command, once there is room
    assert len(pd.read_csv(out)) == len(pd.read_csv(out.with_name("predictions_recordings.csv"))) == 96


@pytest.mark.sampled(1)
@pytest.mark.parametrize("free", [0, 10_000])
def test_embed(tones, ckpt, tmp_path, monkeypatch, free):
    out = tmp_path / "disk" / "embeddings.h5"
    arguments = ["--ckpt", str(ckpt), str(tones), "--out", str(out)]
    check_full(monkeypatch, tmp_path / "disk", free, lambda: command("embed", arguments))
    command("embed", arguments)
    with h5py.File(out) as file:
        assert len(file["embeddings"]) == 96


def test_evaluate_keeps_the_older_report(tmp_path, monkeypatch, no_figures):
    run = write_run(tmp_path / "run", by_hand(), trained_on="else")
    command("evaluate", [str(run)])
    for free in (0, 2000, 6000):
        check_full(monkeypatch, run, free, lambda: command("evaluate", [str(run)]))


def test_predictions_of_a_test(tmp_path, monkeypatch):
    predictions.write(by_hand(), tmp_path / "predictions.csv")
    other = by_hand().assign(fold="7")
    check_full(monkeypatch, tmp_path, 100, lambda: predictions.write(other, tmp_path / "predictions.csv"))


def test_describe(tones, tmp_path, monkeypatch):
    out = tmp_path / "disk"
    check_full(monkeypatch, out, 100, lambda: command("describe", ["--data", str(tones), "--out", str(out)]))


def cry(path: Path) -> None:
    time = np.arange(3 * RATE) / RATE
    sound = np.sign(np.sin(2 * np.pi * 450 * time)) * 0.3 * (np.abs(time - 1.5) < 0.5)
    soundfile.write(path, sound + 1e-4 * np.random.default_rng(0).standard_normal(len(sound)), RATE)


def test_acquire_keeps_what_was_done(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    out = tmp_path / "disk"
    for name in ("a.wav", "b.wav"):
        cry(tmp_path / "in" / name)
    with monkeypatch.context() as patch:
        FullDisk(patch, out, free=60_000)
        with pytest.raises(UserError, match=r"units/b\.wav.*No space left on device") as error:
            command("acquire", [str(tmp_path / "in"), str(out)])
    assert "\n" not in str(error.value)
    assert not list(out.rglob("*.part")) and len(list(out.rglob("source.json"))) == 1
    command("acquire", [str(tmp_path / "in"), str(out)])
    assert len(pd.read_csv(out / "manifest.csv")) == 2


@pytest.mark.parametrize(("number", "told"), [("EACCES", "right"), ("EFBIG", "ulimit"), ("ENOSPC", "make room")])
def test_the_way_out_is_that_of_the_reason(tmp_path, number, told):
    with pytest.raises(UserError, match=told), replacing(tmp_path / "x"):
        raise OSError(getattr(errno, number), "no")
