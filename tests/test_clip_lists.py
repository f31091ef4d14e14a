"""AudioSet and VGGSound: published lists over made folders of clips."""

from pathlib import Path

import pytest

from cry_lightning.console import UserError
from cry_lightning.corpora import AudioSet, VGGSound

SEGMENTS = """# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=5, num_segs=5, num_unique_labels=3, num_positive_labels=8
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00002"
-0RWZT-miFs, 420.000, 430.000, "/t/dd00002"
Y_kitchen_1, 0.000, 10.000, "/m/09x0r"
abcdefghij_, 5.000, 15.000, "/m/09x0r,/m/0k4j"
notfetched0, 5.000, 15.000, "/m/0k4j"
"""
LABELS = """index,mid,display_name
0,/m/09x0r,"Speech"
23,/t/dd00002,"Baby cry, infant cry"
306,/m/0k4j,"Car"
"""
VGG = """---g-f_I2yQ,1,"people marching",test
0Cfc0r3l5Ww,17,"baby crying",train
0Cfc0r3l5Ww,46,"baby crying",test
-0RWZT-miFs,30,"chicken, rooster crowing",train
"""


def put(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()  # a list opens no clip
    return root


def audioset(tmp_path: Path, *paths: str, **options) -> AudioSet:
    (tmp_path / "segments.csv").write_text(SEGMENTS)
    return AudioSet(put(tmp_path / "audio", *paths), tmp_path / "segments.csv", **options)


def vggsound(tmp_path: Path, *paths: str, **options) -> VGGSound:
    (tmp_path / "vggsound.csv").write_text(VGG)
    return VGGSound(put(tmp_path / "video", *paths), tmp_path / "vggsound.csv", **options)


FILES = ("Y--PJHxphWEs.wav", "eval/-0RWZT-miFs_420.000.flac", "Y_kitchen_1.mp4", "a/b/abcdefghij__5_15.webm")


def test_audioset_is_unlabelled_and_keeps_all_labels(tmp_path, caplog):
    corpus = audioset(tmp_path, *FILES, "cover.wav")
    clips = corpus.clips()
    assert [clip.path for clip in clips] == list(FILES)
    assert [clip.subject for clip in clips] == [
        "youtube:--PJHxphWEs", "youtube:-0RWZT-miFs", "youtube:Y_kitchen_1", "youtube:abcdefghij_",
    ]  # fmt: skip
    assert {(clip.label, clip.start_s, clip.duration_s) for clip in clips} == {(None, 0.0, None)}
    assert clips[0].columns == {"labels": "/m/09x0r,/t/dd00002"}
    assert corpus.class_names() == [] and corpus.name == "audioset"
    corpus.clips()
    assert corpus.left_out[f"clips of {corpus.clip_list} without a file"] == 1
    assert [text.partition(": ")[2] for text in caplog.messages] == [
        f"1 of 5 clips are not in {corpus.root} and left out"
    ]


@pytest.mark.parametrize(
    "name", ["ID", "YID", "ID_30", "ID_30.000", "ID_000030", "ID_30000", "ID_30_40", "YID-30.0-40.0"]
)
@pytest.mark.parametrize("video", ["--PJHxphWEs", "Y_kitchen_1", "0123456_890"])
def test_files_are_found_under_the_names_that_downloaders_give(tmp_path, name, video):
    (tmp_path / "list.csv").write_text(f"{video},30,x,train\n")
    path = f"deep/{name.replace('ID', video)}.M4A"
    (clip,) = VGGSound(put(tmp_path / "clips", path, f"deep/{video}_31.wav"), tmp_path / "list.csv").clips()
    assert (clip.path, clip.subject) == (path, f"youtube:{video}")


def test_vggsound_has_labels_and_a_split_and_several_clips_of_a_video(tmp_path):
    corpus = vggsound(
        tmp_path, "---g-f_I2yQ_000001.mp4", "0Cfc0r3l5Ww_000017.mp4", "0Cfc0r3l5Ww_000046.mp4", "-0RWZT-miFs.wav"
    )
    assert [(clip.label, clip.columns["split"], clip.path[-10:-4]) for clip in corpus.clips()] == [
        ("people marching", "test", "000001"),
        ("baby crying", "train", "000017"),
        ("baby crying", "test", "000046"),
        ("chicken, rooster crowing", "train", "T-miFs"),
    ]
    subjects = [clip.subject for clip in corpus.clips()]
    assert subjects[1] == subjects[2]
    assert subjects[3] == audioset(tmp_path, *FILES).clips()[1].subject  # the same video in both collections
    mapped = vggsound(tmp_path, classes={"cry": ["baby crying"]})
    assert [clip.label for clip in mapped.clips()] == ["cry", "cry"] and mapped.class_names() == ["cry"]


def test_a_file_without_a_start_does_not_stand_for_two_clips_of_a_video(tmp_path):
    clips = vggsound(tmp_path, "0Cfc0r3l5Ww.mp4", "-0RWZT-miFs.mp4").clips()
    assert [clip.path for clip in clips] == ["-0RWZT-miFs.mp4"]


def test_a_clip_that_is_listed_or_stored_twice_is_one_clip(tmp_path):
    (tmp_path / "vggsound.csv").write_text(VGG + VGG)
    corpus = VGGSound(
        put(tmp_path / "v", "video/-0RWZT-miFs_000030.mp4", "audio/-0RWZT-miFs.wav"), tmp_path / "vggsound.csv"
    )
    assert [clip.path for clip in corpus.clips()] == ["video/-0RWZT-miFs_000030.mp4"]


@pytest.mark.parametrize("cry", ["/t/dd00002", "Baby cry, infant cry"])
def test_audioset_labels_that_matter_are_mapped_and_ambiguous_clips_left_out(tmp_path, cry):
    (tmp_path / "class_labels_indices.csv").write_text(LABELS)
    options = {"class_labels": tmp_path / "class_labels_indices.csv"} if "," in cry else {}
    corpus = audioset(tmp_path, *FILES, classes={"cry": [cry], "speech": ["/m/09x0r"]}, **options)
    assert [(clip.path, clip.label) for clip in corpus.clips()] == [
        (FILES[1], "cry"),  # the first is both
        (FILES[2], "speech"),
        (FILES[3], "speech"),  # and a car, which does not matter
    ]
    assert corpus.class_names() == ["cry", "speech"]


def test_wrong_audioset_classes_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_text(LABELS)
    with pytest.raises(UserError, match=r"no clip of audioset has the label 'Speech'.* e\.g\. /m/09x0r.*class_labels"):
        audioset(tmp_path, *FILES, classes={"a": ["Speech"]}).clips()
    classes = {"a": ["Speech"], "b": ["/m/09x0r"]}
    with pytest.raises(UserError, match="'/m/09x0r' is in two classes, 'a', 'b'"):
        audioset(tmp_path, *FILES, classes=classes, class_labels=tmp_path / "labels.csv").clips()
    with pytest.raises(UserError, match=r"segments\.csv: no column 'display_name'"):
        audioset(tmp_path, *FILES, classes={"a": ["/m/09x0r"]}, class_labels=tmp_path / "segments.csv").clips()


def test_a_folder_without_any_listed_clip_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"audio: holds none of the clips .*; the first is e\.g\. --PJHxphWEs_30\.wav"):
        audioset(tmp_path, "other.wav", "0123456789_.wav").clips()
    with pytest.raises(UserError, match="video: no recordings found"):
        (tmp_path / "video").mkdir()
        vggsound(tmp_path).clips()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no clip"),
        ("# YTID, start_seconds, end_seconds, positive_labels\n", "lists no clip"),
        ("--PJHxphWEs, 30.000, 40.000\n", "line 1 is not of the form `YTID, start_seconds"),
        ("\n--PJHxphWEs, soon, 40.000, /m/09x0r\n", "line 2 is not of the form"),
        ('--PJHxphWEs, 30.000, 40.000, "/m/09x0r\n', "line 1 is not of the form"),
        ('---g-f_I2yQ,1,"people marching",test\n', "line 1 is not of the form"),
    ],
)
def test_a_bad_list_is_refused(tmp_path, text, message):
    corpus = audioset(tmp_path, *FILES)
    corpus.clip_list.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        corpus.clips()
    assert str(error.value).startswith(str(corpus.clip_list)) and "\n" not in str(error.value)
