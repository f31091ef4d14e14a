"""One-vs-rest support vector machines as scikit-learn fits them, to all clips or to those of a fold."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.metrics import recall_score
from sklearn.metrics.pairwise import euclidean_distances, linear_kernel
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import SVC

Kernel = Literal["rbf", "linear"]
Folds = list[tuple[np.ndarray, np.ndarray]]  # rows to fit to, rows held out
MOST_FOLDS = 5


@dataclass(frozen=True)
class Setting:
    """What a search chooses."""

    C: float  # penalty of errors
    gamma: float  # width of the RBF kernel


class Machines:
    """M one-vs-rest machines, to be fitted to some of n clips and tried on others.

    Args:
        vectors: (n, D).
        labels: class indices (n,).
        n_classes: K; M = K, or 1 for two classes, which tells the second from the first.
        kernel: of all machines.
        balanced: weigh errors by the inverse frequency of their side, machine by machine.
    """

    def __init__(self, vectors: np.ndarray, labels: np.ndarray, n_classes: int, kernel: Kernel, balanced: bool) -> None:
        self.labels = labels
        self.sides = labels[:, None] == ([1] if n_classes == 2 else np.arange(n_classes))  # (n, M)
        self.kernel = kernel
        self.balanced = balanced
        # Every setting and fold is made of these: the products of long vectors are most of the work.
        self.likeness = linear_kernel(vectors) if kernel == "linear" else -euclidean_distances(vectors, squared=True)

    def gram(self, gamma: float) -> np.ndarray:
        """Kernel values (n, n)."""
        return np.exp(gamma * self.likeness) if self.kernel == "rbf" else self.likeness

    def fit(self, gram: np.ndarray, rows: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Dual coefficients (M, len(rows)) and intercepts (M,) of machines that hear these rows alone."""
        sides = self.sides[rows].T
        dual, intercept = np.zeros(sides.shape), np.zeros(len(sides))
        for machine, side in enumerate(sides):
            svc = SVC(C=penalty, kernel="precomputed", class_weight="balanced" if self.balanced else None)
            svc.fit(gram[np.ix_(rows, rows)], side)
            dual[machine, svc.support_], intercept[machine] = svc.dual_coef_[0], svc.intercept_[0]
        return dual, intercept

    def held_out(self, folds: Folds, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
        """The rows that the folds hold out (m,), and decision values (m, M) of machines that did not hear them."""
        gram, values = self.gram(setting.gamma), []
        for rows, held in folds:
            dual, intercept = self.fit(gram, rows, setting.C)
            values.append(gram[np.ix_(held, rows)] @ dual.T + intercept)
        return np.concatenate([held for _, held in folds]), np.concatenate(values)

    def uar(self, folds: Folds, setting: Setting) -> float:
        """Unweighted average recall over all rows that the folds hold out."""
        rows, values = self.held_out(folds, setting)
        truth, said = self.labels[rows], values.argmax(1) if values.shape[1] > 1 else (values[:, 0] > 0).astype(int)
        return float(recall_score(truth, said, labels=np.unique(truth), average="macro"))


def grouped_folds(labels: np.ndarray, subjects: np.ndarray) -> Folds | None:
    """Folds of whole subjects: five, or as many fewer as leave every class in what each fold hears; None if none do."""
    classes, counts = np.unique(labels, return_counts=True)
    for n_folds in range(min(MOST_FOLDS, counts.max(), len(np.unique(subjects))), 1, -1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class of few clips need not be in every fold
            folds = list(StratifiedGroupKFold(n_folds).split(labels, labels, subjects))
        if all(len(held) and len(np.unique(labels[rows])) == len(classes) for rows, held in folds):
            return folds
    return None
