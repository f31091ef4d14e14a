"""What `architectures` takes."""

import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder
from cry_lightning.commands.configs import check_there

MODELS = ("resnet18", "resnet50", "efficientnet_b0", "mobilenetv3_small_100", "vit_tiny_patch16_224")
SIZES = ((32, 48), (64, 96), (128, 192))  # those of 64x96 are next to the paper's 60x90; patches of 16x16 fit in all
Size = tuple[int, int]  # F, T


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense.
    """
    options = parser().parse_with_overrides(argv)
    check_folder("--out", options.out)
    check_there(options.config, "config")
    return options


def named(size: Sequence[int]) -> str:
    """FxT."""
    return "x".join(map(str, size))


def read_size(text: str) -> Size:
    """The size of a picture, from FxT."""
    if not (found := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)):
        raise ArgumentTypeError(f"{text}: say height x width in pixels, such as 60x90")
    return int(found[1]), int(found[2])


def parser() -> ArgumentParser:
    """The options of the command."""
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
