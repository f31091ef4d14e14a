"""What `evaluate` and the studies add to the runs of W&B that they rest on."""

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cry_lightning.console import one_line
from cry_lightning.dashboard import runs
from cry_lightning.evaluation.run import Run
from cry_lightning.files import sha256
from cry_lightning.lineage import fingerprint

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)
Values = Mapping[str, float | str | None]


def send_report(evaluated: Sequence[Run], report: Path, whole: bool) -> None:
    """Add the metrics of runs, with their intervals, to the runs of W&B in which they were tested, if any.

    The report itself names recordings: without being asked, no more than its hash is sent.

    Args:
        evaluated: what was scored.
        report: report.html of them.
        whole: send the report, too.
    """
    n_sent = 0
    for one in evaluated:
        with _resumed(one.folder) as run:
            if run is None:
                continue
            n_sent += 1
            (split,) = one.table["split"].unique()
            run.summary.update({f"{split}/{key}": value for key, value in metrics(one.results)})
            run.summary[f"{split}/lineage"] = one.leakage.status
            contents = {"sha256": sha256(report)}
            run.log_artifact(runs.artifact(runs.artifact_name(one.folder, "report"), "report", contents))
            if whole:
                run.save(str(report.resolve()), base_path=str(report.resolve().parent), policy="now")
    if whole and not n_sent:
        log.warning("--send-report: nothing was sent, as no test of these runs has logged to W&B")


def metrics(results: pd.DataFrame) -> Iterable[tuple[str, float]]:
    """The model's metrics as LEVEL/METRIC or LEVEL/METRIC/CLASS, with _low and _high where there are intervals."""
    for _, row in results[results["predictor"] == "model"].iterrows():
        key = "/".join(filter(None, [row["level"], row["metric"], row["class"]]))
        yield from with_interval(key, row)


def with_interval(key: str, row: pd.Series) -> Iterable[tuple[str, float]]:
    """The value of a row, and its bounds where it has some."""
    found = {key: row["value"], f"{key}_low": row["low"], f"{key}_high": row["high"]}
    yield from ((name, float(value)) for name, value in found.items() if math.isfinite(value))


def send_curves(
    folder: Path,
    curves: Iterable[Values] = (),
    summary: Values | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    figures: Mapping[str, Path] | None = None,
) -> None:
    """Add what a study has found to its run of W&B, if what it trained or tested has logged there.

    Args:
        folder: of the study, or of the run that it examined.
        curves: points, each of which is logged as a step, unless an earlier call has sent the very same.
        summary: what holds of the whole study.
        tables: by key.
        figures: PNG files by key.
    """
    with _resumed(folder) as run:
        if run is None:
            return
        import wandb

        _log_new(run, curves, folder)
        media: dict[str, object] = {
            key: wandb.Table(dataframe=of_one_type(table)) for key, table in (tables or {}).items()
        }
        media |= {key: wandb.Image(str(path)) for key, path in (figures or {}).items()}
        if media:
            run.log(media)
        if summary:
            run.summary.update(dict(summary))


def _log_new(run: "wandb.Run", curves: Iterable[Values], folder: Path) -> None:
    """Log the points that no earlier call has sent, and note them."""
    found = runs.find(folder)
    if found is None:
        return
    sent = dict.fromkeys(found[0].sent)
    try:
        for point in curves:
            if (key := fingerprint(json.dumps(point, sort_keys=True))) not in sent:
                run.log(dict(point))
                sent[key] = None
    finally:  # what came before an error is not sent again
        if len(sent) > len(found[0].sent):
            runs.note_sent(folder, replace(found[0], sent=tuple(sent)))


def of_one_type(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns are numbers or texts, as W&B wants them."""
    numbers = table.select_dtypes("number")
    return table.astype({key: float if key in numbers else str for key in table})


@contextmanager
def _resumed(folder: Path) -> Iterator["wandb.Run | None"]:
    """The run of W&B of a folder while something is added to it, or None; what W&B refuses is a warning."""
    run = None
    with _harmless(folder):
        run = _opened(folder)
    with _harmless(folder):
        yield run
    if run is not None:
        with _harmless(folder):
            run.finish()


def _opened(folder: Path) -> "wandb.Run | None":
    found = None if runs.is_disabled() else runs.find(folder)
    return None if found is None else found[0].resumed(found[1])


@contextmanager
def _harmless(folder: Path) -> Iterator[None]:
    """Make a warning of whatever W&B raises: no failure of the dashboard is worth a report."""
    try:
        yield
    except Exception as error:
        log.warning("%s: its figures were not sent to W&B (%s)", folder, one_line(str(error)))
