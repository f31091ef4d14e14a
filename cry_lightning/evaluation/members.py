"""The runs that are fused: the same rows and classes, each with its own scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cry_lightning import lineage
from cry_lightning.console import UserError
from cry_lightning.evaluation import predictions
from cry_lightning.lineage import AnyLineage

ROW = ["clip", "repeat", "fold", "split"]
FOLD = ["repeat", "fold"]
SAME = ["label", "subject", "recording"]  # of a row, in all members


@dataclass(frozen=True)
class Members:
    """M runs that predicted the same N rows of K classes."""

    names: list[str]  # as given on the command line
    folders: list[Path]
    rows: pd.DataFrame  # predictions.KEYS
    classes: list[str]
    scores: np.ndarray  # (M, N, K)
    lineages: list[AnyLineage | None]

    @property
    def truth(self) -> np.ndarray:
        """Index of each row's class (N,)."""
        return self.rows["label"].map(self.classes.index).to_numpy()

    @property
    def on_validation(self) -> np.ndarray:
        """Which rows are validation rows (N,)."""
        return (self.rows["split"] == "val").to_numpy()


def read_members(given: Sequence[str]) -> Members:
    """Read the runs, by folder or table, with classes and rows in the order of the first.

    Raises:
        UserError: there are fewer than two, one is named twice, or they do not hold the same rows, classes or sounds.
    """
    if len(given) < 2:
        raise UserError(f"{' '.join(given)}: a fusion needs two runs or more; `evaluate` takes a single one")
    paths = [predictions.find(run) for run in given]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"a run is named twice among {', '.join(given)}; name each once")
    tables = [predictions.read(path) for path in paths]
    lineages = [lineage.read(path.with_name(lineage.FILE)) for path in paths]
    names = [str(path.parent if path.name == "predictions.csv" else path) for path in paths]
    first, classes = tables[0], predictions.classes_of(tables[0])
    for name, table, known in zip(names[1:], tables[1:], lineages[1:], strict=True):
        if unlike := _unlikeness(name, table, names[0], first) or lineage.other_sound(
            name, known, names[0], lineages[0]
        ):
            raise UserError(f"{unlike}; fuse runs that were tested on the same split")
    in_order = [table.set_index(ROW).loc[pd.MultiIndex.from_frame(first[ROW])] for table in tables]
    scores = np.stack([table[predictions.score_columns(first)].to_numpy() for table in in_order])
    folders = [path.parent for path in paths]
    return Members(names, folders, first[list(predictions.KEYS)], classes, scores, lineages)


def _unlikeness(name: str, table: pd.DataFrame, first_name: str, first: pd.DataFrame) -> str:
    """The first difference between the rows or classes of two runs, in words; empty where there is none."""
    ours, theirs = (predictions.classes_of(each) for each in (table, first))
    if set(ours) != set(theirs):
        return f"{name} tells {', '.join(ours)} apart, {first_name} {', '.join(theirs)}"
    sides = ((name, table, first_name, first), (first_name, first, name, table))
    for lacking, has_not, holding, has in sides:
        folds, known = (pd.MultiIndex.from_frame(each[FOLD]) for each in (has, has_not))
        if len(missing := folds[~folds.isin(known)]):
            return f"{lacking} lacks repeat {missing[0][0]}, fold {missing[0][1]}, which {holding} has"
    for lacking, has_not, holding, has in sides:
        rows, known = (pd.MultiIndex.from_frame(each[ROW]) for each in (has, has_not))
        if len(missing := rows[~rows.isin(known)]):
            return f"{lacking} lacks {len(missing)} rows that {holding} has, first {in_words(*map(str, missing[0]))}"
    both = table.merge(first, on=ROW, suffixes=("", " of first"))
    for column in SAME:
        differs = both[both[column] != both[f"{column} of first"]]
        if len(differs):
            row = differs.iloc[0]
            told = f"{column} {row[column]!r} in {name} and {row[f'{column} of first']!r} in {first_name}"
            return f"{in_words(*map(str, row[ROW]))} has {told}"
    return ""


def in_words(clip: str, repeat: str, fold: str, split: str) -> str:
    """A row of the table."""
    return f"clip {clip} (repeat {repeat}, fold {fold}, {split})"
