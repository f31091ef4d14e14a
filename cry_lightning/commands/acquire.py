"""What `acquire` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.acquire import settings
from cry_lightning.arguments import ArgumentParser, check_folder, check_there, count_of


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense.
    """
    options = parser().parse_args(argv)
    settings.settings_of(options)
    check_there(options.input, "give a recording, or a folder of them")
    check_folder("OUT", options.out)
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning acquire",
        description="Cut recordings of any container, videos included, into cry units: mono WAV files of 16 kHz and 16 "
        "bits in OUT/units, listed with level, label and subject in OUT/manifest.csv, which is a corpus. Units are "
        "active and voiced at the pitch of cries. What else is so, such as voices of women and children, music and "
        "animals, is kept too: listen, and look at --figures. "
        "Files already done are not done again, so that a killed run goes on with the same command.",
        epilog="Labels and subjects are those of Donate-a-Cry names, or else of class folders (class/subject/file or "
        "class/file), unless --name-pattern or --table tells them. A recording of which no subject is known is one.",
    )
    parser.add_argument("input", type=Path, metavar="IN", help="a recording, or a folder of them at any depth")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make, or to go on with; not within IN")
    named = parser.add_mutually_exclusive_group()
    pattern = (
        "finds groups named label or subject in a path relative to IN, e.g. '(?P<subject>baby\\d+)_(?P<label>[a-z]+)'"
    )
    named.add_argument("--name-pattern", metavar="REGEX", help=pattern)
    table = "columns source (a path relative to IN), and label, subject or further ones"
    named.add_argument("--table", type=Path, metavar="CSV", help=table)
    parser.add_argument("--figures", action="store_true", help="draw each file and its units into OUT/figures")
    parser.add_argument(
        "--jobs", type=count_of("files"), default=1, metavar="N", help="files at once (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="cut OUT anew where thresholds or IN have changed")
    settings.add_options(parser)
    return parser
