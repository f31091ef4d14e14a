"""Confusion matrix, ROC and precision-recall curves with their bands, and clinical figures of one run."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cry_lightning.evaluation.calibration import reliability
from cry_lightning.evaluation.clinical import Readout
from cry_lightning.evaluation.compare import cell
from cry_lightning.evaluation.drawing import COLOURS, Style, entitle, in_lines, line
from cry_lightning.evaluation.intervals import Jackknife
from cry_lightning.evaluation.metrics import Groups, Measures, Units
from cry_lightning.evaluation.predictions import SCORE
from cry_lightning.evaluation.run import Run

MAX_NAMES = 50  # of classes along an axis
NAME, LINE = 24, 46  # characters of a line of a name beside a matrix, and of a line below or in a panel
MARGIN_IN = 1.2  # beside a confusion matrix, for short names
CHARACTER = 0.6  # width of one, of the size of the font
SLOPE = 40  # degrees, of the names below a confusion matrix
DARK = 55  # percent, from which a cell is so dark that its text is white
BAND = "95 % interval at each threshold"
NEARLY_BLACK = "#111111"  # on a cell that is always light, unlike the page
POINTS = 101  # thresholds at most, at as many quantiles of the scores
OF_THRESHOLD = ("sensitivity", "precision")


def confusion(run: Run, style: Style) -> Figure:
    """Percent of each true class (its colour; rows sum to 100), at the run's main level; and counts, where they fit.

    With more classes, the picture grows no larger.
    """
    table = run.main_level.table
    true, predicted = (
        pd.Index(run.classes).get_indexer(pd.Index(of)) for of in (table["label"], run.main_level.predicted)
    )
    n_classes = len(run.classes)
    counts = np.bincount(true * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    names = [in_lines(f"{name} (n={n})", NAME) for name, n in zip(run.classes, counts.sum(axis=1), strict=True)]
    longest_in = CHARACTER * style.font_pt / 72 * max(len(line) for name in names for line in name.split("\n"))
    margin_in = max(MARGIN_IN, longest_in + 0.05 * style.font_pt)
    readable_in = 0.06 * style.font_pt  # of a cell with text
    width = min(max(style.width_in, readable_in * n_classes + margin_in), style.widest_in)
    cell_in = (width - margin_in) / n_classes
    figure = Figure(figsize=(width, width), layout="compressed")
    axes = figure.subplots()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    if cell_in >= 0.95 * readable_in:
        _annotate(axes, counts, percent, style.font_pt - 1)
    else:
        figure.colorbar(image, label="% of the true class")
        cell_in -= 0.07 * style.font_pt / n_classes
    _write_names(axes, [in_lines(name, NAME) for name in run.classes], names, cell_in, style.font_pt)
    return _titled(figure, run)


def _write_names(axes: Axes, below: Sequence[str], beside: Sequence[str], cell_in: float, font_pt: float) -> None:
    """Write the names of classes along both axes, every so many and so small that none covers another."""
    ticks = range(0, len(below), -(-len(below) // MAX_NAMES))
    axes.set_xticks(ticks, below[:: ticks.step], rotation=SLOPE, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, beside[:: ticks.step])
    axes.set(xlabel="predicted class", ylabel="true class")
    room = 52 * cell_in * ticks.step  # points, of a line with the space between lines
    for axis, texts, share in (("x", below, np.sin(np.radians(SLOPE))), ("y", beside, 1)):
        n_lines = 1 + max(text.count("\n") for text in texts)
        axes.tick_params(axis, labelsize=min(font_pt, share * room / n_lines))  # type: ignore[arg-type]


def _annotate(axes: Axes, counts: np.ndarray, percent: np.ndarray, size: float) -> None:
    for (row, column), count in np.ndenumerate(counts):
        shade = percent[row, column]
        text = f"{shade:.1f} %\n({count})" if counts[row].any() else "-"
        color = "white" if shade > DARK else NEARLY_BLACK
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def curves(run: Run, style: Style) -> Figure:
    """ROC and precision-recall curves at the run's main level: the positive class, or each class against the rest.

    Of more than 20 classes, the commonest 20. Of two classes, what the model answers (the higher score) is a point
    with the 95 % intervals of its sensitivity, specificity and precision, and bands are those of the sensitivity and
    the precision at every other threshold.
    """
    table = run.main_level.table
    names = [run.positive] if run.positive else run.shown_classes
    labels = [_labelled(run, name) for name in names]
    figure, (roc, recall_axes) = style.panels(2, legend_rows="\n".join(labels).count("\n") + 3)
    roc.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    for number, (name, label) in enumerate(zip(names, labels, strict=True)):
        truth = table["label"] == name
        if truth.nunique() < 2:
            continue
        score = table[SCORE + name]
        hits, alarms = hits_and_alarms(truth.to_numpy(), score.to_numpy())
        look = line(number)
        roc.plot(*roc_corners(hits, alarms), label=label, **look)
        recall, precision = precision_recall_steps(hits, alarms)
        recall_axes.plot(recall, precision, drawstyle="steps-pre", **look)
        recall_axes.axhline(truth.mean(), color=look["color"], linestyle=":", linewidth=1)
    if run.positive:
        _mark_answers(run, run.positive, roc, recall_axes)
        found = bands(run.main_level, run.positive)
        shade = partial(Axes.fill_between, color=COLOURS[0], alpha=0.15, linewidth=0)
        shade(roc, found["alarms"], found["sensitivity_low"], found["sensitivity_high"], label=BAND)
        shade(recall_axes, found["sensitivity"], found["precision_low"], found["precision_high"])
    limits = {"xlim": (-0.01, 1.01), "ylim": (-0.01, 1.01)}
    roc.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity", **limits)
    recall_axes.set(title="precision-recall (dotted: chance)", xlabel="recall", ylabel="precision", **limits)
    figure.legend(loc="outside lower center")
    return _titled(figure, run)


def _labelled(run: Run, name: str) -> str:
    """A class, how often it is true, and the area below its curve."""
    units = run.main_level
    auc = cell(run.result(units.level, "roc_auc", name))
    return in_lines(f"{name} (n={(units.table['label'] == name).sum()}), AUC {auc}", LINE)


def _mark_answers(run: Run, positive: str, roc: Axes, recall_axes: Axes) -> None:
    """The model's answers as a point on each curve, with the intervals of the report where it has them."""
    level, negative = run.main_level.level, next(name for name in run.classes if name != positive)
    sensitivity, specificity = run.result(level, "sensitivity", positive), run.result(level, "specificity", negative)
    precision = run.result(level, "precision", positive)
    point = partial(Axes.errorbar, fmt="o", color="black", capsize=3, elinewidth=1, zorder=3)
    point(
        roc,
        1 - specificity["value"],
        sensitivity["value"],
        xerr=_bars(specificity)[::-1],
        yerr=_bars(sensitivity),
        label="answers, 95 % intervals",
    )
    point(recall_axes, sensitivity["value"], precision["value"], xerr=_bars(sensitivity), yerr=_bars(precision))


def _bars(result: pd.Series) -> np.ndarray:
    """How far the interval reaches below and above (2, 1); nothing where there is none."""
    reach = [[result["value"] - result["low"]], [result["high"] - result["value"]]]
    bars: np.ndarray = np.nan_to_num(reach)
    return bars


def clinical(run: Run, found: Readout, style: Style) -> Figure:
    """Reliability curve, decision curve, and error against coverage, at the run's main level."""
    figure, (reliable, decision, abstaining) = style.panels(3)
    truth = (found.cases["label"] == found.positive).to_numpy()
    reliable.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    for (name, column), marker in zip(found.scores.items(), "os", strict=False):
        bins = reliability(truth, found.cases[column].to_numpy())
        reliable.plot(bins["predicted"], bins["observed"], marker=marker, label=name)
    reliable.set(
        title="reliability",
        xlabel=in_lines(f"predicted probability of {found.positive}", LINE),
        ylabel="observed share",
    )
    curves = found.curves
    decision.fill_between(
        curves["threshold"], curves["low"], curves["high"], alpha=0.2, linewidth=0, label="95 % interval"
    )
    decision.plot(curves["threshold"], curves["model"], color=COLOURS[0], label="model")
    decision.plot(
        curves["threshold"], curves["all"], color="grey", linestyle="--", label=in_lines(f"all {found.positive}", NAME)
    )
    decision.axhline(0, color="grey", linestyle=":", label="none")
    highest = max(0.05, 1.1 * truth.mean())
    decision.set(title="net benefit", xlabel="threshold probability", ylim=(-0.3 * highest, highest))
    decision.set(ylabel="net benefit (true positives per case)")
    figures = found.figures.set_index("quantity")
    answered, accuracy = figures.loc["answered", "value"], figures.loc["accuracy of answers"]
    shown = accuracy["value"].to_numpy(float)
    bars = np.nan_to_num([shown - accuracy["low"], accuracy["high"] - shown])
    abstaining.errorbar(np.asarray(answered, float), shown, yerr=bars, marker="o", capsize=3)
    abstaining.set(title="abstention", xlabel="share of cases answered", ylabel="accuracy of the answers")
    for axes in (reliable, decision):
        axes.legend()
    return _titled(figure, run)


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


def _titled(figure: Figure, run: Run) -> Figure:
    stamp = run.leakage.status if run.leakage.status != "CLEAN" else ""
    entitle(figure, f"{run.title}, {run.main_level.level} level", stamp)
    return figure


def bands(units: Units, positive: str, thresholds: np.ndarray | None = None) -> pd.DataFrame:
    """Rates of a class at thresholds of its score, from the highest down, with 95 % intervals over subjects.

    Each interval holds for its threshold, not for all of them at once.

    Args:
        units: the tested cases.
        positive: the class.
        thresholds: cases of so high a score are called positive; quantiles of the scores by default.

    Returns:
        threshold, alarms (1 - specificity), sensitivity and precision, the last two with _low and _high, which are NaN
        where there are too few subjects for an interval.
    """
    score = units.table[SCORE + positive].to_numpy()
    if thresholds is None:
        thresholds = np.quantile(score, np.linspace(0, 1, POINTS), method="inverted_cdf")
    thresholds = np.unique(thresholds)[::-1]
    found = Jackknife(units.table, positive, partial(_measure, thresholds=thresholds), units.n_folds)
    columns = {"threshold": thresholds, "alarms": _all(found, "alarms", thresholds)[:, 0]}
    for name in OF_THRESHOLD:
        values, n = _all(found, name, thresholds), found.subjects(name, positive)
        estimates = np.array([found.estimate(of_one, n) for of_one in values])
        columns |= {f"{name}{end}": estimates[:, place] for place, end in enumerate(("", "_low", "_high"))}
    return pd.DataFrame(columns)


def _all(found: Jackknife, name: str, thresholds: np.ndarray) -> np.ndarray:
    """A rate at all thresholds (T, 1 + G)."""
    return np.stack([found.measures[name, str(place)] for place in range(len(thresholds))])


def _measure(table: pd.DataFrame, group: np.ndarray | None, positive: str | None, thresholds: np.ndarray) -> Measures:
    """The rates at each threshold, as `Jackknife` asks for them, from the counts of each group of subjects."""
    groups = Groups.of(table, group)
    truth = (table["label"] == positive).to_numpy()
    first = np.searchsorted(-thresholds, -table[f"{SCORE}{positive}"].to_numpy())  # at which a case is called positive
    counted = []
    for of_class in (truth, ~truth):
        counts = np.zeros((max(groups.n, 1), len(thresholds) + 1))
        np.add.at(counts, (groups.of_case[of_class], first[of_class]), 1)
        called = counts.cumsum(axis=1)  # the last are all cases of the class
        counted.append(np.vstack([called.sum(axis=0), called.sum(axis=0) - called[: groups.n]]))  # (1 + G, T + 1)
    hits, alarms = counted
    with np.errstate(invalid="ignore"):
        rates = {
            "sensitivity": hits[:, :-1] / hits[:, -1:],
            "alarms": alarms[:, :-1] / alarms[:, -1:],
            "precision": hits[:, :-1] / (hits + alarms)[:, :-1],
        }
    return {(name, str(place)): of_all[:, place] for name, of_all in rates.items() for place in range(len(thresholds))}
