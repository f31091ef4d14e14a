"""Results as rows of text, and paired differences between runs that were tested on the same clips."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cry_lightning.console import as_markdown_text, on_one_line
from cry_lightning.evaluation.intervals import widened
from cry_lightning.evaluation.metrics import Units
from cry_lightning.evaluation.run import Run
from cry_lightning.lineage import other_sound

SUMMARY = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro-F1", "macro_auc": "AUC"}
PER_CLASS = {"recall": "recall", "precision": "precision", "f1": "F1", "roc_auc": "AUC"}
Rows = list[list[str]]  # the header first
CASE = ["clip", "repeat"]
SAME = ["label", "subject", "recording"]  # of a case, in both runs
COLUMNS = ["run", "minus", "level", "metric", "value", "low", "high", "p", "n_units", "n_subjects", "lineage"]
PERMUTATIONS = 9999
AT_A_TIME = 500  # permutations held in memory
SIGNIFICANT = 0.05
READING = (
    "Differences over the same subjects, with 95 % intervals. p: permutation test of UAR, which exchanges both runs'"
    " answers to all clips of a subject, corrected for the number of comparisons. Another training might give"
    " other differences."
)


def cell(result: pd.Series) -> str:
    """`value [low, high]`, without the interval where there is none."""
    if np.isnan(result["value"]) or np.isnan(result["low"]):
        return number(result["value"])
    return f"{result['value']:.3f} [{result['low']:.3f}, {result['high']:.3f}]"


def number(value: float) -> str:
    """A value, or that there is none."""
    return "n/a" if np.isnan(value) else f"{value:.3f}"


def summary(runs: Sequence[Run]) -> Rows:
    """A row for each run and level, and below it one for the majority baseline on the same cases."""
    rows = [["run", "level", "clips/rec./subj.", *SUMMARY.values(), "lineage"]]
    for run in runs:
        for units in run.levels:
            counts = f"{units.n_clips}/{units.n_recordings}/{'?' if run.n_unknown else units.n_subjects}"
            figures = [cell(run.result(units.level, metric)) for metric in SUMMARY]
            rows.append([run.name, units.level, counts, *figures, run.leakage.status])
            baseline = [number(run.result(units.level, metric, predictor="majority")["value"]) for metric in SUMMARY]
            rows.append(["", f"always {units.majority_class}", "", *baseline, ""])
    return rows


def per_class(run: Run) -> Rows:
    """A row for each class at the run's main level, as far as they are shown."""
    level = run.main_level.level
    rows = [["class", f"{level}s", f"{run.drawn} drawn" if run.n_unknown else "subjects", *PER_CLASS.values()]]
    for name in run.shown_classes:
        counts = run.result(level, "recall", name)[["n_units", "n_subjects"]]
        rows.append([name, *map(str, counts), *(cell(run.result(level, metric, name)) for metric in PER_CLASS)])
    return rows


def two_class(run: Run, positive: str) -> Rows:
    """A row for each level, with the metrics that need a positive class."""
    negative = next(name for name in run.classes if name != positive)
    columns = {
        f"sensitivity ({positive})": ("sensitivity", positive),
        f"specificity ({negative})": ("specificity", negative),
        "ROC-AUC": ("roc_auc", positive),
        "average precision": ("average_precision", positive),
    }
    rows = [["level", *columns]]
    rows += [[units.level, *(cell(run.result(units.level, *at)) for at in columns.values())] for units in run.levels]
    return rows


def as_text(rows: Rows) -> str:
    """Columns aligned by spaces, a rule below the header."""
    rows = [[on_one_line(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def as_markdown(rows: Rows) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(as_markdown_text, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


@dataclass(frozen=True)
class Pair:
    """A run minus the first one."""

    run: Run
    first: Run
    unlike: str  # how their tests differ, in words; then nothing is subtracted
    differences: pd.DataFrame  # COLUMNS: a row for each level and metric; p only of UAR at the main level
    gains: pd.Series | None = None  # what each subject adds to the difference in UAR at the main level, if there is one

    def with_p(self, p: float) -> "Pair":
        """The same, with this p."""
        level = self.run.main_level.level
        tested = (self.differences["level"] == level) & (self.differences["metric"] == "uar")
        return replace(self, differences=self.differences.assign(p=self.differences["p"].mask(tested, p)))


def pairs(runs: Sequence[Run]) -> list[Pair]:
    """Each further run minus the first, at every level, with p corrected for their number."""
    first, *others = runs
    return corrected([pair(run, first) for run in others])


def pair(run: Run, first: Run) -> Pair:
    """A run minus the first, as yet without p."""
    if unlike := unlikeness(run, first):
        return Pair(run, first, unlike, pd.DataFrame(columns=COLUMNS))
    lineage = " minus ".join(dict.fromkeys([run.leakage.status, first.leakage.status]))  # once where it is the same
    rows = []
    for units in run.levels:
        counts = units.table["unit"].nunique(), units.n_subjects
        for metric in SUMMARY:
            estimate = run.jackknives[units.level].difference(first.jackknives[units.level], metric)
            rows.append((run.name, first.name, units.level, metric, *estimate, np.nan, *counts, lineage))
    table = pd.DataFrame(rows, columns=COLUMNS)
    if np.isnan(run.result(run.main_level.level, "uar")["value"]):
        return Pair(run, first, "", table)
    return Pair(run, first, "", table, uar_by_subject(run.main_level) - uar_by_subject(first.main_level))


def uar_by_subject(units: Units) -> pd.Series:
    """What the cases of each subject add to UAR, which is their sum."""
    table = units.table
    of_class = table.groupby(["repeat", "label"])["unit"].transform("size")
    classes = table.groupby("repeat")["label"].transform("nunique")
    right = (units.predicted == table["label"]) / (of_class * classes * table["repeat"].nunique())
    return right.groupby(table["subject"]).sum()


def corrected(made: Sequence[Pair]) -> list[Pair]:
    """The same pairs, with p corrected for how many they are."""
    tested = [pair.gains for pair in made if pair.gains is not None]
    if not tested:
        return list(made)
    of_folds = np.array(
        [
            widened(max(pair.run.main_level.n_folds, pair.first.main_level.n_folds))
            for pair in made
            if pair.gains is not None
        ]
    )
    adjusted = iter(permutation_p(pd.concat(tested, axis=1).fillna(0.0).to_numpy(), of_folds))
    return [pair if pair.gains is None else pair.with_p(next(adjusted)) for pair in made]


def permutation_p(gains: np.ndarray, widened: np.ndarray | float = 1.0) -> np.ndarray:
    """Two-sided p (J,) of J differences, from what each of S subjects adds to them (S, J).

    Of pooled folds, a difference varies more than exchanges show, by `widened` (J,): see `intervals.widened`.

    Under the null hypothesis, the answers of two runs to all clips of a subject can be exchanged, which turns the sign
    of what the subject adds. Signs are the same for all differences, so that the correction for their number, step
    by step from the largest, knows how alike they are: Holm's, which does not, misses more.
    Source: Westfall and Young 1993, "Resampling-Based Multiple Testing", alg. 2.8; Nichols and Holmes 2002, Human Brain
    Mapping 15(1).
    """
    n_subjects = len(gains)
    norms = np.sqrt((gains**2).sum(axis=0))  # the same for all signs
    scaled = np.divide(gains, norms, out=np.zeros_like(gains), where=norms > 0)
    size = np.abs(scaled.sum(axis=0)) / np.sqrt(widened)
    order = np.argsort(-size, kind="stable")
    found = size[order] - 1e-12  # but for rounding
    reached, n_all = np.zeros(len(order)), 0
    for signs in _signs(n_subjects):
        values = np.abs(signs @ scaled[:, order])
        largest = np.maximum.accumulate(values[:, ::-1], axis=1)[:, ::-1]  # of each difference and all below it
        reached += (largest >= found).sum(axis=0)
        n_all += len(signs)
    p = np.empty(len(order))
    p[order] = np.maximum.accumulate(reached / n_all)
    return p


def _signs(n_subjects: int) -> Iterator[np.ndarray]:
    """All signs (n, S) of the subjects, or 9,999 drawn at random and those that are, in blocks."""
    if 2**n_subjects <= PERMUTATIONS + 1:
        yield 1.0 - 2 * ((np.arange(2**n_subjects)[:, None] >> np.arange(n_subjects)) & 1)
        return
    yield np.ones((1, n_subjects))
    rng = np.random.default_rng(0)
    for first in range(0, PERMUTATIONS, AT_A_TIME):
        yield rng.choice([-1.0, 1.0], (min(AT_A_TIME, PERMUTATIONS - first), n_subjects))


def unlikeness(run: Run, first: Run) -> str:
    """How the tests of two runs differ, in words; empty where every clip has its like in the other run."""
    ours, theirs = (table.set_index(CASE)[SAME] for table in (run.table, first.table))
    reasons = []
    for name, only in (
        (run.name, ours.index.difference(theirs.index)),
        (first.name, theirs.index.difference(ours.index)),
    ):
        if len(only):
            reasons.append(f"{len(only)} clips are tested only by {name}, first {in_words(only)}")
    both = ours.index.intersection(theirs.index)
    differs = ours.loc[both] != theirs.loc[both]
    for column in SAME:
        if differs[column].any():
            reasons.append(f"{differs[column].sum()} {column}s differ, first of {in_words(both[differs[column]])}")
    if not reasons and (other := other_sound(run.name, run.lineage, first.name, first.lineage)):
        reasons.append(other)
    return "; ".join(reasons)


def in_words(cases: pd.Index) -> str:
    """The first of some cases."""
    clip, repeat = cases.tolist()[0]
    return f"{clip} in repeat {repeat}" if repeat != "0" else clip


def section(made: Sequence[Pair], as_table: Callable[[Rows], str], as_line: Callable[[str], str]) -> list[str]:
    """The differences as blocks of text: table and how to read it, then what each pair says."""
    paired = [pair for pair in made if not pair.unlike]
    blocks = [as_table(rows(paired)), READING] if paired else []
    return [*blocks, "\n".join(f"- {as_line(verdict(pair))}" for pair in made)]


def rows(paired: Sequence[Pair]) -> Rows:
    """A row for each pair and level."""
    table = [[f"minus {paired[0].first.name}", "level", "subjects", *SUMMARY.values(), "p", "lineage"]]
    for pair in paired:
        for level, of_level in pair.differences.groupby("level", sort=False):
            figures = [cell(row) for _, row in of_level.iterrows()]
            subjects, lineage = of_level[["n_subjects", "lineage"]].iloc[0]
            p = "".join(map(p_text, of_level["p"].dropna()))
            table.append([pair.run.name, str(level), str(subjects), *figures, p, lineage])
    return table


def p_text(p: float) -> str:
    """A p-value as in a table; nothing where there is none."""
    if np.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def verdict(pair: Pair) -> str:
    """Whether UAR at the main level differs by more than chance, in one sentence."""
    if pair.unlike:
        return f"{pair.run.name}: not paired with {pair.first.name}: {pair.unlike}."
    level = pair.run.main_level.level
    found = pair.differences.query("level == @level and metric == 'uar'").iloc[0]
    p = f"p {p_text(found['p'])}" if found["p"] < 0.001 else f"p = {p_text(found['p'])}"
    leaky = [run.name for run in (pair.run, pair.first) if run.leakage.status == "LEAKY"]
    if leaky:
        weight = f"{' and '.join(leaky)} LEAKY, so this says nothing about other subjects"
    elif np.isnan(found["p"]):
        weight = "there is none, since one class only was tested"
    elif found["p"] <= SIGNIFICANT:
        weight = f"{p}, more than chance in the choice of {pair.run.drawn} explains"
    else:
        weight = f"{p}, no evidence that one does better"
    return f"{pair.run.name} minus {pair.first.name}: UAR {cell(found)} at {level} level: {weight}."
