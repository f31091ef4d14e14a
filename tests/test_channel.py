"""Augmentations of waveforms by rooms, phones and speed: what each changes, by how much, and what it leaves alone."""

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from cry_lightning.console import UserError
from cry_lightning.tasks.augment import BandLimit, Clipping, Codec, PitchShift, RoomResponse, TimeStretch
from cry_lightning.tasks.augment.channel import FORMATS, decoded
from cry_lightning.tasks.augment.waveform import vocoded

RATE = 8000
ALL = [
    RoomResponse(RATE),
    BandLimit(RATE),
    Clipping((1.0, 15.0)),
    TimeStretch(RATE, (1.05, 1.25)),
    PitchShift(RATE),
    Codec(RATE),
]


def name(module: torch.nn.Module) -> str:
    return type(module).__name__


def tone(hertz: float, seconds: float = 1.0) -> Tensor:
    return 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)


def peak_hertz(sound: Tensor) -> float:
    windowed = sound * torch.hann_window(len(sound))
    return float(torch.fft.rfft(windowed, 2**18).abs().argmax()) * RATE / 2**18


def power(sound: Tensor, hertz: float) -> float:
    return float(torch.fft.rfft(sound).abs().square()[round(hertz * len(sound) / RATE)])


@pytest.mark.parametrize("module", ALL, ids=name)
def test_a_share_of_the_rows_is_changed_each_alone_and_repeatably(module):
    batch = torch.stack([tone(300 + 10 * row) for row in range(32)])
    module.probability = 0.5
    torch.manual_seed(3)
    once = module(batch)
    torch.manual_seed(3)
    torch.testing.assert_close(module(batch), once, rtol=0, atol=0)
    assert once.shape == batch.shape and torch.isfinite(once).all()
    left = (once == batch).all(1)
    assert 8 <= int(left.sum()) <= 24
    module.probability = 1.0
    twins = module(tone(440).repeat(4, 1))
    assert not torch.equal(twins[0], twins[1]) or not torch.equal(twins[2], twins[3])


@pytest.mark.parametrize("module", ALL, ids=name)
def test_silence_stays_silent(module):
    module.probability = 1.0
    assert module(torch.zeros(3, 4000)).abs().max() < 1e-3


@pytest.mark.parametrize("module", ALL, ids=name)
def test_features_are_refused(module):
    with pytest.raises(UserError, match=name(module)):
        module(torch.zeros(2, 1, 40, 100))


def test_a_room_keeps_the_direct_sound_and_its_tail_has_the_energy_and_the_decay_asked_for():
    click = torch.zeros(200, RATE)
    click[:, 0] = 1
    response = RoomResponse(RATE, (0.3, 0.3), (6.0, 6.0), 1.0)(click)
    torch.testing.assert_close(response[:, 0], torch.ones(200))
    tail = response[:, 1:].square()
    torch.testing.assert_close(10 * tail.sum(1).log10(), torch.full((200,), -6.0), atol=0.02, rtol=0)
    early, late = tail[:, :200].mean(), tail[:, 1200:1400].mean()
    assert float(10 * (early / late).log10()) == pytest.approx(60 * 0.15 / 0.3, abs=1)  # in 0.15 s of 0.3 s


def test_a_band_is_3_db_down_at_its_edges_and_untouched_within():
    sounds = torch.stack([tone(hertz) for hertz in (100, 300, 1000, 3000, 3900)])
    after = BandLimit(RATE, (300.0, 300.0), (3000.0, 3000.0), 1.0)(sounds)
    decibels = 20 * (after.norm(dim=1) / sounds.norm(dim=1)).log10()
    assert decibels[0] < -50 and decibels[4] < -10
    assert decibels[[1, 3]].tolist() == pytest.approx([-3.01, -3.01], abs=0.05)
    assert float(decibels[2]) == pytest.approx(0, abs=0.01)


def test_clipping_cuts_below_the_rows_own_peak_and_nothing_else():
    sounds = torch.stack([tone(440), 0.1 * tone(440)])
    after = Clipping((6.0, 6.0), 1.0)(sounds)
    limit = sounds.abs().amax(1, keepdim=True) * 10 ** (-6 / 20)
    torch.testing.assert_close(after, torch.minimum(torch.maximum(sounds, -limit), limit))


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_time_stretch_moves_events_away_from_the_centre_and_keeps_the_pitch(rate):
    sound = torch.zeros(RATE)
    for second in (0.35, 0.65):
        sound[round((second - 0.05) * RATE) : round((second + 0.05) * RATE)] = tone(600, 0.1)
    after = TimeStretch(RATE, (rate, rate), 1.0)(sound[None])[0]
    envelope = after.abs().unfold(0, 80, 80).amax(1)
    first, last = np.flatnonzero(envelope > 0.1)[[0, -1]] / 100
    assert first == pytest.approx(0.5 - 0.2 / rate, abs=0.03) and last == pytest.approx(0.5 + 0.2 / rate, abs=0.03)
    assert peak_hertz(TimeStretch(RATE, (rate, rate), 1.0)(tone(600)[None])[0]) == pytest.approx(600, abs=3)


@pytest.mark.parametrize("change", [TimeStretch(RATE, (0.8, 0.8), 1.0), PitchShift(RATE, 2.0, 1.0)])
def test_levels_stay_as_they_are(change):
    """Of a sound without steady tones, in which a vocoder's phases cancel."""
    torch.manual_seed(0)
    rows = 0.1 * torch.randn(8, 2 * RATE) * torch.tensor([1.0, 0.0]).repeat(4)[:, None]
    power = change(rows).square().mean(1)
    assert (10 * (power[::2] / 0.01).log10()).abs().max() < 1 and not power[1::2].any()


def test_a_pitch_shift_moves_the_pitch_alone():
    shift = PitchShift(RATE, 4.0, 1.0)
    torch.manual_seed(0)
    batch = tone(500).repeat(16, 1)
    found = sorted(12 * np.log2(peak_hertz(row) / 500) for row in shift(batch))
    assert -4.1 < found[0] < -2 and 2 < found[-1] < 4.1
    torch.manual_seed(0)
    long = shift(batch)
    assert (long.unfold(1, 800, 800).square().mean(2).sqrt()[:, 1:-1] > 0.15).all()  # sounds from beginning to end


def test_what_would_fold_back_is_gone():
    """A tone of 3.9 kHz, an octave higher, lies above the band of 8 kHz."""
    shift = PitchShift(RATE, 12.0, 1.0)
    torch.manual_seed(1)
    rows = shift(tone(3900).repeat(8, 1))
    gone = rows.norm(dim=1) < 0.1 * tone(3900).norm()
    assert 0 < int(gone.sum()) < 8 and all(peak_hertz(row) < 3910 for row in rows[~gone])


def test_phases_are_those_of_torchaudio_at_one_rate():
    torch.manual_seed(0)
    short = torch.stft(torch.randn(3, 4000), 256, 64, window=torch.hann_window(256), return_complex=True)
    advance = torch.linspace(0, torch.pi * 64, 129)[:, None]
    theirs = torchaudio.functional.phase_vocoder(short, 0.9, advance)
    place = (torch.arange(theirs.shape[2]) * 0.9).expand(3, -1)
    torch.testing.assert_close(vocoded(short, place, 64), theirs, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(("kind", "bits"), [("amr", 12200), ("mp3", 32000), ("opus", 24000)])
@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_a_coded_sound_is_as_long_at_the_same_place_and_nearly_the_same(kind, bits, sample_rate):
    seconds = np.arange(sample_rate) / sample_rate
    swept = 0.3 * np.sin(2 * np.pi * (300 + 400 * seconds) * seconds) * (np.sin(2 * np.pi * 3 * seconds) > 0)
    sound = swept.astype(np.float32)
    after = decoded(sound, sample_rate, FORMATS[kind], bits)
    assert after.shape == sound.shape
    near = slice(sample_rate // 10, -sample_rate // 10)
    scores = {lag: np.corrcoef(np.roll(after, -lag)[near], sound[near])[0, 1] for lag in range(-6, 7)}
    assert max(scores.values()) > 0.9
    assert abs(max(scores, key=scores.get)) <= 2 * sample_rate // 8000


@pytest.mark.parametrize("kind", ["amr", "mp3", "opus"])
def test_a_coded_sound_lasts_to_its_end(kind):
    sound = tone(600).numpy()
    last = decoded(sound, RATE, FORMATS[kind], FORMATS[kind].bit_rates[-1])[-80:]
    assert np.sqrt(np.square(last).mean()) > 0.5 * np.sqrt(np.square(sound).mean())


@pytest.mark.parametrize("module", ALL, ids=name)
def test_half_precision_and_a_click_are_taken(module):
    module.probability = 1.0
    for batch in (tone(440).repeat(2, 1).bfloat16(), 0.1 * torch.ones(2, 20)):
        assert module(batch).shape == batch.shape and module(batch).dtype == batch.dtype


def test_a_long_sound_is_as_clean_as_a_short_one():
    """At one speed, nothing is changed but for rounding."""
    stretch = TimeStretch(32_000, (1.0, 1.0), 1.0)
    sound = 0.3 * torch.sin(torch.arange(320_000) * 0.1)[None]
    noise = (stretch(sound) - sound)[:, 2000:-2000]
    assert float(20 * (sound.std() / noise.std()).log10()) > 55


def test_few_bits_lose_more_than_many():
    torch.manual_seed(0)
    noise = 0.1 * torch.randn(RATE).numpy()
    few, many = (np.square(decoded(noise, RATE, FORMATS["mp3"], bits) - noise).mean() for bits in (8000, 32000))
    assert few > 1.5 * many > 0


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: RoomResponse(RATE, decay_s=(0.0, 0.5)), "decay_s"),
        (lambda: RoomResponse(RATE, direct_db=(5.0, 1.0)), "direct_db"),
        (lambda: BandLimit(RATE, low_hz=(0.0, 3000.0)), "low_hz"),
        (lambda: Clipping((0.0, float("nan"))), "cut_db"),
        (lambda: TimeStretch(RATE, (0.0, 1.0)), "rate"),
        (lambda: PitchShift(RATE, 100.0), "max_semitones"),
        (lambda: Codec(RATE, ["wav"]), "amr, mp3, opus"),
        (lambda: Clipping(probability=1.5), "probability"),
    ],
)
def test_mistakes_are_one_line(make, named):
    with pytest.raises(UserError, match=named) as error:
        make()
    assert "\n" not in str(error.value)
