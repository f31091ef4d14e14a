"""Acoustic measures: what Praat finds in sounds whose pitch, noise and units are known, and what is refused."""

import numpy as np
import pytest
import soxr
import torch
from scipy.signal import lfilter

from cry_lightning.cli import stage as cli
from cry_lightning.commands.arguments import SHIPPED
from cry_lightning.console import UserError
from cry_lightning.data.datamodule import check_shift
from cry_lightning.features import measures as module
from cry_lightning.features.measures import MEASURES, AcousticMeasures

RATE = 16000


def voice(f0: float, seconds: float = 1.0, glide: float = 0.0) -> np.ndarray:
    """Ten harmonics of a pitch that rises by `glide` Hz a second."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (f0 * time + glide * time**2 / 2)
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 11))


def cry(rate: int = RATE) -> np.ndarray:
    """One second of a pitch about 440 Hz through a vocal tract with formants at 1,100, 3,300 and 5,500 Hz."""
    time = np.arange(rate) / rate
    phase = 2 * np.pi * 440 * time + 7.5 * np.sin(4 * np.pi * time)
    samples = sum(np.sin(k * phase) / k for k in range(1, rate // 2 // 470))
    for formant in (one for one in (1100, 3300, 5500) if one < rate / 2):
        angle, radius = 2 * np.pi * formant / rate, np.exp(-np.pi * 150 / rate)
        samples = lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], samples)
    return 0.3 * samples / np.abs(samples).max() + noise(rate, -60.0)


def noise(n_samples: int, level_db: float) -> np.ndarray:
    return 10 ** (level_db / 20) * np.random.default_rng(0).standard_normal(n_samples)


def measured(samples: np.ndarray, **options: float) -> dict[str, float]:
    row = AcousticMeasures(**options)(torch.from_numpy(samples).float()[None])
    assert row.shape == (1, 1, len(MEASURES), 1)
    return dict(zip(MEASURES, row.flatten().tolist(), strict=True))


@pytest.mark.parametrize("f0", [250.0, 440.0, 900.0])
def test_pitch_of_a_steady_voice(f0):
    found = measured(voice(f0))
    assert found["f0_mean_hz"] == pytest.approx(f0, rel=0.005) and found["f0_sd_hz"] < 1
    assert found["voiced"] > 0.95 and found["jitter"] < 5e-3 and found["shimmer"] < 0.03 and found["units"] == 1


def test_slope_of_a_glide():
    found = measured(voice(400.0, glide=100.0))
    assert found["f0_slope_hz_per_s"] == pytest.approx(100, rel=0.05)
    assert found["f0_low_hz"] < 410 and found["f0_high_hz"] > 490


@pytest.mark.parametrize("snr_db", [5.0, 15.0])
def test_harmonics_to_noise_ratio_is_that_of_the_mixture(snr_db):
    clean = voice(440.0, 2.0)
    noise = np.random.default_rng(0).standard_normal(len(clean))
    noise *= np.sqrt(np.square(clean).mean() / np.square(noise).mean()) * 10 ** (-snr_db / 20)
    assert measured(clean + noise)["hnr_mean_db"] == pytest.approx(snr_db, abs=1.5)


def test_formants_are_those_of_the_voice_whatever_is_behind_it():
    alone = measured(cry())
    assert alone["f1_mean_hz"] == pytest.approx(1100, rel=0.02)
    behind = measured(np.concatenate([cry(), noise(2 * RATE, -60.0)]))
    for formant in ("f1_mean_hz", "f3_mean_hz"):
        assert behind[formant] == pytest.approx(alone[formant], rel=0.02)


def test_no_formant_is_looked_for_where_a_recording_has_no_sound():
    found = measured(soxr.resample(cry(8000), 8000, RATE, quality="HQ"))
    assert found["f1_mean_hz"] == pytest.approx(1100, rel=0.1)
    assert found["f2_mean_hz"] == pytest.approx(3300, rel=0.1) and found["f3_mean_hz"] == 0  # as far as 4,000 Hz


def test_units_are_runs_of_sound():
    gap = np.zeros(RATE // 5)
    found = measured(np.concatenate([voice(440.0, 0.3), gap, voice(440.0, 0.5), gap, voice(440.0, 0.2)]))
    assert found["units"] == 3
    assert found["sounding_s"] == pytest.approx(1.0, abs=0.03)
    assert found["longest_unit_s"] == pytest.approx(0.5, abs=0.02)


def test_noise_has_no_pitch_and_silence_no_measures():
    found = measured(0.1 * np.random.default_rng(0).standard_normal(RATE))
    assert found["f0_mean_hz"] == found["jitter"] == 0 and found["hnr_mean_db"] < 0
    for nothing in (np.zeros(RATE), voice(440.0)[:100]):
        assert set(measured(nothing).values()) == {0.0}
    assert measured(np.full(RATE, 0.5))["f1_mean_hz"] == 0


def test_each_row_depends_on_itself_alone():
    batch = torch.from_numpy(np.stack([voice(300.0), voice(600.0), np.zeros(RATE)])).float()
    feature = AcousticMeasures()
    alone = torch.cat([feature(row[None]) for row in batch])
    assert torch.equal(feature(batch), alone) and feature.n_frames(1.0) == 1


def test_nothing_is_learned_through_it():
    assert not AcousticMeasures()(torch.from_numpy(voice(300.0)).float()[None].requires_grad_()).requires_grad


@pytest.mark.parametrize(
    "options", [{"f0_min": 0.0}, {"f0_max": 100.0}, {"f0_max": 5000.0}, {"formant_max": 9000.0}, {"sample_rate": 0}]
)
def test_limits_that_make_no_sense_are_refused(options):
    with pytest.raises(UserError, match="AcousticMeasures: "):
        AcousticMeasures(**options)


def test_a_shift_is_refused():
    with pytest.raises(UserError, match="changes nothing"):
        check_shift(AcousticMeasures(), 1.0, 0.1)


def test_says_how_to_install_praat(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cry_lightning\[measures\]'"):
        AcousticMeasures()


@pytest.mark.slow
def test_baseline_finds_what_shows_in_synthetic_cries(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs = SHIPPED
    run = cli.main(
        ["fit", f"--config={configs}/measures.yaml", "--trainer.logger=false", "--data.corpus.init_args.n_infants=40"]
    )
    assert run.trainer.callback_metrics["val/uar"] > 0.65
