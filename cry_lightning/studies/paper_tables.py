"""The tables of a publication, its figures beside ours."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from cry_lightning.evaluation.compare import Pair, Rows, cell, corrected, pair
from cry_lightning.evaluation.intervals import MIN_SUBJECTS
from cry_lightning.evaluation.metrics import measure, units_at
from cry_lightning.evaluation.run import Run
from cry_lightning.studies.papers import Runs
from cry_lightning.studies.recipe import NAMES, Recipe, System

MOST_FOLDS = 12  # that a table has columns for; folds.csv has all


def figures(recipe: Recipe, runs: Runs, metric: str) -> Rows:
    """Systems in rows, the protocols in columns: mean, standard deviation and 95 % interval, and the lineage."""
    header = [NAMES[metric], *recipe.versions]
    for protocol in runs:
        header += [protocol, "lineage"]
    rows = [header]
    for name, system in recipe.systems.items():
        row = [name, *published(recipe, system, metric).values()]
        for of_protocol in runs.values():
            row += [figure(of_protocol[name], metric), of_protocol[name].leakage.status]
        rows.append(row)
    majority = [
        text for of_protocol in runs.values() for text in (baseline(next(iter(of_protocol.values())), metric), "")
    ]
    rows.append(["majority", *[""] * len(recipe.versions), *majority])
    blank = [""] * (len(header) - 2)
    rows += [[r.name, r.figures[metric], *blank] for r in recipe.references if metric in r.figures]
    return rows


def published(recipe: Recipe, system: System, metric: str) -> dict[str, str]:
    """A system's figure in each version of the publication, empty where there is none."""
    return {version: system.published.get(version, {}).get(metric, "") for version in recipe.versions}


def figure(run: Run, metric: str) -> str:
    """`mean ± SD [low, high]` of a run at its main level; the deviation is that over its seeds, or else its folds."""
    found = result(run, metric)
    of_parts = spread(run, metric)
    deviation = f" ± {np.nanstd(of_parts, ddof=1):.3f}" if np.isfinite(of_parts).sum() > 1 else ""
    value, _, bounds = cell(found).partition(" ")
    return f"{value}{deviation} {bounds}".strip()


def baseline(run: Run, metric: str) -> str:
    """The figure of the majority baseline on the same cases."""
    return f"{result(run, metric, 'majority')['value']:.3f}"


def result(run: Run, metric: str, predictor: str = "model") -> pd.Series:
    """A metric at the main level, of whichever class has it."""
    rows = run.results
    at = (rows["level"] == run.main_level.level) & (rows["metric"] == metric) & (rows["predictor"] == predictor)
    return rows[at].iloc[0]


def spread(run: Run, metric: str) -> np.ndarray:
    """The metric of each repeat, or of each fold where there is one repeat only."""
    part = "repeat" if run.table["repeat"].nunique() > 1 else "fold"
    values = []
    for _, table in sorted(run.table.groupby(part), key=lambda item: int(str(item[0]))):
        units = units_at(run.main_level.level, table)
        measured = measure(units.table, np.ones((1, units.n_subjects)), run.positive)
        values.append(next(value[0] for key, value in measured.items() if key[0] == metric))
    return np.array(values)


def of_folds(runs: Runs) -> list[Rows]:
    """Accuracy of each fold, systems in rows: a table for each protocol of one repeat with a few folds."""
    tables = []
    for protocol, of_protocol in runs.items():
        first = next(iter(of_protocol.values())).table
        folds = sorted(first["fold"].unique(), key=int)
        if first["repeat"].nunique() == 1 and 1 < len(folds) <= MOST_FOLDS:
            accuracies = {name: spread(run, "accuracy") for name, run in of_protocol.items()}
            header = [f"accuracy of each fold, {protocol}", *map(str, range(1, 1 + len(folds)))]
            tables.append([header, *([name, *(f"{a:.3f}" for a in each)] for name, each in accuracies.items())])
    return tables


def of_classes(runs: Runs) -> list[Rows]:
    """Recall of each class, systems in rows: a table for each protocol, where there are three classes or more."""
    tables = []
    for protocol, of_protocol in runs.items():
        classes = next(iter(of_protocol.values())).classes
        if len(classes) > 2:
            rows = [[f"recall, {protocol}", *classes]]
            for name, run in of_protocol.items():
                level = run.main_level.level
                rows.append([name, *(cell(run.result(level, "recall", each)) for each in classes)])
            tables.append(rows)
    return tables


def of_upstream(recipe: Recipe, tested: dict[str, Run]) -> Rows:
    """Accuracy and UAR of the stages that come first, on their own tests."""
    rows = [["stage that comes first", "tested", "published accuracy", "accuracy", "UAR", "lineage"]]
    for name, run in tested.items():
        counts = f"{run.main_level.n_clips} clips of {run.main_level.n_subjects} subjects"
        ours = [cell(result(run, metric)) for metric in ("accuracy", "uar")]
        rows.append([name, counts, recipe.upstream[name].get("accuracy", ""), *ours, run.leakage.status])
    return rows


def of_works(recipe: Recipe) -> list[Rows]:
    """Other works with their protocols, where recipe.yaml names some."""
    works = [[work.name, work.corpus, work.figure, work.protocol] for work in recipe.compared]
    return [[["other works", "corpus", "published", "kept apart"], *works]] if works else []


def differences(recipe: Recipe, runs: Runs) -> Rows:
    """UAR of each system minus others, within each protocol; then of each protocol minus the first, by system.

    p-values are corrected for the number of all these comparisons.
    """
    made = {}
    for protocol, of_protocol in runs.items():
        first, *others = of_protocol
        for name in others:
            against = recipe.systems[name].against
            for other in [first, *([against] if against in of_protocol and against != first else [])]:
                made[f"{protocol}: {name} minus {other}"] = pair(of_protocol[name], of_protocol[other])
    (first_protocol, firsts), *other_protocols = runs.items()
    for protocol, of_protocol in other_protocols:
        for name, run in of_protocol.items():
            if run.classes == firsts[name].classes:
                made[f"{name}: {protocol} minus {first_protocol}"] = pair(run, firsts[name])
    rows = [["paired difference of UAR", "", "p", "lineage"]]
    return rows + [[name, *told(each)] for name, each in zip(made, corrected(list(made.values())), strict=True)]


def told(made: Pair) -> list[str]:
    """A difference at the main level, its p-value and both lineages."""
    if made.unlike:
        return ["not tested on the same clips", "", ""]
    rows = made.differences
    found = rows[(rows["level"] == made.run.main_level.level) & (rows["metric"] == "uar")].iloc[0]
    return [cell(found), f"{found['p']:.3f}", found["lineage"]]


def long_form(recipe: Recipe, runs: Runs) -> pd.DataFrame:
    """Every figure of the tables: protocol, system, metric, as published, value, sd, low, high and who was tested."""
    return pd.DataFrame(_long_rows(recipe, runs))


def _long_rows(recipe: Recipe, runs: Runs) -> Iterator[dict[str, object]]:
    for protocol, of_protocol in runs.items():
        for name, run in of_protocol.items():
            for metric in recipe.metrics:
                of_parts = spread(run, metric)
                found = result(run, metric)[["value", "low", "high", "n_units", "n_subjects"]]
                yield {
                    "protocol": protocol,
                    "system": name,
                    "metric": metric,
                    **published(recipe, recipe.systems[name], metric),
                    **found,
                    "sd": np.nanstd(of_parts, ddof=1) if len(of_parts) > 1 else np.nan,
                    "level": run.main_level.level,
                    "lineage": run.leakage.status,
                }


def reading(runs: Runs) -> str:
    """How to read the tables."""
    some = next(iter(next(iter(runs.values())).values()))
    few = f" None where a class has fewer than {MIN_SUBJECTS}." if np.isnan(result(some, "uar")["low"]) else ""
    return (
        f"At {some.main_level.level} level. ±: standard deviation over seeds or folds. [low, high]: 95 % interval over"
        f" subjects.{few}\nLEAKY: trained on tested subjects or sounds, so the figure says nothing about"
        " other infants."
    )
