"""How synthetic speech and cries are computed: source, filter, room and microphone; infants and their cry styles."""

from dataclasses import dataclass, field, fields

import numpy as np
from scipy import fft

FRAME_S = 0.005
SPEED_OF_SOUND_CM_S = 35_000  # in the warm, moist air of a vocal tract
MELODY_RANGE = 0.37  # highest less lowest f0 over mean f0: (583 - 398) / 496 Hz, Michelsson 2002
BREATH = 0.05  # noise against voice in a clear cry
HYPERPHONATION = 0.03  # share of the expirations
HYPERPHONATION_RATIO = 2.2  # lifts f0 to 1000-2000 Hz, where Corwin & Golub place hyperphonation (Robb 2003)


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
        voiced = self.voicing.nonzero()[0]
        if len(voiced):  # the rest is silent
            frames = slice(max(0, voiced[0] - 1), voiced[-1] + 1)  # a gain rises from the frame before
            samples = slice(frames.start * hop, frames.stop * hop)
            voice[samples] = _harmonics(fundamental[samples], gain[frames], gain[frames.stop : frames.stop + 1], hop)
        voice *= 1 + self.shimmer * amplitude_noise[cycle]
        if self.roughness.any():
            second = np.cos(2 * np.pi * np.cumsum(f0_hz * _to_samples(self.rough_ratio, hop)) / sample_rate)
            voice *= 1 + _to_samples(self.roughness, hop) * second
        return voice

    def _noise(self, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
        # Independent noise frames under a window whose squares add up to 1: no filter has to change in time.
        hop = frame_length(sample_rate)
        spectrum = rng.standard_normal((*self.noise.shape, 2)).view(complex)[..., 0]
        window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
        frames = fft.irfft(spectrum * self.noise, 2 * hop) * window * np.sqrt(hop)
        noise = np.zeros((len(frames) + 1) * hop)
        noise[:-hop] += frames[:, :hop].ravel()
        noise[hop:] += frames[:, hop:].ravel()
        return noise[: len(frames) * hop]


@dataclass(frozen=True)
class Recording:
    """The room and the microphone before which one person cries or speaks."""

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


def _harmonics(fundamental: np.ndarray, gain: np.ndarray, next_gain: np.ndarray, hop: int) -> np.ndarray:
    """The sum (T * hop,) of cos(kx), k = 1 ... n, by Chebyshev's recurrence; x is the phase of the fundamental.

    Args:
        fundamental: cos(x) (T * hop,).
        gain: of each harmonic (T, n) at the frames, linear between them.
        next_gain: the same of the frame that follows (1, n), or of none (0, n).
        hop: samples of a frame.
    """
    steps = np.diff(gain, axis=0, append=next_gain if len(next_gain) else gain[-1:])
    ramp = np.arange(hop) / hop
    fundamental = fundamental.reshape(-1, hop)
    twice, before, harmonic = 2 * fundamental, np.ones_like(fundamental), fundamental.copy()
    total, term = np.zeros_like(fundamental), np.empty_like(fundamental)
    for track, step in zip(gain.T[:, :, None], steps.T[:, :, None], strict=True):  # in place, which is twice as fast
        np.multiply(step, ramp, out=term)
        term += track
        term *= harmonic
        total += term
        np.multiply(twice, harmonic, out=term)
        term -= before
        before, harmonic, term = harmonic, term, before
    return total.ravel()


def _to_samples(track: np.ndarray, hop: int) -> np.ndarray:
    """A track (T,) drawn out linearly to (T * hop,) samples; the last frame is held."""
    step = np.concatenate((track[1:], track[-1:])) - track
    return (track[:, None] + step[:, None] * (np.arange(hop) / hop)).ravel()


@dataclass(frozen=True)
class CryStyle:
    """Means over many cries of one kind; shares are of the expirations."""

    f0_hz: float
    expiration_s: float
    odd_melody: float  # share whose melody is rising, falling-rising or flat, not rising-falling or falling
    melody_arcs: float  # rising-falling arcs in one expiration
    vibrato: float  # share with a wavering pitch
    biphonation: float  # share with a second, unrelated oscillation
    dysphonation: float  # share of the voiced time that is noisy


# The sizes marked * are chosen here; the source gives the direction. Those marked + are quoted at second hand.
#   Michelsson 2002: Michelsson, Eklund, Leppanen & Lyytinen, Folia Phoniatr. Logop. 54, 172 healthy newborns.
#   Michelsson 1977: Michelsson, Sirvio & Wasz-Hockert, Acta Paediatr. Scand. 66, pain cries of 45 asphyxiated newborns
#     against those of 75 healthy ones.
#   Wasz-Hockert 1968: Wasz-Hockert et al., The Infant Cry, Clinics in Developmental Medicine 29.
#   Porter 1986: Porter, Miller & Marshall, Child Development 57, cries in painful procedures.
#   Wermke 2009: Wermke & Mende, Musicae Scientiae 13, melody of spontaneous cries.
#   Lee 2025: Lee, Robb, Wermke & Schluter, Folia Phoniatr. Logop., doi 10.1159/000546232, infants of 2 months.
NORMAL = CryStyle(
    f0_hz=496,  # Michelsson 2002
    expiration_s=1.4,  # Michelsson 2002
    odd_melody=0.15,  # Michelsson 2002: mainly rising-falling *
    melody_arcs=1,  # Michelsson 2002
    vibrato=0.1,  # *
    biphonation=0.04,  # *
    dysphonation=0.15,  # *
)
CRY_STYLES = {
    "normal": NORMAL,
    "asphyxia": CryStyle(
        f0_hz=650,  # Michelsson 1977: higher maximum and minimum *
        expiration_s=0.8,  # Michelsson 1977: shorter *
        odd_melody=0.6,  # Michelsson 1977: more rising, falling-rising and flat *
        melody_arcs=1,
        vibrato=0.4,  # Michelsson 1977: more often *
        biphonation=0.3,  # Michelsson 1977: more often *
        # As in normal cries: the sources disagree (Lenti Boero 2002, Bioacoustics 13, found less voiceless cry).
        dysphonation=NORMAL.dysphonation,
    ),
    "pain": CryStyle(
        f0_hz=530,  # Wasz-Hockert 1968 +
        expiration_s=2.6,  # Wasz-Hockert 1968 +, one prick; Porter 1986 found shorter ones as procedures hurt more
        odd_melody=NORMAL.odd_melody,
        melody_arcs=1,
        vibrato=0.3,  # Porter 1986: fundamental more variable *
        biphonation=NORMAL.biphonation,
        dysphonation=0.35,  # Porter 1986: fewer harmonics *
    ),
    "hunger": CryStyle(
        f0_hz=470,  # Wasz-Hockert 1968 +
        expiration_s=1.3,  # Wasz-Hockert 1968 +
        odd_melody=0.05,  # Wasz-Hockert 1968 +: rising-falling *
        melody_arcs=1,
        vibrato=NORMAL.vibrato,
        biphonation=NORMAL.biphonation,
        dysphonation=NORMAL.dysphonation,
    ),
    "discomfort": CryStyle(
        f0_hz=430,  # no source: chosen below hunger
        expiration_s=1.4,
        odd_melody=NORMAL.odd_melody,
        melody_arcs=2.5,  # Wermke 2009: several arcs; Lee 2025: fewer under distress *
        vibrato=NORMAL.vibrato,
        biphonation=NORMAL.biphonation,
        dysphonation=0.05,  # *
    ),
}


def blend(style: CryStyle, neutral: list[CryStyle], strength: float) -> CryStyle:
    """`style` at strength 1, the mean of `neutral` at strength 0."""
    means = {f.name: float(np.mean([getattr(other, f.name) for other in neutral])) for f in fields(CryStyle)}
    return CryStyle(**{name: mean + strength * (getattr(style, name) - mean) for name, mean in means.items()})


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
