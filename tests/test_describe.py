"""Describing a corpus: what is counted, measured, compared, shown and advised, and what is refused."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from made import DATA, cry, real

from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.corpora import Clip
from cry_lightning.corpora.clips import further_columns
from cry_lightning.data.datamodule import open_data
from cry_lightning.data.splits import Split, assign
from cry_lightning.describe import summary, support
from cry_lightning.describe.figures import Example, choose, draw, row_label, row_names, unit
from cry_lightning.describe.summary import COPY, LEAK, RELABELLED, duplicates, in_words as duplicates_in_words
from cry_lightning.features import MFCC, EfficientATLogMel, Fbank, LogMel, VGGishLogMel, Waveform
from cry_lightning.features.spectrogram import OwnRateSpectrogram, Spectrogram

main = partial(command, "describe")


RATE = 8000


def tone(amplitude=0.5, seconds=0.5, pitch=400, rate=RATE):
    return (amplitude * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path, waveform, rate=RATE, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate, **kwargs)
    return path


def table_of(clips, lengths=1.0, classes=("a", "b")):
    """The clip table of recordings that can all be used."""
    names = list(dict.fromkeys(clip.path for clip in clips))
    known = pd.DataFrame({"duration_s": lengths, "fault": ""}, index=names)
    return summary.clip_table(clips, known, classes)


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Writes recordings and what lists them: manifest([(waveform, label, subject, columns...)], header)."""
    monkeypatch.chdir(tmp_path)

    def make(rows, further=()):
        lines = [",".join(["path", "label", "subject", *further])]
        for number, (waveform, *columns) in enumerate(rows):
            write(tmp_path / f"ward/{number:03}.wav", waveform)
            lines.append(",".join([f"{number:03}.wav", *columns]))
        (tmp_path / "ward/manifest.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "ward/manifest.csv"

    return make


# who and what is counted


def test_the_dataset_table_by_hand():
    clips = [Clip("0", "s1", "a"), Clip("0", "s1", "a", start_s=0.5), Clip("1", "s1", "b"), Clip("2", "s2", "a")]
    clips += [Clip("3", "s3", None, duration_s=0.25)]
    table = summary.by_class(table_of(clips, classes=("a", "b", "empty"))).set_index("class")
    assert list(table.index) == ["a", "b", "empty", "(unlabelled)", "(all)"]
    assert table.loc["a", ["subjects", "recordings", "clips"]].tolist() == [2, 2, 3]
    assert table.loc["a", "minutes"] == pytest.approx(2.5 / 60)  # the second clip lasts to the end of the recording
    assert table.loc["a"].filter(like="clips_per_subject").tolist() == [1, 1.5, 2]
    assert table.loc["(unlabelled)", "minutes"] == pytest.approx(0.25 / 60)
    assert table.loc["(all)", ["subjects", "recordings", "clips"]].tolist() == [3, 4, 5]
    assert table.loc["empty", "clips"] == 0


def test_a_column_is_crossed_with_the_classes():
    clips = [Clip(str(i), f"s{i % 3}", "ab"[i % 2], columns={"site": f"site{i % 3}"}) for i in range(12)]
    clips.append(Clip("12", "s9", "a"))
    columns = further_columns(clips)
    table = summary.by_column(table_of(clips), "site", summary.grouped(columns["site"])).set_index(["value", "class"])
    assert table.loc[("site0", "(all)"), ["subjects", "clips"]].tolist() == [1, 4]
    assert table.loc[("site0", "b"), "clips"] == 2
    assert table.loc[("(blank)", "a"), "clips"] == 1 and table.loc[("(blank)", "b"), "clips"] == 0
    assert table.xs("(all)", level="class")["clips"].sum() == 13


def test_many_numbers_become_quartile_ranges_and_many_texts_the_commonest():
    values = pd.Series([str(n) for n in range(1, 101)] + [""])
    ranges = summary.grouped(values)
    assert list(ranges.cat.categories) == ["up to 25", "above 25 to 50", "above 50 to 75", "above 75", "(blank)"]
    assert ranges.value_counts().tolist() == [25, 25, 25, 25, 1]
    assert list(summary.grouped(pd.Series(["10", "9", "9"])).cat.categories) == ["9", "10"]
    words = pd.Series([f"word{n:02}" for n in range(20) for _ in range(1 + (n < 11))])
    common = summary.grouped(words)
    assert list(common.cat.categories) == [*(f"word{n:02}" for n in range(11)), "(9 others)"]
    assert common.value_counts()["(9 others)"] == 9


def test_columns_that_say_nothing_or_name_subjects_are_counted_only_when_asked_for():
    clips = [
        Clip(
            str(i),
            f"s{i % 4}",
            "ab"[i % 2],
            columns={
                "sex": "fm"[i // 2 % 2],
                "day": str(i),
                "name": f"Ada{i % 4}",
                "reason": "xy"[i % 2],
                "ward": "1",
                "note": f"text {i}",
            },
        )
        for i in range(16)
    ]
    columns = further_columns(clips)
    assert summary.choose_columns(columns, clips, None) == ["sex"]
    assert summary.choose_columns(columns[:3], clips[:3], None) == []  # nearly as many values as clips
    assert summary.choose_columns(columns, clips, ["day", "ward", "day"]) == ["day", "ward"]
    with pytest.raises(UserError, match=r"--by height: no such column; the columns are sex, day, name,"):
        summary.choose_columns(columns, clips, ["sex", "height"])


def test_a_clip_that_ends_after_its_recording_is_not_counted():
    clips = [Clip("0", "s", "a", 0.5, 0.5), Clip("0", "s", "a", 0.8, 0.5), Clip("0", "s", "a", 2.0)]
    assert (table_of(clips)["fault"] != "").tolist() == [False, True, True]


# the sound


def test_measures_of_a_long_recording_are_those_of_the_whole_waveform(tmp_path):
    """Frames and blocks leave no trace: 23.456 s, the last frame and the last block cut short."""
    rng = np.random.default_rng(0)
    waveform = np.concatenate([0.1 * rng.standard_normal(15 * RATE), np.zeros(5 * RATE), tone(1.4, 3.456)])
    waveform = np.clip(waveform, -1, 1).astype(np.float32)
    path = write(tmp_path / "long.wav", waveform, subtype="FLOAT")
    found = summary.measure(path, RATE)
    assert found["duration_s"] == pytest.approx(23.456)
    assert found["rms_dbfs"] == pytest.approx(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64))))
    assert found["peak_dbfs"] == 0
    assert found["silence_share"] == pytest.approx(5 / 23.456, abs=1e-6)
    assert found["clipped_share"] == pytest.approx((np.abs(waveform) > 0.989).mean(), abs=1e-6)


def test_level_and_peak_of_a_sine(tmp_path):
    found = summary.measure(write(tmp_path / "sine.wav", tone(0.5)), RATE)
    assert found["peak_dbfs"] == pytest.approx(-6.02, abs=0.01)
    assert found["rms_dbfs"] == pytest.approx(-9.03, abs=0.01)
    assert found["silence_share"] == found["clipped_share"] == 0


def test_form_comes_from_the_content(tmp_path):
    write(tmp_path / "a.wav", np.stack([tone()] * 2, axis=1), subtype="PCM_24")
    write(tmp_path / "b.flac", tone(rate=16000), 16000)
    write(tmp_path / "c.mp3", tone(rate=16000), 16000)
    (tmp_path / "b.flac").rename(tmp_path / "b.wav")
    table = summary.survey({name: tmp_path / name for name in ("a.wav", "b.wav", "c.mp3")})
    assert table[[*summary.FORM]].values.tolist() == [
        ["wav", "pcm_24", RATE, 2],
        ["flac", "pcm_16", 16000, 1],
        ["mp3", "mp3", 16000, 1],
    ]


def test_what_cannot_be_used_is_told_and_the_rest_is_measured(tmp_path):
    write(tmp_path / "good.wav", tone())
    write(tmp_path / "silent.wav", np.zeros(RATE))
    write(tmp_path / "short.wav", tone(seconds=0.005))
    write(tmp_path / "nan.wav", np.full(RATE, np.nan, np.float32), subtype="FLOAT")
    whole = write(tmp_path / "cut.wav", tone(seconds=2)).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.wav").write_text("no sound\n")
    names = ["good.wav", "silent.wav", "short.wav", "nan.wav", "cut.wav", "text.wav", "gone.wav"]
    faults = summary.survey({name: tmp_path / name for name in names})["fault"]
    assert faults["good.wav"] == ""
    reasons = (
        "silent, every sample",
        "40 samples are too short",
        "NaN",
        "truncated",
        "cannot be decoded",
        "there is no such file",
    )
    for name, reason in zip(names[1:], reasons, strict=True):
        assert reason in faults[name]
    assert not faults.str.contains(str(tmp_path)).any()


def test_a_sample_is_drawn_once_and_for_all_and_the_others_keep_their_headers(tmp_path, monkeypatch):
    paths = {f"{n}.wav": write(tmp_path / f"{n}.wav", tone(seconds=0.1 + n / 100)) for n in range(20)}
    decoded = []
    monkeypatch.setattr(
        summary, "measure", lambda path, rate: decoded.append(path) or {"duration_s": 1.0, "sound": path.name}
    )
    table = summary.survey(paths, sample=5)
    assert len(decoded) == 5 == (table["sound"] != "").sum()
    assert table.loc[table["sound"] == "", "duration_s"].tolist() == pytest.approx(
        [0.1 + n / 100 for n in range(20) if paths[f"{n}.wav"] not in decoded]
    )
    assert summary.survey(paths, sample=5).equals(table)
    assert (summary.survey(paths, sample=50)["sound"] != "").all()


# copies


def test_copies_are_found_in_another_container_and_told_by_whom_they_betray(tmp_path):
    sounds = [(tone(pitch=300 + number) * 32767).astype(np.int16) for number in range(4)]
    for number, sound in enumerate(sounds):
        write(tmp_path / f"{number}.wav", sound)
        write(tmp_path / f"{number}.flac", sound)
    (tmp_path / "2copy.wav").write_bytes((tmp_path / "2.wav").read_bytes())
    clips = [Clip("0.wav", "s0", "a"), Clip("0.flac", "s1", "a")]
    clips += [Clip("1.wav", "s1", "a"), Clip("1.flac", "s1", "b")]
    clips += [Clip("2.wav", "s2", "a"), Clip("2copy.wav", "s2", "a"), Clip("3.wav", "s3", "b")]
    decoded = summary.survey({clip.path: tmp_path / clip.path for clip in clips})
    found = duplicates(summary.clip_table(clips, decoded, ["a", "b"]), decoded).set_index("recording")
    assert found["kind"].to_dict() == {
        "0.wav": LEAK,
        "0.flac": LEAK,
        "1.wav": RELABELLED,
        "1.flac": RELABELLED,
        "2.wav": COPY,
        "2copy.wav": COPY,
    }
    assert found["group"].nunique() == 3 and "subject" not in found
    first, *others = duplicates_in_words(found.reset_index(), n_not_decoded=0)
    assert first.startswith("LEAK") and "0.flac = 0.wav" in first and len(others) == 3


def test_copies_that_were_coded_and_cut_are_found_too(tmp_path):
    soundfile.write(tmp_path / "0.wav", cry(0), RATE)
    soundfile.write(tmp_path / "0.mp3", cry(0)[2400:], RATE)
    soundfile.write(tmp_path / "1.wav", cry(1), RATE)
    clips = [Clip("0.wav", "s0", "a"), Clip("0.mp3", "s1", "a"), Clip("1.wav", "s1", "a")]
    decoded = summary.survey({clip.path: tmp_path / clip.path for clip in clips})
    found = duplicates(summary.clip_table(clips, decoded, ["a"]), decoded)
    assert found[["recording", "kind", "by"]].values.tolist() == [
        [name, LEAK, "acoustic fingerprint"] for name in ("0.mp3", "0.wav")
    ]
    (first, *_) = duplicates_in_words(found, n_not_decoded=0)
    assert first.startswith("LEAK") and "re-encoded or cut otherwise (1): 0.mp3 = 0.wav" in first


# the figure


def heard_of(levels):
    return pd.DataFrame({"rms_dbfs": levels, "duration_s": 1.0, "fault": ""})


def test_the_example_is_the_clip_of_median_level(tmp_path):
    decoded = heard_of({"loud": -5.0, "middle": -20.0, "quiet": -50.0, "unheard": np.nan})
    steps = np.concatenate([tone(amplitude) for amplitude in (0.01, 0.9, 0.1)])
    paths = {"middle": write(tmp_path / "middle.wav", steps)}
    decoded.loc["middle", "duration_s"] = 1.5
    clips = [Clip(name, "s", "a") for name in ("unheard", "quiet", "loud")]
    clips += [Clip("middle", "s", "a", start, 0.5) for start in (1.0, 0.0, 0.5)]
    clips += [Clip("loud", "s", None)]
    chosen = choose(summary.clip_table(clips, decoded, ["a", "b"]), decoded, paths)
    assert chosen[["recording", "start_s", "class"]].values.tolist() == [["middle", 1.0, "a"]]


def test_of_many_classes_the_twelve_with_the_most_clips_are_shown():
    names = [f"class{n:02}" for n in range(15)]
    clips = [Clip(f"{name}-{i}", "s", name) for n, name in enumerate(names) for i in range(1 + (n != 4) + (n % 7 > 0))]
    decoded = heard_of({clip.path: -20.0 for clip in clips})
    chosen = choose(summary.clip_table(clips, decoded, names), decoded, {})
    assert len(chosen) == 12 and "class04" not in set(chosen["class"])
    assert chosen["class"].tolist() == sorted(chosen["class"])


def test_without_labels_one_clip_is_shown():
    clips = [Clip(str(n), f"s{n}") for n in range(3)]
    decoded = heard_of({"0": -30.0, "1": -10.0, "2": -20.0})
    assert choose(summary.clip_table(clips, decoded, []), decoded, {})["recording"].tolist() == ["2"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("n_classes", [1, 2, 5, 12])
@pytest.mark.parametrize("feature", [LogMel(), Fbank(), MFCC(), Waveform()], ids=lambda feature: type(feature).__name__)
def test_every_class_has_its_panels_with_units(n_classes, feature):
    rows = 1 if isinstance(feature, Waveform) else 40
    sound = tone(seconds=0.2, rate=feature.sample_rate)
    examples = [Example(f"class ${n}|", sound, feature.sample_rate, np.random.rand(rows, 21)) for n in range(n_classes)]
    figure = draw(examples, feature, "corpus $ name")
    figure.canvas.draw()
    shown = [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]
    assert [axes.get_title() for axes in shown if axes.get_title()] == [one.label for one in examples]
    assert sum(axes.get_xlabel() == "time (s)" for axes in shown) == n_classes
    assert len(shown) == n_classes * (1 if rows == 1 else 2)
    labels = {axes.get_ylabel() for axes in figure.axes}
    assert "amplitude" in labels
    assert ("level (dB)" in labels and "mel band (Hz)" in labels) == isinstance(feature, LogMel | Fbank)


def test_rows_of_pictures_and_of_vggish_are_named_in_hz():
    picture, vggish = Spectrogram(size=(60, 90)), VGGishLogMel()
    assert (row_label(picture), unit(picture)) == ("frequency (Hz)", "level (dB)")
    assert row_names(picture, np.array([0, 59])) == ["0", "4,000"]
    own_rate = OwnRateSpectrogram(size=(60, 90))  # of several rates, the same row is of other frequencies
    assert (row_label(own_rate), unit(own_rate)) == ("share of its highest frequency", "level (dB)")
    assert row_names(own_rate, np.array([0, 59])) == ["0", "1"]
    assert (row_label(vggish), unit(vggish)) == ("mel band (Hz)", "natural log of magnitude")
    lowest, highest = (float(name.replace(",", "")) for name in row_names(vggish, np.array([0, 63])))
    assert 125 < lowest < 200 and 7000 < highest < 7500
    assert row_label(EfficientATLogMel()) == "mel band (Hz)"


# which splits there can be


@pytest.mark.parametrize("numbers", [{"a": 9, "b": 4}, {"a": 3, "b": 3}, {"a": 30, "b": 2}, {"a": 4, "b": 1}])
def test_the_largest_number_of_folds_is_the_one_that_the_splits_accept(numbers):
    labels = np.repeat(list(numbers), list(numbers.values()))
    groups = np.array([f"s{n}" for n in range(len(labels))])

    def accepted(folds):
        try:
            assign(Split("kfold", folds=folds, val=0.0), labels, groups)
        except UserError:
            return False
        return True

    most = max((folds for folds in range(2, 31) if accepted(folds)), default=0)
    told = " ".join(support.across_subjects(pd.Series(numbers), len(groups), val=0.0))
    if most:
        assert f"{most} folds at the most" in told and f"possible, {len(groups)} trainings" in told
    else:
        assert "impossible" in told and "only b (1)" in told


def test_validation_wants_one_subject_more():
    numbers = pd.Series({"a": 9, "b": 2})
    assert "impossible" in support.across_subjects(numbers, 11, val=0.15)[0]
    assert "(val 0)" in support.across_subjects(numbers, 11, val=0.15)[0]
    assert "2 folds at the most" in support.across_subjects(numbers, 11, val=0.0)[0]


def test_the_advised_test_share_gives_five_subjects_of_each_class():
    numbers = {"a": 40, "b": 14, "c": 6}
    clips = [Clip(f"{name}{n}", f"{name}{n}", name) for name, many in numbers.items() for n in range(many)]
    table = table_of(clips, classes=list(numbers))
    labels, groups = (np.array([getattr(clip, field) for clip in clips]) for field in ("label", "subject"))

    def advice(split):
        return support.of_the_test(table, assign(split, labels, groups), split, pd.Series(numbers))

    remarks = advice(Split(test=0.2))
    assert "fewer than 5 subjects of b (3), c (1)" in remarks[0]
    share = float(re.search(r"A test share of about ([\d.]+) would give 5 of b \(14\)", remarks[1])[1])
    assert "No held-out share can give 5 of c (6)" in remarks[2]
    assert "of c (" in advice(Split(test=share))[0] and "b (" not in advice(Split(test=share))[0]


def test_a_split_without_a_test_part_says_so():
    clips = [Clip(str(n), f"s{n}", "ab"[n % 2]) for n in range(20)]
    labels, names = (np.array([getattr(clip, field) for clip in clips]) for field in ("label", "subject"))
    split = Split(test=0.0)
    told = support.of_the_test(table_of(clips), assign(split, labels, names), split, pd.Series({"a": 10, "b": 10}))
    assert told == ["It tests nobody, as pretraining may."]


def test_test_subjects_that_are_trained_on_are_called_a_leak():
    clips = [Clip(str(n), f"s{n % 5}", "ab"[n % 2]) for n in range(40)]
    labels, names = (np.array([getattr(clip, field) for clip in clips]) for field in ("label", "path"))
    by_clip = Split(group="clip")
    told = support.of_the_test(table_of(clips), assign(by_clip, labels, names), by_clip, pd.Series({"a": 5, "b": 5}))
    assert any("LEAKY" in remark for remark in told)


# the command


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_report_of_a_small_corpus(manifest, capsys, tmp_path):
    rng = np.random.default_rng(0)
    sounds = [0.1 * rng.standard_normal(RATE // 2) for _ in range(36)]
    rows = [(sounds[n], ("low", "high", "")[n % 3], f"baby{n // 3:02}", "fm"[n % 2], f"-{n}.5") for n in range(36)]
    rows += [(sounds[0], "low", "baby07", "f", "-3.5"), (np.zeros(RATE), "low", "baby08", "f", "")]
    path = manifest(rows, ["sex", "peak_db"])
    main(["--data", str(path.parent), "--data.corpus.init_args.name=small"])
    out = tmp_path / "runs/small/describe"
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == "Report: runs/small/describe/describe.md"
    tables = [
        "classes.csv",
        "columns.csv",
        "duplicates.csv",
        "left_out.csv",
        "recordings.csv",
        "sound.csv",
        "split.csv",
    ]
    assert files_in(out) == sorted([*tables, "clips.png", "describe.md"])
    assert pd.read_csv(out / "classes.csv").set_index("class")["clips"].to_dict() == {
        "high": 12,
        "low": 13,
        "(unlabelled)": 12,
        "(all)": 37,
    }
    for text in (" ".join(told.split()), (out / "describe.md").read_text()):
        assert "LEAK: the same sound under several subjects" in text and "000.wav = 036.wav" in text
        assert "037.wav`: silent" in text and "1 clip of 1 recording cannot be used" in text
        assert "12 folds at the most" in text
        assert "By sex" in text and "By peak_db" not in text and "unless --by names them: peak_db." in text
    assert "![One clip of each class](clips.png)" in (out / "describe.md").read_text()
    assert (out / "clips.png").read_bytes()[:4] == b"\x89PNG"
    for file in [*out.glob("*.csv"), out / "describe.md"]:
        assert "baby" not in file.read_text()
    assert "baby" not in told and not list(tmp_path.rglob("*.h5")) and not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
def test_what_the_corpus_leaves_out_is_counted_with_its_reason(manifest, tmp_path, capsys):
    fading = np.concatenate([tone(), tone(1e-4)])
    sounds = [fading, fading, fading, tone(1e-4, seconds=1.0)]
    path = manifest([(sound, label, f"s{n}") for n, (sound, label) in enumerate(zip(sounds, "abca", strict=True))])
    corpus = {"window_s": "0.5", "min_active_db": "-50", "classes": "{a: [a], b: [b]}"}
    main(["--data", str(path), *(f"--data.corpus.init_args.{key}={value}" for key, value in corpus.items())])
    told = capsys.readouterr().out
    assert "- 1 clip to which `classes` gives no class\n" in told
    assert "- 4 windows below -50 dB (`min_active_db`)\n- 1 clip, all of whose windows are that quiet\n" in told
    assert "Nothing: every clip" not in told


@pytest.mark.slow
def test_recordings_of_which_clips_are_a_part_are_said_to_be_measured_whole(manifest, tmp_path, capsys):
    path = manifest([(cry(number, 4.0), "ab"[number % 2], f"i{number}") for number in range(4)])
    main(["--data", str(path), "--out", str(tmp_path / "whole")])
    assert "whole recordings, and the clips" not in capsys.readouterr().out
    header, *rows = path.read_text().split()
    cut = [f"{row},{start_s},1.5" for row in rows for start_s in (0.5, 1.0)]  # together from 0.5 to 2.5 s
    path.write_text("\n".join([f"{header},start_s,duration_s", *cut]))
    whole_clips = [f"--data.corpus.init_args.{name}=null" for name in ("window_s", "hop_s", "min_active_db")]
    main(["--data", str(path), "--out", str(tmp_path / "cut"), *whole_clips])
    told = " ".join(capsys.readouterr().out.split())
    assert "All this is of whole recordings, and the clips are 50.0% of their 0.3 min" in told


def test_a_data_yaml_gives_front_end_and_split(tones, tmp_path, capsys, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data.yaml"
    data.write_text(
        f"corpus: {{class_path: cry_lightning.corpora.Manifest, init_args: {{root: {tones}, name: tones}}}}\n"
        "feature: {class_path: cry_lightning.features.MFCC}\nsplit: {val: 0.2, test: 0.45}\n"
    )
    main(["--data", str(data), "--by", "site", "--out", str(tmp_path / "out"), "--data.split.seed=3"])
    told = capsys.readouterr().out
    assert "holdout by subject (val 0.2, test 0.45)" in told and "front end is MFCC" in told
    assert "Every class has 5 test subjects or more" in told and "site0" in told
    assert pd.read_csv(tmp_path / "out/split.csv").query("part == 'test'")["subjects"].min() >= 5
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_recordings_are_divided_as_make_divides_them(tones):
    own = yaml.safe_load((Path(__file__).parents[1] / "configs/data/own.yaml").read_text())["split"]
    split = open_data(str(tones)).split
    assert {key: getattr(split, key) for key in own} == own


def test_the_subjects_that_a_pattern_found_are_shown_with_their_recordings(tmp_path, capsys, undrawn):
    for baby in range(1, 7):
        for take in range(baby):
            write(tmp_path / f"ward/{('pain', 'gas')[take % 2]}/baby{baby}_{take}.wav", tone())
    pattern = "--data.corpus.init_args.subject_pattern={}"
    main(["--data", str(tmp_path / "ward"), "--out", str(tmp_path / "out"), pattern.format("(baby[0-9])")])
    told = " ".join(capsys.readouterr().out.split())
    assert "6 subjects were found in the paths of recordings" in told and "a slash" not in told
    assert "'baby1' 1, 'baby2' 2, 'baby3' 3, 'baby5' 5, 'baby6' 6." in told
    main(["--data", str(tmp_path / "ward"), "--out", str(tmp_path / "out"), pattern.format("(.*baby[0-9])")])
    assert "11 of these hold a slash, such as 'gas/baby2'" in " ".join(capsys.readouterr().out.split())


def test_columns_that_a_table_lacks_are_told_with_those_that_it_has(tmp_path, capsys, undrawn):
    for number in range(4):
        write(tmp_path / f"{number}.wav", tone())
    (tmp_path / "list.csv").write_text("path,Grund,Kind\n" + "".join(f"{n}.wav,pain,{n}\n" for n in range(4)))
    main(["--data", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out")])
    told = " ".join(capsys.readouterr().out.split())
    for column, clips in (("label", "unlabelled"), ("subject", "of no known subject")):
        has = "its columns are path, Grund, Kind. Rename the one that is meant."
        assert f"The table has no column `{column}`, so that all clips are {clips}; {has}" in told
    (tmp_path / "list.csv").write_text("path,label,subject\n" + "".join(f"{n}.wav,,{n}\n" for n in range(4)))
    main(["--data", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out")])
    assert "has no column" not in capsys.readouterr().out


def test_it_is_told_what_make_cuts_whole_recordings_into(manifest, capsys, undrawn):
    path = manifest([(tone(seconds=2.5), "ab"[n % 2], f"s{n}") for n in range(8)])
    (path.parent / "text.wav").write_text("no sound")
    path.write_text(f"{path.read_text().rstrip()}\ntext.wav,a,s9\n")  # which has no windows
    main(["--data", str(path)])
    told = " ".join(capsys.readouterr().out.split())
    assert "cuts them into windows of 1 s, by configs/data/own.yaml: 16 clips, less the windows below -50 dB" in told
    main(["--data", str(path), "--data.corpus.init_args.window_s=0.5"])
    assert "Clips are whole here" not in capsys.readouterr().out


def test_a_sample_is_said_to_be_one(tones, tmp_path, capsys, undrawn):
    main(["--data", str(tones), "--sample", "10", "--out", str(tmp_path)])
    told = " ".join(capsys.readouterr().out.split())
    assert "those of 10 recordings, drawn with the seed 0" in told and "86 recordings were not decoded" in told
    assert pd.read_csv(tmp_path / "classes.csv").set_index("class").loc["(all)", "minutes"] == pytest.approx(0.8)


def test_a_sample_that_draws_no_sound_is_no_accident(tmp_path, capsys):
    for number in range(30):
        write(tmp_path / f"many/{number}.wav", np.zeros(RATE) if number < 29 else tone())
    main(["--data", str(tmp_path / "many"), "--sample", "1", "--out", str(tmp_path / "out")])
    assert "0 of 0 recordings have samples at full scale" in capsys.readouterr().out
    assert not (tmp_path / "out/clips.png").exists()


@pytest.mark.slow
def test_unlabelled_recordings_can_be_described(tmp_path, capsys):
    for number in range(3):
        write(tmp_path / f"noise/{number}.wav", tone(pitch=300 + number))
    main(["--data", str(tmp_path / "noise"), "--out", str(tmp_path / "out")])
    told = capsys.readouterr().out
    assert (
        "No clip has a label (of a manifest, the column `label`)" in told
        and "Each recording has a subject of its own" in told
    )


@pytest.mark.slow
def test_a_split_that_cannot_be_made_is_told_with_its_reason(manifest, capsys, tmp_path):
    path = manifest([(tone(pitch=300 + n), "ab"[n > 5], f"s{n // 2}") for n in range(8)])
    main(["--data", str(path), "--out", str(tmp_path / "out")])
    told = " ".join(capsys.readouterr().out.split())
    assert "impossible; split: a division into train, val, test needs at least 3 subjects" in told
    assert "Cross-validation by subject, leave-one-subject-out included, is impossible" in told


@pytest.fixture
def bad(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "good/1.wav", tone())
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/notes.txt").write_text("no sound")
    (tmp_path / "fakes").mkdir()
    (tmp_path / "fakes/1.wav").write_text("no sound")
    (tmp_path / "file").touch()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "empty"], "empty: no recordings found"),
        (["--data", "texts"], "texts: no recordings found"),
        (["--data", "fakes"], r"fakes: no clip can be used; the first, 1\.wav: cannot be decoded"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--data", "good", "--by", "sex"], "--by sex: no such column; the corpus has none"),
        (["--data", "good", "--out", "file"], "--out: file is a file"),
        (["--data", "good", "--out", "file/deep"], "--out: file is a file"),
        (["--data", "good", "--sample", "0"], "--sample: 0: 1 or more recordings are needed"),
        (["--data", "good", "--fold", "3"], "fold"),
        (["--data", "good", "--data.split.val=1.5"], r"^split: val 1\.5 and test 0\.3 must not be negative and sum"),
        ([], "--data"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(bad, args, message, tmp_path):
    with pytest.raises(UserError, match=message) as told:
        main(args)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "runs").exists()


def test_a_wrong_column_is_told_before_anything_is_decoded(tones, monkeypatch):
    monkeypatch.setattr(summary, "survey", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"--by height: no such column; the columns are site"):
        main(["--data", str(tones), "--by", "height"])


@pytest.mark.slow
@real("")
@pytest.mark.parametrize(
    ("folder", "clips", "left_out"),
    [("donateacry", 366, 0), ("noise", 60, 0), ("fsdd", 3000, 0), ("donateacry_raw", 911, 2)],
)
def test_real_recordings(folder, clips, left_out, tmp_path):
    main(["--data", str(DATA / folder), "--out", str(tmp_path)])
    counted = pd.read_csv(tmp_path / "classes.csv").set_index("class")
    assert counted.loc["(all)", "clips"] == clips
    assert len(pd.read_csv(tmp_path / "left_out.csv")) == left_out
