"""How an adult says a made-up word: phonemes, a speaker, and the word made from them."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from cry_lightning.corpora.synthesis import (
    FRAME_S,
    Recording,
    Utterance,
    frame_times,
    noise_frequencies,
    tract_gain,
)

WORDS = ("sima", "tako", "fenu", "kuli", "pola", "mesi", "nato", "luke", "sofi", "tupa", "kemo", "pilu")


@dataclass(frozen=True)
class Phone:
    """What the mouth aims at, for a man's vocal tract."""

    formants_hz: tuple[float, float, float]
    duration_s: float
    voicing: float = 0.0
    noise: float = 0.0
    noise_hz: float = 0.0  # where fricative and burst noise is strongest
    noise_width_hz: float = 1000.0
    burst: bool = False  # noise only in the last 25 ms: a stop


# Vowel formants: men's averages in Peterson & Barney 1952 (J. Acoust. Soc. Am. 24), Table II.
# Consonant formants: Klatt 1980 (J. Acoust. Soc. Am. 67), Table III. Durations, noise and levels are chosen here.
PHONES = {
    "i": Phone((270, 2290, 3010), 0.16, voicing=1),
    "e": Phone((530, 1840, 2480), 0.16, voicing=1),
    "a": Phone((730, 1090, 2440), 0.16, voicing=1),
    "o": Phone((570, 840, 2410), 0.16, voicing=1),
    "u": Phone((300, 870, 2240), 0.16, voicing=1),
    "l": Phone((310, 1050, 2880), 0.08, voicing=0.5),
    "m": Phone((480, 1270, 2130), 0.08, voicing=0.3),
    "n": Phone((480, 1340, 2470), 0.08, voicing=0.3),
    "s": Phone((320, 1390, 2530), 0.12, noise=0.8, noise_hz=3800, noise_width_hz=800),
    "f": Phone((340, 1100, 2080), 0.11, noise=0.25, noise_hz=2500, noise_width_hz=3000),
    "t": Phone((400, 1600, 2600), 0.09, noise=1.2, noise_hz=3300, noise_width_hz=900, burst=True),
    "k": Phone((300, 1990, 2850), 0.09, noise=1.2, noise_hz=1900, noise_width_hz=500, burst=True),
    "p": Phone((400, 1100, 2150), 0.09, noise=0.8, noise_hz=700, noise_width_hz=700, burst=True),
}
F4_HZ = 3300  # in every phone; Klatt 1980, Table I
BURST_S = 0.025


@dataclass(frozen=True)
class Speaker:
    """What stays the same in all words of one adult."""

    sex: str
    f0_hz: float
    formant_ratio: float  # against the average man
    tempo: float
    breath: float
    tilt: float
    recording: Recording

    @classmethod
    def draw(cls, sex: str, rng: np.random.Generator) -> "Speaker":
        """Some man ("m") or woman ("f").

        Source: mean f0 and the women's formants against the men's, averaged over the vowels of Peterson & Barney
        1952, Table II. The spreads are chosen here.
        """
        return cls(
            sex=sex,
            f0_hz={"m": 132, "f": 223}[sex] * rng.lognormal(0, 0.12),
            formant_ratio={"m": 1.0, "f": 1.17}[sex] * rng.lognormal(0, 0.05),
            tempo=rng.lognormal(0, 0.12),
            breath=rng.uniform(0.02, 0.15),
            tilt=rng.normal(1.0, 0.15),
            recording=Recording.draw(rng),
        )


def word(text: str, speaker: Speaker, n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """The word (N,) said once, somewhere in silence, before room and microphone."""
    times_s = frame_times(n_samples, sample_rate)
    phones = [PHONES[letter] for letter in text]
    durations_s = np.array([phone.duration_s for phone in phones]) / speaker.tempo * rng.lognormal(0, 0.1, len(phones))
    durations_s *= min(1, 0.95 * times_s[-1] / durations_s.sum())
    ends_s = np.cumsum(durations_s) + rng.uniform(0, times_s[-1] - durations_s.sum())
    at = np.minimum(np.searchsorted(ends_s, times_s, side="right"), len(phones) - 1)  # the phone of each frame
    said = (times_s >= ends_s[0] - durations_s[0]) & (times_s < ends_s[-1])

    targets_hz = np.array([(*phone.formants_hz, F4_HZ) for phone in phones]) * rng.lognormal(0, 0.03, (len(phones), 4))
    formants_hz = speaker.formant_ratio * gaussian_filter1d(targets_hz[at], 0.02 / FRAME_S, axis=0, mode="nearest")
    voicing = gaussian_filter1d(said * np.array([phone.voicing for phone in phones])[at], 0.008 / FRAME_S)
    sounding = said & ~(np.array([phone.burst for phone in phones])[at] & (times_s < ends_s[at] - BURST_S))

    frequency_hz = noise_frequencies(sample_rate)
    bands = np.array([
        phone.noise * np.exp(-0.5 * ((frequency_hz - phone.noise_hz) / phone.noise_width_hz) ** 2) for phone in phones
    ])  # fmt: skip
    breath = speaker.breath * voicing[:, None] * tract_gain(frequency_hz, formants_hz)
    declination = rng.normal(-0.15, 0.1) * (times_s - times_s.mean()) / times_s[-1]
    return Utterance(
        f0_hz=speaker.f0_hz * rng.lognormal(0, 0.06) * np.exp(declination),
        formants_hz=formants_hz,
        voicing=voicing,
        noise=breath + sounding[:, None] * bands[at] * rng.lognormal(0, 0.2),
        tilt=speaker.tilt,
    ).render(sample_rate, rng)[:n_samples]
