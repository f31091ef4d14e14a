"""The feature cache: what it holds, what it is keyed by, and how it is read, listed and removed."""

import hashlib
import json
import os
import pickle
import time
import tracemalloc
import warnings

import h5py
import numpy as np
import pytest
import soundfile
import torch
from cache_fakes import N_CLIPS, Energy, cache_of, features_of, make_cache, send_rows, write_wav
from filelock import FileLock

from cry_lightning import audio
from cry_lightning.console import UserError
from cry_lightning.corpora import UnlabelledTree
from cry_lightning.corpora.clips import Clip
from cry_lightning.corpora.levels import LevelIndex
from cry_lightning.data import cachefile, inventory
from cry_lightning.data.building import CachedFeatures, ClipBatches
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.inventory import INDEX_NAME, content_hashes, list_caches, remove_caches
from cry_lightning.features import MFCC
from cry_lightning.files import sha256, stamp


def build(folder, **options):
    cache = make_cache(folder, **options)
    cache.build()
    return cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A whole cache, only to be read."""
    return build(tmp_path_factory.mktemp("whole"))


def expected(cache) -> torch.Tensor:
    """Features computed clip by clip, without the cache."""
    paths = [cache.corpus.path_of(clip) for clip in cache.clips]
    waveforms = [audio.load_fitted(path, cache.feature.sample_rate, cache.clip_s, cache.fit) for path in paths]
    return torch.cat([Energy.forward(cache.feature, torch.from_numpy(waveform)[None]) for waveform in waveforms])


def test_rows_are_the_features_of_the_clips(cache):
    features = cache.open()
    assert features.shape == (N_CLIPS, 1, 2, 25)
    torch.testing.assert_close(features_of(cache), expected(cache), rtol=1e-6, atol=1e-9)
    assert features.good.all() and not features.bad
    assert cache.feature.batches == [64, 64, 2]


def test_gather_takes_rows_in_any_order_and_repeated(cache):
    rows = torch.tensor([129, 0, 0, 64, 63])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = cache.open().gather(rows)
    assert batch.dtype == torch.float32
    assert torch.equal(batch, features_of(cache)[rows])
    batch.fill_(7)
    assert torch.equal(cache.open().gather(rows), features_of(cache)[rows])
    assert not (features_of(cache) == 7).any()


@pytest.mark.parametrize("row", [N_CLIPS, -1])
def test_gather_refuses_rows_that_are_not_there(cache, row):
    with pytest.raises(IndexError):
        cache.open().gather(torch.tensor([0, row]))


def test_float16_halves_the_features(cache):
    half = cache_of(cache.corpus.root, cache.folder, dtype="float16")
    half.build()
    assert cachefile.CacheFile(half.path).dtype == np.float16
    read = features_of(half)
    assert read.dtype == torch.float32
    torch.testing.assert_close(read, features_of(cache), rtol=2**-10, atol=1e-6)


def test_file_is_contiguous_hdf5_that_others_can_read(cache):
    with h5py.File(cache.path) as file:
        assert file["features"].chunks is None
        assert file["features"].id.get_offset() % 4096 == 0
        np.testing.assert_array_equal(file["features"][...], features_of(cache).numpy())
        assert file["clip"][5].decode() == "005.wav#0.000-end"
        assert file.attrs["corpus"] == "folder" and "Energy" in file.attrs["feature"]


def test_second_build_computes_nothing(cache):
    again = cache_of(cache.corpus.root, cache.folder)
    assert again.build() == cache.path
    assert again.feature.batches == []


def test_nothing_to_read_before_the_build(tmp_path):
    with pytest.raises(UserError, match="has not been built"):
        make_cache(tmp_path, n=2).open()
    assert ["has not been built" in fault for fault in make_cache(tmp_path, n=2).verify()] == [True]


def test_corpus_without_clips_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no clips"):
        make_cache(tmp_path, n=0).build()


def test_key_changes_with_all_that_the_numbers_depend_on(tmp_path, monkeypatch):
    def path(**options):
        return make_cache(tmp_path, n=3, **options).path

    paths = [path(), path(feature=Energy(gain=2.0)), path(clip_s=0.3), path(fit="repeat"), path(dtype="float16")]
    write_wav(tmp_path / "audio" / "001.wav", seed=99)
    paths.append(path())
    (tmp_path / "audio" / "001.wav").rename(tmp_path / "audio" / "003.wav")
    paths.append(cache_of(tmp_path / "audio", tmp_path / "cache").path)
    monkeypatch.setattr(audio, "FRONT_END_VERSION", audio.FRONT_END_VERSION + 1)
    paths.append(path())
    monkeypatch.setattr(Energy, "version", 2)
    paths.append(path())
    assert len(set(paths)) == len(paths)


def test_key_is_the_same_for_the_same_audio_elsewhere(tmp_path):
    here = make_cache(tmp_path, n=3)
    path = here.path.name
    os.utime(tmp_path / "audio" / "001.wav", (1, 1))
    assert make_cache(tmp_path, n=3).path.name == path
    (tmp_path / "audio").rename(tmp_path / "moved")
    assert cache_of(tmp_path / "moved", tmp_path / "cache").path.name == path


def test_only_changed_files_are_read_again(tmp_path, monkeypatch):
    make_cache(tmp_path, n=3)
    paths = sorted((tmp_path / "audio").iterdir())
    first = content_hashes(paths, tmp_path)
    n_read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: (n_read.append(1), digest(*args))[1])

    assert content_hashes(paths, tmp_path) == first and not n_read
    write_wav(paths[1], seed=99)
    second = content_hashes(paths, tmp_path)
    assert [path.name for path in paths if second[path] != first[path]] == ["001.wav"]
    assert len(n_read) == 1
    assert content_hashes(paths, tmp_path, reread=True) == second and len(n_read) == 4


def test_damaged_index_is_made_anew(tmp_path, caplog):
    path = make_cache(tmp_path, n=3).path
    index = tmp_path / "cache" / INDEX_NAME
    for text in ("{", "[1]", '{"a": 3}'):
        index.write_text(text)
        assert make_cache(tmp_path, n=3).path == path
        assert "is damaged" in caplog.text
        caplog.clear()


def test_content_tells_the_same_audio_under_another_name(tmp_path):
    cache = make_cache(tmp_path, n=3)
    (tmp_path / "audio" / "002.wav").write_bytes((tmp_path / "audio" / "000.wav").read_bytes())
    cache.build()
    content = cache.open().content
    assert content[0] == content[2] != content[1]


def test_name_in_a_mangled_encoding_stops_nothing(tmp_path):
    make_cache(tmp_path, n=30)
    (tmp_path / "audio" / "000.wav").rename(tmp_path / "audio" / os.fsdecode(b"b\xe9b\xe9.wav"))
    cache = cache_of(tmp_path / "audio", tmp_path / "cache")
    cache.build()
    assert cache.open().good[:29].all()
    assert cachefile.CacheFile(cache.path).texts("clip") == cache.clips.names


def test_clips_are_stretches_of_their_recordings(tmp_path):
    cache = make_cache(tmp_path, n=1)
    write_wav(tmp_path / "audio" / "000.wav", seed=0, duration_s=2.0)
    clips = [Clip("000.wav", "folder:0", start_s=start_s, duration_s=0.25) for start_s in (0.5, 1.0)]
    cache.corpus.recordings = lambda: clips
    cache.build()
    path, features = tmp_path / "audio" / "000.wav", cache.open()
    for row, clip in enumerate(clips):
        waveform = audio.load(path, 8000, clip.start_s, clip.duration_s)
        direct = cache.feature(torch.from_numpy(waveform)[None])
        torch.testing.assert_close(features.gather(torch.tensor([row])), direct, rtol=1e-6, atol=1e-9)
    assert features.content[0] != features.content[1]


@pytest.mark.slow
def test_opened_features_can_be_sent_to_another_process(cache):
    features = cache.open()
    here = features.gather(torch.tensor([3, 1]))  # opened in this process first
    assert len(pickle.dumps(features)) < 1000
    context = torch.multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_rows, args=(features, [3, 1], sender))
    process.start()
    np.testing.assert_array_equal(receiver.recv(), here.numpy())
    process.join()


def test_caches_larger_than_the_memory_can_be_read(tmp_path, monkeypatch):
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shape = (3, 1, 1, memory_bytes // 4)
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: None)  # a sparse file
    cachefile.create(tmp_path / "large.h5", shape, "float32", ["a", "b", "c"], ["", "", ""], {})
    features = CachedFeatures(tmp_path / "large.h5")
    assert features._rows.shape == (3, memory_bytes // 4)
    assert features._rows[2, -1] == 0


def test_a_recording_that_was_put_in_the_place_of_one_of_its_size_and_time_is_noticed(tmp_path):
    path, spans = tmp_path / "a.wav", [(0.0, 0.1), (0.1, 0.1)]
    write_wav(path, seed=1)
    times = path.stat()
    found = []
    for seed in (1, 2):
        write_wav(path, seed=seed)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        with LevelIndex(tmp_path / "levels.json") as levels:
            found.append((content_hashes([path], tmp_path)[path], levels.of(path, spans)))
    assert found[0][0] != found[1][0] and found[0][1] != found[1][1]


def test_the_index_of_an_older_release_is_made_anew(tmp_path):
    write_wav(tmp_path / "a.wav", seed=1)
    status = (tmp_path / "a.wav").stat()
    older = {str(tmp_path / "a.wav"): [status.st_size, status.st_mtime_ns, "0" * 64]}
    (tmp_path / INDEX_NAME).write_text(json.dumps(older))
    assert content_hashes([tmp_path / "a.wav"], tmp_path) == {tmp_path / "a.wav": sha256(tmp_path / "a.wav")}


def test_verify_reads_all_audio_again(tmp_path, monkeypatch):
    cache = build(tmp_path, n=10)
    assert cache.verify() == []
    path = tmp_path / "audio" / "007.wav"
    state = stamp(path)
    write_wav(path, seed=99)
    monkeypatch.setattr(inventory, "stamp", lambda one: state if one.name == path.name else stamp(one))  # a disk fails
    assert make_cache(tmp_path, n=10).path == cache.path
    assert cache.verify() == ["007.wav#0.000-end: its audio is not what the cache was made of"]
    assert make_cache(tmp_path, n=10).path != cache.path


def test_listing(tmp_path):
    cache = build(tmp_path, n=66)
    broken = make_cache(tmp_path, n=66, feature=Energy(gain=2.0))
    broken.feature.interrupted_batch = 2
    with pytest.raises(KeyboardInterrupt):
        broken.build()
    (tmp_path / "cache" / "junk.h5").write_text("junk")
    listed = {info.name: info for info in list_caches(tmp_path / "cache")}
    assert len(listed) == 3
    whole = listed[cache.path.stem]
    assert (whole.state, whole.corpus, whole.rows, whole.bad, whole.shape) == ("whole", "folder", 66, 0, (1, 2, 25))
    assert whole.feature == "Energy(sample_rate=8000, hop_length=80, gain=1.0)"
    assert whole.bytes == cache.path.stat().st_size and 0 <= whole.age_s < 60
    partial = listed[broken.path.stem]
    assert (partial.state, partial.rows, partial.feature[-9:]) == ("partial", 64, "gain=2.0)")
    assert listed["junk"].state == "damaged"


def test_no_cache_is_younger_than_now(tmp_path):
    cache = build(tmp_path, n=3)
    os.utime(cache.path, (time.time() + 7200,) * 2)
    (listed,) = list_caches(tmp_path / "cache")
    assert listed.age_s == 0


def test_listing_of_a_folder_that_is_not_there(tmp_path):
    assert list_caches(tmp_path / "none") == []


def test_removal(tmp_path):
    cache = build(tmp_path, n=10)
    name = cache.path.stem
    with pytest.raises(UserError, match=f"no cache 'other'.*{name}"):
        remove_caches(tmp_path / "cache", [name, "other"])
    assert cache.path.exists()
    with FileLock(cache.path.with_suffix(".lock")), pytest.raises(UserError, match="being built"):
        remove_caches(tmp_path / "cache", [name])
    assert remove_caches(tmp_path / "cache", [name]) == [cache.path]
    assert not cache.path.exists() and list_caches(tmp_path / "cache") == []


def test_feature_in_any_memory_layout_can_be_cached(tmp_path):
    class Transposed(Energy):
        def forward(self, waveform):
            return super().forward(waveform).transpose(2, 3)

    root = make_cache(tmp_path).corpus.root
    plain = cache_of(root, tmp_path)
    turned = FeatureCache(plain.corpus, Transposed(), plain.clip_s, plain.fit, folder=tmp_path)
    for cache in (plain, turned):
        cache.build()
    rows = torch.arange(5)
    assert torch.equal(turned.open().gather(rows), plain.open().gather(rows).transpose(2, 3))


def test_bad_clips_are_told_in_the_attributes(tmp_path):
    cache = make_cache(tmp_path)
    (cache.corpus.root / "zz.wav").write_bytes(b"")
    cache = cache_of(cache.corpus.root, tmp_path)
    cache.build()
    with h5py.File(cache.path) as file:
        assert file.attrs["n_bad"] == 1
        assert file.attrs["bad"] == "zz.wav#0.000-end: the file is empty"


def test_the_key_is_the_hash_of_settings_clips_and_content_however_many_are_in_memory(tmp_path, monkeypatch):
    cache = make_cache(tmp_path, n=7)
    clips = [(clip.path, clip.start_s, clip.duration_s) for clip in cache.clips]
    literal = json.dumps([cache.settings, clips, cache.content])
    for at_once in (1, 3, 7, 100):
        monkeypatch.setattr("cry_lightning.corpora.clips.MOST_IN_A_RUN", at_once)
        assert make_cache(tmp_path, n=7).key == hashlib.sha256(literal.encode()).hexdigest()


def test_columns_are_the_same_however_many_rows_are_in_memory(tmp_path, monkeypatch):
    files = []
    for rows, n_bytes in ((10_000, 2**22), (2, 100)):
        monkeypatch.setattr(cachefile, "BLOCK_ROWS", rows)
        monkeypatch.setattr(cachefile, "BLOCK_BYTES", n_bytes)
        cache = make_cache(tmp_path, n=7)
        cache.path.unlink(missing_ok=True)
        cache.build()
        assert not len(cachefile.CacheFile(cache.path).damaged_rows()) and not cache.verify()
        files.append({name: cachefile.CacheFile(cache.path).column(name).tolist() for name in cachefile.COLUMNS})
    assert files[0] == files[1] and files[0]["clip"] == [name.encode() for name in cache.clips.names]


def test_windows_of_a_recording_share_its_path_and_take_little_memory(tmp_path):
    corpus = UnlabelledTree(tmp_path, window_s=0.01)
    soundfile.write(tmp_path / "a.wav", np.zeros(80_000), 8000)
    tracemalloc.start()
    clips = corpus.clips(tmp_path)
    n_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(clips) == 1000 and n_bytes / 1000 < 200
    assert len({id(clip.path) for clip in clips}) == 1 and list(corpus.files(clips)) == ["a.wav"]
    rows = ClipBatches(corpus, clips, MFCC(), 0.01, "pad", "float32")
    assert len(rows.files) == 1 and rows.path(999) == tmp_path / "a.wav"
