"""From predictions at every point to curves: scores, and paired differences, with intervals over subjects."""

from collections.abc import Sequence

import pandas as pd

from cry_lightning.evaluation.intervals import Jackknife
from cry_lightning.evaluation.metrics import Units, units_at
from cry_lightning.evaluation.tables import SUMMARY
from cry_lightning.robustness.models import ModelUnderTest
from cry_lightning.robustness.plan import KINDS, UNDISTURBED, Point

COLUMNS = ["model", "kind", "severity", "unit", "place", "minus", "metric", "value", "low", "high"]
COUNTS = ["level", "n_clips", "n_subjects", "lineage"]


def curves(
    models: Sequence[ModelUnderTest],
    points: Sequence[Point],
    predicted: Sequence[Sequence[pd.DataFrame]],
) -> pd.DataFrame:
    """`COLUMNS` and `COUNTS` of each model at each point, at the main level of its run.

    `minus` is empty for a score, "undisturbed" for the score minus the same model's undisturbed one, or the name of the
    first model for the score minus that model's at the same point: over the same subjects.

    Args:
        models: tested on the same clips.
        points: what was done to these.
        predicted: the predictions table of each model at each point.
    """
    units = {
        (model, point): units_at(model.run.main_level.level, table)
        for model, tables in zip(models, predicted, strict=True)
        for point, table in zip(points, tables, strict=True)
    }
    scores = {key: Jackknife(of_key.table) for key, of_key in units.items()}
    undisturbed = {point.kind: point for point in points if point.severity == UNDISTURBED}
    rows = []
    for (model, point), own in scores.items():
        others: dict[str, Jackknife | None] = {"": None}
        if point.severity != UNDISTURBED:
            others[UNDISTURBED] = scores[model, undisturbed[point.kind]]
        if model is not models[0]:
            others[models[0].name] = scores[models[0], point]
        for minus, other in others.items():
            what = (model.name, point.kind, point.severity, KINDS[point.kind].unit, point.place, minus)
            rows += [(*what, *row, model.run.leakage.status) for row in _rows(own, other, units[model, point])]
    return pd.DataFrame(rows, columns=[*COLUMNS, *COUNTS])


def _rows(own: Jackknife, other: Jackknife | None, units: Units) -> list[tuple]:
    """Metric, value, low, high and the counts, of scores or of what they are more than others."""
    counts = units.level, units.n_clips, units.n_subjects
    found = {metric: own.difference(other, metric) if other else own.score(metric) for metric in SUMMARY}
    return [(metric, *estimate, *counts) for metric, estimate in found.items()]
