"""The counts and measures as rows of text."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cry_lightning.describe.counts import ALL
from cry_lightning.describe.recordings import MEASURES
from cry_lightning.evaluation.tables import Rows

NAMES = ("duration (s)", "level, RMS (dBFS)", "peak (dBFS)", "silence (%)", "at full scale (%)")
QUANTILES = {"min": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "max": 1.0}


def class_rows(counts: pd.DataFrame) -> Rows:
    """The dataset table; counts as from `by_class`."""
    rows = [["class", "subjects", "recordings", "clips", "minutes", "clips per subject: min", "median", "max"]]
    for _, row in counts.iterrows():
        spread = [row[f"clips_per_subject_{key}"] for key in ("min", "median", "max")]
        rows.append([row["class"], *amounts(row), *("-" if pd.isna(n) else f"{n:g}" for n in spread)])
    return rows


def column_rows(counts: pd.DataFrame) -> Rows:
    """One column's values against the classes, `clips (subjects)` in each cell; counts as from `by_column`."""
    classes = [name for name in counts["class"].unique() if name != ALL]
    rows = [[counts["column"].iloc[0], "subjects", "recordings", "clips", "minutes", *classes]]
    for value, own in counts.groupby("value", sort=False):
        cells = [pair(row["clips"], row["subjects"]) for _, row in own[own["class"] != ALL].iterrows()]
        rows.append([str(value), *amounts(own[own["class"] == ALL].iloc[0]), *cells])
    return rows


def part_rows(counts: pd.DataFrame) -> Rows:
    """Classes against the parts of a split, `subjects (clips)` in each cell; counts as from `part_table`."""
    parts = [part for part in counts["part"].unique() if counts.loc[counts["part"] == part, "clips"].any()]
    rows = [["class", *parts]]
    for label, own in counts.groupby("class", sort=False):
        cells = [pair(row["subjects"], row["clips"]) for _, row in own[own["part"].isin(parts)].iterrows()]
        rows.append([str(label), *cells])
    return rows


def measured(recordings: pd.DataFrame, of_class: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Quantiles of every measure over all recordings and over those of each class, in long form.

    Args:
        recordings: as from `survey`, usable ones only.
        of_class: the recordings in which each class is heard.
    """
    rows = []
    for label, names in [(ALL, recordings.index.to_numpy()), *of_class.items()]:
        for measure in MEASURES:
            values = recordings.loc[names, measure].dropna()
            quantiles = {name: values.quantile(share) for name, share in QUANTILES.items()}
            rows.append({"class": label, "measure": measure, "recordings": len(values)} | quantiles)
    return pd.DataFrame(rows)


def measure_rows(quantiles: pd.DataFrame) -> Rows:
    """Quantiles of every measure over all recordings; quantiles as from `measured`."""
    own = quantiles[quantiles["class"] == ALL]
    rows = [["over recordings", *QUANTILES]]
    for name, (_, row) in zip(NAMES, own.iterrows(), strict=True):
        rows.append([name, *(as_figure(row[quantile], row["measure"]) for quantile in QUANTILES)])
    return rows


def median_rows(quantiles: pd.DataFrame) -> Rows:
    """The median of every measure for each class: a recorder that differs between classes would show here."""
    rows = [["median of class", "recordings", *NAMES]]
    for label, own in quantiles[quantiles["class"] != ALL].groupby("class", sort=False):
        medians = [as_figure(row["median"], row["measure"]) for _, row in own.iterrows()]
        rows.append([str(label), f"{own['recordings'].iloc[0]:,}", *medians])
    return rows


def as_figure(value: float, measure: str) -> str:
    """A measure as text: shares in percent."""
    if pd.isna(value):
        return "-"
    if measure.endswith("_share"):
        return f"{100 * value:.2g}" if value < 0.1 else f"{100 * value:.0f}"
    digits = 2 if measure == "duration_s" else 1
    return f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.0


def pair(first: int, second: int) -> str:
    """`first (second)`, or a dash where there is nothing."""
    return f"{first:,} ({second:,})" if first else "-"


def amounts(row: pd.Series) -> list[str]:
    """Subjects, recordings, clips and minutes as text."""
    return [*(f"{row[key]:,}" for key in ("subjects", "recordings", "clips")), f"{row['minutes']:,.1f}"]
