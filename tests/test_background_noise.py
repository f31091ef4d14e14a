"""Background noise: how often, how loud, and which share of the recordings is heard."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from made import cry

from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.lineage import sound_fingerprint
from cry_lightning.lineage.acoustic_fingerprint import alike, landmarks
from cry_lightning.tasks.augment import BackgroundNoise, WaveformNoise

RATE = 8000


@pytest.fixture
def steps(tmp_path) -> Path:
    """A recording whose samples tell their place: 2 s that rise from 0.1 to 0.5."""
    soundfile.write(tmp_path / "steps.wav", np.linspace(0.1, 0.5, 2 * RATE), RATE, subtype="FLOAT")
    return tmp_path


def added(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    return module(batch) - batch


def test_a_row_gets_a_stretch_of_noise_times_a_gain_of_its_own(steps):
    """Two lines of one slope and another height are not multiples of each other, so the place tells the gain."""
    noise = added(BackgroundNoise(steps, RATE, max_gain=0.1, probability=1.0), torch.zeros(500, RATE)).double()
    slope = 0.4 / (2 * RATE - 1)
    gain = (noise[:, -1] - noise[:, 0]) / (slope * (RATE - 1))
    start = (noise[:, 0] / gain - 0.1) / slope
    assert 0 <= gain.min() < 0.002 and 0.098 < gain.max() <= 0.1001
    assert gain.mean() == pytest.approx(0.05, abs=0.005)
    loud = gain > 0.01  # of the others, rounding hides the place
    assert -1 < start[loud].min() < 200 and RATE - 200 < start[loud].max() < RATE + 1
    line = gain[:, None] * (0.1 + slope * (start[:, None] + torch.arange(RATE)))
    torch.testing.assert_close(noise[loud], line[loud], atol=1e-6, rtol=0)


def test_noise_does_not_follow_the_level_of_the_row_and_comes_as_often_as_asked(steps):
    module = BackgroundNoise(steps, RATE, max_gain=0.1, probability=0.8)
    quiet, loud = (added(module, torch.full((2000, 400), level)) for level in (0.0, 0.5))
    torch.testing.assert_close(quiet, loud, atol=1e-6, rtol=0)
    assert (quiet.abs().sum(1) > 0).float().mean() == pytest.approx(0.8, abs=0.03)
    for off in (BackgroundNoise(steps, RATE, probability=0.0), BackgroundNoise(steps, RATE, max_gain=0.0)):
        assert torch.equal(off(loud), loud)


@pytest.mark.parametrize("kind", [BackgroundNoise, WaveformNoise])
def test_the_rest_of_a_recording_is_never_heard(steps, kind):
    """What is kept for testing, e.g. as silence, must not be known from training."""
    module = kind(steps, RATE, probability=1.0, share=0.6)
    module.load(1)
    assert module.lengths.tolist() == [int(0.6 * 2 * RATE)] and module.noise.max() < 0.1 + 0.6 * 0.4 + 1e-6


def test_what_is_added_is_in_the_lineage_and_no_more(tmp_path):
    """Of half a recording, the first half; a later one is found again nowhere in it."""
    soundfile.write(tmp_path / "noise.wav", np.concatenate([cry(0), cry(1)]), RATE, subtype="FLOAT")
    (added,) = BackgroundNoise(tmp_path, RATE, share=0.5).sounds
    assert added.split("#")[1] == "0.000-3.000"
    tested = [sound_fingerprint(f"copy{seed}#0.000-end", *landmarks(cry(seed)[None], RATE)) for seed in (1, 0)]
    assert alike(tested, [added]).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: BackgroundNoise("noise", RATE, max_gain=-0.1), "BackgroundNoise: max_gain"),
        (lambda: BackgroundNoise("noise", RATE, probability=1.1), "BackgroundNoise: probability"),
        (lambda: BackgroundNoise("noise", RATE, share=0.0), "share"),
        (lambda: BackgroundNoise("noise", 0), "sample_rate"),
        (lambda: BackgroundNoise("noise", RATE)(torch.zeros(2, 1, 40, 101)), "BackgroundNoise: wants a batch"),
        (lambda: BackgroundNoise("absent", RATE)(torch.zeros(2, RATE)), "absent: no noise to add"),
    ],
)
def test_refuses_what_it_cannot_do(wrong: Callable[[], object], named: str):
    with pytest.raises(UserError, match=named):
        wrong()


def test_a_fit_without_its_noise_leaves_no_run(stage, tmp_path):
    arguments = f"{{folder: {tmp_path}/none, sample_rate: {RATE}}}"
    noise = f"{{class_path: cry_lightning.tasks.augment.WaveformNoise, init_args: {arguments}}}"
    front_end = ["--data.feature=cry_lightning.features.Waveform"]
    front_end += ["--model.init_args.front_end=cry_lightning.features.MFCC"]
    with pytest.raises(UserError, match="none: no noise to add"):
        cli.main(["fit", "--config", str(stage()), *front_end, f"--model.init_args.augment_waveform=[{noise}]"])
    assert not (tmp_path / "runs").exists()
