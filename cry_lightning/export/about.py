"""What a user of an exported model must know of it, beside its numbers."""

import hashlib
import json
from typing import Any

import cry_lightning
from cry_lightning.evaluation.clinical import chosen_on
from cry_lightning.evaluation.metrics import units_at
from cry_lightning.evaluation.run import Run, evaluate_run, read_run
from cry_lightning.export.graph import WaveformModel
from cry_lightning.inference.model import TrainedStage
from cry_lightning.lineage import FILE, FoldedLineage, read
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.weights import identity_of, sha256

NOT_TESTED = "NOT TESTED"
NOT_STATED = "not stated"


def describe(trained: TrainedStage, model: WaveformModel, licence: str | None) -> dict[str, Any]:
    """Texts, numbers and tables by their names; `docs/export.md` lists them."""
    tested = test_of(trained)
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
        "lineage": status_of(trained, tested),
        "lineage_sha256": hashlib.sha256(json.dumps(trained.lineage.as_dict()).encode()).hexdigest(),
        "licence": licence or NOT_STATED,
    }
    if model.classes and isinstance(stage, Classifier):
        known |= {"classes": model.classes, "calibrated": stage.calibrated}
        known |= {"decision": decision_of(tested)} if tested else {}
    return {name: value for name, value in known.items() if value is not None}


def test_of(trained: TrainedStage) -> Run | None:
    """The test of this very checkpoint, where its run folder has one; no interval is computed."""
    folder = trained.path.parent
    known = read(folder / FILE) if (folder / "predictions.csv").is_file() else None
    if known is None or isinstance(known, FoldedLineage) or known.checkpoint != sha256(trained.path):
        return None
    return evaluate_run(read_run(str(folder), "test"), "test", None)


def status_of(trained: TrainedStage, tested: Run | None) -> str:
    """CLEAN, or what else the test was stamped; of a model without a test, only what is known of its training."""
    if tested:
        return tested.leakage.status
    return NOT_TESTED if trained.lineage.complete else "UNKNOWN LINEAGE"


def decision_of(tested: Run) -> dict[str, Any] | None:
    """What the validation windows of a test choose: a recalibration and thresholds; None where they cannot."""
    if tested.positive is None or tested.validation.empty:
        return None
    cases = units_at("clip", tested.validation).table
    if cases["label"].nunique() < 2:
        return None
    chosen = chosen_on(cases, tested.positive)
    return {"positive": tested.positive, "windows": len(cases), **{name: round(one, 9) for name, one in chosen.items()}}
