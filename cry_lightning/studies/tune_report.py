"""What a search found: its table and Optuna's figures."""

import shlex
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml
from matplotlib import pyplot
from optuna import Study
from optuna.trial import FrozenTrial
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances, plot_slice

from cry_lightning.dashboard.runs import Values, send_curves
from cry_lightning.evaluation.intervals import MIN_SUBJECTS
from cry_lightning.files import Config, replacing, write_table

if TYPE_CHECKING:  # it imports this
    from cry_lightning.studies.tune import Goal

BEST = 10  # rows of the table
FIGURES: dict[str, Callable[..., object]] = {
    "trials": plot_slice,
    "history": plot_optimization_history,
    "importances": plot_param_importances,
}
LEGEND = """\
{metric}: the best epoch of each trial, on {n_subjects} validation subjects; no test subject was used.
{n_failed} of {n_trials} trials failed.
The best score of many is optimistic: it was chosen for being high on these very subjects. Only the test tells."""
FEW = "\nSo few subjects say little: what wins may only suit them."


def table_of(search: Study, goal: "Goal") -> pd.DataFrame:
    """All trials, a row each."""
    table = search.trials_dataframe(("number", "value", "user_attrs", "params"))
    names = {"number": "trial", "value": goal.metric}
    table.columns = [names.get(c, c.removeprefix("user_attrs_").removeprefix("params_")) for c in table.columns]
    return table.astype({"epoch": "Int64"})


def text(search: Study, goal: "Goal", n_subjects: int) -> str:
    """The best trials as a table, and how to read it."""
    table = table_of(search, goal)
    scored = table[table[goal.metric].notna()].drop(columns="failure")
    best = scored.sort_values(goal.metric, ascending=goal.mode == "min", kind="stable").head(BEST)
    last = [str(key).rpartition(".")[2] for key in best]  # of a dotted key, or the whole where two end alike
    best.columns = [name if last.count(name) == 1 else key for key, name in zip(best, last, strict=True)]
    counts = {"n_subjects": n_subjects, "n_trials": len(table), "n_failed": len(table) - len(scored)}
    doubt = FEW if n_subjects < MIN_SUBJECTS else ""
    shown = best.to_string(index=False, float_format="{:.4g}".format)
    return f"{shown}\n\n{LEGEND.format(metric=goal.metric, **counts)}{doubt}"


def write(search: Study, goal: "Goal", out: Path) -> None:
    """Write trials.csv and Optuna's figures into a folder, and add both to the dashboard."""
    table = table_of(search, goal)
    write_table(table, out / "trials.csv")
    figures = {f"tune/{path.stem}": path for path in draw(search, goal, out)}
    sent = {"tune/table": table.drop(columns="failure")}  # which may name files
    send_curves(out, shown(search, goal), found(search, goal), sent, figures)


def draw(search: Study, goal: "Goal", out: Path) -> Iterator[Path]:
    """Write Optuna's figures into a folder, that of importances where the trials tell any; yields their paths."""
    for name, plot in FIGURES.items():
        with pyplot.rc_context(), warnings.catch_warnings():  # the plots set a style for all that follow
            warnings.simplefilter("ignore")  # too few trials: no matter
            try:
                drawn = np.asarray(plot(search, target_name=goal.metric)).ravel()
            except (ValueError, RuntimeError):  # too few trials, or none unlike another
                continue
            for axes in drawn:
                axes.set_xlabel(axes.get_xlabel().replace(".", ".\n"))  # whole keys, side by side
                axes.tick_params("x", labelrotation=90)
            with replacing(out / f"{name}.png") as part:
                drawn[0].figure.savefig(part, format="png", dpi=150, bbox_inches="tight")
            pyplot.close(drawn[0].figure)
            yield out / f"{name}.png"


def shown(search: Study, goal: "Goal") -> Iterator[dict[str, float]]:
    """The scores for the dashboard, trial by trial, as tune/score, and the best so far."""
    best: list[FrozenTrial] = []
    for number, trial in enumerate(search.trials):
        if trial.value is not None:
            best = goal.best_first([*best, trial])[:1]
            yield {"tune/trial": number, "tune/score": trial.value, "tune/best_so_far": best[0].value or 0.0}


def found(search: Study, goal: "Goal") -> Values:
    """The best trial for the dashboard: its number, which is the name of its run, its epoch, score and values."""
    best = goal.best_first(search.trials)[0]
    epoch = best.user_attrs["epoch"]
    winner = {"trial": search.trials.index(best), "epoch": epoch, goal.metric: best.value} | best.params
    return {f"tune/best/{key}": value for key, value in winner.items()}


def write_best(config: Config, goal: "Goal", best: FrozenTrial, path: Path) -> str:
    """Write the whole stage config of the best trial; returns the command that fits it."""
    header = f"# The best of the trials in {path.parent}: {goal.metric} {best.value:.4f} on the validation subjects.\n"
    # A config that lies elsewhere may not by itself say where runs are written.
    runs = ["--runs", config["runs"]] if Path(config["runs"]).is_absolute() else []
    command = shlex.join(["python", "-m", "cry_lightning", "fit", "--config", str(path), *runs])
    with replacing(path) as part:
        part.write_text(f"{header}#   {command}\n{yaml.safe_dump(config, sort_keys=False)}", encoding="utf-8")
    return command
