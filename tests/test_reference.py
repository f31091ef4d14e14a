"""What `test` leaves for `predict`: calibration, thresholds and novelty; and what `predict` makes of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from made import RATE, cry, stage_config
from scipy.special import expit, logit, softmax
from torch import nn

from cry_lightning import annotations, audio, load as load_predictor
from cry_lightning.__main__ import DONE_IN_PART, main, run as command
from cry_lightning.annotations import Interval
from cry_lightning.cli import stage as cli
from cry_lightning.cli.runfolder import RunFolder
from cry_lightning.console import UserError
from cry_lightning.evaluation.calibration import platt
from cry_lightning.export.check import decision_of
from cry_lightning.files import sha256
from cry_lightning.inference import output, predict, reference
from cry_lightning.inference.decisions import UNLIKE, UNSURE, Decisions, add_decisions, limit_of
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.novelty import Layer, Layers, layers_of
from cry_lightning.inference.output import label_of
from cry_lightning.inference.reference import FILE, beside
from cry_lightning.inference.windows import NO_UNIT, by_thresholds

NEW = ["calibrated_high", "calibrated_low", "novelty", "decision", "abstained"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What is left behind would be seen."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture(scope="session")
def inbox(tones, tmp_path_factory):
    """Two tones like those of the training, white noise, and a file that is no sound."""
    folder = tmp_path_factory.mktemp("inbox")
    for name in ("low_00_0", "high_01_1"):
        sound, _ = soundfile.read(tones.parent / f"{name}.wav", dtype="float32")
        soundfile.write(folder / f"{name}.wav", sound, RATE)
    soundfile.write(folder / "noise.wav", np.random.default_rng(0).standard_normal(2 * RATE) / 20, RATE)
    (folder / "broken.wav").write_bytes(b"RIFF no sound")
    return folder


def test_limit_keeps_nineteen_of_twenty_subjects_and_each_counts_once():
    subjects = np.arange(39).astype(str)
    assert limit_of(np.arange(39.0), subjects) == 37  # the 38th of 39: 38/40 = 0.95
    assert limit_of(np.arange(19.0), subjects[:19]) == 18
    assert limit_of(np.arange(18.0), subjects[:18]) == 17 and limit_of(np.arange(40.0), np.repeat(["a", "b"], 20)) == 37
    many = np.concatenate([np.arange(39.0), np.full(500, 0.5)])
    assert limit_of(many, np.concatenate([subjects, np.full(500, "0")])) == 37


def test_limit_holds_for_new_subjects():
    """Of 30 validation subjects each, 5 % of new subjects' clips at most are beyond it on average."""
    rng = np.random.default_rng(0)
    beyond = []
    for _ in range(400):
        effects = rng.normal(0, 1, (31, 1)) + rng.normal(0, 0.5, (31, 6))
        limit = limit_of(effects[:30].ravel(), np.repeat(np.arange(30), 6))
        beyond.append((effects[30] > limit).mean())
    assert 0.015 < np.mean(beyond) < 0.05 + 2 * np.std(beyond) / 20


def test_two_classes_are_calibrated_as_the_clinical_report_does_and_decided_by_its_thresholds():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 300)
    score = expit(3 * rng.normal(truth - 0.5, 1.0))  # far too sure
    scores = np.stack([1 - score, score], 1)
    found = Decisions.of(scores, truth, np.ones(300), np.arange(300).astype(str))
    intercept, slope = platt(score, truth == 1)
    calibrated = found.calibrated(scores)
    assert calibrated[:, 1] == pytest.approx(expit(intercept + slope * logit(score)), abs=1e-4)
    for index in (0, 1):
        assert (calibrated[truth == index, index] >= found.thresholds[index]).mean() == pytest.approx(0.9, abs=0.01)
    decided = found.decided(calibrated)
    above, below = calibrated[:, 1] >= found.thresholds[1], calibrated[:, 0] >= found.thresholds[0]
    assert set(decided) == {-1, 0, 1} and ((decided == 1) == (above & ~below)).all()
    assert (decided[decided >= 0] == truth[decided >= 0]).mean() > (calibrated.argmax(1) == truth).mean()


def test_three_classes_are_calibrated_by_a_temperature():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    logits = rng.normal(0, 1, (600, 3)) + 1.5 * np.eye(3)[truth]
    scores = np.exp(4 * logits) / np.exp(4 * logits).sum(1, keepdims=True)
    found = Decisions.of(scores, truth, np.ones(600), np.arange(600).astype(str))
    calibrated = found.calibrated(scores)
    assert calibrated.sum(1) == pytest.approx(1) and (calibrated.argmax(1) == scores.argmax(1)).all()
    sure, right = calibrated.max(1), calibrated.argmax(1) == truth
    assert abs(sure.mean() - right.mean()) < 0.03 < scores.max(1).mean() - right.mean()


def test_few_subjects_do_not_make_scores_of_three_classes_far_too_sure():
    """Of four subjects of each, all are told apart; 9 clips of each say no more. By log-loss alone, they have 0.994."""
    scores, truth = np.full((12, 3), 0.3) + 0.1 * np.eye(3)[np.arange(12) % 3], np.arange(12) % 3
    by_clip = Decisions.of(scores, truth, np.ones(12), np.arange(12).astype(str))
    by_subject = Decisions.of(np.repeat(scores, 9, 0), np.repeat(truth, 9), np.ones(108), np.arange(108) // 9)
    assert 0.8 < by_clip.calibrated(scores).max() < 0.95 and by_subject.slope == pytest.approx(by_clip.slope, rel=1e-3)


def test_decisions_are_withheld_from_what_is_unlike_the_training_and_where_classes_cannot_be_told_apart():
    decisions = Decisions(1.0, 0.0, (0.4, 0.4), limit=2.0)
    table = pd.DataFrame({"score_a": [0.9, 0.5, 0.9], "score_b": [0.1, 0.5, 0.1], "novelty": [1.0, 1.0, 3.0]})
    found = add_decisions(table, decisions, ["a", "b"])
    assert found["decision"].tolist() == ["a", "", ""] and found["abstained"].tolist() == ["", UNSURE, UNLIKE]
    assert found["novelty"].tolist() == [0.5, 0.5, 1.5]
    one_class = Decisions.of(np.full((4, 2), 0.5), np.zeros(4, int), np.ones(4), np.array(list("abcd")))
    found = add_decisions(table, one_class, ["a", "b"])
    assert found["calibrated_a"].isna().all() and set(found["decision"]) == {""}
    assert found["abstained"].tolist() == ["", "", UNLIKE]


def made_scores(truth: np.ndarray, n_classes: int, strength: float = 1.5) -> np.ndarray:
    """Scores (n, K) that tell the truth so well; of a negative strength, they tell what is not true."""
    logits = np.random.default_rng(0).normal(0, 1, (len(truth), n_classes)) + strength * np.eye(n_classes)[truth]
    return softmax(logits, axis=1)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(("strength", "n", "reason"), [(-1.5, 30, "the wrong way"), (1.5, 2, "here 2 of a, 2 of b")])
def test_what_misleads_calibrates_and_decides_nothing(n_classes, strength, n, reason):
    """Scores that are turned around, or of two subjects of a class."""
    truth = np.repeat(np.arange(n_classes), 60)
    subjects = np.array([f"{label}{place % n}" for place, label in enumerate(truth)])
    found = Decisions.of(made_scores(truth, n_classes, strength), truth, np.ones(len(truth)), subjects)
    names = list("abc")[:n_classes]
    assert np.isnan(found.slope) and reason in found.remark(names)
    table = pd.DataFrame(made_scores(truth, n_classes), columns=[f"score_{name}" for name in names]).assign(novelty=0.5)
    table = add_decisions(table, found, names)
    assert table["calibrated_a"].isna().all() and set(table["decision"]) == {""} and (table["novelty"] == 0.5).all()


def test_a_class_of_too_few_subjects_is_never_decided():
    truth = np.repeat([0, 1, 2], [90, 90, 10])
    subjects = np.array([f"{label}{place % (2 if label == 2 else 30)}" for place, label in enumerate(truth)])
    scores = made_scores(truth, 3)
    found = Decisions.of(scores, truth, np.ones(len(truth)), subjects)
    assert found.subjects == (30, 30, 2) and found.thresholds[2] > 1 > max(found.thresholds[:2])
    assert set(found.decided(found.calibrated(scores))) == {-1, 0, 1} and "never decided" in found.remark(list("abc"))
    whole = Decisions.of(scores, truth, np.ones(len(truth)), np.arange(len(truth)).astype(str))
    assert whole.thresholds[2] < 1 and not whole.remark(list("abc"))


@pytest.fixture
def turned(tested, tmp_path):
    """best.ckpt beside a reference of an older release, which would turn its scores around."""
    run = Path(shutil.copytree(tested.parent, tmp_path / "turned"))
    content = torch.load(run / FILE, weights_only=True)
    for level in content["levels"].values():
        level.pop("subjects")
        level["slope"] = -39.8
    torch.save(content, run / FILE)
    return run / "best.ckpt"


def test_older_references_that_turn_scores_around_are_no_calibration(turned, inbox, caplog):
    out = command(
        "predict", [str(inbox / "noise.wav"), str(inbox / "low_00_0.wav"), "--ckpt", str(turned), "--out", "a.csv"]
    )
    assert out[["calibrated_high", "calibrated_low"]].isna().all(axis=None) and set(out["decision"]) == {""}
    assert out["novelty"].notna().all() and set(out["abstained"]) == {UNLIKE}
    assert caplog.text.count("scores are not calibrated, and nothing is decided") == 1
    assert decision_of(TrainedStage(turned)) is None


def test_what_is_not_decided_is_no_label():
    row = {"predicted": "low", "decision": "", "abstained": "", "novelty": np.nan}
    assert label_of(row) == "low"  # of a model without a reference
    assert label_of(row | {"novelty": 0.5}) == "(low?)"
    assert label_of(row | {"novelty": 0.5, "abstained": "unsure"}) == "(unsure)"
    assert label_of(row | {"novelty": 0.5, "decision": "high"}) == "high"


@pytest.mark.slow
def test_a_folder_of_a_model_without_calibration_predicts_the_same(turned, inbox):
    command("export", ["--ckpt", str(turned), "--format", "hub", "--out", "folder"])
    tables = [load_predictor(path)(inbox / "low_00_0.wav") for path in (turned, "folder")]
    pd.testing.assert_frame_equal(*tables)


def test_a_test_tells_what_its_thresholds_cannot_promise(tested, caplog):
    found = beside(tested, ["high", "low"])
    assert found.levels["clip"].subjects == (3, 3) and not found.remarks and not caplog.text
    assert found.doubts == [
        "all that is chosen rests on few validation subjects (3 of high, 3 of low; a larger data.split.val has more);"
        " below 9, calibrated probabilities may be far off, and thresholds cannot promise 90 % of other subjects' cases"
    ]


def test_predict_repeats_what_thresholds_cannot_promise(tested, inbox, tmp_path, capsys):
    command("predict", [str(inbox / "low_00_0.wav"), "--ckpt", str(tested), "--out", str(tmp_path / "of_few.csv")])
    assert "\nall that is chosen rests on few validation subjects (3 of high, 3 of low;" in capsys.readouterr().out


def test_distance_is_that_of_mahalanobis_where_all_directions_are_kept():
    torch.manual_seed(0)
    numbers = torch.randn(400, 5) @ torch.randn(5, 5)
    layer, others = Layer.of(numbers, numbers), 3 * torch.randn(50, 5)
    centred = others - numbers.mean(0)
    inverse = torch.linalg.inv(torch.cov(numbers.T, correction=0))
    expected = (centred @ inverse * centred).sum(1).sqrt()
    ratio = layer.distance(others) / expected
    assert ratio.std() / ratio.mean() < 0.01 and layer.distance(numbers).median() == pytest.approx(1)


def test_layers_go_from_the_input_to_the_embedding_and_leave_no_hook():
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    features = torch.randn(6, 1, 8, 20)
    names = layers_of(encoder, lambda: encoder(features), 6)
    assert names == ["0", "1"]  # a pooled channel is no map
    with Layers(encoder, names) as layers:
        embeddings = encoder(features)
        taken = layers.taken()
    assert [tuple(one.shape) for one in taken] == [(6, 16), (6, 8), (6, 8), (6, 4)]
    assert torch.equal(taken[-1], embeddings)
    deviations, means = torch.std_mean(encoder[:2](features), (2, 3), correction=0)
    assert torch.allclose(taken[2], torch.cat([means, deviations], 1), atol=1e-5)
    assert not any(module._forward_hooks for module in encoder.modules())


def test_a_test_writes_the_reference_of_its_checkpoint(tested, tones, caplog):
    found = beside(tested, ["high", "low"])
    assert found.checkpoint == sha256(tested) and found.n_subjects == 3
    table = load_predictor(tested)(tones.parent / "high_01_1.wav")
    assert list(table.columns[-5:]) == NEW and table[NEW[:3]].notna().all(axis=None)
    assert table["calibrated_high"][0] + table["calibrated_low"][0] == pytest.approx(1)
    written = pd.read_csv(tested.with_name("predictions.csv"))
    validation = written[written["split"] == "val"]
    truth = (validation["label"] == "low").to_numpy()
    assert found.levels["clip"].intercept == pytest.approx(platt(validation["score_low"], truth)[0], abs=1e-3)
    assert beside(tested, ["low", "high"]) is None and "of another checkpoint" in caplog.text


def test_without_a_reference_its_columns_are_empty_and_the_remark_says_what_writes_it(pretrained, tones, caplog):
    table = command("predict", [str(tones.parent / "high_01_1.wav"), "--ckpt", str(pretrained), "--out", "out.csv"])
    assert table[NEW[:3]].isna().all(axis=None) and set(table["decision"]) == set(table["abstained"]) == {""}
    assert table["score_high"].notna().all() and "`test` of its run writes it" in caplog.text
    pretrained.with_name(FILE).write_bytes(b"damaged")
    with pytest.raises(UserError, match=rf"{FILE}: text, and not a reference"):
        load_predictor(pretrained)(tones.parent / "high_01_1.wav")
    torch.save({"schema": 1, "classes": []}, pretrained.with_name(FILE))
    with pytest.raises(UserError, match=rf"{FILE}: damaged \(KeyError: .*test its run again"):
        load_predictor(pretrained)(tones.parent / "high_01_1.wav")


def test_a_reference_of_before_another_fit_is_of_no_use(tested, pretrained, tones, caplog):
    pretrained.with_name(FILE).write_bytes(tested.with_name(FILE).read_bytes())
    assert load_predictor(pretrained)(tones.parent / "low_00_0.wav")["novelty"].notna().all()
    checkpoint = torch.load(pretrained, weights_only=True)
    torch.save(checkpoint | {"epoch": 17}, pretrained)
    table = load_predictor(pretrained)(tones.parent / "low_00_0.wav")
    assert table["novelty"].isna().all() and "of another checkpoint" in caplog.text
    RunFolder(pretrained.parent).begin("", overwrite=True)
    assert not pretrained.with_name(FILE).exists()


def test_noise_is_called_unlike_tones_and_the_rest_is_written_beside_a_broken_file(tested, inbox, capsys, caplog):
    arguments = ["predict", str(inbox), "--ckpt", str(tested), "--out", "out.json"]
    assert main(arguments) == DONE_IN_PART
    rows, means = (pd.DataFrame(json.loads(Path(name).read_text())) for name in ("out.json", "out_recordings.json"))
    assert list(means["path"].str.rpartition("/")[2]) == ["broken.wav", "high_01_1.wav", "low_00_0.wav", "noise.wav"]
    assert means["fault"].astype(bool).tolist() == [True, False, False, False]
    assert means["windows"].tolist() == [0, 1, 1, 5] and means["abstained"].tolist()[3] == UNLIKE
    of_noise = rows[rows["path"].str.endswith("noise.wav")]
    assert (of_noise["novelty"] > 1).all() and set(of_noise["abstained"]) == {UNLIKE}
    assert rows["novelty"][rows["path"].str.endswith("low_00_0.wav")].max() < of_noise["novelty"].min()
    assert pd.isna(means["novelty"][0]) and "left out:" in caplog.text
    assert "(unlike the training)" in capsys.readouterr().out
    assert main([*arguments[:1], str(inbox / "noise.wav"), *arguments[2:-1], "good.csv"]) == 0


@pytest.fixture
def bouts(tmp_path):
    """Two cries of half a second, with silence around them."""
    silence = 0.0005 * np.random.default_rng(1).standard_normal(RATE)
    bout = np.concatenate([silence, 2 * cry(1, 0.5), silence, 2 * cry(1, 0.5), silence])
    soundfile.write(tmp_path / "bouts.wav", bout.astype(np.float32), RATE)
    return tmp_path / "bouts.wav"


def test_units_are_found_first_and_are_rows(tested, bouts):
    found = by_thresholds(bouts)
    table = command("predict", [str(bouts), "--ckpt", str(tested), "--detect", "--out", "out.TextGrid"])
    assert len(found) >= 1 and table["start_s"].tolist() == pytest.approx([begin for begin, _ in found])
    assert table["duration_s"].tolist() == pytest.approx([end - begin for begin, end in found])
    assert not table.attrs["failed"]
    intervals = annotations.read("out.TextGrid")
    assert [one.start_s for one in intervals] == pytest.approx(table["start_s"].tolist(), abs=1e-5)
    assert pd.read_csv("out.TextGrid_recordings.csv")["units"].tolist() == [len(found)]
    whole = load_predictor(tested)(bouts, detect=True)
    pd.testing.assert_frame_equal(whole.drop(columns="path"), table.drop(columns="path"))


def test_a_unit_has_the_mean_of_its_windows(tested, monkeypatch, tmp_path):
    sound = np.concatenate([cry(1, 0.9), cry(2, 0.9)])
    soundfile.write(tmp_path / "long.wav", sound, RATE, subtype="FLOAT")
    monkeypatch.setattr(predict, "by_thresholds", lambda path: [(0.1, 1.3), (1.4, 1.6)])
    windows = load_predictor(tested)(sound[round(0.1 * RATE) : round(1.3 * RATE)])
    table = command("predict", [str(tmp_path / "long.wav"), "--ckpt", str(tested), "--detect", "--out", "out.csv"])
    assert len(windows) == 3 and table["start_s"].tolist() == [0.1, 1.4]
    assert table["score_low"][0] == pytest.approx(windows["score_low"].mean(), abs=1e-5)


def test_recordings_without_a_cry_are_no_failure(tested, tmp_path):
    soundfile.write(tmp_path / "hum.wav", 0.001 * np.random.default_rng(0).standard_normal(2 * RATE), RATE)
    arguments = ["predict", str(tmp_path / "hum.wav"), "--ckpt", str(tested), "--detect", "--out"]
    assert main([*arguments, "out.csv"]) == main([*arguments, "out.TextGrid"]) == 0
    assert annotations.read("out.TextGrid") == []
    assert pd.read_csv("out_recordings.csv")["fault"].tolist() == [NO_UNIT]
    assert "novelty" in pd.read_csv("out.csv").columns and pd.read_csv("out.csv").empty


def test_each_recording_has_a_file_of_intervals_of_its_own_name(tested, inbox):
    for form in (".TextGrid", ".txt", ".selections.txt"):
        assert main(["predict", str(inbox), "--ckpt", str(tested), "--out", f"labels{form[:4]}/all{form}"]) == 3
        folder = output.folder_of(Path(f"labels{form[:4]}/all{form}"))
        assert sorted(path.name for path in folder.iterdir()) == [
            f"{name}{form}" for name in ("high_01_1", "low_00_0", "noise")
        ]
        assert annotations.read(folder / f"noise{form}") == [Interval(0.0, 2.0, f"({UNLIKE})")]


def test_a_recording_that_has_gone_since_keeps_its_intervals(tested, inbox, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(inbox, tmp_path / "stick"))
    original = output.write

    def write(*args):
        shutil.rmtree(folder)
        original(*args)

    monkeypatch.setattr(output, "write", write)
    assert main(["predict", str(folder), "--ckpt", str(tested), "--out", "all.TextGrid"]) == DONE_IN_PART
    assert annotations.read("all/noise.TextGrid") == [Interval(0.0, 2.0, f"({UNLIKE})")]


def test_a_file_of_intervals_that_cannot_be_written_takes_no_other_with_it(tested, tones, tmp_path, capsys):
    sound = (tones.parent / "low_00_0.wav").read_bytes()
    for name in (f"{'a' * 245}.wav", "b.wav"):
        (tmp_path / name).write_bytes(sound)
    assert main(["predict", str(tmp_path), "--ckpt", str(tested), "--out", "all.TextGrid"]) == 2
    assert "cannot be written (File name too long)" in capsys.readouterr().err
    assert [path.name for path in Path("all").iterdir()] == ["b.TextGrid"]


def test_what_python_cannot_mean_is_told(tested, inbox):
    model, sound = load_predictor(tested), cry(1)
    for given, told in [
        (([],), "no recording was named"),
        (("",), "'': no such file or folder"),
        (((32768 * sound).astype(np.int16),), "between -1 and 1, not int16"),
        ((sound, 0), "sample_rate 0: is a whole number of Hz"),
        ((sound, -1), "sample_rate -1"),
        ((sound, 44100.5), "sample_rate 44100.5"),
    ]:
        for function in (model, model.embed):
            with pytest.raises(UserError, match=told):
                function(*given)
    with pytest.raises(UserError, match="hop_ms 0"):
        model.get_timestamp_embeddings(sound, 0.0)
    assert model(sound, float(RATE)).equals(model(sound))
    assert list(model.embed(inbox).attrs["failed"]) == [str(inbox / "broken.wav")]


def test_windows_that_overlap_meet_in_the_middle_and_equal_neighbours_are_one():
    rows = pd.DataFrame({"start_s": [0.0, 2.0, 4.0], "duration_s": 3.0, "predicted": ["a", "a", "b"]})
    rows = rows.assign(decision="", abstained="", novelty=np.nan)
    assert list(output.intervals(rows, joined=True)) == [Interval(0.0, 4.5, "a"), Interval(4.5, 7.0, "b")]
    assert [one.end_s for one in output.intervals(rows, joined=False)] == [2.5, 4.5, 7.0]
    (one,) = output.intervals(rows[:1].assign(decision="belly  pain\udce9"), joined=True)
    assert one.label == "belly pain\\udce9"  # as a file of intervals takes it


def test_forms_that_cannot_be_written_are_refused_before_the_work(tested, inbox, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "find_spec", lambda name: None)
    for out, told in [
        ("out.parquet", r"Parquet needs the package pyarrow; pip install pyarrow, or name a \.csv"),
        ("out.xls", r"--out out\.xls: name a file that ends in \.csv, \.json, \.parquet, \.TextGrid"),
    ]:
        with pytest.raises(UserError, match=told):
            command("predict", [str(inbox), "--ckpt", str(tested), "--out", out])


def test_recordings_of_one_name_and_forms_of_one_name_have_files_of_their_own(tested, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name in ("a.wav", "a.flac", "b.wav"):
        soundfile.write(Path("in", name), cry(1), RATE)
    for form in ("csv", "json", "txt", "TextGrid"):
        command("predict", ["in", "--ckpt", str(tested), "--out", f"out.{form}"])
    found = sorted(path.name for path in Path("out").iterdir())
    assert found == [f"{name}.{form}" for name in ("a.flac", "a.wav", "b.wav") for form in ("TextGrid", "txt")]
    tables = {path.name for path in Path().glob("out*_recordings.*")}
    assert tables == {f"out{of}" for of in ("_recordings.csv", "_recordings.json")} | {
        f"out.{form}_recordings.csv" for form in ("txt", "TextGrid")
    }


def test_chunks_of_windows_are_decoded_once(tested, tmp_path, monkeypatch):
    """A long recording goes on in the next chunk where it is, and nothing changes."""
    soundfile.write(tmp_path / "long.wav", np.tile(cry(3, 2.0), 4), RATE)
    model = load_predictor(tested)
    whole = model(tmp_path / "long.wav")
    monkeypatch.setattr("cry_lightning.inference.windows.CHUNK", 7)
    opened = []
    original = audio.Recording.__init__
    monkeypatch.setattr(audio.Recording, "__init__", lambda self, path: (opened.append(path), original(self, path))[1])
    pd.testing.assert_frame_equal(model(tmp_path / "long.wav"), whole, rtol=1e-5)
    assert len(whole) == 20 and len(opened) == 1


@pytest.mark.slow
def test_memory_is_the_same_for_two_hours_as_for_ten_minutes(tested, tmp_path):
    """Peak memory of a process of its own: 29 times more sound takes a few MB for its rows, not the 230 MB it holds."""
    minute = np.random.default_rng(0).integers(-3000, 3000, 60 * RATE, np.int16)
    peaks = {}
    for minutes in (10, 120):
        with soundfile.SoundFile(tmp_path / f"{minutes}.wav", "w", RATE, 1) as file:
            for _ in range(minutes):
                file.write(minute)
        arguments = [str(tmp_path / f"{minutes}.wav"), "--ckpt", str(tested), "--out", str(tmp_path / f"{minutes}.csv")]
        process = subprocess.Popen([sys.executable, "-m", "cry_lightning", "predict", *arguments])
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        peaks[minutes] = usage.ru_maxrss / 1024
    assert len(pd.read_csv(tmp_path / "120.csv")) == 18000
    assert peaks[120] < peaks[10] + 40


def test_an_export_states_what_predict_decides_by(tested, inbox):
    stated = decision_of(TrainedStage(tested))
    rows = command("predict", [str(inbox / "low_00_0.wav"), "--ckpt", str(tested), "--out", "one.csv"])
    assert list(stated["thresholds"]) == ["high", "low"] and stated["subjects"] == 3
    scores = rows[["score_high", "score_low"]].to_numpy(float)
    calibrated = softmax(stated["slope"] * np.log(scores) + [0, stated["intercept"]], axis=1)
    assert calibrated == pytest.approx(rows[["calibrated_high", "calibrated_low"]].to_numpy(), abs=1e-6)


def test_recordings_of_several_labels_each_decide_nothing():
    table = pd.DataFrame({"recording": ["a", "a"], "subject": "s", "label": ["x", "y"], "repeat": 0, "fold": 0})
    table = table.assign(clip=["a#0", "a#1"], novelty=1.0, score_x=[0.9, 0.2], score_y=[0.1, 0.8])
    assert reference._decisions(table, "recording", ["x", "y"]) is None
    assert reference._decisions(table, "clip", ["x", "y"]) is not None


def test_a_broken_file_beside_recordings_without_a_cry_is_one_failure_and_has_no_intervals(tested, inbox):
    silence = Path("silence.wav")
    soundfile.write(silence, np.random.default_rng(0).standard_normal(2 * RATE) / 3000, RATE)
    arguments = [str(inbox / "broken.wav"), str(silence), "--ckpt", str(tested), "--detect"]
    found = command("predict", [*arguments, "--out", "found.TextGrid"])
    assert list(found.attrs["failed"]) == [str(inbox / "broken.wav")]
    assert [path.name for path in Path("found").rglob("*.TextGrid")] == ["silence.TextGrid"]


def test_paths_through_a_parent_folder_have_intervals_of_their_names(tested, inbox):
    os.chdir(inbox.parent)
    paths = [f"{inbox.name}/../{inbox.name}/{name}.wav" for name in ("low_00_0", "high_01_1")]
    out = Path.cwd() / "named"
    command("predict", [*paths, "--ckpt", str(tested), "--out", f"{out}/all.TextGrid"])
    assert sorted(path.name for path in out.rglob("*.TextGrid")) == ["high_01_1.TextGrid", "low_00_0.TextGrid"]


@pytest.mark.slow
def test_a_corpus_that_has_grown_leaves_the_reference_of_the_fit(tones, tmp_path, caplog):
    corpus = Path(shutil.copytree(tones.parent, tmp_path / "grown"))
    path = tmp_path / "stage.yaml"
    path.write_text(yaml.safe_dump(stage_config(corpus / "manifest.csv", tmp_path, "stage")))
    cli.main(["fit", "--config", str(path)])
    run = next((tmp_path / "runs").rglob("best.ckpt")).parent
    cli.main(["test", "--config", str(run / "config.yaml")])
    before = (run / FILE).read_bytes()
    lines = [line for line in (corpus / "manifest.csv").read_text().splitlines() if "baby0" in line]
    for number, line in enumerate(lines):
        name, rest = line.split(",", 1)
        sound, _ = soundfile.read(corpus / name)
        soundfile.write(corpus / f"new{number}.wav", sound[::-1] / 2, RATE)
        with (corpus / "manifest.csv").open("a") as manifest:
            manifest.write(f"new{number}.wav,{rest.replace('baby0', 'baby9')}\n")
    cli.main(["test", "--config", str(run / "config.yaml")])
    assert (run / FILE).read_bytes() == before
    assert "the corpus has changed since the fit" in caplog.text
