"""The curves as a table for the terminal, a CSV file and a figure."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cry_lightning.console import for_spreadsheets
from cry_lightning.evaluation.intervals import MIN_SUBJECTS
from cry_lightning.evaluation.tables import Rows, as_text, cell
from cry_lightning.files import replacing
from cry_lightning.label_efficiency.plan import SCRATCH

METRIC_NAMES = {"uar": "UAR", "macro_auc": "AUC"}
BOUND_SIGNS = {"at most": "<= ", "about": "", "more than": "> "}
LEGEND = """\
Tested on {test_subjects} subjects, at {level} level.
labels: clips with a label that the training used, subjects: whose they are; means over seeds and folds. No other label
of this corpus was used: nothing is validated, every training has the length that the config fixes, and its last
weights are tested. Labels that a checkpoint was pretrained with are not counted.
[low, high]: 95 % interval over test subjects, seeds averaged and folds pooled; none where a class
has fewer than {min_subjects} subjects. UAR: balanced accuracy. AUC: mean over classes.
gain: minus scratch, on the same labels and over the same subjects.
scratch needs: labels at which the curve of scratch first reaches this UAR, interpolated over the logarithm of the
labels; ratio: that over labels. Both are readings of the curves, without an interval of their own."""


def text(curves: pd.DataFrame) -> str:
    """The table and how to read it."""
    first = curves.iloc[0]
    legend = LEGEND.format(test_subjects=first["test_subjects"], level=first["level"], min_subjects=MIN_SUBJECTS)
    return f"{as_text(table(curves))}\n\n{legend}"


def table(curves: pd.DataFrame) -> Rows:
    """A row for each encoder and amount."""
    counted_by = "per_class" if "per_class" in curves else "label_fraction"
    gains = any(f"{metric}_gain" in curves for metric in METRIC_NAMES)
    header = ["encoder", counted_by.replace("_", " "), "labels", "subjects", *METRIC_NAMES.values()]
    rows = [[*header, *(["UAR gain", "AUC gain", "scratch needs", "ratio"] if gains else []), "lineage"]]
    for _, row in curves.iterrows():
        numbers = [f"{row[counted_by]:g}", number(row["labels"]), number(row["subjects"])]
        scores = [interval(row, metric) for metric in METRIC_NAMES]
        against = [*(interval(row, f"{metric}_gain") for metric in METRIC_NAMES), *saved(row)] if gains else []
        if row["encoder"] == SCRATCH:
            against = [""] * len(against)
        rows.append([row["encoder"], *numbers, *scores, *against, row["lineage"]])
    return rows


def interval(row: pd.Series, name: str) -> str:
    """`value [low, high]` of a column and its bounds."""
    return cell(pd.Series({"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}))


def saved(row: pd.Series) -> list[str]:
    """How many labels scratch needs for the same UAR, and their ratio, in words."""
    bound = row["scratch_bound"]
    return [f"{bound} {row['scratch_labels']:.0f}", f"{BOUND_SIGNS.get(bound, '')}{row['ratio']:.1f}"]


def number(mean: float) -> str:
    """A mean count, whole where it is whole."""
    return f"{mean:.1f}".removesuffix(".0")


def write(curves: pd.DataFrame, out: Path, n_classes: int) -> None:
    """Write label_efficiency.csv and label_efficiency.png into a folder."""
    with replacing(out / "label_efficiency.csv") as part:
        for_spreadsheets(curves).to_csv(part, index=False)
    figure = draw(curves, n_classes)
    with replacing(out / "label_efficiency.png") as part:
        figure.savefig(part, format="png", dpi=150, bbox_inches="tight")


def draw(curves: pd.DataFrame, n_classes: int) -> Figure:
    """UAR and AUC against the number of labels, one colour per encoder."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    encoders = list(curves["encoder"].unique())
    all_axes = figure.subplots(1, 2)
    for axes, (metric, name), chance in zip(all_axes, METRIC_NAMES.items(), (1 / n_classes, 0.5), strict=True):
        axes.axhline(chance, color="grey", linestyle=":", label="chance")
        for index, encoder in enumerate(encoders):
            own = curves[curves["encoder"] == encoder]
            score = own[metric].to_numpy()
            whiskers = np.stack([score - own[f"{metric}_low"], own[f"{metric}_high"] - score])
            aside = 1.02 ** (index - (len(encoders) - 1) / 2)  # so that the whiskers do not cover each other
            doubt = own["lineage"][own["lineage"] != "CLEAN"].unique()
            label = f"{encoder} ({', '.join(doubt)})" if len(doubt) else encoder
            axes.errorbar(own["labels"] * aside, score, whiskers, fmt="o-", elinewidth=1, capsize=3, label=label)
        axes.set(xscale="log", xlabel="labelled clips trained on", ylabel=name)
        ticks = sorted(curves["labels"].unique())
        axes.set_xticks(ticks, [number(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    doubtful = sorted(set(curves["lineage"]) - {"CLEAN"})
    title = f"Label efficiency, {curves['level'].iloc[0]} level, 95 % intervals over subjects"
    figure.suptitle(": ".join([*doubtful, title]), color="darkred" if doubtful else "black", fontsize=11)
    return figure
