"""What `fuse` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder, check_there

METHODS = ("mean", "weighted", "vote", "stacking")


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense, or a run is not there.
    """
    options = parser().parse_args(argv)
    check_folder("--out", options.out)
    for run in options.run:
        check_there(run, "name the folder of a run that was tested, or a predictions.csv", "run")
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning fuse",
        description="Make one run of several that predicted the same clips in the same folds, networks and SVMs alike; "
        "`evaluate` takes it as any other. Its lineage is that of all its members.",
        epilog="Example: python -m cry_lightning fuse runs/chillanto/resnet50 runs/chillanto/svm --out runs/chillanto/"
        "ensemble",
    )
    method = (
        "mean of the probabilities (default); weighted: that with weights of least log-loss; vote: majority, ties by "
        "the mean; stacking: logistic regression. What is learned is learned on each fold's validation rows (stacking "
        "without them: on the other folds' tests)"
    )
    calibrate = "first scale the temperature of each member on its validation rows"
    parser.add_argument("run", nargs="+", metavar="RUN", help="run folder that `test` has filled, or a predictions.csv")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder, for the fused run")
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help=method)
    parser.add_argument("--calibrate", action="store_true", help=calibrate)
    return parser
