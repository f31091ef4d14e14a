"""From scores to decisions: calibrated, compared with thresholds, and withheld where they say too little."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

from cry_lightning.evaluation.calibration import platt
from cry_lightning.evaluation.clinical import FEWEST, WRONG_WAY, threshold_at, too_few
from cry_lightning.evaluation.fusion import best_temperature
from cry_lightning.evaluation.predictions import SCORE

SMALLEST = 1e-6  # probability, where a logarithm is taken
HELD_OUT = 0.95  # share of held-out clips that are not called unlike the training
ENOUGH = 19  # subjects: one more, of any novelty, is 5 % of them then
NOT_COUNTED = f"{WRONG_WAY}, or of too few subjects, whom an older release did not count; run `test` again"
NEVER = 2.0  # a threshold that no probability reaches
UNSURE, UNLIKE = "unsure", "unlike the training"


@dataclass(frozen=True)
class Decisions:
    """What the validation clips (or recordings) of a run decide on others.

    Args:
        slope: of the logarithms of the scores; NaN where nothing is calibrated or decided, see `remark`.
        intercept: added to that of the second of two classes.
        thresholds: on the calibrated probability of each class (K,), which 90 % of its validation cases reach; `NEVER`
            for a class of too few subjects, which is never decided.
        limit: of novelty, below which 95 % of unseen subjects' cases are expected.
        subjects: of the validation, of each class (K,); none where an older release counted none.
    """

    slope: float
    intercept: float
    thresholds: tuple[float, ...]
    limit: float
    subjects: tuple[int, ...] = ()

    @classmethod
    def of(cls, scores: np.ndarray, truth: np.ndarray, novelty: np.ndarray, subjects: np.ndarray) -> "Decisions":
        """Chosen on validation cases: scores (n, K), class indices (n,), novelty (n,) and subjects (n,)."""
        n_classes = scores.shape[1]
        limit = limit_of(novelty, subjects)
        n_subjects = tuple(len(np.unique(subjects[truth == index])) for index in range(n_classes))
        enough = [n >= FEWEST for n in n_subjects]
        slope, intercept = _slope_and_intercept(scores, truth, subjects) if sum(enough) > 1 else (np.nan, np.nan)
        if not slope > 0:  # scores would be turned around
            return cls(np.nan, np.nan, (0.0,) * n_classes, limit, n_subjects)
        uncut = cls(slope, intercept, (0.0,) * n_classes, limit)
        calibrated = uncut.calibrated(scores)
        own = [calibrated[truth == index, index] for index in range(n_classes)]
        thresholds = tuple(threshold_at(one) if of else NEVER for one, of in zip(own, enough, strict=True))
        return cls(slope, intercept, thresholds, limit, n_subjects)

    def remark(self, classes: Sequence[str]) -> str:
        """What is not calibrated or decided, and why, in words; empty where all is."""
        few = too_few(dict(zip(classes, self.subjects, strict=False)))
        if not np.isfinite(self.slope):
            so_few = sum(n >= FEWEST for n in self.subjects) < 2
            reason = few if so_few and few else WRONG_WAY if self.subjects else NOT_COUNTED
            return f"scores are not calibrated, and nothing is decided: {reason}"
        return few and f"classes of too few subjects are never decided (their cases come out unsure or wrong): {few}"

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n, K) of scores (n, K): Platt's for two classes, by a temperature for more."""
        logits = self.slope * np.log(np.maximum(scores, SMALLEST))
        if logits.shape[1] == 2:
            logits = logits + np.array([0.0, self.intercept])
        return softmax(logits, axis=1)

    def decided(self, calibrated: np.ndarray) -> np.ndarray:
        """Index of the only class whose threshold a case reaches (n,), of calibrated probabilities; -1: none, or more.

        Source: Vovk 2012, "Conditional validity of inductive conformal predictors": sets of classes, each of which
        contains the true class for 90 % of the cases of each class; a case is decided where its set is one class.
        """
        possible = calibrated >= np.array(self.thresholds)
        return np.where(possible.sum(1) == 1, possible.argmax(1), -1)


def _slope_and_intercept(scores: np.ndarray, truth: np.ndarray, subjects: np.ndarray) -> tuple[float, float]:
    """Platt's of scores (n, 2), or the slope that a temperature is of (n, K); 0 where more than that is worse."""
    if scores.shape[1] == 2:
        intercept, slope = platt(scores[:, 1], truth == 1)
        return slope, intercept
    logits = np.log(np.maximum(scores, SMALLEST))
    # The slope of the likelihood at 0, of which it is a concave function: the best slope has the same sign.
    gain = logits[np.arange(len(truth)), truth] - logits.mean(1)
    return (1 / best_temperature(scores, truth, subjects), 0.0) if gain.sum() > 0 else (0.0, 0.0)


def limit_of(novelty: np.ndarray, subjects: np.ndarray) -> float:
    """The novelty below which 95 % of a new subject's cases are expected, by those of n subjects, each with one weight.

    Of fewer than 19 subjects, which can promise nothing of the kind, it is the 95 % quantile.

    Source: Dunn, Wasserman and Ramdas 2023, "Distribution-free prediction sets for two-layer hierarchical models",
    J. Am. Stat. Assoc. 118(544): a new subject is one more, of any novelty.
    """
    _, index, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    order = np.argsort(novelty, kind="stable")
    n = len(counts) + (len(counts) >= ENOUGH)
    reached = np.cumsum(1 / counts[index][order]) / n
    place = np.searchsorted(reached, HELD_OUT - 1e-9)
    return float(novelty[order][min(int(place), len(order) - 1)])


def add_decisions(table: pd.DataFrame, decisions: Decisions | None, classes: list[str]) -> pd.DataFrame:
    """The table with columns calibrated_<class>, novelty (1 at the limit), decision and abstained.

    Args:
        table: has scores (score_<class>) and `novelty`.
        decisions: of its level; None leaves all of these columns empty.
        classes: in the order of the scores.
    """
    columns = [f"calibrated_{name}" for name in classes]
    bare = table.drop(columns="novelty", errors="ignore")
    if decisions is None:
        return bare.assign(**dict.fromkeys([*columns, "novelty"], np.nan), decision="", abstained="")
    calibrated = decisions.calibrated(table[[SCORE + name for name in classes]].to_numpy(float))
    novelty = table["novelty"].to_numpy(float) / decisions.limit
    chosen = np.where(novelty > 1, -1, decisions.decided(calibrated))
    abstained = np.where(novelty > 1, UNLIKE, np.where(chosen < 0, UNSURE, ""))
    if not np.isfinite(decisions.slope):  # nothing was learned but what is like the training
        chosen, abstained = np.full(len(table), -1), np.where(novelty > 1, UNLIKE, "")
    decision = np.array([*classes, ""], dtype=object)[chosen]
    of_classes = {column: calibrated[:, place] for place, column in enumerate(columns)}
    return bare.assign(**of_classes, novelty=novelty, decision=decision, abstained=abstained)
