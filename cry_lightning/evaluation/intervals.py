"""95 % intervals by resampling subjects, since the clips of one infant are not independent cases."""

import numpy as np
import pandas as pd

from cry_lightning.evaluation.defaults import RESAMPLES
from cry_lightning.evaluation.metrics import Measures, Units, majority, measure

MIN_SUBJECTS = 5  # with fewer, the handful of possible resamples says little
FEW_SUBJECTS = 10  # with fewer, percentiles of resamples lie too close together
SEED = 0
PERCENTILES = (2.5, 97.5)
AGAINST_THE_REST = ("roc_auc", "average_precision")  # of one class's cases with those of all others


def subject_draws(n_subjects: int, resamples: int, seed: int = SEED) -> np.ndarray:
    """How often each of S subjects is drawn in each resample (R, S): S draws with replacement, unstratified."""
    return np.random.default_rng(seed).multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), resamples)


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Lower and upper bound from a metric's resampled values (R,), leaving out those in which it is undefined."""
    defined = values[np.isfinite(values)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.percentile(defined, PERCENTILES)
    return float(low), float(high)


def percentile_intervals(values: np.ndarray) -> np.ndarray:
    """`percentile_interval` of each metric's resampled values (M, R), as (M, 2)."""
    bounds = np.full((len(values), 2), np.nan)
    whole = np.isfinite(values).all(axis=1) & (values.shape[1] > 0)
    if whole.any():
        bounds[whole] = np.percentile(values[whole], PERCENTILES, axis=1).T
    for row in np.flatnonzero(~whole):
        bounds[row] = percentile_interval(values[row])
    return bounds


def interval(values: np.ndarray, n_subjects: int) -> tuple[float, float]:
    """95 % interval of what `resampled` gives (1 + R,); none (NaN) below 5 subjects, or of what is undefined."""
    if n_subjects < MIN_SUBJECTS or not np.isfinite(values[0]):
        return np.nan, np.nan
    return percentile_interval(values[1:])


def resampled(table: pd.DataFrame, n_subjects: int, resamples: int, positive: str | None = None) -> Measures:
    """Every metric (1 + R,): of the tested subjects, then of each resample of them.

    The draws depend on the number of subjects only, so that models tested on the same subjects share them.
    """
    draws = np.vstack([np.ones((1, n_subjects), int), subject_draws(n_subjects, resamples)])
    distinct, draw = np.unique(draws, axis=0, return_inverse=True)  # six subjects can be drawn in 462 ways only
    return {key: values[draw] for key, values in measure(table, distinct, positive).items()}


def evaluate(units: Units, positive: str | None = None, resamples: int = RESAMPLES) -> pd.DataFrame:
    """All metrics of a level: metric, class, value, low, high, n_units, n_subjects, predictor.

    Predictor is model, majority (the baseline) or gain (model minus majority in each resample: both share the luck of
    the draw). A subject drawn twice counts twice, with all its cases in all repeats. Where a resample misses a class,
    averages over classes are those of the classes left in it. No interval (NaN) below 5 subjects, nor for one class's
    figures below 5 subjects who have that class, nor for its ranking below 5 who have another.
    Source: Field and Welsh 2007, "Bootstrapping clustered data", J. R. Stat. Soc. B 69(3): the cluster bootstrap.
    """
    model = resampled(units.table, units.n_subjects, resamples, positive)
    baseline = resampled(majority(units), units.n_subjects, resamples, positive)
    table = units.table
    counts = table.groupby("label")[["unit", "subject"]].nunique()
    counts.loc[""] = table[["unit", "subject"]].nunique()
    labels = table.groupby("subject")["label"].agg(["nunique", "first"])
    of_one_class = labels.loc[labels["nunique"] == 1, "first"].value_counts()  # subjects
    told = pd.DataFrame(list(model), columns=["metric", "class"])
    told["n_units"], told["n_subjects"] = (
        told["class"].map(counts[each]).fillna(0).astype(int) for each in ("unit", "subject")
    )
    n_rest = len(labels) - told["class"].map(of_one_class).fillna(0)
    ranked = told["metric"].isin(AGAINST_THE_REST)
    enough = told["n_subjects"].where(~ranked, np.minimum(told["n_subjects"], n_rest)) >= MIN_SUBJECTS
    of_model, of_baseline = (np.stack(list(measures.values())) for measures in (model, baseline))
    each = []
    for predictor, values in {"model": of_model, "majority": of_baseline, "gain": of_model - of_baseline}.items():
        sure = enough.to_numpy() & np.isfinite(values[:, 0])
        bounds = np.where(sure[:, None], percentile_intervals(values[:, 1:]), np.nan)
        each.append(told.assign(value=values[:, 0], low=bounds[:, 0], high=bounds[:, 1], predictor=predictor))
    columns = ["metric", "class", "value", "low", "high", "n_units", "n_subjects", "predictor"]
    return pd.concat(each).sort_index(kind="stable")[columns].reset_index(drop=True)
