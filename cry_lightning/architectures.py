"""`architectures`: networks of timm by sizes of picture, each cross-validated alike, as one table."""

import re
from itertools import product

import torch

from cry_lightning.commands.architectures import Size, arguments, named
from cry_lightning.commands.cross_validate import arguments as cross_validation_of
from cry_lightning.cross_validation.command import cross_validate
from cry_lightning.encoders.timm_network import TimmNetwork
from cry_lightning.errors import UserError
from cry_lightning.evaluation.pairs import pairs
from cry_lightning.evaluation.report import write_report
from cry_lightning.evaluation.run import Run, evaluate_run, read_run
from cry_lightning.evaluation.tables import Rows, as_text, cell
from cry_lightning.messages import not_made
from cry_lightning.wording import ConfigError

OWN_KEYS = ("data.feature.size", "model.encoder.model_name", "model.encoder.img_size")  # of `overrides`, in messages


def main(argv: list[str]) -> None:
    """Run the command; what it does not know itself is for `cross-validate`.

    Raises:
        UserError: timm has no such network, it takes no pictures of such a size, or the stage none; as
            `cross-validate`.
    """
    options = arguments(argv)
    grid = list(product(dict.fromkeys(options.models), dict.fromkeys(options.sizes)))
    parameters = {model: n_parameters(model, size) for model, size in grid}
    runs = {}
    for number, (model, size) in enumerate(grid, 1):
        print(f"{number}/{len(grid)} {model} {named(size)}", flush=True)
        folder = options.out / re.sub(r"[^\w.-]", "_", f"{model}-{named(size)}")
        parsed = cross_validation_of(["--config", options.config, "--out", str(folder), *options.overrides])
        # The overrides come last: a `--data FILE` among the others replaces what is said of data before it.
        try:
            cross_validate([["--config", options.config, *parsed.overrides, *overrides(model, size)]], parsed)
        except ConfigError as error:
            if error.key not in OWN_KEYS:
                raise
            raise not_on_pictures(options.config, error) from error
        runs[model, size] = evaluate_run(read_run(str(folder), "test"), "test", None)
    every = list(runs.values())
    report = write_report(every, pairs(every), options.out)
    print(f"\nUAR at {every[0].main_level.level} level, with 95 % intervals over subjects:")
    print(f"{as_text(table(runs, parameters))}\n\nReport: {report}")


def n_parameters(model: str, size: Size) -> int:
    """Parameters of a network without its head.

    Raises:
        UserError: timm has no such network, or it takes no pictures of this size.
    """
    try:
        with torch.device("meta"):  # shapes without numbers
            network = TimmNetwork(model, img_size=size)
    except Exception as error:
        raise not_made(error, "--models") from error
    network.check((1, 3, *size))
    return sum(parameter.numel() for parameter in network.parameters())


def not_on_pictures(config: str, error: ConfigError) -> UserError:
    """That a stage has no place for what is compared."""
    return UserError(
        f"--config {config}: {error}; give a stage on pictures whose encoder is a TimmNetwork, such as"
        " configs/papers/le2020/resnet50.yaml"
    )


def overrides(model: str, size: Size) -> list[str]:
    """What sets one cross-validation apart, as `fit` takes it."""
    encoder = "--model.init_args.encoder.init_args"
    return [
        f"--data.feature.init_args.size={list(size)}",
        f"{encoder}.model_name={model}",
        f"{encoder}.img_size={list(size)}",
    ]


def table(runs: dict[tuple[str, Size], Run], parameters: dict[str, int]) -> Rows:
    """A row for each network, a column for each size."""
    sizes = list(dict.fromkeys(size for _, size in runs))
    rows = [["network", "parameters", *map(named, sizes), "lineage"]]
    for model, count in parameters.items():
        own = [runs[model, size] for size in sizes]
        scores = [cell(run.result(run.main_level.level, "uar")) for run in own]
        rows.append([model, f"{count / 1e6:.1f} M", *scores, ", ".join({run.leakage.status for run in own})])
    return rows
