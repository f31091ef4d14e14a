"""What the repeats of a test differ in, the division or the training seed, and how much each of these matters."""

import numpy as np
import pandas as pd

MIXED = "divisions into folds, each trained from its own seed"


def division_of(table: pd.DataFrame) -> pd.Series:
    """The number of the division of each repeat: two have the same where every clip is in the same fold of both."""
    each = pd.util.hash_pandas_object(table[["clip", "fold"]], index=False)
    of_repeat = each.groupby(table["repeat"], sort=False).sum()
    return pd.Series(pd.factorize(of_repeat)[0], of_repeat.index)


def spread(values: pd.Series, division: pd.Series) -> tuple[float, float]:
    """Standard deviations of a figure over training seeds of one division, and over divisions; NaN where not repeated.

    That over divisions is what is left when the seeds' part in the means of the divisions is taken off, if they have
    several seeds each; else both are in it. It is 0 where the seeds explain all.

    Args:
        values: of each repeat.
        division: of each repeat, see `division_of`.

    Source: Searle, Casella and McCulloch 1992, "Variance Components", ch. 3 (one-way, ANOVA estimators).
    """
    groups = values.groupby(division)
    of_seeds, of_divisions = groups.var(ddof=1).mean(), groups.mean().var(ddof=1)
    if np.isfinite(of_seeds):
        of_divisions = np.maximum(of_divisions - of_seeds / groups.size().mean(), 0)
    return float(np.sqrt(of_seeds)), float(np.sqrt(of_divisions))


def in_words(values: pd.Series, division: pd.Series) -> str:
    """Both, as far as they are known: "± 0.012 (SD) over 3 training seeds"."""
    n_divisions, per_division = division.nunique(), len(division) / division.nunique()
    of_seeds, of_divisions = spread(values, division)
    parts = []
    if np.isfinite(of_seeds):
        parts.append(
            f"± {of_seeds:.3f} (SD) over {per_division:g} training seeds" + " of a division" * (n_divisions > 1)
        )
    if np.isfinite(of_divisions):
        what = "divisions into folds, beyond the seeds'" if parts else MIXED
        parts.append(f"± {of_divisions:.3f} (SD) over {n_divisions} {what}")
    return " and ".join(parts)
