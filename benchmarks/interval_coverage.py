"""How often the 95 % intervals of `evaluate` contain the truth, and how often equal models are called different.

Simulated tests whose truth is known: infants with an effect of their own on the scores of all their clips, and another
on those of each class, which together are half of the variance of a score (intraclass correlation 0.5). Two models, of
equal skill, share half of each effect; `--unequal` is of two of unequal skill; `--failing` of two that each answer
wrongly to one infant in six, whichever, and very well to the others. `--old` does the same with the
percentiles of a cluster bootstrap, which this method replaced; `--clinical` with the clinical figures, whose thresholds
another such test chooses; `--tests` counts false alarms of the permutation test; `--three` is of three classes;
`--pooled` is of cross-validations, whose models are trained (linear discriminants of simulated features, by infant),
and of the paired difference of two models.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binom, norm

from cry_lightning.evaluation import clinical, compare
from cry_lightning.evaluation.compare import TESTED, Exchange, p_values
from cry_lightning.evaluation.intervals import Jackknife
from cry_lightning.evaluation.metrics import Measures, Units, measure

EQUAL = {"none": 0.0, "middling": 1.2, "high": 3.5}  # distance of the classes in SD: UAR .50, .73, .96
SKILLS = EQUAL | {"good": 1.7, "better": 4.1, "nearly perfect": 5.0, "best": 5.5}  # .80, .980, .994, .997
OF_ALL = (("accuracy", ""), ("uar", ""), ("macro_f1", ""), ("macro_auc", ""))
OF_CLASS = ("recall", "precision", "f1", "average_precision")


@dataclass(frozen=True)
class Test:
    """How many subjects, the share of class b, as many clips of each or not, labels by infant or clip, the skill."""

    subjects: int
    prevalence: float
    equal_clips: bool
    by_infant: bool
    skill: str
    classes = ("a", "b")
    rival = ""  # skill of the second model, where it is another
    icc = 0.5
    failing = 0.0  # share of infants whose clips a model ranks the wrong way round

    @property
    def metrics(self) -> list[tuple[str, str]]:
        """What is simulated: each metric and its class."""
        return [*OF_ALL, *product(OF_CLASS, self.classes)]

    @property
    def of_b(self) -> int:
        """Infants of class b, where the label is the infant's."""
        return max(1, round(self.prevalence * self.subjects))

    def simulated(self, rng: np.random.Generator, models: int = 2) -> list[pd.DataFrame]:
        """Predictions of some models of equal skill on one simulated test."""
        clips = np.full(self.subjects, 10)
        if not self.equal_clips:
            clips = rng.lognormal(np.log(10) - 0.32, 0.8, self.subjects).round().clip(1, 60).astype(int)
        subject = np.repeat(np.arange(self.subjects), clips)
        of_infant = rng.permutation(self.subjects) < self.of_b
        truth = (of_infant[subject] if self.by_infant else rng.random(len(subject)) < self.prevalence).astype(int)
        effects = [self._effects(rng, subject, truth) for _ in range(models + 1)]
        common = effects.pop()
        distances = [SKILLS[self.skill]] + [SKILLS[self.rival or self.skill]] * (models - 1)
        return [
            _table(subject, truth, distance * self._ways(rng)[subject] * (truth - 0.5) + (common + own) / 2**0.5)
            for distance, own in zip(distances, effects, strict=True)
        ]

    def _ways(self, rng: np.random.Generator) -> np.ndarray:
        """For each infant 1, or -1 where a model fails."""
        return 1 - 2 * (rng.random(self.subjects) < self.failing) if self.failing else np.ones(self.subjects)

    def _mixed(self, right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
        """What holds of all infants, of what holds of those whom a model answers well, and of those whom it fails."""
        return (1 - self.failing) * right + self.failing * wrong

    def _effects(self, rng: np.random.Generator, subject: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Of the infant, the infant's class, and the clip: variances 0.25, 0.25 and 0.5 at the usual correlation."""
        of_infant, of_class = rng.normal(size=self.subjects), rng.normal(size=(self.subjects, 2))
        of_subject = (of_infant[subject] + of_class[subject, truth]) * (self.icc / 2) ** 0.5
        return of_subject + rng.normal(size=len(subject)) * (1 - self.icc) ** 0.5

    def population(self, n: int = 5_000) -> pd.DataFrame:
        """Predictions on so many clips that their scores are as the distribution has them."""
        share = self.of_b / self.subjects if self.by_infant else self.prevalence
        of_class = [round((1 - share) * n), round(share * n)]
        scores = [
            norm.ppf((np.arange(k) + 0.5) / k) + where * SKILLS[self.skill]
            for k, where in zip(of_class, (-0.5, 0.5), strict=True)
        ]
        return _table(np.zeros(sum(of_class), int), np.repeat([0, 1], of_class), np.concatenate(scores))

    def truth(self) -> dict[tuple[str, str], float]:
        """Every metric of a test of infinitely many such subjects."""
        distance = SKILLS[self.skill]
        b = self.of_b / self.subjects if self.by_infant else self.prevalence
        share, recall = np.array([1 - b, b]), self._mixed(norm.cdf(distance / 2), norm.cdf(-distance / 2))
        said = share * recall + share[::-1] * (1 - recall)
        f1 = 2 * share * recall / (share + said)
        score = np.linspace(-9, 9, 20001)
        right, wrong = norm.sf(score - distance / 2), norm.sf(score + distance / 2)
        hits, alarms = self._mixed(right, wrong), self._mixed(wrong, right)
        density = self._mixed(norm.pdf(score - distance / 2), norm.pdf(score + distance / 2))
        found = {("accuracy", ""): recall, ("uar", ""): recall, ("macro_f1", ""): f1.mean()}
        both, none = norm.cdf(distance / 2**0.5), norm.cdf(-distance / 2**0.5)  # of two infants
        found["macro_auc", ""] = self._mixed(self._mixed(both, 0.5), self._mixed(0.5, none))
        for k, name in enumerate(self.classes):
            precision = share[k] * hits / np.maximum(share[k] * hits + share[1 - k] * alarms, 1e-300)
            found["recall", name], found["f1", name] = recall, f1[k]
            found["precision", name] = share[k] * recall / said[k]
            found["average_precision", name] = np.trapezoid(precision * density, score)
        return found


@dataclass(frozen=True)
class Unequal(Test):
    """As `Test`, of two models of unequal skill; `icc` is the intraclass correlation."""

    rival: str
    icc: float


@dataclass(frozen=True)
class Failing(Test):
    """As `Test`, of two models that each fail at infants of their own."""

    failing: float


def _table(subject: np.ndarray, truth: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    """As `units_at` makes it."""
    b = norm.cdf(score)
    columns = {"repeat": "0", "unit": np.arange(len(b)), "subject": subject, "label": np.array(["a", "b"])[truth]}
    return pd.DataFrame(columns | {"score_a": 1 - b, "score_b": b})


@dataclass(frozen=True)
class ThreeClasses:
    """As `Test`, of three classes: a third of the infants of each, or 60, 25 and 15 %; ten clips each."""

    subjects: int
    equal: bool
    by_infant: bool
    skill: str
    classes = ("a", "b", "c")
    metrics = Test.metrics
    rival = ""

    @property
    def shares(self) -> np.ndarray:
        """Of each class (3,)."""
        return np.full(3, 1 / 3) if self.equal else np.array([0.6, 0.25, 0.15])

    def simulated(self, rng: np.random.Generator) -> list[pd.DataFrame]:
        """Predictions of two models of equal skill, which share half of each effect."""
        subject = np.repeat(np.arange(self.subjects), 10)
        infants = np.digitize((rng.permutation(self.subjects) + 0.5) / self.subjects, self.shares.cumsum()[:2])
        truth = infants[subject] if self.by_infant else rng.choice(3, len(subject), p=self.shares)
        common, *effects = (self._effects(rng, subject) for _ in range(3))
        of_skill = (self, replace(self, skill=self.rival or self.skill))
        return [one._table(subject, truth, (common + own) / 2**0.5) for one, own in zip(of_skill, effects, strict=True)]

    def _effects(self, rng: np.random.Generator, subject: np.ndarray) -> np.ndarray:
        """Of the infant and the clip on the score of each class: variances 0.5 and 0.5."""
        return (rng.normal(size=(self.subjects, 3))[subject] + rng.normal(size=(len(subject), 3))) / 2**0.5

    def _table(self, subject: np.ndarray, truth: np.ndarray, effects: np.ndarray) -> pd.DataFrame:
        logits = effects + SKILLS[self.skill] * np.eye(3)[truth]
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        columns = {"repeat": "0", "unit": np.arange(len(truth)), "subject": subject}
        labels = {"label": np.array(self.classes)[truth]}
        return pd.DataFrame(columns | labels | {f"score_{name}": scores[:, k] for k, name in enumerate(self.classes)})

    def truth(self) -> dict[tuple[str, str], float]:
        """Every metric of 300,000 infants with a clip each."""
        rng, n = np.random.default_rng(1), 300_000
        counted = self.shares
        if self.by_infant:  # as many as there are of so few infants
            places = (np.arange(self.subjects) + 0.5) / self.subjects
            counted = np.bincount(np.digitize(places, self.shares.cumsum()[:2]), minlength=3) / self.subjects
        table = self._table(np.arange(n), rng.choice(3, n, p=counted), rng.normal(size=(n, 3)))
        found = measure(table)
        return {key: float(found[key][0]) for key in self.metrics}


@dataclass(frozen=True)
class UnequalOfThree(ThreeClasses):
    """As `ThreeClasses`, of two models of unequal skill."""

    rival: str


def unequal_tests() -> Iterator[Test | ThreeClasses]:
    """The grid of `--unequal`."""
    for subjects, by_infant in product((18, 36), (True, False)):
        for skill, rival in (("high", "middling"), ("nearly perfect", "good"), ("nearly perfect", "high")):
            yield Unequal(subjects, 0.5, True, by_infant, skill, rival, 0.5)
    yield Unequal(60, 0.3, True, False, "best", "better", 0.8)
    for skill, rival in (("high", "middling"), ("high", "good")):
        yield UnequalOfThree(30, True, True, skill, rival)


def failing_tests() -> Iterator[Failing]:
    """The grid of `--failing`."""
    for subjects, by_infant in product((10, 18, 36), (True, False)):
        yield Failing(subjects, 0.5, True, by_infant, "nearly perfect", 1 / 6)


def tests_of_three() -> Iterator[ThreeClasses]:
    """The grid of `--three`."""
    for values in product((18, 36, 100), (True, False), (True, False), EQUAL):
        yield ThreeClasses(*values)


def tests() -> Iterator[Test]:
    """The whole grid."""
    for values in product((10, 18, 36, 100), (0.5, 0.16), (True, False), (True, False), EQUAL):
        yield Test(*values)


def by_jackknife(tables: list[pd.DataFrame], metrics: list[tuple[str, str]]) -> Iterator[tuple]:
    """Metric, value and bounds of the first model, then of the second minus the first."""
    first, second = map(Jackknife, tables)
    for key in metrics:
        yield key, first.score(*key), second.difference(first, *key)


def by_bootstrap(tables: list[pd.DataFrame], metrics: list[tuple[str, str]], resamples: int = 500) -> Iterator[tuple]:
    """The same by percentiles of resamples of subjects, none below five subjects of a class for its own figures."""
    rows_of = list(tables[0].groupby("subject").indices.values())
    rng = np.random.default_rng(0)
    drawn = [np.concatenate(rng.choice(np.array(rows_of, object), len(rows_of))) for _ in range(resamples)]
    first, second = (_of_each([table, *(table.iloc[rows] for rows in drawn)], metrics) for table in tables)
    for key in metrics:
        yield key, _percentiles(first, key), _percentiles({key: second[key] - first[key]}, key)


def _of_each(tables: list[pd.DataFrame], metrics: list[tuple[str, str]]) -> Measures:
    each = [measure(table) for table in tables]
    return {key: np.array([one[key][0] for one in each]) for key in metrics}


def _percentiles(measures: Measures, key: tuple[str, str]) -> tuple[float, float, float]:
    value, *resampled = measures[key]
    return (value, *np.nanpercentile(resampled, (2.5, 97.5))) if np.isfinite(value) else (value, np.nan, np.nan)


def coverage(test: Test | ThreeClasses, simulations: int, method=by_jackknife) -> pd.DataFrame:
    """For each metric, of scores and of differences: how many intervals there were, the share that held the truth.

    And the shares that lay wholly below the truth, and above it.
    """
    rng, truth = np.random.default_rng([test.subjects, *map(ord, repr(test))]), test.truth()
    of_rival = replace(test, skill=test.rival).truth() if test.rival else truth
    rows = []
    for _ in range(simulations):
        for key, score, difference in method(test.simulated(rng), test.metrics):
            both = ("score", score, truth[key]), ("difference", difference, of_rival[key] - truth[key])
            for of, (_, low, high), true in both:
                rows.append((of, *key, low, high, high < true - 1e-12, low > true + 1e-12))
    each = pd.DataFrame(rows, columns=["of", "metric", "class", "low", "high", "below", "above"]).dropna()
    each["held"] = ~(each["below"] | each["above"]).astype(bool)
    each["width"] = each["high"] - each["low"]
    groups = each.groupby(["of", "metric", "class"], sort=False)
    found = groups.agg(
        intervals=("held", "size"),
        coverage=("held", "mean"),
        below=("below", "mean"),
        above=("above", "mean"),
        width=("width", "median"),
    )
    return found.reset_index().assign(**vars(test), simulations=simulations)


def clinical_coverage(test: Test, simulations: int) -> pd.DataFrame:
    """For each clinical figure: how many intervals there were, and the share that held the truth.

    Validation and test are of as many infants each; the truth is that of very many more under the same thresholds.
    """
    rng, rows = np.random.default_rng([7, *map(ord, repr(test))]), []
    everybody = test.population()
    for _ in range(simulations):
        validation, tested = test.simulated(rng, 1)[0], test.simulated(rng, 1)[0]
        if validation["label"].nunique() < 2:
            continue
        cases, _ = clinical.decided(tested, validation, "b")
        truth = clinical.measure(clinical.decided(everybody, validation, "b")[0], None, "b")
        for at in clinical.POINTS.values():
            values = clinical.predictive_values(*(truth[rate, at][0] for rate in ("sensitivity", "specificity")), WARD)
            for name, value in zip(clinical.PREDICTIVE, values, strict=True):
                truth[name, f"{at}, prevalence {WARD:g}"] = np.array([value])
        jackknife = Jackknife(cases, "b", clinical.measure)
        curve = clinical.decision_curve(jackknife, "b").assign(quantity="net benefit")
        curve["at"] = [f"{odds:.2f}" for odds in curve["threshold"]]
        found = pd.concat([clinical.figures_of(jackknife, cases, "b", [WARD]), curve[curve["at"].isin(SHOWN)]]).dropna(
            subset="low"
        )
        for _, row in found.iterrows():
            true = truth[row["quantity"], row["at"]][0]
            rows.append((row["quantity"], row["at"], row["low"] - 1e-12 <= true <= row["high"] + 1e-12))
    each = pd.DataFrame(rows, columns=["quantity", "at", "held"])
    found = each.groupby(["quantity", "at"], sort=False)["held"].agg(intervals="size", coverage="mean")
    return found.reset_index().assign(**vars(test), simulations=simulations)


def false_alarms(test: "Test | Pooled", rivals: int, simulations: int, n_folds: int = 1) -> pd.Series:
    """Share of simulated reports in which any of some equal rivals is called different from the first model.

    By any metric of a report, whose p are corrected for all; and by each, if it alone were reported. With `n_folds`,
    differences are held against those that so many pooled folds ask for.
    """
    rng, alarms = np.random.default_rng([rivals, *map(ord, repr(test))]), []
    for _ in range(simulations):
        tables = test.equal(rng, 1 + rivals) if isinstance(test, Pooled) else test.simulated(rng, 1 + rivals)
        units = [Units("clip", table, *[0] * 4, n_folds) for table in tables]
        models = [Jackknife.of(each) for each in units]
        others = zip(units[1:], models[1:], strict=True)
        exchanges = [Exchange.of(other, units[0], model, models[0]) for other, model in others]
        reported = {"any": TESTED} | {metric: (metric,) for metric in TESTED}
        alarms.append({name: np.nanmin(p_values(exchanges, metrics)) <= 0.05 for name, metrics in reported.items()})
    return pd.DataFrame(alarms).mean()


@dataclass(frozen=True)
class Pooled:
    """A cross-validation: how many infants, half of each class, how many folds and features, the skill."""

    subjects: int
    folds: int
    features: int
    skill: str

    def simulated(self, rng: np.random.Generator) -> tuple[list[pd.DataFrame], np.ndarray]:
        """Pooled predictions of models on all features and on half of them; the true UAR and AUC of each (2, 2)."""
        numbers = range(self.features), range(max(1, self.features // 2))
        return self._of_models(rng, [list(used) for used in numbers])

    def equal(self, rng: np.random.Generator, n_models: int) -> list[pd.DataFrame]:
        """The same of models of one skill: each knows the one feature that tells, and others of its own."""
        others = self.features - 1
        own = [[0, *range(1 + model * others, 1 + (model + 1) * others)] for model in range(n_models)]
        return self._of_models(rng, own)[0]

    def _of_models(
        self, rng: np.random.Generator, features: Sequence[list[int]]
    ) -> tuple[list[pd.DataFrame], np.ndarray]:
        n_features = 1 + max(max(used) for used in features)
        of_infant = rng.permutation(np.arange(self.subjects) % 2)
        fold = np.empty(self.subjects, int)
        for k in (0, 1):  # stratified
            fold[of_infant == k] = rng.permutation(np.arange((of_infant == k).sum()) % self.folds)
        subject = np.repeat(np.arange(self.subjects), CLIPS)
        truth = of_infant[subject]
        x = rng.normal(size=(self.subjects, n_features))[subject] + rng.normal(size=(len(subject), n_features))
        x = x / 2**0.5
        x[:, 0] += SKILLS[self.skill] * (truth - 0.5)
        tables, values = [], []
        for used in features:
            score, of_models = np.empty(len(truth)), []
            for tested in (fold[subject] == each for each in range(self.folds)):
                weights, bias = _discriminant(x[~tested][:, used], truth[~tested])
                score[tested] = x[tested][:, used] @ weights + bias
                of_models.append(self._true(weights, bias))
            tables.append(_table(subject, truth, score))
            values.append(np.mean(of_models, axis=0))
        return tables, np.array(values)

    def _true(self, weights: np.ndarray, bias: float) -> tuple[float, float]:
        """UAR and AUC of a model on infinitely many infants."""
        deviation, shift = np.linalg.norm(weights), weights[0] * SKILLS[self.skill] / 2
        recalls = norm.cdf((shift + bias) / deviation), norm.cdf((shift - bias) / deviation)
        return sum(recalls) / 2, norm.cdf(2**0.5 * shift / deviation)


WARD = 0.05  # prevalence
SHOWN = ("0.10", "0.30", "0.50")  # points of the decision curve
CLIPS = 6  # of each infant of a `Pooled`
RIDGE = 0.1  # added to the variances of its features


def _discriminant(x: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    means = np.stack([x[truth == k].mean(axis=0) for k in (0, 1)])
    within = np.cov((x - means[truth]).T).reshape(x.shape[1], -1) + RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(within, means[1] - means[0])
    return weights, float(-weights @ means.sum(axis=0) / 2)


def pooled_coverage(test: Pooled, simulations: int) -> dict[str, float]:
    """Coverage of UAR and AUC and of their differences, as `evaluate` widens intervals, and without that."""
    rng = np.random.default_rng([*map(ord, repr(test))])
    each = [test.simulated(rng) for _ in range(simulations)]
    truth = np.mean([true for _, true in each], axis=0)
    held: dict[str, list[bool]] = {}
    for tables, _ in each:
        for name, folds in (("widened", test.folds), ("as of one model", 1)):
            first, second = (Jackknife(table, n_folds=folds) for table in tables)
            for place, metric in enumerate(("uar", "macro_auc")):
                of_first, of_second = truth[:, place]
                _, low, high = first.score(metric)
                held.setdefault(f"{metric}, {name}", []).append(low <= of_first <= high)
                _, low, high = first.difference(second, metric)
                held.setdefault(f"{metric} difference, {name}", []).append(low <= of_first - of_second <= high)
    return {name: float(np.mean(of_name)) for name, of_name in held.items()}


def pooled_tests() -> Iterator[Pooled]:
    """The grid of `--pooled`."""
    for values in product((10, 20, 40, 100), (2, 5, 10), (2, 20), EQUAL):
        if values[0] >= 2 * values[1]:  # an infant of each class in every fold
            yield Pooled(*values)


def summary(cells: pd.DataFrame) -> str:
    """Coverage of each metric and number of subjects: mean and lowest of all tests in which most have an interval."""
    cells = cells[cells["intervals"] >= cells["simulations"] / 2]  # else those with one are a selection
    found = cells.groupby(["of", "metric", "subjects"], sort=False)["coverage"].agg(["mean", "min"])
    text = found.apply(lambda row: f"{row['mean']:.3f} ({row['min']:.3f})", axis=1).unstack("subjects")
    held = cells["coverage"] * cells["intervals"]
    low = binom.cdf(held, cells["intervals"], 0.93) < 0.01
    high = binom.sf(held - 1, cells["intervals"], 0.985) < 0.01
    by_skill = cells.groupby(["of", "skill"], sort=False)[["coverage", "below", "above"]].mean().round(3).to_string()
    above = (cells["coverage"] > 0.985).groupby([cells["of"], cells["skill"]], sort=False).mean().round(3).to_string()
    certain = f"below 0.93 beyond chance (1 %): {low.sum()}, above 0.985: {high.sum()}, of {len(cells)} cells"
    plain = f"below 0.93: {(cells['coverage'] < 0.93).sum()}, above 0.985: {(cells['coverage'] > 0.985).sum()}"
    return f"{text.to_string()}\n{by_skill}\nshare above 0.985:\n{above}\n{plain}; {certain}"


def clinical_summary(cells: pd.DataFrame) -> str:
    """Coverage of each clinical figure and number of subjects: mean and lowest of all tests."""
    cells = cells[cells["intervals"] >= cells["simulations"] / 2]
    found = cells.groupby(["quantity", "at", "subjects"], sort=False)["coverage"].agg(["mean", "min", "max"])
    text = found.apply(lambda row: f"{row['mean']:.3f} ({row['min']:.3f} to {row['max']:.3f})", axis=1)
    return text.unstack("subjects").to_string()


def print_tests(tests: Sequence[Test], simulations: int) -> None:
    """False alarms of the plain tests among some."""
    plain = [test for test in tests if test.equal_clips and test.prevalence == 0.5]
    plain = [test for test in plain if test.failing or test.skill == "middling"]
    for test, rivals in product(plain, (1, 10)):
        print(test, rivals, "rivals:", false_alarms(test, rivals, simulations).round(3).to_dict(), flush=True)


def print_pooled_tests(tests: Sequence[Pooled], simulations: int) -> None:
    """Those of one rival in pooled cross-validations, as `evaluate` widens what it asks for, and without that."""
    for test in (test for test in tests if test.skill == "middling"):
        for how, n_folds in (("widened", test.folds), ("as of one model", 1)):
            print(test, how, false_alarms(test, 1, simulations, n_folds).round(3).to_dict(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--subjects", type=int, nargs="+", help="only these numbers of subjects")
    parser.add_argument("--old", action="store_true", help="percentile bootstrap instead")
    parser.add_argument("--clinical", action="store_true", help="clinical figures instead")
    parser.add_argument("--tests", action="store_true", help="false alarms of the permutation test instead")
    parser.add_argument("--three", action="store_true", help="three classes instead")
    parser.add_argument("--unequal", action="store_true", help="two models of unequal skill instead")
    parser.add_argument("--failing", action="store_true", help="two models that fail at one infant in six instead")
    parser.add_argument("--pooled", action="store_true", help="pooled cross-validations instead, with --tests too")
    parser.add_argument("--out", type=Path, default=Path("coverage.csv"))
    options = parser.parse_args()
    grids = {"three": tests_of_three, "unequal": unequal_tests, "failing": failing_tests}
    grid = next((grid for name, grid in grids.items() if getattr(options, name)), tests)()
    chosen = [test for test in grid if not options.subjects or test.subjects in options.subjects]
    of_pooled = [test for test in pooled_tests() if not options.subjects or test.subjects in options.subjects]
    if options.tests:
        compare.PERMUTATIONS = 999  # a tenth of those of `evaluate`
        if options.pooled:
            print_pooled_tests(of_pooled, options.simulations)
        else:
            print_tests(chosen, options.simulations)
        return
    if options.clinical:
        cells = pd.concat([clinical_coverage(test, options.simulations) for test in chosen if test.by_infant])
        cells.to_csv(options.out, index=False)
        print(clinical_summary(cells))
        return
    if options.pooled:
        cells = pd.DataFrame([vars(test) | pooled_coverage(test, options.simulations) for test in of_pooled])
        cells.to_csv(options.out, index=False)
        print(cells.drop(columns=["features", "skill"]).groupby(["subjects", "folds"]).mean().T.round(3).to_string())
        print("lowest:", cells.iloc[:, 4:].min().round(3).to_dict())
        return
    method = by_bootstrap if options.old else by_jackknife
    found = []
    for test in chosen:
        found.append(coverage(test, options.simulations, method))
        pd.concat(found).to_csv(options.out, index=False)
        print(test, flush=True)
    print(summary(pd.concat(found)))


if __name__ == "__main__":
    main()
