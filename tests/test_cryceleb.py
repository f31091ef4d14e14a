"""CryCeleb: its paths, its own division, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.corpora import CryCeleb, corpus_at
from cry_lightning.data.splits import Split
from cry_lightning.data.subset import divide

SPLITS = {"train": ["spk01", "spk02", "spk03"], "dev": ["spk04"], "test": ["spk05"]}


@pytest.fixture
def tree(tmp_path) -> Path:
    """Five infants with two cry sounds at birth and two at discharge each."""
    rng = np.random.default_rng(0)
    rows = ["baby_id,period,duration,split,chronological_index,file_name,file_path"]
    for split, speakers in SPLITS.items():
        for speaker in speakers:
            for period in "BD":
                for number in (1, 2):
                    path = f"audio/{split}/{speaker}/{period}/{speaker}_{period}_{number:03}.wav"
                    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(tmp_path / path, 0.1 * rng.standard_normal(800), 16000)
                    rows.append(f"{speaker},{period},0.05,{split},{number - 1},{Path(path).name},{path}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def test_path_tells_infant_period_and_recording(tree):
    clips = CryCeleb(tree).clips()
    assert len(clips) == 20 and len({clip.subject for clip in clips}) == 5
    (clip,) = (clip for clip in clips if clip.path.endswith("spk04_D_002.wav"))
    assert (clip.subject, clip.label, clip.subject_source) == ("cryceleb:spk04", None, "rule")
    assert clip.columns == {"period": "discharge", "split": "dev", "number": "2", "recording_code": "spk04_D"}


def test_period_is_the_label_where_asked_for(tree):
    corpus = CryCeleb(tree, target="period")
    assert corpus.class_names() == ["birth", "discharge"]
    assert [clip.label for clip in corpus.clips()].count("birth") == 10


def test_own_division_keeps_infants_apart(tree):
    clips = CryCeleb(tree, target="period").clips()
    parts = divide(clips, np.full(len(clips), True), Split(column="split"))
    infants = {part: {clips[row].subject for row in np.flatnonzero(parts == part)} for part in ("train", "val", "test")}
    assert {part: len(found) for part, found in infants.items()} == {"train": 3, "val": 1, "test": 1}


def test_is_recognised_by_its_paths(tree):
    assert isinstance(corpus_at(tree), CryCeleb)
    assert corpus_at(tree, target="period").class_names() == ["birth", "discharge"]


def test_a_cry_sound_that_is_listed_and_not_there_is_reported(tree, caplog):
    (tree / "audio/train/spk01/B/spk01_B_001.wav").unlink()
    assert len(CryCeleb(tree).clips()) == 19
    assert "1 cry sounds that are not there, first audio/train/spk01/B/spk01_B_001.wav" in caplog.text


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n", b"\xff\xfe\x00", "", "file_path\n"])
def test_refuses_a_tree_without_its_table(tree, content):
    (tree / "metadata.csv").unlink()
    if content is not None:
        (tree / "metadata.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        UserError, match=r"metadata\.csv: (cannot be read|is no table with a column file_path|lists no file)"
    ):
        CryCeleb(tree).clips()


def test_download_states_where_it_is_to_be_had(tmp_path, capsys):
    with pytest.raises(
        UserError, match=r"on request, see .*CryCeleb2023; .* is to hold the folder audio and metadata\.csv"
    ):
        command("download", ["cryceleb", "--to", str(tmp_path / "there")])
