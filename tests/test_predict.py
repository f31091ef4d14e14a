"""`predict`: the scores of `test`, for recordings that nobody listed, from the checkpoint alone."""

import shutil
import tracemalloc
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from exported import NETWORKS, write_checkpoint
from made import DATA, RATE, real

from cry_lightning import annotations, audio, load as load_predictor
from cry_lightning.__main__ import DONE_IN_PART, main, run as command
from cry_lightning.audio.decoders import FFmpegReader
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.corpora import Clip, UnlabelledTree
from cry_lightning.data.building import ClipBatches
from cry_lightning.features import MFCC
from cry_lightning.inference import predict

RAW = DATA / "donateacry_raw"
LOGMEL = {"class_path": "cry_lightning.features.LogMel"}
WINDOWS = ["--data.corpus.init_args.window_s=0.2", "--data.corpus.init_args.hop_s=0.1", "--data.clip_s=0.2"]
WAVEFORMS = ["--data.feature", "cry_lightning.features.Waveform", "--data.cache.dtype=float16"]


def fit_and_test(config: Path, *args: str) -> Path:
    """Fit and test a stage; its best.ckpt."""
    folder = cli.main(["fit", "--config", str(config), *args]).run_folder.path
    cli.main(["test", "--config", str(folder / "config.yaml")])
    return folder / "best.ckpt"


def predicted(ckpt: Path, *paths: Path, out: Path, args: tuple[str, ...] = ()) -> pd.DataFrame:
    command("predict", ["--ckpt", str(ckpt), *map(str, paths), "--out", str(out), *args])
    return pd.read_csv(out)


def differences(ckpt: Path, table: pd.DataFrame, folder: Path) -> float:
    """The largest between the scores of `test` and those of the same windows in `table`."""
    scores = pd.read_csv(ckpt.with_name("predictions.csv")).set_index("clip").filter(like="score_")
    times = zip(table["path"], table["start_s"], table["duration_s"], strict=True)
    names = [f"{Path(path).relative_to(folder)}#{start:.3f}-{duration:.3f}" for path, start, duration in times]
    return (table.set_index(pd.Index(names)).loc[scores.index, scores.columns] - scores).abs().max(axis=None)


def changed(ckpt: Path, to: Path, change) -> Path:
    """A copy of a checkpoint with something else in it."""
    checkpoint = torch.load(ckpt, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, to)
    return to


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing of the run is found by a relative path, and what is left behind would be seen."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def noise(folder: Path) -> dict:
    folder.mkdir()
    soundfile.write(folder / "noise.wav", np.random.default_rng(0).standard_normal(RATE) / 10, RATE)
    return {
        "class_path": "cry_lightning.tasks.augment.WaveformNoise",
        "init_args": {"folder": str(folder), "sample_rate": RATE, "snr_db": [0.0, 10.0]},
    }


@pytest.mark.sampled(1)
@pytest.mark.parametrize("sound", ["features", "waveforms"])
def test_scores_are_those_of_test(stage, tones, tmp_path, sound):
    """With windows, margins for shifts, normalisation and a rounded cache; without config, corpus, cache and noise."""
    if sound == "features":
        normalize = {"class_path": "torch.nn.InstanceNorm2d", "init_args": {"num_features": 1, "affine": True}}
        config, args = stage(normalize=normalize, num_classes=2), ["--data.feature", LOGMEL["class_path"]]
    else:
        relative = {"class_path": "cry_lightning.tasks.RelativeLevel"}
        extra = {"augment_waveform": [noise(tmp_path / "noise")], "normalize": relative}
        config, args = stage(front_end=LOGMEL, **extra), WAVEFORMS
    ckpt = fit_and_test(config, *WINDOWS, *args, "--trainer.max_epochs=1")
    shutil.rmtree(tmp_path / "noise", ignore_errors=True)
    ckpt.with_name("config.yaml").unlink()
    table = predicted(ckpt, *sorted(tones.parent.glob("*.wav")), out=Path("out.csv"))
    assert len(table) == 96 * 4
    assert differences(ckpt, table, tones.parent) < 1e-5
    assert table["score_high"].std() > 1e-4
    assert sorted(path.name for path in Path().iterdir()) == ["out.csv", "out_recordings.csv"]


@pytest.mark.slow
@real("donateacry_raw")
def test_scores_of_real_uploads_are_those_of_test(stage, tmp_path):
    """3GP, which libsndfile does not read."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    for path in sorted(RAW.glob("*.3gp"))[:30:2]:
        shutil.copy(path, uploads)
    corpus = ["--data.corpus", "cry_lightning.corpora.DonateACry", f"--data.corpus.init_args.root={uploads}"]
    corpus += ["--data.corpus.init_args.target=sex", "--data.corpus.init_args.name=uploads"]
    windows = ["--data.corpus.init_args.window_s=1", "--data.corpus.init_args.min_active_db=-45", "--data.clip_s=1"]
    ckpt = fit_and_test(
        stage(), *corpus, *windows, "--trainer.max_epochs=1", f"--data.cache.folder={tmp_path / 'cache'}"
    )
    assert differences(ckpt, predicted(ckpt, uploads, out=Path("out.csv")), uploads) < 1e-5


def test_what_cannot_be_used_is_listed_beside_what_can(pretrained, tones, tmp_path, caplog):
    folder = tmp_path / "inbox"
    folder.mkdir()
    shutil.copy(tones.parent / "low_00_0.wav", folder / "good.wav")
    (folder / "empty.wav").touch()
    (folder / "text.mp3").write_text("no sound " * 100)
    soundfile.write(folder / "half_silent.wav", np.repeat([0.1, 0.0], 4 * RATE), RATE)
    table = predicted(pretrained, folder, out=Path("out.csv"))
    assert set(table["path"]) == {str(folder / "good.wav"), str(folder / "half_silent.wav")}
    recordings = pd.read_csv("out_recordings.csv", keep_default_na=False).set_index("path")
    faults = {Path(path).name: fault for path, fault in recordings["fault"].items()}
    assert faults["good.wav"] == "" and faults["empty.wav"] == "the file is empty"
    assert "cannot be decoded" in faults["text.mp3"] and "silent, every sample at 4" in faults["half_silent.wav"]
    assert recordings["windows"].tolist() == [0, 1, 10, 0]
    assert "half_silent.wav: silent, every sample at 4 s is zero (and 9 more windows)" in caplog.text
    with pytest.raises(UserError, match=r"no recording could be used: .*empty\.wav: the file is empty; .*text\.mp3"):
        predicted(pretrained, folder / "empty.wav", folder / "text.mp3", out=Path("none.csv"))
    assert not Path("none.csv").exists()


def test_recordings_have_the_mean_of_their_windows(pretrained, tmp_path):
    sound = np.random.default_rng(0).standard_normal(2 * RATE) / 10
    soundfile.write(tmp_path / "a.wav", sound, RATE)
    table = predicted(pretrained, tmp_path / "a.wav", out=Path("out.csv"), args=("--hop-s", "0.2"))
    assert table["start_s"].tolist() == pytest.approx([0.2 * i for i in range(9)])
    recording = pd.read_csv("out_recordings.csv").iloc[0]
    assert recording["windows"] == 9 and recording["score_low"] == pytest.approx(table["score_low"].mean(), abs=1e-8)
    assert (table["score_low"] + table["score_high"]).to_numpy() == pytest.approx(1)
    assert (table["predicted"] == np.where(table["score_high"] >= table["score_low"], "high", "low")).all()


def test_the_table_in_the_terminal_is_no_wider_than_it_but_for_faults():
    path, fault = f"clips/{'ward-' * 40}/{{}}.wav", "cannot be decoded, since it is the letter of a doctor"
    table = pd.DataFrame({"path": [path.format(n) for n in range(30)], "windows": 0, "fault": fault})
    scores = {f"score_{name}": 0.01 for name in "abcdefghijklmnopqrst"} | {"score_tired": 0.8, "predicted": "tired"}
    table = table.assign(**scores, decision="", abstained="")
    table.loc[1, ["windows", "fault"]] = 5, ""
    lines = predict.shown(table, width=80).splitlines()
    assert len(lines) == 2 + 20 + 1 and lines[-1] == "... and 10 more"
    assert lines[2].startswith("...") and "ward-/0.wav  0 " in lines[2] and lines[2].endswith(f"  {fault}")
    assert len(lines[3]) <= 80
    assert lines[3].startswith("...") and lines[3].split()[1:] == ["5", "tired", "0.800"]
    table.loc[1, "abstained"] = "unsure"
    assert predict.shown(table, width=80).splitlines()[3].endswith("0.800  (unsure)")


def test_decisions_that_differ_from_what_is_predicted_are_explained():
    table = pd.DataFrame({"predicted": ["a", "a", "b", "a"], "decision": ["a", "b", "", "b"]})
    (told,) = predict.decided_otherwise(table)
    assert told.startswith("2 recordings have another decision than prediction: `predicted` is the highest score, ")
    assert predict.decided_otherwise(table[::2]) == []


def test_windows_as_quiet_as_none_in_the_training_are_left_out(pretrained, tmp_path):
    windows = {"window_s": 0.4, "hop_s": None, "min_active_db": -50.0}
    strict = changed(
        pretrained,
        tmp_path / "strict.ckpt",
        lambda c: c["datamodule_hyper_parameters"]["corpus"]["init_args"].update(windows),
    )
    sound = np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(tmp_path / "quiet.wav", sound * 1e-4, RATE)
    soundfile.write(tmp_path / "fades.wav", sound[:6400] * np.repeat([0.1, 1e-4], 3200), RATE)
    table = predicted(strict, tmp_path / "quiet.wav", tmp_path / "fades.wav", out=Path("out.csv"))
    assert table["start_s"].tolist() == [0.0]
    faults = pd.read_csv("out_recordings.csv", keep_default_na=False)["fault"]
    assert faults.tolist() == ["nowhere above -50.0 dB, as the model's windows were", ""]


@pytest.mark.parametrize("min_active_db", [None, -50.0])
def test_a_silent_recording_alone_is_no_failure_and_one_without_samples_is(pretrained, tmp_path, min_active_db):
    windows = {"window_s": 0.4, "hop_s": None, "min_active_db": min_active_db}
    ckpt = changed(
        pretrained,
        tmp_path / "windows.ckpt",
        lambda c: c["datamodule_hyper_parameters"]["corpus"]["init_args"].update(windows),
    )
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    for n in (0, 3):
        soundfile.write(tmp_path / f"failed{n}.wav", np.full(n, 0.1), RATE)
    arguments = ["--ckpt", str(ckpt), "--out"]
    assert main(["predict", str(tmp_path / "silent.wav"), *arguments, "silent.TextGrid"]) == 0
    assert annotations.read("silent.TextGrid") == []
    assert "silent" in (fault := pd.read_csv("silent.TextGrid_recordings.csv")["fault"][0]) or "nowhere above" in fault
    for detect in ([], ["--detect"]):
        with pytest.raises(UserError, match=r"no recording could be used: .*failed0\.wav: .*; .*failed3\.wav: "):
            predicted(ckpt, *(tmp_path / f"failed{n}.wav" for n in (0, 3)), out=Path("none.csv"), args=(*detect,))
        args = [*arguments, f"both{len(detect)}.csv", *detect]
        assert main(["predict", str(tmp_path / "silent.wav"), str(tmp_path / "failed0.wav"), *args]) == DONE_IN_PART


def test_a_unit_shorter_than_a_window_is_judged_with_what_is_around_it(pretrained, tmp_path, monkeypatch):
    of_windows = changed(
        pretrained,
        tmp_path / "windows.ckpt",
        lambda c: c["datamodule_hyper_parameters"]["corpus"]["init_args"].update(window_s=0.4),
    )
    sound = (np.random.default_rng(0).standard_normal(2 * RATE) / 10).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    units, around = [(0.05, 0.15), (1.0, 1.2), (1.95, 2.0)], [(0.0, 0.4), (0.9, 1.3), (1.6, 2.0)]
    monkeypatch.setattr(predict, "by_thresholds", lambda path: units)
    for ckpt, spans in ((of_windows, around), (pretrained, units)):
        table = predicted(ckpt, tmp_path / "a.wav", out=Path(f"{ckpt.stem}.csv"), args=("--detect",))
        assert table["start_s"].tolist() == [begin for begin, _ in units]
        assert table["duration_s"].tolist() == pytest.approx([end - begin for begin, end in units])
        model = load_predictor(pretrained)
        pieces = [model(sound[round(begin * RATE) : round(end * RATE)]) for begin, end in spans]
        assert table["score_low"].tolist() == pytest.approx([piece["score_low"][0] for piece in pieces], abs=1e-5)


def test_recording_shorter_than_a_window_is_fitted_as_in_the_training(pretrained, tones, tmp_path):
    short = tmp_path / "short.wav"
    soundfile.write(short, np.random.default_rng(0).standard_normal(RATE // 10) / 10, RATE)
    scores = {}
    for fit in ("pad", "repeat", "crop"):
        ckpt = changed(
            pretrained, tmp_path / f"{fit}.ckpt", lambda c, f=fit: c["datamodule_hyper_parameters"].update(fit=f)
        )
        if fit == "crop":
            with pytest.raises(UserError, match=r"short\.wav: 800 samples where 4000 are needed"):
                predicted(ckpt, short, out=Path(f"{fit}.csv"))
        else:
            table = predicted(ckpt, short, out=Path(f"{fit}.csv"))
            assert table["duration_s"].tolist() == [0.1]
            scores[fit] = table["score_low"][0]
    assert scores["pad"] != pytest.approx(scores["repeat"], abs=1e-6)


def test_clips_that_may_only_be_cropped_take_their_margins_from_the_recording(pretrained, tmp_path):
    sound = np.random.default_rng(0).standard_normal(RATE * 2).astype(np.float32) / 10
    soundfile.write(tmp_path / "long.wav", sound, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "first.wav", sound[: RATE // 2], RATE, subtype="FLOAT")  # 0.4 s and 0.05 s on each side
    crop = changed(pretrained, tmp_path / "crop.ckpt", lambda c: c["datamodule_hyper_parameters"].update(fit="crop"))
    table = predicted(crop, tmp_path / "long.wav", tmp_path / "first.wav", out=Path("crop.csv"))
    long, first = (table[table["path"].str.endswith(name)] for name in ("long.wav", "first.wav"))
    assert long["start_s"].tolist() == pytest.approx([0, 0.4, 0.8, 1.2]) and set(table["duration_s"]) == {0.5}
    assert first["score_low"].tolist() == pytest.approx(long["score_low"].tolist()[:1], abs=1e-6)


def test_long_recording_never_lies_in_memory(pretrained, tmp_path):
    """Twenty minutes would be 38 MB."""
    minute = np.random.default_rng(0).integers(-3000, 3000, 60 * RATE, np.int16)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1) as file:
        for _ in range(20):
            file.write(minute)
    del minute
    predicted(pretrained, tmp_path / "long.wav", out=Path("warm.csv"), args=("--hop-s", "600"))
    tracemalloc.start()
    table = predicted(pretrained, tmp_path / "long.wav", out=Path("out.csv"), args=("--hop-s", "10"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(table) == 120 and peak < 10e6


def test_a_long_recording_is_decoded_once_for_all_its_windows(tmp_path, monkeypatch):
    time = np.arange(90 * 16000) / 16000
    soundfile.write(tmp_path / "long.mp3", 0.3 * np.sin(2000 * time**1.1), 16000, format="MP3")
    soundfile.write(tmp_path / "short.mp3", 0.3 * np.sin(2000 * time[:16000]), 16000, format="MP3")
    clips = [Clip("short.mp3", "s", start_s=0.0, duration_s=0.5)]
    clips += [Clip("long.mp3", "s", start_s=start / 4, duration_s=0.5) for start in range(350)]
    batches = ClipBatches(UnlabelledTree(tmp_path), clips, MFCC(), 0.6, "pad", "float32")
    expected = [
        audio.load_fitted(tmp_path / clip.path, 8000, 0.6, "pad", clip.start_s, clip.duration_s) for clip in clips[::29]
    ]
    decoded = []
    chunks = FFmpegReader.chunks
    monkeypatch.setattr(
        FFmpegReader, "chunks", lambda self, b, e: (decoded.append(len(c)) or c for c in chunks(self, b, e))
    )
    waveforms = [batches.waveform(row)[0] for row in range(len(clips))]
    assert all(np.array_equal(a, b) for a, b in zip(waveforms[::29], expected, strict=True))
    assert sum(decoded) <= 91 * 16000
    assert np.array_equal(batches.waveform(29)[0], expected[1])  # and what lies behind can be had again


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("simclr", r"has no head for classes, it is a SimCLR; fine-tune it first"),
        ("published", r"published weights alone, which do not tell their network"),
        ("lightning", r"not a checkpoint of a stage of cry_lightning; give a run's best\.ckpt"),
        ("other", r"not a checkpoint of a stage of cry_lightning but of somebody\.Model"),
        ("pickle", "refused, not a checkpoint"),
        ("tensors", "has no state_dict"),
        ("misfit", r"cannot be made into a network .*size mismatch"),
        ("process", r"cannot be made into a network"),
        ("missing", "no such checkpoint"),
    ],
)
def test_checkpoint_that_is_no_classifier_is_refused_by_name(pretrained, tones, tmp_path, what, told):
    ckpt = tmp_path / f"{what}.ckpt"
    state = {"state_dict": {"encoder.weight": torch.zeros(1)}}
    if what == "simclr":
        encoder, feature, rest = NETWORKS["simclr-res8"]
        write_checkpoint(ckpt, encoder, feature, **rest)
    elif what == "pickle":
        torch.save({"state_dict": {}, "model": torch.nn.Linear(1, 1)}, ckpt)
    elif what in ("misfit", "process"):
        fault = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "was_run")]}}
        wide = {"class_path": "cry_lightning.encoders.Res8", "init_args": {"n_maps": 5}}
        changed(pretrained, ckpt, lambda c: c["hyper_parameters"].update(encoder=wide if what == "misfit" else fault))
    elif what != "missing":
        contents = {
            "published": {**state, "source": {"publisher": "panns"}},
            "lightning": {**state, "pytorch-lightning_version": "2.6.6"},
            "other": {**state, "hyper_parameters": {"_class_path": "somebody.Model"}},
            "tensors": {"weight": torch.zeros(1)},
        }
        torch.save(contents[what], ckpt)
    with pytest.raises(UserError, match=rf"{what}\.ckpt: .*{told}"):
        predicted(ckpt, tones.parent, out=Path("out.csv"))
    with pytest.raises(UserError, match=rf"{what}\.ckpt: .*{told}"):
        command("serve", ["--ckpt", str(ckpt), "--port=0"])
    assert not Path("out.csv").exists() and not (tmp_path / "was_run").exists()


def test_a_name_that_the_terminal_cannot_show_is_shown_as_escapes(tones, pretrained, tmp_path, monkeypatch):
    shutil.copy(tones.parent / "low_00_0.wav", tmp_path / "плач.wav")
    monkeypatch.setattr("sys.stdout", TextIOWrapper(shown := BytesIO(), "latin-1", write_through=True))
    assert main(["predict", str(tmp_path / "плач.wav"), "--ckpt", str(pretrained), "--out", "плач.csv"]) == 0
    assert r"\u043f\u043b\u0430\u0447.wav" in shown.getvalue().decode("latin-1")
    assert pd.read_csv("плач.csv")["path"][0].endswith("плач.wav")


@pytest.mark.parametrize("there", [True, False])
def test_a_prediction_that_was_stopped_while_it_was_written_is_given_again(tones, pretrained, monkeypatch, there):
    sounds = sorted(tones.parent.glob("*.wav"))[:3]
    args = ["predict", *map(str, sounds), "--ckpt", str(pretrained), "--out", "labels.TextGrid"]
    if there:
        Path("labels").mkdir()
        Path("labels/notes.txt").write_text("dear to somebody")
    Path("labels.part").mkdir()
    Path("labels.part/somebodys.TextGrid").write_text("of another program")
    write, written = annotations.write, []

    def stop(found, path, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(found, path, *rest)

    monkeypatch.setattr(annotations, "write", stop)
    assert main(args) == 130
    theirs = [Path("labels.part"), Path("labels.part/somebodys.TextGrid"), *[Path("labels/notes.txt")] * there]
    assert sorted(Path().rglob("*.*")) == sorted(theirs)
    monkeypatch.setattr(annotations, "write", write)
    assert main(args) == 0
    made = [f"{path.stem}.TextGrid" for path in sounds]
    assert sorted(path.name for path in Path("labels").iterdir()) == [*made, *["notes.txt"] * there]
    assert {path.name for path in Path().iterdir()} == {"labels", "labels.part", "labels.TextGrid_recordings.csv"}
    assert [path.read_text() for path in Path("labels.part").iterdir()] == ["of another program"]


def test_a_table_of_recordings_is_there_only_after_that_of_rows(tones, pretrained, monkeypatch):
    names, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: names.append(Path(to).name) or replace(path, to))
    predicted(pretrained, tones.parent / "low_00_0.wav", out=Path("out.csv"))
    assert names == ["out.csv", "out_recordings.csv"]


def test_what_is_refused_of_intervals_names_its_place_and_leaves_the_others(tones, pretrained, monkeypatch, capsys):
    def refuse(found, path, *rest):
        if path.name == "low_00_0.txt":
            raise UserError(f"{path}: cannot be written")
        path.touch()

    monkeypatch.setattr(annotations, "write", refuse)
    args = ["--ckpt", str(pretrained), "--out", "labels.txt"]
    assert main(["predict", *(str(tones.parent / f"low_0{n}_0.wav") for n in range(3)), *args]) == 2
    assert "error: labels/low_00_0.txt: cannot be written\n" in capsys.readouterr().err
    assert sorted(path.name for path in Path("labels").iterdir()) == ["low_01_0.txt", "low_02_0.txt"]
    assert Path("labels.txt_recordings.csv").exists()


def test_arguments_that_make_no_sense(pretrained, tones, tmp_path):
    (tmp_path / "bare").mkdir()
    Path("there_recordings.csv").write_text("dear to somebody")
    for paths, out, args, told in [
        ([tmp_path / "bare"], "out.csv", (), "bare: no recordings found"),
        ([tmp_path / "nowhere.wav"], "out.csv", (), r"nowhere\.wav: no such file or folder"),
        ([tones.parent], "there.csv", (), r"there_recordings\.csv exists already"),
        ([""], "out.csv", (), "^'': no such file or folder"),  # of a variable that is not set
        ([tones.parent], "out.csv", ("--hop-s=-1",), "--hop-s -1: it is a length of time"),
        ([tones.parent], "out.csv", ("--batch-size=0",), "--batch-size"),
    ]:
        with pytest.raises(UserError, match=told):
            predicted(pretrained, *paths, out=Path(out), args=args)
    assert Path("there_recordings.csv").read_text() == "dear to somebody"


def test_a_place_where_nothing_may_be_written_is_refused_before_the_work(pretrained, tones, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(UserError, match="cannot be written to; name another place"):
        predicted(pretrained, tones.parent, out=tmp_path / "new/out.csv")


def test_a_recording_that_is_named_twice_is_one(pretrained, tones):
    path = tones.parent / "low_00_0.wav"
    again = path.parent / "." / ".." / path.parent.name / path.name
    (Path("linked")).symlink_to(path.parent)
    table = predicted(pretrained, path, again, Path("linked", path.name), out=Path("out.csv"))
    assert set(table["path"]) == {str(path)} and len(pd.read_csv("out_recordings.csv")) == 1


@pytest.mark.slow
def test_a_front_end_that_gives_other_numbers_by_now_is_refused(stage, tones, tmp_path, monkeypatch):
    ckpt = fit_and_test(stage(), "--trainer.max_epochs=1")
    monkeypatch.setattr(MFCC, "version", MFCC.version + 1)
    with pytest.raises(UserError, match=r'trained on the front end .*"version": 1.* not .*"version": 2'):
        command("predict", ["--ckpt", str(ckpt), str(tones.parent), "--out", str(tmp_path / "out.csv")])
    with pytest.raises(UserError, match="trained on the front end"):
        cli.main(["test", "--config", str(ckpt.with_name("config.yaml"))])
