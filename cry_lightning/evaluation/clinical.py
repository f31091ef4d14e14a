"""What a two-class model is worth in use: calibration, operating points, net benefit and abstention.

What is chosen, is chosen on the validation rows of the same fold; what is reported, is of the test rows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cry_lightning.console import UserError
from cry_lightning.evaluation.calibration import clipped, expected_calibration_error, platt, without_each
from cry_lightning.evaluation.compare import cell
from cry_lightning.evaluation.intervals import Estimate, Jackknife
from cry_lightning.evaluation.metrics import Groups, Measures, mean_of_defined, ratio, units_at
from cry_lightning.evaluation.predictions import SCORE, classes_of
from cry_lightning.evaluation.run import Run

TARGET = 0.9  # of sensitivity, and of specificity, on validation rows
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)  # shares of the validation cases that are answered
ODDS = np.linspace(0.02, 0.98, 49)  # threshold probabilities of the decision curve
DECIMALS = Decimal("1e-9")  # of a threshold in a table; those of scores in predictions.csv are as fine
MOST_FOLDS = 12  # in a table of what they chose
# Validation subjects of a class, below which nothing is calibrated. One is that subject, not the class; of two, a slope
# has the wrong sign in up to a sixth of simulations whose model is right (tests/test_clinical.py), of three, seldom.
FEWEST = 3
PROMISING = 9  # subjects of a class: 90 % of them and of one more, of any scores, may reach a threshold
AS_THEY_ARE = {"intercept": 0.0, "slope": 1.0}
WRONG_WAY = "they rank the validation cases the wrong way, or not at all"
PREDICTIVE = ("positive predictive value", "negative predictive value")
STEEPEST = 10.0  # slope by the standard deviation of the logits, of AUCs of 0.998 and more
NO_SPREAD = 1e-9
POINTS = {name: f"{name} {TARGET:g} on validation" for name in ("sensitivity", "specificity")}
SCORES = {"as predicted": "score", "recalibrated": "calibrated"}  # by what it is called: the column of `Readout.cases`
UNCHANGED = {"as predicted": "score"}  # the same where no fold's scores are recalibrated


@dataclass(frozen=True)
class Readout:
    """The clinical figures of one run.

    Args:
        level: of the cases.
        positive: the class that is looked for.
        cases: a row for each tested case and repeat: subject, label, score, calibrated, answer (whether that is
            `positive`), confident, above_sensitivity, above_specificity.
        chosen: a row for each repeat and fold: intercept, slope, and the two thresholds, on recalibrated probability.
        figures: quantity, at, value, low, high; of recalibrated scores only where some are.
        curves: net benefit at each threshold probability: model, low, high, all (everybody is called positive).
        remarks: what the reader must know to doubt what was chosen.
    """

    level: str
    positive: str
    cases: pd.DataFrame
    chosen: pd.DataFrame
    figures: pd.DataFrame
    curves: pd.DataFrame
    remarks: list[str]

    @property
    def scores(self) -> Mapping[str, str]:
        """The columns of `cases` that differ as scores, by what they are called."""
        return SCORES if _any_recalibrated(self.chosen) else UNCHANGED


def read_out(run: Run, prevalences: Sequence[float]) -> Readout:
    """The clinical figures of a run with two classes and validation rows.

    Args:
        run: an evaluated run.
        prevalences: of the positive class, for which predictive values are given.

    Raises:
        UserError: it has other classes, no validation rows of both, or a prevalence is none.
    """
    if run.positive is None:
        raise UserError(f"--clinical: {run.name} has {len(run.classes)} classes; it is for two")
    if wrong := [share for share in prevalences if not 0 < share < 1]:
        raise UserError(f"--prevalences {wrong[0]:g}: a prevalence lies between 0 and 1")
    level, folds = run.main_level.level, ["repeat", "fold"]
    if (run.table["split"] == "val").all():
        raise UserError(
            f"--clinical: thresholds are chosen on val rows, which are what is tested of {run.name}; evaluate its test"
            " rows (--split test), or leave out --clinical"
        )
    if run.validation.empty:
        raise UserError(f"--clinical: {run.name} has no val rows, on which thresholds are chosen; see data.split.val")
    cases, chosen, subjects, tied = [], [], [], []
    on_validation = {key: rows for key, rows in run.validation.groupby(folds)}
    for key, rows in run.table.groupby(folds):
        if key not in on_validation:
            raise UserError(f"--clinical: {run.name} has no val rows of repeat {key[0]}, fold {key[1]}")
        chose = units_at(level, on_validation[key]).table
        if chose["label"].nunique() < 2:
            raise UserError(f"--clinical: {run.name} has val rows of one class alone; take a larger data.split.val")
        of_fold, settings = decided(units_at(level, rows).table, chose, run.positive)
        cases.append(of_fold)
        subjects.append(subjects_of(chose))
        tied.append(_tied(chose, settings, run.positive))
        chosen.append(dict(zip(folds, key, strict=True)) | settings)
    table, of_folds = pd.concat(cases, ignore_index=True), pd.DataFrame(chosen)
    jackknife = Jackknife(table, run.positive, measure, run.main_level.n_folds)
    figures, curves = figures_of(jackknife, table, run.positive, prevalences), decision_curve(jackknife, run.positive)
    if not _any_recalibrated(of_folds):
        figures = figures[~figures["at"].isin(SCORES.keys() - UNCHANGED.keys())].reset_index(drop=True)
    absent = next((name for name in run.classes if not (table["label"] == name).any()), "")
    remarks = [*_remarks(chosen, subjects), *_on_ties(tied), *_on_absent(absent, run.positive)]
    remarks += _on_separation(jackknife, table, SCORES if _any_recalibrated(of_folds) else UNCHANGED)
    return Readout(level, run.positive, table, of_folds, figures, curves, remarks)


def _any_recalibrated(chosen: pd.DataFrame) -> bool:
    """Whether the scores of any fold are not as they were, of a table with intercept and slope."""
    return bool((chosen[[*AS_THEY_ARE]] != pd.Series(AS_THEY_ARE)).to_numpy().any())


def decided(tested: pd.DataFrame, validation: pd.DataFrame, positive: str) -> tuple[pd.DataFrame, dict[str, float]]:
    """Tested cases with what the validation cases of their fold decide on them, and what these chose."""
    settings = _chosen_on(validation, positive)
    of_validation = _recalibrated(validation[SCORE + positive], settings)
    confidences = np.sort(_confidence(of_validation))[::-1]
    cutoffs = [confidences[max(0, round(coverage * len(confidences)) - 1)] for coverage in COVERAGES[1:]]
    scores = clipped(tested[SCORE + positive])
    of_tested = _recalibrated(scores, settings)
    table = tested[["repeat", "unit", "subject", "label"]].assign(score=scores, calibrated=of_tested)
    is_first = classes_of(tested)[0] == positive  # which of two equal scores is the answer, as everywhere else
    table["answer"] = (of_tested >= 0.5) if is_first else (of_tested > 0.5)
    for name in POINTS:
        table[f"above_{name}"] = of_tested >= settings[f"threshold_{name}"]
    # How many of the cut-offs a case passes: 0 is answered at full coverage alone.
    table["confident"] = (_confidence(of_tested)[:, None] >= np.array(cutoffs)).sum(axis=1)
    return table, settings


def _chosen_on(validation: pd.DataFrame, positive: str) -> dict[str, float]:
    """What validation cases choose: a recalibration (intercept, slope), and two thresholds on what comes of it.

    Of too few subjects, or where it would turn scores around, the recalibration is the one that changes nothing.
    """
    truth, score = (validation["label"] == positive).to_numpy(), validation[SCORE + positive]
    intercept, slope = platt(clipped(score), truth)
    settings = {"intercept": intercept, "slope": slope}
    if not slope > 0 or too_few(subjects_of(validation)):
        settings = dict(AS_THEY_ARE)
    scores = _recalibrated(score, settings)
    return settings | {
        "threshold_sensitivity": threshold_at(scores[truth]),
        "threshold_specificity": float(np.nextafter(-threshold_at(-scores[~truth]), 1)),
    }


def _tied(validation: pd.DataFrame, settings: Mapping[str, float], positive: str) -> dict[str, float]:
    """Sensitivity or specificity of validation cases at its own threshold, where scores that tie there raise it."""
    truth = (validation["label"] == positive).to_numpy()
    scores, found = _recalibrated(validation[SCORE + positive], settings), {}
    for name in POINTS:
        above = scores >= settings[f"threshold_{name}"]
        right = above[truth] if name == "sensitivity" else ~above[~truth]
        if right.sum() > _n_wanted(len(right)):
            found[name] = float(right.mean())
    return found


def subjects_of(cases: pd.DataFrame) -> dict[str, int]:
    """How many subjects have cases of each class, of a table with label and subject."""
    return {str(name): int(n) for name, n in cases.groupby("label")["subject"].nunique().items()}


def too_few(subjects: Mapping[str, int]) -> str:
    """Why so few validation subjects of each class calibrate nothing, in words; empty where they are enough."""
    few = [f"{n} of {name}" for name, n in subjects.items() if n < FEWEST]
    given = f"it takes {FEWEST} validation subjects of each class, here {', '.join(few)}"
    return f"{given} (a larger data.split.val has more)" if few else ""


def too_few_to_promise(subjects: Mapping[str, int]) -> str:
    """What so few validation subjects of each class cannot promise, in words; empty where they are enough."""
    few = [f"{n} of {name}" for name, n in subjects.items() if n < PROMISING]
    rest = f"all that is chosen rests on few validation subjects ({', '.join(few)}; a larger data.split.val has more)"
    doubt = f"below {PROMISING}, calibrated probabilities may be far off, and thresholds cannot promise"
    return f"{rest}; {doubt} {TARGET * 100:g} % of other subjects' cases" if few else ""


def _remarks(chosen: Sequence[Mapping[str, object]], subjects: Sequence[Mapping[str, int]]) -> Iterator[str]:
    """Which folds' scores are not recalibrated, and why, and the fewest subjects that thresholds of any rest on."""
    left = [of for fold, of in zip(chosen, subjects, strict=True) if fold.items() >= AS_THEY_ARE.items()]
    for reason, n in Counter(too_few(of) or WRONG_WAY for of in left).items():
        which = f" of {n} of {len(chosen)} folds" if len(chosen) > 1 else ""
        yield f"The scores{which} are not recalibrated, but as they are: {reason}."
    if few := too_few_to_promise({name: min(of[name] for of in subjects) for name in subjects[0]}):
        yield f"{few[0].upper()}{few[1:]}."


def _on_ties(tied: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Which of the wanted figures validation rows could not have, since many have one score."""
    reached: defaultdict[str, list[float]] = defaultdict(list)
    for name, value in (pair for fold in tied for pair in fold.items()):
        reached[name].append(value)
    for name, values in reached.items():
        which = f", in {len(values)} of {len(tied)} folds" if len(tied) > 1 else ""
        got = f"{'up to ' * (len(values) > 1)}{max(values):.3f}"
        yield f"A {name} of {TARGET:g} cannot be chosen: validation scores tie at the threshold, and give {got}{which}."


def _on_absent(absent: str, positive: str) -> Iterator[str]:
    """What there is not where no case of one class was tested."""
    if absent:
        rate = "sensitivity" if absent == positive else "specificity"
        yield (
            f"No case of {absent} was tested: there is no {rate}, nor what rests on both classes (predictive values,"
            " calibration slope, calibration in the large)."
        )


def _recalibrated(scores: pd.Series | np.ndarray, settings: Mapping[str, float]) -> np.ndarray:
    """Probabilities (n,) of scores, by an intercept and a slope on the scale of logits."""
    return clipped(expit(settings["intercept"] + settings["slope"] * logit(clipped(scores))))


def threshold_at(scores: np.ndarray) -> float:
    """The highest threshold that at least `TARGET` of some scores (n,) reach."""
    return float(np.sort(scores)[::-1][_n_wanted(len(scores)) - 1])


def _n_wanted(n: int) -> int:
    """The fewest of n cases that are at least `TARGET` of them."""
    return max(1, int(np.ceil(TARGET * n - 1e-9)))


def measure(table: pd.DataFrame, group: np.ndarray | None, positive: str | None) -> Measures:
    """Every figure of decided cases, of all subjects and without each group of them; see `metrics.measure`."""
    groups = Groups.of(table, group)
    of_repeats = [
        _of_repeat(rows, rows["label"].to_numpy() == positive, groups.at(rows.index.to_numpy()))
        for _, rows in table.groupby("repeat")
    ]
    return {key: mean_of_defined(np.stack([one[key] for one in of_repeats])) for key in of_repeats[0]}


def _of_repeat(table: pd.DataFrame, truth: np.ndarray, groups: Groups) -> Measures:
    """The figures of one repeat's cases (n,)."""
    total = groups.total

    def share(holds: np.ndarray, among: np.ndarray) -> np.ndarray:
        """Share (1 + G,) of the cases `among` (n,) of whom something holds (n,)."""
        return ratio(total(holds * among), total(among))

    found: Measures = {}
    everybody = np.ones_like(truth)
    for name, column in SCORES.items():
        score = table[column].to_numpy()
        found["Brier score", name] = share((score - truth) ** 2, everybody)
        found |= _calibration(name, logit(score), truth, groups)
    for name, at in POINTS.items():
        above = table[f"above_{name}"].to_numpy()
        found["sensitivity", at], found["specificity", at] = share(above, truth), share(~above, ~truth)
    right = table["answer"].to_numpy() == truth
    for passed, coverage in enumerate(COVERAGES):
        answered, at = (table["confident"] >= passed).to_numpy(), _coverage(coverage)
        found["answered", at], found["accuracy of answers", at] = share(answered, everybody), share(right, answered)
    for odds in ODDS:
        above = (table["calibrated"] >= odds).to_numpy()
        benefit = total(above & truth) - total(above & ~truth) * odds / (1 - odds)
        found["net benefit", f"{odds:.2f}"] = ratio(benefit, total(everybody))
    return found


def _calibration(name: str, x: np.ndarray, truth: np.ndarray, groups: Groups) -> Measures:
    """Slope, and intercept at slope 1, of logits x (n,), of all cases and without each group (1 + G,).

    Source: Van Calster et al. 2019, "Calibration: the Achilles heel of predictive analytics", BMC Medicine 17:230.
    """
    ones = np.ones_like(x)
    slopes = without_each(np.stack([ones, x]), truth, groups)[1]
    (in_the_large,) = without_each(ones[None], truth, groups, offset=x)
    return {("calibration slope", name): slopes, ("calibration in the large", name): in_the_large}


def figures_of(jackknife: Jackknife, table: pd.DataFrame, positive: str, prevalences: Sequence[float]) -> pd.DataFrame:
    """All but the decision curve: quantity, at, value, low, high; of ECE, whose bias no interval shows, the value."""
    rows: list[tuple[str, str, float, float, float]] = []
    for quantity, at in jackknife.measures:
        if quantity == "Brier score":
            truth, score = (table["label"] == positive).to_numpy(), table[SCORES[at]].to_numpy()
            rows.append(("expected calibration error", at, expected_calibration_error(truth, score), np.nan, np.nan))
        if (quantity, at) == ("answered", _coverage(1)):
            rows.append((quantity, at, 1.0, np.nan, np.nan))  # by definition
        elif quantity == "calibration slope" and _nearly_separated(jackknife, table, at):
            rows.append((quantity, at, np.nan, np.nan, np.nan))
        elif quantity != "net benefit":
            rows.append((quantity, at, *_estimate(jackknife, quantity, at, positive)))
        if quantity == "specificity":
            sensitivity, specificity = rows[-2][2:], rows[-1][2:]
            for prevalence in prevalences:
                # Both are higher where sensitivity and specificity are, so their bounds are those of the bounds.
                both = [predictive_values(*pair, prevalence) for pair in zip(sensitivity, specificity, strict=True)]
                for name, values in zip(PREDICTIVE, zip(*both, strict=True), strict=True):
                    known = values if np.isfinite(values[0]) else (np.nan,) * 3
                    rows.append((name, f"{at}, prevalence {prevalence:g}", *known))
    return pd.DataFrame(rows, columns=["quantity", "at", "value", "low", "high"])


def _nearly_separated(jackknife: Jackknife, table: pd.DataFrame, name: str) -> bool:
    """Whether so named scores all but separate the classes, with all subjects or without some: a slope is then any."""
    if table["label"].nunique() < 2 or ((jackknife.cases > 0).sum(axis=0) < 2).any():
        return False  # where there is none for another reason, with all or without the only subject of a class
    spread = float(logit(table[SCORES[name]]).std())
    slopes = np.abs(jackknife.measures["calibration slope", name]) * spread
    return spread > NO_SPREAD and not bool((slopes < STEEPEST).all())  # NaN is separated


def _on_separation(jackknife: Jackknife, table: pd.DataFrame, names: Iterable[str]) -> Iterator[str]:
    """Of which scores there is no slope, since they all but separate the classes."""
    if near := [name for name in names if _nearly_separated(jackknife, table, name)]:
        yield (
            f"There is no calibration slope of scores {' and '.join(near)}: with all subjects or without a few, they"
            " nearly separate the classes, where it may be any number."
        )


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """Positive and negative predictive value at a prevalence; NaN where nobody is called so."""
    yes, no = sensitivity * prevalence, specificity * (1 - prevalence)
    called_yes, called_no = yes + (1 - specificity) * (1 - prevalence), no + (1 - sensitivity) * prevalence
    return yes / called_yes if called_yes else np.nan, no / called_no if called_no else np.nan


def _estimate(jackknife: Jackknife, quantity: str, at: str, positive: str) -> Estimate:
    """A figure and its interval, which rests on the subjects of one class or of both."""
    other = next((name for name in jackknife.classes if name != positive), "")  # if any is tested
    name = {"sensitivity": positive, "specificity": other}.get(quantity, positive)
    bounded = quantity not in ("calibration slope", "calibration in the large", "net benefit")
    is_accuracy = (quantity, at) == ("accuracy of answers", _coverage(1))  # of all cases, with its interval
    n = jackknife.subjects("accuracy") if is_accuracy else jackknife.subjects(quantity, name)
    return jackknife.estimate(jackknife.measures[quantity, at], n, bounded)


def decision_curve(jackknife: Jackknife, positive: str) -> pd.DataFrame:
    """Net benefit: threshold, model, low, high, all (everybody is called positive).

    It cannot exceed the share of positive cases. Intervals end there where that share is the same for every choice of
    as many subjects of each class; else it is an estimate, too, and an interval that ended there would miss the truth.

    Source: Vickers and Elkin 2006, "Decision curve analysis", Medical Decision Making 26(6).
    """
    share = float(jackknife.cases[:, jackknife.classes == positive].sum() / jackknife.cases.sum())
    rows = []
    for odds in ODDS:
        everybody = share - (1 - share) * odds / (1 - odds)
        rows.append((odds, *_estimate(jackknife, "net benefit", f"{odds:.2f}", positive), everybody))
    found = pd.DataFrame(rows, columns=["threshold", "model", "low", "high", "all"])
    return found.assign(high=found["high"].clip(upper=share)) if _share_is_given(jackknife.cases) else found


def _share_is_given(cases: np.ndarray) -> bool:
    """Whether subjects have cases (S, K) of one class each, and as many as the others of that class."""
    alike = all(np.ptp(own[own > 0]) == 0 for own in cases.T)
    return alike and bool(((cases > 0).sum(axis=1) == 1).all())


def clinical_rows(found: Readout) -> list[list[str]]:
    """The figures as rows of text, the header first; without the decision curve."""
    cells = (cell(figure) for _, figure in found.figures.iterrows())
    rows = zip(found.figures["quantity"], found.figures["at"], cells, strict=True)
    return [["figure", "", "value"], *map(list, rows)]


def chosen_rows(found: Readout) -> list[list[str]]:
    """What was chosen on the validation rows of each repeat and fold, as rows of text; of many folds, the first."""
    shown = found.chosen.iloc[:MOST_FOLDS]
    rows = [
        [*map(str, row[:2]), *(f"{value:.12g}" for value in row[2:4]), *_thresholds(*row[4:])]
        for row in shown.itertuples(index=False)
    ]
    names = [str(name) for name in found.chosen][:4]
    return [[*names, "threshold of sensitivity: at least", "threshold of specificity: above"], *rows]


def _thresholds(of_sensitivity: float, of_specificity: float) -> tuple[str, str]:
    """Both in decimals, by which all cases are decided as they were: the next number below the second is a score."""
    sides = (of_sensitivity, ROUND_FLOOR), (float(np.nextafter(of_specificity, 0)), ROUND_CEILING)
    at_least, above = (f"{Decimal(repr(value)).quantize(DECIMALS, side):f}".rstrip("0") for value, side in sides)
    return at_least, above


def _coverage(share: float) -> str:
    return f"coverage {share:g} on validation"


def _confidence(calibrated: np.ndarray) -> np.ndarray:
    confidence: np.ndarray = np.maximum(calibrated, 1 - calibrated)
    return confidence
