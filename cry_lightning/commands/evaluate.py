"""What `evaluate` takes."""

from argparse import Namespace
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder, check_there
from cry_lightning.errors import UserError
from cry_lightning.evaluation.defaults import COMPARISON, POSITIVE


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense, or a run is not there.
    """
    own = parser()
    options = own.parse_args(argv)
    if options.out:
        check_folder("--out", options.out)
    named = [*options.run, *chain(*options.pool)]
    if not named:
        own.error("the following arguments are required: RUN")
    if len({Path(run).resolve() for run in named}) < len(named):
        raise UserError(f"a run is named twice among {', '.join(named)}; name each once")
    for run in named:
        check_there(run, "name the folder of a run that was tested, or a predictions.csv", "run")
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning evaluate",
        description="Score predictions at clip, recording and subject level, with intervals over subjects; writes "
        " report.md, metrics.csv and figures/. Of several runs tested on the same clips, each is also compared "
        "with the first: paired differences, also in differences.csv.",
        epilog="Example: python -m cry_lightning evaluate runs/donateacry/finetune runs/donateacry/scratch",
    )
    out = f"where to write; default: the run's folder, or {COMPARISON} for several"
    leaky = "report runs tested on their training subjects, stamped LEAKY"
    pooled = "folds of one run: score all their tests as one; several times for several runs"
    parser.add_argument("run", nargs="*", metavar="RUN", help="run folder that `test` has filled, or a predictions.csv")
    parser.add_argument("--pool", nargs="+", action="append", default=[], metavar="FOLD", help=pooled)
    parser.add_argument("--out", type=Path, metavar="DIR", help=out)
    parser.add_argument("--allow-leaky", action="store_true", help=leaky)
    parser.add_argument("--split", choices=["test", "val"], default="test", help="which rows; val goes to validation/")
    parser.add_argument("--positive", metavar="CLASS", help=f"with two classes, {POSITIVE}")
    return parser
