"""Fitting a reference to the clips that a classifier was trained and validated on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.loader import BatchLoader
from cry_lightning.evaluation.metrics import units_at
from cry_lightning.inference.reference.decisions import Decisions
from cry_lightning.inference.reference.novelty import EMBEDDING, INPUT, Layer, Layers, Novelty, layers_of
from cry_lightning.inference.reference.reference import LEVELS, Reference
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.checkpoints import sha256

MOST_CLIPS = 2_000  # of the training, in even steps
MOST_VALIDATION_CLIPS = 4_000


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
    table[[f"score_{name}" for name in data.classes]] = scores.astype(float) / scores.sum(1, keepdims=True)
    return table


def _decisions(table: pd.DataFrame, level: str, classes: list[str]) -> Decisions | None:
    cases = units_at(level, table).table
    if cases.empty:  # every recording has clips of several labels
        return None
    scores = cases[[f"score_{name}" for name in classes]].to_numpy()
    truth = cases["label"].map(classes.index).to_numpy()
    novelty = table.groupby(level)["novelty"].mean().loc[cases["unit"]].to_numpy()
    return Decisions.of(scores, truth, novelty, cases["subject"].to_numpy())
