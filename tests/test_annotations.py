"""Files of intervals: three forms, every encoding that their programs write, and what is wrong with some."""

import re
from functools import partial
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import soundfile
import yaml
from made import DATA, real

from cry_lightning.annotations import FORMS, Interval, find, matched, names_for, of_label, read, write
from cry_lightning.console import UserError
from cry_lightning.corpora import Intervals, Manifest, UnlabelledTree
from cry_lightning.corpora.intervals import ACROSS, UNLABELLED

CRIES = [Interval(0.1, 1 / 3, "cry"), Interval(1 / 3, 0.9, 'a "hic"'), Interval(1.25, 6.94, "schrei é")]
HEAD = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
SHORT = HEAD + '0\n2\n<exists>\n1\n"IntervalTier"\n"cries"\n0\n2\n3\n0\n0.5\n"-"\n0.5\n1\n"cry"\n1\n2\n""\n'
LONG = """
xmin = 0
xmax = 2 ! seconds
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "TextTier"
        name = "marks 7"
        xmin = 0
        xmax = 2
        points: size = 1
        points [1]:
            number = 0.4
            mark = "breath"
    item [2]:
        class = "IntervalTier"
        name = "silences"
        xmin = 0
       xmax = 2
        intervals: size = 3
        intervals [1]:
            xmin = 0.0
           xmax = 0.5
           text = "-"
        intervals [1]:
            xmin = 0.5
            xmax = 1
            text = "cry"
        intervals [2]:
            xmin = 1
            xmax = 2
            text = ""
"""
FOUND = [Interval(0, 0.5, "-"), Interval(0.5, 1, "cry")]


@pytest.fixture
def file(tmp_path):
    def make(text: str, name: str = "a.TextGrid", encoding: str = "utf-8"):
        (tmp_path / name).write_text(text, encoding=encoding)
        return tmp_path / name

    return make


@pytest.mark.parametrize("ending", FORMS.values())
def test_a_round_trip_changes_nothing(tmp_path, ending):
    first, again = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    write(CRIES[::-1], first, 6.94)
    assert read(first, duration_s=6.94) == CRIES
    write(read(first), again, 6.94)
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("ending", FORMS.values())
def test_a_recording_without_intervals_has_a_file_too(tmp_path, ending):
    write([], tmp_path / f"a{ending}", 3.0)
    assert read(tmp_path / f"a{ending}") == []


@pytest.mark.parametrize("mark", ["", "\N{BYTE ORDER MARK}"], ids=["plain", "marked"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [SHORT, HEAD + LONG], ids=["short", "long"])
def test_textgrids_of_both_forms_and_all_encodings(file, text, encoding, mark):
    assert read(file(mark + text, encoding=encoding), duration_s=2.0) == FOUND
    text = text.replace("cry", "schreié")
    assert read(file(mark + text, encoding=encoding), duration_s=2.0)[1].label == "schreié"


def test_short_textgrids_of_old_praat(file):
    old = SHORT.replace('"ooTextFile"', '"ooTextFile short"').replace("Object class = ", "")
    assert read(file(old)) == FOUND


def test_a_tier_is_named_where_there_are_several(file):
    second = '"IntervalTier"\n"noises"\n0\n2\n1\n0.25\n2\n"dog"\n'
    path = file(SHORT.replace("<exists>\n1", "<exists>\n2") + second)
    assert read(path, "noises") == [Interval(0.25, 2, "dog")]
    with pytest.raises(
        UserError, match=r"a\.TextGrid: has the tiers 'cries', 'noises'; name one by --tier \(in a YAML, `tier`\)"
    ):
        read(path)
    with pytest.raises(UserError, match=r"no tier of intervals 'cry', only 'cries', 'noises'"):
        read(path, "cry", or_only=True)
    assert read(file(SHORT), "noises", or_only=True) == FOUND
    with pytest.raises(UserError, match=r"no tier of intervals 'noises', only 'cries'"):
        read(file(SHORT), "noises")  # it may be what another person marked


def test_tiers_of_one_name_are_refused_where_they_are_meant(file):
    first, *others = (f'"IntervalTier"\n"{name}"\n0\n2\n1\n0.25\n2\n"dog"\n' for name in ("cries", "a", "a"))
    path = file(SHORT.replace("<exists>\n1", "<exists>\n2") + first)
    for options in ({}, {"tier": "cries"}, {"tier": "cry", "or_only": True}):
        with pytest.raises(UserError, match=r"a\.TextGrid: has 2 tiers of intervals called 'cries'; rename or remove"):
            read(path, **options)
    path = file(SHORT.replace("<exists>\n1", "<exists>\n3") + "".join(others))
    assert read(path, "cries") == FOUND
    with pytest.raises(UserError, match="has the tiers 'cries', 'a'; name one"):
        read(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SHORT.replace("\n3\n0\n", "\n-3\n0\n"), "line 12 has -3, not the number of intervals"),
        (SHORT.replace("\n3\n0\n", "\n2.5\n0\n"), r"line 12 has 2\.5, not the number of intervals"),
        (SHORT.replace("\n3\n0\n", "\n1e400\n0\n"), "line 12 has 1e400, not the number of intervals"),
        (SHORT.replace("\n3\n0\n", "\n2\n0\n"), "line 19 has 1, not the end that its sizes tell"),
        (SHORT.replace("<exists>\n1\n", "<exists>\n1e400\n"), "line 7 has 1e400, not the number of tiers"),
        (SHORT.replace("0.5\n1\n", "0.5\n1e400\n"), "line 17 has 1e400, not a time"),
        (SHORT.replace("0.5\n1\n", "0.5\n1e12\n"), r"interval 2 \('cry'\) goes from 0\.5 to 1e\+12 s"),
        (SHORT.replace("0.5\n1\n", "1\n0.5\n"), r"interval 2 \('cry'\) goes from 1 to 0.5 s"),
        (SHORT.replace("0.5\n1\n", "0.5\n0.5\n"), r"interval 2 \('cry'\) goes from 0.5 to 0.5 s"),
        (SHORT.replace('"-"', '"cry"').replace("0.5\n1\n", "0.4\n1\n"), r"interval 1 .* and interval 2 .* overlap"),
        (SHORT.replace("0.5\n1\n", "0.5\n9\n"), r"ends at 9 s, but the recording has 2 s"),
        (
            SHORT.replace("0.5\n1\n", "0.4\n1\n"),
            r"interval 1 \('-'\) and interval 2 \('cry'\) overlap between 0\.4 and 0\.5 s",
        ),
        (SHORT[:-20], "ends within the tier 'cries'"),
        (SHORT.replace("0.5\n1\n", '0.5\n"x"\n'), 'line 17 has "x", not a time'),
        (SHORT.replace("IntervalTier", "SpectrumTier"), "tier 1 is a 'SpectrumTier'"),
        (HEAD + "0\n2\n<absent>\n", "has no tier of intervals"),
        ("hello", "no TextGrid"),
        ("", "no TextGrid"),
        ("ooBinaryFile\x08TextGrid", "a binary TextGrid"),
    ],
)
def test_what_is_wrong_with_a_textgrid_is_one_line_with_the_file(file, text, reason):
    with pytest.raises(UserError, match=rf"a\.TextGrid: .*{reason}.*; ") as error:
        read(file(text), duration_s=2.0)
    assert "\n" not in str(error.value)


def test_other_encodings_are_refused(file, tmp_path):
    with pytest.raises(UserError, match=r"byte \d+: not UTF-8; save it as UTF-8 \(in Praat: Text writing settings\)"):
        read(file(SHORT.replace("cry", "schrè"), encoding="latin-1"))
    (tmp_path / "b.TextGrid").write_bytes(b"ooBinaryFile\x08TextGrid" + bytes([0x3F, 0xF0, 0, 0]))
    with pytest.raises(UserError, match=r"b\.TextGrid: a binary file of Praat, and no text"):
        read(tmp_path / "b.TextGrid")


def test_labelled_intervals_are_the_corpus_that_the_manual_shows(tmp_path):
    page = (Path(__file__).parents[1] / "docs/data.md").read_text()
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    arguments = yaml.safe_load(shown)["corpus"]["init_args"]
    inner = arguments.pop("corpus")["init_args"] | {"root": tmp_path}
    labels = ["pain", "feeding", "hunger", "noise"]
    for infant in range(2):
        soundfile.write(tmp_path / f"baby{infant}_1.wav", np.full(8000 * 12, 0.1), 8000)
        marked = [Interval(3.0 * n, 3.0 * n + 1.5 + n / 2, label) for n, label in enumerate(labels[infant:])]
        write(marked, tmp_path / f"baby{infant}_1.TextGrid", 12.0)
    corpus = Intervals(UnlabelledTree(**inner), **(arguments | {"annotations": tmp_path}))
    assert corpus.class_names() == ["pain", "hunger"]
    clips = corpus.clips(tmp_path)
    found = [(clip.subject.partition(":")[2], clip.label, clip.start_s, clip.duration_s) for clip in clips]
    assert found == [
        ("baby0", "pain", 0.0, 1.0), ("baby0", "hunger", 3.0, 1.0), ("baby0", "hunger", 4.0, 1.0),
        ("baby0", "hunger", 6.0, 1.0), ("baby0", "hunger", 7.0, 1.0),
        ("baby1", "hunger", 0.0, 1.0), ("baby1", "hunger", 3.0, 1.0), ("baby1", "hunger", 4.0, 1.0),
    ]  # fmt: skip
    with pytest.raises(UserError, match="`annotations` is needed"):
        Intervals(UnlabelledTree(**inner), label=None)


@pytest.mark.parametrize(("windows", "span"), [(None, "2 to 3"), (0.5, "1 to 1.5")])
def test_a_stretch_with_two_labels_is_refused(file, tmp_path, windows, span):
    soundfile.write(tmp_path / "a.wav", np.full(8000 * 4, 0.1), 8000)
    path = file("0\t1.5\tcry\n1\t2\tpain\n2\t3\tcry\n2\t3\tpain\n2\t3\tgood take\n", "a.txt")
    corpus = Intervals(UnlabelledTree(tmp_path), tmp_path, label=None, window_s=windows)
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}: two clips, 'cry' and '[\w ]+', go from {span} s; "):
        corpus.clips(tmp_path)
    corpus.classes = {"distress": ["cry"]}  # the others are left out
    assert {clip.label for clip in corpus.clips(tmp_path)} == {"distress"}


def test_rows_that_share_an_interval_are_refused_and_intervals_that_no_row_holds_are_counted(file, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(8000 * 6, 0.1), 8000)
    file("0\t1\tcry\n1.5\t2.5\tpain\n3\t4\t\n4\t5\tcry\n", "a.txt")

    def of_rows(*ends: str) -> Intervals:
        rows = "".join(f"a.wav,b1,{at}\n" for at in ends)
        (tmp_path / "list.csv").write_text(f"path,subject,start_s,end_s\n{rows}")
        return Intervals(Manifest(tmp_path / "list.csv"), tmp_path, label=None)

    corpus = of_rows("0,2", "2.8,6")
    assert [(clip.label, clip.start_s) for clip in corpus.clips(tmp_path)] == [("cry", 0), ("cry", 4)]
    corpus.recordings()  # lists them again
    assert (corpus.left_out[UNLABELLED], corpus.left_out[ACROSS]) == (1, 1)
    with pytest.raises(UserError, match=r"list\.csv: 1 interval is in more than one row, first 'pain', a\.wav#1\.500"):
        of_rows("0,3", "1,6").clips(tmp_path)


def test_audacity_labels(file):
    path = file("0.5\t1.0\tcry\n\\\t200\t4000\n1.2\t1.2\tpoint\n2.0\t3.5\tlong cry\n4\t5\n", "a.txt")
    assert read(path) == [Interval(0.5, 1, "cry"), Interval(2, 3.5, "long cry")]
    for line in ("0,5\t1.0", "1,234,567\t9", "0.5\tinf", "nan\t9", "1\t1e400", "1_0\t20", "0.5\t"):
        with pytest.raises(UserError, match=r"a\.txt: line 2 has '.*' for a time in seconds"):
            read(file(f"0\t1\tcry\n{line}\t\n", "a.txt"))
    with pytest.raises(UserError, match=r"a\.txt: line 1 \('cry'\) goes from 0 to 1e\+12 s; correct its ends"):
        read(file("0\t1e12\tcry\n", "a.txt"))
    with pytest.raises(UserError, match=r"a\.txt: line 2 is no interval"):
        read(file("0\t1\tcry\nhello\n", "a.txt"))


def test_raven_counts_a_selection_once(file):
    header = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLabel"
    rows = ["1\tWaveform 1\t1\t0.5\t1.0\tcry", "1\tSpectrogram 1\t1\t0.5\t1.0\tcry", "2\tSpectrogram 1\t1\t0.8\t2\tdog"]
    name = "a.Table.1.selections.txt"
    assert read(file("\n".join([header, *rows]), name)) == [Interval(0.5, 1, "cry"), Interval(0.8, 2, "dog")]
    with pytest.raises(UserError, match="no column 'Annotation'"):
        read(file(header.replace("Label", "Notes"), name))
    with pytest.raises(UserError, match="line 2 has fewer columns"):
        read(file(f"{header}\n1\tx\n", name))


def selections(*rows: str) -> str:
    header = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tAnnotation\tBegin File\tFile Offset (s)"
    return "\n".join([header, *rows])


def test_the_label_of_a_selection_is_that_of_any_view(file):
    rows = ["1\tWaveform 1\t1\t0.5\t1.0\t\ta.wav\t0.5", "1\tSpectrogram 1\t1\t0.5\t1.0\tcry\ta.wav\t0.5"]
    assert read(file(selections(*rows), "a.selections.txt")) == [Interval(0.5, 1, "cry")]


def test_raven_counts_times_from_the_first_of_several_sound_files(file):
    rows = ["1\tV\t1\t12.5\t13.25\tcry\tb.wav\t2.5", "2\tV\t1\t15\t16\tcry\tb.wav\t5"]
    assert read(file(selections(*rows), "b.selections.txt"), duration_s=7.0) == [
        Interval(2.5, 3.25, "cry"),
        Interval(5, 6, "cry"),
    ]
    with pytest.raises(UserError, match=r"marks 2 sound files, a\.wav, b\.wav; save a table for each"):
        read(file(selections(*rows, "3\tV\t1\t1\t2\tcry\ta.wav\t1"), "b.selections.txt"))


def test_cries_in_two_channels_are_mixed_as_these_are(file):
    rows = ["1\tV\t1\t0\t1\tcry", "2\tV\t2\t0.5\t1.5\tcry", "3\tV\t2\t0.5\t1.5\tdog", "4\tV\t1\t2\t3\tcry"]
    assert read(file(selections(*rows), "a.selections.txt")) == [
        Interval(0, 1.5, "cry"),
        Interval(0.5, 1.5, "dog"),
        Interval(2, 3, "cry"),
    ]
    for odd, fault in (
        ("5\tV\t1\t2.5\t4\tcry", r"overlap between 2\.5 and 3 s"),
        ("5\tV\t1\t0.75\t2\tcry", r"overlap between 0\.75 and 1\.5 s"),  # with its own channel, behind another's
        ("5\tV\t2\t2.5\t1\tcry", r"goes from 2\.5 to 1 s"),
    ):
        with pytest.raises(UserError, match=fault):
            read(file(selections(*rows, odd), "a.selections.txt"))


def test_commas_are_decimal_where_no_time_has_a_point(file):
    assert read(file("0,500000\t1,250000\tcry, loud\n2\t3,5\tvers. 2\n", "a.txt")) == [
        Interval(0.5, 1.25, "cry, loud"),
        Interval(2, 3.5, "vers. 2"),
    ]
    header = "Selection\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tAnnotation"
    assert read(file(f"{header}\n1\t0,512\t1,250\t200.5\tcry\n", "a.selections.txt")) == [Interval(0.512, 1.25, "cry")]


def test_the_label_of_a_selection_is_in_any_of_its_columns(file):
    header = "Selection\tBegin Time (s)\tEnd Time (s)\tLabel\tAnnotation"

    def labels(*cells):
        rows = [f"{number}\t{number}\t{number}.5\t{cell}" for number, cell in enumerate(cells, 1)]
        return [one.label for one in read(file("\n".join([header, *rows]), "a.selections.txt"), unlabelled=True)]

    assert labels("cry\t", "\tdog", "cry\t cry", "\t", "cry") == ["cry", "dog", "cry", "", "cry"]
    with pytest.raises(
        UserError, match=r"a\.selections\.txt: line 3 has the labels 'cry', 'good take'; rename the col"
    ):
        labels("cry\t", "cry\tgood take")


@pytest.mark.parametrize("ending", FORMS.values())
def test_what_would_not_be_read_as_it_is_is_not_written(tmp_path, ending):
    for label in ("a\tb", "", " ", "a  b", "a\nb", "\N{NO-BREAK SPACE}x", "\udce9"):
        with pytest.raises(
            UserError, match=r"interval 1 has the label .*, which would not be read as it is; give words"
        ):
            write([Interval(0.0, 1.0, label)], tmp_path / f"a{ending}", 2.0)
    for end_s, duration_s in ((np.inf, 2.0), (1.0, np.inf), (1.0, np.nan)):
        with pytest.raises(UserError, match=r"goes from 0 to inf s|cannot last (inf|nan) s"):
            write([Interval(0.0, end_s, "cry")], tmp_path / f"a{ending}", duration_s)
    assert not list(tmp_path.iterdir())
    write([Interval(np.float64(0.1), np.float32(1), "cry")], tmp_path / f"a{ending}", np.float64(2))
    assert read(tmp_path / f"a{ending}") == [Interval(0.1, 1.0, "cry")]


def test_overlapping_labels_are_no_textgrid(tmp_path):
    both = [Interval(0, 1, "cry"), Interval(0.5, 2, "dog")]
    write(both, tmp_path / "a.txt", 2.0)
    with pytest.raises(UserError, match=r"overlap between 0\.5 and 1 s"):
        write(both, tmp_path / "a.TextGrid", 2.0)
    with pytest.raises(UserError, match="the name must end in one of"):
        write(both, tmp_path / "a.csv", 2.0)


def test_files_are_found_by_the_recording(file, tmp_path):
    paths = [file(SHORT, name) for name in ("a.TextGrid", "b.Table.2.selections.txt", "c.d.txt")]
    assert find(tmp_path) == dict(zip(["a", "b", "c.d"], paths, strict=True))
    file("", "b.txt")
    with pytest.raises(UserError, match=r"are both of b; move one"):
        find(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        find(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file of intervals"):
        find(tmp_path / "empty")


@pytest.mark.parametrize(
    "recordings",
    [["a/cry.wav", "b/cry.wav"], ["k/x.wav", "k/x.flac"], ["cry.wav", "a/cry.wav"], ["v1.2.wav", "v1.wav"]],
)
def test_the_names_that_recordings_give_find_them_again(recordings):
    files = {name: Path(f"{name}.TextGrid") for name in names_for(recordings)}
    assert matched(files, recordings) == dict(zip(recordings, files.values(), strict=True))


@pytest.mark.parametrize(
    ("files", "recordings", "own"),
    [
        ("cry.wav cry.m4a", "cry.wav", {"cry.wav": "cry.wav"}),
        ("old/1 k/1", "k/1.wav", {"k/1.wav": "k/1"}),
        ("deep/er/1", "k/1.wav k/2.wav", {"k/1.wav": "deep/er/1"}),
        ("x.wav y", "x y.wav", {"x": "x.wav", "y.wav": "y"}),  # compared with each other
        ("c.d", "c.wav", {}),
        ("e", "e.raw", {"e.raw": "e"}),
    ],
)
def test_a_file_is_called_like_the_path_or_the_name_of_its_recording(files, recordings, own):
    paths = {name: Path(name) for name in files.split()}
    assert matched(paths, recordings.split()) == {recording: Path(name) for recording, name in own.items()}


@pytest.mark.parametrize(
    ("files", "recordings", "fault"),
    [
        ("1", "k/1.wav l/1.wav", r"1 may be of k/1\.wav and l/1\.wav; call files like the paths"),
        ("x", "k/x.wav k/x.flac", r"x may be of k/x\.wav and k/x\.flac"),
        ("a/1 b/1", "k/1.wav", r"a/1 and b/1 may be of k/1\.wav"),
        ("old/1 k/1", "k/1.wav l/1.wav", r"old/1 may be of k/1\.wav and l/1\.wav"),
    ],
)
def test_a_file_that_may_be_of_several_recordings_is_refused(files, recordings, fault):
    with pytest.raises(UserError, match=fault):
        matched({name: Path(name) for name in files.split()}, recordings.split())


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_and_labels_in_either_form_of_unicode_are_found(file, tmp_path, form):
    spelled = partial(normalize, form)
    (tmp_path / spelled("ü")).mkdir()
    file(f"0\t2\t{spelled('räuspern')}\n", f"{spelled('Änne')}.txt")
    file("0\t2\tx\n", f"{spelled('ü')}/{spelled('ö')}.txt")
    files = find(tmp_path)
    for other in ("NFC", "NFD"):
        recordings = [normalize(other, name) for name in ("Änne.wav", "ü/ö.wav", "ü/a.wav")]
        own = matched(files, recordings)
        assert [*own] == recordings[:2]
        (one,) = read(own[recordings[0]])
        assert one.label == "räuspern"
    if form == "NFD":
        file("", "Änne.txt")
        with pytest.raises(UserError, match="are both of"):
            find(tmp_path)


def test_a_label_that_is_spelled_otherwise_is_refused(file, tmp_path):
    marked = [Interval(0, 1, "cry"), Interval(1, 2, "cry out"), Interval(2, 3, "-")]
    assert of_label("cry", marked, Path("a.txt")) == marked[:1]
    with pytest.raises(
        UserError, match=r"a\.txt: has intervals labelled 'Cry', which would not count as 'cry'; rename"
    ):
        of_label("cry", [*marked, Interval(3, 4, "Cry")], Path("a.txt"))
    soundfile.write(tmp_path / "a.wav", np.full(8000 * 4, 0.1), 8000)
    file("0\t2\tCRY\n", "a.txt")
    with pytest.raises(UserError, match=r"a\.txt: has intervals labelled 'CRY'"):
        Intervals(UnlabelledTree(tmp_path), tmp_path).clips(tmp_path)


@real("cry_segments")
def test_the_annotators_files_of_donateacry():
    files = find(DATA / "cry_segments")
    labels = [interval.label for path in files.values() for interval in read(path)]
    assert (len(files), labels.count("cry"), labels.count("-")) == (366, 1483, 1615)
