"""`architectures`: networks of timm by picture size, cross-validated alike."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from cry_lightning.commands.messages import instantiation_error
from cry_lightning.console import ConfigError, UserError
from cry_lightning.encoders.timm_network import TimmNetwork
from cry_lightning.evaluation.compare import Rows, as_text, cell, pairs
from cry_lightning.evaluation.run import Run, evaluated, named_apart
from cry_lightning.files import Json
from cry_lightning.report.command import write_report
from cry_lightning.studies.cross_validation import planned
from cry_lightning.studies.division import CrossValidationPlan
from cry_lightning.studies.engine import StageConfig

Size = tuple[int, int]  # F, T
OWN_KEYS = ("data.feature.size", "model.encoder.model_name", "model.encoder.img_size")  # of `changes`, in messages


def run(
    stage: StageConfig,
    models: Sequence[str],
    sizes: Sequence[Size],
    division: CrossValidationPlan,
    out: Path,
    jobs: int,
    keep: bool,
) -> pd.DataFrame:
    """Run the command; all cross-validations are checked before the first trains."""
    grid = list(product(dict.fromkeys(models), dict.fromkeys(sizes)))
    parameters = {model: n_parameters(model, size) for model, size in grid}
    plans, runs = {}, {}
    for model, size in grid:
        folder = out / re.sub(r"[^\w.-]", "_", f"{model}-{named(size)}")
        # The changes come last: a `--data FILE` among the others replaces what stands of data before it.
        try:
            plans[model, size] = planned([stage.changed(changes(model, size))], division, folder)
        except ConfigError as error:
            if error.key not in OWN_KEYS:
                raise
            raise UserError(
                f"--config {stage.path}: {error}; give a stage on pictures whose encoder is a TimmNetwork, such as"
                " configs/papers/le2020/resnet50.yaml"
            ) from error
    for number, ((model, size), plan) in enumerate(plans.items(), 1):
        print(f"{number}/{len(grid)} {model} {named(size)}", flush=True)
        runs[model, size] = evaluated(plan.run(jobs, keep))
    every = named_apart([*runs.values()])
    runs = dict(zip(runs, every, strict=True))
    report = write_report(every, pairs(every), out)
    print(f"\nUAR at {every[0].main_level.level} level, with 95 % intervals over subjects:")
    header, *rows = table(runs, parameters)
    print(f"{as_text([header, *rows])}\n\nReport: {report}")
    return pd.DataFrame(rows, columns=header)


def named(size: Sequence[int]) -> str:
    """FxT."""
    return "x".join(map(str, size))


def n_parameters(model: str, size: Size) -> int:
    """Parameters of a network without its head.

    Raises:
        UserError: timm has no such network, or it takes no pictures of this size.
    """
    try:
        with torch.device("meta"):  # shapes without numbers
            network = TimmNetwork(model, img_size=size)
    except Exception as error:
        raise instantiation_error(error, "--models") from error
    network.check((1, 3, *size))
    return sum(parameter.numel() for parameter in network.parameters())


def changes(model: str, size: Size) -> Json:
    """What sets one cross-validation apart."""
    encoder = "model.init_args.encoder.init_args"
    return {
        "data.feature.init_args.size": list(size),
        f"{encoder}.model_name": model,
        f"{encoder}.img_size": list(size),
    }


def table(runs: dict[tuple[str, Size], Run], parameters: dict[str, int]) -> Rows:
    """A row for each network, a column for each size."""
    sizes = list(dict.fromkeys(size for _, size in runs))
    rows = [["network", "parameters", *map(named, sizes), "lineage"]]
    for model, count in parameters.items():
        own = [runs[model, size] for size in sizes]
        scores = [cell(run.result(run.main_level.level, "uar")) for run in own]
        rows.append([model, f"{count / 1e6:.1f} M", *scores, ", ".join({run.leakage.status for run in own})])
    return rows
