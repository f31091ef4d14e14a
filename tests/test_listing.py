"""What lies in a folder of recordings: nothing is passed over without a word, and nothing is waited for."""

import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest
from test_corpora import put

from cry_lightning.audio import EXTENSIONS
from cry_lightning.console import UserError
from cry_lightning.corpora import ClassFolders, Manifest, corpus_at, manifest
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.inventory import content_hashes
from cry_lightning.data.subset import column, named_in
from cry_lightning.features import Waveform
from cry_lightning.files import nfc, safe_name


def test_what_is_no_recording_is_counted_or_told_by_name(tmp_path, caplog):
    root = put(tmp_path / "in", "a/1.wav", "b/2.oga")
    os.mkfifo(root / "a/pipe.wav")
    (root / "a/zero.wav").symlink_to("/dev/zero")
    (root / "a/memo.xyz").write_bytes(bytes(range(256)))
    (root / "notes.txt").write_text("x")
    (root / "LICENSE").write_text("free")
    (root / ".hidden.xyz").write_bytes(bytes(9))
    corpus = corpus_at(root)
    assert [clip.path for clip in corpus.clips()] == ["a/1.wav", "b/2.oga"]
    told = " ".join(corpus.left_out)
    for words in ("a/pipe.wav, is a named pipe", "a/zero.wav, is a device", "a/memo.xyz, its ending .xyz is not known"):
        assert words in told and words in caplog.text
    assert corpus.left_out["files without sound, by their endings (.txt none)"] == 2
    assert "notes.txt" not in caplog.text and "LICENSE" not in caplog.text


def test_a_folder_without_recordings_is_told_in_a_short_line(tmp_path):
    with pytest.raises(
        UserError, match=r"no recordings found; looked for \.wav, \.mp3, \.m4a, \.mp4 and \d+ other"
    ) as told:
        corpus_at(tmp_path).clips()
    assert len(str(told.value)) < len(str(tmp_path)) + 120 and {".wav", ".mp3", ".m4a", ".mp4"} < EXTENSIONS


@pytest.mark.parametrize(
    "ending", [".oga", ".wma", ".avi", ".ts", ".wave", ".au", ".w64", ".spx", ".ac3", ".amr", ".sph"]
)
def test_endings_that_may_hold_sound_are_known(ending):
    assert ending in EXTENSIONS


def test_linked_folders_are_followed_once_and_in_no_circle(tmp_path):
    root = put(tmp_path / "in", "hungry/1.wav")
    put(tmp_path / "elsewhere", "2.wav")
    (root / "pain").symlink_to(tmp_path / "elsewhere")
    (root / "hungry/back").symlink_to(root)
    (root / "again").symlink_to(root / "hungry")
    corpus = corpus_at(root)
    assert [(clip.path, clip.label) for clip in corpus.clips()] == [("hungry/1.wav", "hungry"), ("pain/2.wav", "pain")]
    assert sum("listed already" in told for told in corpus.left_out) == 2


def test_links_that_lead_nowhere_are_left_to_who_reads_them(tmp_path):
    root = put(tmp_path / "in", "1.wav")
    (root / "itself.wav").symlink_to("itself.wav")
    (root / "gone.wav").symlink_to("nowhere.wav")
    assert [clip.path for clip in corpus_at(root).clips()] == ["1.wav", "gone.wav", "itself.wav"]


def test_one_class_folder_alone_keeps_its_label(tmp_path):
    (clip,) = corpus_at(put(tmp_path / "in", "hungry/1.wav")).clips()
    assert clip.label == "hungry"


def test_hashing_a_named_pipe_waits_for_nobody(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    assert content_hashes([tmp_path / "pipe.wav"], tmp_path)[tmp_path / "pipe.wav"] == "unreadable:is a named pipe"


def test_what_a_manifest_lists_and_nobody_can_read_is_left_out_with_its_reason(tmp_path, caplog):
    put(tmp_path, *(f"{n}.wav" for n in range(58)))
    os.mkfifo(tmp_path / "pipe.wav")
    names = [*(f"{n}.wav" for n in range(58)), "pipe.wav", "gone.wav"]
    (tmp_path / "list.csv").write_text("\n".join(["path,subject", *(f"{name},b{name}" for name in names)]))
    cache = FeatureCache(Manifest(tmp_path / "list.csv"), Waveform(8000), 0.1, folder=tmp_path / "cache")
    cache.build(0)
    assert cache.open().bad == {58: "is a named pipe, no recording", 59: "there is no such file"}
    assert "2 of 60 clips are left out" in caplog.text and "gone.wav#0.000-end: there is no such file" in caplog.text


# --- manifests


def rows_of(tmp_path: Path, text: str) -> list[tuple[str, float, float | None]]:
    put(tmp_path, "a.wav")
    (tmp_path / "list.csv").write_text(text)
    return [(clip.path, clip.start_s, clip.duration_s) for clip in Manifest(tmp_path / "list.csv").clips()]


def test_the_end_of_a_clip_is_read(tmp_path):
    assert rows_of(tmp_path, "path,start_s,end_s\na.wav,1.25,3\na.wav,,2\na.wav,4,\n") == [
        ("a.wav", 1.25, 1.75), ("a.wav", 0, 2), ("a.wav", 4, None),
    ]  # fmt: skip
    assert rows_of(tmp_path, "path,start_s,duration_s,END_S\na.wav,1,2,3.0\n") == [("a.wav", 1, 2)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,start_s,duration_s,end_s\na.wav,1,2,4\n", "line 2: duration_s 2 and end_s 4 do not agree"),
        ("path,start_s,end_s\na.wav,3,2\n", "line 2: end_s 2 is not behind start_s 3"),
        ("path,end_s\na.wav,soon\n", "line 2: end_s is 'soon'"),
        ("path,,label\na.wav,x,pain\n", "line 2 has 'x' in a column without a name"),
        ("path,label\na.wav,pain,x\n", "line 2 has more fields than the header"),
        ("path,label\n\n,,\na.wav,pain,x\n", "line 4 has more fields"),
    ],
)
def test_the_reason_is_the_true_one(tmp_path, text, told):
    with pytest.raises(UserError, match=told):
        rows_of(tmp_path, text)


def test_empty_rows_and_columns_without_a_name_are_ignored(tmp_path):
    put(tmp_path, "a.wav")
    (tmp_path / "list.csv").write_bytes(b"\xef\xbb\xbfpath,label,,site,\r\n\r\na.wav,pain,,north,\r\n,,,,\r\n , \r\n")
    (clip,) = Manifest(tmp_path / "list.csv").clips()
    assert (clip.path, clip.label, dict(clip.columns)) == ("a.wav", "pain", {"site": "north"})


def test_names_compare_in_nfc(tmp_path):
    decomposed = unicodedata.normalize("NFD", "\u00dcbung")
    root = put(tmp_path / "in", f"{decomposed}/{decomposed}.wav", "b/1.wav")
    (root / "list.csv").write_text("path\n\u00dcbung/\u00dcbung.wav\n", encoding="utf-8")
    corpus = Manifest(root / "list.csv")
    assert all(corpus.path_of(clip).is_file() for clip in corpus.clips())
    corpus = ClassFolders(root, classes={decomposed: ["\u00dcbung"], "y": ["b"]})
    assert {clip.label for clip in corpus.clips()} == {*corpus.class_names()} == {"\u00dcbung", "y"}


def test_one_infant_in_both_forms_of_unicode_is_one_subject(tmp_path):
    composed, decomposed = "Änne", unicodedata.normalize("NFD", "Änne")
    root = put(tmp_path / "in", f"a/{composed}_1.wav", f"a/{decomposed}_2.wav", f"b/{composed}_3.wav")
    for corpus in (
        ClassFolders(root, "(Änne)"),
        ClassFolders(root, f"({decomposed})"),
        ClassFolders(root, "/(.+)_"),
    ):
        assert {clip.subject for clip in corpus.clips()} == {f"in:{composed}"}
    assert {clip.name for clip in corpus.clips()} == {f"{nfc(clip.path)}#0.000-end" for clip in corpus.clips()}
    rows = [f"a/{composed}_1.wav,{composed},{decomposed},{composed}", f"a/{composed}_2.wav,{decomposed},,{decomposed}"]
    header = "path,subject,küche,scho\u0308n"
    (root / "list.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    clips = Manifest(root / "list.csv", label=unicodedata.normalize("NFD", "küche")).clips()
    assert {clip.subject for clip in clips} == {f"list:{composed}"} and clips[0].label == composed
    assert {*column(clips, "scho\u0308n")} == {composed}
    (tmp_path / "out.txt").write_text(f"list:{decomposed}\n", encoding="utf-8")
    assert named_in(str(tmp_path / "out.txt"), column(clips, "subject")).all()


def test_a_recording_in_another_form_of_unicode_than_its_row_is_no_known_subject(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Änne.wav")
    put(tmp_path, decomposed)
    (tmp_path / "list.csv").write_text(f"path,subject\nÄnne.wav,{decomposed}\n", encoding="utf-8")
    (clip,) = Manifest(tmp_path / "list.csv").clips()
    assert clip.subject_source == "unknown" and clip.name.startswith("Ä")


def test_home_is_expanded(tmp_path, monkeypatch):
    put(tmp_path / "mine", "a.wav")
    monkeypatch.setenv("HOME", str(tmp_path / "mine"))
    (tmp_path / "list.csv").write_text("path\n~/a.wav\n")
    (clip,) = Manifest(tmp_path / "list.csv").clips()
    assert clip.path == f"{tmp_path}/mine/a.wav" and corpus_at("~").clips()


def test_folders_in_any_alphabet_have_names_of_their_own():
    folders = ["\u00dcbungen", "Ubungen", "\u65e5\u672c\u8a9e", "\u65e5\u672c", "(old) cries", "-dash"]
    names = [safe_name(folder) for folder in folders]
    assert len(set(names)) == len(names) and names[1] == "Ubungen"
    assert all(name.isascii() and name[0].isalnum() and "/" not in name and " " not in name for name in names)
    assert safe_name(unicodedata.normalize("NFD", folders[0])) == names[0]


ODD_PATHS = [
    "a.wav",
    "b/c d.wav",
    "./a.wav",
    "b/./c d.wav",
    "b//c d.wav",
    "b/../a.wav",
    "...",
    "b/.h.wav",
    "b\\c d.wav",
]
ODD_PATHS += [
    "~a.wav",
    "~nobody/a.wav",
    "ä.wav",
    "b/ä.wav",
    "a\u0308.wav",
    "b/[x]{y}.wav",
    "/tmp/a.wav",
    "//a.wav",
    "a.wav/",
]


@pytest.mark.parametrize("folder", ["plain", "ärger"])
def test_plain_paths_of_a_manifest_are_as_all_others(tmp_path, monkeypatch, folder):
    root = tmp_path / folder
    (root / "b").mkdir(parents=True)
    for path in ODD_PATHS:
        if not path.startswith("/"):
            with suppress(OSError):  # no name of a file
                (root / path).write_bytes(b"")
    corpus = Manifest(root / "list.csv")
    quick = [corpus._path(path) for path in ODD_PATHS]
    monkeypatch.setattr(manifest, "PLAIN", re.compile("(?!)"))
    assert quick == [corpus._path(path) for path in ODD_PATHS]


def test_classes_are_those_of_the_last_listing(tmp_path, monkeypatch):
    put(tmp_path, "a.wav")
    (tmp_path / "list.csv").write_text("path,label\na.wav,x")
    corpus, listed = Manifest(tmp_path / "list.csv"), []
    recordings = Manifest.recordings
    monkeypatch.setattr(Manifest, "recordings", lambda self: (listed.append(1), recordings(self))[1])
    assert corpus.class_names() == ["x"] and len(listed) == 1
    (tmp_path / "list.csv").write_text("path,label\na.wav,y")
    assert [clip.label for clip in corpus.clips(tmp_path)] == ["y"]
    assert corpus.class_names() == ["y"] and len(listed) == 2
