"""Fit and test of one point, unless that was done already under the same arguments, weights and data."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import copy
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from cry_lightning import cli
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.errors import UserError
from cry_lightning.evaluation.predictions import replacing
from cry_lightning.label_efficiency.plan import NO_LIMIT, Point
from cry_lightning.runfolder import HARMLESS, differences

MARK = "point.json"  # written last: what the predictions beside it were made from
OF_NO_CONSEQUENCE = (*HARMLESS, "name", "runs", "pipeline")
COMMON = (
    *(f"--data.{key}={value}" for key, value in NO_LIMIT.items()),
    "--trainer.limit_val_batches=0",  # labels that choose a checkpoint would be labels that nobody counts
    "--checkpoint.save_top_k=0",
    "--trainer.devices=1",
    "--trainer.logger=null",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)


@dataclass(frozen=True)
class Study:
    """The stage that all points train, but for what sets them apart."""

    arguments: list[str]  # as `fit` takes them
    config: dict[str, Any]  # the same, resolved
    data: CryDataModule  # set up

    @property
    def corpus(self) -> str:
        """Name of the corpus, and of the folder in a folder of runs."""
        return self.data.corpus.name


@dataclass(frozen=True)
class Subset:
    """The labels that a point trains on."""

    clips: dict[str, int]  # by class
    subjects: dict[str, int]  # by class
    n_subjects: int
    digest: str  # of the part, name, label, subject and sound of every clip


class PlanCLI(cli.StageCLI):
    """Parses as `fit` does, then sets up the data and stops."""

    def before_fit(self) -> None:
        """No run folder is opened."""

    def fit(self, datamodule: CryDataModule, **_: Any) -> None:
        """Build the cache, and divide the clips."""
        datamodule.prepare_data()
        datamodule.setup("fit")

    def after_fit(self) -> None:
        """Nothing was fitted."""


def open_study(arguments: list[str]) -> Study:
    """Resolve the arguments of `fit` and set up the data."""
    arguments = [*arguments, *COMMON]
    with quiet():
        plan = PlanCLI(["fit", *arguments])
    config = yaml.safe_load(plan.dump())
    steps, epochs = config["trainer"]["max_steps"], config["trainer"]["max_epochs"]
    if steps > 0 and epochs == -1:  # of few labels, an epoch is a step or two: too often to write a large encoder
        arguments.append(f"--save_every_n_steps={steps}")
    return Study(arguments, config, plan.datamodule)


def subset(study: Study, point: Point) -> Subset:
    """Count what a point trains on.

    Raises:
        UserError: there are too few clips or groups for it, or no such fold.
    """
    data = copy(study.data)
    setattr(data, point.counted_by, point.amount)
    data.seed = point.seed
    if point.fold is not None:
        if data.split.scheme not in ("kfold", "leave_one_out"):
            raise UserError(f"--folds: {data.split.scheme} has none; set data.split.scheme to kfold or leave_one_out")
        data.split = replace(data.split, fold=point.fold)
    data.parts = data.divide()
    trained = [clip for clip in data.clips_of("train") if clip.label is not None]
    of_class = {name: [clip.subject for clip in trained if clip.label == name] for name in data.classes}
    clips = zip(data.parts.tolist(), data.clips, data.features.content, strict=True)
    rows = [(part, clip.name, clip.label, clip.subject, content) for part, clip, content in clips]
    return Subset(
        clips={name: len(subjects) for name, subjects in of_class.items()},
        subjects={name: len(set(subjects)) for name, subjects in of_class.items()},
        n_subjects=len({clip.subject for clip in trained}),
        digest=hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    )


def made_by(study: Study, point: Point, subset: Subset) -> dict[str, Any]:
    """All that a point's predictions depend on."""
    weights = None
    if point.weights is not None:
        with Path(point.weights).open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
    return {**study.config, "point": point.arguments, "weights_sha256": weights, "data_sha256": subset.digest}


def is_finished(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a run folder holds the predictions of a point made from just this."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    there = all((folder / name).exists() for name in ("predictions.csv", "lineage.json"))
    return there and set(differences(mark, wanted)) <= set(OF_NO_CONSEQUENCE)


def train(study: Study, point: Point, wanted: dict[str, Any], runs: Path) -> None:
    """Fit a point for its fixed length and test its last weights, whatever a killed run has left in its folder."""
    folder = runs / study.corpus / point.name
    own = [*point.arguments, f"--runs={runs}", f"--name={point.name}", "--overwrite=true"]
    (folder / MARK).unlink(missing_ok=True)
    last = folder / "last.ckpt"
    with quiet():
        cli.main(["fit", *study.arguments, *own])
        cli.main(["test", "--config", str(folder / "config.yaml"), "--ckpt_path", str(last)])
    with replacing(folder / MARK) as part:
        part.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    last.unlink()  # hundreds of points of a large encoder would fill a disk; config.yaml makes it again


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what each fit and test has to say from the terminal, but for warnings."""
    logging.disable(logging.INFO)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
