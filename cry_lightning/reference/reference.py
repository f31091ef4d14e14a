"""The file of a reference, beside the checkpoint that it belongs to."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cry_lightning.console import UserError
from cry_lightning.files import replacing
from cry_lightning.reference.decisions import Decisions
from cry_lightning.reference.novelty import Layer, Novelty
from cry_lightning.tasks.weights import load_data, sha256

log = logging.getLogger(__name__)
FILE = "reference.pt"  # as `runfolder` has it
SCHEMA = 1
LEVELS = ("clip", "recording")
NONE_THERE = "so that there are no calibrated probabilities, decisions and novelty; "
NONE_THERE = "so that there are no calibrated probabilities, decisions and novelty; "
WAY_OUT = "run the test of its run again, which writes it"


@dataclass(frozen=True)
class Reference:
    """What the training and validation clips of a classifier say of others.

    Args:
        checkpoint: SHA-256 of the file that holds the classifier.
        classes: in the order of its logits.
        n_subjects: of the validation.
        levels: what is decided on clips, and on recordings (the means of their clips); None where none has one label.
        novelty: of clips.
    """

    checkpoint: str
    classes: list[str]
    n_subjects: int
    levels: dict[str, Decisions | None]
    novelty: Novelty

    def save(self, path: Path) -> None:
        """Write it whole or not at all, as plain data."""
        content = {
            "schema": SCHEMA,
            "checkpoint": self.checkpoint,
            "classes": self.classes,
            "n_subjects": self.n_subjects,
            "levels": {
                name: {**asdict(one), "thresholds": list(one.thresholds)} for name, one in self.levels.items() if one
            },
            "layers": {name: dict(vars(layer)) for name, layer in self.novelty.layers.items()},
        }
        with replacing(path) as part:
            torch.save(content, part)


def beside(checkpoint: Path, classes: list[str] | None) -> Reference | None:
    """The reference of a checkpoint with these classes; none, with a warning, where the file is missing or another's.

    Raises:
        UserError: the file is damaged.
    """
    if checkpoint.is_dir():
        log.warning("%s: an exported folder, %s", checkpoint, NONE_THERE + "use best.ckpt of its run for them")
        return None
    path = checkpoint.with_name(FILE)
    missing = NONE_THERE + "`test` of its run writes it"
    if not path.exists():
        log.warning("%s: not there, %s", path, missing)
        return None
    content = load_data(path, "reference", WAY_OUT)
    try:
        found = _parsed(content)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error}); {WAY_OUT}") from error
    if found.checkpoint != sha256(checkpoint) or found.classes != classes:
        log.warning("%s: of another checkpoint, %s", path, missing)
        return None
    return found


def _parsed(content: dict[str, Any]) -> Reference:
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']}, where this release reads {SCHEMA}")
    classes = [str(name) for name in content["classes"]]
    levels: dict[str, Decisions | None] = dict.fromkeys(LEVELS)
    for name, given in content["levels"].items():
        thresholds = tuple(float(one) for one in given["thresholds"])
        if len(thresholds) != len(classes):
            raise ValueError(f"{len(thresholds)} thresholds of {len(classes)} classes")
        levels[name] = Decisions(float(given["slope"]), float(given["intercept"]), thresholds, float(given["limit"]))
    layers = {str(name): _layer(given) for name, given in content["layers"].items()}
    return Reference(str(content["checkpoint"]), classes, int(content["n_subjects"]), levels, Novelty(layers))


def _layer(given: dict[str, Tensor]) -> Layer:
    layer = Layer(**{name: given[name].float() for name in Layer.__annotations__})
    (rank,), (width,) = layer.variances.shape, layer.mean.shape
    if (
        layer.scale.shape != (width,)
        or layer.directions.shape != (rank, width)
        or layer.rest.ndim
        or layer.typical.ndim
    ):
        raise ValueError("the sizes of a layer contradict each other")
    return layer
