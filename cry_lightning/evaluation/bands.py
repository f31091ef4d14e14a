"""How certain ROC and precision-recall curves are: intervals of sensitivity and precision at each threshold."""

from functools import partial

import numpy as np
import pandas as pd

from cry_lightning.evaluation.intervals import Jackknife
from cry_lightning.evaluation.metrics import Groups, Measures, Units
from cry_lightning.evaluation.predictions import SCORE

POINTS = 101  # thresholds at most, at as many quantiles of the scores
OF_THRESHOLD = ("sensitivity", "precision")


def bands(units: Units, positive: str, thresholds: np.ndarray | None = None) -> pd.DataFrame:
    """Rates of a class at thresholds of its score, from the highest down, with 95 % intervals over subjects.

    Each interval holds for its threshold, not for all of them at once.

    Args:
        units: the tested cases.
        positive: the class.
        thresholds: cases of so high a score are called positive; quantiles of the scores by default.

    Returns:
        threshold, alarms (1 - specificity), sensitivity and precision, the last two with _low and _high, which are NaN
        where there are too few subjects for an interval.
    """
    score = units.table[SCORE + positive].to_numpy()
    if thresholds is None:
        thresholds = np.quantile(score, np.linspace(0, 1, POINTS), method="inverted_cdf")
    thresholds = np.unique(thresholds)[::-1]
    found = Jackknife(units.table, positive, partial(_measure, thresholds=thresholds), units.n_folds)
    columns = {"threshold": thresholds, "alarms": _all(found, "alarms", thresholds)[:, 0]}
    for name in OF_THRESHOLD:
        values, n = _all(found, name, thresholds), found.subjects(name, positive)
        estimates = np.array([found.estimate(of_one, n) for of_one in values])
        columns |= {f"{name}{end}": estimates[:, place] for place, end in enumerate(("", "_low", "_high"))}
    return pd.DataFrame(columns)


def _all(found: Jackknife, name: str, thresholds: np.ndarray) -> np.ndarray:
    """A rate at all thresholds (T, 1 + G)."""
    return np.stack([found.measures[name, str(place)] for place in range(len(thresholds))])


def _measure(table: pd.DataFrame, group: np.ndarray | None, positive: str | None, thresholds: np.ndarray) -> Measures:
    """The rates at each threshold, as `Jackknife` asks for them, from the counts of each group of subjects."""
    groups = Groups.of(table, group)
    truth = (table["label"] == positive).to_numpy()
    first = np.searchsorted(-thresholds, -table[f"{SCORE}{positive}"].to_numpy())  # at which a case is called positive
    counted = []
    for of_class in (truth, ~truth):
        counts = np.zeros((max(groups.n, 1), len(thresholds) + 1))
        np.add.at(counts, (groups.of_case[of_class], first[of_class]), 1)
        called = counts.cumsum(axis=1)  # the last are all cases of the class
        counted.append(np.vstack([called.sum(axis=0), called.sum(axis=0) - called[: groups.n]]))  # (1 + G, T + 1)
    hits, alarms = counted
    with np.errstate(invalid="ignore"):
        rates = {
            "sensitivity": hits[:, :-1] / hits[:, -1:],
            "alarms": alarms[:, :-1] / alarms[:, -1:],
            "precision": hits[:, :-1] / (hits + alarms)[:, :-1],
        }
    return {(name, str(place)): of_all[:, place] for name, of_all in rates.items() for place in range(len(thresholds))}
