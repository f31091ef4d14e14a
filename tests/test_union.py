"""Union: several corpora as one, told apart by the paths of their clips."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from jsonargparse import ArgumentParser

from cry_lightning.console import UserError
from cry_lightning.corpora import Corpus, Manifest, SyntheticCries, Union, UnlabelledTree
from cry_lightning.corpora.synthesis import CRY_STYLES
from cry_lightning.data.cache import FeatureCache
from cry_lightning.features import MFCC

RATE = 8000


def put(root: Path, *paths: str) -> Path:
    rng = np.random.default_rng(len(root.name))
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, 0.1 * rng.standard_normal(2 * RATE), RATE)
    return root


@pytest.fixture
def members(tmp_path) -> list[Corpus]:
    """A manifest of two labelled clips, one of them at an absolute path, and a tree whose subjects are in it too."""
    words = put(tmp_path / "words", "a.wav", "b.wav")
    (words / "list.csv").write_text(f"path,label,subject\na.wav,yes,s1\n{words}/b.wav,no,s2\n")
    noise = put(tmp_path / "noise", "a.wav", "deep/s1_c.wav")
    tree = UnlabelledTree(noise, "([a-z]1?)[_.]", collection="list", name="noise", window_s=1.0)
    return [Manifest(words / "list.csv", name="words"), tree]


def test_what_the_members_leave_out_is_counted_afresh(members, tmp_path):
    quiet = UnlabelledTree(members[1].root, name="quiet", window_s=1.0, min_active_db=0.0)
    union = Union([members[0], quiet], name="both")
    assert len(union.clips(tmp_path)) == 2 and union.left_out.total() == 6
    quiet.min_active_db = None
    assert len(union.clips(tmp_path)) == 6 and union.left_out.total() == 0


def test_members_are_told_apart_and_found_again(members, tmp_path):
    union = Union(members, name="both")
    clips = union.clips()
    assert [clip.path for clip in clips] == [
        "words/a.wav", f"words/{tmp_path}/words/b.wav",
        "noise/a.wav", "noise/a.wav", "noise/deep/s1_c.wav", "noise/deep/s1_c.wav",
    ]  # fmt: skip
    assert len({clip.name for clip in clips}) == len(clips)
    found = [corpus.path_of(clip) for corpus in members for clip in corpus.clips()]
    assert [union.path_of(clip) for clip in clips] == found and all(path.is_file() for path in found)
    assert [clip.subject for clip in clips] == ["list:s1", "list:s2", "list:a", "list:a", "list:s1", "list:s1"]
    assert [(clip.start_s, clip.duration_s) for clip in clips[2:4]] == [(0, 1), (1, 1)]


def test_labels_are_kept_or_dropped(members):
    kept, dropped = Union(members), Union(members, labels=False)
    assert [clip.label for clip in kept.clips()] == ["yes", "no", None, None, None, None]
    assert kept.class_names() == ["no", "yes"]
    assert {clip.label for clip in [*dropped.clips(), *dropped.recordings()]} == {None}
    assert dropped.class_names() == []


def test_members_of_one_name_are_refused(members):
    with pytest.raises(UserError, match=r"name of its own \(noise, noise\)"):
        Union([members[1], members[1]])
    with pytest.raises(UserError, match="there is none"):
        Union([])


def test_windows_of_members_are_measured_in_the_folder_of_the_cache(members, tmp_path):
    members[1].min_active_db = 0.0
    union = Union(members)
    assert [clip.path.partition("/")[0] for clip in union.clips(tmp_path / "levels")] == ["words", "words"]
    assert union.left_out["windows below 0 dB (`min_active_db`), of noise"] == 4
    assert [path.name for path in (tmp_path / "levels").iterdir()] == ["noise-levels.json"]


def test_a_cache_holds_the_sound_of_every_member(members, tmp_path):
    def cache(corpus: Corpus) -> FeatureCache:
        built = FeatureCache(corpus, MFCC(), clip_s=1.0, folder=tmp_path / "cache")
        built.build()
        return built

    union, alone = cache(Union(members, name="both")), [cache(corpus) for corpus in members]
    assert union.path.name.startswith("both-mfcc-")
    assert union.content == [content for one in alone for content in one.content]
    rows = union.open()
    assert np.all(rows.good)
    features = torch.cat([one.open().gather(torch.arange(len(one.clips))) for one in alone])
    assert torch.equal(rows.gather(torch.arange(len(union.clips))), features)


def test_a_union_is_read_from_yaml_and_makes_what_is_made(tmp_path):
    parser = ArgumentParser()
    parser.add_argument("--corpus", type=Corpus)
    kinds = list(CRY_STYLES)
    config = parser.parse_string(f"""
        corpus:
          class_path: cry_lightning.corpora.Union
          init_args:
            name: unlabelled-cries
            labels: false
            corpora:
              - class_path: cry_lightning.corpora.SyntheticCries
                init_args: {{n_infants: 3, n_cries: 10, kinds: {kinds}, seed: 1, folder: {tmp_path}}}
              - class_path: cry_lightning.corpora.corpus_at
                init_args: {{path: {put(tmp_path / "ward", "b1.wav", "b2.wav")}}}
    """)
    union = parser.instantiate_classes(config).corpus
    union.prepare()
    assert list(tmp_path.glob("synthetic-cries-*/manifest.csv"))
    clips = union.clips()
    assert [clip.path.split("/")[0] for clip in clips] == ["synthetic-cries"] * 30 + ["ward"] * 2
    assert all(clip.label is None and union.path_of(clip).is_file() for clip in clips)
    labelled = SyntheticCries(3, 10, kinds=kinds, folder=str(tmp_path / "seed0"))
    assert {clip.label for clip in labelled.clips()} == set(kinds)
    assert not {clip.subject for clip in clips} & {clip.subject for clip in labelled.clips()}
