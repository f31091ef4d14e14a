"""`robustness`: disturbances in physical units, and the scores of `test` where there is none."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from made import RATE, stage_config
from matplotlib.figure import Figure
from PIL import Image

from cry_lightning.__main__ import run as run_command
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.encoders import Res8
from cry_lightning.features import MFCC
from cry_lightning.studies import disturbances, robustness, robustness_report
from cry_lightning.studies.disturbances import Sounds
from cry_lightning.studies.robustness import ModelUnderTest
from cry_lightning.tasks import SimCLR
from cry_lightning.tasks.optimisation import Optimisation

main = partial(run_command, "robustness")


LOGMEL = {"class_path": "cry_lightning.features.LogMel"}
NAMES = ["a.wav#0.000-end", "b.wav#0.000-end"]


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    """Two recordings, one of them shorter than a clip, the other with silence in it."""
    folder = tmp_path_factory.mktemp("noise")
    hiss = np.random.default_rng(1).standard_normal(2 * RATE) / 20
    soundfile.write(folder / "short.wav", hiss[:1000], RATE)
    soundfile.write(folder / "pause.wav", hiss * np.repeat([1, 0, 0, 1], RATE // 2), RATE)
    return folder


@pytest.fixture(scope="module")
def runs(tones, noise, tmp_path_factory) -> Path:
    """`plain`, and `noisy` beside it, on waveforms that were rounded in the cache and mixed with noise."""
    folder = tmp_path_factory.mktemp("robustness")
    augment = {"folder": str(noise), "sample_rate": RATE, "snr_db": [0.0, 10.0]}
    modules = [{"class_path": "cry_lightning.tasks.augment.WaveformNoise", "init_args": augment}]
    plain = stage_config(tones, folder, "plain")
    noisy = stage_config(tones, folder, "noisy", front_end=LOGMEL, augment_waveform=modules)
    noisy["data"] |= {
        "feature": "cry_lightning.features.Waveform",
        "cache": noisy["data"]["cache"] | {"dtype": "float16"},
    }
    for config in (plain, noisy):
        config["data"]["split"] = {"val": 0.1, "test": 0.5}
        config["trainer"]["max_epochs"] = 4
        path = folder / f"{config['name']}.yaml"
        path.write_text(yaml.safe_dump(config))
        fitted = cli.main(["fit", "--config", str(path)]).run_folder
        cli.main(["test", "--config", str(fitted.config)])
    return fitted.path.parent


@pytest.fixture
def sounds() -> Sounds:
    """Two clips of 0.5 s, of which 0.4 s are heard: a loud tone, which goes on 45 dB below, padded by zeros."""
    time = np.arange(RATE // 2) / RATE
    tone = np.sin(2 * np.pi * 400 * time) * np.where(time < 0.24, 0.3, 0.3 * 10 ** (-45 / 20))
    waveforms = np.stack([tone, tone / 10]).astype(np.float32)
    waveforms[:, -800:] = 0
    return Sounds(waveforms, NAMES, RATE, round(0.4 * RATE))


def level_db(waveform: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(waveform, dtype=float)))


@pytest.mark.parametrize("snr_db", [20.0, -5.0])
def test_ratio_is_that_of_the_active_parts(sounds, noise, snr_db):
    """The quiet part and the padding of a clip do not count, nor does a pause in the noise."""
    white = disturbances.with_white_noise(sounds, snr_db, seed=0) - sounds.waveforms
    recorded = disturbances.with_noise(sounds, snr_db, seed=0, folder=str(noise)) - sounds.waveforms
    for clip, *added in zip(sounds.waveforms, white, recorded, strict=True):
        for mixed_in in added:
            frames = mixed_in.reshape(-1, 160)
            sounding = frames[np.abs(frames).max(1) > 0]
            loud = level_db(clip[: round(0.24 * RATE)])
            assert loud - level_db(sounding) == pytest.approx(snr_db, abs=0.1)


def test_noise_is_a_function_of_seed_and_clip(sounds, noise):
    for add in (
        lambda some, **other: disturbances.with_noise(some, **{"snr_db": 0.0, "seed": 0, "folder": str(noise)} | other),
        lambda some, **other: disturbances.with_white_noise(some, **{"snr_db": 0.0, "seed": 0} | other),
    ):
        added = add(sounds) - sounds.waveforms
        last = Sounds(sounds.waveforms[1:], NAMES[1:], RATE, sounds.n_heard)
        assert (add(last) - last.waveforms == added[1:]).all()
        assert not np.allclose(add(sounds, seed=1) - sounds.waveforms, added)
        assert np.corrcoef(added)[0, 1] < 0.9
        quieter = add(sounds, snr_db=20.0) - sounds.waveforms
        assert quieter == pytest.approx(added / 10, abs=1e-6)


def test_silent_stretch_of_noise_is_not_taken(tmp_path, sounds):
    """Most of the recording is silent; a clip that met silence would count as undisturbed."""
    ends = np.zeros(20 * RATE)
    ends[[0, -1]] = 0.5
    soundfile.write(tmp_path / "clicks.wav", ends, RATE)
    mixed = disturbances.with_noise(sounds, 0.0, seed=0, folder=str(tmp_path))
    assert (np.abs(mixed - sounds.waveforms).max(1) > 0).all()


def test_removed_band_is_missing_from_the_spectrum_below_the_cepstrum():
    waveforms = np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32) / 10
    disturbed = disturbances.without_band(Sounds(waveforms, NAMES[:1], RATE, RATE), 1000, 2000)
    mfcc = MFCC()
    before, after = (mfcc(torch.from_numpy(sound))[0, 0] for sound in (waveforms, disturbed))
    frequency = torch.arange(mfcc.n_fft // 2 + 1) * RATE / mfcc.n_fft
    heard = [frequency[weights > 0] for weights in mfcc.mel.T]
    inside = torch.tensor([bool(((hz > 1040) & (hz < 1960)).all()) for hz in heard])
    outside = torch.tensor([bool(((hz < 900) | (hz > 2100)).all()) for hz in heard])
    change = (mfcc.dct.T @ (after - before))[:, 3:-3].mean(1)  # of the log mel energies
    assert inside.sum() > 5 and change[inside].max() < -5
    assert outside.sum() > 20 and change[outside].abs().max() < 0.1
    assert after.abs().mean(1).min() > 0.01  # no coefficient is zeroed


def test_blanked_is_a_share_of_what_the_network_hears():
    """Of two clips of 4000 samples, 3200 are heard: one is padded to its length, the other goes on in the margins."""
    waveforms = np.zeros((2, 4000), np.float32)
    waveforms[0, 600:3200] = waveforms[1] = 1
    sounds = Sounds(waveforms, NAMES, RATE, 3200)
    for side, left in (
        ("start", [(600 + 650, 3200), (400 + 800, 4000)]),
        ("end", [(600, 3200 - 650), (0, 3600 - 800)]),
    ):
        expected = np.zeros_like(waveforms)
        for row, (first, after) in enumerate(left):
            expected[row, first:after] = 1
        assert (disturbances.blanked(sounds, 0.25, side) == expected).all()
    assert (waveforms[1] == 1).all()


def test_channels_and_gain():
    ramp = np.linspace(-1.5, 1.5, 30_000, dtype=np.float32)[None]
    sounds = Sounds(ramp, NAMES[:1], RATE, 30_000)
    linear, mu_law = disturbances.coded(sounds, "PCM_U8"), disturbances.coded(sounds, "ULAW")
    assert len(np.unique(linear)) == 256 and 150 < len(np.unique(mu_law)) <= 256
    assert np.abs(linear - ramp.clip(-1, 1)).max() < 1 / 127
    quiet = np.abs(ramp) < 0.01
    assert np.abs(mu_law - ramp)[quiet].max() < 4e-4 < np.abs(linear - ramp)[quiet].max()
    louder = disturbances.amplified(sounds, 20.0)
    assert louder.max() == 1 and louder.min() == -1
    unclipped = np.abs(ramp) < 0.099
    assert louder[unclipped] == pytest.approx(10 * ramp[unclipped], rel=1e-5)


def run(runs: Path, out: Path, *args: object, models: tuple[str, ...] = ("plain",)) -> None:
    main(["--ckpt", *(str(runs / name / "best.ckpt") for name in models), "--out", str(out), *map(str, args)])


@pytest.mark.slow
def test_models_side_by_side(runs, noise, tmp_path, capsys, caplog):
    few = ["--snr-db", 20, -20, "--blank", 0.5, "--gain-db", -10, "--low-pass-hz", 2000, "--bands-hz", 0, 500, 4000]
    run(runs, tmp_path, "--noise", noise, *few, models=("plain", "noisy"))
    assert "noisy was trained with noise" in caplog.text and "plain was trained with noise" not in caplog.text
    printed = capsys.readouterr().out
    assert "noise    20 dB" in printed and "minus plain" in printed
    for kind, severities in {
        "noise": ["undisturbed", "20", "-20"],
        "white": ["undisturbed", "20", "-20"],
        "bands": ["undisturbed", "0-500", "500-4000"],
        "ends": ["start 0.5", "undisturbed", "end 0.5"],
        "gain": ["-10", "undisturbed"],
        "channel": ["undisturbed", "8-bit linear", "8-bit mu-law", "low-pass 2000 Hz"],
    }.items():
        table = pd.read_csv(tmp_path / f"{kind}.csv", dtype={"severity": str}, keep_default_na=False)
        scores = table[(table["metric"] == "uar") & (table["minus"] == "")]
        for name in ("plain", "noisy"):
            assert scores.loc[scores["model"] == name, "severity"].tolist() == severities
        assert set(table["lineage"]) == {"CLEAN"} and set(table["n_clips"]) == {40} and set(table["n_subjects"]) == {5}
        assert (scores["low"] <= scores["value"]).all() and (scores["value"] <= scores["high"]).all()
        assert f"{kind}: UAR by severity" in (tmp_path / "report.html").read_text()
        with Image.open(tmp_path / f"{kind}.png") as figure:
            assert figure.width > 800
    white = pd.read_csv(tmp_path / "white.csv", keep_default_na=False).query("metric == 'macro_auc'")
    at, none = (
        white[white["severity"] == severity].set_index(["model", "minus"])["value"]
        for severity in ("-20", "undisturbed")
    )
    for name in ("plain", "noisy"):
        assert at[name, ""] != none[name, ""]
        assert at[name, "undisturbed"] == pytest.approx(at[name, ""] - none[name, ""])
    assert at["noisy", "plain"] == pytest.approx(at["noisy", ""] - at["plain", ""])
    assert ("plain", "plain") not in at.index


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["pretrain", "noisy"])
def test_undisturbed_scores_are_those_of_test(request, tmp_path, name, caplog):
    """Margins for shifts, the front end before or inside the stage, a rounded cache."""
    runs = request.getfixturevalue("tested").parents[1] if name == "pretrain" else request.getfixturevalue("runs")
    run(runs, tmp_path, "--kinds", "gain", "--gain-db", 20, models=(name,))
    tested = pd.read_csv(runs / name / "predictions.csv").query("split == 'test'").set_index("clip")
    (undisturbed,) = (tmp_path / "predictions" / name).glob("undisturbed-*.csv")
    (louder,) = (tmp_path / "predictions" / name).glob("gain_20-*.csv")
    scores = tested.filter(like="score_")
    assert (pd.read_csv(undisturbed).set_index("clip")[scores.columns] - scores).abs().max(axis=None) < 1e-5
    assert (pd.read_csv(louder).set_index("clip")[scores.columns] - scores).abs().max(axis=None) > 1e-3
    assert "undisturbed, its scores differ" not in caplog.text


@pytest.mark.slow
def test_finished_points_are_not_run_again(runs, noise, tmp_path, monkeypatch):
    args = ["--kinds", "white", "gain", "--snr-db", 0, "--gain-db", 10]
    monkeypatch.setattr(robustness_report, "draw", lambda *_: Figure((1, 1)))  # it takes longer than all else here
    run(runs, tmp_path / "unbroken", *args)
    heard = []

    def scores(self, waveforms, scores=ModelUnderTest.scores):
        heard.append(len(waveforms))
        if len(heard) == 3:
            raise KeyboardInterrupt
        return scores(self, waveforms)

    monkeypatch.setattr(ModelUnderTest, "scores", scores)
    with pytest.raises(KeyboardInterrupt):
        run(runs, tmp_path / "killed", *args)
    assert not (tmp_path / "killed/white.csv").exists()
    run(runs, tmp_path / "killed", *args)
    assert len(heard) == 4  # undisturbed and white; gain; gain again
    run(runs, tmp_path / "killed", *args)
    assert len(heard) == 4
    names = sorted(path.relative_to(tmp_path / "killed") for path in (tmp_path / "killed").rglob("*.csv"))
    assert len(names) == 2 + 3
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
    run(runs, tmp_path / "killed", *args, "--seed", 1)
    assert len(heard) == 5  # of what was done, only noise depends on the seed
    damaged = next((tmp_path / "killed").glob("predictions/*/gain*.csv"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    run(runs, tmp_path / "killed", *args)
    assert len(heard) == 6 and damaged.read_bytes() == whole


@pytest.mark.slow
def test_predictions_of_another_checkpoint_are_told(runs, tmp_path, caplog):
    other = tmp_path / "runs/plain"
    shutil.copytree(runs / "plain", other)
    checkpoint = torch.load(other / "best.ckpt", weights_only=True)
    checkpoint["state_dict"]["head.bias"] += torch.tensor([1.0, 0.0])
    torch.save(checkpoint, other / "best.ckpt")
    run(tmp_path / "runs", tmp_path / "out", "--kinds", "gain", "--gain-db", 10)
    assert "plain: undisturbed, its scores differ by up to 0." in caplog.text


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--kinds", "noise"], "--kinds noise wants recordings to add: --noise FOLDER"),
        (["--noise", "EMPTY"], "EMPTY: no noise to add"),
        (["--kinds", "white", "--snr-db", "loud"], "argument --snr-db: invalid number value: 'loud'"),
        (
            ["--kinds", "white", "--snr-db", "0,5"],
            r"argument --snr-db: 0,5: use a point for decimals \(0\.5\), and blanks",
        ),
        (["--kinds", "white", "--snr-db", "nan"], "argument --snr-db: invalid number value: 'nan'"),
        (["--bands-hz", 0, 5000], r"--bands-hz 5000: the model is given 0 to 4000 Hz, its sample rate is 8000 Hz"),
        (["--bands-hz", 500, 100], r"--bands-hz 500 100: give two or more edges, from 0 Hz upwards"),
        (["--low-pass-hz", 4500], r"--low-pass-hz 4500: the model is given 0 to 4000 Hz"),
        (["--blank", 1.5], r"--blank 1\.5: shares of the clip lie between 0 and 1"),
        (["--kinds", "echo"], "argument --kinds: invalid choice: 'echo'"),
    ],
)
def test_options_that_make_no_sense(tested, tmp_path, monkeypatch, args, told):
    monkeypatch.chdir(tmp_path)
    Path("EMPTY").mkdir()
    with pytest.raises(UserError, match=told):
        run(tested.parents[1], tmp_path / "out", *args, models=("pretrain",))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_models_that_cannot_be_used(runs, tones, tmp_path):
    def refused(told: str, folder: Path, *models: str) -> None:
        with pytest.raises(UserError, match=told):
            run(folder, tmp_path / "out", "--kinds", "gain", models=models)

    copies = tmp_path / "runs"
    shutil.copytree(runs, copies)
    refused("plain is named twice", runs, "plain", "plain")

    path = copies / "noisy/predictions.csv"
    table = pd.read_csv(path)
    table[table["clip"] != table.query("split == 'test'")["clip"].iloc[0]].to_csv(path, index=False)
    refused("not tested on the same clips.*1 clip is tested only by .*plain", copies, "plain", "noisy")
    table.replace({table["clip"].iloc[0]: "gone.wav#0.000-end"}).to_csv(path, index=False)
    refused("1 clips that it was tested on are no longer in its corpus .*first gone.wav", copies, "noisy")
    path.unlink()
    refused(r"noisy: no predictions\.csv; `python -m cry_lightning test", copies, "noisy")

    lineage = copies / "plain/lineage.json"
    told = json.loads(lineage.read_text())
    told["stages"][-1]["clips"] = list(told["test_clips"].values())
    lineage.write_text(json.dumps(told))
    refused("plain: LEAKY, .*40 of 40 tested clips trained on.*--allow-leaky", copies, "plain")
    run(copies, tmp_path / "leaky", "--kinds", "gain", "--gain-db", 10, "--allow-leaky")
    assert (pd.read_csv(tmp_path / "leaky/gain.csv")["lineage"] == "LEAKY").all()

    checkpoint = torch.load(runs / "plain/best.ckpt", weights_only=True)
    simclr = SimCLR(Res8(n_maps=4), Optimisation(torch.optim.SGD))
    given = {name: checkpoint["hyper_parameters"][name] for name in ("encoder", "optimisation")}
    given["_class_path"] = "cry_lightning.tasks.SimCLR"
    del checkpoint["classes"]
    torch.save(checkpoint | {"state_dict": simclr.state_dict(), "hyper_parameters": given}, copies / "noisy/best.ckpt")
    refused("has no head for classes, it is a SimCLR", copies, "noisy")
    assert not (tmp_path / "out").exists()
    assert robustness.BATCH_SIZE >= 40  # or the counts of batches above are others
