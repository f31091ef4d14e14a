"""Whether two runs differ by more than chance, by exchanging their answers to all clips of some subjects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from cry_lightning.evaluation.intervals import Jackknife
from cry_lightning.evaluation.metrics import Units, mean_of_defined, ratio
from cry_lightning.evaluation.predictions import classes_of

TESTED = ("accuracy", "uar", "macro_f1", "macro_auc")
PERMUTATIONS = 9999
AT_A_TIME = 500  # permutations held in memory


@dataclass(frozen=True)
class Exchange:
    """What the differences between two runs become where subjects exchange both runs' answers to all their clips.

    Args:
        subjects: names of those that are exchanged, S; of very many, each stands for several.
        support: cases of each class in each repeat (R, K).
        hits: right answers of each class, summed over both runs and subjects, then the first run's less the other's for
            each subject (R, 1 + S, K).
        answered: the same of all answers.
        auc: what each subject adds to the difference in macro AUC (S,): exchanges would mix two scales of scores.
        widened: by how much the variance of a difference exceeds what exchanges show, see `intervals.widened`.
    """

    subjects: list[str]
    support: np.ndarray
    hits: np.ndarray
    answered: np.ndarray
    auc: np.ndarray
    widened: float = 1.0

    @classmethod
    def of(cls, units: Units, other: Units, model: Jackknife, rival: Jackknife) -> Self:
        """That of two runs with the same cases, and of their jackknives."""
        case, classes = ["repeat", "unit"], pd.Index(classes_of(units.table)).union(classes_of(other.table))
        table = units.table[[*case, "subject", "label"]].assign(ours=units.predicted)
        table = table.merge(other.table[case].assign(theirs=other.predicted), on=case, validate="1:1")
        repeat, subject = pd.factorize(table["repeat"])[0], pd.factorize(table["subject"], sort=True)[0]
        truth, ours, theirs = (classes.get_indexer(pd.Index(table[name])) for name in ("label", "ours", "theirs"))
        shape = repeat.max() + 1, len(model.names), len(classes)

        def counted(of_class: np.ndarray, where: np.ndarray | slice = slice(None)) -> np.ndarray:
            places = np.ravel_multi_index((repeat, model.group[subject], of_class), shape)
            return np.bincount(places[where], minlength=int(np.prod(shape))).reshape(shape)

        def both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
            return np.concatenate([(first + second).sum(axis=1, keepdims=True), first - second], axis=1)

        return cls(
            subjects=model.names,
            support=counted(truth).sum(axis=1),
            hits=both(counted(truth, truth == ours), counted(truth, truth == theirs)),
            answered=both(counted(ours), counted(theirs)),
            auc=model.contributions(model.measures["macro_auc", ""] - rival.measures["macro_auc", ""]),
            widened=max(model.widened, rival.widened),
        )

    def differences(self, signs: np.ndarray) -> np.ndarray:
        """All of `TESTED`, the first run's less the other's, by signs (P, S), -1 for an exchange; (P, 4)."""
        first, second = (self._counted(signs * side) for side in (1.0, -1.0))
        return np.stack([*(first - second), signs @ self.auc], axis=1)

    def _counted(self, signs: np.ndarray) -> np.ndarray:
        """Accuracy, UAR and macro-F1 of one of the runs (3, P), means over repeats."""
        each = []
        for support, *counts in zip(self.support, self.hits, self.answered, strict=True):
            hits, answered = ((of[0] + signs @ of[1:]) / 2 for of in counts)
            tested = support > 0
            recall, f1 = ratio(hits, np.broadcast_to(support, hits.shape)), ratio(2 * hits, support + answered)
            of_classes = [values[:, tested].mean(axis=1) for values in (recall, f1)]
            if tested.sum() == 1:  # then there is no average, see `metrics.measure`
                of_classes = [values * np.nan for values in of_classes]
            each.append([hits.sum(axis=1) / support.sum(), *of_classes])
        return mean_of_defined(np.array(each))


def p_values(exchanges: Sequence[Exchange], metrics: Sequence[str] = TESTED) -> np.ndarray:
    """Two-sided p of M metrics of each of J pairs of runs (J, M), corrected for their number; NaN where undefined.

    Under the null hypothesis, the answers of two runs to all clips of a subject can be exchanged. Each subject is
    exchanged in all pairs and metrics at once, so that the correction for their number, step by step from the largest,
    knows how alike they are: Holm's, which does not, misses more.
    Source: Westfall and Young 1993, "Resampling-Based Multiple Testing", alg. 2.8; Nichols and Holmes 2002, Human Brain
    Mapping 15(1).
    """
    subjects = pd.Index(dict.fromkeys(subject for each in exchanges for subject in each.subjects))
    places = [subjects.get_indexer(pd.Index(each.subjects)) for each in exchanges]
    columns = [TESTED.index(metric) for metric in metrics]

    def differences(signs: np.ndarray) -> np.ndarray:
        each = (one.differences(signs[:, at])[:, columns] for one, at in zip(exchanges, places, strict=True))
        return np.hstack([*each])

    found = np.concatenate([*map(differences, _signs(len(subjects)))])  # the first is as the runs are
    widened = np.repeat([each.widened for each in exchanges], len(metrics))
    return corrected_p(found, widened).reshape(-1, len(metrics))


def corrected_p(values: np.ndarray, widened: np.ndarray | float = 1.0) -> np.ndarray:
    """Two-sided p (J,) of J figures, which are 0 in the mean, from those found and of N exchanges (1 + N, J).

    What is found is divided by the square root of `widened` (J,), where it varies more than exchanges show.
    """
    p = np.full(values.shape[1], np.nan)
    defined = np.flatnonzero(np.isfinite(values).all(axis=0))
    scale = np.sqrt((values[:, defined] ** 2).mean(axis=0))
    sizes = np.divide(np.abs(values[:, defined]), scale, out=np.zeros((len(values), len(defined))), where=scale > 0)
    size = sizes[0] / np.sqrt(np.broadcast_to(widened, p.shape)[defined])
    order = np.argsort(-size, kind="stable")
    largest = np.maximum.accumulate(sizes[:, order[::-1]], axis=1)[:, ::-1]  # of each figure and all below it
    reached = (largest >= size[order] - 1e-9).mean(axis=0)  # but for rounding
    p[defined[order]] = np.maximum.accumulate(reached)
    return p


def _signs(n_subjects: int) -> Iterator[np.ndarray]:
    """All signs (n, S) of the subjects, or 9,999 drawn at random; before them those that exchange nobody; in blocks."""
    if 2**n_subjects <= PERMUTATIONS + 1:
        yield 1.0 - 2 * ((np.arange(2**n_subjects)[:, None] >> np.arange(n_subjects)) & 1)
        return
    yield np.ones((1, n_subjects))
    rng = np.random.default_rng(0)
    for first in range(0, PERMUTATIONS, AT_A_TIME):
        yield rng.choice([-1.0, 1.0], (min(AT_A_TIME, PERMUTATIONS - first), n_subjects))
