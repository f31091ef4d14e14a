"""The feature cache under bad audio, kills, full disks, damage, and two processes at once."""

import errno
import os
import pickle
import resource
import signal
import subprocess
import time
from multiprocessing import get_context
from unittest.mock import Mock

import av
import h5py
import numpy as np
import pytest
import soundfile
import torch
from cache_fakes import N_CLIPS, SAMPLE_RATE, Energy, cache_of, features_of, flip_byte, make_cache, rows_done

from cry_lightning.audio import recording
from cry_lightning.console import UserError
from cry_lightning.data import building, cachefile, inventory
from cry_lightning.data.cachefile import CacheFile


def start(cache, do, *args):
    """Run `do(cache, *args)` in a forked process; it may use one thread only, as the parent's are not forked."""

    def run() -> None:
        torch.set_num_threads(1)
        do(cache, *args)

    process = get_context("fork").Process(target=run)
    process.start()
    return process


def wait_until(condition, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """The features as a build gives them that nothing befell."""
    cache = make_cache(tmp_path_factory.mktemp("unharmed"))
    cache.build()
    return features_of(cache)


def bad_recordings(root) -> dict[str, str]:
    """Writes one file of each bad kind; name -> what its reason must say."""
    (root / "empty.wav").write_bytes(b"")
    (root / "text.wav").write_text("this is no sound" * 100)
    (root / "folder.wav").mkdir()
    (root / "nowhere.wav").symlink_to(root / "missing")
    soundfile.write(root / "silent.wav", np.zeros(2000), SAMPLE_RATE)
    soundfile.write(root / "nan.wav", np.full(2000, np.nan), SAMPLE_RATE, "FLOAT")
    return {"empty": "empty", "text": "", "folder": "", "nowhere": "", "silent": "silent", "nan": "NaN"}


def test_bad_clips_are_left_out_and_listed(tmp_path, unharmed, caplog):
    cache = make_cache(tmp_path)
    reasons = bad_recordings(tmp_path / "audio")
    cache.build()
    features = cache.open()
    bad = {cache.clips[row].path.removesuffix(".wav"): reason for row, reason in features.bad.items()}
    assert bad.keys() == reasons.keys()
    for name, said in reasons.items():
        assert said in bad[name]
        assert bad[name] in caplog.text and str(tmp_path) not in bad[name]
    assert f"6 of {N_CLIPS + 6} clips are left out" in caplog.text
    assert torch.equal(features_of(cache)[features.good], unharmed)
    assert not features_of(cache)[~features.good].any()


def failing(monkeypatch, name: str, error: Exception, times: int) -> None:
    """Has the decoders fail at one file so many times."""
    left, opening = [error] * times, recording.open_reader

    def fail(path):
        if path.name == name and left:
            raise left.pop()
        return opening(path)

    monkeypatch.setattr(recording, "open_reader", fail)


STALE = OSError(errno.ESTALE, "Stale file handle")
OF_FFMPEG = av.error.FileNotFoundError(errno.ENOENT, "No such file or directory")
assert isinstance(OF_FFMPEG, OSError)


def test_a_fault_of_the_disk_ends_the_build_and_is_no_fault_of_the_recording(tmp_path, unharmed, monkeypatch):
    cache = make_cache(tmp_path)
    failing(monkeypatch, "070.wav", STALE, times=2)
    with pytest.raises(UserError, match=r"/070\.wav: could be read when it was hashed, and now cannot \(Stale file"):
        cache.build()
    monkeypatch.undo()
    assert rows_done(cache) == 64
    cache.build()
    assert not cache.open().bad and torch.equal(features_of(cache), unharmed)


def test_a_file_that_can_be_read_no_more_is_left_out_by_the_next_build(tmp_path, monkeypatch):
    """As one with a bad sector, whose hash is known from before."""
    make_cache(tmp_path, n=30).build()
    failing(monkeypatch, "001.wav", STALE, times=99)
    hashing = inventory.sha256

    def hashed(path):
        if path.name == "001.wav":
            raise STALE
        return hashing(path)

    monkeypatch.setattr(inventory, "sha256", hashed)
    with pytest.raises(
        UserError, match=r"001\.wav: could be read .* or remove the recording, or leave it out of the man"
    ):
        make_cache(tmp_path, n=30, dtype="float16").build()
    later = make_cache(tmp_path, n=30, dtype="float16")
    later.build()
    assert [*later.open().bad] == [1]


@pytest.mark.parametrize(
    ("hashed_now", "told"),
    [("0" * 64, "has changed since it was hashed"), (STALE, r"and now cannot \(Stale file handle\)")],
)
def test_a_decoder_that_hides_a_fault_of_the_disk_is_not_believed(tmp_path, monkeypatch, hashed_now, told):
    cache = make_cache(tmp_path, n=3)
    assert cache.key  # the files are hashed
    failing(monkeypatch, "001.wav", RuntimeError("System error"), times=9)
    monkeypatch.setattr(building, "sha256", Mock(side_effect=[hashed_now]))
    with pytest.raises(UserError, match=rf"/001\.wav: .*{told}"):
        cache.build()


@pytest.mark.parametrize(
    ("error", "times", "reason"), [(RuntimeError("System error"), 1, ""), (OF_FFMPEG, 9, "No such")]
)
def test_what_fails_once_is_no_damage_and_what_a_decoder_says_twice_is(tmp_path, monkeypatch, error, times, reason):
    cache = make_cache(tmp_path, n=22)
    failing(monkeypatch, "001.wav", error, times)
    cache.build()
    assert [*cache.open().bad] == [1] * bool(reason) and reason in cache.open().bad.get(1, "")
    assert cache.fault() is None and cache.verify() == []


def test_rows_that_an_older_build_could_not_read_are_told_and_read_again(tmp_path, unharmed, monkeypatch, caplog):
    cache = make_cache(tmp_path)
    soundfile.write(tmp_path / "audio/silent.wav", np.zeros(2000), SAMPLE_RATE)
    file = CacheFile(cache.build())
    reasons = ["cannot be decoded as sound (Stale file handle)", "there is no such file"]
    file.write_rows(range(3, 5), np.zeros((2, *file.shape[1:]), file.dtype), reasons)
    file.seal()
    with h5py.File(cache.path, "r+") as hdf5:
        del hdf5.attrs[cachefile.TWICE]
    told = [f"00{n}.wav#0.000-end: its file could not be read then ({reasons[n - 3]})" for n in (3, 4)]
    assert cache.verify() == told
    with pytest.raises(UserError, match=r"has 2 rows whose files could not be read then of 131, the first that of 003"):
        cache.open()
    with monkeypatch.context() as read_only:  # as a folder that others share
        read_only.setattr(os, "access", lambda path, mode: path != cache.folder)
        assert cache.build() == cache.path and [*cache.open().bad] == [3, 4, 130]
    assert "leaves out 2 rows whose files could not be read when it was built" in caplog.text
    cache.build()
    assert [*cache.open().bad] == [130] and torch.equal(features_of(cache)[:130], unharmed)


def test_why_a_build_ends_arrives_from_a_worker():
    assert isinstance(pickle.loads(pickle.dumps(building.Unread("x.wav: cannot"))), building.Unread)


def test_more_than_5_percent_bad_stops_the_build(tmp_path):
    cache = make_cache(tmp_path, n=100)
    bad_recordings(tmp_path / "audio")
    with pytest.raises(UserError, match=r"folder: 6 of 106 clips are bad.*empty\.wav.*: the file is empty") as error:
        cache.build()
    assert "\n" not in str(error.value)
    assert not cache.path.exists() and not cache.part.exists()


@pytest.mark.parametrize("n_empty", [1, 2])
def test_a_file_that_cannot_be_read_is_a_recording_and_no_window(tmp_path, n_empty):
    root = tmp_path / "audio"
    root.mkdir()
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (30, 8, SAMPLE_RATE // 4))
    sound[0, 3] = 0
    for number, waveform in enumerate(sound):
        soundfile.write(root / f"{number}.wav", waveform.ravel(), SAMPLE_RATE)
    for number in range(n_empty):
        (root / f"empty{number}.wav").touch()
    cache = cache_of(root, tmp_path / "cache", window_s=0.25)
    assert len(cache.clips) == 8 * 30 + n_empty
    if n_empty == 2:
        with pytest.raises(UserError, match="2 of 32 recordings are bad already, and more than 5% are too many"):
            cache.build()
    else:
        cache.build()
        assert cache.open().left_out(cache.clips) == ({"empty": 1}, {"silent": 1})


@pytest.mark.parametrize(("dtype", "gain"), [("float32", 1e37), ("float16", 2000.0)])
def test_features_that_are_not_finite_are_bad(tmp_path, dtype, gain):
    cache = make_cache(tmp_path, n=30, dtype=dtype)
    cache.feature.gain = gain
    soundfile.write(tmp_path / "audio" / "000.wav", np.full(1600, 7.0), SAMPLE_RATE, "FLOAT")
    cache.build()
    assert cache.open().bad == {0: f"the feature is not finite in {dtype}"}
    assert torch.isfinite(features_of(cache)).all()


def test_killed_build_goes_on_where_it_stopped(tmp_path, unharmed):
    cache = make_cache(tmp_path)
    cache.feature.pause_s = 0.2
    process = start(cache, lambda cache: cache.build())
    wait_until(lambda: rows_done(cache) >= 64)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not cache.path.exists()
    n_done = rows_done(cache)
    assert 64 <= n_done < N_CLIPS

    cache.feature.pause_s = 0.0
    cache.build()
    assert sum(cache.feature.batches) == N_CLIPS - n_done
    assert torch.equal(features_of(cache), unharmed)


def test_interrupted_build_goes_on_but_trusts_no_damaged_row(tmp_path, unharmed):
    cache = make_cache(tmp_path)
    cache.feature.interrupted_batch = 3
    with pytest.raises(KeyboardInterrupt):
        cache.build()
    assert rows_done(cache) == 128
    flip_byte(cache.part, cachefile.CacheFile(cache.part).offset + 10)
    cache.feature.batches.clear()
    cache.feature.interrupted_batch = None
    cache.build()
    assert cache.feature.batches == [64, 2]
    assert torch.equal(features_of(cache), unharmed)


@pytest.mark.parametrize("part", [b"", b"no HDF5" * 1000])
def test_part_that_cannot_be_read_is_begun_again(tmp_path, unharmed, part):
    cache = make_cache(tmp_path)
    cache.folder.mkdir(exist_ok=True)
    cache.part.write_bytes(part)
    cache.build()
    assert torch.equal(features_of(cache), unharmed)


@pytest.mark.slow
def test_killed_worker_is_an_error_and_workers_give_the_same_numbers(tmp_path, unharmed):
    cache = make_cache(tmp_path)
    cache.feature.pause_s, cache.feature.fatal_batch = 0.2, 3
    with pytest.raises(UserError, match=r"worker .*killed.*fewer than 1"):
        cache.build(workers=1)
    n_done = rows_done(cache)
    assert n_done > 0, "the worker died before it had done anything that could be compared"

    cache.feature.pause_s = 0.0
    cache.build()
    assert sum(cache.feature.batches) == N_CLIPS - n_done
    assert torch.equal(features_of(cache), unharmed)


def test_second_process_waits_for_the_first(tmp_path, unharmed, caplog):
    cache = make_cache(tmp_path)
    cache.feature.pause_s = 0.2
    process = start(cache, lambda cache: cache.build())
    wait_until(lambda: cache.part.exists())
    cache.build()
    process.join()
    assert process.exitcode == 0
    assert caplog.text.count("being built by another process") == 1
    assert cache.feature.batches == []
    assert torch.equal(features_of(cache), unharmed)


def build_and_tell(cache, answer) -> None:
    try:
        cache.build()
        answer.send("built")
    except UserError as error:
        answer.send(str(error))


def test_file_size_limit_is_a_clean_error(tmp_path):
    cache = make_cache(tmp_path)
    receiver, sender = get_context("fork").Pipe(duplex=False)

    def build_limited(cache) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        build_and_tell(cache, sender)

    process = start(cache, build_limited)
    message = receiver.recv()
    process.join()
    assert process.exitcode == 0
    assert "needs 26,000 bytes" in message and "File too large" in message and str(cache.folder) in message
    assert "raise the limit on the size of files (ulimit -f)" in message and "make room" not in message
    assert not cache.part.exists() and not cache.path.exists()


def test_full_disk_is_a_clean_error(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        make_cache(tmp_path)
        cache = cache_of(tmp_path / "audio", disk)
        with pytest.raises(UserError, match=r"needs 26,000 bytes.*No space left.* bytes are free in .*/disk"):
            cache.build()
        assert not list(disk.glob("*.h5*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_disk_that_fills_up_later_keeps_what_is_done(tmp_path, unharmed, monkeypatch):
    cache = make_cache(tmp_path)
    write_rows = CacheFile.write_rows

    def fail_late(self, rows, *written):
        if rows.start == 128:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_rows(self, rows, *written)

    with monkeypatch.context() as patch:
        patch.setattr(CacheFile, "write_rows", fail_late)
        with pytest.raises(UserError, match="No space left"):
            cache.build()
    cache.feature.batches.clear()
    cache.build()
    assert cache.feature.batches == [2]
    assert torch.equal(features_of(cache), unharmed)


def test_space_is_reserved_before_the_first_row(tmp_path):
    cache = make_cache(tmp_path, clip_s=20.0)
    cache.feature.interrupted_batch = 1
    with pytest.raises(KeyboardInterrupt):
        cache.build()
    status = cache.part.stat()
    assert status.st_blocks * 512 >= status.st_size > N_CLIPS * 2 * 2000 * 4


def test_folder_that_cannot_be_written(tmp_path):
    cache = make_cache(tmp_path, n=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        cache_of(tmp_path / "audio", tmp_path / "file").build()
    assert not cache.path.exists()


def damage_column(name: str):
    return lambda path: flip_byte(path, CacheFile(path).layout[name][0] + 3)


def unfinish(path) -> None:
    with path.open("r+b") as file:
        file.seek(CacheFile(path).layout["done"][0])
        file.write(bytes([cachefile.PENDING]))


DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no HDF5"),
    "cut by a byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "header flipped": lambda path: flip_byte(path, 60),
    "clip flipped": damage_column("clip"),
    "reason flipped": damage_column("reason"),
    "checksums flipped": damage_column("crc32"),
    "unfinished": unfinish,
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("harm", DAMAGES.values(), ids=DAMAGES)
def test_damaged_cache_is_refused_then_rebuilt(tmp_path, unharmed, caplog, harm):
    cache = make_cache(tmp_path)
    cache.build()
    harm(cache.path)
    with pytest.raises(UserError, match="run `prepare`"):
        cache.open()
    cache.feature.batches.clear()
    cache.build()
    assert "building it again" in caplog.text
    assert sum(cache.feature.batches) == N_CLIPS
    assert torch.equal(features_of(cache), unharmed)


@pytest.mark.parametrize("options", [{"feature": Energy(gain=2.0)}, {"clip_s": 0.5}])
def test_cache_of_something_else_under_the_same_name_is_not_used(tmp_path, unharmed, options):
    cache, other = make_cache(tmp_path), make_cache(tmp_path, **options)
    other.build().rename(cache.path)
    with pytest.raises(UserError, match="made of other audio"):
        cache.open()
    cache.build()
    assert torch.equal(features_of(cache), unharmed)


def test_shape_that_changed_without_a_new_version_is_noticed(tmp_path, monkeypatch):
    cache = make_cache(tmp_path, n=3)
    cache.build()
    forward = Energy.forward
    monkeypatch.setattr(Energy, "forward", lambda self, waveform: forward(self, waveform)[..., :20])
    changed = make_cache(tmp_path, n=3)
    assert changed.path == cache.path
    with pytest.raises(UserError, match="shape"):
        changed.open()
