"""Disturbances of sound as it reaches the front end: each takes a batch of clips and gives waveforms (B, N)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch

from cry_lightning.tasks.augment.waveform import active_power, read_noise

VERSION = 1  # raise it when the same disturbance begins to give other numbers: its points are then run again


@dataclass(frozen=True)
class Sounds:
    """Clips as decoded, resampled and fitted for a front end."""

    waveforms: np.ndarray  # float32 (B, N)
    names: Sequence[str]
    sample_rate: int  # Hz
    n_heard: int  # samples in the middle that the network hears; around them are the margins for time shifts


Disturbance = Callable[[Sounds], np.ndarray]
Side = Literal["start", "end"]
Code = Literal["PCM_U8", "ULAW"]


def undisturbed(sounds: Sounds) -> np.ndarray:
    """The waveforms as they are."""
    return sounds.waveforms


def with_noise(sounds: Sounds, snr_db: float, seed: int, folder: str) -> np.ndarray:
    """Recorded noise added to all that is heard, padding included, at a signal-to-noise ratio in dB.

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
    """Zeros over a share of the clip at one side: of what the network hears of it, less the zeros that pad it."""
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
