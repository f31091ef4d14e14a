"""What a user of an exported model must know of it, beside its numbers."""

import hashlib
import json
from typing import Any

import numpy as np

import cry_lightning
from cry_lightning.evaluation.run import read_run
from cry_lightning.export.graph import WaveformModel
from cry_lightning.inference.model import TrainedStage
from cry_lightning.lineage import FILE, FoldedLineage, read
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.weights import identity_of, sha256

NOT_TESTED = "NOT TESTED"
NOT_STATED = "not stated"


def describe(trained: TrainedStage, model: WaveformModel, licence: str | None) -> dict[str, Any]:
    """Texts, numbers and tables by their names; `docs/export.md` lists them."""
    stage, rate = trained.stage, trained.feature.sample_rate
    hop_s = trained.cutting["hop_s"]
    known: dict[str, Any] = {
        "producer": f"cry_lightning {cry_lightning.__version__}",
        "sample_rate": rate,
        "window_samples": model.window,
        "hop_samples": model.window if hop_s is None else round(hop_s * rate),
        "length": "window_samples or more" if model.takes_any_length else "window_samples",
        "min_active_db": trained.cutting["min_active_db"],
        "outputs": model.outputs,
        "embedding_size": stage.num_features,
        "front_end": identity_of(stage.front_end or trained.feature),
        "checkpoint_sha256": sha256(trained.path),
        "lineage": status_of(trained),
        "lineage_sha256": hashlib.sha256(json.dumps(trained.lineage.as_dict()).encode()).hexdigest(),
        "licence": licence or NOT_STATED,
    }
    if model.classes and isinstance(stage, Classifier):
        known |= {"classes": model.classes, "calibrated": stage.calibrated}
        known |= {"decision": decision_of(trained)}
    return {name: value for name, value in known.items() if value is not None}


def status_of(trained: TrainedStage) -> str:
    """The stamp of the test of this very checkpoint; without one, only what is known of its training."""
    folder = trained.path.parent
    known = read(folder / FILE) if (folder / "predictions.csv").is_file() else None
    if known is None or isinstance(known, FoldedLineage) or known.checkpoint != sha256(trained.path):
        return NOT_TESTED if trained.lineage.complete else "UNKNOWN LINEAGE"
    return read_run(str(folder), "test").leakage.status


def decision_of(trained: TrainedStage) -> dict[str, Any] | None:
    """What `predict` calibrates and decides windows by; None of a stage that has not been tested."""
    known = trained.reference
    windows = known.levels["clip"] if known else None
    if known is None or windows is None or not np.isfinite(windows.slope):
        return None
    thresholds = {name: round(one, 9) for name, one in zip(known.classes, windows.thresholds, strict=True)}
    chosen = {"slope": round(windows.slope, 9), "intercept": round(windows.intercept, 9)}
    return chosen | {"thresholds": thresholds, "subjects": known.n_subjects}
