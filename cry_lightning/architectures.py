"""`architectures`: networks of timm by sizes of picture, each cross-validated alike, as one table."""

import argparse
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch

from cry_lightning.arguments import ArgumentParser, check_folder
from cry_lightning.cross_validation.command import cross_validate, parser
from cry_lightning.encoders.timm_network import TimmNetwork
from cry_lightning.errors import UserError
from cry_lightning.evaluation.intervals import RESAMPLES
from cry_lightning.evaluation.pairs import pairs
from cry_lightning.evaluation.report import write_report
from cry_lightning.evaluation.run import Run, evaluate_run, read_run
from cry_lightning.evaluation.tables import Rows, as_text, cell
from cry_lightning.messages import ConfigError, not_made

MODELS = ("resnet18", "resnet50", "efficientnet_b0", "mobilenetv3_small_100", "vit_tiny_patch16_224")
SIZES = ((32, 48), (64, 96), (128, 192))  # those of 64x96 are next to the paper's 60x90; patches of 16x16 fit in all
OWN_KEYS = ("data.feature.size", "model.encoder.model_name", "model.encoder.img_size")  # of `overrides`, in messages
Size = tuple[int, int]  # F, T


def main(argv: list[str]) -> None:
    """Run the command; what it does not know itself is for `cross-validate`.

    Raises:
        UserError: timm has no such network, it takes no pictures of such a size, or the stage none; as
            `cross-validate`.
    """
    options, others = _parser().parse_known_args(argv)
    check_folder("--out", options.out)
    grid = list(product(dict.fromkeys(options.models), dict.fromkeys(options.sizes)))
    parameters = {model: n_parameters(model, size) for model, size in grid}
    runs = {}
    for number, (model, size) in enumerate(grid, 1):
        print(f"{number}/{len(grid)} {model} {named(size)}", flush=True)
        folder = options.out / re.sub(r"[^\w.-]", "_", f"{model}-{named(size)}")
        parsed, own = parser().parse_known_args(["--config", options.config, "--out", str(folder), *others])
        # The overrides come last: a `--data FILE` among the others replaces what is said of data before it.
        try:
            cross_validate([["--config", options.config, *own, *overrides(model, size)]], parsed)
        except ConfigError as error:
            if error.key not in OWN_KEYS:
                raise
            raise not_on_pictures(options.config, error) from error
        runs[model, size] = evaluate_run(read_run(str(folder), "test"), "test", None, RESAMPLES)
    every = list(runs.values())
    report = write_report(every, pairs(every, RESAMPLES), options.out, RESAMPLES)
    print(f"\nUAR at {every[0].main_level.level} level, with 95 % intervals from resampling subjects:")
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


def named(size: Sequence[int]) -> str:
    """FxT."""
    return "x".join(map(str, size))


def read_size(text: str) -> Size:
    """The size of a picture, from FxT."""
    if not (found := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)):
        raise argparse.ArgumentTypeError(f"{text}: say height x width in pixels, such as 60x90")
    return int(found[1]), int(found[2])


def _parser() -> ArgumentParser:
    made = ArgumentParser(
        prog="python -m cry_lightning architectures",
        description="Cross-validate a stage on pictures with each of several networks of timm and sizes of picture:"
        " one table, and a report with all metrics and differences. What is finished is not run again.",
        epilog="Further arguments are those of cross-validate, and overrides of the YAML: --folds 3 --jobs 2"
        " --data configs/papers/le2020/data/donateacry.yaml --model.init_args.encoder.init_args.pretrained=true",
    )
    config = "a stage whose encoder is a TimmNetwork, e.g. configs/papers/le2020/resnet50.yaml"
    sizes = f"height x width (default: {' '.join(map(named, SIZES))})"
    out = "a folder for each cross-validation and the report (default: %(default)s)"
    made.add_argument("--config", required=True, metavar="STAGE.yaml", help=config)
    made.add_argument("--models", nargs="+", default=MODELS, metavar="NAME", help=f"(default: {' '.join(MODELS)})")
    made.add_argument("--sizes", nargs="+", type=read_size, default=SIZES, metavar="FxT", help=sizes)
    made.add_argument("--out", type=Path, default=Path("runs/architectures"), metavar="DIR", help=out)
    return made
