"""The results as rows of text, for the terminal and for Markdown."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cry_lightning.console import as_markdown_text, on_one_line
from cry_lightning.evaluation.run import Run

SUMMARY = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro-F1", "macro_auc": "AUC"}
PER_CLASS = {"recall": "recall", "precision": "precision", "f1": "F1", "roc_auc": "AUC"}
Rows = list[list[str]]  # the header first


def cell(result: pd.Series) -> str:
    """`value [low, high]`, without the interval where there is none."""
    if np.isnan(result["value"]):
        return "n/a"
    if np.isnan(result["low"]):
        return f"{result['value']:.3f}"
    return f"{result['value']:.3f} [{result['low']:.3f}, {result['high']:.3f}]"


def summary(runs: Sequence[Run]) -> Rows:
    """A row for each run and level, and below it one for the majority baseline on the same cases."""
    rows = [["run", "level", "clips/rec./subj.", *SUMMARY.values(), "lineage"]]
    for run in runs:
        for units in run.levels:
            counts = f"{units.n_clips}/{units.n_recordings}/{units.n_subjects}"
            figures = [cell(run.result(units.level, metric)) for metric in SUMMARY]
            rows.append([run.name, units.level, counts, *figures, run.leakage.status])
            baseline = [f"{run.result(units.level, metric, predictor='majority')['value']:.3f}" for metric in SUMMARY]
            rows.append(["", f"always {units.majority_class}", "", *baseline, ""])
    return rows


def per_class(run: Run) -> Rows:
    """A row for each class at the run's main level, as far as they are shown."""
    level = run.main_level.level
    rows = [["class", f"{level}s", "subjects", *PER_CLASS.values()]]
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
