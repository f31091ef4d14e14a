"""How much worse the log-loss of new infants is than with the best temperature, by what few infants choose.

Simulated scores of three and four classes: infants with an effect of their own on those of all their clips (intraclass
correlation 0.5), middling and high skill, and scores that are too flat, right or too steep for it (0.3, 1 and 3 times).
"""

import argparse
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from cry_lightning.evaluation import fusion

CLIPS = 10  # of each infant
GRID = tuple(product((3, 4), (True, False), (1.2, 3.5), (0.3, 1, 3)))  # classes, labels by infant, skill, steepness


def simulated(
    rng: np.random.Generator, subjects: int, n_classes: int, by_infant: bool, skill: float, steepness: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (n, K), class indices and subjects (n,) of so many subjects."""
    subject = np.repeat(np.arange(subjects), CLIPS)
    truth = (rng.permutation(subjects) % n_classes)[subject] if by_infant else rng.integers(0, n_classes, len(subject))
    of_infant, of_clip = (rng.normal(size=(n, n_classes)) / 2**0.5 for n in (subjects, len(subject)))
    logits = of_infant[subject] + of_clip + skill * np.eye(n_classes)[truth]
    return softmax(steepness * skill * logits, axis=1), truth, subject


def log_loss(scores: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Mean over cases."""
    likelihood = fusion.scaled(scores, temperature)[np.arange(len(truth)), truth]
    return -float(np.log(np.maximum(likelihood, fusion.FLOOR)).mean())


def with_prior(sd: float) -> Callable[[np.ndarray, np.ndarray, np.ndarray], float]:
    """`best_temperature` with a prior of another width."""

    def chosen(*cases: np.ndarray) -> float:
        fusion.PRIOR_SD = sd
        return fusion.best_temperature(*cases)

    return chosen


def softened(of_subjects: bool) -> Callable[[np.ndarray, np.ndarray, np.ndarray], float]:
    """The temperature of the least cross-entropy to Platt's targets, of the clips or the subjects of each class."""

    def chosen(scores: np.ndarray, truth: np.ndarray, subjects: np.ndarray) -> float:
        counted = np.unique(np.stack([truth, subjects]), axis=1)[0] if of_subjects else truth
        n_classes = scores.shape[1]
        n = np.bincount(counted, minlength=n_classes)[truth][:, None]
        targets = (1 + n * np.eye(n_classes)[truth]) / (n + n_classes)

        def loss(log_temperature: float) -> float:
            fitted = np.log(np.maximum(fusion.scaled(scores, np.exp(log_temperature)), fusion.FLOOR))
            return -float((targets * fitted).sum())

        return float(np.exp(minimize_scalar(loss, bounds=np.log(fusion.TEMPERATURES), method="bounded").x))

    return chosen


METHODS = {
    "as they are": lambda *cases: 1.0,
    "least log-loss": with_prior(np.inf),
    "targets softened by clips": softened(False),
    "by subjects": softened(True),
    "prior SD 2": with_prior(2.0),
    "prior SD 1": with_prior(1.0),
    "prior SD 0.5": with_prior(0.5),
}


def excess(subjects: int, simulations: int) -> pd.DataFrame:
    """Log-loss above the least (simulations of all tests, methods)."""
    rows = []
    for test in GRID:
        rng = np.random.default_rng(subjects)
        scores, truth, everybody = simulated(rng, 2000, *test)
        least = log_loss(scores, truth, with_prior(np.inf)(scores, truth, everybody))
        for _ in range(simulations):
            chose = simulated(rng, subjects, *test)
            rows.append({name: log_loss(scores, truth, choose(*chose)) - least for name, choose in METHODS.items()})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--simulations", type=int, default=20, help="of each of 24 tests")
    options = parser.parse_args()
    found = {n: excess(n, options.simulations) for n in (8, 16, 40)}
    print(pd.DataFrame({f"mean, {n} subjects": each.mean() for n, each in found.items()}).round(3).to_string())
    print(pd.DataFrame({f"95 %, {n} subjects": each.quantile(0.95) for n, each in found.items()}).round(3).to_string())


if __name__ == "__main__":
    main()
