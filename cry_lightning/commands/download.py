"""What `download` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser

CORPORA = ("chillanto", "donateacry", "esc50", "fsdd", "speech_commands", "speech_commands_v0.01")


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense.
    """
    return parser().parse_args(argv)


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning download", description="Fetch a public corpus, its hash checked."
    )
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder to make (default: data/CORPUS)")
    parser.add_argument("--from", type=Path, metavar="PATH", dest="local", help="take this archive or folder instead")
    parser.add_argument("--sha256", metavar="HASH", help="the hash the archive must have")
    parser.add_argument("--accept-unverified", action="store_true", help="take the archive whatever its hash is")
    return parser
