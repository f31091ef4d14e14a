"""How good a frozen representation is: a linear probe, and measures of collapse."""

import math
import warnings
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from cry_lightning.console import UserError

MAX_ROWS = 2048  # evenly spaced ones of more: the work grows with the square, what it tells hardly
MAX_ITERATIONS = 300


@torch.no_grad()
def alignment(z: Tensor) -> Tensor:
    """Mean squared distance of the two views (rows i and i + B) among normalised projections (2B, D); 0 is perfect.

    Source: Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity
    on the Hypersphere", section 4.1.
    """
    first, second = F.normalize(z.float()).chunk(2)
    return (first - second).square().sum(dim=1).mean()


@torch.no_grad()
def uniformity(z: Tensor) -> Tensor:
    """Log of the mean Gaussian potential exp(-2 d^2) over pairs of normalised projections (n, D); 0 is collapse.

    About -4 is the best there is in many dimensions. Of many rows, 2,048 are compared.

    Source: Wang and Isola 2020, section 4.1.2.
    """
    z = F.normalize(_some(z).float())
    return torch.pdist(z).square().mul(-2).exp().mean().log()


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> Tensor:
    """Number of directions that embeddings (n, D) really fill: exp of the entropy of their singular values.

    Embeddings are centred first; 0 where all are the same but for rounding. Of many rows, 2,048 are used.

    Source: Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", section 2.
    """
    embeddings = _some(embeddings).double()  # or rounding of the mean would pass for a direction
    values = torch.linalg.svdvals((embeddings - embeddings.mean(dim=0)).float())
    rounding = torch.finfo(torch.float32).eps * embeddings.norm()
    values = values[values > rounding]
    if not len(values):
        return values.new_zeros(())
    return torch.special.entr(values / values.sum()).sum().exp()


def _some(rows: Tensor) -> Tensor:
    return rows[:: max(1, math.ceil(len(rows) / MAX_ROWS))]


Kind = Literal["linear", "knn"]


def probe(
    kind: Kind,
    train_embeddings: np.ndarray,
    train_labels: np.ndarray,
    test_embeddings: np.ndarray,
    test_labels: np.ndarray,
    k: int = 20,
) -> float:
    """Unweighted average recall on test embeddings (m, D) of a classifier fitted to train embeddings (n, D).

    Args:
        kind: "linear", a class-balanced logistic regression on standardised embeddings, or "knn", a vote of the
            nearest neighbours by cosine, the nearer the weightier.
        train_embeddings: (n, D).
        train_labels: (n,).
        test_embeddings: (m, D).
        test_labels: (m,).
        k: neighbours of "knn"; all n where there are fewer.

    Raises:
        UserError: where the training rows are not of two classes at least, or there is no test row.
    """
    classes = np.unique(train_labels)
    if len(classes) < 2:
        raise UserError(f"probe: training rows of two classes or more are needed, not of {classes.tolist()}")
    if not len(test_labels):
        raise UserError("probe: no test rows; give the labelled corpus a split with some")
    if kind == "linear":
        logistic = LogisticRegression(class_weight="balanced", max_iter=MAX_ITERATIONS)
        classifier = make_pipeline(StandardScaler(), logistic)
    else:
        classifier = KNeighborsClassifier(min(k, len(train_labels)), metric="cosine", weights="distance")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly converged is as good for comparing epochs
        classifier.fit(train_embeddings, train_labels)
    predicted = classifier.predict(test_embeddings)
    return float(recall_score(test_labels, predicted, labels=np.unique(test_labels), average="macro"))
