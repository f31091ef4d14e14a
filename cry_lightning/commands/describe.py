"""What `describe` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder, check_there, count_of
from cry_lightning.commands.stage import check_data


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense, or the data is not there.
    """
    options = parser().parse_with_overrides(argv)
    check_there(options.data, "give a data YAML, a folder of recordings or a manifest.csv")
    check_data(options.data, options.overrides)
    if options.out:
        check_folder("--out", options.out)
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning describe",
        description="Count subjects, recordings, clips and minutes by class and column; measure the sound; find copies;"
        " tell which splits the subjects can support. Nothing is trained and no feature cache is built.",
        epilog="Further arguments override the data as in fit, e.g. --data.corpus.init_args.target=age."
        " Subjects appear as numbers only, recordings by name where one is at fault.",
    )
    parser.add_argument("--data", required=True, metavar="DATA", help="data YAML, folder of recordings or manifest.csv")
    by = "columns to count by; default: those with few values"
    parser.add_argument("--by", nargs="+", metavar="COLUMN", help=by)
    parser.add_argument(
        "--sample", type=count_of("recordings"), metavar="N", help="decode only N recordings, drawn at random"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/CORPUS/describe")
    return parser
