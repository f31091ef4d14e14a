"""Clips in columns: the same clips as one by one, in a few bytes each."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cry_lightning.corpora import Clip, Clips, Manifest, UnlabelledTree
from cry_lightning.corpora.base import to_microseconds
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.splits import Split
from cry_lightning.data.subset import Caching, column, divide
from cry_lightning.describe.summary import take
from cry_lightning.features import LogMel

WHOLE = Clip("a/1.wav", "ward:anna", "hungry", columns={"site": "x"}, subject_source="given")
PIECE = Clip("b/2.wav", "ward:ben", None, 1.5, 2.25, {"site": "y"})
WINDOWS = [WHOLE.cut(0.0, 1.0), WHOLE.cut(0.5, 1.0)]


@pytest.fixture
def clips() -> Clips:
    return Clips.joined([Clips.of([WHOLE, PIECE]), Clips.windows(WHOLE, np.array([0.0, 0.5]), 1.0)])


def test_they_are_what_they_were_made_of(clips):
    assert [*clips] == [WHOLE, PIECE, *WINDOWS] and len(clips) == 4
    assert clips[1] == PIECE and clips[-1] == WINDOWS[1] and [*clips[1:3]] == [PIECE, WINDOWS[0]]
    assert [*clips[np.array([False, True, False, True])]] == [PIECE, WINDOWS[1]]
    assert (
        clips.names
        == [clip.name for clip in clips]
        == ["a/1.wav#0.000-end", "b/2.wav#1.500-2.250"] + [f"a/1.wav#{start}-1.000" for start in ("0.000", "0.500")]
    )
    assert clips.durations == [None, 2.25, 1.0, 1.0] and Clips.of(clips) is clips
    with pytest.raises(IndexError):
        clips[4]


def test_a_part_of_them_knows_only_its_own_sources(clips):
    part = clips[np.array([1])]
    assert part.used == [PIECE] and [*part.each(lambda clip: clip.subject)] == ["ward:ben"]
    assert {clip.subject for clip in clips[2:].used} == {"ward:anna"}
    assert [*column(clips, "site")] == ["x", "y", "x", "x"] and [*column(clips[2:], "clip")] == clips.names[2:]
    assert [*Clips.joined([])] == [*Clips.of([])] == []


def test_neighbours_of_one_source_are_runs(clips, monkeypatch):
    many = Clips.joined([clips, clips[:1], Clips.windows(PIECE, np.arange(5.0), 1.0), clips[1:2]])
    for most in (1, 2, 1000):
        monkeypatch.setattr("cry_lightning.corpora.clips.MOST_IN_A_RUN", most)
        runs = [*many.runs()]
        assert [row for _, rows in runs for row in range(len(many))[rows]] == [*range(len(many))]
        assert all(many.sources[source] == whose for whose, rows in runs for source in many.source_of[rows])
        assert max(rows.stop - rows.start for _, rows in runs) <= most
    assert [rows.stop - rows.start for _, rows in runs] == [1, 1, 2, 1, 5, 1]
    assert [*Clips.of([]).runs()] == []


def test_times_are_rounded_as_by_python():
    rng = np.random.default_rng(0)
    halves = (np.arange(10_000) + 0.5) * 1e-6  # to the nearest number of two that are equally near, or nearly so
    for seconds in (halves, rng.random(5000) * 1e5, 86_400 * 11 + halves, np.arange(5000) * 0.1234565):
        assert to_microseconds(seconds).tolist() == [round(each, 6) for each in seconds.tolist()]
    assert (np.rint(halves * 1e6) / 1e6 != to_microseconds(halves)).any()


@pytest.mark.parametrize("hop_s", [0.01, 0.037, 1 / 3, 0.1234567])
def test_windows_begin_where_they_always_did(tmp_path, hop_s):
    soundfile.write(tmp_path / "1.wav", np.zeros(80_000), 8000)
    windows = UnlabelledTree(tmp_path, window_s=0.5, hop_s=hop_s).clips()
    assert windows.start_s.tolist() == [round(i * hop_s, 6) for i in range(len(windows))] and len(windows) > 25


@pytest.mark.parametrize("window_s", [0.2, 1])
def test_key_of_a_cache_is_that_of_the_json_of_all_it_depends_on(tmp_path, monkeypatch, window_s):
    soundfile.write(tmp_path / "1.wav", np.zeros(8000), 8000)
    (tmp_path / 'ä"2.wav').write_text("no sound")
    monkeypatch.setattr("cry_lightning.corpora.clips.MOST_IN_A_RUN", 3)
    cache = FeatureCache(UnlabelledTree(tmp_path, window_s=window_s), LogMel(), 0.2, folder=tmp_path / "cache")
    located = [(clip.path, float(clip.start_s), clip.duration_s and float(clip.duration_s)) for clip in cache.clips]
    assert b"".join(cache._keyed()).decode() == json.dumps([cache.settings, located, cache.content])


def test_a_corpus_may_list_its_clips_one_by_one(tmp_path):
    class Mine(UnlabelledTree):
        def clips(self, levels_folder: Path = Path("cache")) -> list[Clip]:
            return [*super().clips(levels_folder)]

    soundfile.write(tmp_path / "1.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    data = CryDataModule(Mine(tmp_path, window_s=0.5), LogMel(), clip_s=0.5, cache=Caching(str(tmp_path / "cache")))
    assert len(data.feature_cache().clips.names) == 2
    assert len(take(data, None, None).listed.used) == 2


def test_a_window_more_needs_few_bytes(tmp_path: Path):
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(800_000), 8000)
    (tmp_path / "manifest.csv").write_text("path,subject,label\n0.wav,anna,a\n1.wav,anna,b\n2.wav,ben,a\n3.wav,ben,b")

    def peak(hop_s: float) -> tuple[int, int]:
        tracemalloc.start()
        clips = Manifest(tmp_path / "manifest.csv", window_s=0.2, hop_s=hop_s).clips(tmp_path)
        divide(clips, np.ones(len(clips), bool), Split("kfold", folds=2, val=0))
        found = len(clips), tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    (few, of_few), (many, of_many) = peak(0.1), peak(0.02)
    assert many > 19_000 and (of_many - of_few) / (many - few) < 150
