"""What `paper` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder, check_there, count_of


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense, or there is no such paper.
    """
    options = parser().parse_with_overrides(argv)
    check_there(options.paper, "give a folder of configs/papers, or its paper.yaml")
    if options.out:
        check_folder("--out", options.out)
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning paper",
        description="Run the systems of a publication whole, under its own protocol and under one that keeps subjects"
        " apart, and print its table beside ours.",
        epilog="Further arguments override every last stage as in fit, e.g. --trainer.max_epochs=3. What is finished is"
        " not run again, so a stopped table goes on with the same command.",
    )
    parser.add_argument("paper", type=Path, help="a folder of configs/papers, or its paper.yaml")
    parser.add_argument("--corpus", metavar="NAME", help="what to run on (default: the publication's own)")
    seeds = "where one division is trained from several seeds: these, in place of the paper.yaml's"
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help=seeds)
    parser.add_argument(
        "--jobs", type=count_of("folds"), default=1, metavar="N", help="folds at a time (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/PAPER/CORPUS, PAPER the folder's name")
    return parser
