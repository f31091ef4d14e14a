"""How well a frozen representation tells classes apart: a simple classifier on its embeddings."""

import warnings
from typing import Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cry_lightning.errors import UserError

Kind = Literal["linear", "knn"]
MAX_ITERATIONS = 300


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
