"""What the points of a study train on, and one of them trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cry_lightning import studies
from cry_lightning.console import UserError
from cry_lightning.label_efficiency.plan import NO_LIMIT, Point
from cry_lightning.studies import WITHOUT_BARS, Study
from cry_lightning.tasks.weights import sha256

COMMON = (
    *(f"--data.{key}={value}" for key, value in NO_LIMIT.items()),
    "--trainer.limit_val_batches=0",  # labels that choose a checkpoint would be labels that nobody counts
    "--checkpoint.save_top_k=0",
    "--trainer.devices=1",
    "--trainer.logger=null",
    *WITHOUT_BARS,
)


@dataclass(frozen=True)
class Subset:
    """The labels that a point trains on."""

    clips: dict[str, int]  # by class
    subjects: dict[str, int]  # by class
    n_subjects: int
    digest: str  # of the part, name, label, subject and sound of every clip


def open_study(arguments: Sequence[str]) -> Study:
    """Resolve the arguments of `fit`, with those that all points share, and set up the data.

    Raises:
        UserError: the stage has no test.
    """
    study = studies.open_study([*arguments, *COMMON])
    if not study.has_test:
        raise UserError("--config: this stage is a pretraining, which no labels enter: give one that is fine-tuned")
    steps, epochs = study.config["trainer"]["max_steps"], study.config["trainer"]["max_epochs"]
    if steps > 0 and epochs == -1:  # of few labels, an epoch is a step or two: too often to write a large encoder
        study.arguments.append(f"--save_every_n_steps={steps}")
    return study


def subset(study: Study, point: Point) -> Subset:
    """Count what a point trains on.

    Raises:
        UserError: there are too few clips or groups for it, or no such fold.
    """
    split = study.data.split
    if point.fold is not None:
        if split.scheme not in ("kfold", "leave_one_out"):
            raise UserError(f"--folds: {split.scheme} has none; set data.split.scheme to kfold or leave_one_out")
        split = replace(split, fold=point.fold)
    data = studies.redivided(study.data, split=split, seed=point.seed, **{point.counted_by: point.amount})
    trained = [clip for clip in data.clips_of("train") if clip.label is not None]
    of_class = {name: [clip.subject for clip in trained if clip.label == name] for name in data.classes}
    return Subset(
        clips={name: len(subjects) for name, subjects in of_class.items()},
        subjects={name: len(set(subjects)) for name, subjects in of_class.items()},
        n_subjects=len({clip.subject for clip in trained}),
        digest=studies.digest(data),
    )


def made_by(study: Study, point: Point, subset: Subset) -> dict[str, Any]:
    """All that a point's predictions depend on."""
    weights = sha256(point.weights) if point.weights else None
    return {**study.config, "point": point.arguments, "weights_sha256": weights, "data_sha256": subset.digest}


def train(study: Study, point: Point, wanted: dict[str, Any], runs: Path) -> None:
    """Fit a point for its fixed length and test its last weights."""
    folder = runs / study.corpus / point.name
    studies.train(study, point.arguments, folder, wanted, tested="last.ckpt")
    (folder / "last.ckpt").unlink()  # hundreds of a large encoder would fill a disk; config.yaml makes it again
