"""Decision values into probabilities."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

FLATTEST = 1e-3  # per standard deviation: a probability never falls where the decision value rises


def platt(values: np.ndarray, positive: np.ndarray, balanced: bool) -> tuple[float, float]:
    """Slope and offset that make the logistic function of decision values (n,) a probability, given who is positive.

    The values are those of clips that the machine did not hear. `balanced` weighs both sides alike, for a machine that
    was fitted so.

    Source: Platt 1999, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood
    methods", section 2.2, with its targets just inside 0 and 1.
    """
    n, n_positive = len(positive), positive.sum()
    counts = np.where(positive, n_positive, n - n_positive)
    targets = np.where(positive, (counts + 1) / (counts + 2), 1 / (counts + 2))
    weights = n / (2 * counts) if balanced else np.ones(n)
    spread = values.std() or 1.0
    scaled = values / spread

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        logits = line[0] * scaled + line[1]
        residuals = weights * (expit(logits) - targets)
        return weights @ (np.logaddexp(0, logits) - targets * logits), np.array([residuals @ scaled, residuals.sum()])

    fitted = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(FLATTEST, None), (None, None)])
    return float(fitted.x[0] / spread), float(fitted.x[1])
