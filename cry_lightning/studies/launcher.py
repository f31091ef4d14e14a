"""Work of a study as jobs of a scheduler, by submitit: one for each fold."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, TypeVar

import yaml

from cry_lightning.console import UserError, followed, one_line

if TYPE_CHECKING:
    from submitit import Executor, Job

T = TypeVar("T")
R = TypeVar("R")


def submitted(
    function: Callable[[T], R], items: Sequence[T], launcher: str, folder: Path, desc: str = "", unit: str = ""
) -> Iterator[R]:
    """The function's result of each item in their order, each computed in a job of its own.

    Args:
        function: of one item; both must be picklable.
        items: what it is called on.
        launcher: "submitit", or "submitit:timeout_min=240,slurm_partition=gpu" with parameters of submitit's.
        folder: of the jobs' logs, which all machines must see.
        desc: what the progress bar shows.
        unit: what an item is.

    Raises:
        UserError: a job failed, or cannot be submitted.
    """
    executor = executor_of(launcher, folder)
    try:
        jobs = executor.map_array(function, list(items))
    except Exception as refusal:  # of submitit, or of the scheduler that it calls
        raise UserError(f"--launcher {launcher}: cannot be submitted ({one_line(reason(refusal))})") from refusal
    yield from followed(map(partial(result_of, unit=unit), jobs), desc, len(jobs), unit)


def result_of(job: "Job[R]", unit: str) -> R:
    """What a job returns, which is waited for."""
    if (error := job.exception()) is not None:
        raise UserError(
            f"{unit} in job {job.job_id}: {reason(error)}; see {job.paths.stderr}, then give the same command again"
        )
    return job.result()


def reason(error: Exception) -> str:
    """The last line of the traceback that submitit puts between rules, or of all that it says."""
    parts = re.split(r"^-{5,}$", str(error), flags=re.MULTILINE)
    lines = parts[min(1, len(parts) - 1)].split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), type(error).__name__)


def executor_of(launcher: str, folder: Path) -> "Executor":
    """The executor that a text names.

    Raises:
        UserError: there is no such one, no submitit, or no scheduler.
    """
    name, _, text = launcher.partition(":")
    if name != "submitit":
        raise UserError(f"--launcher {launcher}: it is submitit, or submitit:NAME=VALUE,NAME=VALUE")
    try:
        import submitit
    except ImportError as error:
        raise UserError("--launcher submitit: is not installed; pip install 'cry_lightning[cluster]'") from error
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    if odd := [key for key, equals, _ in pairs if not equals]:
        raise UserError(f"--launcher {launcher}: {odd[0]} has no value; give NAME=VALUE,NAME=VALUE")
    try:
        parameters = {key: yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError as error:
        raise UserError(f"--launcher {launcher}: a value is not YAML ({one_line(str(error))})") from error
    cluster = parameters.pop("cluster", "slurm")
    if cluster == "slurm" and not which("sbatch"):
        raise UserError(
            "--launcher submitit: there is no SLURM here (no sbatch); --jobs N trains some folds at a time,"
            " submitit:cluster=local all at once"
        )
    try:
        executor = submitit.AutoExecutor(folder / "%j", cluster=cluster)
        executor.update_parameters(**{"timeout_min": 24 * 60} | parameters)
    except Exception as error:
        raise UserError(f"--launcher {launcher}: {' '.join(str(error).split()) or type(error).__name__}") from error
    return executor
