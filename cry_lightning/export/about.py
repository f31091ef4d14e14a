"""What a user of an exported model must know of it, beside its numbers."""

import hashlib
import json
from typing import Required, TypedDict, cast

import numpy as np

import cry_lightning
from cry_lightning.audio import Fit
from cry_lightning.evaluation.run import read_run
from cry_lightning.export.graph import WaveformModel
from cry_lightning.files import Json
from cry_lightning.inference.model import TrainedStage
from cry_lightning.lineage import FILE, FoldedLineage, read
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.checkpoints import identity_of, sha256

NOT_TESTED = "NOT TESTED"
NOT_STATED = "not stated"
RESAMPLING = "soxr HQ"  # what `audio` resamples by; other filters give a network other bands near the edge


class Decision(TypedDict):
    """What windows are calibrated and decided by."""

    slope: float
    intercept: float
    thresholds: dict[str, float]  # of each class
    subjects: int  # that these were chosen on
    subjects_of: dict[str, int]  # each class


class About(TypedDict, total=False):
    """Texts, numbers and tables by their names; `docs/export.md` lists them."""

    producer: Required[str]
    sample_rate: Required[int]
    resampling: Required[str]
    window_samples: Required[int]
    hop_samples: Required[int]
    length: Required[str]
    fit: Required[Fit]
    min_active_db: float
    outputs: Required[list[str]]
    embedding_size: Required[int]
    front_end: Json
    checkpoint_sha256: Required[str]
    lineage: Required[str]
    lineage_sha256: Required[str]
    licence: Required[str]
    synthetic: str
    classes: list[str]
    calibrated: bool
    decision: Decision


def describe(trained: TrainedStage, model: WaveformModel, licence: str | None) -> About:
    """Texts, numbers and tables by their names; `docs/export.md` lists them."""
    stage, rate = trained.stage, trained.feature.sample_rate
    hop_s = trained.cutting["hop_s"]
    front_end = identity_of(stage.front_end or trained.feature)
    known: Json = {
        "producer": f"cry_lightning {cry_lightning.__version__}",
        "sample_rate": rate,
        "resampling": RESAMPLING,
        "window_samples": model.window,
        "hop_samples": model.window if hop_s is None else round(hop_s * rate),
        "length": "window_samples or more" if model.takes_any_length else "window_samples",
        "fit": model.fit,
        "min_active_db": trained.cutting["min_active_db"],
        "outputs": model.outputs,
        "embedding_size": stage.num_features,
        "front_end": json.loads(front_end) if front_end else None,
        "checkpoint_sha256": sha256(trained.path),
        "lineage": status_of(trained),
        "lineage_sha256": hashlib.sha256(json.dumps(trained.lineage.as_dict()).encode()).hexdigest(),
        "licence": licence or NOT_STATED,
        "synthetic": trained.synthetic or None,
    }
    if model.classes and isinstance(stage, Classifier):
        known |= {"classes": model.classes, "calibrated": stage.calibrated}
        known |= {"decision": decision_of(trained)}
    return cast(About, {name: value for name, value in known.items() if value is not None})


def status_of(trained: TrainedStage) -> str:
    """The stamp of the test of this very checkpoint; without one, only what is known of its training."""
    folder = trained.path.parent
    known = read(folder / FILE) if (folder / "predictions.csv").is_file() else None
    if known is None or isinstance(known, FoldedLineage) or known.checkpoint != sha256(trained.path):
        return NOT_TESTED if trained.lineage.complete else "UNKNOWN LINEAGE"
    return read_run(str(folder), "test").leakage.status


def decision_of(trained: TrainedStage) -> Decision | None:
    """What `predict` calibrates and decides windows by; None of a stage that has not been tested."""
    known = trained.reference
    windows = known.levels["clip"] if known else None
    if known is None or windows is None or not np.isfinite(windows.slope):
        return None
    thresholds = {name: round(one, 9) for name, one in zip(known.classes, windows.thresholds, strict=True)}
    return {
        "slope": round(windows.slope, 9),
        "intercept": round(windows.intercept, 9),
        "thresholds": thresholds,
        "subjects": known.n_subjects,
        "subjects_of": dict(zip(known.classes, windows.subjects, strict=False)),  # none: an older release's
    }
