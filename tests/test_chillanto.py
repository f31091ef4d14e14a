"""Baby Chillanto: its name code, its tasks, its divisions by infant, and what is refused."""

import os
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.corpora.cries import BabyChillanto
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.splits import Split
from cry_lightning.data.subset import column, divide
from cry_lightning.features import MFCC

CODES = {"asphyxia": "030", "deaf": "010", "hunger": "001", "normal": "000", "pain": "002"}
INFANTS = {kind: range(10 * i, 10 * i + 8) for i, kind in enumerate(CODES)}
RATES = (8000, 11025, 16000)


@pytest.fixture(scope="module")
def fragments(tmp_path_factory) -> Path:
    """Eight infants of each kind with three fragments each, at mixed rates; one was heard in hunger and in pain."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("fragments")
    for kind, code in CODES.items():
        (root / f"1s_{kind}").mkdir(parents=True)
        for infant in [*INFANTS[kind], *[20] * (kind == "pain")]:
            for fragment in range(1, 4):
                rate = RATES[(infant + fragment) % 3]
                path = root / f"1s_{kind}" / f"{infant:04}{fragment:03}{code}.wav"
                soundfile.write(path, 0.1 * rng.standard_normal(rate // 5), rate)
    (root / "1s_deaf" / "notes.doc").write_text("not a recording")
    return root


@pytest.fixture
def tree(fragments, tmp_path) -> Path:
    """Links to them, which a test may rename."""
    return shutil.copytree(fragments, tmp_path / "chillanto", copy_function=os.link)


def test_the_code_tells_infant_recording_and_kind(tree):
    clips = BabyChillanto(tree, "five_class").clips()
    (clip,) = (clip for clip in clips if clip.path == "1s_pain/0042003002.wav")
    assert (clip.subject, clip.label) == ("chillanto:0042", "pain")
    assert clip.columns == {"kind": "pain", "recording_code": "0042002"}
    fragments = Counter(clip.columns["recording_code"] for clip in clips)
    assert set(fragments.values()) == {3} and len(fragments) == 41
    assert len({clip.subject for clip in clips}) == 40  # one infant has two recordings
    assert len(set(column(clips, "recording_code"))) == 41


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("name", "code"), [("0063001A03", "0063A03"), ("0063_b2", "0063_b2"), ("00630", "00630"), ("0063", "0063")]
)
def test_other_names_are_read_as_far_as_they_go(tree, name, code):
    (tree / "1s_pain" / "0042003002.wav").rename(tree / "1s_pain" / f"{name}.wav")
    (clip,) = (clip for clip in BabyChillanto(tree).clips() if Path(clip.path).stem == name)
    assert clip.subject == "chillanto:0063" and clip.columns["recording_code"] == code


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("task", "kinds"),
    [
        ("asphyxia", {"normal": {"normal", "hunger", "pain"}, "asphyxia": {"asphyxia"}}),
        ("five_class", {kind: {kind} for kind in CODES}),
        ("pathology", {"normal": {"normal", "hunger", "pain"}, "pathology": {"asphyxia", "deaf"}}),
    ],
)
def test_tasks_merge_the_folders(tree, task, kinds):
    corpus = BabyChillanto(tree, task)
    merged = defaultdict(set)
    for clip in corpus.clips():
        merged[clip.label].add(clip.columns["kind"])
    assert merged == kinds and corpus.class_names() == list(kinds)


@pytest.mark.parametrize("split", [Split(val=0.2, test=0.2), Split(scheme="hash", val=0.2, test=0.2)])
def test_infants_stay_on_one_side(tree, split):
    clips = BabyChillanto(tree).clips()
    parts = divide(clips, np.full(len(clips), True), split)
    sides = defaultdict(set)
    for clip, part in zip(clips, parts, strict=True):
        sides[clip.subject].add(part)
    assert set(parts) == {"train", "val", "test"} and all(len(side) == 1 for side in sides.values())
    if split.scheme == "holdout":
        assert np.mean(parts == "train") == pytest.approx(0.6, abs=0.05)


def test_every_rate_is_heard(tree, tmp_path):
    cache = FeatureCache(BabyChillanto(tree), MFCC(), clip_s=1.0, folder=tmp_path)
    cache.build()
    assert cache.open().good.all()


def test_a_missing_folder_is_named_where_the_task_needs_it(tree, tmp_path):
    for path in (tree / "1s_deaf").iterdir():
        path.unlink()
    assert BabyChillanto(tree, "asphyxia").clips()
    for task in ("five_class", "pathology"):
        with pytest.raises(UserError, match=rf"chillanto: holds no 1s_deaf, which the task {task} needs"):
            BabyChillanto(tree, task).clips()
    with pytest.raises(UserError, match=r"holds no 1s_asphyxia, 1s_hunger, .*download chillanto") as error:
        BabyChillanto(tmp_path / "elsewhere").clips()
    assert "\n" not in str(error.value)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["baby12", "063", "a0063001"])
def test_a_name_without_the_infants_digits_is_refused_with_the_way_out(tree, name):
    (tree / "1s_pain" / "0042003002.wav").rename(tree / "1s_pain" / f"{name}.wav")
    with pytest.raises(UserError, match=rf"1s_pain/{name}\.wav.*infant's four digits; rename it, or move it out"):
        BabyChillanto(tree).clips()


def test_download_says_in_one_line_where_to_ask_and_takes_a_copy(tree, tmp_path):
    with pytest.raises(UserError, match=r"on request.*inaoep\.mx.*data/chillanto is to hold .*1s_asphyxia") as error:
        command("download", ["chillanto"])
    assert "\n" not in str(error.value)
    command("download", ["chillanto", "--from", str(tree), "--to", str(tmp_path / "copy")])
    assert len(BabyChillanto(tmp_path / "copy").clips()) == len(BabyChillanto(tree).clips())
