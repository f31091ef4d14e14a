"""From embeddings to the numbers of a fitted SVM: a setting chosen, machines fitted, their scores calibrated."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from sklearn.preprocessing import StandardScaler

from cry_lightning.errors import UserError
from cry_lightning.progress import progress_bar
from cry_lightning.tasks.svm.machines import Folds, Kernel, Machines, Setting, grouped_folds
from cry_lightning.tasks.svm.platt import platt

log = logging.getLogger(__name__)
Gamma = float | Literal["scale"]
LONE = "of some class, there are training clips of one subject alone"


@dataclass(frozen=True)
class Embedded:
    """Clips of one part: embeddings (n, D) in float64, class indices (n,) and subjects (n,)."""

    embeddings: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """What was chosen and fitted."""

    arrays: dict[str, np.ndarray | float]  # the buffers of `SupportVectors`
    told: dict[str, float]  # C, gamma and, where there was a choice, the UAR that they were chosen for


@dataclass(frozen=True)
class Recipe:
    """How to fit; see `SVM`, whose arguments these are, lists of `C` and `gamma` making a grid."""

    kernel: Kernel
    C: Sequence[float]
    gamma: Sequence[Gamma]
    standardize: bool
    balanced: bool

    def settings(self, vectors: np.ndarray) -> list[Setting]:
        """All points of the grid, for training vectors (n, D)."""
        scale = 1 / float(vectors.shape[1] * vectors.var() or 1.0)
        return [Setting(*both) for both in product(self.C, [scale if g == "scale" else g for g in self.gamma])]


def fit(train: Embedded, judge: Embedded | None, n_classes: int, recipe: Recipe, show_bar: bool = False) -> Fitted:
    """Choose a setting of the grid, fit it to the training clips, and calibrate it on subjects held out of them.

    Args:
        train: has clips of every class.
        judge: clips to choose by; None: training subjects held out in folds.
        n_classes: K.
        recipe: what to fit.
        show_bar: of the search.

    Raises:
        UserError: the training subjects are too few to choose by.
    """
    n, n_features = train.embeddings.shape
    mean, scale = np.zeros(n_features), np.ones(n_features)
    if recipe.standardize:  # once for all folds: held-out clips have a part in these two, which tell no labels
        scaler = StandardScaler().fit(train.embeddings)
        mean, scale = scaler.mean_, scaler.scale_
    parts = [train, judge] if judge else [train]
    vectors = (np.concatenate([part.embeddings for part in parts]) - mean) / scale
    labels = np.concatenate([part.labels for part in parts])
    machines = Machines(vectors, labels, n_classes, recipe.kernel, recipe.balanced)
    folds, trained = grouped_folds(train.labels, train.subjects), np.arange(n)

    setting, *others = grid = recipe.settings(vectors[:n])
    told: dict[str, float] = {}
    if others:
        judged = [(trained, np.arange(n, len(labels)))] if judge else folds
        if judged is None:
            raise UserError(f"SVM: {LONE}, so nobody can be held out to choose by; give one C and one gamma")
        setting, told["uar"] = search(machines, judged, grid, show_bar)
    dual, intercept = machines.fit(machines.gram(setting.gamma), trained, setting.C)
    slope, offset = calibrate(machines, folds, setting)
    used = dual.any(axis=0)
    arrays: dict[str, np.ndarray | float] = {
        "mean": mean,
        "scale": scale,
        "vectors": vectors[:n][used],
        "dual": dual[:, used],
        "intercept": intercept,
        "gamma": setting.gamma,
        "slope": slope,
        "offset": offset,
        "calibrated": float(folds is not None),
    }
    return Fitted(arrays, told | vars(setting))


def search(machines: Machines, folds: Folds, grid: Sequence[Setting], show_bar: bool) -> tuple[Setting, float]:
    """The setting of the highest UAR, the first of equals, and that UAR; all are told."""
    bar = progress_bar(grid, "SVM", unit="setting", leave=False, hidden=not show_bar)
    scores = [machines.uar(folds, setting) for setting in bar]
    best = int(np.argmax(scores))
    for setting, score in zip(grid, scores, strict=True):
        chosen = ", chosen" if setting is grid[best] else ""
        log.info("C %.4g, gamma %.4g: UAR %.3f%s", setting.C, setting.gamma, score, chosen)
    return grid[best], scores[best]


def calibrate(machines: Machines, folds: Folds | None, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and offsets (M,) of Platt scaling; where nobody can be held out, those that change nothing."""
    n_machines = machines.sides.shape[1]
    if folds is None:
        log.warning("SVM: %s, so nobody can be held out: scores rank but are not calibrated", LONE)
        return np.ones(n_machines), np.zeros(n_machines)
    rows, values = machines.held_out(folds, setting)
    lines = zip(values.T, machines.sides[rows].T, strict=True)
    slope, offset = zip(*[platt(*line, machines.balanced) for line in lines], strict=True)
    return np.array(slope), np.array(offset)
