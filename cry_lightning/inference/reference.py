"""What `test` finds out on a classifier's own data, for `predict`, and its file beside the checkpoint."""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor

from cry_lightning.console import UserError
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.loader import BatchLoader
from cry_lightning.evaluation.clinical import FEWEST, too_few_to_promise
from cry_lightning.evaluation.metrics import units_at
from cry_lightning.evaluation.predictions import SCORE
from cry_lightning.files import Json, read_object, replacing
from cry_lightning.inference.decisions import Decisions
from cry_lightning.inference.novelty import EMBEDDING, INPUT, Layer, Layers, Novelty, layers_of
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.checkpoints import load_data, load_tensors, sha256

log = logging.getLogger(__name__)
FILE = "reference.pt"  # as `runfolder` has it
SCHEMA = 1
LEVELS = ("clip", "recording")
IN_FOLDER, TENSORS = "reference.json", "reference.safetensors"  # of an exported folder
NONE_THERE = "so that there are no calibrated probabilities, decisions and novelty; "
MAKES_IT = "`test` of its run writes it"
MOST_CLIPS = 2_000  # of the training, in even steps
MOST_VALIDATION_CLIPS = 4_000


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

    @property
    def plain(self) -> Json:
        """All but the tensors, as JSON has it."""
        return {
            "schema": SCHEMA,
            "checkpoint": self.checkpoint,
            "classes": self.classes,
            "n_subjects": self.n_subjects,
            "levels": {
                name: {**asdict(one), "thresholds": list(one.thresholds), "subjects": list(one.subjects)}
                for name, one in self.levels.items()
                if one
            },
        }

    @property
    def remarks(self) -> list[str]:
        """What is not calibrated or decided at each level, and why."""
        at: dict[str, list[str]] = {}
        for level, one in self.levels.items():
            if one and (remark := one.remark(self.classes)):
                at.setdefault(remark, []).append(f"{level}s")
        return [f"{' and '.join(levels)}: {remark}" for remark, levels in at.items()]

    @property
    def doubts(self) -> list[str]:
        """What its thresholds cannot promise, where they decide."""
        known = [one for one in self.levels.values() if one and math.isfinite(one.slope)]
        found = (too_few_to_promise(dict(zip(self.classes, one.subjects, strict=False))) for one in known)
        return [doubt for doubt in dict.fromkeys(found) if doubt]

    def save(self, path: Path) -> None:
        """Write it whole or not at all, as plain data."""
        layers = {name: dict(vars(layer)) for name, layer in self.novelty.layers.items()}
        with replacing(path) as part:
            torch.save(self.plain | {"layers": layers}, part)

    def export(self, folder: Path) -> None:
        """Write it into the folder that its checkpoint was exported to, without a pickle."""
        layers = {name: vars(layer) for name, layer in self.novelty.layers.items()}
        tensors = {f"{name}.{key}": one.contiguous() for name, layer in layers.items() for key, one in layer.items()}
        (folder / TENSORS).write_bytes(save(tensors))
        own = {"checkpoint": sha256(folder), "tensors": sha256(folder / TENSORS), "layers": list(layers)}
        (folder / IN_FOLDER).write_text(json.dumps(self.plain | own, indent=1), encoding="utf-8")


def way_out(checkpoint: Path) -> str:
    """How another reference is made."""
    return "test its run, and export it again" if checkpoint.is_dir() else "test its run again, which writes it"


def beside(checkpoint: Path, classes: list[str] | None) -> Reference | None:
    """The reference of a checkpoint with these classes; none, with a warning, where the file is missing or another's.

    Raises:
        UserError: the file is damaged.
    """
    exported = checkpoint.is_dir()
    path = checkpoint / IN_FOLDER if exported else checkpoint.with_name(FILE)
    missing = NONE_THERE + ("`test` of its run, before it is exported, makes it" if exported else MAKES_IT)
    if not path.exists():
        log.warning("%s: not there, %s", path, missing)
        return None
    again = way_out(checkpoint)
    content = _of_folder(checkpoint, again) if exported else load_data(path, "reference", again)
    try:
        found = _parsed(content)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error}); {again}") from error
    if found.checkpoint != sha256(checkpoint) or found.classes != classes:
        log.warning("%s: of another checkpoint, %s", path, missing)
        return None
    for remark in found.remarks:
        log.warning("%s: %s", path, remark)
    return found


def _of_folder(folder: Path, way_out: str) -> Json:
    """What `Reference.export` has written.

    Raises:
        UserError: a file is missing, damaged, or another's.
    """
    content, path = read_object(folder / IN_FOLDER, way_out), folder / TENSORS
    if not path.is_file() or sha256(path) != content.get("tensors"):
        raise UserError(f"{path}: missing, damaged, or of another reference: {IN_FOLDER} has another hash; {way_out}")
    tensors = load_tensors(path, way_out)
    names = content.get("layers")
    layers: dict[str, dict[str, Tensor]] = {str(name): {} for name in (names if isinstance(names, list) else ())}
    for key, tensor in tensors.items():
        layer, _, name = key.rpartition(".")
        layers.setdefault(layer, {})[name] = tensor
    return content | {"layers": layers}


def _parsed(content: object) -> Reference:
    if not isinstance(content, dict):
        raise TypeError(f"a {type(content).__name__}, and no table")
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']}, where this release reads {SCHEMA}")
    classes = [str(name) for name in content["classes"]]
    levels: dict[str, Decisions | None] = dict.fromkeys(LEVELS)
    for name, given in content["levels"].items():
        thresholds = tuple(float(one) for one in given["thresholds"])
        if len(thresholds) != len(classes):
            raise ValueError(f"{len(thresholds)} thresholds of {len(classes)} classes")
        # Older releases counted no subjects of a class, turned scores around, and rested on as few as there were.
        subjects = tuple(int(n) for n in given.get("subjects", ()))
        trusted = given["slope"] > 0 and (subjects or int(content["n_subjects"]) >= 2 * FEWEST)
        slope = float(given["slope"]) if trusted else math.nan
        one = Decisions(slope, float(given["intercept"]), thresholds, float(given["limit"]), subjects)
        if name not in LEVELS or not 0 < one.limit < math.inf:
            raise ValueError(f"the level {name!r} with the limit {one.limit}")
        levels[name] = one
    layers = {str(name): _layer(given) for name, given in content["layers"].items()}
    first, *_, last = layers
    if (first, last) != (INPUT, EMBEDDING):
        raise ValueError(f"layers from {first} to {last}")
    return Reference(str(content["checkpoint"]), classes, int(content["n_subjects"]), levels, Novelty(layers))


def _layer(given: dict[str, Tensor]) -> Layer:
    layer = Layer(**{name: given[name].float() for name in Layer.__annotations__})
    (rank,), (width,) = layer.variances.shape, layer.mean.shape
    if (
        layer.scale.shape != (width,)
        or layer.directions.shape != (rank, width)
        or layer.rest.ndim
        or layer.typical.ndim
        or not all(torch.isfinite(one).all() for one in vars(layer).values())
    ):
        raise ValueError("the sizes of a layer contradict each other, or it contains NaN or inf")
    return layer


def fitted(stage: Classifier, data: CryDataModule, checkpoint: Path) -> Reference | None:
    """The reference of a classifier, in float32 as `predict` computes; none without training or validation clips.

    Args:
        stage: the classifier, with the weights of the checkpoint.
        data: that it was trained on, set up.
        checkpoint: the file.
    """
    train, val = (
        _some(data.rows(part), most) for part, most in (("train", MOST_CLIPS), ("val", MOST_VALIDATION_CLIPS))
    )
    if not len(train) or not len(val):
        return None
    stage = stage.eval()
    if stage.dtype != torch.float32:  # an SVM has numbers in float64, which stay
        stage = stage.float()
    with torch.inference_mode():
        first = next(_features(stage, data, val))
        names = layers_of(stage.encoder, lambda: stage(first), len(first))
        with Layers(stage.encoder, names) as layers:
            of_training, _ = _passed(stage, data, train, layers)
            of_validation, scores = _passed(stage, data, val, layers)
        pairs = zip([INPUT, *names, EMBEDDING], of_training, of_validation, strict=True)
        novelty = Novelty({name: Layer.of(ours, others) for name, ours, others in pairs})
        table = _table(data, val, scores, novelty(of_validation).numpy())
    levels = {level: _decisions(table, level, data.classes) for level in LEVELS}
    return Reference(sha256(checkpoint), list(data.classes), table["subject"].nunique(), levels, novelty)


def _some(rows: Tensor, most: int) -> Tensor:
    return rows[torch.linspace(0, len(rows) - 1, most).round().long()] if len(rows) > most else rows


def _features(stage: Classifier, data: CryDataModule, rows: Tensor) -> Iterator[Tensor]:
    loader = BatchLoader(data.features, rows, data.labels[rows], data.sampling.batch_size, data.n_frames)
    return (batch["features"].to(stage.device) for batch in loader)


def _passed(stage: Classifier, data: CryDataModule, rows: Tensor, layers: Layers) -> tuple[list[Tensor], np.ndarray]:
    """What the layers have of some rows, (n, D) each, and their scores (n, K)."""
    taken, scores = [], []
    for features in _features(stage, data, rows):
        scores.append(stage.scores(stage(features)).cpu().numpy())
        taken.append([one.cpu() for one in layers.taken()])
    return [torch.cat(of_layer) for of_layer in zip(*taken, strict=True)], np.concatenate(scores)


def _table(data: CryDataModule, rows: Tensor, scores: np.ndarray, novelty: np.ndarray) -> pd.DataFrame:
    clips = [data.clips[row] for row in rows.tolist()]
    table = pd.DataFrame(
        {
            "clip": [clip.name for clip in clips],
            "recording": [clip.path for clip in clips],
            "subject": [clip.subject for clip in clips],
            "label": [clip.label for clip in clips],
            "repeat": 0,
            "fold": 0,
            "novelty": novelty,
        }
    )
    table[[SCORE + name for name in data.classes]] = scores.astype(float) / scores.sum(1, keepdims=True)
    return table


def _decisions(table: pd.DataFrame, level: str, classes: list[str]) -> Decisions | None:
    cases = units_at(level, table).table
    if cases.empty:  # every recording has clips of several labels
        return None
    scores = cases[[SCORE + name for name in classes]].to_numpy()
    truth = cases["label"].map(classes.index).to_numpy()
    novelty = table.groupby(level)["novelty"].mean().loc[cases["unit"]].to_numpy()
    return Decisions.of(scores, truth, novelty, cases["subject"].to_numpy())
