"""`python -m cry_lightning robustness`: trained models on their own test clips, disturbed; curves, figures, CSV."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cry_lightning.lineage import refuse_leaky
from cry_lightning.robustness import plan, report
from cry_lightning.robustness.curves import curves
from cry_lightning.robustness.models import ModelUnderTest, open_models
from cry_lightning.robustness.scoring import predict, tell_if_other
from cry_lightning.trust.names import Trust

log = logging.getLogger(__name__)


def run(
    checkpoints: Sequence[Path],
    out: Path,
    trust: Sequence[str],
    severities: plan.Severities,
    device: str,
    allow_leaky: bool,
) -> pd.DataFrame:
    """Run the command; points that are finished are not run again. Returns the curves."""
    models, noise = open_models(checkpoints, device, Trust(tuple(trust))), severities.noise
    for model in models:
        if not allow_leaky:
            refuse_leaky([(model.name, model.run.leakage)], "--allow-leaky reports it all the same, stamped")
        if "noise" in severities.kinds and noise and model.knows_noise(Path(noise)):
            log.warning("%s was trained with noise of %s, so its curve flatters it", model.name, noise)
    planned = plan.points(severities, min(model.sample_rate for model in models))
    predicted = [predict(model, planned, out / "predictions") for model in models]
    undisturbed = next(number for number, point in enumerate(planned) if point.severity == plan.UNDISTURBED)
    for model, tables in zip(models, predicted, strict=True):
        tell_if_other(model, tables[undisturbed])
    result = curves(models, planned, predicted)
    written = report.write(result, out, models[0].table["label"].nunique())
    print(f"\n{report.text(result)}")
    for model in models:
        print("\n".join([f"\n{model.name}: {_lineage(model)}", *(f"- {note}" for note in model.run.notes)]))
    print("\n".join(["", *map(str, written)]))
    return result


def _lineage(model: ModelUnderTest) -> str:
    leakage = model.run.leakage
    return ", ".join(filter(None, [leakage.status, leakage.reason]))
