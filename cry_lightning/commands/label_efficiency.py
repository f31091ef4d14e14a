"""What `label-efficiency` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder
from cry_lightning.commands.stage import check_overrides

SCRATCH = "scratch"
FOLD = "{fold}"  # in a checkpoint's path: an encoder that was not trained on the fold's test subjects


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense, or the stage has a mistake.
    """
    options = parser().parse_with_overrides(argv)
    if options.out:
        check_folder("--out", options.out)
    check_overrides(options.config, options.overrides)
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning label-efficiency",
        description="Train each encoder on growing, nested subsets of the labels and test it on the same subjects: "
        "curves of UAR and AUC with intervals, and the labels that each saves over training from scratch.",
        epilog="Further arguments override the YAML as in fit, e.g. --data configs/data/digits.yaml. Points that are "
        "finished are not run again, so a killed study goes on with the same command.",
    )
    encoder = f"{SCRATCH} or NAME=CHECKPOINT; {FOLD} in a path stands for the fold"
    parser.add_argument("--config", required=True, metavar="STAGE.yaml", help="the stage that every point trains")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--fractions", nargs="+", type=float, metavar="SHARE", help="shares of each class's subjects")
    amount.add_argument("--per-class", nargs="+", type=int, metavar="N", help="clips of each class")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of subset and training (%(default)s)")
    parser.add_argument("--encoders", nargs="+", default=[SCRATCH], metavar="ENCODER", help=encoder)
    own = "an encoder's own arguments, as one text, e.g. 'simclr --model.init_args.frozen=true' for a linear probe"
    parser.add_argument("--arguments", action="append", default=[], metavar="'NAME ARGUMENTS'", help=own)
    parser.add_argument("--folds", nargs="+", type=int, metavar="FOLD", help="folds to pool; default: the config's one")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: RUNS/CORPUS/label-efficiency")
    parser.add_argument("--allow-leaky", action="store_true", help="report encoders that heard test subjects, stamped")
    return parser
