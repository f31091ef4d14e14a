"""Work of a study as jobs of a scheduler, by submitit: one for each fold."""

import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, TypeVar, cast

import yaml

from cry_lightning.console import Interrupted, UserError, counted, followed, one_line, stopped_by_signals
from cry_lightning.files import read_object_if_any, write_json

if TYPE_CHECKING:
    from subprocess import Popen

    from submitit import AutoExecutor, Job

T = TypeVar("T")
R = TypeVar("R")
SUBMITTED = "submitted.json"  # the jobs of the items, by cluster
GRACE_S = 10.0  # for processes to end of themselves

log = logging.getLogger(__name__)


def submitted(
    function: Callable[[T], R], items: Mapping[str, T], launcher: str, folder: Path, desc: str = "", unit: str = ""
) -> Iterator[R]:
    """The function's result of each item in their order, each computed in a job of its own.

    A job of an earlier command that is still under way is waited for, and not submitted again.

    Args:
        function: of one item; both must be picklable.
        items: what it is called on, by name.
        launcher: "submitit", or "submitit:timeout_min=240,slurm_partition=gpu" with parameters of submitit's.
        folder: of the jobs' logs, which all machines must see.
        desc: what the progress bar shows.
        unit: what an item is.

    Raises:
        UserError: a job failed, or cannot be submitted.
        Interrupted: a scheduler's signal has come; SLURM's jobs go on, those of this machine are stopped.
        KeyboardInterrupt: likewise, by Ctrl-C.
    """
    executor = executor_of(launcher, folder)
    jobs: dict[str, Job[R]] = under_way(executor, items)
    if jobs:
        log.info("%s submitted before and still under way: waiting", in_words(jobs.values()))
    new = [name for name in items if name not in jobs]
    with undisturbed():
        try:
            jobs |= zip(new, executor.map_array(function, [items[name] for name in new]) if new else (), strict=True)
        except Exception as refusal:  # of submitit, or of the scheduler that it calls
            raise UserError(f"--launcher {launcher}: cannot be submitted ({one_line(reason(refusal))})") from refusal
        ids = {name: job.job_id for name, job in jobs.items()}
        write_json({executor.cluster: ids}, executor.folder / SUBMITTED)
    try:
        with stopped_by_signals():
            yield from followed((result_of(jobs[name], unit) for name in items), desc, len(items), unit)
    except Interrupted as stop:
        raise Interrupted(stop.number, stop.message + let_go(executor, jobs.values())) from stop
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) + let_go(executor, jobs.values())) from stop


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C here, lest jobs are not written down, and in processes that are started, as it reaches them too."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before)


def under_way(executor: "AutoExecutor", names: Iterable[str]) -> "dict[str, Job[R]]":
    """The jobs of these items that an earlier command has submitted, and that wait or run.

    Raises:
        UserError: SLURM does not say what waits or runs.
    """
    import submitit

    ids = read_object_if_any(executor.folder / SUBMITTED).get(executor.cluster)
    known = {name: str(ids[name]) for name in names if name in ids} if isinstance(ids, dict) else {}
    if executor.cluster == "slurm":
        queue = queued() if known else []
        return {name: submitit.SlurmJob(executor.folder, number) for name, number in known.items() if number in queue}
    processes = {name: Elsewhere(int(number), executor.folder) for name, number in known.items() if number.isdecimal()}
    return {
        name: submitit.LocalJob(executor.folder, known[name], process=cast("Popen[bytes]", process))
        for name, process in processes.items()
        if process.poll() is None
    }


def queued() -> list[str]:
    """The user's jobs that SLURM has waiting or running, each of an array by itself."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        reason = one_line(str(getattr(error, "stderr", "") or error))
        raise UserError(
            f"squeue does not say which jobs are under way ({reason}); give the same command again"
        ) from error


class Elsewhere:
    """A job's process on this machine, which another command has started, as submitit asks after it."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid = pid
        self.folder = folder

    def poll(self) -> int | None:
        """None while it runs."""
        with suppress(OSError):
            os.kill(self.pid, 0)
            command = Path(f"/proc/{self.pid}/cmdline")  # the number may be another process's by now
            if not command.exists() or os.fsencode(self.folder) in command.read_bytes():
                return None
        return 0


def let_go(executor: "AutoExecutor", jobs: Iterable["Job[object]"]) -> str:
    """Stop jobs on this machine, as nobody else manages them; what goes on all the same, as the end of a message."""
    left = [job for job in jobs if not job.done()]
    until = time.monotonic() + GRACE_S
    while executor.cluster == "local" and left and time.monotonic() < until:
        for job in left:  # again and again, as submitit has it ignored but for trainings and tests
            with suppress(OSError):
                os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(0.5)
        left = [job for job in left if not job.done()]
    if not left:
        return ""
    seen, ended = ("squeue --me", "scancel") if executor.cluster == "slurm" else ("ps", "kill")
    numbers = " ".join(numbers_of(left))
    return f", and waits for {in_words(left)} still under way (`{seen}` shows, `{ended} {numbers}` ends them)"


def in_words(jobs: Iterable["Job[object]"]) -> str:
    """How many jobs, in words, with the scheduler's number of each, or of all that were submitted together."""
    jobs = list(jobs)
    return f"{counted(len(jobs), 'job')} ({', '.join(numbers_of(jobs))})"


def numbers_of(jobs: Iterable["Job[object]"]) -> list[str]:
    """The scheduler's numbers, of an array one."""
    return sorted({str(job.job_id).partition("_")[0] for job in jobs})


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


def executor_of(launcher: str, folder: Path) -> "AutoExecutor":
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
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**{"timeout_min": 24 * 60} | parameters)
    except Exception as error:
        raise UserError(f"--launcher {launcher}: {' '.join(str(error).split()) or type(error).__name__}") from error
    return executor
