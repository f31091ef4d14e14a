"""Corpora: what each form lists, how clips are mapped and cut, and what is refused."""

import os
import re
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made import DATA, real

from cry_lightning import audio
from cry_lightning.console import UserError
from cry_lightning.corpora import FSDD, ClassFolders, Corpus, DonateACry, Manifest, UnlabelledTree, corpus_at
from cry_lightning.corpora.levels import measure

RATE = 8000
INSTALL = "0D1AD73E-4C5E-45F3-85C4-9A3CB71E8856"


def put(root: Path, *paths: str, seconds: float = 0.1) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, np.full(round(seconds * RATE), 0.1), RATE, format="WAV")
    return root


def manifest(root: Path, text: str | bytes, *paths: str) -> Path:
    put(root, *paths)
    (root / "list.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return root / "list.csv"


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


# --- manifests


def test_manifest_reads_every_column(tmp_path):
    csv = manifest(
        tmp_path,
        "\ufeffpath,label,subject,start_s,duration_s,site\n"
        "a.wav,cry,b1,0.02,0.05,north\n"
        'sub\\b.wav,,b2,,,"south, old"\n'
        f"{tmp_path}/a.wav,cry,,,,\n",
        "a.wav",
        "sub/b.wav",
    )
    first, second, third = Manifest(csv, collection="ward").clips()
    assert (first.path, first.label, first.subject) == ("a.wav", "cry", "ward:b1")
    assert (first.start_s, first.duration_s, first.columns) == (0.02, 0.05, {"site": "north"})
    assert first.name == "a.wav#0.020-0.050"
    assert (second.path, second.label, second.duration_s) == ("sub/b.wav", None, None)
    assert second.columns == {"site": "south, old"}
    assert third.path == f"{tmp_path}/a.wav" and third.subject == f"ward:{tmp_path}/a.wav"
    corpus = Manifest(csv)
    assert corpus.name == "list" and all(corpus.path_of(clip).is_file() for clip in corpus.clips())


def test_only_our_own_columns_may_be_in_capitals(tmp_path):
    csv = manifest(tmp_path, "Path, LABEL,Subject,Site\na.wav,cry,b1,North\n", "a.wav")
    (clip,) = Manifest(csv, collection="ward").clips()
    assert (clip.path, clip.label, clip.subject, clip.columns) == ("a.wav", "cry", "ward:b1", {"Site": "North"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ("path,label\n", "no recordings"),
        ("file,label\na.wav,cry\n", "no column `path`"),
        ("path|label\na.wav|cry\n", "no column `path`, only .*, and commas, semicolons or tabs between columns"),
        ("path\tstart_s\na.wav\t1,500\n", "line 2: start_s is '1,500'"),
        ("sep=\t\npath\tstart_s\tkg\na.wav\t1,5\t2.5\n", "line 3: start_s is '1,5'"),
        (",path\n1,a.wav\n2,b.wav\n", "line 2 has '1' in a column without a name"),
        ("sep=;\n", "empty"),
        ('path,start_s\na.wav,"1,500"\n', "line 2: start_s is '1,500'"),
        ("path,label,Label\na.wav,cry,pain\n", "more than one column label"),
        ("path,label\n,cry\n", "line 2 has no path"),
        ("path,label\na.wav,cry,more\n", "line 2 has more fields"),
        ("path,start_s\na.wav,soon\n", "line 2: start_s is 'soon'"),
        ("path,start_s\na.wav,-1\n", "line 2: start_s is '-1'"),
        ("path,duration_s\na.wav,0\n", "line 2: duration_s is '0'"),
        ("path,duration_s\na.wav,nan\n", "line 2: duration_s is 'nan'"),
        (b"path,label\na.wav,cry\na.wav,hunger m\xe8re\n", "line 3, byte 35: not UTF-8"),  # or of cp1250, m\u010dre
        (b"path,label\na.wav,\xef\xeb\xe0\xf7\n", "line 2, byte 17: not UTF-8"),  # cp1251
        (b"path,label\na.wav,M\x81ller\n", "line 2, byte 18: not UTF-8"),  # cp850
        ("path,label\na.wav,cry\n".encode("utf-16")[:-1], r"byte \d+: not UTF-16"),
        ('path,label\na.wav,"cry\n', "not CSV"),
        (
            "path\nno1.wav\nno2.wav\nno3.wav\nno4.wav\n",
            r"no listed file exists, first no1\.wav, no2\.wav, no3\.wav and 1 more;",
        ),
        ("path,start_s\na.wav,\nb.wav,\n./a.wav,0\n", r"a\.wav#0\.000-end on lines \[2, 4\]"),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        Manifest(manifest(tmp_path, text, "a.wav", "b.wav")).clips()
    assert str(error.value).startswith(str(tmp_path / "list.csv")) and "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        'path,label,start_s,"ward, old"\na.wav,"cry; loud",0.5,"B3,1"\n',
        ';;;\nPath;Label;Start_s;"ward, old"\na.wav;"cry; loud";0,5;B3,1\n',
        'path\tlabel\tstart_s\t"ward, old"\na.wav\tcry; loud\t0.5\tB3,1\n',
        'sep=;\r\npath;label;start_s;"ward, old"\r\na.wav;"cry; loud";0,5;B3,1\r\n',
        '"sep=|"\npath|label|start_s|ward, old\na.wav|cry; loud|0.5|B3,1\n',
    ],
)
def test_a_manifest_is_read_as_spreadsheets_save_it(tmp_path, text, encoding):
    (clip,) = Manifest(manifest(tmp_path, text.encode(encoding), "a.wav")).clips()
    assert (clip.label, clip.start_s, clip.columns) == ("cry; loud", 0.5, {"ward, old": "B3,1"})


@pytest.mark.parametrize(
    "text",
    [
        b"path,label,start_s\na.wav,f\xfcr M\xfcller,0.5\n",
        "path\tlabel\tstart_s\na.wav\tf\u00fcr M\u00fcller\t0,5\n".encode(),
        ",path,label,start_s\n0,a.wav,f\u00fcr M\u00fcller,0.5\n".encode(),
    ],
    ids=["Windows", "decimal commas between tabs", "pandas' index"],
)
def test_what_other_programs_save_is_read_where_it_is_beyond_doubt(tmp_path, text):
    (clip,) = Manifest(manifest(tmp_path, text, "a.wav")).clips()
    assert (clip.label, clip.start_s, clip.columns) == ("f\u00fcr M\u00fcller", 0.5, {})


def test_what_rows_have_alike_is_kept_once(tmp_path):
    n = 5_000
    rows = [f"{i:06d}.wav,cry,s{i // 100},0,1.5,f" for i in range(n)]
    listed = manifest(tmp_path, "\n".join(["path,label,subject,start_s,duration_s,sex", *rows]), "000000.wav")
    tracemalloc.start()
    clips = Manifest(listed).recordings()
    kept = tracemalloc.get_traced_memory()[0] / n
    tracemalloc.stop()
    assert kept < 300  # bytes: the path, the length, and the object around them
    assert clips[0].columns == clips[-1].columns == {"sex": "f"}
    assert (clips[-1].subject, clips[-1].duration_s) == (f"list:s{(n - 1) // 100}", 1.5)


def test_a_missing_file_is_left_to_who_reads_it(tmp_path):
    csv = manifest(tmp_path, "path\na.wav\ngone.wav\n", "a.wav")
    assert [clip.path for clip in Manifest(csv, window_s=0.02).clips()] == ["a.wav"] * 5 + ["gone.wav"]


def test_ids_and_labels_are_the_same_with_semicolons_as_with_commas(tmp_path):
    rows = [["Path", "LABEL", "Subject", "start_s", "kg"], ["a.wav", "3,4", "1,2", "0,5", "2,5"]]
    texts = ["\n".join(";".join(row) for row in rows), "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows)]
    texts[1] = texts[1].replace("0,5", "0.5").replace("2,5", "2.5")
    one, other = (Manifest(manifest(tmp_path, text, "a.wav"), collection="ward").clips()[0] for text in texts)
    assert one == other and (one.label, one.subject, one.columns) == ("3,4", "ward:1,2", {"kg": "2.5"})


def test_quoted_text_of_a_header_does_not_tell_what_separates(tmp_path):
    csv = manifest(tmp_path, 'path,"label; reason; of\n the; cry",label\na.wav,x,pain\n', "a.wav")
    (clip,) = Manifest(csv).clips()
    assert (clip.label, clip.columns) == ("pain", {"label; reason; of\n the; cry": "x"})


@pytest.mark.parametrize("long", ["x" * 300, "\u00fc" * 300])  # the disk takes 255 bytes
def test_a_path_too_long_for_a_file_is_one_that_is_missing(tmp_path, long):
    csv = manifest(tmp_path, f"path\n{long}/b.wav\n{long}\na.wav\n", "a.wav")
    assert [clip.path for clip in Manifest(csv, window_s=0.05).clips()] == [f"{long}/b.wav", long, "a.wav", "a.wav"]
    with pytest.raises(UserError, match="no listed file exists"):
        Manifest(manifest(tmp_path, f"path\n{long}\n")).clips()


def test_a_missing_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv"):
        Manifest(tmp_path / "none.csv").clips()


# --- trees


def test_class_folders_without_subjects_warn_once(tmp_path, caplog):
    root = put(tmp_path / "My cries!", "hungry/1.wav", "hungry/.2.wav", ".git/3.wav", "pain/4.WAV", "5.wav")
    (root / "hungry" / "notes.txt").write_text("no recording")
    corpus = ClassFolders(root)
    clips = corpus.clips()
    corpus.clips()
    corpus.class_names()
    assert len(caplog.messages) == 1 and "give subject_pattern" in caplog.messages[0]
    assert corpus.name == corpus.collection == "My-cries"
    assert [(clip.path, clip.label) for clip in clips] == [
        ("5.wav", None),
        ("hungry/1.wav", "hungry"),
        ("pain/4.WAV", "pain"),
    ]
    assert len({clip.subject for clip in clips}) == 3


def test_the_folder_between_class_and_file_is_the_subject(tmp_path, caplog):
    root = put(tmp_path / "tree", "hungry/b1/1.wav", "pain/b1/2.wav", "pain/b2/3.wav")
    subjects = [clip.subject for clip in ClassFolders(root, collection="ward").clips()]
    assert subjects == ["ward:b1", "ward:b1", "ward:b2"] and not caplog.messages


INFANTS = ["Anna Müller", "Björn Größl", "Cem", "Dana"]


@pytest.mark.parametrize(
    ("paths", "asked"),
    [
        ([f"{infant}/{day}.wav" for infant in INFANTS for day in "12"], True),
        (
            [f"{infant}/{reason}/{day}.wav" for infant in INFANTS for reason in ("pain", "hunger") for day in "123"],
            True,
        ),
        ([f"{reason}/{infant}/1.wav" for reason in ("pain", "hunger", "gas") for infant in INFANTS], False),
        ([f"{reason}/{take}.wav" for reason in ("pain", "hunger", "gas") for take in range(5)], False),
        ([f"{reason}/{take}.wav" for reason in ("pain", "hunger") for take in range(2)], False),
    ],
)
def test_infants_in_the_place_of_classes_are_asked_about(tmp_path, caplog, paths, asked):
    root = put(tmp_path / "tree", *paths)
    ClassFolders(root).clips()
    told = [text for text in caplog.messages if "are 'Anna Müller', 'Björn Größl', 'Cem' and 1 more infants?" in text]
    assert len(told) == asked and ("infants?" in caplog.text) == asked
    assert not asked or "Folders are class/infant/file; else say who made what in a manifest.csv" in told[0]


def test_words_of_few_speakers_are_no_infants(tmp_path, caplog):
    root = put(tmp_path / "tree", *(f"{word}/{speaker}_0.wav" for word in ("one", "two", "three") for speaker in "ab"))
    assert len(ClassFolders(root, "/(.)_").clips()) == 6
    ClassFolders(root, classes={"few": ["one", "two"], "many": ["three"]}).clips()
    assert "infants?" not in caplog.text


def test_subject_pattern(tmp_path):
    root = put(tmp_path / "tree", "a/0017_x.wav", "b/0017_y.wav", "b/0018_x.wav")
    subjects = [clip.subject for clip in ClassFolders(root, subject_pattern=r"/(\d{4})").clips()]
    assert subjects == ["tree:0017", "tree:0017", "tree:0018"]
    assert [clip.subject for clip in UnlabelledTree(root, r"/(\d+)_").clips()] == subjects
    with pytest.raises(UserError, match=r"a/0017_x\.wav"):
        UnlabelledTree(root, "baby(.)").clips()
    assert [clip.subject for clip in UnlabelledTree(root, r"(a|b)/(?P<subject>\d+)").clips()] == subjects
    for pattern in ("(", "no group", "(a)(b)"):
        with pytest.raises(UserError, match="subject_pattern"):
            UnlabelledTree(root, pattern)


def test_how_subjects_are_known(tmp_path):
    flat = put(tmp_path / "flat", "a/1.wav", "b/2.wav")
    deep = put(tmp_path / "deep", "a/s/1.wav", "b/t/2.wav")
    listed = manifest(
        tmp_path, "path,subject,source\na.wav,x,v\nb.wav,,v\nc.wav,v,v\nd.wav,d.wav,v\n", *[f"{n}.wav" for n in "abcd"]
    )
    sources = {
        ClassFolders(flat): ["unknown"] * 2,
        UnlabelledTree(flat): ["unknown"] * 2,
        ClassFolders(flat, r"(\d)\."): ["rule"] * 2,
        ClassFolders(deep): ["rule"] * 2,
        Manifest(listed): ["given", *["unknown"] * 3],
        ClassFolders(flat, window_s=0.5): ["unknown"] * 2,
    }
    for corpus, expected in sources.items():
        assert [clip.subject_source for clip in corpus.clips(tmp_path / "cache")] == expected
    assert all(clip.subject.startswith("ward:") for clip in corpus_at(listed, collection="ward").clips())


def test_an_empty_missing_or_unreadable_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        with pytest.raises(UserError, match=folder):
            UnlabelledTree(tmp_path / folder).clips()


def test_an_unreadable_subfolder_is_not_passed_over(tmp_path, monkeypatch):
    root = put(tmp_path / "tree", "a/1.wav", "b/2.wav")
    scandir = os.scandir

    def refusing(folder):
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match="tree/b: the folder cannot be read"):
        ClassFolders(root).clips()


def test_donate_a_cry_has_one_subject_space_for_both_forms(tmp_path, caplog):
    cleaned = put(
        tmp_path / "cleaned",
        f"hungry/{INSTALL}-1430742197-1.0-m-04-hu.wav",
        f"discomfort/{INSTALL}-1430742207-1.0-m-04-ch.wav",
    )
    raw = put(
        tmp_path / "raw",
        f"{INSTALL.lower()}-1430742197000-1.7-f-72-hu.3gp",
        f"{INSTALL}-1426957748.47029-1-{INSTALL}-f-26-ti.caf.caf",
        f"{INSTALL}-1430742217-1.1-f-22-dk.caf",
        "voice memo.caf",
    )
    assert {clip.subject for clip in DonateACry(cleaned).clips()} == {f"donateacry:{INSTALL.lower()}"}
    assert [clip.label for clip in DonateACry(cleaned).clips()] == ["discomfort", "hungry"]
    corpus = DonateACry(raw)
    clips = corpus.clips()
    assert corpus.left_out["recordings with a name that does not parse"] == 1
    assert len(caplog.messages) == 1 and "1 recording left out" in caplog.messages[0]
    assert {clip.subject for clip in clips} == {f"donateacry:{INSTALL.lower()}"}
    assert {clip.label for clip in clips} == {"hungry", "tired", None}
    by_reason = {clip.columns["reason"]: clip.columns for clip in clips}
    assert by_reason["hungry"] == {
        "reason": "hungry",
        "age": "7_24_months",
        "sex": "female",
        "app_version": "1.7",
        "time": "1430742197000",
    }
    assert by_reason["tired"]["time"] == "1426957748470" and by_reason[""]["time"] == "1430742217000"
    by_age = {clip.label for clip in DonateACry(raw, target="age").clips()}
    assert by_age == {"7_24_months", "2_6_months", "over_24_months"}
    with pytest.raises(UserError, match="DonateACry"):
        DonateACry(put(tmp_path / "other", "a/b.wav")).clips()


def test_fsdd_names(tmp_path):
    clips = FSDD(put(tmp_path / "repo", "recordings/7_theo_4.wav", "recordings/0_jackson_5.wav")).clips()
    assert [(clip.label, clip.subject, clip.columns["split"]) for clip in clips] == [
        ("0", "fsdd:jackson", "train"),
        ("7", "fsdd:theo", "test"),
    ]


@pytest.mark.parametrize(
    ("paths", "form"),
    [
        ([f"{INSTALL}-1430742197-1.0-m-04-hu.caf", "extra.wav", f"{INSTALL}-1430742198-1.0-m-04-hu.caf"], DonateACry),
        (["recordings/1_theo_0.wav"], FSDD),
        (["a/1.wav", "b/2.wav"], ClassFolders),
        (["1.wav", "a/2.wav", "b/3.wav"], UnlabelledTree),
        (["only/1.wav", "only/2.wav"], ClassFolders),
        ([f"hungry/{INSTALL}-1430742197-1.0-m-04-hu.wav", f"tired/{INSTALL}-1430742198-1.0-m-04-ti.wav"], DonateACry),
    ],
)
def test_corpus_at_guesses_the_form(tmp_path, paths, form):
    corpus = corpus_at(put(tmp_path / "my data", *paths), window_s=1.0, target="sex" if form is DonateACry else None)
    assert type(corpus) is form and corpus.name == "my-data" and corpus.window_s == 1.0


def test_folders_of_a_known_corpus_and_of_others_are_classes(tmp_path, caplog):
    """Most names parse, yet the user's folders are the labels, and no recording is left out."""
    cries = [f"cry/{INSTALL}-143074219{n}-1.0-m-04-hu.wav" for n in range(9)]
    clips = corpus_at(put(tmp_path / "ward", *cries, "other/dog.wav", "other/rain.wav")).clips()
    assert [clip.label for clip in clips] == ["cry"] * 9 + ["other"] * 2
    assert "in cry have names as of DonateACry, those in other have not: each folder is taken as a class" in caplog.text
    put(tmp_path / "ward", *(f"cry/{INSTALL}-14307421{n}-1.0-m-04-hu.wav" for n in range(10, 60)))
    assert {clip.label for clip in corpus_at(tmp_path / "ward").clips()} == {"hungry"}  # of a known corpus, and strays


def test_corpus_at_passes_the_subject_pattern_on(tmp_path):
    for paths in (["a/b1_1.wav", "c/b2_1.wav"], ["b1_1.wav", "b2_1.wav"]):
        corpus = corpus_at(put(tmp_path / paths[0][0], *paths), subject_pattern="(b.)_")
        assert [clip.subject[-3:] for clip in corpus.clips()] == [":b1", ":b2"]


def test_corpus_at_manifest_and_nothing(tmp_path):
    csv = manifest(tmp_path, "path,label\na.wav,x\n", "a.wav")
    assert type(corpus_at(csv)) is Manifest and corpus_at(csv).name == "list" and corpus_at(csv, name="n").name == "n"
    for argument in ({"target": "age"}, {"subject_pattern": "(.)"}):
        with pytest.raises(UserError, match=f"{next(iter(argument))} is for .* this looks like a Manifest"):
            corpus_at(csv, **argument)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        corpus_at(tmp_path / "nowhere")
    for name, told in {"a.wav": "a recording; give its folder", "best.ckpt": "text; give a folder of"}.items():
        (tmp_path / name).write_text("x")
        with pytest.raises(UserError, match=rf"{name}: is {told}"):
            corpus_at(tmp_path / name)


# --- classes


def labelled(tmp_path: Path, **options) -> Corpus:
    text = "path,label\na.wav,pain\nb.wav,hunger\nc.wav,deaf\nd.wav,\n"
    return Manifest(manifest(tmp_path, text, "a.wav", "b.wav", "c.wav", "d.wav"), **options)


def test_classes_map_labels_and_keep_the_unlabelled(tmp_path):
    corpus = labelled(tmp_path, classes={"other": ["pain", "hunger"], "none": []})
    assert [clip.label for clip in corpus.clips()] == ["other", "other", None]
    assert corpus.class_names() == ["other", "none"]
    assert labelled(tmp_path).class_names() == ["deaf", "hunger", "pain"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"a": ["pain", "asphyxia"]}, "'asphyxia', only deaf, hunger, pain"),
        ({"a": ["pain"], "b": ["pain"]}, "'a' and 'b'"),
    ],
)
def test_wrong_classes_are_refused(tmp_path, classes, message):
    with pytest.raises(UserError, match=message):
        labelled(tmp_path, classes=classes).clips()


# --- windows


@pytest.fixture
def ward(tmp_path) -> Path:
    """10 s whose seconds 0 to 2 and 6 to 7 are loud, a recording of 0.5 s, and a broken one."""
    root = tmp_path / "ward"
    root.mkdir()
    seconds = np.repeat([0.1, 0.1, 0, 0, 0, 0, 0.1, 0, 0, 0], RATE)
    soundfile.write(root / "a.wav", seconds, RATE, subtype="FLOAT")
    soundfile.write(root / "b.wav", seconds[: RATE // 2], RATE, subtype="FLOAT")
    (root / "c.wav").write_text("broken")
    return root


def spans(corpus: Corpus) -> list[tuple[str, float, float | None]]:
    return [(clip.path[0], clip.start_s, clip.duration_s) for clip in corpus.clips()]


def test_windows_cut_long_clips_only(ward):
    whole = [("b", 0, None), ("c", 0, None)]
    assert spans(UnlabelledTree(ward, window_s=4.0)) == [("a", 0, 4), ("a", 4, 4), *whole]
    hopped = spans(UnlabelledTree(ward, window_s=4.0, hop_s=1.5))
    assert hopped == [("a", 0, 4), ("a", 1.5, 4), ("a", 3, 4), ("a", 4.5, 4), ("a", 6, 4), *whole]
    assert spans(UnlabelledTree(ward, window_s=10.0)) == [("a", 0, 10), *whole]
    assert len(spans(UnlabelledTree(ward, window_s=1.0, hop_s=0.1))) == 91 + 2
    for clip in UnlabelledTree(ward, window_s=4.0).clips()[:2]:
        assert audio.load(ward / clip.path, RATE, clip.start_s, clip.duration_s).size == 4 * RATE


def test_windows_stay_inside_a_manifests_clip(ward):
    (ward / "list.csv").write_text("path,start_s,duration_s,label\na.wav,5,2.5,x\na.wav,8,,y\na.wav,99,1,z\n")
    clips = Manifest(ward / "list.csv", window_s=1.0).clips()
    assert [(c.start_s, c.duration_s, c.label) for c in clips] == [
        (5, 1, "x"), (6, 1, "x"), (8, 1, "y"), (9, 1, "y"), (99, 1, "z"),
    ]  # fmt: skip


def test_quiet_windows_are_left_out_and_bad_files_stay(ward):
    corpus = UnlabelledTree(ward, window_s=1.0, min_active_db=-30.0)
    active = spans(corpus)
    assert corpus.left_out["windows below -30 dB (`min_active_db`)"] == 7
    assert spans(corpus) == active and corpus.left_out.total() == 7
    assert active == [("a", 0, 1), ("a", 1, 1), ("a", 6, 1), ("b", 0, None), ("c", 0, None)]
    (ward / "list.csv").write_text("path,start_s,duration_s\na.wav,5.5,2\n")
    assert spans(Manifest(ward / "list.csv", window_s=0.5, min_active_db=-30.0)) == [("a", 6, 0.5), ("a", 6.5, 0.5)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a.wav,,\nsilent.wav,,", "1 recording is left out, .*: silent.wav"),
        ("a.wav,2.5,2\na.wav,3,2\na.wav,0,2", "2 clips are left out, .*: a.wav#2.500-2.000, a.wav#3.000-2.000"),
    ],
)
def test_what_is_too_quiet_is_called_what_it_is(ward, caplog, rows, said):
    soundfile.write(ward / "silent.wav", np.zeros(2 * RATE), RATE)
    (ward / "list.csv").write_text(f"path,start_s,duration_s\n{rows}\n")
    Manifest(ward / "list.csv", name=said[:6], window_s=0.5, min_active_db=-30.0).clips(ward)
    assert re.search(said, caplog.text)


def test_levels_are_those_of_the_samples(ward):
    samples = soundfile.read(ward / "a.wav")[0]
    starts = np.arange(0, 9, 0.37)
    found = measure(ward / "a.wav", [(start, 1.0) for start in starts])
    for start, level in zip(starts, found, strict=True):
        window = samples[round(start * RATE) : round(start * RATE) + RATE]
        assert level == pytest.approx(max(10 * np.log10(np.square(window).mean() + 1e-30), -120), abs=0.01)


def test_levels_are_measured_again_only_when_a_recording_changes(ward, monkeypatch):
    decoded = []
    blocks = audio.blocks
    monkeypatch.setattr(audio, "blocks", lambda path, *rest: decoded.append(path.name) or blocks(path, *rest))

    def listed(hop_s: float | None = None) -> list:
        decoded.clear()
        return spans(UnlabelledTree(ward, window_s=1.0, hop_s=hop_s, min_active_db=-30.0))

    first = listed()
    assert decoded == ["a.wav", "b.wav"]
    assert listed() == first and decoded == []
    soundfile.write(ward / "b.wav", np.zeros(RATE // 2), RATE, subtype="FLOAT")  # of the same size
    assert listed() == first[:3] + first[4:] and decoded == ["b.wav"]
    listed(hop_s=0.5)
    assert "a.wav" in decoded
    (index,) = Path("cache").iterdir()  # and no half-written file beside it
    index.write_text("{broken")
    assert listed() == first[:3] + first[4:] and "a.wav" in decoded


def test_levels_are_remembered_where_one_says(ward):
    UnlabelledTree(ward, window_s=1.0, min_active_db=-30.0).clips(Path("elsewhere"))
    assert [path.name for path in Path("elsewhere").iterdir()] == ["ward-levels.json"] and not Path("cache").exists()


@pytest.mark.parametrize(
    "options", [{"hop_s": 1.0}, {"min_active_db": -40.0}, {"window_s": 0.0}, {"window_s": 1.0, "hop_s": -1.0}]
)
def test_senseless_windows_are_refused(ward, options):
    with pytest.raises(UserError, match="window_s"):
        UnlabelledTree(ward, **options)


def test_listing_needs_no_torch():
    code = "import sys, cry_lightning.corpora; assert not {'torch', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@real("donateacry")
def test_the_real_collections():
    cleaned, raw = corpus_at(DATA / "donateacry"), corpus_at(DATA / "donateacry_raw")
    assert Counter(clip.label for clip in cleaned.clips()) == {
        "belly_pain": 13, "burping": 7, "discomfort": 21, "hungry": 306, "tired": 19,
    }  # fmt: skip
    assert all(clip.label == clip.path.split("/")[0] for clip in cleaned.clips())
    assert len(raw.clips()) == 913
    assert {clip.subject for clip in cleaned.clips()} < {clip.subject for clip in raw.clips()}
    digits = corpus_at(DATA / "fsdd").clips()
    assert Counter(clip.columns["split"] for clip in digits) == {"train": 2700, "test": 300}
    assert len({clip.subject for clip in digits}) == 6
