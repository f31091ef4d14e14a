"""Many fits and tests of one stage, none of which is run twice."""

import gc
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import copy
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from cry_lightning import cli
from cry_lightning.console import UserError
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.files import read_object, replacing
from cry_lightning.runfolder import HARMLESS, TESTED, differences
from cry_lightning.tasks.weights import sha256

MARK = "made_of.json"  # written last: what the predictions beside it were made of
OF_NO_CONSEQUENCE = (*HARMLESS, "name", "runs", "pipeline", "trainer.logger")
WITHOUT_BARS = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")


@dataclass(frozen=True)
class Study:
    """The stage that all trainings share, but for what sets them apart."""

    arguments: list[str]  # as `fit` takes them
    config: dict[str, Any]  # the same, resolved
    data: CryDataModule  # set up
    has_test: bool = True  # pretrainings have none

    @property
    def corpus(self) -> str:
        """Name of the corpus, and of the folder in a folder of runs."""
        return self.data.corpus.name


class ReadCLI(cli.StageCLI):
    """Parses as `fit` does, and stops."""

    def before_fit(self) -> None:
        """No run folder is opened."""

    def fit(self, **_: Any) -> None:
        """Nothing is fitted."""

    def after_fit(self) -> None:
        """Nothing was fitted."""


class PlanCLI(ReadCLI):
    """Parses as `fit` does, then sets up the data and stops."""

    def fit(self, datamodule: CryDataModule, **_: Any) -> None:
        """Build the cache, and divide the clips."""
        datamodule.prepare_data()
        datamodule.setup("fit")


def open_study(arguments: Sequence[str]) -> Study:
    """Resolve the arguments of `fit` and set up the data."""
    with quiet():
        plan = PlanCLI(["fit", *arguments])
    return Study(list(arguments), yaml.safe_load(plan.dump()), plan.datamodule, plan.has_test)


def redivided(data: CryDataModule, **changes: Any) -> CryDataModule:
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


def is_begun(file: Path, wanted: dict[str, Any]) -> bool:
    """Whether a study's folder holds this very study, as its file (JSON) tells; `wanted["stages"]` are its configs.

    Raises:
        UserError: it holds another.
    """
    if not file.exists():
        return False
    if changed := consequential(read_object(file, f"remove {file.parent}, or give another --out"), wanted):
        raise UserError(
            f"{file.parent} holds a study with other settings ({', '.join(changed[:5])}); go on with those, or give"
            " another --out"
        )
    return True


def consequential(provenance: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The keys in which they differ, less those that no prediction depends on."""
    keys = differences(provenance, wanted)
    return [key for key in keys if re.sub(r"^stages\.\d+\.", "", key) not in OF_NO_CONSEQUENCE]


def mark(file: Path, provenance: dict[str, Any]) -> None:
    """Say in a folder, as JSON, what its study or its predictions are made of."""
    with replacing(file) as part:
        part.write_text(json.dumps(provenance, indent=1), encoding="utf-8")


def is_finished(folder: Path, wanted: dict[str, Any], files: Sequence[str] = TESTED) -> bool:
    """Whether a run folder holds these files, made of just this."""
    try:
        provenance = read_object(folder / MARK, "")
    except UserError:  # none yet, or a damaged one: trained again
        return False
    return all((folder / name).exists() for name in files) and not consequential(provenance, wanted)


def train(study: Study, own: Sequence[str], folder: Path, wanted: dict[str, Any], tested: str | None = None) -> None:
    """Fit one training, and test it, whatever a killed run has left in its folder.

    Args:
        study: what it shares with the others.
        own: its own arguments.
        folder: its run folder, RUNS/CORPUS/NAME.
        wanted: what it is made of.
        tested: the checkpoint to test, best.ckpt or last.ckpt; none is by default.
    """
    (folder / MARK).unlink(missing_ok=True)
    where = [f"--runs={folder.parent.parent}", f"--name={folder.name}", "--overwrite=true"]
    with quiet():
        cli.main(["fit", *study.arguments, *own, *where])
        if tested:
            cli.main(["test", "--config", str(folder / "config.yaml"), "--ckpt_path", str(folder / tested)], own=True)
    mark(folder / MARK, wanted)
    gc.collect()  # a Trainer and its network hold each other, and large ones would pile up


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what each fit and test has to say from the terminal, but for warnings."""
    logging.disable(logging.INFO)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
