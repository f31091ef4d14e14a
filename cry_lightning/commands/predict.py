"""What `predict` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_there
from cry_lightning.inference.options import add_options, refuse_existing


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense, or a file is not there.
    """
    options = parser().parse_args(argv)
    refuse_existing(options.out, by_recording(options.out))
    check_there(options.ckpt, "name a run's best.ckpt", "checkpoint")
    for path in options.paths:
        check_there(path, "give recordings, or folders of them")
    return options


def by_recording(out: Path) -> Path:
    """The table of recordings beside that of windows."""
    return out.with_name(f"{out.stem}_recordings.csv")


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning predict",
        description="Probabilities of the classes for recordings of any container, by a trained classifier. Recordings "
        "are cut into windows as the training corpus was, or, if it was not, into clips of the model's length; what is "
        "left over at the end is dropped. A recording shorter than one window is filled up as in the training.",
        epilog="Writes one row per window into OUT, and their means per recording, with those that could not be used, "
        "into OUT_recordings.csv.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a recording, or a folder of them")
    add_options(parser, out="predictions.csv")
    parser.add_argument("--hop-s", type=float, metavar="S", help="from window to window (default: as in the training)")
    return parser
