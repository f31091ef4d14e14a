"""A cache whose file is damaged, replaced or cut: noticed before it is trusted, and mended or built again."""

import errno
import os
import shutil
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from cache_fakes import features_of, flip_byte, make_cache, rows_done

from cry_lightning.console import UserError
from cry_lightning.data import cachefile
from cry_lightning.data.cachefile import CacheFile
from cry_lightning.data.inventory import list_caches, remove_caches


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """The features as a build gives them that nothing befell."""
    cache = make_cache(tmp_path_factory.mktemp("unharmed"))
    cache.build()
    return features_of(cache)


def test_damaged_rows_are_named_and_alone_computed_again(tmp_path, unharmed, caplog):
    cache = make_cache(tmp_path)
    cache.build()
    flip_byte(cache.path, CacheFile(cache.path).offset + 70 * 50 * 4 + 5)
    for _ in range(2):  # looking mends nothing
        assert cache.verify() == ["070.wav#0.000-end: its row in the cache is damaged"]
        with pytest.raises(UserError, match=r"1 damaged rows of 130, the first that of 070\.wav.*run `prepare`"):
            cache.open()
    cache.feature.batches.clear()
    cache.build()
    assert cache.feature.batches == [64]
    assert "1 damaged rows of 130" in caplog.text and "building it again" not in caplog.text
    assert cache.verify() == []
    assert torch.equal(features_of(cache), unharmed)


def test_checking_takes_no_memory(tmp_path):
    shape = (64, 1, 1, 250_000)  # 64 MB
    file = cachefile.create(tmp_path / "large.h5", shape, "float32", ["a"] * 64, [""] * 64, {"key": ""})
    for row in range(64):
        file.write_rows(range(row, row + 1), np.full((1, *shape[1:]), row, np.float32), [""])
    tracemalloc.start()
    assert len(file.damaged_rows()) == 0
    assert tracemalloc.get_traced_memory()[1] < 3 * cachefile.BLOCK_BYTES
    tracemalloc.stop()


def flips(path, every: int) -> list[int]:
    """Offsets all over a file: one in so many, and each dataset's first, and all that is not zero among the headers."""
    content, layout = path.read_bytes(), CacheFile(path).layout
    firsts = [offset for offset, _, _ in layout.values()]
    return sorted({*range(0, len(content), every), *firsts, *range(0, 96, every // 100 + 1)})


def same_as_built(cache, unharmed) -> None:
    """A damaged cache is built again or mended, in silence but for the log, and then equals one that befell nothing."""
    cache.build()
    assert torch.equal(features_of(cache), unharmed)
    assert cache.open().good.all() and not cache.open().bad
    assert CacheFile(cache.path).texts("clip") == cache.clips.names and cache.open().content == cache.content
    assert [info.state for info in list_caches(cache.folder)] == ["whole"]


@pytest.mark.parametrize("every", [9973, pytest.param(31, marks=pytest.mark.slow)])
def test_flipped_byte_anywhere_gives_no_wrong_number(tmp_path, every):
    cache = make_cache(tmp_path, n=20)
    cache.build()
    unharmed = features_of(cache)
    sound = cache.path.read_bytes()
    for offset in flips(cache.path, every):
        cache.path.write_bytes(sound)
        flip_byte(cache.path, offset)
        list_caches(cache.folder)
        same_as_built(cache, unharmed)


@pytest.mark.parametrize("every", [5003, pytest.param(101, marks=pytest.mark.slow)])
def test_cache_cut_anywhere_is_built_again(tmp_path, every):
    cache = make_cache(tmp_path, n=20)
    cache.build()
    unharmed = features_of(cache)
    sound = cache.path.read_bytes()
    for length in range(1, len(sound), every):
        cache.path.write_bytes(sound[:length])
        assert [info.state for info in list_caches(cache.folder)] == ["damaged"]
        same_as_built(cache, unharmed)


def overwrite(path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def other_hdf5(fill):
    """Puts a file of somebody else in a cache's place."""

    def harm(path) -> None:
        path.unlink()
        with h5py.File(path, "w") as file:
            fill(file)

    return harm


def remade(change):
    """Replaces one dataset of a cache by something else under its name."""

    def harm(path) -> None:
        with h5py.File(path, "r+") as file:
            features = file["features"][...]
            del file["features"]
            change(file, features)

    return harm


def external(file, features) -> None:
    raw = [("/etc/hosts", 0, features.nbytes)]
    file.create_dataset("features", features.shape, features.dtype, external=raw)


def virtual(file, features) -> None:
    layout = h5py.VirtualLayout(features.shape, features.dtype)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "features", features.shape)
    file.create_virtual_dataset("features", layout)


def in_place(make):
    def harm(path) -> None:
        path.unlink()
        make(path)

    return harm


WORSE_DAMAGES = {
    "header zeroed": lambda path: overwrite(path, 0, bytes(512)),
    "beginning zeroed": lambda path: overwrite(path, 8, bytes(2000)),
    "random": lambda path: path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size)),
    "random after the signature": lambda path: overwrite(path, 8, np.random.default_rng(0).bytes(4000)),
    "folder": in_place(lambda path: path.mkdir()),
    "pipe": in_place(os.mkfifo),
    "link to nothing": in_place(lambda path: path.symlink_to(path.parent / "nothing")),
    "link to a device": in_place(lambda path: path.symlink_to("/dev/zero")),
    "empty HDF5": other_hdf5(lambda file: None),
    "somebody else's": other_hdf5(lambda file: file.update({"features": np.ones(5), "names": ["a"]})),
    "groups": other_hdf5(lambda file: [file.create_group(name) for name in cachefile.COLUMNS]),
    "texts": remade(lambda file, features: file.update({"features": ["a", "b"]})),
    "doubles": remade(lambda file, features: file.update({"features": features.astype(np.float64)})),
    "integers": remade(lambda file, features: file.update({"features": features.astype(np.int32)})),
    "other byte order": remade(lambda file, features: file.update({"features": features.astype(">f4")})),
    "fewer rows": remade(lambda file, features: file.update({"features": features[:5]})),
    "scalar": remade(lambda file, features: file.update({"features": 3.0})),
    "chunks": remade(lambda file, features: file.create_dataset("features", data=features, chunks=True)),
    "compressed": remade(lambda file, features: file.create_dataset("features", data=features, compression="gzip")),
    "external": remade(external),
    "virtual": remade(virtual),
    "link": remade(lambda file, features: file.update({"features": h5py.ExternalLink("other.h5", "/features")})),
    "soft link": remade(lambda file, features: file.update({"features": h5py.SoftLink("/clip")})),
    "missing": remade(lambda file, features: None),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("harm", WORSE_DAMAGES.values(), ids=WORSE_DAMAGES)
def test_what_is_no_cache_is_listed_and_replaced(tmp_path, unharmed, caplog, harm):
    cache = make_cache(tmp_path)
    cache.build()
    for path in (cache.path, cache.part):
        if path == cache.part:
            cache.path.rename(path)
        harm(path)
        assert [info.state for info in list_caches(cache.folder)][-1:] in (["damaged"], ["partial"])
        caplog.clear()
        same_as_built(cache, unharmed)
        assert len(caplog.messages) == (path == cache.path)
        assert all("\n" not in message for message in caplog.messages)
    harm(cache.path)
    assert remove_caches(cache.folder, [cache.path.stem]) == [cache.path]
    assert not os.path.lexists(cache.path)
    assert Path("/etc/hosts").exists() and Path("/dev/zero").exists()


def test_folder_with_something_in_it_is_not_removed(tmp_path):
    cache = make_cache(tmp_path, n=3)
    (cache.path / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="is a folder with something in it"):
        cache.build()
    with pytest.raises(UserError, match="is a folder with something in it"):
        remove_caches(cache.folder, [cache.path.stem])
    assert (cache.path / "mine").exists()


def test_file_that_may_not_be_read_is_built_again(tmp_path, unharmed):
    if not os.geteuid():
        pytest.skip("root may read everything")
    cache = make_cache(tmp_path)
    cache.build().chmod(0)
    same_as_built(cache, unharmed)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("column", ["done", "reason", "crc32", "features"])
def test_damage_in_an_unfinished_cache_is_mended(tmp_path, unharmed, column):
    cache = make_cache(tmp_path)
    cache.build()
    cache.path.rename(cache.part)
    offset, _, _ = CacheFile(cache.part).layout[column]
    overwrite(cache.part, offset, bytes([cachefile.BAD if column == "done" else 7]))
    same_as_built(cache, unharmed)


def test_cache_is_built_without_what_macos_lacks(tmp_path, unharmed, monkeypatch):
    for name in ("posix_fallocate", "fdatasync"):
        monkeypatch.delattr(os, name, raising=False)
    cache = make_cache(tmp_path)
    cache.feature.interrupted_batch = 2
    with pytest.raises(KeyboardInterrupt):
        cache.build()
    assert rows_done(cache) == 64
    cache.feature.interrupted_batch = None
    same_as_built(cache, unharmed)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device; 1,000 bytes are free"):
        make_cache(tmp_path, clip_s=0.5).build()
    assert [path for path in cache.folder.glob("*.h5*")] == [cache.path]


def test_cache_is_built_where_the_file_system_reserves_nothing(tmp_path, unharmed, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    same_as_built(make_cache(tmp_path), unharmed)
