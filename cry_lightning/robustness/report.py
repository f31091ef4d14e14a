"""The curves as a table for the terminal, and a CSV file and a figure for each kind of disturbance."""

from pathlib import Path

import pandas as pd

from cry_lightning.console import for_spreadsheets
from cry_lightning.evaluation.intervals import MIN_SUBJECTS
from cry_lightning.evaluation.tables import Rows, as_text, cell
from cry_lightning.files import replacing
from cry_lightning.robustness.figure import draw
from cry_lightning.robustness.plan import KINDS, UNDISTURBED

LEGEND = """\
Tested on {n_clips} clips of {n_subjects} subjects, at {level} level. UAR: balanced accuracy; accuracy, macro-F1 and AUC
are in the CSV files.
[low, high]: 95 % interval over test subjects, none where a class has fewer than {min_subjects}; of differences: paired,
over the same subjects."""
KIND_LEGENDS = {
    ("noise", "white"): "noise, white: both levels are those of the frames of 20 ms within 40 dB of the loudest one.",
    ("bands",): "bands: removed from the spectrum of the waveform, before the front end.",
    ("ends",): "ends: zeros from the clip's start, or up to its end.",
    ("gain",): "gain: clipped at full scale.",
    ("channel",): "channel: 8-bit samples (linear, mu-law), or nothing left above a frequency.",
}


def text(curves: pd.DataFrame) -> str:
    """The table and how to read it."""
    legend = LEGEND.format(min_subjects=MIN_SUBJECTS, **curves.iloc[0])
    kinds = set(curves["kind"])
    return "\n".join([as_text(table(curves)), "", legend, *(t for of, t in KIND_LEGENDS.items() if kinds & set(of))])


def table(curves: pd.DataFrame) -> Rows:
    """A row for each point and model; the undisturbed point of the first kind stands for all."""
    models = list(curves["model"].unique())
    against = [UNDISTURBED, *models[:1]] if len(models) > 1 else [UNDISTURBED]
    rows = [["kind", "severity", "model", "UAR", *(f"minus {other}" for other in against), "lineage"]]
    uar = curves[curves["metric"] == "uar"]
    repeated = (uar["severity"] == UNDISTURBED) & (uar["kind"] != uar["kind"].iloc[0])
    for (kind, severity), at_point in uar[~repeated].groupby(["kind", "severity"], sort=False):
        told = severity if severity == UNDISTURBED else f"{severity} {KINDS[kind].unit}".strip()
        for model, own in at_point.groupby("model", sort=False):
            cells = {row["minus"]: cell(row) for _, row in own.iterrows()}
            scores = [cells.get(other, "") for other in ["", *against]]
            rows.append([kind, told, str(model), *scores, own["lineage"].iloc[0]])
    return rows


def write(curves: pd.DataFrame, out: Path, n_classes: int) -> list[Path]:
    """Write KIND.csv and KIND.png of every kind into a folder; returns the paths."""
    paths = []
    for kind, own in curves.groupby("kind", sort=False):
        csv, png = out / f"{kind}.csv", out / f"{kind}.png"
        with replacing(csv) as part:
            for_spreadsheets(own.drop(columns="place")).to_csv(part, index=False)
        figure = draw(own, n_classes)
        with replacing(png) as part:
            figure.savefig(part, format="png", dpi=150, bbox_inches="tight")
        paths += [csv, png]
    return paths
