"""From tested points to one curve per encoder: scores with intervals, gain over scratch, labels saved."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from cry_lightning.evaluation.intervals import Estimate
from cry_lightning.evaluation.run import Run, Tested, evaluate_run, pool
from cry_lightning.label_efficiency.plan import SCRATCH, Point
from cry_lightning.label_efficiency.training import Subset

METRICS = ("uar", "macro_auc")
Bound = Literal["at most", "about", "more than"]


def curves(tested: Mapping[Point, Tested], subsets: Mapping[tuple, Subset]) -> pd.DataFrame:
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
        row |= {"level": run.main_level.level, "test_subjects": run.main_level.n_subjects}
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


def counts(subsets: Sequence[Subset]) -> dict[str, float]:
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
