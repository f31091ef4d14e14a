"""Names that look like slips of the pen: one infant under two names, or a word for "not known"."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import soundfile
from test_report import make_run, rewrite

from cry_lightning.__main__ import run as command
from cry_lightning.corpora import Manifest
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.intervals import evaluate as evaluate_units
from cry_lightning.evaluation.metrics import units_at
from cry_lightning.features import MFCC
from cry_lightning.lineage.spelling import doubts, loose, named_by_recording, perhaps_one, plain, probably_one

describe = partial(command, "describe")
evaluate = partial(command, "evaluate")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "007"),
        ("7", "7.0"),
        ("007", "7.00"),
        ("0", "000"),
        ("Baby1", "baby1"),
        ("baby 1", "baby1"),
        ("Baby 01", "baby1"),
        ("b1 ", "b1"),
        ("Zo\u00eb", "Zoe\u0308"),
        ("b\u00a01", "b1"),
        ("7", "7,0"),
        ("A\u200b12", "A12"),
        ("A12", "\ufeffa12"),
    ],
)
def test_slips_of_the_pen_are_probably_one_infant(one, other):
    assert probably_one([f"ward:{one}", f"ward:{other}", "ward:x"]) == [sorted([f"ward:{one}", f"ward:{other}"])]
    assert len(doubts([one, other])) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "70"),
        ("7", "17"),
        ("b1", "b2"),
        ("1.1", "1.10"),
        ("b", "c"),
        ("1-2", "12"),
        ("7", "7.5"),
        ("7", "7,5"),
        ("0", "10"),
    ],
)
def test_different_infants_are_not(one, other):
    assert not probably_one([one, other]) and not doubts([one, other], ["hungry", None])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zoe", "Zo\u00e9"),
        ("Ward-12", "Ward_12"),
        ("Ward-12", "ward012"),
        ("B3", "B\u0663"),
        ("\u0667", "\u0660\u0660\u0667"),
        ("1--2", "1.2"),
        ("7", "7-"),
    ],
)
def test_accents_punctuation_and_the_script_of_digits_are_told_but_not_joined(one, other):
    subjects = [f"ward:{one}", f"ward:{other}", "ward:x", "clinic:Zoe", "clinic:B3"]
    assert perhaps_one(subjects) == [sorted(subjects[:2])] and not probably_one(subjects)
    (told,) = doubts(subjects)
    assert told.startswith("PROBABLY ONE INFANT, but counted as several") and repr(f"ward:{other}") in told


def test_names_that_are_joined_are_not_told_twice():
    assert not perhaps_one(["Baby 3", "baby03", "x"])
    assert loose("-") == "-" != loose("--")
    assert {loose(name) for name in ("Baby-0\u0663", plain("Baby-0\u0663"))} == {"baby3"}


def test_subjects_that_are_named_as_their_one_recording_are_doubtful():
    assert named_by_recording([("ward:r1", "rec/r1.wav"), ("ward:r2", "rec/r2.wav")])[0].startswith(
        "Each of 2 subjects"
    )
    assert not named_by_recording([("ward:r1", "rec/r1.wav"), ("ward:b", "rec/r2.wav")])
    assert not named_by_recording([("ward:r1", "rec/r1.wav"), ("ward:r1", "rec/r2.wav")])
    assert not named_by_recording([("ward:a", "a.wav"), ("ward:a", "b/a.wav"), ("ward:b", "b.wav")])


@pytest.mark.parametrize(("ending", "source"), [("", "given"), (".wav", "unknown")])
def test_the_name_of_the_file_is_no_subject(two_spellings, caplog, ending, source):
    rows = [f"{number}.wav,{'ab'[number % 2]},{number}{ending}" for number in range(8)]
    two_spellings.write_text("\n".join(["path,label,subject", *rows]))
    data = CryDataModule(Manifest(two_spellings), MFCC())
    data.prepare_data()
    data.setup()
    assert {clip.subject_source for clip in data.clips} == {source}
    assert ("Each of 8 subjects is named as its one recording" in caplog.text) == (source == "given")


def test_ids_of_two_collections_are_two_infants():
    assert not probably_one(["ward:7", "clinic:007"])
    assert probably_one(["ward:7", "Ward :007"]) == [["Ward :007", "ward:7"]]  # one, as for lineages


def test_two_spellings_of_an_infant_are_one_in_intervals_and_counts():
    """Of four infants with pain there is no interval, however their ids are spelled."""
    rng, spelled = np.random.default_rng(0), ("ward:b00{}", "ward:B00{}", "Ward:b{}")
    subject = np.repeat(np.arange(12), 4)
    score = rng.uniform(size=48)
    table = pd.DataFrame({"clip": [f"{n}.wav" for n in range(48)], "repeat": "0", "fold": "0"})
    table = table.assign(recording=table["clip"], label=np.where(subject < 4, "pain", "hunger"))
    table = table.assign(score_hunger=score, score_pain=1 - score, subject=[spelled[0].format(n) for n in subject])
    slips = table.assign(subject=[spelled[row % 3].format(n) for row, n in enumerate(subject)])
    for level in ("clip", "subject"):
        found, wanted = (evaluate_units(units_at(level, each)) for each in (slips, table))
        pd.testing.assert_frame_equal(found, wanted)
        assert found.query("metric == 'uar'")["low"].isna().all()
    assert units_at("clip", slips.assign(subject_source="unknown")).n_subjects == 36  # names of recordings


@pytest.mark.parametrize("name", ["NA", "nan", "None", "null", "unknown", "N/A", "Unknown "])
def test_words_for_not_known_are_told_as_subject_and_as_label(name):
    assert [told.startswith(f"The subject {name!r}") for told in doubts([f"ward:{name}"])] == [True]
    assert [told.startswith(f"The label {name!r}") for told in doubts([], [name, None, "pain"])] == [True]


def test_other_words_and_silence_are_labels_of_a_keyword_task():
    assert not doubts([], ["silence", "unknown", "yes"])
    assert doubts([], ["silence", "none", "unknown"]) == doubts([], ["none"])


@pytest.fixture
def two_spellings(tmp_path, monkeypatch):
    """manifest.csv of four infants, each under two names."""
    monkeypatch.chdir(tmp_path)
    lines = ["path,label,subject"]
    for number in range(8):
        sound = 0.1 * np.random.default_rng(number).standard_normal(8000)
        soundfile.write(tmp_path / f"{number}.wav", sound, 8000)
        lines.append(f"{number}.wav,{'ab'[number // 2 % 2]},{f'{number // 2:03}' if number % 2 else number // 2}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "manifest.csv"


@pytest.mark.slow
def test_labels_that_differ_in_spelling_alone_are_told():
    (told,) = doubts([], ["Hunger", "hunger", "pain", None])
    assert told.startswith("The labels 'Hunger' and 'hunger' differ in their spelling alone, and are so many classes")
    assert not doubts([], ["hunger", "hungry", "pain 1", "pain 2"])


def test_describe_tells_it(two_spellings, undrawn, capsys):
    describe(["--data", str(two_spellings)])
    assert "PROBABLY ONE INFANT under several names (4 such): 'manifest:0' and" in capsys.readouterr().out


def test_fit_tells_it(two_spellings, caplog):
    data = CryDataModule(Manifest(two_spellings), MFCC())
    data.prepare_data()
    data.setup()
    assert "PROBABLY ONE INFANT under several names (4 such)" in caplog.text


def test_a_recording_that_is_its_own_subject_is_no_slip(two_spellings, caplog):
    two_spellings.write_text("path,label\n" + "".join(f"{number}.wav,{'ab'[number % 2]}\n" for number in range(8)))
    (two_spellings.parent / "1.wav").rename(two_spellings.parent / "01.wav")
    (two_spellings.parent / "0.wav").rename(two_spellings.parent / "1.wav")
    two_spellings.write_text(two_spellings.read_text().replace("\n1.wav", "\n01.wav").replace("\n0.wav", "\n1.wav"))
    data = CryDataModule(Manifest(two_spellings), MFCC())
    data.prepare_data()
    data.setup()
    assert "PROBABLY ONE" not in caplog.text


def test_evaluate_tells_it(no_figures, tmp_path, capsys):
    run = make_run(tmp_path / "run")
    subjects = predictions.read(run / "predictions.csv")["subject"]
    rewrite(run, subject=subjects.replace({"made:2": "made:001"}))
    evaluate([str(run)])
    assert "PROBABLY ONE INFANT under several names (1 such): 'made:001' and 'made:1'" in capsys.readouterr().out
