"""Events that were found against those marked by hand: frames, events, beginnings, and intervals over subjects."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import soundfile

import cry_lightning
from cry_lightning.__main__ import run as command
from cry_lightning.acquire.evaluate_events import counts, share_interval, table_of
from cry_lightning.annotations import Interval, write
from cry_lightning.annotations.spans import Hysteresis, frames, matches, onset_matches
from cry_lightning.console import UserError

evaluate = partial(command, "evaluate-events")


def cries(*spans):
    return [Interval(begin, end, "cry") for begin, end in spans]


def test_hysteresis_bridges_gaps_first_and_then_drops_what_is_short():
    probability = np.zeros(100)
    probability[10:20], probability[14] = 0.5, 0.9
    probability[23:30] = 0.8  # 3 frames later
    probability[50:60] = 0.55  # nowhere above the onset
    probability[70:74] = 0.9  # too short
    assert Hysteresis(0.6, 0.5, min_gap=4, min_length=5).spans(probability) == [(10, 30)]
    assert Hysteresis(0.6, 0.5, min_gap=3, min_length=5).spans(probability) == [(10, 20), (23, 30)]
    assert Hysteresis(0.6, 0.5, min_gap=3, min_length=11).spans(probability) == []
    assert Hysteresis(0.6, 0.6, min_gap=1, min_length=1).spans(probability) == [(14, 15), (23, 30), (70, 74)]
    assert Hysteresis().spans(np.ones(20)) == [(0, 20)]
    assert Hysteresis().spans(np.zeros(0)) == []


def test_frames_are_those_whose_centre_lies_within():
    assert np.flatnonzero(frames([(0.013, 0.03), (0.044, 0.046)], 6)).tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("there", "found", "by_overlap", "by_onset"),
    [
        ([(0, 1)], [(0, 0.5)], 1, 1),
        ([(0, 1)], [(0, 0.49)], 0, 1),
        ([(0, 1)], [(0, 0.5), (0.5, 1)], 1, 1),  # one event is found once
        ([(0, 1), (1.1, 2)], [(0, 2)], 1, 1),
        ([(0.1, 0.4), (0.2, 2)], [(0, 0.35), (0.35, 2)], 2, 2),
        ([(0.1, 0.9)], [(0.35, 0.9)], 1, 0),
        ([], [(0, 1)], 0, 0),
        ([(0, 1)], [], 0, 0),
    ],
)
def test_events_match_one_to_one(there, found, by_overlap, by_onset):
    assert (matches(there, found), onset_matches(there, found)) == (by_overlap, by_onset)


def test_counts_of_a_recording():
    assert counts(cries((0, 1), (2, 3)), cries((0.5, 1.5))) == {
        "frames": (50, 200, 100),
        "events": (0, 2, 1),
        "onsets": (0, 2, 1),
    }


def test_the_interval_is_that_of_leaving_out_each_subject_in_turn():
    rng = np.random.default_rng(0)
    wholes = rng.integers(5, 50, 40).astype(float)
    parts = np.floor(wholes * rng.uniform(0.5, 1, 40))
    value, low, high = share_interval(parts, wholes)
    left = [(np.delete(parts, i).sum() / np.delete(wholes, i).sum()) for i in range(40)]
    error = np.sqrt(39 * np.mean((np.array(left) - value) ** 2))
    assert value == parts.sum() / wholes.sum()
    assert (high - low) / 2 == pytest.approx(2.02 * error, rel=0.1)
    assert np.isnan(share_interval(parts[:4], wholes[:4])[1:]).all()  # of four subjects, none
    assert np.isnan(share_interval(parts[:0], wholes[:0])).all()


def test_recordings_of_one_subject_count_as_one():
    of_recording = {str(i): counts(cries((0, 1)), cries((0, 1 if i % 2 else 0.4))) for i in range(20)}
    alone = table_of(of_recording, {name: name for name in of_recording})
    paired = table_of(of_recording, {name: str(int(name) % 10) for name in of_recording})
    f1 = [table.set_index(["level", "metric"]).loc[("events", "f1")] for table in (alone, paired)]
    assert f1[0]["value"] == f1[1]["value"] == 0.5
    assert [one["n_subjects"] for one in f1] == [20, 10]
    assert f1[1]["high"] - f1[1]["low"] > f1[0]["high"] - f1[0]["low"]


@pytest.fixture
def folders(tmp_path):
    for number in range(6):
        write([*cries((0.5, 1)), Interval(1, 2, "-")], tmp_path / "there" / f"{number}.TextGrid", 3.0)
        write(cries((0.5, 1)) if number else [], tmp_path / "found" / "deeper" / f"{number}.txt", 3.0)
    return tmp_path


def test_the_command_prints_a_table_and_writes_it(folders, capsys):
    rows = ["path,subject", *(f"{number}.wav,baby{number // 2}" for number in range(6))]
    (folders / "manifest.csv").write_text("\n".join(rows))
    for number in range(6):
        (folders / f"{number}.wav").touch()
    given = [str(folders / "there"), str(folders / "found"), "--subjects", str(folders / "manifest.csv")]
    evaluate([*given, "--out", str(folders / "events.csv")])
    shown = capsys.readouterr().out
    assert "6 recordings of 3 subjects, intervals labelled 'cry'" in shown
    assert "1.000" in shown
    assert "0.833" in shown
    written = pd.read_csv(folders / "events.csv").set_index(["level", "metric"])["value"]
    assert written["frames"].round(3).to_dict() == {"precision": 1.0, "recall": 0.833, "f1": 0.909}


def test_other_labels_are_counted_and_other_spellings_refused(folders, capsys):
    given = [str(folders / "there"), str(folders / "found")]
    evaluate(given)
    assert f"not counted: 6 intervals of other labels ('-' 6) in {folders / 'there'}\n" in capsys.readouterr().out
    write([Interval(0.5, 1, "Cry")], folders / "there" / "2.TextGrid", 3.0)
    with pytest.raises(UserError, match=r"2\.TextGrid: has intervals labelled 'Cry', which would not count as 'cry'"):
        evaluate(given)


def test_recordings_of_one_name_and_files_with_and_without_their_endings_are_compared(tmp_path):
    for name, found in (("a/x", "a/x.wav"), ("b/x", "b/x.wav"), ("c.flac", "c")):
        write(cries((0.5, 1)), tmp_path / "there" / f"{name}.TextGrid", 3.0)
        write(cries((0.5, 1)), tmp_path / "found" / f"{found}.TextGrid", 3.0)
    for name in ("a/x.wav", "b/x.wav", "c.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "manifest.csv").write_text("path,subject\na/x.wav,one\nb/x.wav,two\nc.flac,two\n")
    given = tmp_path / "there", tmp_path / "found"
    table = cry_lightning.evaluate_events(*given, subjects=tmp_path / "manifest.csv")
    assert set(table["value"]) == {1.0} and set(table["n_subjects"]) == {2}


def test_intervals_behind_the_sound_that_subjects_name_are_refused(folders):
    (folders / "manifest.csv").write_text("path,subject\n" + "".join(f"{n}.wav,baby{n}\n" for n in range(6)))
    for number, length_s in enumerate([0.9, 3, 3, 3, 3, 3]):  # 0: what was marked ends at 2 s, nothing was found
        soundfile.write(folders / f"{number}.wav", np.zeros(round(8000 * length_s)), 8000)
    given = folders / "there", folders / "found"
    with pytest.raises(UserError, match=r"there/0\.TextGrid: .* ends at 2 s, but the recording has 0\.9 s"):
        cry_lightning.evaluate_events(*given, subjects=folders / "manifest.csv")
    soundfile.write(folders / "0.wav", np.zeros(24000), 8000)
    write(cries((0.5, 9)), folders / "found" / "deeper" / "1.txt", 9.0)
    with pytest.raises(UserError, match=r"deeper/1\.txt: .* ends at 9 s, but the recording has 3 s"):
        cry_lightning.evaluate_events(*given, subjects=folders / "manifest.csv")


def test_each_recording_is_a_subject_where_no_more_is_known(folders):
    table = cry_lightning.evaluate_events(folders / "there", folders / "found")
    assert set(table["n_subjects"]) == {6}


@pytest.mark.parametrize(("tier", "recall"), [("child", 1.0), ("monitor", 0.0)])
def test_one_of_several_tiers_is_compared(tmp_path, tier, recall):
    begins = {"child": 0, "monitor": 2}
    tiers = [f'"IntervalTier" "{name}" 0 3 1 {begin} {begin + 0.5} "cry"' for name, begin in begins.items()]
    (tmp_path / "there").mkdir()
    text = " ".join(['File type = "ooTextFile" Object class = "TextGrid" 0 3 <exists> 2', *tiers])
    (tmp_path / "there/a.TextGrid").write_text(text)
    write(cries((0, 0.5)), tmp_path / "found/a.TextGrid", 3.0)  # in one tier, called otherwise
    given = tmp_path / "there", tmp_path / "found"
    found = cry_lightning.evaluate_events(*given, tier=tier).set_index(["level", "metric"])["value"]
    assert found["events", "recall"] == recall
    with pytest.raises(UserError, match=r"has the tiers 'child', 'monitor'; name one by --tier \("):
        evaluate([*map(str, given)])


def test_what_cannot_be_compared_is_refused(folders):
    there, found = folders / "there", folders / "found"
    with pytest.raises(UserError, match=r"there: no interval is labelled 'wail', only -, cry; give --label"):
        evaluate([str(there), str(found), "--label", "wail"])
    with pytest.raises(UserError, match=r"found: no interval is labelled '-', only cry; give --label, or rename them"):
        evaluate([str(there), str(found), "--label", "-"])
    (found / "deeper" / "3.txt").unlink()
    with pytest.raises(UserError, match=r"found: has no file for 1 of the 6 recordings .*, first 3; "):
        evaluate([str(there), str(found)])
    (folders / "manifest.csv").write_text("path,subject\n0.wav,a\n")
    (folders / "0.wav").touch()
    (found / "deeper" / "3.txt").touch()
    with pytest.raises(UserError, match=r"manifest\.csv: has no recording 1 \(and 4 more\)"):
        evaluate([str(there), str(found), "--subjects", str(folders / "manifest.csv")])


def test_nothing_that_was_found_is_a_result_and_nothing_that_was_marked_is_none(folders):
    for number in range(6):
        write([], folders / "nothing" / f"{number}.txt", 3.0)
    table = cry_lightning.evaluate_events(folders / "there", folders / "nothing")
    assert set(table[table["metric"] == "recall"]["value"]) == {0.0}
    with pytest.raises(UserError, match="nothing: no interval has a label; mark those that are to be found"):
        evaluate([str(folders / "nothing"), str(folders / "found")])
