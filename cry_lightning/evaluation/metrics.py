"""What is counted at each level, and the metrics on it, of all subjects and with groups of them left out in turn."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import pandas as pd

from cry_lightning.evaluation.predictions import SCORE, classes_of, score_columns
from cry_lightning.lineage.spelling import joined

LEVELS = ("clip", "recording", "subject")
# (metric, class or "") -> of all subjects, and without each group of them (1 + G,)
Measures = dict[tuple[str, str], np.ndarray]


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
        scores: np.ndarray = self.table[score_columns(self.table)].to_numpy()
        classes = np.array(classes_of(self.table))
        best: np.ndarray = classes[scores.argmax(axis=1)]
        return best

    @property
    def majority_class(self) -> str:
        """The most frequent label; the first in the classes' order when several are."""
        frequency = self.table["label"].value_counts()
        return max(classes_of(self.table), key=lambda name: frequency.get(name, 0))


def units_at(level: str, predictions: pd.DataFrame) -> Units:
    """Cases at a level ("clip", "recording" or "subject"): those that have one label and one subject throughout.

    Subjects that differ in their spelling alone are one, see `lineage.spelling`.
    """
    predictions = predictions.assign(subject=joined(predictions))
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


def measure(table: pd.DataFrame, group: np.ndarray | None = None, positive: str | None = None) -> Measures:
    """Every metric of all subjects, and with each of G groups of them left out (1 + G,); the mean over repeats.

    Averages over classes (UAR, macro-F1, macro AUC) take in the classes that have a case, and are NaN where only one
    has. A metric with nothing to divide by is NaN.

    Args:
        table: that of `Units`.
        group: number of the group of each subject (S,), these in sorted order; without it, none is left out (1,).
        positive: names the class of sensitivity, for two classes.
    """
    groups = Groups.of(table, group)
    repeats = [np.flatnonzero(table["repeat"] == repeat) for repeat in table["repeat"].unique()]
    each = [_measure(table.iloc[rows], groups.at(rows), positive) for rows in repeats]
    return {key: mean_of_defined(np.stack([one[key] for one in each])) for key in each[0]}


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis, leaving out NaN; NaN where nothing is left."""
    return ratio(np.nansum(values, axis=0), np.isfinite(values).sum(axis=0))


@dataclass(frozen=True)
class Groups:
    """The group (n,) of each case, of which all or none are left out.

    Args:
        of_case: their numbers.
        n: how many are left out in turn, the first ones.
    """

    of_case: np.ndarray
    n: int = 0

    @classmethod
    def of(cls, table: pd.DataFrame, group: np.ndarray | None) -> Self:
        """Those of a table's cases, from that of each subject (S,), these in sorted order; None leaves none out."""
        subject = pd.factorize(table["subject"], sort=True)[0]
        return cls(np.zeros_like(subject)) if group is None else cls(group[subject], int(group.max()) + 1)

    def at(self, rows: np.ndarray) -> "Groups":
        """Those of some cases."""
        return replace(self, of_case=self.of_case[rows])

    def total(self, values: np.ndarray | None = None, of: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The sum of some values (n,) of some cases, or the number of these, and that without each group (1 + G,)."""
        of_groups = np.bincount(self.of_case[of], values, minlength=self.n)
        whole = of_groups.sum()
        return np.append(whole, whole - of_groups[: self.n])


def _measure(table: pd.DataFrame, groups: Groups, positive: str | None) -> Measures:
    names = classes_of(table)
    scores = table[score_columns(table)].to_numpy()
    truth = pd.Index(names).get_indexer(pd.Index(table["label"]))
    predicted = scores.argmax(axis=1)

    def counted(of_class: np.ndarray, which: np.ndarray | bool = True) -> np.ndarray:
        """Number of cases (K, 1 + G) by their class."""
        return np.stack([groups.total(of=(of_class == k) & which) for k in range(len(names))])

    hits, support, answered = counted(truth, truth == predicted), counted(truth), counted(predicted)
    recall, precision, f1 = ratio(hits, support), ratio(hits, answered), ratio(2 * hits, support + answered)
    each = [ranking(truth == k, scores[:, k], groups) for k in range(len(names))]
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


def ranking(positive: np.ndarray, score: np.ndarray, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision (1 + G,) of cases `positive` (n,) by `score` (n,), ties halved.

    Nothing is ranked again for a group: the pairs that it is in are taken off, and its own cases from running sums.
    Source: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve", Radiology 143(1).
    """
    order = np.argsort(-score, kind="stable")  # from the highest down
    positive, score, groups = positive[order], score[order], groups.at(order)
    n_yes, n_no = groups.total(of=positive), groups.total(of=~positive)
    auc = ratio(_pairs_won(positive, score, groups), n_yes * n_no)
    return auc, ratio(_precisions(positive, score, groups), n_yes * (n_no > 0))  # of one class, 1 whatever the scores


def _pairs_won(positive: np.ndarray, score: np.ndarray, groups: Groups) -> np.ndarray:
    """Pairs of a positive case and another that has a lower score, those of equal ones halved (1 + G,)."""
    pairs = _won(positive, score, np.zeros(len(score), int))
    order = np.argsort(groups.of_case, kind="stable")
    within = _won(positive[order], score[order], groups.of_case[order])
    own = np.bincount(groups.of_case[order], within * positive[order], minlength=groups.n)  # in `pairs` twice
    whole = pairs[positive].sum()
    return np.append(whole, (whole - np.bincount(groups.of_case, pairs, minlength=groups.n) + own)[: groups.n])


def _won(positive: np.ndarray, score: np.ndarray, key: np.ndarray) -> np.ndarray:
    """The pairs of equal key that each case (n,) is in and that are won, those of equal scores halved.

    Cases are sorted by key, and then from the highest score down.
    """
    new_key = np.append(True, key[1:] != key[:-1])[: len(key)]
    first = np.flatnonzero(new_key | np.append(True, score[1:] != score[:-1])[: len(key)])  # of each run of equals
    run = np.repeat(np.arange(len(first)), np.diff(first, append=len(key)))
    hits, alarms = (np.append(0, np.cumsum(which)) for which in (positive, ~positive))
    ends = np.append(first, len(key))[1:]
    keys = np.flatnonzero(new_key)
    of_key = np.repeat(np.arange(len(keys)), np.diff(keys, append=len(key)))
    key_ends = np.append(keys, len(key))[1:][of_key]
    others_below = alarms[key_ends] - (alarms[first] + alarms[ends])[run] / 2
    positives_above = (hits[first] + hits[ends])[run] / 2 - hits[keys[of_key]]
    won: np.ndarray = np.where(positive, others_below, positives_above)
    return won


def _precisions(positive: np.ndarray, score: np.ndarray, groups: Groups) -> np.ndarray:
    """The sum of the precision at the score of each positive case (1 + G,); cases from the highest score down."""
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])  # that each threshold reaches
    hits = np.cumsum(positive)[last]
    rises = np.diff(hits, prepend=0) > 0
    last, hits = last[rises], hits[rises]
    reached, new_hits = last + 1, np.diff(hits, prepend=0)
    found = [float((new_hits * (hits / reached)).sum())]
    place = np.searchsorted(last, np.arange(len(score)))  # of the first threshold that reaches a case
    order = np.argsort(groups.of_case, kind="stable")
    bounds = np.searchsorted(groups.of_case[order], np.arange(groups.n + 1))
    for begin, end in pairwise(bounds.tolist()):
        own = order[begin:end]
        lost, lost_hits = (
            np.bincount(place[rows], minlength=len(last) + 1)[: len(last)] for rows in (own, own[positive[own]])
        )
        left_hits, left = hits - lost_hits.cumsum(), reached - lost.cumsum()
        found.append(float(((new_hits - lost_hits) * (left_hits / np.maximum(left, 1))).sum()))
    return np.array(found)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotients, NaN where there is nothing to divide by."""
    quotients = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotients, where=denominator > 0)
    return quotients
