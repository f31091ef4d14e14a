"""What `robustness` takes."""

import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cry_lightning.arguments import ArgumentParser, check_folder, check_there
from cry_lightning.trust.names import add_trust

KINDS = ("noise", "white", "bands", "ends", "gain", "channel")
SNR_DB = (20.0, 10.0, 5.0, 0.0, -5.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
GAIN_DB = (-30.0, -20.0, -10.0, 10.0, 20.0)


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense, or a file is not there.
    """
    options = parser().parse_args(argv)
    check_folder("--out", options.out)
    for path in options.ckpt:
        check_there(path, "name the best.ckpt of runs that were tested", "checkpoint")
    if options.noise:
        check_there(options.noise, "name a folder of recordings")
    options.kinds = options.kinds or [kind for kind in KINDS if kind != "noise" or options.noise]
    return options


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number


_finite.__name__ = "number"  # as argparse tells it


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning robustness",
        description="Score trained classifiers on their own test clips while the sound that reaches the front end is "
        "disturbed: UAR over severity with intervals over subjects, paired differences to the undisturbed score and to "
        "the first model. Models must have been tested on the same clips.",
        epilog="Writes KIND.csv, KIND.png and predictions/MODEL/KIND_SEVERITY-HASH.csv into --out. Points that are "
        "finished are not run again, so a killed study goes on with the same command.",
    )
    numbers: dict[str, Any] = {"nargs": "+", "type": _finite}
    parser.add_argument("--ckpt", nargs="+", type=Path, required=True, help="RUN/best.ckpt of runs that were tested")
    add_trust(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--noise", metavar="DIR", help="recordings for the kind `noise` (WAV, FLAC, OGG, MP3)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="default: all; noise where --noise is given")
    parser.add_argument("--snr-db", **numbers, default=SNR_DB, metavar="DB", help="of noise and white")
    parser.add_argument("--bands-hz", **numbers, metavar="HZ", help="edges of the bands; default: octaves")
    parser.add_argument("--blank", **numbers, default=SHARES, metavar="SHARE", help="of the clip, at either end")
    parser.add_argument("--gain-db", **numbers, default=GAIN_DB, metavar="DB")
    parser.add_argument("--low-pass-hz", **numbers, metavar="HZ", help="channels beside the two of 8 bits")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)")
    parser.add_argument("--allow-leaky", action="store_true", help="report models that heard test subjects, stamped")
    return parser
