"""VGGish's patches of clips of any length: their framing, padding and level, and one prediction for each clip."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from made import stage_config

from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.corpora import Manifest
from cry_lightning.data.cache import FeatureCache
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.metrics import units_at
from cry_lightning.features import VGGishLogMel

RATE = 16000
FLOOR = np.log(np.float32(0.01))
LENGTHS_S = (0.3, 2.5)
PATCHES = {"window_s": 0.975, "hop_s": 0.96}


@pytest.fixture(scope="module")
def cries(tmp_path_factory) -> Path:
    """manifest.csv of 12 babies with a short and a long clip each, of two classes an octave apart."""
    folder = tmp_path_factory.mktemp("cries")
    rng = np.random.default_rng(0)
    lines = ["path,label,subject"]
    for baby in range(12):
        label = ("low", "high")[baby % 2]
        for seconds in LENGTHS_S:
            time = np.arange(round(seconds * RATE)) / RATE
            sound = 0.3 * np.sin(2 * np.pi * (400 + 10 * baby) * (1 + baby % 2) * time)
            sound += 0.02 * rng.standard_normal(len(time))
            soundfile.write(folder / f"{baby}_{seconds}.wav", sound, RATE, subtype="FLOAT")
            lines.append(f"{baby}_{seconds}.wav,{label},baby{baby}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


def log_mels(cries: Path, folder: Path, fit: str, feature: VGGishLogMel) -> dict[str, np.ndarray]:
    """Clip -> what the cache holds of it (64, T), of the first baby."""
    cache = FeatureCache(Manifest(cries, **PATCHES), feature, 0.975, fit, folder=folder)
    cache.build()
    rows = cache.open().gather(torch.arange(len(cache.clips)))[:, 0].numpy()
    return {clip.name: row for clip, row in zip(cache.clips, rows, strict=True) if clip.subject.endswith(":baby0")}


def test_a_patch_is_96_frames() -> None:
    feature = VGGishLogMel()
    assert feature.n_frames(0.975) == 96
    assert feature(torch.zeros(1, 15_600)).shape[-1] == 96
    assert feature(torch.zeros(1, 15_599)).shape[-1] == 95
    assert feature(torch.zeros(1, 400)).shape[-1] == 1


def test_windows_of_a_long_clip_are_the_patches_of_the_whole(cries: Path, tmp_path: Path) -> None:
    """VGGish's own code cuts the frames of the whole clip, here 248, by 96 and drops the rest."""
    cached = log_mels(cries, tmp_path, "pad", VGGishLogMel())
    assert list(cached) == ["0_0.3.wav#0.000-end", "0_2.5.wav#0.000-0.975", "0_2.5.wav#0.960-0.975"]
    sound, _ = soundfile.read(cries.parent / "0_2.5.wav", dtype="float32")
    whole = VGGishLogMel()(torch.from_numpy(sound)[None])[0, 0].numpy()
    assert whole.shape == (64, 248)
    np.testing.assert_allclose(cached["0_2.5.wav#0.000-0.975"], whole[:, :96], atol=1e-6)
    np.testing.assert_allclose(cached["0_2.5.wav#0.960-0.975"], whole[:, 96:192], atol=1e-6)


def test_a_short_clip_is_one_patch_padded_or_repeated(cries: Path, tmp_path: Path) -> None:
    """Of 0.3 s, 4800 samples, of which 5400 are missing on each side."""
    padded = log_mels(cries, tmp_path, "pad", VGGishLogMel())["0_0.3.wav#0.000-end"]
    first, last = 32, 63  # frames that hold any of the samples 5400 to 10199
    assert padded.shape == (64, 96)
    np.testing.assert_array_equal(padded[:, :first], FLOOR)
    np.testing.assert_array_equal(padded[:, last + 1 :], FLOOR)
    assert (padded[:, first : last + 1].max(0) > FLOOR + 0.1).all()
    repeated = log_mels(cries, tmp_path, "repeat", VGGishLogMel())["0_0.3.wav#0.000-end"]
    assert (repeated.max(0) > 1).all()
    np.testing.assert_allclose(repeated[:, :28], repeated[:, 30:58], atol=1e-6)  # 4800 samples are 30 frames


def test_z_score_of_a_padded_clip_counts_the_zeros(cries: Path, tmp_path: Path) -> None:
    """So it comes out louder, by the root of 0.975 over 0.3 s; a repeated one as loud as a long clip."""
    loudest = {}
    for fit in ("pad", "repeat"):
        for name, patch in log_mels(cries, tmp_path, fit, VGGishLogMel(z_score=True)).items():
            loudest[fit, name] = np.log(np.exp(patch.max(0)).max() - 0.01)
    short, long = "0_0.3.wav#0.000-end", "0_2.5.wav#0.000-0.975"
    assert loudest["pad", short] - loudest["pad", long] == pytest.approx(np.log(np.sqrt(0.975 / 0.3)), abs=0.05)
    assert loudest["repeat", short] == pytest.approx(loudest["repeat", long], abs=0.05)


@pytest.mark.parametrize("feature", [VGGishLogMel(), VGGishLogMel(0.97, z_score=True)], ids=["plain", "zhao"])
def test_silence_lies_at_the_floor(feature: VGGishLogMel) -> None:
    np.testing.assert_array_equal(feature(torch.zeros(2, 15_600)).numpy(), np.full((2, 1, 64, 96), FLOOR))


def test_z_score_of_a_constant_is_silence_and_of_any_level_the_same() -> None:
    feature = VGGishLogMel(z_score=True)
    np.testing.assert_allclose(feature(torch.full((1, 15_600), 0.1)).numpy(), FLOOR, atol=1e-6)
    sound = torch.randn(1, 15_600, generator=torch.Generator().manual_seed(0)) / 8
    torch.testing.assert_close(feature(sound), feature(sound / 1024 + 0.25), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 399), (15_600,), (1, 1, 15_600)])
def test_front_end_refuses_waveforms_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"VGGishLogMel: wants waveforms of shape \(B, N\), N at least 400"):
        VGGishLogMel()(torch.zeros(shape))


@pytest.mark.parametrize("coefficient", [-0.1, 1.5])
def test_front_end_refuses_a_coefficient_out_of_range(coefficient: float) -> None:
    with pytest.raises(UserError, match="pre_emphasis must lie between 0 and 1"):
        VGGishLogMel(pre_emphasis=coefficient)


@pytest.mark.slow
def test_a_clip_of_several_patches_gets_one_prediction_their_mean(cries: Path, tmp_path: Path) -> None:
    config = stage_config(cries, tmp_path)
    config["data"]["corpus"]["init_args"] |= PATCHES | {"name": "cries"}
    config["data"] |= {"clip_s": 0.975, "shift_s": 0.0, "cache": {"folder": str(tmp_path / "cache")}}
    config["data"]["feature"] = {"class_path": "cry_lightning.features.VGGishLogMel"}
    encoder = {"class_path": "cry_lightning.encoders.VGGish", "init_args": {"width": 2}}
    config["model"]["init_args"]["encoder"] = encoder
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}}
    config["model"]["init_args"]["optimisation"] = {"optimizer": adam}
    (tmp_path / "zhao.yaml").write_text(yaml.safe_dump(config))
    run = cli.main(["fit", "--config", str(tmp_path / "zhao.yaml")])
    cli.main(["test", "--config", str(run.run_folder.config)])
    table = predictions.read(run.run_folder.path / "predictions.csv")
    patches = table.groupby("recording")["clip"].count()
    assert {name: (1 if name.endswith("_0.3.wav") else 2) for name in patches.index} == patches.to_dict()
    clips = units_at("recording", table).table.set_index("unit")
    assert set(clips.index) == set(table["recording"])
    long = next(name for name in clips.index if name.endswith("_2.5.wav"))
    of_patches = table.loc[table["recording"] == long, "score_high"]
    assert of_patches.nunique() == 2
    assert clips.loc[long, "score_high"] == pytest.approx(of_patches.mean())
