"""Predictions of a model at every point, each in a file of its own and not made again."""

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cry_lightning.console import progress_bar
from cry_lightning.corpora.base import safe_name
from cry_lightning.data.building import ClipBatches
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.predictions import KEYS, score_columns
from cry_lightning.robustness.disturbances import VERSION, Sounds, noise_recordings
from cry_lightning.robustness.models import ModelUnderTest
from cry_lightning.robustness.plan import UNDISTURBED, Point
from cry_lightning.tasks.weights import sha256

log = logging.getLogger(__name__)
BATCH_SIZE = 64  # larger batches leave the processor's cache
CLOSE = 1e-3  # another precision or device changes probabilities by less


def predict(model: ModelUnderTest, points: Sequence[Point], folder: Path) -> list[pd.DataFrame]:
    """The predictions table of the tested clips at each point; a point whose file is in the folder is only read.

    A file's name holds a hash of all that its numbers depend on. The points of a kind are computed, and written,
    together.

    Raises:
        UserError: a clip or a noise recording cannot be decoded.
    """
    files = [folder / safe_name(model.name) / name for name in file_names(model, points)]
    columns = score_columns(model.table)
    for kind in dict.fromkeys(point.kind for point in points):
        of_kind = {file: point for file, point in zip(files, points, strict=True) if point.kind == kind}
        missing = {file: point for file, point in of_kind.items() if not file.exists()}
        for file, scores in zip(missing, _scores(model, list(missing.values())), strict=True):
            table = model.table[[*KEYS]].assign(**dict(zip(columns, scores.T, strict=True)))
            predictions.write(table, file)
    return [predictions.read(file) for file in files]


def file_names(model: ModelUnderTest, points: Sequence[Point]) -> list[str]:
    """`kind_severity-hash.csv` of each point; the undisturbed one is the same for every kind."""
    made_of = [VERSION, sha256(model.trained.path), model.table[[*KEYS]].to_csv(index=False)]
    names = []
    for point in points:
        settings = dict(getattr(point.disturb, "keywords", {}))
        if "folder" in settings:
            settings["folder"] = _noise_digest(Path(settings["folder"]), model.sample_rate)
        described = UNDISTURBED if point.severity == UNDISTURBED else f"{point.kind}_{point.severity}"
        key = hashlib.sha256(json.dumps([*made_of, described, settings]).encode()).hexdigest()
        names.append(f"{safe_name(described)}-{key[:10]}.csv")
    return names


def tell_if_other(model: ModelUnderTest, undisturbed: pd.DataFrame) -> None:
    """Warn where the undisturbed scores are not those of the run's own predictions.csv."""
    columns = score_columns(model.table)
    difference = np.abs(undisturbed[columns].to_numpy() - model.table[columns].to_numpy()).max()
    if difference > CLOSE:
        log.warning(
            "%s: undisturbed, its scores differ by up to %.2g from %s; was that made by another checkpoint, of other"
            " recordings, or in another precision?",
            model.name,
            difference,
            model.run.folder / "predictions.csv",
        )


def _scores(model: ModelUnderTest, points: Sequence[Point]) -> np.ndarray:
    """Probabilities (P, n, K) of the n tested clips at P points; each clip is decoded once."""
    n_clips, sample_rate = len(model.clips), model.sample_rate
    n_heard = round(model.trained.clip_s * sample_rate)
    scores = np.empty((len(points), n_clips, len(model.run.classes)))
    if not points:
        return scores
    bar = progress_bar(desc=f"{model.name}, {points[0].kind}", unit="clip", total=n_clips * len(points))
    clips = ClipBatches(model.corpus, model.clips, **model.trained.fitting)
    with torch.inference_mode(), bar:
        for first in range(0, n_clips, BATCH_SIZE):
            rows = range(first, min(first + BATCH_SIZE, n_clips))
            waveforms = np.stack([clips.waveform(row) for row in rows])
            sounds = Sounds(waveforms, [model.clips[row].name for row in rows], sample_rate, n_heard)
            for of_point, point in zip(scores, points, strict=True):
                of_point[rows.start : rows.stop] = model.scores(point.disturb(sounds))
                bar.update(len(rows))
    return scores


@cache
def _noise_digest(folder: Path, sample_rate: int) -> str:
    digest = hashlib.sha256()
    for recording in noise_recordings(folder, sample_rate):
        digest.update(recording.tobytes())
    return digest.hexdigest()
