"""Augmentations: what they change, by how much, row by row, repeatably, and never in eval mode."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from cry_lightning.errors import UserError
from cry_lightning.tasks.augment import SpecAugment, TimeShift, WaveformNoise, active_power
from cry_lightning.tasks.heads import MLPHead

RATE = 8000


@pytest.fixture
def noise_folder(tmp_path: Path) -> Path:
    """A long noise at another sample rate, a short stereo one with zeros at its end, and a silent one."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "noise"
    (folder / "street").mkdir(parents=True)
    soundfile.write(folder / "long.flac", rng.normal(0, 0.05, 32_000), 16_000)
    short = np.concatenate([rng.normal(0, 0.02, (3_000, 2)), np.zeros((9_000, 2))])
    soundfile.write(folder / "street" / "short.WAV", short, RATE)
    soundfile.write(folder / "silent.wav", np.zeros(9_000), RATE)
    return folder


def cries(n_rows: int = 16) -> Tensor:
    """Tones with digital silence around them, as a padded cry has; the edges lie between two 20 ms frames."""
    tone = torch.sin(2 * torch.pi * 450 * torch.arange(RATE) / RATE) * 0.3
    tone[:1920] = tone[6080:] = 0
    return tone.repeat(n_rows, 1)


def features(n_rows: int = 32) -> Tensor:
    return torch.randn(n_rows, 1, 40, 101, generator=torch.Generator().manual_seed(0)) + 3


def seeded(module: torch.nn.Module, batch: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return module(batch)


@pytest.mark.parametrize("kind", ["shift", "mask", "noise"])
def test_repeats_under_a_seed_differs_by_row_and_rests_in_eval(kind: str, noise_folder: Path) -> None:
    module = {
        "shift": TimeShift(10),
        "mask": SpecAugment(),
        "noise": WaveformNoise(noise_folder, RATE, probability=1.0),
    }[kind]
    one = cries(1) if kind == "noise" else features(1)
    batch = one.repeat(32, *[1] * (one.ndim - 1))
    before = batch.clone()
    once = seeded(module, batch, 1)
    assert torch.equal(once, seeded(module, batch, 1))
    assert not torch.equal(once, seeded(module, batch, 2))
    assert len(torch.unique(once.flatten(1), dim=0)) > 8
    assert torch.equal(batch, before)
    assert torch.equal(module.eval()(batch), before)
    assert not module.state_dict()


def test_time_shift_moves_frames_and_fills_with_zeros() -> None:
    batch = features(256)
    shifted = seeded(TimeShift(4), batch, 0)
    seen = set()
    for before, after in zip(batch, shifted, strict=True):
        candidates = {}
        for shift in range(-4, 5):
            moved = torch.zeros_like(before)
            moved[..., max(shift, 0) : 101 + min(shift, 0)] = before[..., max(-shift, 0) : 101 - max(shift, 0)]
            candidates[shift] = moved
        found = [shift for shift, moved in candidates.items() if torch.equal(moved, after)]
        assert len(found) == 1
        seen.add(found[0])
    assert seen == set(range(-4, 5))


def test_spec_augment_masks_whole_bands_within_their_widths() -> None:
    batch = features(2048)
    masked = seeded(SpecAugment(time_masks=1, time_width=7, freq_masks=1, freq_width=5), batch, 0)
    changed = (masked != batch)[:, 0]
    times, bins = changed.all(1), changed.all(2)
    assert torch.equal(changed, times[:, None, :] | bins[:, :, None])
    for mask, width in ((times, 7), (bins, 5)):
        assert set(mask.sum(1).tolist()) == set(range(width + 1))
        edges = torch.diff(mask.int(), prepend=torch.zeros(2048, 1), append=torch.zeros(2048, 1)).abs().sum(1)
        assert edges.max() == 2  # one contiguous band
        assert mask.any(0).all()  # a band may lie anywhere, the ends included
    row = int(changed.flatten(1).any(1).nonzero()[0])
    torch.testing.assert_close(masked[row, 0][changed[row]].unique(), batch[row].mean().reshape(1))


def test_spec_augment_takes_features_narrower_than_its_masks() -> None:
    masked = SpecAugment(time_width=500, freq_width=500)(features()[..., :3])
    assert masked.shape == (32, 1, 40, 3)
    assert masked.isfinite().all()


def test_noise_has_the_ratio_asked_for(noise_folder: Path) -> None:
    batch = cries(64)
    for snr_db in (-5.0, 12.0):
        noise = seeded(WaveformNoise(noise_folder, RATE, (snr_db, snr_db), probability=1.0), batch, 0) - batch
        active = batch[:, 1920:6080].square().mean(1)  # where the tone sounds: a pad of zeros is no signal
        realised = 10 * torch.log10(active / active_power(noise, RATE))
        torch.testing.assert_close(realised, torch.full_like(realised, snr_db), atol=0.1, rtol=0)


def test_ratios_span_their_range_and_probability_holds(noise_folder: Path) -> None:
    batch = cries(512)
    noise = seeded(WaveformNoise(noise_folder, RATE, (5.0, 20.0), probability=0.8), batch, 0) - batch
    noisy = noise.abs().sum(1) > 0
    assert 0.74 < noisy.float().mean() < 0.86
    snr_db = 10 * torch.log10(active_power(batch, RATE) / active_power(noise, RATE))[noisy]
    assert 4.9 < snr_db.min() < 6 and 19 < snr_db.max() < 20.1


def test_noise_is_resampled_repeated_and_never_silent(noise_folder: Path) -> None:
    module = WaveformNoise(noise_folder, RATE, probability=1.0)
    module.load()
    assert sorted(module.lengths.tolist()) == [3_000, 16_000]  # the silent one is left out, the padding cut off
    added = module(cries(64)) - cries(64)
    assert (added.unfold(1, 160, 160).std(2) > 0).all()
    repeats = (added[:, :3_000] - added[:, 3_000:6_000]).abs().amax(1) < 1e-6
    assert 10 < repeats.sum() < 54  # the short recording comes round again, the long one does not


def test_silence_stays_silent_and_finite(noise_folder: Path) -> None:
    assert torch.equal(WaveformNoise(noise_folder, RATE, probability=1.0)(torch.zeros(4, RATE)), torch.zeros(4, RATE))


def test_noise_is_not_read_before_it_is_needed_and_then_refused_by_name(tmp_path: Path) -> None:
    absent = WaveformNoise(tmp_path / "absent", RATE)
    assert torch.equal(absent.eval()(cries()), cries())
    with pytest.raises(UserError, match="absent"):
        absent.train()(cries())
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"broken\.wav"):
        WaveformNoise(tmp_path, RATE)(cries())


def test_refuses_arguments_out_of_range() -> None:
    with pytest.raises(UserError, match="snr_db"):
        WaveformNoise("noise", RATE, snr_db=(20.0, 5.0))
    with pytest.raises(UserError, match="max_frames"):
        TimeShift(-1)
    with pytest.raises(UserError, match="SpecAugment"):
        SpecAugment(time_masks=-1)


def test_mlp_head_has_the_layers_asked_for() -> None:
    head = MLPHead(2048, 5)
    dense = [layer for layer in head if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in dense] == [512, 256, 128, 5]
    assert head(torch.randn(3, 2048)).shape == (3, 5)
    assert sum(p.numel() for p in MLPHead(45, 12, hidden=()).parameters()) == 45 * 12 + 12
