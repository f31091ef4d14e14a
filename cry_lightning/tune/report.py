"""What a search found: the best trials, all of them as CSV and figure, and the best as a stage config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution

from cry_lightning.cells import for_spreadsheets
from cry_lightning.evaluation.intervals import MIN_SUBJECTS
from cry_lightning.evaluation.tables import as_text
from cry_lightning.tune.space import Space
from cry_lightning.tune.trials import Goal, Trial
from cry_lightning.writing import replacing

BEST = 10  # rows of the table
LEGEND = """\
{metric}: the best epoch of each trial, on {n_subjects} validation subjects; no test subject was heard.
{n_failed} of {n_trials} trials failed.
The best score of many is optimistic: it was chosen for being high on these very subjects. Only the test tells."""
FEW = "\nSo few subjects say little: what wins may only suit them."


def text(trials: Sequence[Trial], goal: Goal, n_subjects: int) -> str:
    """The best trials as a table, and how to read it."""
    best = goal.best_first(trials)
    keys = list(trials[0].values)
    rows = [["trial", goal.metric, "epoch", *short_names(keys)]]
    for trial in best[:BEST]:
        values = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in trial.values.values()]
        rows.append([str(trial.number), f"{trial.score:.4f}", str(trial.epoch), *values])
    counts = {"n_subjects": n_subjects, "n_trials": len(trials), "n_failed": len(trials) - len(best)}
    doubt = FEW if n_subjects < MIN_SUBJECTS else ""
    return f"{as_text(rows)}\n\n{LEGEND.format(metric=goal.metric, **counts)}{doubt}"


def short_names(keys: Sequence[str]) -> list[str]:
    """The last part of each dotted key, or the whole where that is not enough to tell them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]


def write(trials: Sequence[Trial], goal: Goal, space: Space, out: Path) -> None:
    """Write trials.csv and trials.png into a folder."""
    rows = [
        {
            "trial": trial.number,
            goal.metric: trial.score,
            "epoch": trial.epoch,
            **trial.values,
            "failure": trial.failure,
        }
        for trial in trials
    ]
    table = pd.DataFrame(rows).astype({"epoch": "Int64"})
    with replacing(out / "trials.csv") as part:
        for_spreadsheets(table).to_csv(part, index=False)
    with replacing(out / "trials.png") as part:
        draw(table, goal, space).savefig(part, format="png", dpi=150)


def write_best(config: dict[str, Any], goal: Goal, best: Trial, out: Path) -> Path:
    """Write best.yaml, the whole stage config; returns its path."""
    path = out / "best.yaml"
    header = f"# The best of the trials in {out}: {goal.metric} {best.score:.4f} on the validation subjects.\n"
    with replacing(path) as part:
        command = f"#   python -m cry_lightning fit --config {path}\n"
        part.write_text(header + command + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def draw(table: pd.DataFrame, goal: Goal, space: Space) -> Figure:
    """The score against each parameter, later trials darker."""
    figure = Figure(figsize=(3.2 * len(space), 3.4), layout="constrained")
    all_axes = figure.subplots(1, len(space), sharey=True, squeeze=False)[0]
    scored = table[table[goal.metric].notna()]
    for axes, (key, drawn), name in zip(all_axes, space.items(), short_names(list(space)), strict=True):
        values = scored[key]
        if isinstance(drawn, CategoricalDistribution):
            values = values.map(drawn.choices.index)
            texts = list(map(str, drawn.choices))
            names = short_names(texts) if all(isinstance(choice, str) for choice in drawn.choices) else texts
            axes.set_xticks(range(len(texts)), names, rotation=15, ha="right", rotation_mode="anchor")
            axes.set_xlim(-0.5, len(drawn.choices) - 0.5)
        elif drawn.log:
            axes.set_xscale("log")
        dots = axes.scatter(values, scored[goal.metric], c=scored["trial"], cmap="viridis_r", s=18)
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel(f"{goal.metric}, validation")
    figure.colorbar(dots, ax=all_axes[-1], label="trial", ticks=np.unique(np.linspace(0, len(table) - 1, 4, dtype=int)))
    return figure
