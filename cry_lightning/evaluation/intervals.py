"""95 % intervals over subjects, by leaving subjects out in turn, since the clips of one infant are not independent.

`docs/evaluation.md` has how often they contain the truth (`benchmarks/interval_coverage.py`), which chose this method.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from cry_lightning.evaluation.metrics import Measures, Units, majority, measure

MIN_SUBJECTS = 5  # of each class that a metric rests on; with fewer, an interval would say next to nothing
MOST_GROUPS = 250  # left out in turn; of more subjects, several at once
QUANTILE = 0.975
PRIOR = 0.1  # added to the subjects' sum of squared deviations: no interval is of zero width; chosen by simulation
NOTHING = 1e-20  # a variance that is rounding
OF_ALL_CLASSES = ("uar", "macro_f1", "macro_auc")
OF_ONE_CLASS = ("recall", "sensitivity", "specificity")
Measure = Callable[[pd.DataFrame, np.ndarray | None, str | None], Measures]  # as `metrics.measure`
Estimate = tuple[float, float, float]  # value, low, high; the bounds are NaN where there is no interval


class Jackknife:
    """Every metric of one table, of all subjects and with each of G groups of them left out.

    A group is one subject, or several of one stratum where that has more than `MOST_GROUPS`. Strata are the classes
    where every subject has one label: how many subjects of each class are tested is then no matter of chance.
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", ch. 11; Kott 2001, "The delete-a-group
    jackknife", J. Official Statistics 17(4).

    Args:
        table: that of `Units`.
        positive: see `metrics.measure`.
        measure: all metrics of the table.
        n_folds: that the table pools, see `widened`.
    """

    def __init__(
        self, table: pd.DataFrame, positive: str | None = None, measure: Measure = measure, n_folds: int = 1
    ) -> None:
        self.widened = widened(n_folds)
        self.classes, of_class = np.unique(table["label"].to_numpy(str), return_inverse=True)
        subject = pd.factorize(table["subject"], sort=True)[0]
        self.cases = np.zeros((subject.max() + 1, len(self.classes)))  # of each subject and tested class (S, K)
        np.add.at(self.cases, (subject, of_class), 1)
        self.all_cases = self.cases.sum(axis=1)
        stratum = _strata(self.cases > 0)
        place = np.zeros_like(stratum)
        for each in np.unique(stratum):
            place[stratum == each] = np.arange((stratum == each).sum()) % MOST_GROUPS
        groups, first, self.group = np.unique(
            np.stack([stratum, place]), axis=1, return_index=True, return_inverse=True
        )
        self.names: list[str] = np.unique(table["subject"].to_numpy(str))[first].tolist()  # a subject of each group
        self.strata = [np.flatnonzero(groups[0] == each) for each in np.unique(groups[0])]  # groups of each
        self._subjects: dict[tuple[str, str], float] = {}  # many metrics rest on the same classes
        self.measures = measure(table, self.group, positive)

    @classmethod
    def of(cls, units: Units, positive: str | None = None) -> Self:
        """That of the cases of a level."""
        return cls(units.table, positive, n_folds=units.n_folds)

    def score(self, metric: str, name: str = "") -> Estimate:
        """A metric, `name` the class of one that has a class, and its interval."""
        n = self.subjects(metric, name)
        if metric == "average_precision":  # varies mostly with the subjects of its own class; chosen by simulation
            n = float(np.minimum(n, self.subjects("recall", name)))  # NaN if either is
        return self.estimate(self.measures[metric, name], n)

    def estimate(self, values: np.ndarray, n: float, bounded: bool = True) -> Estimate:
        """The first of the values (1 + G,) of a metric that rests on n subjects, and its interval.

        Args:
            values: of all subjects, and with each group left out.
            n: see `subjects`.
            bounded: whether the metric lies between 0 and 1.
        """
        interval = rate_interval if bounded else t_interval
        return _estimate(values[0], *interval(values[0], self.variance(values), n))

    def difference(self, other: "Jackknife", metric: str, name: str = "") -> Estimate:
        """This metric minus that of another table of the same cases, and the interval of the difference.

        It follows from the intervals of both, and from how much both vary together over subjects. Near 1, where these
        are not symmetric, it is not either; where the other does not vary, it is this one's interval less a number.
        Source: Zou and Donner 2008, "Construction of confidence limits about effect measures: a general approach",
        Statistics in Medicine 27(10); Newcombe 1998, "Improved confidence intervals for the difference between binomial
        proportions based on paired data", ibid. 17(22).
        """
        (first, *own), (second, *others) = self.score(metric, name), other.score(metric, name)
        value, shared = first - second, self._correlation(other, metric, name)
        below = _joint(first - own[0], others[1] - second, shared)
        above = _joint(own[1] - first, second - others[0], shared)
        return value, value - below, value + above

    def _correlation(self, other: "Jackknife", metric: str, name: str) -> float:
        """That of a metric of two tables over subjects, drawn towards 0 where both vary little."""
        ours, theirs = self.measures[metric, name], other.measures[metric, name]
        own, others, of_difference = (self.variance(values) for values in (ours, theirs, ours - theirs))
        least = PRIOR / self.subjects(metric, name) ** 2
        return (own + others - of_difference) / 2 / float(np.sqrt((own + least) * (others + least)))

    def variance(self, values: np.ndarray) -> float:
        """Variance of a metric from its values (1 + G,); NaN if it is undefined without some group."""
        deviations = values[1:] - values[0]
        return float(sum((len(each) - 1) * deviations[each].var() for each in self.strata)) * self.widened

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """What each group adds to a figure (G,), which is their sum, from its values (1 + G,).

        Of a mean over subjects, it is what each adds.
        Source: Efron and Tibshirani 1993, ch. 11.5, "pseudo-values".
        """
        lost, found = values[0] - values[1:], np.empty(len(values) - 1)
        for each in self.strata:
            n = len(each)
            found[each] = (n - 1) / n * (lost[each] - lost[each].mean()) + values[0] / len(self.strata) / n
        return found

    def subjects(self, metric: str, name: str = "") -> float:
        """Effective number of subjects that a metric rests on; NaN if one of its classes has too few.

        That of a class is smaller than the number of its subjects where a few have most of its cases; that of several
        classes has the degrees of freedom of a sum over them, whose variances are alike.
        Source: Kish 1965, "Survey Sampling", sec. 11.7; Welch 1947, "The generalization of Student's problem when
        several different population variances are involved", Biometrika 34.
        """
        rests_on = "class" if metric in OF_ONE_CLASS else "class and rest" if name else metric
        if (rests_on, name) not in self._subjects:
            self._subjects[rests_on, name] = _effective(self._cases_of(rests_on, name))
        return self._subjects[rests_on, name]

    def _cases_of(self, rests_on: str, name: str) -> np.ndarray:
        """Cases of each subject in each class, or group of classes, on which a metric rests (S, k)."""
        if rests_on in OF_ALL_CLASSES:
            return self.cases
        if rests_on == "accuracy":
            return np.expand_dims(self.all_cases, 1)
        own = self.cases[:, self.classes == name].sum(axis=1)  # of zeros where no case of the class is tested
        return np.stack([own] if rests_on == "class" else [own, self.all_cases - own], axis=1)


class Baseline(Jackknife):
    """That of the majority baseline: what does not vary, such as its UAR, is known, and has no width."""

    def estimate(self, values: np.ndarray, n: float, bounded: bool = True) -> Estimate:
        """As of any other predictor, but for what does not vary."""
        if self.variance(values) < NOTHING:
            return _estimate(values[0], *2 * [values[0] + 0 * n])  # NaN where there are too few subjects
        return super().estimate(values, n, bounded)


def widened(n_folds: int) -> float:
    """By how much the variance of a figure of K pooled folds exceeds that of one model tested on as many subjects.

    Two models share most of their training subjects, and so what these have peculiar: their figures correlate by about
    1 / K, of which nothing shows in the differences between tested subjects. Then the variance of the mean of K figures
    is 1 + (K - 1) / K of that of independent ones. It is 1 where nothing is pooled.
    Source: Nadeau and Bengio 2003, "Inference for the generalization error", Machine Learning 52(3), whose correlation
    is n_test / (n_test + n_train); `benchmarks/interval_coverage.py --pooled`.
    """
    return 1 + (n_folds - 1) / n_folds


def _effective(cases: np.ndarray) -> float:
    """`Jackknife.subjects` of cases (S, k)."""
    if ((cases > 0).sum(axis=0) < MIN_SUBJECTS).any():
        return np.nan
    effective = cases.sum(axis=0) ** 2 / (cases**2).sum(axis=0)
    return float(1 + (1 / effective).sum() ** 2 / (1 / effective**2 / (effective - 1)).sum())


def _strata(has: np.ndarray) -> np.ndarray:
    """The stratum of each subject (S,), from which classes each has (S, K)."""
    fixed = (has.sum(axis=1) == 1).all() and (has.sum(axis=0) > 1).all()  # one subject alone has no variance
    return has.argmax(axis=1) if fixed else np.zeros(len(has), int)


def _estimate(value: float, low: float, high: float) -> Estimate:
    return float(value), float(low), float(high)


def rate_interval(value: float, variance: float, n: float) -> tuple[float, float]:
    """Interval of a metric between 0 and 1: Wilson's, with Student's t, of the effective number of cases.

    That number is n / v, where v is the variance of the metric over that of n independent cases. Near 0 and 1, where
    both are too small to tell, v is drawn to 1, as if all cases of a subject were right or wrong together.
    Source: Korn and Graubard 1998, "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data", Survey Methodology 24(2); Wilson 1927, J. Am. Stat. Assoc. 22.
    """
    spread = value * (1 - value)
    cases = n * (n * spread + PRIOR) / (n**2 * variance + PRIOR)
    share = stdtrit(n - 1, QUANTILE) ** 2 / cases
    centre = (value + share / 2) / (1 + share)
    half = np.sqrt(share * spread + share**2 / 4) / (1 + share)
    return np.minimum(centre - half, value), np.maximum(centre + half, value)  # but for rounding, at 0 and 1


def t_interval(value: float, variance: float, n: float) -> tuple[float, float]:
    """Interval of a figure that may be any number, by Student's t."""
    half = stdtrit(n - 1, QUANTILE) * np.sqrt(variance + PRIOR / n**2)
    return value - half, value + half


def _joint(reach: float, other: float, correlation: float) -> float:
    """How far the interval of a difference reaches, from how far those of both its figures do."""
    return float(np.sqrt(np.maximum(reach**2 + other**2 - 2 * correlation * reach * other, 0)))


def evaluate(units: Units, positive: str | None = None, model: Jackknife | None = None) -> pd.DataFrame:
    """All metrics of a level: metric, class, value, low, high, n_units, n_subjects, predictor.

    Predictor is model, majority (the baseline) or gain (model minus majority, paired). There is no interval (NaN) where
    a class that the metric rests on has fewer than 5 subjects.
    """
    model = model or Jackknife.of(units, positive)
    baseline = Baseline.of(replace(units, table=majority(units)), positive)
    counts = units.table.groupby("label")[["unit", "subject"]].nunique()
    counts.loc[""] = units.table[["unit", "subject"]].nunique()
    counts = counts.reindex(list({name for _, name in model.measures}), fill_value=0)
    of_class = dict(zip(counts.index, counts.itertuples(index=False, name=None), strict=True))
    rows = []
    for metric, name in model.measures:
        estimates = {
            "model": model.score(metric, name),
            "majority": baseline.score(metric, name),
            "gain": model.difference(baseline, metric, name),
        }
        rows += [(metric, name, *found, *of_class[name], who) for who, found in estimates.items()]
    columns = ["metric", "class", "value", "low", "high", "n_units", "n_subjects", "predictor"]
    return pd.DataFrame(rows, columns=columns)
