"""Synthetic corpora: words by synthetic adults, cries by synthetic infants, rendered once into a folder."""

import fcntl
import hashlib
import json
import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from scipy.ndimage import gaussian_filter1d

from cry_lightning.console import UserError, progress_bar
from cry_lightning.corpora.clips import Clip
from cry_lightning.corpora.manifest import Manifest
from cry_lightning.corpora.synthesis import (
    CRY_STYLES,
    FRAME_S,
    Infant,
    Recording,
    Utterance,
    blend,
    cry,
    frame_times,
    noise_frequencies,
    tract_gain,
)
from cry_lightning.files import Json, replacing_folder

WORDS = ("sima", "tako", "fenu", "kuli", "pola", "mesi", "nato", "luke", "sofi", "tupa", "kemo", "pilu")
F4_HZ = 3300  # in every phone; Klatt 1980, Table I
BURST_S = 0.025
GENERATOR_VERSION = 1  # raise it when the same arguments begin to give another sound: corpora are then made again
# What a random stream decides. The streams are apart, so that no choice of labels or sizes changes a sound.
PERSON, LABEL, SOUND = 1, 2, 3


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
    """The word (N,) spoken once, somewhere in silence, before room and microphone."""
    times_s = frame_times(n_samples, sample_rate)
    phones = [PHONES[letter] for letter in text]
    durations_s = np.array([phone.duration_s for phone in phones]) / speaker.tempo * rng.lognormal(0, 0.1, len(phones))
    durations_s *= min(1, 0.95 * times_s[-1] / durations_s.sum())
    ends_s = np.cumsum(durations_s) + rng.uniform(0, times_s[-1] - durations_s.sum())
    at = np.minimum(np.searchsorted(ends_s, times_s, side="right"), len(phones) - 1)  # the phone of each frame
    speaking = (times_s >= ends_s[0] - durations_s[0]) & (times_s < ends_s[-1])

    targets_hz = np.array([(*phone.formants_hz, F4_HZ) for phone in phones]) * rng.lognormal(0, 0.03, (len(phones), 4))
    formants_hz = speaker.formant_ratio * gaussian_filter1d(targets_hz[at], 0.02 / FRAME_S, axis=0, mode="nearest")
    voicing = gaussian_filter1d(speaking * np.array([phone.voicing for phone in phones])[at], 0.008 / FRAME_S)
    sounding = speaking & ~(np.array([phone.burst for phone in phones])[at] & (times_s < ends_s[at] - BURST_S))

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


class SyntheticCorpus(Manifest):
    """A corpus rendered once into a folder of its own, named by everything that decides how it sounds.

    Args:
        folder: where synthetic corpora are kept.
        identity: all arguments that decide how the corpus sounds.
        n_clips: how many clips it will have.
    """

    def __init__(self, folder: str, collection: str, identity: dict[str, Any], n_clips: int, **kwargs: Any) -> None:
        key = json.dumps({"version": GENERATOR_VERSION} | identity, sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:10]
        super().__init__(Path(folder) / f"{collection}-{digest}" / "manifest.csv", collection=collection, **kwargs)
        self.sample_rate: int = identity["sample_rate"]
        self.n_samples = round(identity["duration_s"] * self.sample_rate)
        self.seed: int = identity["seed"]
        self.n_clips = n_clips
        for argument, value in identity.items():
            if argument.startswith(("n_", "duration", "sample_rate")) and value <= 0:
                raise UserError(f"{collection}: {argument} is {value}; it must be above 0")

    @abstractmethod
    def render(self) -> Iterator[tuple[dict[str, str], np.ndarray]]:
        """Manifest row (without the clip's length) and 16-bit samples (N,) of each clip."""

    def person(self, name: str) -> str:
        """Subject id of one of this seed's people: another seed makes other people."""
        return f"seed{self.seed}-{name}"

    def stream(self, purpose: int, *which: int) -> np.random.Generator:
        """Random numbers that depend on the seed and on what they are for, and on nothing drawn before."""
        return np.random.default_rng([purpose, self.seed, *which])

    def prepare(self) -> None:
        """Render the corpus unless it exists whole; a folder bears its final name only when it is whole."""
        folder = self.root.parent
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent):
            for killed in folder.parent.glob(f"{self.collection}-*.part/"):  # who holds the lock renders alone
                shutil.rmtree(killed)
            if not folder.exists():
                with replacing_folder(folder) as part:
                    self._render_into(part)

    def recordings(self) -> list[Clip]:
        """Every clip, rendered first where need be."""
        self.prepare()
        return super().recordings()

    def _render_into(self, part: Path) -> None:
        rows = []
        for row, samples in progress_bar(self.render(), f"rendering {self.collection}", self.n_clips, unit="clip"):
            path = part / row["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            buffer = BytesIO()  # libsndfile does not say why it cannot write
            soundfile.write(buffer, samples, self.sample_rate, subtype="PCM_16", format="WAV")
            path.write_bytes(buffer.getbuffer())
            rows.append(row | {"start_s": "0", "duration_s": str(self.n_samples / self.sample_rate)})
        pd.DataFrame(rows).to_csv(part / "manifest.csv", index=False)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for the lock on a folder, which a killed process lets go of by itself; no file of it stays."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class SyntheticWords(SyntheticCorpus):
    """Invented words, each spoken several times by each of many synthetic adults.

    Args:
        n_speakers: adults, every second one a woman.
        n_words: classes, at most 12.
        n_takes: times that each speaker says each word.
        duration_s: length of a clip.
        sample_rate: in Hz.
        seed: another seed, other people.
        folder: where synthetic corpora are kept.
    """

    def __init__(
        self,
        n_speakers: int = 40,
        n_words: int = 12,
        n_takes: int = 5,
        duration_s: float = 1.0,
        sample_rate: int = 8000,
        seed: int = 0,
        folder: str = "cache/synthetic",
        **kwargs: Any,
    ) -> None:
        if n_words > len(WORDS):
            raise UserError(f"synthetic-words: n_words is {n_words}; there are {len(WORDS)} words")
        self.n_speakers, self.words, self.n_takes = n_speakers, WORDS[:n_words], n_takes
        identity: Json = {"n_speakers": n_speakers, "n_words": n_words, "n_takes": n_takes}
        identity |= {"duration_s": duration_s, "sample_rate": sample_rate, "seed": seed}
        super().__init__(folder, "synthetic-words", identity, n_speakers * n_words * n_takes, **kwargs)

    def render(self) -> Iterator[tuple[dict[str, str], np.ndarray]]:
        """Every take of every word by every speaker."""
        for index in range(self.n_speakers):
            speaker = Speaker.draw("mf"[index % 2], self.stream(PERSON, index))
            name = f"speaker{index:03d}"
            for which, text in enumerate(self.words):
                for take in range(self.n_takes):
                    rng = self.stream(SOUND, index, which, take)
                    speaking = word(text, speaker, self.n_samples, self.sample_rate, rng)
                    row = {
                        "path": f"{name}/{text}-{take}.wav",
                        "label": text,
                        "subject": self.person(name),
                        "sex": speaker.sex,
                    }
                    yield row, speaker.recording.capture(speaking, self.sample_rate, rng)


class SyntheticCries(SyntheticCorpus):
    """Cries of many synthetic infants, whose kind shows in documented acoustic parameters.

    Args:
        n_infants: how many infants cry.
        n_cries: clips of each infant.
        kinds: the classes, out of those in `cry_styles.CRY_STYLES`.
        label_strength: how much the label shows in the sound: 1 as documented, 0 not at all.
        identity_confound: how much the infant tells the label: 0 nothing, 1 each infant cries in one way only.
        duration_s: length of a clip.
        sample_rate: in Hz.
        seed: another seed, other infants.
        folder: where synthetic corpora are kept.
    """

    def __init__(
        self,
        n_infants: int = 60,
        n_cries: int = 20,
        kinds: Sequence[str] = ("normal", "asphyxia"),
        label_strength: float = 1.0,
        identity_confound: float = 0.0,
        duration_s: float = 1.0,
        sample_rate: int = 8000,
        seed: int = 0,
        folder: str = "cache/synthetic",
        **kwargs: Any,
    ) -> None:
        for name, share in (("label_strength", label_strength), ("identity_confound", identity_confound)):
            if not 0 <= share <= 1:
                raise UserError(f"synthetic-cries: {name} is {share}; it goes from 0 to 1")
        if unknown := set(kinds) - set(CRY_STYLES):
            raise UserError(f"synthetic-cries: no kind {', '.join(sorted(unknown))}, only {', '.join(CRY_STYLES)}")
        self.n_infants, self.n_cries, self.kinds = n_infants, n_cries, list(kinds)
        self.identity_confound = identity_confound
        own = [CRY_STYLES[kind] for kind in self.kinds]
        self.styles = [blend(style, own, label_strength) for style in own]
        identity: Json = {"n_infants": n_infants, "n_cries": n_cries, "kinds": self.kinds}
        identity |= {"label_strength": label_strength, "identity_confound": identity_confound}
        identity |= {"duration_s": duration_s, "sample_rate": sample_rate, "seed": seed}
        super().__init__(folder, "synthetic-cries", identity, n_infants * n_cries, **kwargs)

    def render(self) -> Iterator[tuple[dict[str, str], np.ndarray]]:
        """Every cry of every infant."""
        for index in range(self.n_infants):
            infant = Infant.draw(self.stream(PERSON, index))
            name = f"infant{index:03d}"
            about = {"subject": self.person(name), "sex": infant.sex, "age_days": str(infant.age_days)}
            for take in range(self.n_cries):
                kind = self._kind(index, take)
                rng = self.stream(SOUND, index, take)
                sound = cry(infant, self.styles[kind], self.n_samples, self.sample_rate, rng)
                row = {"path": f"{name}/{take:03d}.wav", "label": self.kinds[kind]} | about
                yield row, infant.recording.capture(sound, self.sample_rate, rng)

    def _kind(self, infant: int, take: int) -> int:
        """The infant's own kind, or any: drawn apart from the sound, which at strength 0 cannot know it."""
        rng = self.stream(LABEL, infant, take)
        any_kind, own = int(rng.integers(len(self.kinds))), rng.random() < self.identity_confound
        return infant % len(self.kinds) if own else any_kind
