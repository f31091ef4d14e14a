"""Many fits and tests of one stage, none of which is run twice."""

import gc
import hashlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import torch
import yaml
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from cry_lightning.cli import stage as cli
from cry_lightning.cli.process import quiet
from cry_lightning.cli.runfolder import BEST, HARMLESS, TESTED, differences, made_from
from cry_lightning.commands.arguments import Overrides, as_arguments
from cry_lightning.console import Interrupted, UserError, first_few, followed, log_line, stopped_by_signals
from cry_lightning.corpora import Corpus, Union
from cry_lightning.corpora.synthetic import SyntheticCorpus
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.files import MADE_FROM, Config, Json, read_object, read_object_if_any, write_json
from cry_lightning.files.former_names import as_now, key_as_now
from cry_lightning.tasks.checkpoints import sha256

STOPPED = "stopped; the same command goes on with the study"  # and with this training, where its last.ckpt was written
MARK = "made_of.json"  # written last: what the predictions beside it were made of
IGNORED = (*HARMLESS, "name", "runs", "pipeline", "trainer.logger", "map_every_n_epochs")
OPTION = re.compile(r"(?<=^--)[\w.]+(?==)")
WITHOUT_BARS = {"trainer.enable_progress_bar": False, "trainer.enable_model_summary": False}
GRACE_S = 5.0  # for processes to end of themselves
STOPS: list[BaseException] = []  # what has stopped this one of several processes
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class StageConfig:
    """A stage: its YAML, and what takes the place of values in it."""

    path: str
    changes: tuple[str, ...] = ()  # arguments of `fit`, of which later ones win
    name: str = ""  # by which a recipe knows it

    def changed(self, *changes: Overrides) -> "StageConfig":
        """The stage with further changes: dotted keys and their values, or arguments of `fit`."""
        return replace(self, changes=(*self.changes, *(text for each in changes for text in as_arguments(each))))

    @property
    def arguments(self) -> list[str]:
        """All of it, as `fit` takes it."""
        return ["--config", self.path, *self.changes]


@dataclass(frozen=True)
class Study:
    """The stage that trainings share, but for what sets them apart."""

    stage: StageConfig
    config: Config  # the whole of it, resolved
    data: CryDataModule
    has_test: bool = True  # pretrainings have none
    loggers: object = None  # of the stage, where those who train it leave them out

    @property
    def corpus(self) -> str:
        """Name of the corpus, and of the folder in a folder of runs."""
        return self.data.corpus.name


class Stages:
    """Stages that are read, and then set up, once each, however many studies train them."""

    def __init__(self) -> None:
        self.read = cache(read_study)
        self.open = cache(lambda stage: set_up(self.read(stage)))


def read_study(stage: StageConfig) -> Study:
    """Resolve a stage's config, and check that the recordings that it names are there; nothing is written.

    Raises:
        UserError: the config has a mistake, or a corpus or a folder of noise is not there.
    """
    tasks = int(os.environ["SLURM_NTASKS"]) if SLURMEnvironment.detect() else 1
    if tasks > 1 or TorchElasticEnvironment.detect():
        started = f"give srun one task, not {tasks}" if tasks > 1 else "leave torchrun out"
        raise UserError(f"a study starts the processes of its trainings itself (trainer.devices); {started}")
    with quiet(), naming(stage.name):
        read = cli.ReadCLI(["fit", *stage.arguments])
    study = Study(stage, yaml.safe_load(read.dump()), read.datamodule, read.has_test)
    with naming(study.config["name"]):
        read.model.check_inputs()
        for data in filter(None, (study.data, study.data.probe)):
            check_there(data.corpus)
    return study


def set_up(study: Study) -> Study:
    """The stage with its cache built and its clips divided.

    Raises:
        UserError: they cannot be.
    """
    with quiet(), naming(study.config["name"]):
        study.data.prepare_data()
        study.data.setup("fit")
    return study


def open_study(stage: StageConfig) -> Study:
    """Both of these."""
    return set_up(read_study(stage))


@contextmanager
def naming(stage: str) -> Iterator[None]:
    """Begin a user's mistake with the name of the stage that has it, if it has one."""
    try:
        yield
    except UserError as error:
        if not stage or str(error).startswith("stage "):
            raise
        raise UserError(f"stage {stage}: {error}") from error


def check_there(corpus: Corpus) -> None:
    """Refuse a corpus whose recordings are not on this disk; synthetic ones are rendered when they are wanted.

    Raises:
        UserError: naming the folder or file.
    """
    for one in corpus.members.values() if isinstance(corpus, Union) else [corpus]:
        if isinstance(one, Union):
            check_there(one)
        elif not isinstance(one, SyntheticCorpus) and not one.root.exists():
            raise UserError(
                f"corpus {one.name}: {one.root}: no such file or folder; `python -m cry_lightning download` lists what"
                " can be had, and data.corpus names what you have"
            )


def redivided(data: CryDataModule, **changes: object) -> CryDataModule:
    """The same data with some attributes changed, and divided anew.

    Raises:
        UserError: it cannot be divided so.
    """
    changed = copy(data)
    for name, value in changes.items():
        setattr(changed, name, value)
    changed.parts = changed.divide()
    return changed


def digest(data: CryDataModule) -> str:
    """SHA-256 of the part, name, label, subject and sound of every clip."""
    clips = zip(data.parts.tolist(), data.clips, data.features.content, strict=True)
    rows = [(part, clip.name, clip.label, clip.subject, content) for part, clip, content in clips]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def start(study: Study, weights: str | None) -> str | None:
    """SHA-256 of the checkpoint that a training starts from: the one given, or else the one in its YAML, if any."""
    weights = weights or study.config["model"]["init_args"].get("weights")
    return sha256(weights) if weights else None


def is_begun(file: Path, wanted: Json) -> bool:
    """Whether a study's folder holds this very study, as its file (JSON) tells; `wanted["stages"]` are its configs.

    Raises:
        UserError: it holds another.
    """
    if not file.exists():
        return False
    if changed := consequential(read_object(file, f"remove {file.parent}, or give another --out"), wanted):
        raise UserError(
            f"{file.parent} holds a study with other settings ({first_few(changed, 5)}); go on with those, or give"
            " another --out"
        )
    return True


def consequential(provenance: Json, wanted: Json) -> list[str]:
    """The keys in which they differ, less those that no prediction depends on."""
    keys = differences(_as_now(provenance), wanted)
    return [key for key in keys if re.sub(r"^stages\.\d+\.", "", key) not in IGNORED]


def _as_now(saved: object) -> object:
    """What a study has saved of configs and options, as this release saves it."""
    if isinstance(saved, list):
        return [_as_now(one) for one in saved]
    if isinstance(saved, dict):
        return {key: _as_now(value) for key, value in as_now(saved).items()}
    return OPTION.sub(lambda key: key_as_now(key[0]), saved) if isinstance(saved, str) else saved


def is_finished(folder: Path, wanted: Json, files: Sequence[str] = TESTED) -> bool:
    """Whether a run folder holds these files, made of just this."""
    there = all((folder / name).exists() for name in files)
    return there and not consequential(read_object_if_any(folder / MARK), wanted)


def run_stage(study: Study, changes: Overrides, folder: Path, wanted: Json, tested: str | None = None) -> Path:
    """Fit a stage with some changes, and test it, unless a run that was made of just this is finished in the folder.

    Args:
        study: the stage.
        changes: what sets this training apart.
        folder: its run folder, RUNS/CORPUS/NAME, which is returned.
        wanted: what it is made of.
        tested: the checkpoint to test, best.ckpt or last.ckpt; none is by default.
    """
    if not is_finished(folder, wanted, TESTED if tested else (BEST,)):
        train(study, changes, folder, wanted, tested)
    return folder


def train(study: Study, changes: Overrides, folder: Path, wanted: Json, tested: str | None = None) -> None:
    """Do that, whatever a killed run has left in the folder."""
    (folder / MARK).unlink(missing_ok=True)
    log_line(f"{folder}: training begins")
    settled = {"trainer.precision": study.config["trainer"]["precision"]}  # as it is recorded, on whatever machine
    place = {"runs": folder.parent.parent, "name": folder.name, "overwrite": True}
    beside = {key: value for key, value in wanted.items() if key != "stages" and value != study.config.get(key)}
    told = made_from.set(json.dumps(beside, sort_keys=True))  # what is begun there goes on only where it is of the same
    try:
        with quiet(), stopped_by_signals():
            cli.main(["fit", *study.stage.changed(settled, changes, place).arguments], alone=True)
            if tested:
                test(folder, tested)
    except Interrupted as stop:
        raise Interrupted(stop.number, f"{folder}: {STOPPED}") from stop
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{folder}: {STOPPED}") from stop
    finally:
        made_from.reset(told)
    write_json(wanted, folder / MARK)
    (folder / MADE_FROM).unlink(missing_ok=True)
    gc.collect()  # a Trainer and its network hold each other, and large ones would pile up


def test(folder: Path, checkpoint: str = BEST) -> None:
    """Test a checkpoint of a run of the study's, on one device."""
    config = folder / "config.yaml"
    place = ["--config", str(config), "--ckpt_path", str(folder / checkpoint)]
    one = one_device(yaml.safe_load(config.read_text(encoding="utf-8")))
    with quiet():
        cli.main(["test", *place, *as_arguments(one), "--trainer.num_nodes=1"], own=True)


def one_device(config: Config) -> Json:
    """The change that has a stage use one device: the first of those that it names, or any."""
    devices = (config.get("trainer") or {}).get("devices")
    if isinstance(devices, str) and (named := re.match(r"(\d+)\s*,", devices)):  # as Lightning takes them
        devices = [int(named[1])]
    return {"trainer.devices": devices[:1] if isinstance(devices, list) else 1}


def side_by_side(
    function: Callable[[T], R], items: Sequence[T], jobs: int, desc: str = "", unit: str = ""
) -> Iterator[R]:
    """The function's result of each item in their order, some at a time, each in a process with its share of the cores.

    Ctrl-C, or a scheduler's signal, ends them all, and so does the end of this process, whatever ended it.

    Args:
        function: of one item; with several jobs it must be picklable, as the items must be.
        items: what it is called on.
        jobs: how many at a time; one is done in this process.
        desc: what the progress bar, or each line in a log file, shows; there are none without it.
        unit: what an item is.
    """
    shown = partial(followed, desc=desc, total=len(items), unit=unit) if desc else iter
    if jobs == 1 or len(items) < 2:
        yield from shown(map(function, items))
        return
    with stopped_by_signals(), ProcessPoolExecutor(jobs, get_context("spawn"), begin, (jobs,)) as pool:
        try:
            yield from shown(pool.map(partial(unless_stopped, function), items))
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            end(pool)
            raise


def begin(jobs: int) -> None:
    """Give each of several processes its share of the cores, and have it end with the process that started it."""
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Stop this process as a scheduler would when the one that started it is gone, which may have been killed."""
    if (parent := parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(1)  # it has stopped training by now, and waits for work that nobody gives


def unless_stopped(function: Callable[[T], R], item: T) -> R:
    """The function's result; a process that was stopped once does nothing more, though items wait in it already."""
    if STOPS:
        raise STOPS[0]
    try:
        return function(item)
    except (KeyboardInterrupt, SystemExit) as stop:
        STOPS.append(stop)
        raise


def end(pool: ProcessPoolExecutor) -> None:
    """End its processes, which a terminal's Ctrl-C has reached, too; another Ctrl-C leaves them no time for that."""
    workers = [*pool._processes.values()]
    pool.shutdown(wait=False, cancel_futures=True)
    try:
        join(workers)
        for worker in workers:
            worker.terminate()
        join(workers)
    finally:
        for worker in workers:
            worker.kill()


def join(workers: Sequence[BaseProcess]) -> None:
    """Wait for processes to end, for `GRACE_S` at most."""
    until = time.monotonic() + GRACE_S
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
