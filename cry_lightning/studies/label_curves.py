"""Scores against number of labels: curves with intervals over subjects, table and figure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cry_lightning.dashboard.runs import send_curves
from cry_lightning.evaluation.compare import Rows, as_text, cell
from cry_lightning.evaluation.drawing import SCREEN, as_svg, entitle, legend_below, line, marker, save
from cry_lightning.evaluation.intervals import MIN_SUBJECTS, Estimate
from cry_lightning.evaluation.run import Run, Tested, evaluate_run, pool
from cry_lightning.files import write_table
from cry_lightning.report.page import StudyPage, write_page

if TYPE_CHECKING:  # it imports this
    from cry_lightning.studies.label_efficiency import LabelCount, Trial

SCRATCH = "scratch"  # the encoder that begins with nothing
METRICS = ("uar", "macro_auc")
Bound = Literal["at most", "about", "more than"]
METRIC_NAMES = {"uar": "UAR", "macro_auc": "AUC"}
BOUND_SIGNS = {"at most": "<= ", "about": "", "more than": "> "}
LEGEND = """\
Tested on {test_subjects} {drawn}, at {level} level.
labels: clips with a label that the training used, subjects: whose they are; means over seeds and folds. No other label
of this corpus was used: nothing is validated, every training has the length that the config fixes, and its last
weights are tested. Labels that a checkpoint was pretrained with are not counted.
[low, high]: 95 % interval over test {drawn}, seeds averaged and folds pooled; none where a class
has fewer than {min_subjects} of them. UAR: balanced accuracy. AUC: mean over classes."""
GAINS = """
gain: minus scratch, on the same labels and over the same {drawn}.
scratch needs: labels at which the curve of scratch first reaches this UAR, interpolated over the logarithm of the
labels; ratio: that over labels. Both are readings of the curves, without an interval of their own."""


def curves(
    tested: Mapping["Trial", Tested], subsets: Mapping[tuple[float, int, int | None], "LabelCount"]
) -> pd.DataFrame:
    """A row for each encoder and amount, amounts rising.

    `labels` and `subjects` are means over seeds and folds. Seeds are repeats, over which scores are averaged;
    folds are pooled. Gains are paired: encoder minus scratch over the same subjects.
    """
    cells = {}
    for key in dict.fromkeys((point.encoder, point.amount) for point in tested):
        members = [point for point in tested if (point.encoder, point.amount) == key]
        cells[key] = members, scored([tested[point] for point in members], [point.seed for point in members])
    values = {key: run.jackknives[run.main_level.level] for key, (_, run) in cells.items()}
    rows = []
    for (encoder, amount), (members, run) in cells.items():
        row = {"encoder": encoder, members[0].counted_by: amount}
        row |= counts([subsets[point.subset] for point in members])
        row |= {"seeds": len({point.seed for point in members}), "folds": len({point.fold for point in members})}
        row |= {"level": run.main_level.level, "test_subjects": run.main_level.n_subjects, "drawn": run.drawn}
        row |= {"lineage": run.leakage.status}
        own, scratch = values[encoder, amount], values.get((SCRATCH, amount))
        for metric in METRICS:
            row |= columns(metric, own.score(metric))
            if scratch is not None and encoder != SCRATCH:
                row |= columns(f"{metric}_gain", own.difference(scratch, metric))
        rows.append(row)
    return with_labels_saved(pd.DataFrame(rows))


def scored(runs: Sequence[Tested], seeds: Sequence[int]) -> Run:
    """The folds and seeds of one encoder on one amount as one run, each seed a repeat."""
    repeats = [replace(run, table=run.table.assign(repeat=str(seed))) for run, seed in zip(runs, seeds, strict=True)]
    return evaluate_run(pool(repeats), "test", positive=None)


def columns(name: str, estimate: Estimate) -> dict[str, float]:
    """A value and its 95 % interval, as columns."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))


def counts(subsets: Sequence["LabelCount"]) -> dict[str, float]:
    """Labelled clips and subjects trained on, means over the subsets; then both for each class."""
    frame = pd.DataFrame(
        [
            {"labels": sum(subset.clips.values()), "subjects": subset.n_subjects}
            | {f"labels_{name}": count for name, count in subset.clips.items()}
            | {f"subjects_{name}": count for name, count in subset.subjects.items()}
            for subset in subsets
        ]
    )
    return {str(name): float(mean) for name, mean in frame.mean().items()}


def with_labels_saved(table: pd.DataFrame) -> pd.DataFrame:
    """Add how many labels scratch needs for each UAR: scratch_bound, scratch_labels, and that over `labels`."""
    scratch = table[table["encoder"] == SCRATCH]
    others = table["encoder"] != SCRATCH
    if scratch.empty or not others.any():
        return table
    labels, uar = scratch["labels"].to_numpy(), scratch["uar"].to_numpy()
    needed = [labels_needed(labels, uar, score) for score in table.loc[others, "uar"]]
    table.loc[others, "scratch_bound"] = [bound for bound, _ in needed]
    table.loc[others, "scratch_labels"] = [number for _, number in needed]
    return table.assign(ratio=table["scratch_labels"] / table["labels"])


def labels_needed(labels: np.ndarray, scores: np.ndarray, score: float) -> tuple[Bound, float]:
    """Where a curve (A,) over rising numbers of labels first reaches a score, linear in the logarithm of the labels.

    A curve that reaches it and falls again is read where it first does: that claims the fewest labels saved.
    """
    reached = np.flatnonzero(scores >= score)
    if not len(reached):
        return "more than", float(labels[-1])
    after = reached[0]
    if after == 0:
        return "at most", float(labels[0])
    ends = slice(after - 1, after + 1)
    return "about", float(np.exp(np.interp(score, scores[ends], np.log(labels[ends]))))


def text(curves: pd.DataFrame) -> str:
    """The table and how to read it."""
    return f"{as_text(table(curves))}\n\n{legend(curves)}"


def legend(curves: pd.DataFrame) -> str:
    """How to read the table."""
    shown = LEGEND + GAINS * has_gains(curves)
    return shown.format(**curves.iloc[0][["test_subjects", "drawn", "level"]], min_subjects=MIN_SUBJECTS)


def has_gains(curves: pd.DataFrame) -> bool:
    """Whether any encoder stands beside scratch."""
    return any(f"{metric}_gain" in curves for metric in METRIC_NAMES)


def table(curves: pd.DataFrame) -> Rows:
    """A row for each encoder and amount."""
    counted_by = "per_class" if "per_class" in curves else "label_fraction"
    gains = has_gains(curves)
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


def shown(curves: pd.DataFrame) -> Iterator[dict[str, float]]:
    """The points for the dashboard, as label_efficiency/ENCODER/METRIC, its bounds, and label_efficiency/labels."""
    for _, row in curves.iterrows():
        scores = {
            f"label_efficiency/{row['encoder']}/{name}": float(row[name])
            for metric in METRICS
            for name in columns(metric, (0.0, 0.0, 0.0))
            if pd.notna(row[name])
        }
        yield {"label_efficiency/labels": float(row["labels"])} | scores


def write(curves: pd.DataFrame, out: Path, n_classes: int, title: str, command: str) -> None:
    """Write label_efficiency.csv, .png and .svg, and report.html under a title; add to the dashboard."""
    write_table(curves, out / "label_efficiency.csv")
    with SCREEN.applied():
        save(figure := draw(curves, n_classes), out / "label_efficiency.png", ".svg")
        figures = [("UAR and AUC by number of labels", as_svg(figure, "label_efficiency"))]
    write_page(StudyPage(title, command, [table(curves)], figures=figures, reading=[legend(curves)]), out)
    send_curves(out, shown(curves))


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
            look = {"marker": marker(index), "elinewidth": 1, "capsize": 3, "label": label, **line(index)}
            axes.errorbar(own["labels"] * aside, score, whiskers, **look)
        axes.set(xscale="log", xlabel="labelled clips trained on", ylabel=name)
        ticks = sorted(curves["labels"].unique())
        axes.set_xticks(ticks, [number(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
    legend_below(figure, all_axes[0])
    doubtful = sorted(set(curves["lineage"]) - {"CLEAN"})
    title = f"Label efficiency, {curves['level'].iloc[0]} level, 95 % intervals over {curves['drawn'].iloc[0]}"
    entitle(figure, title, ": ".join(doubtful))
    return figure
