"""Corpora that are made, not found: words said by synthetic adults, cries of synthetic infants."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cry_lightning.corpora.cry_styles import CRY_STYLES, blend
from cry_lightning.corpora.infant_cry import Infant, cry
from cry_lightning.corpora.rendered import Rendered
from cry_lightning.corpora.spoken_word import WORDS, Speaker, word
from cry_lightning.errors import UserError

# What a random stream decides. The streams are apart, so that no choice of labels or sizes changes a sound.
PERSON, LABEL, SOUND = 1, 2, 3


class SyntheticWords(Rendered):
    """Made-up words, each said several times by each of many synthetic adults.

    Args:
        n_speakers: adults, every second one a woman.
        n_words: classes, at most 12.
        n_takes: times that each speaker says each word.
        duration_s: length of a clip.
        sample_rate: in Hz.
        seed: another seed, other people.
        folder: where made corpora are kept.
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
        identity: dict[str, Any] = {"n_speakers": n_speakers, "n_words": n_words, "n_takes": n_takes}
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
                    said = word(text, speaker, self.n_samples, self.sample_rate, rng)
                    row = {
                        "path": f"{name}/{text}-{take}.wav",
                        "label": text,
                        "subject": self.person(name),
                        "sex": speaker.sex,
                    }
                    yield row, speaker.recording.capture(said, self.sample_rate, rng)


class SyntheticCries(Rendered):
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
        folder: where made corpora are kept.
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
        identity: dict[str, Any] = {"n_infants": n_infants, "n_cries": n_cries, "kinds": self.kinds}
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
