"""Front ends: parity with their published formulas in float64, independence of rows, refusals."""

from functools import cache

import librosa
import numpy as np
import pytest
import soundfile
import torch
import yaml
from cache_fakes import Folder
from made import DATA, REPO

from cry_lightning import features
from cry_lightning.console import UserError
from cry_lightning.data.cache import FeatureCache
from cry_lightning.features import (
    MFCC,
    EfficientATLogMel,
    Fbank,
    Feature,
    LogMel,
    OwnRateSpectrogram,
    VGGishLogMel,
    Waveform,
)
from cry_lightning.features.checks import check_rows
from cry_lightning.features.spectrogram import Spectrogram
from cry_lightning.tasks.base import MeanSubtraction

# Float32 against float64: on coefficients of up to 150, and in dB on bands as far as 90 dB below the loudest. VGGish's
# are float64 throughout, rounded at the end.
TOLERANCE = {MFCC: 1e-3, LogMel: 1e-2, Fbank: 1e-2, VGGishLogMel: 1e-6}


def shipped(name: str) -> Feature:
    config = yaml.safe_load((REPO / "configs/feature" / f"{name}.yaml").read_text())
    return getattr(features, config["class_path"].rpartition(".")[2])(**config["init_args"])


FRONT_ENDS = {
    "mfcc_8k": MFCC(),
    "mfcc_16k": MFCC(sample_rate=16000, n_fft=480, hop_length=160),
    "logmel_8k": shipped("logmel_8k"),
    "panns_16k": shipped("panns_16k"),
    "fbank_16k": shipped("fbank_16k"),
    "vggish": shipped("vggish"),
    "vggish_zhao": VGGishLogMel(pre_emphasis=0.97, z_score=True),
}


def librosa_energies(waveform: np.ndarray, feature: Feature) -> np.ndarray:
    """Mel energies (F, T) in float64; librosa mirrored the ends when honk and PANNs were written.

    Its filters; not its STFT, which takes twenty seconds to compile on a fresh machine.
    """
    mirrored = np.pad(waveform.astype(np.float64), feature.n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(mirrored, feature.n_fft)[:: feature.hop_length]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(feature.n_fft) / feature.n_fft)
    sizes = {"sr": feature.sample_rate, "n_fft": feature.n_fft, "n_mels": feature.n_mels}
    filters = librosa.filters.mel(**sizes, fmin=feature.f_min, fmax=feature.f_max, dtype=np.float64)
    return filters @ np.abs(np.fft.rfft(frames * window)).T ** 2


def honk_mfcc(waveform: np.ndarray, mfcc: MFCC) -> np.ndarray:
    """(F, T) in float64."""
    mel = librosa_energies(waveform, mfcc)
    mel[mel > 0] = np.log(mel[mel > 0])
    order = np.arange(mfcc.n_mels)
    dct = np.cos(np.pi / mfcc.n_mels * (order + 0.5) * np.arange(mfcc.n_mfcc)[:, None]) * np.sqrt(2 / mfcc.n_mels)
    dct[0] /= np.sqrt(2)
    return dct @ mel


def librosa_decibels(waveform: np.ndarray, logmel: LogMel) -> np.ndarray:
    """(F, T) in float64."""
    return 10 * np.log10(np.maximum(librosa_energies(waveform, logmel), 1e-10))


@cache
def speechbrain_triangles() -> np.ndarray:
    """Weights (80, 201) of the bins in the bands, one at a time."""
    highest_mel = 2595 * np.log10(1 + 8000 / 700)
    corners_hz = [700 * (10 ** (highest_mel * i / 81 / 2595) - 1) for i in range(82)]
    triangles = np.zeros((80, 201))
    for band in range(80):
        below, centre = corners_hz[band], corners_hz[band + 1]
        for k in range(201):
            triangles[band, k] = max(0.0, 1 - abs(k * 16000 / 400 - centre) / (centre - below))
    return triangles


def speechbrain_fbank(waveform: np.ndarray, fbank: Fbank) -> np.ndarray:
    """(F, T) in float64, a frame at a time."""
    n_fft = 400
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.concatenate([np.zeros(n_fft // 2), waveform.astype(np.float64), np.zeros(n_fft // 2)])
    starts = range(0, len(padded) - n_fft + 1, 160)
    power = np.stack([np.abs(np.fft.rfft(window * padded[start : start + n_fft])) ** 2 for start in starts])
    decibels = 10 * np.log10(np.maximum(speechbrain_triangles() @ power.T, 1e-10))
    return np.maximum(decibels, decibels.max() - 80)


@cache
def vggish_triangles() -> np.ndarray:
    """Weights (64, 257) of the bins in the bands, one at a time."""
    mel_of_bin = [1127 * np.log(1 + (k * 16000 / 512) / 700) for k in range(257)]
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    triangles = np.zeros((64, 257))
    for band in range(64):
        below, centre, above = edges[band : band + 3]
        for k in range(1, 257):  # not the constant
            rising, falling = (mel_of_bin[k] - below) / (centre - below), (above - mel_of_bin[k]) / (above - centre)
            triangles[band, k] = max(0.0, min(rising, falling))
    return triangles


def vggish_log_mel(waveform: np.ndarray, feature: VGGishLogMel) -> np.ndarray:
    """(F, T) in float64, a frame at a time."""
    sound = waveform.astype(np.float64)
    if feature.pre_emphasis:
        sound = np.array([sound[0], *(sound[1:] - feature.pre_emphasis * sound[:-1])])
    if feature.z_score:
        sound = (sound - np.mean(sound)) / (np.std(sound) or 1.0)  # one of the recordings is digital silence
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    starts = range(0, len(sound) - 400 + 1, 160)
    magnitude = np.stack([np.abs(np.fft.rfft(window * sound[start : start + 400], 512)) for start in starts])
    return np.log(vggish_triangles() @ magnitude.T + 0.01)


REFERENCES = {MFCC: honk_mfcc, LogMel: librosa_decibels, Fbank: speechbrain_fbank, VGGishLogMel: vggish_log_mel}


def reference(waveform: np.ndarray, feature: Feature) -> np.ndarray:
    return REFERENCES[type(feature)](waveform, feature)


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


def made_batch(feature: Feature) -> torch.Tensor:
    return torch.from_numpy(made_sounds(feature.sample_rate))


every_front_end = pytest.mark.parametrize("feature", FRONT_ENDS.values(), ids=FRONT_ENDS)


@every_front_end
def test_equals_its_reference_on_made_sounds(feature: Feature) -> None:
    waveform = made_batch(feature)
    got = feature(waveform)
    n_frames = 98 if isinstance(feature, VGGishLogMel) else 101  # without frames past the ends, or with
    assert got.shape == (3, 1, feature.n_mels, n_frames)
    assert got.dtype == torch.float32
    for row, sound in zip(got, waveform.numpy(), strict=True):
        np.testing.assert_allclose(row[0].numpy(), reference(sound, feature), atol=TOLERANCE[type(feature)])


@every_front_end
def test_equals_its_reference_on_real_recordings(feature: Feature) -> None:
    files = {8000: "donateacry/**/*.wav", 16000: "noise/*.flac"}[feature.sample_rate]
    recordings = sorted(DATA.glob(files))
    if not recordings:
        pytest.skip(f"no recordings at {DATA / files}")
    for recording in recordings[:: len(recordings) // 10]:
        waveform, rate = soundfile.read(recording, dtype="float32", frames=12_345)
        assert rate == feature.sample_rate
        got = feature(torch.from_numpy(waveform)[None])[0, 0]
        np.testing.assert_allclose(got.numpy(), reference(waveform, feature), atol=TOLERANCE[type(feature)])


@pytest.mark.parametrize(("name", "level"), [("mfcc_8k", 0.0), ("logmel_8k", -100.0), ("fbank_16k", -100.0)])
def test_digital_silence_lies_at_the_floor(name: str, level: float) -> None:
    feature = FRONT_ENDS[name]
    silence = torch.zeros(1, feature.sample_rate)
    assert torch.equal(feature(silence), torch.full((1, 1, feature.n_mels, 101), level))


@every_front_end
def test_rows_are_independent(feature: Feature) -> None:
    rows = made_batch(feature)
    batch = rows.repeat(22, 1)[:64]
    alone = torch.cat([feature(row[None]) for row in rows]).repeat(22, 1, 1, 1)[:64]
    torch.testing.assert_close(feature(batch), alone, rtol=1e-6, atol=1e-6 * alone.abs().max().item())


ALL = [*FRONT_ENDS.values(), EfficientATLogMel(), Spectrogram()]


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="other products of matrices; not tried"
)
@pytest.mark.parametrize("feature", ALL, ids=lambda one: f"{type(one).__name__}-{one.sample_rate}")
def test_rows_are_the_same_bits_in_batches_of_any_size_by_any_number_of_threads(feature: Feature) -> None:
    batch = made_batch(feature).repeat(6, 1) * torch.linspace(0.1, 1, 18)[:, None]
    expected, threads = feature(batch), torch.get_num_threads()
    try:
        for torch_threads, size in ((1, 1), (1, 7), (2, 1), (2, 7), (2, 18)):
            torch.set_num_threads(torch_threads)
            assert torch.equal(torch.cat([feature(some) for some in batch.split(size)]), expected)
    finally:
        torch.set_num_threads(threads)


@every_front_end
def test_blocks_are_the_whole_batch(feature: Feature, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = made_batch(feature).repeat(4, 1)
    found = []
    for size in (1, 2**14, 2**30):  # samples in a block: rows one by one, some, all at once
        monkeypatch.setattr("cry_lightning.features.base.BLOCK", size)
        found.append(feature(batch))
    torch.testing.assert_close(found[0], found[2], rtol=1e-6, atol=1e-6 * found[2].abs().max().item())
    torch.testing.assert_close(found[1], found[2], rtol=1e-6, atol=1e-6 * found[2].abs().max().item())


@every_front_end
def test_a_gradient_reaches_the_waveform_through_blocks(feature: Feature) -> None:
    waveform = made_batch(feature).requires_grad_()
    feature(waveform).sum().backward()
    assert waveform.grad is not None and waveform.grad.abs().amax(1).gt(0).any()


@every_front_end
def test_stays_float32_under_autocast(feature: Feature) -> None:
    waveform = made_batch(feature)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = feature(waveform)
    assert torch.equal(under_autocast, feature(waveform))


@every_front_end
def test_has_no_state_and_leaves_its_input_alone(feature: Feature) -> None:
    waveform = made_batch(feature)
    before = waveform.clone()
    feature(waveform)
    assert torch.equal(waveform, before)
    assert not feature.state_dict()


def test_identity_holds_every_argument() -> None:
    assert MFCC(n_mfcc=13).identity()["n_mfcc"] == 13
    assert MFCC(n_mfcc=13).identity() != MFCC().identity()
    assert LogMel(n_mels=30).identity() != LogMel().identity()
    assert Fbank().identity()["n_fft"] == 400
    assert VGGishLogMel(z_score=True).identity() != VGGishLogMel().identity() != VGGishLogMel(0.97).identity()


def test_identity_of_the_mfcc_is_what_caches_were_built_with() -> None:
    """Another identity would have every cache rebuilt."""
    assert MFCC().identity() == {
        "class_path": "cry_lightning.features.mfcc.MFCC",
        "version": 1,
        "sample_rate": 8000,
        "n_fft": 240,
        "hop_length": 80,
        "n_mels": 40,
        "n_mfcc": 40,
        "f_min": 20.0,
        "f_max": 4000.0,
    }


@pytest.mark.parametrize(
    ("front_end", "file"),
    [
        (MFCC, "mfcc"),
        (LogMel, "logmel"),
        (Fbank, "logmel"),
        (EfficientATLogMel, "efficientat"),
        (VGGishLogMel, "vggish"),
        (Waveform, "waveform"),
        (Spectrogram, "spectrogram"),
        (OwnRateSpectrogram, "spectrogram"),
    ],
)
def test_caches_and_checkpoints_know_a_front_end_by_the_file_that_it_first_was_in(
    front_end: type[Feature], file: str
) -> None:
    assert front_end().identity()["class_path"] == f"cry_lightning.features.{file}.{front_end.__name__}"


def test_a_subclass_of_a_front_end_has_an_identity_of_its_own() -> None:
    assert type("MFCC", (MFCC,), {"__module__": "my_package"})().identity()["class_path"] == "my_package.MFCC"


@pytest.mark.parametrize("front_end", [MFCC, LogMel, Fbank])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"f_max": 8001.0}, "f_max"), ({"f_min": 8000.0}, "f_min"), ({"n_fft": 0}, "n_fft"), ({"n_mels": 0}, "n_mels")],
)
def test_refuses_arguments_that_contradict(front_end: type[Feature], arguments: dict, named: str) -> None:
    with pytest.raises(UserError, match=f"{front_end.__name__}: .*{named}"):
        front_end(**arguments)


def test_refuses_more_coefficients_than_bands() -> None:
    with pytest.raises(UserError, match="n_mfcc"):
        MFCC(n_mfcc=41)


@pytest.mark.parametrize("shape", [(1, 120), (8000,)])
@pytest.mark.parametrize("name", ["mfcc_8k", "logmel_8k", "fbank_16k"])
def test_refuses_waveforms_that_do_not_fit(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=type(FRONT_ENDS[name]).__name__):
        FRONT_ENDS[name](torch.ones(shape))


def test_mean_subtraction_acts_on_each_band_of_each_clip() -> None:
    batch = torch.randn(2, 1, 3, 50, generator=torch.Generator().manual_seed(0)) + torch.arange(3.0)[:, None]
    got = MeanSubtraction()(batch)
    for clip in range(2):
        for band in range(3):
            expected = batch[clip, 0, band].numpy() - batch[clip, 0, band].numpy().mean()
            np.testing.assert_allclose(got[clip, 0, band].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("feature", [*FRONT_ENDS.values(), Spectrogram(), OwnRateSpectrogram(), Waveform()])
def test_the_rows_of_shipped_front_ends_are_their_own(feature):
    check_rows(feature, 1.0)


class Numbered(Waveform):
    """Waveforms with the number of the call, by which a network would know the clip."""

    calls = 0

    def forward(self, waveform):
        self.calls += 1
        return super().forward(waveform) + self.calls


class Standardised(Waveform):
    def forward(self, waveform):
        return super().forward(waveform) / waveform.std()


class Noisy(Waveform):
    def forward(self, waveform):
        return super().forward(waveform) + 0.01 * torch.randn(1)


class Dithered(Waveform):
    def forward(self, waveform):
        return super().forward(waveform) + 1e-5 * torch.randn_like(waveform[:, None, None])


class WithoutChannel(Waveform):
    def forward(self, waveform):
        return waveform[:, None]


class Failing(Waveform):
    def forward(self, waveform):
        return waveform @ waveform


@pytest.mark.parametrize(
    ("feature", "named"),
    [
        (Numbered, "Numbered gives other numbers of the same sound at its next call"),
        (Noisy, "Noisy gives other numbers of the same sound at its next call"),
        (Dithered, "Dithered gives other numbers of the same sound at its next call"),
        (Standardised, "Standardised gives a row by itself other numbers than in a batch"),
        (WithoutChannel, r"WithoutChannel makes shape \(3, 1, 800\) of waveforms \(3, 800\), where \(B, C, F, T\)"),
        (Failing, r"Failing fails on waveforms \(3, 800\): "),
    ],
)
def test_a_front_end_whose_rows_are_not_their_own_gets_no_cache(feature, named, tmp_path):
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(800), 8000)
    cache = FeatureCache(Folder(tmp_path), feature(), 0.1, folder=tmp_path / "cache")
    with pytest.raises(UserError, match=f"^data.feature: {named}"):
        cache.build()
    assert not [*(tmp_path / "cache").glob("*.h5*")]


class Forgetful(Waveform):
    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()


class Weighted(Waveform):
    def __init__(self, gain: torch.Tensor) -> None:
        super().__init__()
        self.gain = gain


@pytest.mark.parametrize(
    ("feature", "named"), [(Forgetful(), "has no attribute 'gain'"), (Weighted(torch.ones(2)), "Tensor is not JSON")]
)
def test_a_front_end_keeps_arguments_that_a_cache_can_be_keyed_by(feature, named):
    with pytest.raises(UserError, match=f"{type(feature).__name__}: caches are keyed by its arguments; keep .*{named}"):
        feature.identity()
