"""Finding events: the corpus of intervals, the stage that learns from it, and its use on recordings of any length."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from made import DATA, REPO, real

from cry_lightning import annotations, load as load_predictor
from cry_lightning.__main__ import run as command
from cry_lightning.annotations import Interval
from cry_lightning.annotations.spans import COLUMN, Hysteresis, choose, frames, marked_in, score
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.corpora import Clip, Intervals, UnlabelledTree
from cry_lightning.encoders import EfficientAT, Res8
from cry_lightning.inference.windows import Finder
from cry_lightning.serving.service import Service
from cry_lightning.tasks import Detector
from cry_lightning.tasks.optimisation import Optimisation

MN04 = DATA / ".." / "weights" / "efficientat" / "mn04_as_mAP_432.pt"
RATE = 32000
N_RECORDINGS, LENGTH_S = 10, 1.9


def sound_of(spans, length_s, seed):
    """Quiet noise with harmonics where the spans are."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(length_s * RATE)) / RATE
    pitch = 400 + 20 * (seed % 6)
    voice = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 6))
    inside = sum(((time >= begin) & (time < end)).astype(float) for begin, end in spans) + 0 * time
    return (0.2 * inside * voice + 0.003 * rng.standard_normal(time.size)).astype(np.float32)


def spans_for(seed):
    begin = np.random.default_rng(seed).uniform(0.1, 0.5)
    return [(round(begin, 3), round(begin + 0.4, 3)), (round(begin + 0.8, 3), round(begin + 1.3, 3))]


@pytest.fixture(scope="session")
def marked(tmp_path_factory):
    """Recordings with two synthetic cries each, and TextGrids of them."""
    folder = tmp_path_factory.mktemp("marked")
    for seed in range(N_RECORDINGS):
        (folder / "wav").mkdir(exist_ok=True)
        soundfile.write(folder / "wav" / f"{seed:02}.wav", sound_of(spans_for(seed), LENGTH_S, seed), RATE)
        cries = [Interval(*span, "cry") for span in spans_for(seed)]
        rest = Interval(0.0, cries[0].start_s, "-")
        annotations.write([rest, *cries], folder / "segments" / f"{seed:02}.TextGrid", LENGTH_S)
    return folder


def corpus_of(folder, **kwargs):
    return Intervals(UnlabelledTree(folder / "wav"), folder / "segments", **kwargs)


@pytest.fixture(scope="session")
def trained(marked, tmp_path_factory):
    """best.ckpt of a small detector."""
    folder = tmp_path_factory.mktemp("detector")
    tree = {"class_path": "cry_lightning.corpora.UnlabelledTree", "init_args": {"root": str(marked / "wav")}}
    corpus = {"corpus": tree, "annotations": str(marked / "segments"), "name": "marked", "window_s": 1.0, "hop_s": 0.9}
    config = {
        "name": "detect",
        "runs": str(folder / "runs"),
        "seed_everything": 1,
        "data": {
            "corpus": {"class_path": "cry_lightning.corpora.Intervals", "init_args": corpus},
            "feature": {"class_path": "cry_lightning.features.EfficientATLogMel"},
            "split": {"val": 0.25, "test": 0.25, "group": "recording"},
            "clip_s": 1.0,
            "sampling": {"batch_size": 4},
            "cache": {"folder": str(folder / "cache")},
        },
        "model": {
            "class_path": "cry_lightning.tasks.Detector",
            "init_args": {
                "encoder": {"class_path": "cry_lightning.encoders.EfficientAT", "init_args": {"width_mult": 0.1}},
                "frozen": True,
                "width": 16,
                "optimisation": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}},
            },
        },
        "checkpoint": {"monitor": "val/event_f1", "mode": "max"},
        "trainer": {"max_epochs": 4, "check_val_every_n_epoch": 2, "accelerator": "cpu", "enable_progress_bar": False},
    }
    config["trainer"]["enable_model_summary"] = False
    path = folder / "detect.yaml"
    path.write_text(yaml.safe_dump(config))
    cli.main(["fit", "--config", str(path)])
    cli.main(["test", "--config", str(folder / "runs/marked/detect/config.yaml")])
    return folder / "runs/marked/detect/best.ckpt"


@pytest.mark.slow
def test_predict_takes_the_units_that_a_detector_finds(trained, marked, pretrained, tmp_path):
    recording = marked / "wav/03.wav"
    found = Finder(trained).spans(recording)
    arguments = [str(recording), "--ckpt", str(pretrained), "--detector", str(trained)]
    table = command("predict", [*arguments, "--out", str(tmp_path / "out.csv")])
    assert table["start_s"].tolist() == pytest.approx([begin for begin, _ in found], abs=1e-5) and found
    by_python = load_predictor(pretrained)(recording, detect=trained)
    pd.testing.assert_frame_equal(by_python, table)
    service = Service(pretrained, "cpu", (), trained, 60.0, tmp_path)
    with recording.open("rb") as sound:
        answer = service.answer(sound, str(recording), detect=None)
    assert answer.of_cries
    pd.testing.assert_frame_equal(answer.rows, table)
    with pytest.raises(UserError, match="finds no events; train a Detector"):
        load_predictor(pretrained)(recording, detect=pretrained)


def test_clips_have_the_label_where_half_of_them_is_marked(marked):
    whole = corpus_of(marked).clips()
    assert (len(whole), {clip.label for clip in whole}) == (N_RECORDINGS, {"other"})  # 0.9 of 1.9 s
    assert marked_in("", whole[3].columns) == spans_for(3)
    windows = [clip for clip in corpus_of(marked, window_s=0.4, hop_s=0.1).clips() if clip.path == whole[3].path]
    for clip in windows:
        inside = frames([(b - clip.start_s, e - clip.start_s) for b, e in spans_for(3)], 400, 0.001).mean()
        assert clip.label == ("cry" if inside >= 0.5 else "other") or abs(inside - 0.5) < 0.01
        assert clip.columns[COLUMN] == whole[3].columns[COLUMN]
    assert {clip.label for clip in windows} == {"cry", "other"}
    assert corpus_of(marked).class_names() == ["cry", "other"]


def test_recordings_of_noise_have_no_cries_and_those_without_a_file_are_left_out(marked, tmp_path):
    noise = Intervals(UnlabelledTree(marked / "wav"))
    assert {(clip.label, clip.columns[COLUMN]) for clip in noise.clips()} == {("other", "")}
    annotations.write([Interval(0.0, 1.5, "cry")], tmp_path / "03.txt", LENGTH_S)
    some = Intervals(UnlabelledTree(marked / "wav"), tmp_path)
    assert [(clip.path, clip.label) for clip in some.clips()] == [("03.wav", "cry")]
    assert some.left_out["recordings without a file of intervals"] == N_RECORDINGS - 1


def test_what_is_wrong_with_the_intervals_is_told(marked, tmp_path):
    with pytest.raises(UserError, match=r"none of its 10 files marks 'wail' in a recording of .*; files are called"):
        corpus_of(marked, label="wail").clips()
    annotations.write([Interval(0.0, 5.0, "cry")], tmp_path / "03.txt", 5.0)
    with pytest.raises(UserError, match=r"03\.txt: line 1 \('cry'\) ends at 5 s, but the recording has 1\.9 s"):
        Intervals(UnlabelledTree(marked / "wav"), tmp_path).clips()


def test_the_rule_of_the_highest_f1_is_chosen():
    targets = np.zeros((3, 100), bool)
    targets[:, 20:60] = True
    probabilities = np.where(targets, 0.65, 0.1)
    probabilities[:, 35:45] = 0.1  # a gap within
    probabilities[:, 80:83] = 0.9  # a knock
    chosen, (frame_f1, event_f1) = choose(probabilities, targets)
    assert (frame_f1, event_f1) == score(chosen, probabilities, targets) == (1.0, 1.0)
    assert chosen.min_gap > 10
    assert score(Hysteresis(0.8, 0.6, 5, 5), probabilities, targets) == (0.0, 0.0)


def test_maps_are_those_on_the_way_to_the_embedding():
    encoder, features = EfficientAT(0.1).eval(), torch.randn(2, 1, 128, 100)
    early, last = encoder.maps(features, [3, 16])
    assert early.shape[2:] == (32, 25)
    torch.testing.assert_close(last.mean((2, 3)), encoder(features))


def test_maps_that_are_kept_serve_in_bfloat16():
    detector = Detector(EfficientAT(0.1), Optimisation(torch.optim.SGD), layers=[3, 16], bands=[8, 1]).eval()
    detector._kept = {}
    batch = {"features": torch.randn(2, 1, 128, 100), "index": torch.arange(2)}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        first, again = (detector.logits_of(batch) for _ in range(2))
        torch.testing.assert_close(first, detector(batch["features"]), atol=0.05, rtol=0.05)
    assert torch.equal(first, again) and len(detector._kept) == 2


def test_targets_follow_the_window_and_the_padding():
    columns = {COLUMN: "0.5-0.6 1.5-3.0"}
    clips = [
        Clip("a", "s", start_s=0.0, duration_s=1.0, columns=columns),
        Clip("a", "s", start_s=1.2, duration_s=1.0, columns=columns),
        Clip("a", "s", start_s=0.0, duration_s=0.8, columns=columns),  # padded by 0.1 s on either side
    ]
    data = SimpleNamespace(feature=SimpleNamespace(hop_length=320, sample_rate=RATE), clips=clips, clip_s=1.0)
    targets = Detector.targets(SimpleNamespace(data=data, device="cpu"), [0, 1, 2], 100)
    assert [np.flatnonzero(row)[[0, -1]].tolist() for row in targets.numpy()] == [[50, 59], [30, 99], [60, 69]]


@pytest.mark.slow
def test_a_trained_detector_finds_synthetic_cries(marked, trained, tmp_path):
    finder = Finder(trained)
    spans = [(0.7, 1.2), (2.4, 2.9), (3.15, 3.6)]
    soundfile.write(tmp_path / "long.wav", sound_of(spans, 4.3, 2), RATE)  # in windows of 1 s
    found, duration_s = finder(tmp_path / "long.wav")
    assert duration_s == pytest.approx(4.3)
    np.testing.assert_allclose(found, spans, atol=0.06)


@pytest.mark.slow
def test_the_test_part_is_scored_as_that_of_any_stage(trained):
    table = pd.read_csv(trained.with_name("predictions.csv"))
    assert {"score_cry", "score_other"} <= set(table.columns)
    np.testing.assert_allclose(table["score_cry"] + table["score_other"], 1, atol=1e-6)
    assert table.groupby("label")["score_cry"].mean()["cry"] > table.groupby("label")["score_cry"].mean()["other"]


@pytest.mark.slow
def test_acquire_cuts_where_the_detector_finds_cries(marked, trained, tmp_path):
    given, segments, out = (tmp_path / name for name in ("in", "segments", "out"))
    for name in ("00", "01", "02"):
        for folder, file in ((given, f"wav/{name}.wav"), (segments, f"segments/{name}.TextGrid")):
            folder.mkdir(exist_ok=True)
            shutil.copy(marked / file, folder)
    command("acquire", [str(given), str(out), "--detector", str(trained), "--annotations", "textgrid"])
    table = command("evaluate-events", [str(segments), str(out / "annotations"), "--subjects", str(given)])
    f1 = table.set_index(["level", "metric"])["value"]
    assert f1["frames", "f1"] > 0.95
    assert f1["events", "f1"] > 0.95
    first = (out / "units").stat().st_mtime_ns
    command("acquire", [str(given), str(out), "--detector", str(trained)])
    assert (out / "units").stat().st_mtime_ns == first  # nothing is cut twice
    with pytest.raises(UserError, match=r"out: was made with detector [0-9a-f]+, not none; give --overwrite"):
        command("acquire", [str(given), str(out)])


@pytest.mark.slow
def test_other_checkpoints_are_no_detectors(pretrained, tmp_path):
    with pytest.raises(UserError, match=r"best\.ckpt: a Classifier finds no events; train a Detector"):
        command("acquire", [str(tmp_path), str(tmp_path / "out"), "--detector", str(pretrained)])


def test_an_encoder_without_maps_is_refused():
    with pytest.raises(UserError, match="Detector: Res8 has no maps over time; take EfficientAT"):
        Detector(Res8(), Optimisation(torch.optim.SGD))
    with pytest.raises(UserError, match="EfficientAT: has layers 0 to 16, not 3, 17"):
        Detector(EfficientAT(0.1), Optimisation(torch.optim.SGD), layers=[3, 17], bands=[8, 1])
    with pytest.raises(UserError, match="2 layers, but 3 bands"):
        Detector(EfficientAT(0.1), Optimisation(torch.optim.SGD), layers=[3, 6])


@real("cry_segments")
@pytest.mark.slow
@pytest.mark.skipif(not MN04.exists(), reason=f"no weights at {MN04}")
def test_the_shipped_detector_finds_real_cries_of_other_installs(tmp_path, monkeypatch):
    """A third of the recordings and a short training; docs/results.md has the whole."""
    monkeypatch.chdir(tmp_path)
    wavs = sorted((DATA / "donateacry").rglob("*.wav"))[::3]
    for folder, files in (("cries", wavs), ("noise", sorted((DATA / "noise").glob("*"))[::3])):
        (tmp_path / folder).mkdir()
        for file in files:
            (tmp_path / folder / file.name).symlink_to(file)
    data = yaml.safe_load((REPO / "configs/data/segments.yaml").read_text())
    cries, noise = (one["init_args"] for one in data["corpus"]["init_args"]["corpora"])
    cries["corpus"]["init_args"]["root"], noise["corpus"]["init_args"]["root"] = "cries", "noise"
    cries["annotations"] = str(DATA / "cry_segments")
    data["feature"] = str(REPO / "configs/feature/efficientat_32k.yaml")
    (tmp_path / "segments.yaml").write_text(yaml.safe_dump(data))
    command("import-weights", ["efficientat", str(MN04), "--to", "mn04.ckpt"])
    stage = ["--config", str(REPO / "configs/detect.yaml"), "--data", "segments.yaml", "--trainer.max_epochs=4"]
    cli.main(["fit", *stage, "--model.init_args.weights=mn04.ckpt", "--trainer.logger=null"])
    cli.main(["test", "--config", "runs/segments/detect/config.yaml"])
    tested = pd.read_csv("runs/segments/detect/predictions.csv").query("split == 'test'")["recording"]
    for name in (name.removeprefix("donateacry/") for name in tested if name.startswith("donateacry/")):
        marked = DATA / "cry_segments" / f"{name[:-4]}.TextGrid"
        for folder, file in (("unseen", tmp_path / "cries" / name), ("there", marked)):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / folder)
    detector = ["--detector", "runs/segments/detect/best.ckpt", "--annotations", "textgrid"]
    command("acquire", ["unseen", "found", *detector])
    f1 = command("evaluate-events", ["there", "found/annotations"]).set_index(["level", "metric"])["value"]
    assert f1["frames", "f1"] > 0.86
    assert f1["events", "f1"] > 0.68
