"""W&B's runs: whether they go online, what they never send, how later commands find them, and what these add."""

import json
import logging
import math
import netrc
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import pandas as pd

from cry_lightning.console import one_line
from cry_lightning.evaluation.run import Run
from cry_lightning.files import read_object_if_any, sha256, write_json
from cry_lightning.lineage import fingerprint

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)
MARK = "wandb.json"  # in RUN/test, and in the folder of a study
HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # the latter by default since wandb 0.31
OF_STUDIES = ("folds/*/*", "*/folds/*/*", "points/*/*")  # where those of cross-validations and label curves lie
# What W&B would gather by itself of the machine, its user, the command line, the packages, the code and its git
# repository stays here, unless the user has set the variable. docs/stages.md lists what is left.
UNSENT = {
    "WANDB_CONSOLE": "off",  # an error may name a file
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_JOB_CREATION": "true",
    "WANDB_SAVE_CODE": "false",
    "WANDB_X_DISABLE_MACHINE_INFO": "true",
    "WANDB_X_DISABLE_META": "true",
    "WANDB_X_DISABLE_STATS": "true",
    "WANDB_X_SAVE_REQUIREMENTS": "false",
    "WANDB_HOST": "-",
    "WANDB_PROGRAM": "-",
}
Values = Mapping[str, float | str | None]


def has_key() -> bool:
    """Whether a key for W&B is found; never asks."""
    host = urlparse(os.environ.get("WANDB_BASE_URL", "")).hostname
    try:
        found = any(netrc.netrc().authenticators(each) for each in ([host] if host else HOSTS))
    except (OSError, netrc.NetrcParseError):
        found = False
    return found or bool(os.environ.get("WANDB_API_KEY"))


def is_online() -> bool:
    """Whether W&B may go online: a key is found and WANDB_MODE does not forbid it. Never asks."""
    return os.environ.get("WANDB_MODE", "online") == "online" and has_key()


def is_disabled() -> bool:
    """Whether W&B is turned off."""
    return os.environ.get("WANDB_MODE") == "disabled"


def keep_private() -> None:
    """Have W&B leave out what it would gather by itself, and say nothing where it writes to the disk alone."""
    for variable, value in UNSENT.items():
        os.environ.setdefault(variable, value)
    if not is_online():
        os.environ.setdefault("WANDB_SILENT", "true")


def finish_wandb() -> None:
    """End this process's W&B run, if any: the next fit here, such as another fold, has one of its own."""
    wandb = sys.modules.get("wandb")  # it takes long to import, and most runs do without
    if wandb is None or wandb.run is None:
        return
    try:
        wandb.finish()
    except Exception as error:  # what was trained is there, whatever W&B has of it
        log.warning("W&B: %s; not all of the run may have been sent", one_line(str(error)))


def artifact_name(run_folder: Path, kind: str = "checkpoint") -> str:
    """What the checkpoint, or another artifact, of a run is called, of the characters that W&B takes."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{run_folder.parent.name}-{run_folder.name}")
    return name if kind == "checkpoint" else f"{name}-{kind}"


def artifact(name: str, kind: str, contents: Mapping[str, object]) -> "wandb.Artifact":
    """An artifact of W&B that states what there is, and holds no more than that."""
    import wandb

    made = wandb.Artifact(name, type=kind, metadata=dict(contents))
    with made.new_file("contents.json") as file:
        json.dump(dict(contents), file, sort_keys=True, indent=1)
    return made


@dataclass(frozen=True)
class RunOfWandb:
    """What a later command needs to add to a run of W&B."""

    id: str
    project: str
    entity: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    mode: str = ""  # "online" where the test was: only then is more sent there
    sent: tuple[str, ...] = ()  # fingerprints of the points that were added

    def write(self, folder: Path) -> None:
        """Keep it in a folder."""
        write_json(asdict(self), folder / MARK)

    def resumed(self, runs: Path) -> "wandb.Run":
        """The run of W&B again; offline it is written to a folder of its own with the same id, in `runs`/wandb.

        `wandb sync` puts the folders of one id together, in their order.
        """
        keep_private()
        import wandb

        given = {key: value for key, value in asdict(self).items() if value and key not in ("mode", "sent")}
        return wandb.init(
            **given,
            mode="online" if self.mode == "online" and is_online() else "offline",
            settings=wandb.Settings(init_timeout=30),
            dir=str(runs),
            resume="allow",
            reinit="finish_previous",
        )


def remember(run: "wandb.Run", folder: Path) -> None:
    """Note in a folder which run of W&B its numbers went to."""
    mode = "offline" if run.offline else "online"
    found = RunOfWandb(run.id, run.project, run.entity or "", run.name or "", run.group or "", run.job_type or "", mode)
    found.write(folder)


def read(path: Path) -> RunOfWandb | None:
    """The run that a mark names; none where it is damaged."""
    found = read_object_if_any(path)
    sent = found.pop("sent", [])
    known = {field.name for field in fields(RunOfWandb)}
    texts = {key: value for key, value in found.items() if isinstance(value, str)}
    if not found.keys() <= known or texts != found or not isinstance(sent, list):
        return None
    return RunOfWandb(**texts, sent=tuple(map(str, sent))) if {"id", "project"} <= texts.keys() else None


def find(folder: Path) -> tuple[RunOfWandb, Path] | None:
    """The run of W&B that a folder's run was tested in, or that is its study's, and the folder that wandb/ is in.

    A study gets a run of its own the first time, in the project and the group of those that it trained.
    """
    folder = folder.resolve()
    if found := read(folder / "test" / MARK):
        return found, folder.parent.parent
    if found := read(folder / MARK):
        return found, folder
    for path in (path for where in OF_STUDIES for path in sorted(folder.glob(f"{where}/test/{MARK}"))):
        if trained := read(path):
            return _study(folder, path.parents[2].name, trained), folder
    return None


def begin_study(folder: Path, corpus: str, loggers: object) -> None:
    """Give a study whose trainings log nothing a run of W&B, if its stage's config has W&B among its loggers."""
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if not isinstance(logger, dict) or not str(logger.get("class_path", "")).endswith("WandbLogger"):
            continue
        if not is_disabled() and read(folder / MARK) is None:
            given = logger.get("init_args") or {}
            project, entity = given.get("project") or "lightning_logs", given.get("entity") or ""
            mode = "offline" if given.get("offline") or not is_online() else "online"
            _study(folder, corpus, RunOfWandb("", project, entity, mode=mode))


def _study(folder: Path, corpus: str, trained: RunOfWandb) -> RunOfWandb:
    name, group = f"{corpus}/{folder.name}", trained.group or folder.name
    study = RunOfWandb(secrets.token_hex(4), trained.project, trained.entity, name, group, "study", trained.mode)
    study.write(folder)
    return study


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
            run.log_artifact(artifact(artifact_name(one.folder, "report"), "report", contents))
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
    found = find(folder)
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
            for place in (folder / "test", folder):  # where the mark of the run lies
                if (there := read(place / MARK)) and there.id == found[0].id:
                    replace(found[0], sent=tuple(sent)).write(place)


def of_one_type(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns are numbers or texts, as W&B wants them."""
    numbers = table.select_dtypes("number")
    return table.astype({key: float if key in numbers else str for key in table})


@contextmanager
def _resumed(folder: Path) -> Iterator["wandb.Run | None"]:
    """The run of W&B of a folder while something is added to it, or None; what W&B refuses is a warning."""
    run = None
    with _harmless(folder):
        found = None if is_disabled() else find(folder)
        run = None if found is None else found[0].resumed(found[1])
    with _harmless(folder):
        yield run
    if run is not None:
        with _harmless(folder):
            run.finish()


@contextmanager
def _harmless(folder: Path) -> Iterator[None]:
    """Make a warning of whatever W&B raises: no failure of the dashboard is worth a report."""
    try:
        yield
    except Exception as error:
        log.warning("%s: its figures were not sent to W&B (%s)", folder, one_line(str(error)))
