"""Voices from physics: a glottal source and noise through a vocal tract, in a room, before a microphone.

Everything that moves (pitch, formants, loudness) is a track of frames 5 ms apart; sound is made from the tracks.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import fft

FRAME_S = 0.005
SPEED_OF_SOUND_CM_S = 35_000  # in the warm, moist air of a vocal tract


def frame_length(sample_rate: int) -> int:
    """Samples between two frames."""
    return round(FRAME_S * sample_rate)


def frame_times(n_samples: int, sample_rate: int) -> np.ndarray:
    """Times (T,) in seconds of the frames that cover `n_samples`."""
    hop = frame_length(sample_rate)
    return np.arange(-(-n_samples // hop)) * hop / sample_rate


def noise_frequencies(sample_rate: int) -> np.ndarray:
    """Frequencies (F,) in Hz at which `Utterance.noise` is given."""
    return np.linspace(0, sample_rate / 2, frame_length(sample_rate) + 1)


def tract_gain(frequency_hz: np.ndarray, formants_hz: np.ndarray) -> np.ndarray:
    """Gain (T, F) of a vocal tract with formants (T, n) at frequencies (T, F) or (F,); 1 at 0 Hz.

    Source: cascade of two-pole resonances, Fant 1960, *Acoustic Theory of Speech Production*; bandwidths of 50 Hz
    plus 5 % of the formant are close to the defaults of Klatt 1980 (J. Acoust. Soc. Am. 67), Table I.
    """
    power = frequency_hz**2
    gain = np.ones((len(formants_hz), frequency_hz.shape[-1]))
    for formant_hz in formants_hz.T[:, :, None]:
        bandwidth_hz = 50 + 0.05 * formant_hz
        gain *= formant_hz**4 / ((formant_hz**2 - power) ** 2 + bandwidth_hz**2 * power)
    return np.sqrt(gain)


@dataclass
class Utterance:
    """Tracks of one utterance, T frames long."""

    f0_hz: np.ndarray  # (T,), above 0 everywhere
    formants_hz: np.ndarray  # (T, n)
    voicing: np.ndarray  # (T,) amplitude of the glottal source
    noise: np.ndarray  # (T, F) gain of white noise at `noise_frequencies`
    roughness: np.ndarray = field(default_factory=lambda: np.zeros(1))  # (T,) depth of the second oscillation, 0 to 1
    rough_ratio: np.ndarray = field(default_factory=lambda: np.full(1, 0.5))  # (T,) its frequency over f0
    jitter: float = 0.01  # SD of the period, cycle to cycle, as a share of it
    shimmer: float = 0.05  # SD of the amplitude, cycle to cycle, as a share of it
    tilt: float = 1.0  # harmonic k of the source has amplitude k^-tilt

    def render(self, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
        """The sound (N,), N = T frames."""
        return self._voice(sample_rate, rng) + self._noise(sample_rate, rng)

    def _voice(self, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
        # A sum of harmonics, not a pulse train: at 8 kHz a pulse train at 500 Hz would alias. A glottal flow that
        # falls by 12 dB an octave (Fant 1960), radiated (+6 dB), is k^-1.
        hop = frame_length(sample_rate)
        f0_hz = _to_samples(self.f0_hz, hop)
        cycle = (np.cumsum(f0_hz) / sample_rate).astype(int)
        period_noise, amplitude_noise = rng.standard_normal((2, cycle[-1] + 1))
        cycles = np.cumsum(f0_hz * (1 + self.jitter * period_noise[cycle])) / sample_rate
        fundamental = np.cos(2 * np.pi * cycles)

        order = np.arange(1, 1 + max(1, int(0.5 * sample_rate / self.f0_hz.min())))
        harmonic_hz = order * self.f0_hz[:, None]
        gain = self.voicing[:, None] * tract_gain(harmonic_hz, self.formants_hz) * order**-self.tilt
        gain *= np.clip(20 * (0.5 - harmonic_hz / sample_rate), 0, 1)  # fades out below the Nyquist frequency

        voice = np.zeros_like(fundamental)
        before, harmonic = np.ones_like(fundamental), fundamental
        for harmonic_gain in gain.T:
            voice += _to_samples(harmonic_gain, hop) * harmonic
            before, harmonic = harmonic, 2 * fundamental * harmonic - before  # cos(kx), by Chebyshev's recurrence
        voice *= 1 + self.shimmer * amplitude_noise[cycle]
        if self.roughness.any():
            second = np.cos(2 * np.pi * np.cumsum(f0_hz * _to_samples(self.rough_ratio, hop)) / sample_rate)
            voice *= 1 + _to_samples(self.roughness, hop) * second
        return voice

    def _noise(self, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
        # Independent noise frames under a window whose squares add up to 1: no filter has to change in time.
        hop = frame_length(sample_rate)
        spectrum = rng.standard_normal((*self.noise.shape, 2)) @ np.array([1, 1j])
        window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
        frames = fft.irfft(spectrum * self.noise, 2 * hop) * window * np.sqrt(hop)
        noise = np.zeros((len(frames) + 1) * hop)
        noise[:-hop] += frames[:, :hop].ravel()
        noise[hop:] += frames[:, hop:].ravel()
        return noise[: len(frames) * hop]


@dataclass(frozen=True)
class Recording:
    """The room and the microphone before which one person is heard."""

    reverb_s: float  # time in which the echo falls by 60 dB
    reverb_db: float  # echo against direct sound
    low_cut_hz: float
    high_cut: float  # as a share of the Nyquist frequency
    ripple_db: tuple[float, ...]  # of 1, 2, ... half waves over the band
    level_db: float  # of the sound, RMS against full scale
    noise_db: float  # noise floor against the sound

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Recording":
        """Some furnished room, some small device."""
        return cls(
            reverb_s=rng.uniform(0.1, 0.4),
            reverb_db=rng.uniform(-25, -10),
            low_cut_hz=rng.uniform(60, 250),
            high_cut=rng.uniform(0.8, 0.98),
            ripple_db=tuple(rng.normal(0, 3.5, 4)),
            level_db=rng.uniform(-30, -20),
            noise_db=rng.uniform(-40, -20),
        )

    def capture(self, sound: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
        """The sound (N,) as 16-bit samples; the speaker moves a little from clip to clip."""
        time_s = np.arange(round(self.reverb_s * sample_rate)) / sample_rate
        echo = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / self.reverb_s)
        echo *= 10 ** ((self.reverb_db + rng.normal(0, 2)) / 20) / np.linalg.norm(echo)
        echo[0] += 1
        floor = rng.standard_normal(len(sound)) * sound.std() * 10 ** ((self.noise_db + rng.normal(0, 2)) / 20)
        n_fft = fft.next_fast_len(len(sound) + len(echo), real=True)
        spectrum = fft.rfft(sound, n_fft) * fft.rfft(echo, n_fft) + fft.rfft(floor, n_fft)
        recorded = fft.irfft(spectrum * self._microphone(n_fft, sample_rate), n_fft)[: len(sound)]
        recorded *= 10 ** ((self.level_db + rng.normal(0, 2)) / 20) / recorded.std()
        return np.round(np.clip(recorded, -1, 1) * 32767).astype(np.int16)

    def _microphone(self, n_fft: int, sample_rate: int) -> np.ndarray:
        frequency_hz = np.linspace(1e-3, sample_rate / 2, 513)  # as fine as the response needs
        low_cut = 1 / (1 + (self.low_cut_hz / frequency_hz) ** 2)
        high_cut = 1 / (1 + (frequency_hz / (self.high_cut * sample_rate / 2)) ** 8)
        half_waves = np.arange(1, 1 + len(self.ripple_db))[:, None] * np.linspace(0, np.pi, len(frequency_hz))
        gain = low_cut * high_cut * 10 ** (self.ripple_db @ np.cos(half_waves) / 20)
        return np.interp(fft.rfftfreq(n_fft, 1 / sample_rate), frequency_hz, gain)


def _to_samples(track: np.ndarray, hop: int) -> np.ndarray:
    """A track (T,) drawn out linearly to (T * hop,) samples; the last frame is held."""
    step = np.concatenate((track[1:], track[-1:])) - track
    return (track[:, None] + step[:, None] * (np.arange(hop) / hop)).ravel()
