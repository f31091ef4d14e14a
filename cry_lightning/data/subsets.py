"""Fewer labels: nested subsets of the training clips, counted in subjects or in clips per class; and exclusions."""

from pathlib import Path

import numpy as np
import pandas as pd

from cry_lightning.cells import from_cell
from cry_lightning.data.splits import census, count
from cry_lightning.errors import UserError


def label_fraction(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Mask of the training clips of a fraction of the groups, but at least one group of each class.

    Under one seed, the groups of a smaller fraction are among those of a larger one. Unlabelled clips stay.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"label_fraction must lie above 0 and up to 1, not {fraction}")
    labels, groups = np.asarray(labels, dtype=str), np.asarray(groups, dtype=str)
    labelled = labels != ""
    kept = ~labelled
    _, group_of, counts = count(labels[labelled], groups[labelled])
    if not labelled.any():
        raise UserError("label_fraction: no training clip has a label")
    order = _stratified_order(counts > 0, np.random.default_rng(seed))
    covers = int(np.argmax((np.cumsum(counts[order], axis=0) > 0).all(1))) + 1
    n_groups = max(round(fraction * len(counts)), covers)
    kept[labelled] = np.isin(group_of, order[:n_groups])
    return kept


def per_class(labels: np.ndarray, groups: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Mask of n training clips of each class, taken from its groups in turn; unlabelled clips stay.

    Under one seed and order of clips, the clips of a smaller n are among those of a larger one.
    """
    labels, groups = np.asarray(labels, dtype=str), np.asarray(groups, dtype=str)
    kept = labels == ""
    classes, _, counts = count(labels[~kept], groups[~kept])
    short = counts.sum(0) < n
    if n < 1 or short.any():
        raise UserError(f"per_class: there are not {n} training clips of {census(classes[short], counts[:, short])}")
    for index, name in enumerate(classes):
        rng = np.random.default_rng([seed, index])
        rows = rng.permutation(np.flatnonzero(labels == name))
        names, group_of = np.unique(groups[rows], return_inverse=True)
        place = rng.permutation(len(names))[group_of]
        turn = pd.Series(rows).groupby(group_of).cumcount()
        kept[rows[np.lexsort((place, turn))[:n]]] = True
    return kept


def read_exclusions(path: str | Path) -> set[str]:
    """Subject ids in a text file, one per line (what follows a # is a comment), or in a predictions.csv, its test rows.

    Raises:
        UserError: the file cannot be read as such, or names nobody.
    """
    path = Path(path)
    try:
        subjects = _tested_subjects(path) if path.suffix.lower() == ".csv" else _listed_subjects(path)
    except (OSError, ValueError) as error:  # of a file that is no text, too
        raise UserError(f"exclude_subjects: {path} cannot be read: {error}") from error
    if not subjects:
        raise UserError(f"exclude_subjects: {path} names no subject; leave exclude_subjects out to exclude nobody")
    return subjects


def _listed_subjects(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return {line.split("#")[0].strip() for line in lines} - {""}


def _tested_subjects(path: Path) -> set[str]:
    table = pd.read_csv(path, dtype=str, keep_default_na=False).map(from_cell)
    if missing := {"subject", "split"} - set(table):
        raise UserError(
            f"exclude_subjects: {path} has no column {' and '.join(sorted(missing))}; a .csv here is the"
            " predictions.csv of a run, and a list of subjects is a .txt"
        )
    return set(table["subject"][table["split"] == "test"])


def _stratified_order(has: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Groups in an order in which every beginning holds each class's groups about evenly; `has` is (groups, K)."""
    total, taken, order = has.sum(0), np.zeros(has.shape[1]), []
    waiting = rng.permutation(len(has))
    while waiting.size:
        share = np.where(taken < total, taken / total, np.inf)
        neediest = np.lexsort((total, share))[0]
        group = waiting[has[waiting, neediest]][0]
        order.append(group)
        taken += has[group]
        waiting = waiting[waiting != group]
    return order
