"""One kind of disturbance as a figure: UAR of every model over its severity."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cry_lightning.robustness.plan import KINDS, UNDISTURBED

ASIDE = 0.1  # of the distance between two points: what one model stands beside the next, so that both are seen


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
        _draw_model(axes, own, step * (number - (len(models) - 1) / 2), f"C{number}", kind.is_scale)
    if not kind.is_scale:
        axes.plot([], [], color="grey", linestyle="--", linewidth=1, label="undisturbed")
    axes.set_xticks(ticks["place"], [_tick(severity, kind.is_scale) for severity in ticks["severity"]])
    axes.set(xlabel=kind.axis, ylabel="UAR")
    axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    doubtful = sorted(set(uar["lineage"]) - {"CLEAN"})
    n_subjects = uar["n_subjects"].iloc[0]
    intervals = f"95 % intervals over {n_subjects} subjects" if uar["low"].notna().any() else "too few for intervals"
    title = f"{uar['level'].iloc[0]} level, {intervals}"
    figure.suptitle(": ".join([*doubtful, title]), color="darkred" if doubtful else "black", fontsize=11)
    return figure


def _draw_model(axes: Axes, own: pd.DataFrame, aside: float, color: str, connected: bool) -> None:
    """Points with whiskers, joined where they are on one scale, else beside a line for the undisturbed score."""
    score, place = own["value"].to_numpy(), own["place"].to_numpy() + aside
    whiskers = np.stack([score - own["low"], own["high"] - score])
    doubt = own["lineage"].iloc[0]
    label = own["model"].iloc[0] + (f" ({doubt})" if doubt != "CLEAN" else "")
    style = "o-" if connected else "o"
    axes.errorbar(place, score, whiskers, fmt=style, color=color, elinewidth=1, capsize=3, label=label)
    if not connected:
        axes.axhline(score[own["severity"] == UNDISTURBED][0], color=color, linestyle="--", linewidth=1)


def _tick(severity: str, is_scale: bool) -> str:
    """What stands at a severity's place on the axis."""
    if severity == UNDISTURBED:
        return "none"
    return severity.split()[-1] if is_scale else severity.replace(" ", "\n", 1)
