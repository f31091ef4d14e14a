"""What is counted at each level, and the metrics on it, for many weightings of the subjects at once."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cry_lightning.evaluation.predictions import SCORE, classes_of, score_columns

CACHED = 100_000  # numbers worked on at a time, so that running sums stay in the processor's cache
LEVELS = ("clip", "recording", "subject")
Measures = dict[tuple[str, str], np.ndarray]  # (metric, class or "") -> one value per weighting (R,)


@dataclass(frozen=True)
class Units:
    """What counts as one case at a level: one row of `table` per case and repeat, scores averaged over its clips."""

    level: str
    table: pd.DataFrame  # repeat, unit, subject, label, score_<class>...
    n_clips: int
    n_recordings: int
    n_subjects: int
    n_left_out: int  # cases with several labels or subjects, which have no one right answer

    @property
    def predicted(self) -> np.ndarray:
        """The class of the highest score (n,), the first of several."""
        return np.array(classes_of(self.table))[self.table[score_columns(self.table)].to_numpy().argmax(axis=1)]

    @property
    def majority_class(self) -> str:
        """The most frequent label; the first in the classes' order when several are."""
        frequency = self.table["label"].value_counts()
        return max(classes_of(self.table), key=lambda name: frequency.get(name, 0))


def units_at(level: str, predictions: pd.DataFrame) -> Units:
    """Cases at a level ("clip", "recording" or "subject"): those that have one label and one subject throughout."""
    unit = predictions[level].rename("unit")
    several = predictions[["label", "subject"]].groupby(unit).nunique().gt(1).any(axis=1)
    kept = predictions[~unit.map(several)]
    how = {"subject": "first", "label": "first"} | dict.fromkeys(score_columns(predictions), "mean")
    table = kept.groupby(["repeat", unit.loc[kept.index]], sort=False).agg(how).reset_index()
    n_clips, n_recordings, n_subjects = (kept[column].nunique() for column in LEVELS)
    return Units(level, table, n_clips, n_recordings, n_subjects, int(several.sum()))


def majority(units: Units) -> pd.DataFrame:
    """The table of the same cases as scored by the predictor that always says their most frequent class."""
    said = {column: float(column == SCORE + units.majority_class) for column in score_columns(units.table)}
    return units.table.assign(**said)


def measure(table: pd.DataFrame, weights: np.ndarray, positive: str | None = None) -> Measures:
    """Every metric under each row of `weights` (R, S), S = subjects in sorted order; the mean over repeats.

    Averages over classes (UAR, macro-F1, macro AUC) take in the classes that have a case of non-zero weight. A metric
    with nothing to divide by is NaN. `positive` names the class of sensitivity, for two classes.
    """
    subject = pd.factorize(table["subject"], sort=True)[0]
    repeats = [np.flatnonzero(table["repeat"] == repeat) for repeat in table["repeat"].unique()]
    each = [_measure(table.iloc[rows], subject[rows], weights, positive) for rows in repeats]
    return {key: mean_of_defined(np.stack([one[key] for one in each])) for key in each[0]}


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis, leaving out NaN; NaN where nothing is left."""
    return _ratio(np.nansum(values, axis=0), np.isfinite(values).sum(axis=0))


def confusion(
    truth: np.ndarray, predicted: np.ndarray, n_classes: int, subject: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Weighted counts (R, K, K), truth in rows, of cases with class indices (n,) and subject indices (n,)."""
    cells = np.zeros((weights.shape[1], n_classes * n_classes))
    np.add.at(cells, (subject, truth * n_classes + predicted), 1)
    return (weights @ cells).reshape(-1, n_classes, n_classes)


def _measure(table: pd.DataFrame, subject: np.ndarray, weights: np.ndarray, positive: str | None) -> Measures:
    names = classes_of(table)
    scores = table[score_columns(table)].to_numpy()
    truth = np.array([names.index(label) for label in table["label"]])
    counts = confusion(truth, scores.argmax(axis=1), len(names), subject, weights)

    hits, support, said = np.diagonal(counts, axis1=1, axis2=2).T, counts.sum(axis=2).T, counts.sum(axis=1).T  # (K, R)
    recall, precision, f1 = _ratio(hits, support), _ratio(hits, said), _ratio(2 * hits, support + said)
    ranked = [ranking(truth == k, scores[:, k], subject, weights) for k in range(len(names))]
    auc, average_precision = (np.stack(values) for values in zip(*ranked, strict=True))

    measures: Measures = {
        ("accuracy", ""): _ratio(hits.sum(axis=0), support.sum(axis=0)),
        ("uar", ""): mean_of_defined(recall),
        ("macro_f1", ""): mean_of_defined(np.where(support > 0, f1, np.nan)),
        ("macro_auc", ""): mean_of_defined(auc),
    }
    if positive is not None:
        k = names.index(positive)
        measures["sensitivity", positive] = recall[k]
        measures["specificity", names[1 - k]] = recall[1 - k]
    rates = {"precision": precision, "recall": recall, "f1": f1}
    for metric, values in (rates | {"roc_auc": auc, "average_precision": average_precision}).items():
        measures |= {(metric, name): row for name, row in zip(names, values, strict=True)}
    return measures


def ranking(
    positive: np.ndarray, score: np.ndarray, subject: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision (R,) each, of cases `positive` (n,) by `score` (n,), ties halved.

    Weights are whole numbers: how often a subject was drawn.
    Source: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve", Radiology 143(1).
    """
    # Cases of one subject at one score always move together: the sorted pairs are all that the weights can tell apart.
    pairs, pair = np.unique(np.stack([-score, subject]), axis=1, return_inverse=True)
    yes = np.bincount(pair, positive, pairs.shape[1])[:, None]
    no = np.bincount(pair, ~positive, pairs.shape[1])[:, None]
    owner = pairs[1].astype(int)
    ends = np.flatnonzero(np.diff(pairs[0], append=np.inf))  # the last pair at each distinct score

    auc, average_precision = np.empty(len(weights)), np.empty(len(weights))
    step = max(16, CACHED // len(owner))
    for block in (slice(start, start + step) for start in range(0, len(weights), step)):
        weight = weights[block].T[owner]
        hits_so_far, alarms_so_far = ((weight * count).cumsum(axis=0)[ends] for count in (yes, no))
        hits, alarms = (np.diff(counts, axis=0, prepend=0) for counts in (hits_so_far, alarms_so_far))
        n_yes, n_no = hits_so_far[-1], alarms_so_far[-1]
        auc[block] = _ratio(((hits_so_far - hits / 2) * alarms).sum(axis=0), n_yes * n_no)
        precision = hits_so_far / np.maximum(hits_so_far + alarms_so_far, 1)
        average_precision[block] = _ratio((hits * precision).sum(axis=0), n_yes)
    return auc, average_precision


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
