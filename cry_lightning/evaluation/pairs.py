"""Paired differences between runs that were tested on the same clips: both share the luck of which subjects these are.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", ch. 8: what is resampled is the pair.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from cry_lightning.evaluation.intervals import MIN_SUBJECTS, interval, resampled
from cry_lightning.evaluation.metrics import Measures
from cry_lightning.evaluation.run import Run
from cry_lightning.evaluation.tables import SUMMARY, Rows, cell
from cry_lightning.lineage import other_sound

CASE = ["clip", "repeat"]
SAME = ["label", "subject", "recording"]  # of a case, in both runs
COLUMNS = ["run", "minus", "level", "metric", "value", "low", "high", "n_units", "n_subjects", "lineage"]
READING = "Differences: the same resamples of the same subjects for both. Another training might give others."


@dataclass(frozen=True)
class Pair:
    """A run minus the first one."""

    run: Run
    first: Run
    unlike: str  # how their tests differ, in words; then nothing is subtracted
    differences: pd.DataFrame  # COLUMNS: a row for each level and metric


def pairs(runs: Sequence[Run], resamples: int) -> list[Pair]:
    """Each further run minus the first, at every level; all share the subject draws."""
    first, *others = runs
    of_first = at_levels(first, resamples) if others else {}
    return [pair(run, first, of_first, resamples) for run in others]


def pair(run: Run, first: Run, of_first: dict[str, Measures], resamples: int) -> Pair:
    """A run minus the first, of which the resampled metrics are known at each level."""
    if unlike := unlikeness(run, first):
        return Pair(run, first, unlike, pd.DataFrame(columns=COLUMNS))
    lineage = " minus ".join(dict.fromkeys([run.leakage.status, first.leakage.status]))  # once where it is the same
    of_run = at_levels(run, resamples)
    rows = []
    for units in run.levels:
        counts = units.table["unit"].nunique(), units.n_subjects
        for metric in SUMMARY:
            values = of_run[units.level][metric, ""] - of_first[units.level][metric, ""]
            estimate = values[0], *interval(values, units.n_subjects)
            rows.append((run.name, first.name, units.level, metric, *estimate, *counts, lineage))
    return Pair(run, first, "", pd.DataFrame(rows, columns=COLUMNS))


def at_levels(run: Run, resamples: int) -> dict[str, Measures]:
    """The resampled metrics of a run at each level."""
    return {units.level: resampled(units.table, units.n_subjects, resamples) for units in run.levels}


def unlikeness(run: Run, first: Run) -> str:
    """How the tests of two runs differ, in words; empty where every clip has its like in the other run."""
    ours, theirs = (table.set_index(CASE)[SAME] for table in (run.table, first.table))
    told = []
    for name, only in (
        (run.name, ours.index.difference(theirs.index)),
        (first.name, theirs.index.difference(ours.index)),
    ):
        if len(only):
            told.append(f"{len(only)} clips are tested only by {name}, first {in_words(only)}")
    both = ours.index.intersection(theirs.index)
    differs = ours.loc[both] != theirs.loc[both]
    for column in SAME:
        if differs[column].any():
            told.append(f"{differs[column].sum()} {column}s differ, first of {in_words(both[differs[column]])}")
    if not told and (other := other_sound(run.name, run.lineage, first.name, first.lineage)):
        told.append(other)
    return "; ".join(told)


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
    table = [[f"minus {paired[0].first.name}", "level", "subjects", *SUMMARY.values(), "lineage"]]
    for pair in paired:
        for level, of_level in pair.differences.groupby("level", sort=False):
            figures = [cell(row) for _, row in of_level.iterrows()]
            subjects, lineage = of_level[["n_subjects", "lineage"]].iloc[0]
            table.append([pair.run.name, str(level), str(subjects), *figures, lineage])
    return table


def verdict(pair: Pair) -> str:
    """Whether UAR at the main level differs by more than chance, in one sentence."""
    if pair.unlike:
        return f"{pair.run.name}: not paired with {pair.first.name}: {pair.unlike}."
    level = pair.run.main_level.level
    found = pair.differences.query("level == @level and metric == 'uar'").iloc[0]
    leaky = [run.name for run in (pair.run, pair.first) if run.leakage.status == "LEAKY"]
    if leaky:
        weight = f"{' and '.join(leaky)} LEAKY, so this says nothing about other subjects"
    elif found["n_subjects"] < MIN_SUBJECTS:
        weight = f"no interval, since resampling needs {MIN_SUBJECTS} subjects and {found['n_subjects']} were tested"
    elif found["low"] > 0 or found["high"] < 0:
        weight = "more than chance in the choice of subjects explains"
    else:
        weight = "no evidence that one does better"
    return f"{pair.run.name} minus {pair.first.name}: UAR {cell(found)} at {level} level: {weight}."
