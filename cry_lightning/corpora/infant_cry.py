"""How an infant cries: what stays the same in one infant, and a bout of crying made from it."""

from dataclasses import dataclass

import numpy as np

from cry_lightning.corpora.cry_styles import MELODY_RANGE, CryStyle
from cry_lightning.corpora.synthesis import (
    SPEED_OF_SOUND_CM_S,
    Recording,
    Utterance,
    frame_times,
    noise_frequencies,
    tract_gain,
)

BREATH = 0.05  # noise against voice in a clear cry
HYPERPHONATION = 0.03  # share of the expirations
HYPERPHONATION_RATIO = 2.2  # lifts f0 to 1000-2000 Hz, where Corwin & Golub place hyperphonation (Robb 2003)


@dataclass(frozen=True)
class Infant:
    """What stays the same in all cries of one infant."""

    sex: str
    age_days: int
    f0_ratio: float
    tempo: float
    tract_cm: float
    dysphonation_ratio: float
    tilt: float
    recording: Recording

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Infant":
        """Some newborn; sex and age do not show in the cry.

        Source: Michelsson et al. 2002 for sex, age and f0; Lieberman et al. 1971 (J. Speech Hear. Res. 14) for the
        tract, a uniform tube. Its length and the other spreads are chosen here.
        """
        return cls(
            sex=str(rng.choice(["f", "m"])),
            age_days=int(rng.integers(0, 28)),
            f0_ratio=rng.lognormal(0, 0.105),  # half of the infants' means lie between 450 and 520 Hz
            tempo=rng.lognormal(0, 0.15),
            tract_cm=np.clip(rng.normal(7.6, 0.5), 6.4, 8.8),
            dysphonation_ratio=rng.lognormal(0, 0.5),
            tilt=rng.normal(0.8, 0.25),
            recording=Recording.draw(rng),
        )

    def formants_hz(self, openness: np.ndarray) -> np.ndarray:
        """Resonances (T, 4) of a tube closed at the glottis; a mouth less open (T,) lowers them."""
        tube_hz = np.array([1, 3, 5, 7]) * SPEED_OF_SOUND_CM_S / (4 * self.tract_cm)
        return tube_hz * openness[:, None]


class Bout:
    """Tracks of a stretch of crying, silent until expirations and inspirations are laid into it."""

    def __init__(self, infant: Infant, style: CryStyle, times_s: np.ndarray, rng: np.random.Generator) -> None:
        self.infant, self.style, self.times_s, self.rng = infant, style, times_s, rng
        self.mean_f0_hz = style.f0_hz * infant.f0_ratio * rng.lognormal(0, 0.06)
        self.f0_hz = np.full_like(times_s, self.mean_f0_hz)
        self.openness = np.ones_like(times_s)
        self.voicing, self.noise, self.roughness = np.zeros((3, len(times_s)))
        self.rough_ratio = np.full_like(times_s, 0.5)

    def expire(self, start_s: float, length_s: float) -> None:
        """One cry: melody, loudness, and what may disturb the voice."""
        rng, style = self.rng, self.style
        now = (self.times_s >= start_s) & (self.times_s < start_s + length_s)
        time_s = self.times_s[now] - start_s
        done = time_s / length_s

        f0_hz = self.mean_f0_hz * rng.lognormal(0, 0.05) * np.exp(self._melody(done))
        vibrato = 0.04 * np.sin(2 * np.pi * rng.uniform(5, 8) * time_s) * (rng.random() < style.vibrato)
        hyperphonation = HYPERPHONATION_RATIO if rng.random() < HYPERPHONATION else 1
        onset, end = np.exp(-time_s / 0.03), np.exp((time_s - length_s) / 0.05)
        glide = (1 + vibrato) * (1 - 0.15 * onset - 0.15 * end) * np.exp(self._wander(0.02, time_s))
        self.f0_hz[now] = f0_hz * glide * hyperphonation

        loudness = np.minimum(1, time_s / 0.05) * np.minimum(1, (length_s - time_s) / 0.15)
        loudness *= rng.lognormal(0, 0.2) * np.exp(self._wander(0.2, time_s))
        self.openness[now] = rng.normal(1, 0.03) * (0.85 + 0.15 * np.sin(np.pi * done))
        dysphonation = self._dysphonation(done)
        self.voicing[now] = loudness * (1 - 0.6 * dysphonation)
        self.noise[now] = loudness * (BREATH + 0.5 * dysphonation)
        # Dysphonation halves the pitch as well (subharmonics); biphonation adds an unrelated one.
        biphonation, ratio = rng.random() < style.biphonation, rng.uniform(0.3, 0.45)
        self.roughness[now] = 0.7 if biphonation else 0.7 * dysphonation
        self.rough_ratio[now] = ratio if biphonation else 0.5

    def inspire(self, start_s: float, length_s: float) -> None:
        """The breath drawn between two cries: weak noise."""
        now = (self.times_s >= start_s) & (self.times_s < start_s + length_s)
        self.noise[now] = self.rng.uniform(0.02, 0.12) * np.sin(np.pi * (self.times_s[now] - start_s) / length_s)

    def _melody(self, done: np.ndarray) -> np.ndarray:
        """Log f0 against its mean, from 0 to 1 of the expiration."""
        arcs = max(1, round(self.style.melody_arcs + self.rng.uniform(-0.5, 0.5)))
        arc, slope = np.abs(np.sin(np.pi * arcs * done)) - 2 / np.pi, done - 0.5
        odd, ordinary = [slope, -arc, 0 * arc], [arc, arc, -slope]
        odd_one, ordinary_one = odd[self.rng.integers(3)], ordinary[self.rng.integers(3)]
        shape = odd_one if self.rng.random() < self.style.odd_melody else ordinary_one
        return MELODY_RANGE * self.rng.uniform(0.4, 1.2) * shape

    def _wander(self, sd: float, time_s: np.ndarray) -> np.ndarray:
        """A slow, unsteady course (T,): steps every 60 ms, joined by lines."""
        knots_s = np.arange(time_s[0], time_s[-1] + 0.06, 0.06) if len(time_s) else np.zeros(1)
        return np.interp(time_s, knots_s, sd * self.rng.standard_normal(len(knots_s)))

    def _dysphonation(self, done: np.ndarray) -> np.ndarray:
        """Depth (T,), 0 to 1: in some expirations, an episode of 40 % of it; in how many, the style's mean says."""
        middle, chance = self.rng.uniform(0, 1), self.style.dysphonation * self.infant.dysphonation_ratio / 0.4
        episode = np.clip(3 * (1 - np.abs(done - middle) / 0.3), 0, 1)
        return episode * (self.rng.random() < chance)

    def sound(self, sample_rate: int) -> np.ndarray:
        """The bout as sound (N,), before room and microphone."""
        formants_hz = self.infant.formants_hz(self.openness)
        noise = self.noise[:, None] * tract_gain(noise_frequencies(sample_rate), formants_hz)
        return Utterance(
            f0_hz=self.f0_hz,
            formants_hz=formants_hz,
            voicing=self.voicing,
            noise=noise,
            roughness=self.roughness,
            rough_ratio=self.rough_ratio,
            jitter=0.015,
            tilt=self.infant.tilt,
        ).render(sample_rate, self.rng)


def cry(infant: Infant, style: CryStyle, n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A cut (N,) out of a bout of crying, before room and microphone."""
    times_s = frame_times(n_samples, sample_rate)
    bout = Bout(infant, style, times_s, rng)

    def expiration_s() -> float:
        return float(np.clip(style.expiration_s * infant.tempo * rng.lognormal(0, 0.3), 0.3, 4))

    length_s = expiration_s()
    start_s = -rng.uniform(0, 0.6) * length_s  # the cut begins anywhere in the first expiration
    while start_s < times_s[-1]:
        pause_s = rng.uniform(0.15, 0.4)
        bout.expire(start_s, length_s)
        bout.inspire(start_s + length_s, pause_s)
        start_s += length_s + pause_s
        length_s = expiration_s()
    return bout.sound(sample_rate)[:n_samples]
