"""How far probabilities are from what happens: recalibration, reliability, and the regressions that both take."""

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cry_lightning.evaluation.metrics import Groups

N_BINS = 10  # of equally many cases, for the reliability curve and ECE
SMALLEST = 1e-6  # probability, where a logit is taken
STEPS, CLOSE, LONGEST = 50, 1e-9, 5  # of Newton's method
SHORT = 0.01  # step of it from a solution to a near one


def platt(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Intercept and slope that recalibrate probabilities (n,) by cases `truth` (n,), on the scale of logits.

    Source: Platt 1999, "Probabilistic outputs for support vector machines", whose softened targets keep both finite.
    """
    n_yes, n_no = truth.sum(), (~truth).sum()
    targets = np.where(truth, (n_yes + 1) / (n_yes + 2), 1 / (n_no + 2))
    x = logit(clipped(scores))
    intercept, slope = logistic_fit(np.stack([np.ones_like(x), x]), targets).tolist()
    return (intercept, slope) if np.isfinite(slope) else (float(logit(targets.mean())), 0.0)  # all scores are equal


def logistic_fit(
    design: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | float = 1.0,
    offset: np.ndarray | float = 0.0,
    start: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Coefficients (K,) of a weighted logistic regression of targets in [0, 1] (n,) on a design (K, n); NaN if none.

    By Newton's method from `start`; scikit-learn, which would do it too, takes longer to import.
    """
    parameters: np.ndarray = np.zeros(len(design)) + start
    for _ in range(STEPS):
        predicted = expit(parameters @ design + offset)
        spread = weights * predicted * (1 - predicted)
        hessian = (design * spread) @ design.T
        if _singular(hessian):
            break
        step = np.linalg.solve(hessian, design @ (weights * (targets - predicted)))
        parameters = parameters + step / max(1, np.abs(step).max() / LONGEST)
        if np.abs(step).max() < CLOSE:
            return parameters
    return np.full(len(design), np.nan)


def _singular(hessian: np.ndarray) -> bool:
    """Whether the classes are separated, or a row of the design has one value."""
    return bool(hessian.trace() < CLOSE or np.linalg.cond(hessian) > 1 / CLOSE)


def without_each(design: np.ndarray, truth: np.ndarray, groups: Groups, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """Coefficients (K, 1 + G) of the regression of all cases (n,), and of it without each group of them.

    From those of all cases, Newton's first step without a group takes sums over groups alone. A short step ends there,
    for what is left is of the order of its square; a long one is gone on from with the cases themselves.
    """
    whole = logistic_fit(design, truth, offset=offset)
    predicted = expit(whole @ design + offset)
    gradients = np.stack([groups.total(row * (truth - predicted)) for row in design])[:, 1:]
    spread = predicted * (1 - predicted)
    hessians = np.array([[groups.total(one * other * spread)[1:] for other in design] for one in design])
    found = [whole]
    for group in range(groups.n):
        hessian = hessians[..., group]
        if np.isfinite(hessian).all() and not _singular(hessian):
            step = np.linalg.solve(hessian, gradients[:, group])
            if np.abs(step).max() < SHORT:
                found.append(whole + step)
                continue
        kept = (groups.of_case != group).astype(float)
        found.append(logistic_fit(design, truth, kept, offset, np.nan_to_num(whole)))
    return np.stack(found, axis=1)


def expected_calibration_error(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean over bins of the difference between the mean probability of a bin and the share of positive cases in it."""
    bins = reliability(truth, scores)
    return float((bins["n"] * (bins["predicted"] - bins["observed"]).abs()).sum() / bins["n"].sum())


def reliability(truth: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """predicted, observed and n of up to ten bins of equally many cases, from the lowest probability up.

    Where a bin ends among equal probabilities, each of these counts as their share of positive cases.
    """
    order = np.argsort(scores, kind="stable")
    _, equal = np.unique(scores, return_inverse=True)
    shares = (np.bincount(equal, truth) / np.bincount(equal))[equal]
    bins = [rows for rows in np.array_split(order, N_BINS) if len(rows)]
    rows = [(scores[rows].mean(), shares[rows].mean(), len(rows)) for rows in bins]
    return pd.DataFrame(rows, columns=["predicted", "observed", "n"])


def clipped(scores: pd.Series | np.ndarray) -> np.ndarray:
    """Probabilities (n,) whose logits are finite."""
    inside: np.ndarray = np.clip(np.asarray(scores, float), SMALLEST, 1 - SMALLEST)
    return inside
