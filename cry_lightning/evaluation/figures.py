"""Confusion matrix, ROC and precision-recall curves of one run, as PNG files."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cry_lightning.evaluation.clinical import SCORES, Readout, reliability
from cry_lightning.evaluation.predictions import SCORE
from cry_lightning.evaluation.run import MAX_SHOWN, Run
from cry_lightning.files import replacing

DPI = 150
MAX_NAMES = 50  # of classes along an axis


def draw_confusion(run: Run, path: Path) -> None:
    """Percent of each true class (its colour; rows sum to 100), at the run's main level; and counts, up to 20 classes.

    With more, the picture grows no larger.
    """
    table = run.main_level.table
    true, predicted = (
        pd.Index(run.classes).get_indexer(pd.Index(of)) for of in (table["label"], run.main_level.predicted)
    )
    n_classes = len(run.classes)
    counts = np.bincount(true * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    size = 0.8 * n_classes if n_classes <= MAX_SHOWN else 12.0
    figure = Figure(figsize=(size + 2.6, size + 1.8), layout="compressed")
    axes = figure.subplots()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    if n_classes <= MAX_SHOWN:
        _annotate(axes, counts, percent)
    else:
        figure.colorbar(image, label="% of the true class")
    ticks = range(0, n_classes, -(-n_classes // MAX_NAMES))  # names where there is room, every so many
    named = [run.classes[tick] for tick in ticks]
    fontsize = 10 if n_classes <= MAX_SHOWN else 7
    axes.set_xticks(ticks, named, rotation=40, ha="right", rotation_mode="anchor", fontsize=fontsize)
    axes.set_yticks(ticks, [f"{run.classes[tick]} (n={counts[tick].sum()})" for tick in ticks], fontsize=fontsize)
    axes.set(xlabel="predicted", ylabel="true")
    _save(figure, run, path)


def _annotate(axes: Axes, counts: np.ndarray, percent: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        shade = percent[row, column]
        text = f"{shade:.1f} %\n({count})" if counts[row].any() else "-"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if shade > 55 else "black")


def draw_curves(run: Run, path: Path) -> None:
    """ROC and precision-recall curves at the run's main level: the positive class, or each class against the rest.

    Of more than 20 classes, the commonest 20.
    """
    table = run.main_level.table
    figure = Figure(figsize=(9, 5), layout="constrained")
    roc, recall_axes = figure.subplots(1, 2)
    roc.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    for name in [run.positive] if run.positive else run.shown_classes:
        truth = table["label"] == name
        if truth.nunique() < 2:
            continue
        score = table[SCORE + name]
        area = run.result(run.main_level.level, "roc_auc", name)["value"]
        hits, alarms = hits_and_alarms(truth.to_numpy(), score.to_numpy())
        label = f"{name} (n={truth.sum()}, AUC {area:.2f})"
        line = roc.plot(*roc_corners(hits, alarms), label=label)[0]
        recall, precision = precision_recall_steps(hits, alarms)
        recall_axes.plot(recall, precision, color=line.get_color(), drawstyle="steps-pre")
        recall_axes.axhline(truth.mean(), color=line.get_color(), linestyle=":", linewidth=1)
    limits = {"xlim": (-0.01, 1.01), "ylim": (-0.01, 1.01)}
    roc.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity", **limits)
    recall_axes.set(title="precision-recall (dotted: chance)", xlabel="recall", ylabel="precision", **limits)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    _save(figure, run, path)


def draw_clinical(run: Run, found: Readout, path: Path) -> None:
    """Reliability curve, decision curve, and error against coverage, at the run's main level."""
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    reliable, decision, abstaining = figure.subplots(1, 3)
    truth = (found.cases["label"] == found.positive).to_numpy()
    reliable.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    for (name, column), style in zip(SCORES.items(), ("o--", "s-"), strict=True):
        bins = reliability(truth, found.cases[column].to_numpy())
        reliable.plot(bins["predicted"], bins["observed"], style, markersize=4, label=name)
    reliable.set(title="reliability", xlabel=f"predicted probability of {found.positive}", ylabel="observed share")
    curves = found.curves
    decision.fill_between(curves["threshold"], curves["low"], curves["high"], alpha=0.2, linewidth=0)
    decision.plot(curves["threshold"], curves["model"], label="model")
    decision.plot(curves["threshold"], curves["all"], color="grey", linestyle="--", label=f"all {found.positive}")
    decision.axhline(0, color="grey", linestyle=":", label="none")
    highest = max(0.05, 1.1 * truth.mean())
    decision.set(title="net benefit", xlabel="threshold probability", ylim=(-0.3 * highest, highest))
    figures = found.figures.set_index("quantity")
    answered, accuracy = figures.loc["answered", "value"], figures.loc["accuracy of answers"]
    bars = [accuracy["value"] - accuracy["low"], accuracy["high"] - accuracy["value"]]
    abstaining.errorbar(answered, accuracy["value"], yerr=bars, marker="o", capsize=3)
    abstaining.set(title="abstention", xlabel="share of cases answered", ylabel="accuracy of the answers")
    for axes in (reliable, decision):
        axes.legend(frameon=False, fontsize=9)
    _save(figure, run, path)


def hits_and_alarms(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of true and of false positives (T,) at each threshold, from the highest score down.

    Counted here, since the import of scikit-learn takes as long as the whole evaluation of a small test.
    """
    order = np.argsort(-score, kind="stable")
    last_of_equals = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = truth[order].cumsum()[last_of_equals]
    return hits, last_of_equals + 1 - hits


def roc_corners(hits: np.ndarray, alarms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates from (0, 0) to (1, 1), less the points amid a horizontal stretch."""
    rises = np.diff(hits, prepend=0, append=hits[-1] + 1) > 0
    kept = rises[:-1] | rises[1:]
    return np.append(0, alarms[kept] / alarms[-1]), np.append(0, hits[kept] / hits[-1])


def precision_recall_steps(hits: np.ndarray, alarms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall, rising from 0, and the precision on the way to each point: the area below is average precision."""
    rises = np.diff(hits, prepend=0) > 0  # elsewhere there are false alarms only
    recall, precision = hits[rises] / hits[-1], hits[rises] / (hits + alarms)[rises]
    return np.append(0, recall), np.append(precision[0], precision)


def _save(figure: Figure, run: Run, path: Path) -> None:
    stamp = f"{run.leakage.status}: " if run.leakage.status != "CLEAN" else ""
    title = f"{stamp}{run.name}, {run.main_level.level} level"
    figure.suptitle(title, color="darkred" if stamp else "black", fontsize=11)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=DPI)  # the layout has left room for all
