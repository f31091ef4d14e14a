"""One cache built in shares, by processes that know nothing of each other but the folder."""

import signal
import time
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from cache_fakes import N_CLIPS, cache_of, make_cache, rows_done
from filelock import FileLock

from cry_lightning.__main__ import main
from cry_lightning.console import UserError
from cry_lightning.data.building import batches_of
from cry_lightning.data.cachefile import COLUMNS, CacheFile
from cry_lightning.data.inventory import remove_caches


def content(cache) -> dict[str, np.ndarray]:
    file = CacheFile(cache.path)
    return {name: np.array(file.column(name)) for name in COLUMNS}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The clips, and a cache of them that one process has built."""
    cache = make_cache(tmp_path_factory.mktemp("whole"))
    cache.build()
    return cache


@pytest.fixture
def cache(whole, tmp_path):
    """Another cache of these clips, which is not built yet."""
    return cache_of(whole.corpus.root, tmp_path)


def assert_same(cache, whole) -> None:
    ours, theirs = content(cache), content(whole)
    assert all(np.array_equal(ours[name], theirs[name]) for name in COLUMNS)
    assert cache.fault() is None and not cache.part.exists()


@pytest.mark.parametrize(("n", "shards"), [(130, 1), (130, 2), (130, 3), (130, 5), (1, 2), (64 * 7, 3)])
def test_shares_are_all_batches_once(n, shards):
    shared = [rows for shard in range(1, shards + 1) for rows in batches_of(n, shard, shards)]
    assert shared == batches_of(n)
    assert [row for rows in shared for row in rows] == list(range(n))


def test_shares_in_any_order_make_the_cache_of_one_build(cache, whole):
    assert cache.build_shard(2, 2) == 64
    assert not cache.path.exists()
    assert cache.build_shard(1, 2) == 0
    assert_same(cache, whole)
    assert cache.build_shard(1, 2) == 0  # and again


def test_a_build_does_what_is_missing(cache, whole):
    cache.build_shard(2, 3)
    cache.feature.batches = []
    cache.build()
    assert sum(cache.feature.batches) == N_CLIPS - len(batches_of(N_CLIPS, 2, 3)[0])
    assert_same(cache, whole)


def test_the_same_share_twice_at_once_is_refused(cache):
    cache.folder.mkdir(exist_ok=True)
    with (
        FileLock(cache.path.with_suffix(".shard-1-of-2.lock")),
        pytest.raises(UserError, match=r"--shard 1/2: another process builds this very shard of .*, or all of it"),
    ):
        cache.build_shard(1, 2)


def test_shares_of_another_number_leave_nothing_out(cache, whole):
    for shard, shards in [(1, 2), (2, 3), (3, 3), (1, 3)]:
        left = cache.build_shard(shard, shards)
    assert left == 0
    assert_same(cache, whole)


def test_no_cache_is_removed_while_a_share_is_built(cache):
    cache.build_shard(1, 2)
    with (
        FileLock(cache.path.with_suffix(".shard-2-of-2.lock")),
        pytest.raises(UserError, match="is being built: stop that build first"),
    ):
        remove_caches(cache.folder, [cache.path.stem])
    assert remove_caches(cache.folder, [cache.path.stem]) == [cache.part]


@pytest.mark.parametrize("text", ["2", "0/2", "3/2", "a/b", "1/", "-1/2", "1/2/3"])
def test_what_is_no_share_is_one_line(tmp_path, capsys, text):
    assert main(["prepare", "--config", "configs/finetune.yaml", f"--shard={text}"]) == 2
    assert "give its number and how many there are, from 1/4 to 4/4 for four" in capsys.readouterr().err


def build_share(root, folder, shard: int) -> None:
    torch.set_num_threads(1)
    cache = cache_of(root, folder)
    cache.feature.pause_s = 0.1
    cache.build_shard(shard, 2)


@pytest.mark.slow
def test_two_processes_at_once_of_which_one_is_killed(tmp_path):
    whole = make_cache(tmp_path, n=1000)
    whole.build()
    cache = cache_of(whole.corpus.root, tmp_path / "shared")
    start = get_context("fork").Process
    processes = [start(target=build_share, args=(whole.corpus.root, cache.folder, shard)) for shard in (1, 2)]
    for process in processes:
        process.start()
    while rows_done(cache) < 200:
        time.sleep(0.02)
    processes[0].kill()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [-signal.SIGKILL, 0]
    assert not cache.path.exists()
    assert 500 < (done := rows_done(cache)) < 1000
    assert cache.build_shard(1, 2) == 0
    assert sum(cache.feature.batches) == 1000 - done
    assert_same(cache, whole)


@pytest.mark.slow
def test_the_command_builds_shares(stage, tmp_path, capsys):
    config = ["--config", str(stage()), f"--data.cache.folder={tmp_path / 'cache'}"]
    assert main(["prepare", *config, "--shard", "2/2"]) == 0
    assert "shard 2/2 is built; 64 of 96 rows, of other shards, are missing" in capsys.readouterr().out
    assert main(["prepare", *config, "--shard", "1/2"]) == 0
    assert "96 clips, 0 left out" in capsys.readouterr().out
    assert main(["prepare", *config, "--shard", "1/2", "--verify"]) == 2


def test_damaged_rows_of_another_share_are_not_taken_for_finished(whole, tmp_path):
    cache = cache_of(whole.corpus.root, tmp_path)
    cache.build()
    file = CacheFile(cache.path)
    place, shape, dtype = file.layout["features"]
    row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
    with cache.path.open("r+b") as raw:
        for row in (0, N_CLIPS - 1):  # one of each share
            raw.seek(place + row * row_bytes)
            raw.write(b"\xff" * 8)
    again = cache_of(whole.corpus.root, tmp_path)
    missing = [again.build_shard(shard, 2) for shard in (1, 2)]
    assert missing[0] > 0 and missing[1] == 0
    assert_same(cache_of(whole.corpus.root, tmp_path), whole)
