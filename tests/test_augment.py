"""Augmentations: what they change and by how much, row by row, repeatably, on the batch's own device."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from cry_lightning.console import UserError
from cry_lightning.features import LogMel
from cry_lightning.tasks.augment import (
    FeatureGain,
    FrequencyResponse,
    FrequencyShift,
    MixupNoise,
    RandomCrop,
    RandomResizedCrop,
    SpecAugment,
    TimeRoll,
    WaveformGain,
    WaveformNoise,
)
from cry_lightning.tasks.augment.waveform import active_power
from cry_lightning.tasks.heads import MLPHead

RATE = 8000
BINS, FRAMES = 40, 101
NO_MASKS = {"time_masks": 0, "freq_masks": 0}


@pytest.fixture(scope="module")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long noise at another sample rate, a short stereo one with zeros at its end, and a silent one."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("noise")
    (folder / "street").mkdir()
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


def features(n_rows: int = 32, n_channels: int = 1) -> Tensor:
    return torch.randn(n_rows, n_channels, BINS, FRAMES, generator=torch.Generator().manual_seed(0)) + 3


def ramps(n_rows: int) -> Tensor:
    """Two channels (B, 2, F, T) that tell of every value the bin and the frame that it came from."""
    bins, frames = torch.arange(BINS)[:, None], torch.arange(FRAMES)[None]
    return torch.stack([bins.expand(BINS, FRAMES), frames.expand(BINS, FRAMES)]).float().repeat(n_rows, 1, 1, 1)


def seeded(module: nn.Module, batch: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return module(batch)


def read_at(row: Tensor, bins: np.ndarray, frames: np.ndarray) -> Tensor:
    """One row (C, F, T) read at fractional bins and frames in plain loops, its edges repeated."""
    out = np.stack([[np.interp(frames, np.arange(FRAMES), line) for line in channel] for channel in row.numpy()])
    out = np.stack([np.stack([np.interp(bins, np.arange(BINS), line) for line in channel.T], 1) for channel in out])
    return torch.from_numpy(out).float()


def stretch(position: Tensor) -> tuple[float, float]:
    """Start and length of the stretch that was read at these places, as shares of the axis."""
    size, middle = len(position), len(position) // 2  # the ends may be clamped
    slope = (position[middle + 5] - position[middle - 5]).item() / 10
    start = position[middle].item() + 0.5 - (middle + 0.5) * slope
    return start / size, slope


Make = Callable[[Path], nn.Module]
ON_FEATURES: dict[str, Make] = {
    "crop": lambda _: RandomCrop(60),
    "roll": lambda _: TimeRoll(0.5),
    "mask": lambda _: SpecAugment(),
    "warp": lambda _: SpecAugment(time_warp=8),
    "gain": lambda _: FeatureGain(6),
    "mixup": lambda _: MixupNoise(),
    "response": lambda _: FrequencyResponse(6),
    "frequency": lambda _: FrequencyShift(3),
    "resized": lambda _: RandomResizedCrop(),
}
ON_WAVEFORMS: dict[str, Make] = {
    "waveform crop": lambda _: RandomCrop(6000),
    "waveform roll": lambda _: TimeRoll(0.5),
    "waveform gain": lambda _: WaveformGain(6),
    "waveform noise": lambda folder: WaveformNoise(folder, RATE, probability=1.0),
}
EVERY = [*ON_FEATURES, *ON_WAVEFORMS]


@pytest.fixture
def case(request: pytest.FixtureRequest, noise_folder: Path) -> tuple[nn.Module, Tensor]:
    """An augmentation and a batch for it whose rows are one and the same."""
    name = request.param
    one = features(1) if name in ON_FEATURES else cries(1) + 0.01 * torch.linspace(0, 1, RATE)
    return (ON_FEATURES | ON_WAVEFORMS)[name](noise_folder), one.repeat(32, *[1] * (one.ndim - 1))


@pytest.mark.parametrize("case", [name for name in EVERY if name != "mixup"], indirect=True)
def test_rows_are_drawn_alone_and_repeatably(case: tuple[nn.Module, Tensor]) -> None:
    module, batch = case
    before = batch.clone()
    once = seeded(module, batch, 1)
    assert torch.equal(once, seeded(module, batch, 1))
    assert torch.equal(once, seeded(module.eval(), batch, 1))  # the stage, not the mode, says when to augment
    assert not torch.equal(once, seeded(module, batch, 2))
    assert len(torch.unique(once.flatten(1), dim=0)) > 20
    others = torch.cat([batch[:1], torch.randn_like(batch[1:])])
    torch.testing.assert_close(seeded(module, others, 1)[0], once[0], atol=1e-6, rtol=0)
    assert torch.equal(batch, before)
    assert not module.state_dict()


@pytest.mark.parametrize("case", EVERY, indirect=True)
def test_same_numbers_under_autocast_and_all_on_the_device_of_the_batch(case: tuple[nn.Module, Tensor]) -> None:
    module, batch = case
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        under_autocast = seeded(module, batch)
    assert torch.equal(under_autocast, seeded(module, batch))
    assert under_autocast.dtype == torch.float32
    elsewhere = module(batch.to("meta"))  # which refuses to meet a tensor of the CPU
    assert elsewhere.device.type == "meta" and elsewhere.shape == under_autocast.shape


@pytest.mark.parametrize(
    "module",
    [
        TimeRoll(0),
        SpecAugment(0, 0, 10, 0, 10),
        SpecAugment(0, 2, 0, 2, 0),
        FeatureGain(0),
        MixupNoise(0),
        FrequencyResponse(0),
        FrequencyShift(0),
        RandomResizedCrop((1, 1), (1, 1)),
    ],
)
def test_strength_of_zero_is_off(module: nn.Module) -> None:
    torch.testing.assert_close(module(features()), features(), atol=1e-6, rtol=0)


def test_crop_is_a_stretch_of_the_row_from_anywhere_in_it() -> None:
    source = ramps(512)[:, :1] + torch.arange(FRAMES)
    cropped = RandomCrop(95)(source)
    starts = cropped[:, 0, 0, 0]
    assert torch.equal(cropped, starts[:, None, None, None] + ramps(1)[:, :1, :, :95] + torch.arange(95))
    assert set(starts.tolist()) == set(range(7))
    assert torch.equal(RandomCrop(FRAMES)(source), source)
    with pytest.raises(UserError, match=r"101 long.*102.*raise data\.clip_s or lower the crop"):
        RandomCrop(102)(source)


def test_roll_goes_round_within_its_share() -> None:
    batch = features(128, 2)
    rolled = TimeRoll(0.03)(batch)
    shifts = set()
    for before, after in zip(batch, rolled, strict=True):
        (shift,) = (k for k in range(-50, 51) if torch.equal(before.roll(k, -1), after))
        shifts.add(shift)
    assert shifts == set(range(-3, 4))


def test_masks_are_whole_bands_within_their_widths() -> None:
    batch = features(2048)
    masked = seeded(SpecAugment(time_masks=1, time_width=7, freq_masks=1, freq_width=5), batch)
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


@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_spec_augment_takes_features_narrower_than_its_masks_and_warp(n_frames: int) -> None:
    augmented = SpecAugment(time_warp=80, time_width=500, freq_width=500)(features(512)[..., :n_frames])
    assert augmented.shape == (512, 1, 40, n_frames)
    assert augmented.isfinite().all()


@pytest.mark.slow
def test_time_warp_moves_one_frame_and_stretches_either_side() -> None:
    warp = SpecAugment(time_warp=8, **NO_MASKS)
    batch = features(400, 2)
    sources = seeded(warp, ramps(400))[:, 1, 0].double().numpy()
    warped = seeded(warp, batch)
    frames, moved, centres = np.arange(FRAMES), [], []
    for source, before, after in zip(sources, batch, warped, strict=True):
        left, right = source[1], FRAMES - 1 - source[-2]  # slopes on either side of the moved frame
        target = (FRAMES - 1) * (1 - right) / (left - right)
        expected = np.interp(frames, [0, target, FRAMES - 1], [0, left * target, FRAMES - 1])
        np.testing.assert_allclose(source, expected, atol=2e-3)
        torch.testing.assert_close(after, read_at(before, np.arange(BINS), source), atol=1e-3, rtol=0)
        moved.append(target - left * target)
        centres.append(left * target)
    assert -8.01 < min(moved) < -7 and 7 < max(moved) < 8.01
    assert 7.9 < min(centres) < 12 and 88 < max(centres) < 92.1


def test_frequency_shift_is_fractional_and_repeats_the_edges() -> None:
    batch = features(200, 2)
    sources = seeded(FrequencyShift(3), ramps(200))[:, 0, :, 0]
    shifted = seeded(FrequencyShift(3), batch)
    shifts = []
    for source, before, after in zip(sources, batch, shifted, strict=True):
        shift = BINS // 2 - source[BINS // 2].item()
        expected = read_at(before, np.arange(BINS) - shift, np.arange(FRAMES))
        torch.testing.assert_close(after, expected, atol=1e-4, rtol=0)
        shifts.append(shift)
    assert -3 <= min(shifts) < -2.9 and 2.9 < max(shifts) <= 3


def test_resized_crop_is_what_torch_makes_of_rectangles_of_the_scales_asked_for() -> None:
    module = RandomResizedCrop(freq_scale=(0.5, 1.2), time_scale=(0.8, 1.5))
    batch = features(200, 2)
    places = seeded(module, ramps(200))
    rectangles = []
    for place, before, after in zip(places, batch, seeded(module, batch), strict=True):
        start_f, scale_f = stretch(place[0, :, FRAMES // 2])
        start_t, scale_t = stretch(place[1, BINS // 2])
        theta = torch.tensor([[scale_t, 0, 2 * start_t + scale_t - 1], [0, scale_f, 2 * start_f + scale_f - 1]])
        grid = affine_grid(theta[None], [1, 2, BINS, FRAMES], align_corners=False)
        expected = grid_sample(before[None], grid, padding_mode="border", align_corners=False)[0]
        torch.testing.assert_close(after, expected, atol=2e-3, rtol=0)
        rectangles.append([(start_f, scale_f), (start_t, scale_t)])
    for rectangle, lowest, highest in zip(np.array(rectangles).transpose(1, 2, 0), (0.5, 0.8), (1.2, 1.5), strict=True):
        start, scale = rectangle
        assert lowest - 1e-3 < scale.min() < lowest + 0.05
        assert highest - 0.05 < scale.max() < highest + 1e-3
        assert (np.minimum(1 - scale, 0) - 1e-3 < start).all() and (start < np.maximum(1 - scale, 0) + 1e-3).all()
        assert np.ptp(start / (1 - scale)) > 0.9  # anywhere in what is left over


@pytest.mark.parametrize("gain", [FeatureGain(6), WaveformGain(6)])
def test_gain_is_one_number_of_decibels_per_row(gain: nn.Module) -> None:
    batch = features(2000) if isinstance(gain, FeatureGain) else cries(2000) + 1
    changed = gain(batch)
    gain_db = (changed - batch if batch.ndim == 4 else 20 * torch.log10(changed / batch)).flatten(1)
    torch.testing.assert_close(gain_db, gain_db[:, :1].expand_as(gain_db), atol=1e-3, rtol=0)
    assert -6.001 < gain_db.min() < -5.9 and 5.9 < gain_db.max() < 6.001
    assert gain_db[:, 0].mean().abs() < 0.4


def test_response_joins_gains_at_its_points_by_lines_and_is_the_same_at_all_times() -> None:
    batch = features(500)
    response = seeded(FrequencyResponse(6, n_points=4), batch) - batch
    torch.testing.assert_close(response, response[..., :1].expand_as(response), atol=1e-4, rtol=0)
    at_points = response[:, 0, :: BINS // 3, 0]  # 0, 13, 26 and 39
    places = np.arange(BINS)
    for row, gains in zip(response[:, 0, :, 0].numpy(), at_points.numpy(), strict=True):
        np.testing.assert_allclose(row, np.interp(places, places[:: BINS // 3], gains), atol=1e-3)
    assert -6.001 < at_points.min() < -5.9 and 5.9 < at_points.max() < 6.001
    assert np.abs(np.corrcoef(at_points.T) - np.eye(4)).max() < 0.2  # each drawn alone


def test_gain_of_features_is_that_of_the_sound() -> None:
    log_mel, sounds = LogMel(), torch.randn(8, RATE, generator=torch.Generator().manual_seed(0))
    louder = log_mel(seeded(WaveformGain(6), sounds))
    torch.testing.assert_close(seeded(FeatureGain(6), log_mel(sounds)), louder, atol=1e-3, rtol=0)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("n_rows", [1, 2, 9])
def test_mixup_adds_the_power_of_another_row(n_rows: int) -> None:
    module, batch = MixupNoise(0.4), features(n_rows)
    partners, shares = set(), []
    one_hot = 10 * torch.eye(n_rows).log10()[:, None, :, None]  # power 1 in the row's own bin, none elsewhere
    for seed in range(60):
        powers = 10 ** (seeded(module, one_hot, seed)[:, 0, :, 0] / 10)
        for i, mixed in enumerate(seeded(module, batch, seed)):
            other = int((powers[i] * (torch.arange(n_rows) != i)).argmax()) if n_rows > 1 else 0
            share = powers[i, other].item() if n_rows > 1 else 0.0
            power, background = 10 ** (batch[i] / 10), 10 ** (batch[other] / 10)
            expected = 10 * ((1 - share) * power + share * background).log10()
            torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)
            partners.add((i, other))
            shares.append(share)
    assert partners == {(i, j) for i in range(n_rows) for j in range(n_rows) if i != j or n_rows == 1}
    assert n_rows == 1 or (0 <= min(shares) < 0.02 and 0.37 < max(shares) <= 0.4)


def test_noise_has_the_ratio_asked_for(noise_folder: Path) -> None:
    batch = cries(64)
    for snr_db in (-5.0, 12.0):
        noise = seeded(WaveformNoise(noise_folder, RATE, (snr_db, snr_db), probability=1.0), batch) - batch
        tone = batch[:, 1920:6080]  # a pad of zeros is no signal
        active = tone.square().mean(1, keepdim=True)
        realised = 10 * torch.log10(active / active_power(noise, RATE))
        torch.testing.assert_close(realised, torch.full_like(realised, snr_db), atol=0.1, rtol=0)


def test_ratios_span_their_range_and_probability_holds(noise_folder: Path) -> None:
    batch = cries(512)
    noise = seeded(WaveformNoise(noise_folder, RATE, (5.0, 20.0), probability=0.8), batch) - batch
    noisy = noise.abs().sum(1) > 0
    assert 0.74 < noisy.float().mean() < 0.86
    snr_db = 10 * torch.log10(active_power(batch, RATE) / active_power(noise, RATE))[noisy]
    assert 4.9 < snr_db.min() < 6 and 19 < snr_db.max() < 20.1
    assert torch.equal(WaveformNoise(noise_folder, RATE, probability=0.0)(batch), batch)


def test_noise_is_resampled_repeated_and_never_silent(noise_folder: Path) -> None:
    module = WaveformNoise(noise_folder, RATE, probability=1.0)
    module.load(1)
    assert sorted(module.lengths.tolist()) == [3_000, 16_000]  # the silent one is left out, the padding cut off
    added = seeded(module, cries(64)) - cries(64)
    assert (added.unfold(1, 160, 160).std(2) > 0).all()
    repeats = (added[:, :3_000] - added[:, 3_000:6_000]).abs().amax(1) < 1e-6
    assert 10 < repeats.sum() < 54  # the short recording comes round again, the long one does not


def test_silence_stays_silent_and_finite(noise_folder: Path) -> None:
    assert torch.equal(WaveformNoise(noise_folder, RATE, probability=1.0)(torch.zeros(4, RATE)), torch.zeros(4, RATE))


def test_noise_that_is_not_there_is_refused_by_name_at_the_first_batch(tmp_path: Path) -> None:
    absent = WaveformNoise(tmp_path / "absent", RATE)  # as a trained model is tested: no noise is needed
    with pytest.raises(UserError, match="absent"):
        absent(cries())
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"broken\.wav"):
        WaveformNoise(tmp_path, RATE)(cries())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: RandomCrop(0), "length"),
        (lambda: TimeRoll(1.5), "max_share"),
        (lambda: TimeRoll(math.nan), "max_share"),
        (lambda: SpecAugment(time_masks=-1), "SpecAugment"),
        (lambda: SpecAugment(time_warp=-1), "SpecAugment"),
        (lambda: FeatureGain(-1), "FeatureGain: max_db"),
        (lambda: WaveformGain(math.inf), "WaveformGain: max_db"),
        (lambda: MixupNoise(-0.1), "max_share"),
        (lambda: FrequencyResponse(6, n_points=1), "FrequencyResponse: n_points"),
        (lambda: FrequencyShift(-1), "max_bins"),
        (lambda: RandomResizedCrop((1.0, 0.5)), "freq_scale"),
        (lambda: RandomResizedCrop(time_scale=(0.0, 1.0)), "time_scale"),
        (lambda: WaveformNoise("noise", RATE, snr_db=(20.0, 5.0)), "snr_db"),
        (lambda: WaveformNoise("noise", RATE, probability=2), "probability"),
        (lambda: WaveformNoise("noise", 0), "sample_rate"),
        (lambda: FeatureGain(1)(cries()), r"FeatureGain.*\(16, 8000\).*augment_waveform"),
        (lambda: WaveformGain(1)(features()), r"WaveformGain.*\(32, 1, 40, 101\)"),
    ],
)
def test_refuses_arguments_out_of_range_and_batches_of_another_kind(wrong: Callable[[], object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        wrong()


def test_mlp_head_has_the_layers_asked_for() -> None:
    head = MLPHead(2048, 5)
    dense = [layer for layer in head if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in dense] == [512, 256, 128, 5]
    assert head(torch.randn(3, 2048)).shape == (3, 5)
    assert sum(p.numel() for p in MLPHead(45, 12, hidden=()).parameters()) == 45 * 12 + 12
