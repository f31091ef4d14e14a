"""The tables of a publication, its figures beside ours."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cry_lightning.evaluation.compare import PER_CLASS, Pair, Rows, cell, corrected, number, p_text, pair
from cry_lightning.evaluation.intervals import MIN_SUBJECTS
from cry_lightning.evaluation.metrics import measure, units_at
from cry_lightning.evaluation.run import Run
from cry_lightning.studies.recipe import AVERAGES, NAMES, OF_CLASS, OF_POSITIVE, Recipe, System

if TYPE_CHECKING:  # it imports this
    from cry_lightning.studies.papers import Plans, Runs

MOST_FOLDS = 12  # that a table has columns for; folds.csv has all
MOST_SUBJECTS = 20  # that a table has rows for


def figures(recipe: Recipe, runs: "Runs") -> Rows:
    """Systems in rows, metrics in columns; the publication's figures above ours under each protocol, with lineage.

    Of systems that are left out here, there are the publication's figures alone.
    """
    rows = [["system", "figures", *(NAMES[metric] for metric in recipe.metrics), "lineage"]]
    for name, system in recipe.systems.items():
        for version, theirs in system.published.items():
            rows.append([name, version, *(theirs.get(metric, "") for metric in recipe.metrics), ""])
        for protocol, of_protocol in runs.items():
            if (run := of_protocol.get(name)) is None:
                continue
            ours = [figure(run, metric, recipe.deviation) for metric in recipe.metrics]
            rows.append([name, protocol, *ours, run.leakage.status])
    for protocol, of_protocol in runs.items():
        run = next(iter(of_protocol.values()))
        baseline = [number(result(run, metric, "majority")["value"]) for metric in recipe.metrics]
        rows.append(["majority", protocol, *baseline, ""])
    for reference in recipe.references:
        rows.append([reference.name, "", *(reference.figures.get(metric, "") for metric in recipe.metrics), ""])
    return rows


def published(recipe: Recipe, system: System, metric: str) -> dict[str, str]:
    """A system's figure in each version of the publication, empty where there is none."""
    return {version: system.published.get(version, {}).get(metric, "") for version in recipe.versions}


def figure(run: Run, metric: str, deviation: str) -> str:
    """`mean ± deviation [low, high]` of a run at its main level; the deviation is over its seeds, or else its folds."""
    value, _, bounds = cell(result(run, metric)).partition(" ")
    over = deviations(spread(run, metric))[deviation]
    return f"{value}{'' if np.isnan(over) else f' ± {over:.3f}'} {bounds}".strip()


def deviations(of_parts: np.ndarray) -> dict[str, float]:
    """Standard deviation over seeds or folds, and the standard error of their mean; NaN where there is one."""
    n = np.isfinite(of_parts).sum()
    over = float(np.nanstd(of_parts, ddof=1)) if n > 1 else np.nan
    return {"standard deviation": over, "standard error": over / np.sqrt(max(n, 1))}


def result(run: Run, metric: str, predictor: str = "model") -> pd.Series:
    """A metric at the main level: of all classes, or of the positive one (specificity: of the other)."""
    level = run.main_level.level
    if metric not in AVERAGES:
        return run.result(level, metric, class_of(run, metric), predictor)
    rates = {name: run.result(level, metric.partition("_")[2], name, predictor) for name in run.classes}
    values = {name: row["value"] for name, row in rates.items()}
    found = run.result(level, "accuracy", "", predictor)[["n_units", "n_subjects"]].to_dict()
    cases = {name: row["n_units"] for name, row in rates.items()}
    return pd.Series(found | {"value": averaged(metric, values, cases), "low": np.nan, "high": np.nan})


def class_of(run: Run, metric: str) -> str:
    """The class that a metric is of, as the results have it; "" where it is of all."""
    if metric not in OF_POSITIVE:
        return ""
    assert run.positive is not None  # `papers.check_classes` has seen to it
    return next(name for name in run.classes if (name == run.positive) == (metric != "specificity"))


def averaged(metric: str, values: Mapping[str, float], cases: Mapping[str, int]) -> float:
    """The mean over the classes that were tested of precision or F1, alike ("macro_") or by their cases ("weighted_").

    As in scikit-learn, a class that was never predicted has a precision of 0.
    """
    tested = [name for name in values if cases.get(name, 0)]
    weights = [1 if metric.startswith("macro_") else cases[name] for name in tested]
    return float(np.average(np.nan_to_num([values[name] for name in tested]), weights=weights))


def spread(run: Run, metric: str) -> np.ndarray:
    """The metric of each repeat, or of each fold where there is one repeat only."""
    part = "repeat" if run.table["repeat"].nunique() > 1 else "fold"
    values = []
    for _, table in sorted(run.table.groupby(part), key=lambda item: int(str(item[0]))):
        units = units_at(run.main_level.level, table)
        measured = measure(units.table, positive=run.positive)
        if metric in AVERAGES:
            rate = metric.partition("_")[2]
            of_class = {name: measured[rate, name][0] for name in run.classes}
            values.append(averaged(metric, of_class, Counter(units.table["label"])))
        else:
            values.append(measured[metric, class_of(run, metric)][0])
    return np.array(values)


def of_corpus(recipe: Recipe, runs: "Runs", plans: "Plans") -> list[Rows]:
    """Clips of each infant and class, as published and here, with what the commonest class of all, or of each, scores.

    Infants are numbered here; a row for all of them where they are too many, or the publication lists none.
    """
    theirs = pd.DataFrame(recipe.published_corpus).T.fillna(0).astype(int)
    plan = next(plan for of in plans.values() for plan in of.values() if plan)
    clips = [(clip.subject, clip.path, clip.label) for clip in plan.chain.last.data.clips if clip.label is not None]
    recordings = pd.DataFrame(clips, columns=["subject", "path", "label"]).drop_duplicates()
    ours = pd.crosstab(recordings["subject"], recordings["label"])
    if len(theirs) == 1 or len(ours) > MOST_SUBJECTS:
        ours = ours.sum().to_frame(f"{len(ours)} infants").T
    else:
        ours.index = pd.Index([f"infant {n}" for n in range(1, len(ours) + 1)])
    return [*([counts("clips, as published", theirs)] if len(theirs) else []), counts("recordings, here", ours)]


def counts(title: str, clips: pd.DataFrame) -> Rows:
    """A row for each infant, or for all, a column for each class; then shares that are derived from them."""
    several, n, blank = len(clips) > 1, clips.to_numpy().sum(), [""] * len(clips.columns)
    shown = pd.concat([clips, clips.sum().to_frame("total").T]) if several else clips
    table = [[title, *shown.columns, "total"]]
    table += [[str(name), *map(str, row), str(row.sum())] for name, row in shown.iterrows()]
    table.append(["commonest class (derived)", *blank, number(clips.sum().max() / n)])
    if several:
        table.append(["commonest class of each infant (derived)", *blank, number(clips.max(axis=1).sum() / n)])
    return table


def of_folds(recipe: Recipe, runs: "Runs", plans: "Plans") -> list[Rows]:
    """Accuracy of each fold and their mean, systems in rows: a table for each protocol of one repeat with a few folds.

    The publication's folds stand above ours.
    """
    tables = []
    theirs = {name: system.published_folds for name, system in recipe.systems.items() if system.published_folds}
    for protocol, of_protocol in runs.items():
        first = next(iter(of_protocol.values())).table
        n_folds = first["fold"].nunique()
        if first["repeat"].nunique() > 1 or not 1 < n_folds <= MOST_FOLDS:
            continue
        most = max(n_folds, *(len(folds) - 1 for folds in theirs.values())) if theirs else n_folds
        rows = [[f"accuracy of each fold, {protocol}", *map(str, range(1, most + 1)), "mean"]]
        for name in recipe.systems:
            if folds := theirs.get(name):
                rows.append([f"{name}, published", *padded(folds[:-1], most), folds[-1]])
            if name in of_protocol:
                own = spread(of_protocol[name], "accuracy")
                rows.append([name, *padded([number(each) for each in own], most), number(own.mean())])
        tables.append(rows)
    return tables


def padded(texts: list[str], n: int) -> list[str]:
    """With empty cells up to n."""
    return [*texts, *[""] * (n - len(texts))]


def of_recalls(recipe: Recipe, runs: "Runs", plans: "Plans") -> list[Rows]:
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


def of_classes(recipe: Recipe, runs: "Runs", plans: "Plans") -> list[Rows]:
    """Precision, recall and F1 of each class and their averages, as published and ours: a table for each protocol."""
    tables = []
    for protocol, of_protocol in runs.items():
        rows = [["system", f"class, {protocol}"]]
        for metric in OF_CLASS:
            rows[0] += [f"{PER_CLASS[metric]}, published", PER_CLASS[metric]]
        for name, system in recipe.systems.items():
            theirs, ours = system.published_classes, rates_of(of_protocol[name]) if name in of_protocol else {}
            for each in [*(each for each in theirs if each not in ours), *ours]:
                figures = zip(OF_CLASS, ours.get(each, [""] * len(OF_CLASS)), strict=True)
                rows.append(
                    [name, each, *(text for m, own in figures for text in (theirs.get(each, {}).get(m, ""), own))]
                )
        tables.append(rows)
    return tables


def rates_of(run: Run) -> dict[str, list[str]]:
    """Precision, recall and F1 of each class, then their averages."""
    rates = {each: [cell(run.result(run.main_level.level, m, each)) for m in OF_CLASS] for each in run.classes}
    rates["macro average"] = [cell(result(run, m)) for m in ("macro_precision", "uar", "macro_f1")]
    rates["weighted average"] = [cell(result(run, m)) for m in ("weighted_precision", "accuracy", "weighted_f1")]
    return rates


def of_confusion(recipe: Recipe, runs: "Runs", plans: "Plans") -> list[Rows]:
    """How many of a hundred cases of each class were taken for which, folds and repeats together."""
    tables = []
    for protocol, of_protocol in runs.items():
        rows: Rows = []
        for name, run in of_protocol.items():
            rows = rows or [["system", f"% of the true class, {protocol}", *run.classes, "cases"]]
            units = run.main_level
            taken = pd.crosstab(units.table["label"], units.predicted).reindex(columns=run.classes, fill_value=0)
            for each, row in taken.reindex([each for each in run.classes if each in taken.index]).iterrows():
                rows.append([name, str(each), *(f"{100 * n / row.sum():.1f}" for n in row), str(row.sum())])
        tables.append(rows)
    return tables


FORMS: dict[str, Callable[[Recipe, "Runs", "Plans"], list[Rows]]] = {
    "corpus": of_corpus,
    "folds": of_folds,
    "recall": of_recalls,
    "classes": of_classes,
    "confusion": of_confusion,
}


def of_upstream(recipe: Recipe, tested: dict[str, Run]) -> Rows:
    """Accuracy and UAR of the stages that come first, on their own tests."""
    rows = [["stage that comes first", "tested", "published accuracy", "accuracy", "UAR", "lineage"]]
    for name, run in tested.items():
        counts = f"{run.main_level.n_clips} clips of {run.main_level.n_subjects} subjects"
        ours = [cell(result(run, metric)) for metric in ("accuracy", "uar")]
        rows.append([name, counts, recipe.upstream[name].get("accuracy", ""), *ours, run.leakage.status])
    return rows


def of_works(recipe: Recipe) -> list[Rows]:
    """Other works with their protocols, where the recipe names some; columns that none of them fills are left out."""
    if not recipe.compared:
        return []
    header = ["other works", "corpus", "feature", "classifier", "classes", "published", "kept apart"]
    works = [
        [work.name, work.corpus, work.feature, work.classifier, work.classes, work.figure, work.protocol]
        for work in recipe.compared
    ]
    filled = [column for column in zip(header, *works, strict=True) if any(column[1:])]
    return [[list(row) for row in zip(*filled, strict=True)]]


def differences(recipe: Recipe, runs: "Runs") -> list[Rows]:
    """A metric of each system minus others, within each protocol; then of each protocol minus the first, by system.

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
    rows = [
        [name, *difference_cells(each, recipe.differences)]
        for name, each in zip(made, corrected(list(made.values()), [recipe.differences]), strict=True)
    ]
    return [[[f"paired difference of {NAMES[recipe.differences]}", "", "p", "lineage"], *rows]] if rows else []


def difference_cells(made: Pair, metric: str) -> list[str]:
    """A difference in a metric at the main level, its p-value and both lineages."""
    if made.unlike:
        return ["not tested on the same clips", "", ""]
    rows = made.differences
    found = rows[(rows["level"] == made.run.main_level.level) & (rows["metric"] == metric)].iloc[0]
    return [cell(found), p_text(found["p"]), found["lineage"]]


def long_form(recipe: Recipe, runs: "Runs") -> pd.DataFrame:
    """Every figure of the tables: protocol, system, metric, as published, value, sd, se, low, high, who was tested."""
    return pd.DataFrame(_long_rows(recipe, runs))


def _long_rows(recipe: Recipe, runs: "Runs") -> Iterator[dict[str, object]]:
    for protocol, of_protocol in runs.items():
        for name, run in of_protocol.items():
            for metric in recipe.metrics:
                over = deviations(spread(run, metric))
                found = result(run, metric)[["value", "low", "high", "n_units", "n_subjects"]]
                yield {
                    "protocol": protocol,
                    "system": name,
                    "metric": metric,
                    **published(recipe, recipe.systems[name], metric),
                    **found,
                    "sd": over["standard deviation"],
                    "se": over["standard error"],
                    "level": run.main_level.level,
                    "lineage": run.leakage.status,
                }


def reading(recipe: Recipe, runs: "Runs") -> str:
    """How to read the tables."""
    some = next(iter(next(iter(runs.values())).values()))
    few = f" None where a class has fewer than {MIN_SUBJECTS}." if np.isnan(result(some, "uar")["low"]) else ""
    over = "standard error of the mean" if recipe.deviation == "standard error" else recipe.deviation
    derived = " (derived): not printed there, computed from what is." if "(derived)" in str(recipe) else ""
    positive = (
        f" Sensitivity, precision and F1 are of {some.positive}." if OF_POSITIVE.keys() & set(recipe.metrics) else ""
    )
    leaky = "\nLEAKY: trained on tested subjects or sounds, so the figure says nothing about other infants."
    stamps = {run.leakage.status for of_protocol in runs.values() for run in of_protocol.values()}
    return (
        f"At {some.main_level.level} level. ±: {over} over seeds or folds. [low, high]: 95 % interval over"
        f" subjects.{few}{positive}{derived}{leaky if 'LEAKY' in stamps else ''}"
    )
