"""Pictures of a predictions table and of features, for a dashboard."""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay, roc_curve

from cry_lightning.evaluation import predictions
from cry_lightning.lineage import Status

MOST_CURVES = 10  # classes whose curves can be told apart
BINS = 10  # of the reliability curve
LINES = ("-", "--", "-.", ":")


def confusion_figure(table: pd.DataFrame, status: Status) -> Figure:
    """Counts of true against predicted classes of a predictions table, stamped unless it is clean."""
    classes = predictions.classes_of(table)
    guesses = table[predictions.score_columns(table)].to_numpy().argmax(1)
    figure = Figure(layout="constrained")
    predicted = [classes[guess] for guess in guesses]
    ConfusionMatrixDisplay.from_predictions(
        table["label"], predicted, labels=classes, ax=figure.subplots(), xticks_rotation=40, colorbar=False
    )
    return stamped(figure, status)


def roc_figure(table: pd.DataFrame, status: Status) -> Figure:
    """The ROC curve of each class against the rest; of two classes, of the second."""
    classes = predictions.classes_of(table)
    shown = classes[1:] if len(classes) == 2 else classes[:MOST_CURVES]
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(shown):
        truth = table["label"] == name
        if 0 < truth.sum() < len(truth):
            alarms, hits, _ = roc_curve(truth, table[predictions.SCORE + name])
            axes.plot(alarms, hits, LINES[number % len(LINES)], label=name)
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axes.set(xlabel="false alarms (share of the others)", ylabel="sensitivity")
    axes.legend(loc="lower right")
    return stamped(figure, status)


def reliability_figure(table: pd.DataFrame, status: Status) -> Figure:
    """How often the answer is right, by the probability that it was given."""
    scores = table[predictions.score_columns(table)].to_numpy()
    right = np.array(predictions.classes_of(table))[scores.argmax(1)] == table["label"].to_numpy()
    shares, confidences = calibration_curve(right, scores.max(1).clip(0, 1), n_bins=BINS, strategy="quantile")
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axes.plot(confidences, shares, "o-")
    axes.set(xlabel="probability of the answer", ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1))
    return stamped(figure, status)


def feature_figure(*features: torch.Tensor) -> Figure:
    """Pictures of features (F, T) side by side, low frequencies below."""
    figure = Figure(figsize=(4 * len(features), 2), layout="constrained")
    for axes, feature in zip(np.ravel(figure.subplots(1, len(features))), features, strict=True):
        axes.imshow(feature.numpy(), origin="lower", aspect="auto")
    return figure


def stamped(figure: Figure, status: Status) -> Figure:
    """The figure, with the stamp of its lineage above it unless that is clean."""
    if status != "CLEAN":
        figure.suptitle(status, color="darkred")
    return figure
