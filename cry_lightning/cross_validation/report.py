"""The folds of a cross-validation as one run folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cry_lightning import lineage
from cry_lightning.console import UserError, for_spreadsheets
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.metrics import measure, units_at
from cry_lightning.evaluation.tables import SUMMARY, as_text
from cry_lightning.files import replacing
from cry_lightning.lineage import FoldedLineage, Lineage


def write_pooled(folders: Sequence[Path], out: Path) -> None:
    """Write predictions.csv and lineage.json of all folds, and folds.csv, into a folder.

    The lineage stays that of each fold: what one fold tests, another has trained on.
    """
    tables = [predictions.read(folder / "predictions.csv") for folder in folders]
    keys = [table[["repeat", "fold"]].iloc[0].to_dict() for table in tables]
    predictions.write(pd.concat(tables, ignore_index=True), out / "predictions.csv")
    known = {(key["repeat"], key["fold"]): _lineage(folder) for key, folder in zip(keys, folders, strict=True)}
    lineage.write(FoldedLineage(known), out / lineage.FILE)
    folds = pd.DataFrame([key | fold_row(table) for key, table in zip(keys, tables, strict=True)])
    with replacing(out / "folds.csv") as part:
        for_spreadsheets(folds).to_csv(part, index=False)


def _lineage(folder: Path) -> Lineage:
    found = lineage.read(folder / lineage.FILE)
    if not isinstance(found, Lineage):
        raise UserError(f"{folder}: no {lineage.FILE} of one model; remove the folder, so that the fold is run again")
    return found


def fold_row(table: pd.DataFrame) -> dict[str, float]:
    """Counts and metrics of a fold's tested clips."""
    units = units_at("clip", table[table["split"] == "test"])
    measured = measure(units.table, np.ones((1, units.n_subjects)))
    counts = {"clips": units.n_clips, "subjects": units.n_subjects, "classes": units.table["label"].nunique()}
    return counts | {metric: float(measured[metric, ""][0]) for metric in SUMMARY}


def folds_as_text(out: Path) -> str:
    """A row for each fold, then the mean, the standard deviation over the folds of a repeat, and that over repeats."""
    folds = pd.read_csv(out / "folds.csv")
    rows = [["repeat", "fold", "clips", "subjects", "classes", *SUMMARY.values()]]
    for fold in folds.to_dict("records"):
        counts = [str(fold[key]) for key in ("repeat", "fold", "clips", "subjects", "classes")]
        rows.append([*counts, *(f"{fold[metric]:.3f}" for metric in SUMMARY)])
    of_repeats = folds.groupby("repeat")[list(SUMMARY)]
    spreads = {"mean": of_repeats.mean().mean(), "SD of folds": of_repeats.std().mean()}
    if len(of_repeats) > 1:
        spreads["SD of repeats"] = of_repeats.mean().std()
    rows += [
        [name, "", "", "", "", *(f"{found[metric]:.3f}" for metric in SUMMARY)]
        for name, found in spreads.items()
        if found.notna().any()
    ]
    return as_text(rows)
