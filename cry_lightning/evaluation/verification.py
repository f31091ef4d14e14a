"""How well embeddings tell whether two recordings are of one subject: equal error rates, with their intervals."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from cry_lightning.console import UserError
from cry_lightning.evaluation.intervals import MIN_SUBJECTS, rate_interval

DRAWS = 400  # of the subjects
ROUNDING, DECIMALS = 1e-6, 9  # embeddings are float32
METRICS = {"eer": "equal error rate", "auc": "AUC"}
COUNTS = ("n_same", "n_different", "n_subjects")  # pairs of one subject, pairs of two, subjects with pairs of their own


class Sessions(NamedTuple):
    """The mean embedding (S, D) of each session of each subject, in the order of the names."""

    embeddings: np.ndarray
    subjects: np.ndarray
    sessions: np.ndarray


def pairs(sessions: Sessions) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of different sessions: its score (P,), whether it is of one subject (P,), and the subjects of both.

    The score is the cosine of the two embeddings, less the mean of the subjects' means: what all share says nothing,
    and who has many sessions does not draw that mean to itself. Scores that differ by rounding alone are made equal.
    """
    codes = pd.factorize(sessions.subjects, sort=True)[0]
    names = pd.factorize(sessions.sessions, sort=True)[0]
    centre = pd.DataFrame(sessions.embeddings).groupby(codes).mean().mean().to_numpy()
    centred = sessions.embeddings - centre
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    nothing_left = lengths <= ROUNDING * max(np.linalg.norm(centre), np.finfo(float).tiny)
    centred = np.where(nothing_left, 0, centred / np.maximum(lengths, np.finfo(float).tiny))
    one, other = np.triu_indices(len(codes), 1)
    different = names[one] != names[other]
    one, other = one[different], other[different]
    scores = (centred @ centred.T)[one, other].round(DECIMALS)
    return scores, codes[one] == codes[other], codes[one], codes[other]


def error_rates(scores: np.ndarray, same: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Equal error rate and AUC of pairs (P,) in the order of their scores, lowest first; NaN without pairs of a kind.

    The equal error rate is where the curve of false against missed acceptances has both alike. It is linear between
    scores: pairs of one score are accepted together.
    """
    missed = np.cumsum(weights * same)
    rejected = np.cumsum(weights * ~same)
    if not (missed[-1] and rejected[-1]):
        return np.nan, np.nan
    last_of_score = np.append(scores[1:] > scores[:-1], True)
    missed, rejected = (np.append(0, counts[last_of_score] / counts[-1]) for counts in (missed, rejected))
    equal = np.interp(0, missed + rejected - 1, missed)  # false acceptances are 1 - rejected
    return float(equal), float(np.trapezoid(rejected, missed))


def verify(sessions: Sessions) -> pd.DataFrame:
    """Equal error rate and AUC over all pairs, with 95 % intervals over subjects, drawn anew with all their pairs.

    A pair of two subjects counts as often as both were drawn, in all combinations, one of a single subject as often as
    that was; leaving subjects out in turn says too little of an equal error rate, which is a quantile.
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", ch. 6 and 11.6.

    Returns: metric, value, low, high, n_same, n_different, n_subjects (that have pairs of their own). No interval (NaN)
        where fewer than 5 subjects have any.

    Raises:
        UserError: no subject has two sessions, or there is one subject alone.
    """
    scores, same, one, other = pairs(sessions)
    if not same.any():
        raise UserError("no subject has two sessions to compare; take another column by --session")
    if same.all():
        raise UserError("there is one subject alone, and nobody to tell it from")
    order = np.argsort(scores, kind="stable")
    scores, same, one, other = scores[order], same[order], one[order], other[order]
    values = error_rates(scores, same, np.ones(len(same)))
    variances = np.nanvar([error_rates(scores, same, weights) for weights in drawn(same, one, other)], axis=0)
    n_sessions = np.bincount(pd.factorize(sessions.subjects)[0])
    paired = n_sessions[n_sessions > 1]
    n_subjects = len(np.unique(one[same]))
    effective = paired.sum() ** 2 / np.square(paired).sum() if n_subjects >= MIN_SUBJECTS else np.nan  # Kish 1965
    rows = [
        (metric, value, *rate_interval(value, variance, effective), same.sum(), (~same).sum(), n_subjects)
        for metric, value, variance in zip(METRICS, values, variances, strict=True)
    ]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", *COUNTS])


def drawn(same: np.ndarray, one: np.ndarray, other: np.ndarray) -> Iterator[np.ndarray]:
    """How often each pair (P,) counts when the subjects are drawn anew, with replacement; the same at every call."""
    rng = np.random.default_rng(0)
    n_subjects = max(one.max(), other.max()) + 1
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(n_subjects, size=n_subjects), minlength=n_subjects).astype(float)
        yield np.where(same, times[one], times[one] * times[other])
