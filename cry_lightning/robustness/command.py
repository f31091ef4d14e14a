"""`python -m cry_lightning robustness`: trained models on their own test clips, disturbed; curves, figures, CSV."""

import logging
import math
from pathlib import Path
from typing import Any

from cry_lightning.arguments import ArgumentParser, check_folder
from cry_lightning.errors import UserError
from cry_lightning.robustness import plan, report
from cry_lightning.robustness.curves import curves
from cry_lightning.robustness.models import ModelUnderTest, open_models
from cry_lightning.robustness.scoring import predict, tell_if_other

log = logging.getLogger(__name__)


def main(argv: list[str]) -> None:
    """Run the command; points that are finished are not run again.

    Raises:
        UserError: an option makes no sense, a model cannot be used, or it has heard its test subjects.
    """
    options = _parser().parse_args(argv)
    check_folder("--out", options.out)
    options.kinds = options.kinds or [kind for kind in plan.KINDS if kind != "noise" or options.noise]
    models = open_models(options.ckpt, options.device)
    for model in models:
        if model.run.leakage.status == "LEAKY" and not options.allow_leaky:
            raise UserError(f"{model.name}: {_lineage(model)}. --allow-leaky reports it all the same, stamped")
        if "noise" in options.kinds and options.noise and model.knows_noise(Path(options.noise)):
            log.warning("%s was trained with noise of %s, so its curve flatters it", model.name, options.noise)
    planned = plan.points(options, min(model.sample_rate for model in models))
    predicted = [predict(model, planned, options.out / "predictions") for model in models]
    undisturbed = next(number for number, point in enumerate(planned) if point.severity == plan.UNDISTURBED)
    for model, tables in zip(models, predicted, strict=True):
        tell_if_other(model, tables[undisturbed])
    result = curves(models, planned, predicted)
    written = report.write(result, options.out, models[0].table["label"].nunique())
    print(f"\n{report.text(result)}")
    for model in models:
        print("\n".join([f"\n{model.name}: {_lineage(model)}", *(f"- {note}" for note in model.run.notes)]))
    print("\n".join(["", *map(str, written)]))


def _lineage(model: ModelUnderTest) -> str:
    leakage = model.run.leakage
    return ", ".join(filter(None, [leakage.status, leakage.reason]))


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number


_finite.__name__ = "number"  # as argparse tells it


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m cry_lightning robustness",
        description="Score trained classifiers on their own test clips while the sound that reaches the front end is "
        "disturbed: UAR over severity with intervals over subjects, paired differences to the undisturbed score and to "
        "the first model. Models must have been tested on the same clips.",
        epilog="Writes KIND.csv, KIND.png and predictions/MODEL/KIND_SEVERITY-HASH.csv into --out. Points that are "
        "finished are not run again, so a killed study goes on with the same command.",
    )
    numbers: dict[str, Any] = {"nargs": "+", "type": _finite}
    parser.add_argument("--ckpt", nargs="+", type=Path, required=True, help="RUN/best.ckpt of runs that were tested")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--noise", metavar="DIR", help="recordings for the kind `noise` (WAV, FLAC, OGG, MP3)")
    parser.add_argument("--kinds", nargs="+", choices=plan.KINDS, help="default: all; noise where --noise is given")
    parser.add_argument("--snr-db", **numbers, default=plan.SNR_DB, metavar="DB", help="of noise and white")
    parser.add_argument("--bands-hz", **numbers, metavar="HZ", help="edges of the bands; default: octaves")
    parser.add_argument("--blank", **numbers, default=plan.SHARES, metavar="SHARE", help="of the clip, at either end")
    parser.add_argument("--gain-db", **numbers, default=plan.GAIN_DB, metavar="DB")
    parser.add_argument("--low-pass-hz", **numbers, metavar="HZ", help="channels beside the two of 8 bits")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)")
    parser.add_argument("--allow-leaky", action="store_true", help="report models that heard test subjects, stamped")
    return parser
