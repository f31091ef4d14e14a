"""Results as rows of text, and paired differences between runs that were tested on the same clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cry_lightning.console import as_markdown_text, clip_in_words, counted, on_one_line
from cry_lightning.evaluation.permutation import TESTED, Exchange, p_values
from cry_lightning.evaluation.run import Run
from cry_lightning.lineage import other_sound

SUMMARY = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro-F1", "macro_auc": "AUC"}
PER_CLASS = {"recall": "recall", "precision": "precision", "f1": "F1", "roc_auc": "AUC"}
Rows = list[list[str]]  # the header first
CASE = ["clip", "repeat"]
SAME = ["label", "subject", "recording"]  # of a case, in both runs
COLUMNS = ["run", "minus", "level", "metric", "value", "low", "high", "p", "n_units", "n_subjects", "lineage"]
SIGNIFICANT = 0.05
READING = (
    "Differences over the same subjects, with 95 % intervals. p: permutation test, which exchanges both runs' answers"
    " to all clips of a subject, corrected for the number of all comparisons here. Another training might give other"
    " differences."
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
            rows.append([run.label, units.level, counts, *figures, run.leakage.status])
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
    differences: pd.DataFrame  # COLUMNS: a row for each level and metric; p only at the main level
    exchange: Exchange | None = None  # of subjects between both runs, at the main level

    def with_p(self, p: Mapping[str, float]) -> "Pair":
        """The same, with the p of some metrics."""
        at_main = self.differences["level"] == self.run.main_level.level
        found = self.differences["metric"].map(p).where(at_main).astype(float)
        return replace(self, differences=self.differences.assign(p=found))


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
    jackknives = (each.jackknives[run.main_level.level] for each in (run, first))
    return Pair(run, first, "", table, Exchange.of(run.main_level, first.main_level, *jackknives))


def corrected(made: Sequence[Pair], metrics: Sequence[str] = TESTED) -> list[Pair]:
    """The same pairs with the p of these metrics, corrected for how many they are."""
    tested = [pair.exchange for pair in made if pair.exchange is not None]
    p = iter(p_values(tested, metrics)) if tested else iter(())
    return [pair if pair.exchange is None else pair.with_p(dict(zip(metrics, next(p), strict=True))) for pair in made]


def unlikeness(run: Run, first: Run) -> str:
    """How the tests of two runs differ, in words; empty where every clip has its like in the other run."""
    ours, theirs = (table.set_index(CASE)[SAME] for table in (run.table, first.table))
    reasons = []
    for name, only in (
        (run.label, ours.index.difference(theirs.index)),
        (first.label, theirs.index.difference(ours.index)),
    ):
        if len(only):
            which = counted(len(only), "clip is", "clips are")
            reasons.append(f"{which} tested only by {name}, first {in_words(only)}")
    both = ours.index.intersection(theirs.index)
    differs = ours.loc[both] != theirs.loc[both]
    for column in SAME:
        if differs[column].any():
            reasons.append(f"{differs[column].sum()} {column}s differ, first of {in_words(both[differs[column]])}")
    if not reasons and (other := other_sound(run.label, run.lineage, first.label, first.lineage)):
        reasons.append(other)
    return "; ".join(reasons)


def in_words(cases: pd.Index) -> str:
    """The first of some cases."""
    clip, repeat = cases.tolist()[0]
    return clip_in_words(clip) + (f" in repeat {repeat}" if repeat != "0" else "")


def section(made: Sequence[Pair], as_table: Callable[[Rows], str], as_line: Callable[[str], str]) -> list[str]:
    """The differences as blocks of text: table and how to read it, then what each pair says."""
    paired = [pair for pair in made if not pair.unlike]
    blocks = [as_table(rows(paired)), READING] if paired else []
    return [*blocks, "\n".join(f"- {as_line(verdict(pair))}" for pair in made)]


def rows(paired: Sequence[Pair]) -> Rows:
    """A row for each pair and level, and below that of the main level one of p."""
    table = [[f"minus {paired[0].first.label}", "level", "subjects", *SUMMARY.values(), "lineage"]]
    for pair in paired:
        for level, of_level in pair.differences.groupby("level", sort=False):
            figures = [cell(row) for _, row in of_level.iterrows()]
            subjects, lineage = of_level[["n_subjects", "lineage"]].iloc[0]
            table.append([pair.run.label, str(level), str(subjects), *figures, lineage])
            if of_level["p"].notna().any():
                table.append(["", "p", "", *map(p_text, of_level["p"]), ""])
    return table


def p_text(p: float) -> str:
    """A p-value as in a table; nothing where there is none."""
    if np.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def verdict(pair: Pair) -> str:
    """Whether UAR at the main level differs by more than chance, in one sentence."""
    if pair.unlike:
        return f"{pair.run.label}: not paired with {pair.first.label}: {pair.unlike}."
    level = pair.run.main_level.level
    found = pair.differences.query("level == @level and metric == 'uar'").iloc[0]
    p = f"p {p_text(found['p'])}" if found["p"] < 0.001 else f"p = {p_text(found['p'])}"
    leaky = [run.label for run in (pair.run, pair.first) if run.leakage.status == "LEAKY"]
    if leaky:
        weight = f"{' and '.join(leaky)} LEAKY, so this says nothing about other subjects"
    elif np.isnan(found["p"]):
        weight = "there is none, since one class only was tested"
    elif found["p"] <= SIGNIFICANT:
        weight = f"{p}, more than chance in the choice of {pair.run.drawn} explains"
    else:
        weight = f"{p}, no evidence that one does better"
    return f"{pair.run.label} minus {pair.first.label}: UAR {cell(found)} at {level} level: {weight}."
