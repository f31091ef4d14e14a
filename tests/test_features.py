"""MFCC: parity with librosa as honk calls it, independence of rows, refusals."""

import os
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

from cry_lightning.errors import UserError
from cry_lightning.features import MFCC

DATA = Path(os.environ.get("CRY_LIGHTNING_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
RATES = {8000: MFCC(), 16000: MFCC(sample_rate=16000, n_fft=480, hop_length=160)}
TOLERANCE = 1e-3  # float32 against librosa in float64, on coefficients of up to 150


def honk_mfcc(waveform: np.ndarray, mfcc: MFCC) -> np.ndarray:
    """(F, T) in float64; librosa mirrored the ends when honk was written."""
    mel = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=mfcc.sample_rate,
        n_fft=mfcc.n_fft,
        hop_length=mfcc.hop_length,
        n_mels=mfcc.n_mels,
        fmin=mfcc.f_min,
        fmax=mfcc.f_max,
        pad_mode="reflect",
        dtype=np.float64,
    )
    mel[mel > 0] = np.log(mel[mel > 0])
    order = np.arange(mfcc.n_mels)
    dct = np.cos(np.pi / mfcc.n_mels * (order + 0.5) * np.arange(mfcc.n_mfcc)[:, None]) * np.sqrt(2 / mfcc.n_mels)
    dct[0] /= np.sqrt(2)
    return dct @ mel


def made_sounds(sample_rate: int) -> np.ndarray:
    """A gliding harmonic cry, white noise, and near-silence.

    The cry lies on faint noise: bands that hold nothing but rounding errors differ between any two arithmetics.
    """
    rng = np.random.default_rng(0)
    time = np.arange(sample_rate) / sample_rate
    phase = 2 * np.pi * np.cumsum(450 + 80 * np.sin(2 * np.pi * 3 * time)) / sample_rate
    cry = sum(np.sin(k * phase) / k for k in range(1, 8)) * 0.1
    noise = rng.normal(0, 0.1, sample_rate)
    return np.stack([cry + noise * 1e-3, noise, noise * 1e-4]).astype(np.float32)


@pytest.mark.parametrize("sample_rate", RATES)
def test_equals_librosa_on_made_sounds(sample_rate: int) -> None:
    mfcc = RATES[sample_rate]
    waveform = made_sounds(sample_rate)
    got = mfcc(torch.from_numpy(waveform))
    assert got.shape == (3, 1, 40, 101)
    assert got.dtype == torch.float32
    for row, sound in zip(got, waveform, strict=True):
        np.testing.assert_allclose(row[0].numpy(), honk_mfcc(sound, mfcc), atol=TOLERANCE)


@pytest.mark.parametrize(("sample_rate", "files"), [(8000, "donateacry/**/*.wav"), (16000, "noise/*.flac")])
def test_equals_librosa_on_real_recordings(sample_rate: int, files: str) -> None:
    recordings = sorted(DATA.glob(files))
    if not recordings:
        pytest.skip(f"no recordings at {DATA / files}")
    for recording in recordings[:: len(recordings) // 10]:
        waveform, rate = soundfile.read(recording, dtype="float32", frames=12_345)
        assert rate == sample_rate
        got = RATES[sample_rate](torch.from_numpy(waveform)[None])[0, 0]
        np.testing.assert_allclose(got.numpy(), honk_mfcc(waveform, RATES[sample_rate]), atol=TOLERANCE)


def test_digital_silence_is_exactly_zero() -> None:
    assert torch.equal(RATES[8000](torch.zeros(1, 8079)), torch.zeros(1, 1, 40, 101))


def test_rows_are_independent() -> None:
    mfcc = RATES[8000]
    batch = torch.from_numpy(made_sounds(8000)).repeat(22, 1)[:64]
    alone = torch.cat([mfcc(row[None]) for row in batch])
    torch.testing.assert_close(mfcc(batch), alone, rtol=1e-6, atol=1e-6 * alone.abs().max().item())


def test_stays_float32_under_autocast() -> None:
    waveform = torch.from_numpy(made_sounds(8000))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = RATES[8000](waveform)
    assert torch.equal(under_autocast, RATES[8000](waveform))


def test_has_no_state_and_knows_its_identity() -> None:
    mfcc = MFCC(n_mfcc=13)
    assert not mfcc.state_dict()
    assert mfcc.identity()["n_mfcc"] == 13
    assert mfcc.identity() != MFCC().identity()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"f_max": 4001.0}, "f_max"),
        ({"f_min": 4000.0}, "f_min"),
        ({"n_fft": 0}, "n_fft"),
        ({"hop_length": 0}, "hop_length"),
        ({"n_mfcc": 41}, "n_mfcc"),
    ],
)
def test_refuses_arguments_that_contradict(arguments: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        MFCC(**arguments)


@pytest.mark.parametrize("shape", [(1, 120), (8000,)])
def test_refuses_waveforms_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="MFCC"):
        RATES[8000](torch.ones(shape))
