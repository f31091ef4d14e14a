"""Pictures for a dashboard: those of `evaluate`, how far probabilities can be believed, and features."""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve

from cry_lightning.evaluation import figures, predictions
from cry_lightning.evaluation.drawing import SCREEN, entitle, line, marker
from cry_lightning.evaluation.run import Run

BINS = 10  # of the reliability curve
MOST_LABELS = 12  # of a map


def of_run(run: Run) -> dict[str, Figure]:
    """The confusion matrix, the curves and the reliability of a run that was scored, by their names."""
    with SCREEN.applied():
        return {
            "confusion": figures.confusion(run, SCREEN),
            "curves": figures.curves(run, SCREEN),
            "reliability": reliability_figure(run.table, run.leakage.status),
        }


def reliability_figure(table: pd.DataFrame, status: str) -> Figure:
    """How often the answer of any class is right, by the probability that it was given; stamped unless CLEAN."""
    scores = table[predictions.score_columns(table)].to_numpy()
    right = np.array(predictions.classes_of(table))[scores.argmax(1)] == table["label"].to_numpy()
    shares, confidences = calibration_curve(right, scores.max(1).clip(0, 1), n_bins=BINS, strategy="quantile")
    figure, (axes,) = SCREEN.panels(1)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.plot(confidences, shares, marker="o")
    axes.set(xlabel="probability of the answer", ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1))
    entitle(figure, "reliability", "" if status == "CLEAN" else status)
    return figure


def feature_figure(feature: torch.Tensor) -> Figure:
    """A picture of one feature (F, T), low frequencies below."""
    figure = Figure(figsize=(4, 2), layout="constrained")
    figure.subplots().imshow(feature.numpy(), origin="lower", aspect="auto")
    return figure


def views_figure(first: torch.Tensor, second: torch.Tensor) -> Figure:
    """Two views (F, T) of one clip, one above the other."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    for axes, view in zip(figure.subplots(2), (first, second), strict=True):
        axes.imshow(view.numpy(), origin="lower", aspect="auto")
    return figure


def map_figure(embeddings: torch.Tensor, labels: list[str]) -> Figure:
    """Embeddings (n, D) along the two directions in which they differ most, a colour and a mark for each label."""
    centred = embeddings - embeddings.mean(dim=0)
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    points, shares = (centred @ directions[:2].T).numpy(), spread.square() / spread.square().sum()
    names = pd.Series(labels)
    with SCREEN.applied():
        figure, (axes,) = SCREEN.panels(1, legend_rows=1)
        for number, (name, count) in enumerate(names.value_counts().head(MOST_LABELS).items()):
            own = points[(names == name).to_numpy()]
            mark, colour = marker(number), line(number)["color"]
            axes.scatter(own[:, 0], own[:, 1], s=12, alpha=0.7, marker=mark, color=colour, label=f"{name} ({count})")
        axes.set(
            **{f"{axis}label": f"direction {n + 1} ({shares[n]:.0%} of the variance)" for n, axis in enumerate("xy")}
        )
        figure.legend(loc="outside lower center", ncols=3)
    return figure
