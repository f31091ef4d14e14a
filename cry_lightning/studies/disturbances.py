"""What can disturb the sound of a clip, in physical units, and the points of a study of it."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch

from cry_lightning.console import UserError
from cry_lightning.tasks.augment.waveform import active_power, read_noise

VERSION = 1  # raise it when the same disturbance begins to give other numbers: its points are then run again
EDGES_HZ = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)  # octaves
LOW_PASS_HZ = (3400.0, 2000.0, 1000.0)
UNDISTURBED = "undisturbed"  # the severity of a point that every kind has
BESIDE_DB = 5.0  # from the highest ratio to the undisturbed point, whose own is infinite


@dataclass(frozen=True)
class Sounds:
    """Clips as decoded, resampled and fitted for a front end."""

    waveforms: np.ndarray  # float32 (B, N)
    names: Sequence[str]
    sample_rate: int  # Hz
    n_heard: int  # samples in the middle that the network is given; around them are the margins for time shifts


Disturbance = Callable[[Sounds], np.ndarray]
Side = Literal["start", "end"]
Code = Literal["PCM_U8", "ULAW"]


def undisturbed(sounds: Sounds) -> np.ndarray:
    """The waveforms as they are."""
    return sounds.waveforms


def with_noise(sounds: Sounds, snr_db: float, seed: int, folder: str) -> np.ndarray:
    """Recorded noise added to all of the input, padding included, at a signal-to-noise ratio in dB.

    Of clip and noise alike, the level is the mean power of the frames of 20 ms within 40 dB of the loudest one. A clip
    meets the same stretch of noise at every ratio, so that the points of a curve differ in level alone.

    Raises:
        UserError: the folder holds no noise, or a file that cannot be read.
    """
    recordings, n_samples = noise_recordings(Path(folder), sounds.sample_rate), sounds.waveforms.shape[1]
    noise = [_stretch(recordings, n_samples, _generator(seed, name)) for name in sounds.names]
    return _mixed(sounds, np.stack(noise), snr_db)


def with_white_noise(sounds: Sounds, snr_db: float, seed: int) -> np.ndarray:
    """White Gaussian noise added as `with_noise` adds recordings."""
    n_samples = sounds.waveforms.shape[1]
    noise = [_generator(seed, name).standard_normal(n_samples, np.float32) for name in sounds.names]
    return _mixed(sounds, np.stack(noise), snr_db)


def without_band(sounds: Sounds, low_hz: float, high_hz: float) -> np.ndarray:
    """Nothing left between two frequencies: removed from the spectrum of the whole waveform, for any front end."""
    n_samples = sounds.waveforms.shape[1]
    spectrum = np.fft.rfft(sounds.waveforms)
    frequency = np.fft.rfftfreq(n_samples, 1 / sounds.sample_rate)
    spectrum[:, (frequency >= low_hz) & (frequency <= high_hz)] = 0
    return np.fft.irfft(spectrum, n_samples).astype(np.float32)


def blanked(sounds: Sounds, share: float, side: Side) -> np.ndarray:
    """Zeros over a share of the clip at one side: of what the network is given of it, less the zeros that pad it."""
    waveforms = sounds.waveforms.copy()
    n_samples = waveforms.shape[1]
    margin = (n_samples - sounds.n_heard) // 2
    for waveform in waveforms:
        sounding = margin + np.flatnonzero(waveform[margin : margin + sounds.n_heard])
        if not len(sounding):
            continue
        first, after = sounding[0], sounding[-1] + 1
        n_blank = round(share * (after - first))
        waveform[slice(first + n_blank) if side == "start" else slice(after - n_blank, None)] = 0
    return waveforms


def amplified(sounds: Sounds, gain_db: float) -> np.ndarray:
    """Louder or quieter by some decibels, clipped at full scale (-1 to 1) as a converter clips."""
    return (sounds.waveforms * np.float32(10 ** (gain_db / 20))).clip(-1, 1)


def coded(sounds: Sounds, code: Code) -> np.ndarray:
    """Written with 8 bits a sample and read again: linear, or mu-law as on the telephone (G.711)."""
    file = BytesIO()
    soundfile.write(file, sounds.waveforms.clip(-1, 1).ravel(), sounds.sample_rate, code, format="WAV")
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0].reshape(sounds.waveforms.shape)


@cache
def noise_recordings(folder: Path, sample_rate: int) -> list[np.ndarray]:
    """See `read_noise`; read once for all clips."""
    return read_noise(folder, sample_rate)


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *hashlib.sha256(name.encode()).digest()])


def _stretch(recordings: Sequence[np.ndarray], n_samples: int, generator: np.random.Generator) -> np.ndarray:
    """A stretch (N,) of one recording, repeated where it is shorter; its beginning where the stretch is silent."""
    recording = recordings[int(generator.integers(len(recordings)))]
    recording = np.resize(recording, max(len(recording), n_samples))
    start = int(generator.random() * (len(recording) - n_samples + 1))
    stretch = recording[start : start + n_samples]
    return stretch if stretch.any() else recording[:n_samples]


def _mixed(sounds: Sounds, noise: np.ndarray, snr_db: float) -> np.ndarray:
    signal_power, noise_power = (
        active_power(torch.from_numpy(sound), sounds.sample_rate).numpy() for sound in (sounds.waveforms, noise)
    )
    gain = np.sqrt(signal_power / (noise_power * 10 ** (snr_db / 10)))
    return sounds.waveforms + gain.astype(np.float32) * noise


@dataclass(frozen=True)
class Condition:
    """A kind of disturbance at one severity."""

    kind: str
    severity: str
    place: float  # on the axis
    disturb: Disturbance


@dataclass(frozen=True)
class Severities:
    """What is asked for, as `robustness` of the API takes it."""

    kinds: Sequence[str]
    noise: str | None
    snr_db: Sequence[float]
    bands_hz: Sequence[float] | None
    blank: Sequence[float]
    gain_db: Sequence[float]
    low_pass_hz: Sequence[float] | None
    seed: int


@dataclass(frozen=True)
class Kind:
    """What the points of one figure have in common."""

    points: Callable[
        [Severities, int], Iterator[Condition]
    ]  # those disturbed, of what is given and a sample rate in Hz
    axis: str
    unit: str = ""  # of the severities
    is_scale: bool = True  # the severities are numbers on one scale, else names


def points(given: Severities, sample_rate: int) -> list[Condition]:
    """All points of the kinds asked for, each kind's undisturbed one among them, in the order of the axes.

    Args:
        given: of the command.
        sample_rate: Hz, the lowest among the models.

    Raises:
        UserError: a severity makes no sense.
    """
    planned = []
    for name in dict.fromkeys(given.kinds):
        disturbed = list(KINDS[name].points(given, sample_rate))
        nearest = min(point.place for point in disturbed)
        place = nearest - BESIDE_DB if name in ("noise", "white") else 0.0
        planned += sorted([Condition(name, UNDISTURBED, place, undisturbed), *disturbed], key=lambda point: point.place)
    return planned


def _noise(given: Severities, sample_rate: int) -> Iterator[Condition]:
    if given.noise is None:
        raise UserError("--kinds noise wants recordings to add: --noise FOLDER")
    for ratio in set(given.snr_db):
        disturb = partial(with_noise, snr_db=ratio, seed=given.seed, folder=given.noise)
        yield Condition("noise", f"{ratio:g}", -ratio, disturb)


def _white(given: Severities, sample_rate: int) -> Iterator[Condition]:
    for ratio in set(given.snr_db):
        disturb = partial(with_white_noise, snr_db=ratio, seed=given.seed)
        yield Condition("white", f"{ratio:g}", -ratio, disturb)


def _bands(given: Severities, sample_rate: int) -> Iterator[Condition]:
    highest = sample_rate / 2
    edges = given.bands_hz or sorted({*(edge for edge in EDGES_HZ if edge < highest), highest})
    _refuse_above_nyquist("--bands-hz", edges, sample_rate)
    if len(edges) < 2 or list(edges) != sorted(set(edges)) or edges[0] < 0:
        raise UserError(f"--bands-hz {_listed(edges)}: give two or more edges, from 0 Hz upwards")
    for place, (low_hz, high_hz) in enumerate(pairwise(edges), 1):
        disturb = partial(without_band, low_hz=low_hz, high_hz=high_hz)
        yield Condition("bands", f"{low_hz:g}-{high_hz:g}", place, disturb)


def _ends(given: Severities, sample_rate: int) -> Iterator[Condition]:
    if not all(0 < share < 1 for share in given.blank):
        raise UserError(f"--blank {_listed(given.blank)}: shares of the clip lie between 0 and 1")
    sides: dict[Side, int] = {"start": -1, "end": 1}
    for share in set(given.blank):
        for side, sign in sides.items():
            disturb = partial(blanked, share=share, side=side)
            yield Condition("ends", f"{side} {share:g}", sign * share, disturb)


def _gain(given: Severities, sample_rate: int) -> Iterator[Condition]:
    for gain in set(given.gain_db):
        yield Condition("gain", f"{gain:g}", gain, partial(amplified, gain_db=gain))


def _channel(given: Severities, sample_rate: int) -> Iterator[Condition]:
    highest = sample_rate / 2
    cutoffs = given.low_pass_hz or [cutoff for cutoff in LOW_PASS_HZ if cutoff < highest]
    _refuse_above_nyquist("--low-pass-hz", cutoffs, sample_rate)
    named: dict[str, Disturbance] = {
        "8-bit linear": partial(coded, code="PCM_U8"),
        "8-bit mu-law": partial(coded, code="ULAW"),
    }
    for cutoff in sorted(set(cutoffs), reverse=True):
        named[f"low-pass {cutoff:g} Hz"] = partial(without_band, low_hz=cutoff, high_hz=math.inf)
    for place, (name, disturb) in enumerate(named.items(), 1):
        yield Condition("channel", name, place, disturb)


def _refuse_above_nyquist(option: str, frequencies_hz: Sequence[float], sample_rate: int) -> None:
    if above_nyquist := [frequency for frequency in frequencies_hz if not 0 <= frequency <= sample_rate / 2]:
        raise UserError(
            f"{option} {_listed(above_nyquist)}: the model is given 0 to {sample_rate / 2:g} Hz, its sample rate is"
            f" {sample_rate} Hz"
        )


def _listed(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


KINDS = {
    "noise": Kind(_noise, "signal-to-noise ratio, recorded noise (dB)", "dB"),
    "white": Kind(_white, "signal-to-noise ratio, white noise (dB)", "dB"),
    "bands": Kind(_bands, "band removed (Hz)", "Hz", is_scale=False),
    "ends": Kind(_ends, "share of the clip blanked: from its start (left), up to its end (right)", "of the clip"),
    "gain": Kind(_gain, "gain, clipped at full scale (dB)", "dB"),
    "channel": Kind(_channel, "channel", is_scale=False),
}
