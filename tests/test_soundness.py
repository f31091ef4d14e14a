"""A cache that was found sound is not read as a whole again, and yet no byte of it is used unchecked."""

import json
import os
import time

import numpy as np
import pytest
import torch
from cache_fakes import features_of, flip_byte, make_cache
from test_cache_damage import flips, same_as_built

from cry_lightning.console import UserError
from cry_lightning.data import soundness
from cry_lightning.data.cachefile import CacheFile
from cry_lightning.data.inventory import list_caches, remove_caches


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """What is read as a whole, in what stands for a new process."""
    read: list[str] = []
    for name in ("damaged_rows", "has_sound_columns"):
        method = getattr(CacheFile, name)
        monkeypatch.setattr(CacheFile, name, lambda self, name=name, do=method: (read.append(name), do(self))[1])
    monkeypatch.setattr(soundness, "_read", set())
    return read


@pytest.fixture
def unseen(monkeypatch):
    """Makes a disk that fails: the contents of files change, and their state does not."""
    monkeypatch.setattr(soundness, "stamp", lambda path: (path.stat().st_size,))
    monkeypatch.setattr(soundness, "_read", set())


def settle(path) -> None:
    """Makes a file seem to have been written long ago."""
    os.utime(path, ns=(0, time.time_ns() - 10 * soundness.RACY_NS))


def test_a_cache_that_was_built_is_opened_without_reading_it(tmp_path, read):
    cache = make_cache(tmp_path, n=10)
    cache.build()
    read.clear()
    again = make_cache(tmp_path, n=10)
    assert again.build() and again.open().good.all() and [info.state for info in list_caches(cache.folder)] == ["whole"]
    assert read == [] and again.feature.batches == []
    assert again.open().content == cache.content
    assert read == ["has_sound_columns"]  # by whoever uses columns of text


def test_a_cache_from_elsewhere_is_read_once(tmp_path, read):
    cache = make_cache(tmp_path, n=10)
    cache.build()
    soundness.note_of(cache.path).unlink()
    settle(cache.path)
    read.clear()
    for _ in range(2):
        cache.open()
        soundness._read.clear()  # another process
    assert read == ["has_sound_columns", "damaged_rows"]


def test_a_cache_where_nothing_can_be_noted_is_read_once_per_process(tmp_path, read, monkeypatch):
    cache = make_cache(tmp_path, n=10)
    cache.build()
    note = soundness.note_of(cache.path)
    note.unlink()
    note.mkdir()  # as good as a folder in which nothing may be written
    settle(cache.path)
    read.clear()
    for _ in range(2):
        cache.build()
        assert cache.open().content and torch.isfinite(features_of(cache)).all()
    assert read == ["has_sound_columns", "damaged_rows"]


def test_a_cache_that_changed_a_moment_ago_is_not_taken_for_settled(tmp_path, read):
    cache = make_cache(tmp_path, n=10)
    cache.build()
    assert time.time_ns() - cache.path.stat().st_mtime_ns > soundness.RACY_NS  # as whatever follows does not
    cache.path.touch()
    for _ in range(2):
        read.clear()
        cache.open()
        assert read == ["has_sound_columns", "damaged_rows"]


@pytest.mark.parametrize("keeps_time", [False, True])
def test_a_change_is_noticed_at_opening(tmp_path, read, keeps_time):
    cache = make_cache(tmp_path, n=10)
    cache.build()
    status = cache.path.stat()
    flip_byte(cache.path, CacheFile(cache.path).offset)
    if keeps_time:
        os.utime(cache.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "1 damaged row" in cache.fault()


@pytest.mark.parametrize("text", ["", "[]", "{", "[1, 2]", "null", "\0", "[" * 100_000])
def test_a_note_that_tells_nothing_is_none(tmp_path, read, text):
    cache = make_cache(tmp_path, n=10)
    cache.build()
    soundness.note_of(cache.path).write_text(text)
    read.clear()
    cache.open()
    assert read == ["has_sound_columns", "damaged_rows"]
    assert json.loads(soundness.note_of(cache.path).read_text())


def test_the_note_of_another_cache_is_none(tmp_path, read):
    cache, other = make_cache(tmp_path, n=10), make_cache(tmp_path, n=10, clip_s=0.5)
    cache.build()
    other.build()
    soundness.note_of(other.path).replace(soundness.note_of(cache.path))
    read.clear()
    cache.open()
    assert read == ["has_sound_columns", "damaged_rows"]


def test_verifying_reads_all_whatever_was_noted(tmp_path, unseen):
    cache = make_cache(tmp_path, n=10)
    cache.build()
    flip_byte(cache.path, CacheFile(cache.path).offset)
    assert cache.fault() is None
    assert cache.verify() == ["000.wav#0.000-end: its row in the cache is damaged"]


def test_a_removed_cache_leaves_no_note(tmp_path):
    cache = make_cache(tmp_path, n=3)
    cache.build()
    remove_caches(cache.folder, [cache.path.stem])
    assert not soundness.note_of(cache.path).exists()


def test_a_row_that_was_damaged_unseen_is_refused_where_it_is_read_then_computed_again(tmp_path, unseen, caplog):
    cache = make_cache(tmp_path, n=70)
    cache.build()
    unharmed = features_of(cache)
    flip_byte(cache.path, CacheFile(cache.path).offset + 3 * 50 * 4 + 7)
    features = cache.open()
    assert torch.equal(features.gather(torch.tensor([2, 4, 2])), unharmed[[2, 4, 2]])
    for _ in range(2):
        with pytest.raises(UserError, match=r"a damaged row, number 3: run `prepare` .* or this command again"):
            features.gather(torch.tensor([2, 3]))
    cache.feature.batches.clear()
    cache.build()
    assert cache.feature.batches == [64] and "computing these again" in caplog.text
    assert torch.equal(features_of(cache), unharmed)


@pytest.mark.parametrize("every", [30_011, pytest.param(311, marks=pytest.mark.slow)])
def test_a_byte_that_was_flipped_unseen_gives_no_wrong_number(tmp_path, unseen, every):
    cache = make_cache(tmp_path, n=20)
    cache.build()
    unharmed, content, sounds = features_of(cache), cache.content, [*cache.open().sounds(torch.arange(20))]
    sound, noticed = cache.path.read_bytes(), 0
    note = soundness.note_of(cache.path).read_text()
    for offset in flips(cache.path, every):
        cache.path.write_bytes(sound)
        soundness.note_of(cache.path).write_text(note)
        flip_byte(cache.path, offset)
        try:
            features = cache.open()
            assert features.good.all() and torch.equal(features.gather(torch.arange(20)), unharmed)
            assert features.content == content and [*features.sounds(torch.arange(20))] == sounds
            assert not features.bad
        except UserError:
            noticed += 1
            same_as_built(cache, unharmed)
    assert noticed > 5


def test_rows_are_compared_once_in_a_process(tmp_path, unseen):
    cache = make_cache(tmp_path, n=10)
    cache.build()
    features = cache.open()
    features.gather(torch.arange(5))
    assert features._checked.tolist() == [True] * 5 + [False] * 5
    soundness.note_of(cache.path).unlink()
    settle(cache.path)
    assert np.all(cache.open()._checked)  # since opening has read all of it
