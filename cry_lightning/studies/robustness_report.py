"""Scores over severity: curves with intervals over subjects, tables and figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cry_lightning.dashboard.runs import with_interval
from cry_lightning.evaluation.compare import SUMMARY, Rows, as_text, cell
from cry_lightning.evaluation.drawing import SCREEN, as_svg, entitle, legend_below, line, marker, save
from cry_lightning.evaluation.intervals import MIN_SUBJECTS, Jackknife
from cry_lightning.evaluation.metrics import Units, units_at
from cry_lightning.files import write_table
from cry_lightning.report.page import StudyPage, write_page
from cry_lightning.studies.disturbances import KINDS, UNDISTURBED, Condition

if TYPE_CHECKING:  # it imports this
    from cry_lightning.studies.robustness import ModelUnderTest

COLUMNS = ["model", "kind", "severity", "unit", "place", "minus", "metric", "value", "low", "high"]
COUNTS = ["level", "n_clips", "n_subjects", "drawn", "lineage"]
ASIDE = 0.1  # of the distance between two points: what one model stands beside the next, so that both are seen
LEGEND = """\
Tested on {n_clips} clips of {n_subjects} {drawn}, at {level} level. UAR: balanced accuracy; accuracy, macro-F1 and AUC
are in the CSV files.
[low, high]: 95 % interval over test {drawn}, none where a class has fewer than {min_subjects}; of differences: paired,
over the same {drawn}."""
KIND_LEGENDS = {
    ("noise", "white"): "noise, white: both levels are those of the frames of 20 ms within 40 dB of the loudest one.",
    ("bands",): "bands: removed from the spectrum of the waveform, before the front end.",
    ("ends",): "ends: zeros from the clip's start, or up to its end.",
    ("gain",): "gain: clipped at full scale.",
    ("channel",): "channel: 8-bit samples (linear, mu-law), or nothing left above a frequency.",
}


def curves(
    models: Sequence["ModelUnderTest"],
    points: Sequence[Condition],
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
    scores = {key: Jackknife.of(of_key) for key, of_key in units.items()}
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
            rows += [
                (*what, *row, model.run.drawn, model.run.leakage.status)
                for row in _rows(own, other, units[model, point])
            ]
    return pd.DataFrame(rows, columns=[*COLUMNS, *COUNTS])


def _rows(own: Jackknife, other: Jackknife | None, units: Units) -> list[tuple[object, ...]]:
    """Metric, value, low, high and the counts, of scores or of what they are more than others."""
    counts = units.level, units.n_clips, units.n_subjects
    found = {metric: own.difference(other, metric) if other else own.score(metric) for metric in SUMMARY}
    return [(metric, *estimate, *counts) for metric, estimate in found.items()]


def draw(curves: pd.DataFrame, n_classes: int) -> Figure:
    """UAR with intervals, one colour per model.

    Args:
        curves: of one kind.
        n_classes: tested, which chance depends on.
    """
    kind = KINDS[curves["kind"].iloc[0]]
    uar = curves[(curves["metric"] == "uar") & (curves["minus"] == "")]
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.axhline(1 / n_classes, color="grey", linestyle=":", label="chance")
    models = list(uar["model"].unique())
    ticks = uar.drop_duplicates("severity").sort_values("place")
    step = ASIDE * ticks["place"].diff().min()
    for number, model in enumerate(models):
        own = uar[uar["model"] == model].sort_values("place")
        _draw_model(axes, own, step * (number - (len(models) - 1) / 2), number, kind.is_scale)
    if not kind.is_scale:
        axes.plot([], [], color="grey", linestyle="--", linewidth=1, label="undisturbed")
    axes.set_xticks(ticks["place"], [_tick(severity, kind.is_scale) for severity in ticks["severity"]])
    axes.set(xlabel=kind.axis, ylabel="UAR")
    axes.grid(alpha=0.3)
    legend_below(figure, axes)
    doubtful = sorted(set(uar["lineage"]) - {"CLEAN"})
    n_subjects = uar["n_subjects"].iloc[0]
    intervals = (
        f"95 % intervals over {n_subjects} {uar['drawn'].iloc[0]}"
        if uar["low"].notna().any()
        else "too few for intervals"
    )
    title = f"{uar['level'].iloc[0]} level, {intervals}"
    entitle(figure, title, ": ".join(doubtful))
    return figure


def _draw_model(axes: Axes, own: pd.DataFrame, aside: float, number: int, connected: bool) -> None:
    """Points with whiskers, joined where they are on one scale, else beside a line for the undisturbed score."""
    score, place = own["value"].to_numpy(), own["place"].to_numpy() + aside
    whiskers = np.stack([score - own["low"], own["high"] - score])
    doubt = own["lineage"].iloc[0]
    label = own["model"].iloc[0] + (f" ({doubt})" if doubt != "CLEAN" else "")
    look = line(number) if connected else {"color": line(number)["color"], "linestyle": "none"}
    axes.errorbar(place, score, whiskers, marker=marker(number), elinewidth=1, capsize=3, label=label, **look)
    if not connected:
        axes.axhline(score[own["severity"] == UNDISTURBED][0], color=look["color"], linestyle="--", linewidth=1)


def _tick(severity: str, is_scale: bool) -> str:
    """What stands at a severity's place on the axis."""
    if severity == UNDISTURBED:
        return "none"
    return severity.split()[-1] if is_scale else severity.replace(" ", "\n", 1)


def text(curves: pd.DataFrame) -> str:
    """The table and how to read it."""
    return "\n".join([as_text(table(curves)), "", *legends(curves)])


def legends(curves: pd.DataFrame) -> list[str]:
    """How to read the table, and what its kinds are."""
    kinds = set(curves["kind"])
    of_kinds = [legend for those, legend in KIND_LEGENDS.items() if kinds & set(those)]
    return [LEGEND.format(min_subjects=MIN_SUBJECTS, **curves.iloc[0]), *of_kinds]


def table(curves: pd.DataFrame) -> Rows:
    """A row for each point and model; the undisturbed point of the first kind stands for all."""
    models = list(curves["model"].unique())
    against = [UNDISTURBED, *models[:1]] if len(models) > 1 else [UNDISTURBED]
    rows = [["kind", "severity", "model", "UAR", *(f"minus {other}" for other in against), "lineage"]]
    uar = curves[curves["metric"] == "uar"]
    repeated = (uar["severity"] == UNDISTURBED) & (uar["kind"] != uar["kind"].iloc[0])
    for (kind, severity), at_point in uar[~repeated].groupby(["kind", "severity"], sort=False):
        severity_text = severity if severity == UNDISTURBED else f"{severity} {KINDS[kind].unit}".strip()
        for model, own in at_point.groupby("model", sort=False):
            cells = {row["minus"]: cell(row) for _, row in own.iterrows()}
            scores = [cells.get(other, "") for other in ["", *against]]
            rows.append([kind, severity_text, str(model), *scores, own["lineage"].iloc[0]])
    return rows


def shown(curves: pd.DataFrame, model: str) -> Iterator[dict[str, float | str]]:
    """The points of a model for the dashboard, as robustness/KIND/uar, its bounds, severity, and place on the axis."""
    own = curves[(curves["model"] == model) & (curves["minus"] == "") & (curves["metric"] == "uar")]
    for _, row in own.iterrows():
        key = f"robustness/{row['kind']}"
        yield {f"{key}/place": row["place"], f"{key}/severity": row["severity"]} | dict(
            with_interval(f"{key}/uar", row)
        )


def write(curves: pd.DataFrame, out: Path, n_classes: int, warnings: Sequence[str], command: str) -> list[Path]:
    """Write KIND.csv, KIND.png and KIND.svg of every kind, and report.html, into a folder; returns what to look at."""
    paths, figures = [], []
    for kind, own in curves.groupby("kind", sort=False):
        csv, png = out / f"{kind}.csv", out / f"{kind}.png"  # and .svg
        write_table(own.drop(columns="place"), csv)
        with SCREEN.applied():
            save(figure := draw(own, n_classes), png, ".svg")
            figures.append((f"{kind}: UAR by severity, with 95 % intervals", as_svg(figure, str(kind))))
        paths += [csv, png]
    page = StudyPage(
        "Robustness", command, [table(curves)], warnings=warnings, figures=figures, reading=legends(curves)
    )
    return [*paths, write_page(page, out)]
