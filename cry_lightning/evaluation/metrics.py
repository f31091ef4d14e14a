"""What is counted at each level, and the metrics on it, for many weightings of the subjects at once."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from cry_lightning.evaluation.predictions import SCORE, classes_of, score_columns

CACHED = 100_000  # numbers worked on at a time, so that running sums stay in the processor's cache
THREADED = 1_000_000  # numbers in all, with which the start of threads pays
DENSE = 10  # by so much the product of full matrices is faster than that of sparse ones
LEVELS = ("clip", "recording", "subject")
T = TypeVar("T")
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
    n_folds: int = 1  # that a repeat pools, each tested by a model of its own

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
    answers = predictions[["label", "subject"]].assign(unit=unit).drop_duplicates()
    several = set(answers["unit"][answers["unit"].duplicated()])
    kept = predictions[~unit.isin(several)] if several else predictions
    columns = ["repeat", "unit", "subject", "label", *score_columns(predictions)]
    table = kept.assign(unit=unit)[columns].reset_index(drop=True)
    if table.duplicated(["repeat", "unit"]).any():
        cases = table.groupby(["repeat", "unit"], sort=False)
        table = pd.concat([cases[["subject", "label"]].first(), cases[columns[4:]].mean()], axis=1).reset_index()
    n_clips, n_recordings, n_subjects = (kept[column].nunique() for column in LEVELS)
    n_folds = int(predictions.groupby("repeat")["fold"].nunique().max())
    return Units(level, table, n_clips, n_recordings, n_subjects, len(several), n_folds)


def majority(units: Units) -> pd.DataFrame:
    """The table of the same cases as scored by the predictor that always says their most frequent class."""
    answered = SCORE + units.majority_class
    return units.table.assign(**{column: float(column == answered) for column in score_columns(units.table)})


def measure(table: pd.DataFrame, weights: np.ndarray, positive: str | None = None) -> Measures:
    """Every metric under each row of `weights` (R, S), S = subjects in sorted order; the mean over repeats.

    Averages over classes (UAR, macro-F1, macro AUC) take in the classes that have a case of non-zero weight, and are
    NaN where only one has. A metric with nothing to divide by is NaN. `positive` names the class of sensitivity, for
    two classes.
    """
    subject = pd.factorize(table["subject"], sort=True)[0]
    repeats = [np.flatnonzero(table["repeat"] == repeat) for repeat in table["repeat"].unique()]
    each = [_measure(table.iloc[rows], subject[rows], weights, positive) for rows in repeats]
    return {key: mean_of_defined(np.stack([one[key] for one in each])) for key in each[0]}


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis, leaving out NaN; NaN where nothing is left."""
    return ratio(np.nansum(values, axis=0), np.isfinite(values).sum(axis=0))


def _in_threads(work: Callable[[int], T], n: int) -> list[T]:
    """What some work gives for each of n classes, in threads; those of matrix products would get in their way."""
    with threadpool_limits(1), ThreadPoolExecutor() as threads:
        return list(threads.map(work, range(n)))


def _measure(table: pd.DataFrame, subject: np.ndarray, weights: np.ndarray, positive: str | None) -> Measures:
    names = classes_of(table)
    scores = table[score_columns(table)].to_numpy()
    truth = pd.Index(names).get_indexer(pd.Index(table["label"]))
    predicted = scores.argmax(axis=1)

    def weighted(of_class: np.ndarray, who: np.ndarray) -> np.ndarray:
        """Weighted number of cases (K, R) by their class."""
        cells = np.bincount(who * len(names) + of_class, minlength=weights.shape[1] * len(names))
        return (weights @ cells.reshape(-1, len(names)).astype(float)).T

    right = truth == predicted
    hits, support = weighted(truth[right], subject[right]), weighted(truth, subject)
    answered = weighted(predicted, subject)
    recall, precision, f1 = ratio(hits, support), ratio(hits, answered), ratio(2 * hits, support + answered)
    draws = np.ascontiguousarray(weights.T, float)
    n_no = support.sum(axis=0) - support

    def ranked(k: int) -> tuple[np.ndarray, np.ndarray]:
        return ranking(truth == k, scores[:, k], subject, draws, (support[k], n_no[k]))

    worth_threads = len(scores) * len(weights) > THREADED
    each = _in_threads(ranked, len(names)) if worth_threads else list(map(ranked, range(len(names))))
    auc, average_precision = np.stack(each, axis=1)

    several = (support > 0).sum(axis=0) > 1  # the recall of the only class tested is no average
    measures: Measures = {
        ("accuracy", ""): ratio(hits.sum(axis=0), support.sum(axis=0)),
        ("uar", ""): np.where(several, mean_of_defined(recall), np.nan),
        ("macro_f1", ""): np.where(several, mean_of_defined(np.where(support > 0, f1, np.nan)), np.nan),
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
    positive: np.ndarray,
    score: np.ndarray,
    subject: np.ndarray,
    draws: np.ndarray,
    support: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision (R,) each, of cases `positive` (n,) by `score` (n,), ties halved.

    The weights of S subjects, `draws` (S, R), are whole numbers: how often a subject was drawn. `support` is the
    weighted number of positive cases and of others (R,).
    Source: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve", Radiology 143(1).
    """
    thresholds = np.unique(score[positive])[::-1]  # where recall rises; what lies between changes no sum
    n_yes, n_no = support
    if len(thresholds) == 1 and (score == thresholds[0]).all():  # as of the majority baseline
        return ratio(n_yes * (n_no / 2), n_yes * n_no), ratio(n_yes * (n_yes / np.maximum(n_yes + n_no, 1)), n_yes)
    reached = np.flatnonzero(score >= thresholds[-1]) if len(thresholds) else np.array([], int)
    place = len(thresholds) - np.searchsorted(thresholds[::-1], score[reached], side="right")  # the first one reached
    order = np.argsort(place, kind="stable")
    reached, place = reached[order], place[order]
    tied = ~positive[reached] & (thresholds[place] == score[reached])

    pairs = n_yes * n_no  # of a positive case and another; all sums of them are exact
    above, precisions, all_hits = pairs.copy(), np.zeros(len(pairs)), np.zeros(len(pairs))
    all_alarms = np.zeros(len(draws))
    step = max(16, CACHED // len(pairs))
    for first in range(0, len(thresholds), step):
        shape = (min(step, len(thresholds) - first), len(draws))
        block = slice(*np.searchsorted(place, (first, first + shape[0])))
        cells, yes = np.stack([place[block] - first, subject[reached[block]]]), positive[reached[block]]

        hits = _counts(cells[:, yes], shape) @ draws
        alarms = _running(_counts(cells[:, ~yes], shape), draws) + (all_alarms @ draws if first else 0)
        above -= np.einsum("tr,tr->r", hits, alarms)
        if tied[block].any():
            above += np.einsum("tr,tr->r", hits, _counts(cells[:, tied[block]], shape) @ draws) / 2
        hits_so_far = hits.cumsum(axis=0)
        hits_so_far += all_hits
        all_hits = hits_so_far[-1].copy()
        alarms += hits_so_far
        hits_so_far /= np.maximum(alarms, 1, out=alarms)  # precision
        hits *= hits_so_far
        hits[0] += precisions  # in order, whatever the blocks
        precisions = hits.sum(axis=0)
        all_alarms += np.bincount(cells[1, ~yes], minlength=len(draws))
    return ratio(above, pairs), ratio(precisions, n_yes)


def _counts(cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray | csr_array:
    """How many cases lie in each cell (T, S), from the row and column of each case (2, n); sparse where few do."""
    if cells.shape[1] * DENSE < math.prod(shape):
        return csr_array((np.ones(cells.shape[1]), tuple(cells)), shape)
    flat = np.bincount(np.ravel_multi_index(tuple(cells), shape), minlength=math.prod(shape))
    return flat.reshape(shape).astype(float)


def _running(counts: np.ndarray | csr_array, draws: np.ndarray) -> np.ndarray:
    """Running sums (T, R) of counts (T, S) weighted by draws (S, R)."""
    return counts.cumsum(axis=0) @ draws if isinstance(counts, np.ndarray) else (counts @ draws).cumsum(axis=0)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotients, NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
