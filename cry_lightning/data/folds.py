"""Stratified divisions of groups into folds, each repeat another one.

`StratifiedGroupKFold(shuffle=True)` shuffles only groups that tie: of infants with unequal numbers of clips, every seed
gives nearly the same division.
"""

from functools import lru_cache

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from cry_lightning.console import UserError

LOOSEST = 1.5  # times the imbalance of scikit-learn's division, which the further ones may have
EVEN = 0.01  # imbalance that is no matter
JITTER = 0.5  # standard deviation of the logarithm of sizes, by which the order of groups is disturbed
ATTEMPTS = 1000


def division(counts: np.ndarray, folds: int, seed: int, repeat: int, group: str = "group") -> np.ndarray:
    """The fold of every group (groups,), from clips per group and class (groups, K).

    Repeat 0 is scikit-learn's division. Each further one differs from all before it, and is at most 1.5 times as
    unbalanced.

    Raises:
        UserError: there are not so many different divisions.
    """
    try:
        return _division(np.ascontiguousarray(counts, int).tobytes(), counts.shape, folds, seed, repeat)
    except LookupError as error:
        raise UserError(
            f"--repeats: found only {error} different balanced divisions of {len(counts)} {group}s into {folds} folds;"
            f" use --repeats {error}, or other --folds"
        ) from None


@lru_cache(maxsize=128)  # a cross-validation asks for each repeat in every fold, and for all before it
def _division(counts_as_bytes: bytes, shape: tuple[int, int], folds: int, seed: int, repeat: int) -> np.ndarray:
    counts = np.frombuffer(counts_as_bytes, int).reshape(shape)
    if repeat == 0:
        return _by_scikit_learn(counts, folds, seed)
    before = [_division(counts_as_bytes, shape, folds, seed, earlier) for earlier in range(repeat)]
    bound = max(LOOSEST * imbalance(counts, before[0], folds), EVEN)
    known = set(map(_partition, before))
    for attempt in range(ATTEMPTS):
        found = _dealt(counts, folds, np.random.default_rng([seed, repeat, attempt]))
        new = _partition(found) not in known and _trainable(counts, found, folds)
        if new and imbalance(counts, found, folds) <= bound:
            return found
    raise LookupError(repeat)


def imbalance(counts: np.ndarray, fold: np.ndarray, folds: int) -> float:
    """Standard deviation over folds of the share of a class's clips, mean over classes: what scikit-learn minimizes."""
    held = np.stack([counts[fold == each].sum(axis=0) for each in range(folds)])
    return float((held / counts.sum(axis=0)).std(axis=0).mean())


def _by_scikit_learn(counts: np.ndarray, folds: int, seed: int) -> np.ndarray:
    group, label = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    fold = np.zeros(len(counts), int)
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(label, label, group)
    for each, (_, tested) in enumerate(splits):
        fold[group[tested]] = each
    return fold


def _dealt(counts: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Groups in a random order, large ones rather first, each to the fold that has least of its classes."""
    shares = counts / counts.sum(axis=0)
    order = np.argsort(-np.log(shares.sum(axis=1)) + JITTER * rng.normal(size=len(counts)))
    held, fold = np.zeros((folds, counts.shape[1])), np.zeros(len(counts), int)
    for group in order:
        # Of the sum of squares of all shares, this is what depends on the fold; of several such, the emptiest.
        fold[group] = np.lexsort([held.sum(axis=1), held @ shares[group]])[0]
        held[fold[group]] += shares[group]
    return fold


def _trainable(counts: np.ndarray, fold: np.ndarray, folds: int) -> bool:
    """Whether no fold is empty or has all groups of a class."""
    return all((fold == each).any() and (counts[fold != each] > 0).any(axis=0).all() for each in range(folds))


def _partition(fold: np.ndarray) -> bytes:
    """A division whatever the numbers of its folds: they are numbered as they first appear."""
    _, first, number = np.unique(fold, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number].tobytes()
