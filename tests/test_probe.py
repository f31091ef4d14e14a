"""The probe: what a linear and a nearest-neighbour classifier read from embeddings."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from cry_lightning.console import UserError
from cry_lightning.tasks import pretext as module
from cry_lightning.tasks.pretext import probe


def blobs(counts: tuple[int, ...], distance: float, seed: int, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes of unit spread, class c's mean at `distance` on axis c."""
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).standard_normal((len(labels), d))
    return (noise + distance * np.eye(d)[labels]).astype(np.float32), labels


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_tells_separable_classes_apart(kind):
    names = np.array(["hunger", "pain", "tired"])
    (train, train_labels), (test, test_labels) = blobs((40, 40, 40), 12.0, 0), blobs((20, 20, 20), 12.0, 1)
    assert probe(kind, train, names[train_labels], test, names[test_labels]) == 1.0


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_is_at_chance_where_embeddings_say_nothing(kind):
    (train, train_labels), (test, test_labels) = blobs((300, 300), 0.0, 0), blobs((1000, 1000), 0.0, 1)
    assert probe(kind, train, train_labels, test, test_labels) == pytest.approx(0.5, abs=0.05)


def test_linear_gives_rare_classes_their_weight():
    """Two classes 2 spreads apart: the best recall of each is 84 %, and stays so with 20 times as many of one."""
    (train, train_labels), (test, test_labels) = blobs((4000, 200), 2**0.5, 0, 2), blobs((2000, 100), 2**0.5, 1, 2)
    assert probe("linear", train, train_labels, test, test_labels) == pytest.approx(0.84, abs=0.03)


def test_score_is_the_unweighted_average_recall():
    (train, train_labels), (test, test_labels) = blobs((60, 20), 1.0, 0), blobs((60, 20), 1.0, 1)
    vote = KNeighborsClassifier(5, metric="cosine", weights="distance").fit(train, train_labels).predict(test)
    uar = balanced_accuracy_score(test_labels, vote)
    assert uar != pytest.approx(accuracy_score(test_labels, vote), abs=0.05)
    assert probe("knn", train, train_labels, test, test_labels, k=5) == pytest.approx(uar)


def test_scale_of_a_dimension_does_not_matter_to_linear():
    (train, train_labels), (test, test_labels) = blobs((50, 50), 2.0, 0), blobs((50, 50), 2.0, 1)
    scale, offset = np.logspace(-3, 4, 8), 100.0
    plain = probe("linear", train, train_labels, test, test_labels)
    scaled = probe("linear", train * scale + offset, train_labels, test * scale + offset, test_labels)
    assert scaled == pytest.approx(plain, abs=0.021)


def test_length_of_an_embedding_does_not_matter_to_knn():
    (train, train_labels), (test, test_labels) = blobs((50, 50), 2.0, 0), blobs((50, 50), 2.0, 1)
    lengths = np.random.default_rng(2).uniform(0.01, 100, (len(test), 1))
    plain = probe("knn", train, train_labels, test, test_labels)
    assert probe("knn", train, train_labels, test * lengths, test_labels) == plain


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_few_rows_and_a_class_missing_from_the_test_are_fine_and_quiet(kind, monkeypatch):
    monkeypatch.setattr(module, "MAX_ITERATIONS", 1)  # does not converge
    (train, train_labels), (test, test_labels) = blobs((2, 2, 2), 3.0, 0), blobs((5, 5), 3.0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 <= probe(kind, train, train_labels, test, test_labels) <= 1


def test_says_what_is_missing():
    (train, labels), nothing = blobs((5, 5), 1.0, 0), np.empty(0)
    with pytest.raises(UserError, match=r"two classes or more are needed, not of \[0\]"):
        probe("linear", train[:5], labels[:5], train, labels)
    with pytest.raises(UserError, match="no test rows"):
        probe("knn", train, labels, np.empty((0, 8)), nothing)
