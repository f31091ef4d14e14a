"""The most confident mistakes of a run, each to be looked at and listened to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from cry_lightning.console import clip_in_words
from cry_lightning.evaluation.predictions import score_columns
from cry_lightning.evaluation.run import Run
from cry_lightning.report.provenance import Provenance
from cry_lightning.report.sounds import pictures, playable, search

MOST = 20


@dataclass(frozen=True)
class Mistake:
    """A clip that was taken for another class.

    Args:
        score: of the predicted class.
        true_score: of the class that would have been right.
        picture: of its feature, low frequencies at the bottom, as a data URI; empty where none was found.
        sound: likewise.
    """

    clip: str
    subject: str
    label: str
    predicted: str
    score: float
    true_score: float
    picture: str = ""
    sound: str = ""

    @property
    def place(self) -> str:
        """Where to listen: the file, and from when to when."""
        return clip_in_words(self.clip)


@dataclass(frozen=True)
class Mistakes:
    """How many of the tested rows are mistaken, and the worst of them."""

    n_wrong: int
    n_rows: int
    worst: Sequence[Mistake]
    feature: str = ""  # that the pictures show


def find(run: Run, most: int = MOST, with_audio: bool = False) -> Mistakes:
    """The mistakes whose predicted class has the highest scores, each clip once, with pictures where there are any."""
    table, classes = run.table, pd.Index(run.classes)
    scores = table[score_columns(table)].to_numpy()
    predicted, truth = scores.argmax(axis=1), classes.get_indexer(pd.Index(table["label"]))
    highest = scores.max(axis=1)
    wrong = (predicted != truth).nonzero()[0]
    wrong = wrong[(-highest[wrong]).argsort(kind="stable")]
    first: dict[str, Mistake] = {}
    for row in wrong[: most * table["repeat"].nunique()]:
        clip, subject, label = map(str, table.loc[row, ["clip", "subject", "label"]])
        scores_of = float(highest[row]), float(scores[row, truth[row]])
        first.setdefault(clip, Mistake(clip, subject, label, classes[predicted[row]], *scores_of))
    worst = list(first.values())[:most]
    return _illustrated(Mistakes(len(wrong), len(table), worst), run, with_audio)


def _illustrated(mistakes: Mistakes, run: Run, with_audio: bool) -> Mistakes:
    """The same with what the feature caches of the run hold of these very sounds."""
    known, data = run.lineage.test_clips if run.lineage else {}, Provenance(run).config.get("data")
    wanted = {one.clip: known[one.clip] for one in mistakes.worst if one.clip in known}
    found = search(wanted, data) if wanted and isinstance(data, dict) else None
    if found is None:
        return mistakes
    shown, sounds = pictures(found), playable(found) if with_audio else {}
    worst = [replace(one, picture=shown.get(one.clip, ""), sound=sounds.get(one.clip, "")) for one in mistakes.worst]
    return replace(mistakes, worst=worst, feature=found.feature)
