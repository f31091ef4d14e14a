"""What `cross-validate` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder, count_of
from cry_lightning.commands.stage import check_overrides
from cry_lightning.errors import UserError


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: options contradict each other, or a stage has a mistake.
    """
    options = parser().parse_with_overrides(argv)
    if options.loso and options.folds is not None:
        raise UserError("--folds and --loso contradict each other: leave-one-out has a fold for each group")
    if options.seeds and (options.loso or options.folds is not None or options.repeats != 1 or options.group):
        raise UserError("--seeds train the YAML's own division again: leave out --folds, --repeats, --group and --loso")
    if options.out:
        check_folder("--out", options.out)
    for config in options.config[:-1]:
        check_overrides(config, [])
    check_overrides(options.config[-1], options.overrides)
    return options


def parser() -> ArgumentParser:
    """The command's options."""
    made = ArgumentParser(
        prog="python -m cry_lightning cross-validate",
        description="Train and test a stage on every fold, subjects never divided, and pool the tests. Of a chain, "
        "stages on other corpora are trained once; stages on the tested corpus are trained in each fold, without its "
        "test subjects.",
        epilog="Further arguments override the last YAML as in fit, e.g. --data configs/data/donateacry.yaml. Folds "
        "that are finished are not run again, so a killed cross-validation goes on with the same command.",
    )
    made.add_argument("--config", required=True, nargs="+", metavar="STAGE.yaml", help="the stages, in their order")
    made.add_argument("--folds", type=int, metavar="K", help="folds, stratified by class (default: 5)")
    made.add_argument("--repeats", type=int, default=1, metavar="R", help="other divisions (default: %(default)s)")
    group = "what is never divided: subject (default), a column of the manifest, or clip (stamped LEAKY)"
    made.add_argument("--group", help=group)
    made.add_argument("--loso", action="store_true", help="leave one group out at a time instead")
    seeds = "instead of folds, train on the YAML's own division from each of these seeds"
    made.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help=seeds)
    made.add_argument(
        "--jobs", type=count_of("folds"), default=1, metavar="N", help="folds at a time (default: %(default)s)"
    )
    made.add_argument("--keep", action="store_true", help="keep each fold's checkpoints")
    made.add_argument("--positive", metavar="CLASS", help="as of evaluate")
    made.add_argument("--out", type=Path, metavar="DIR", help="default: RUNS/CORPUS/STAGE-FOLDSxREPEATS-GROUP")
    upstream = "where the stages on other corpora lie, to be shared by several cross-validations (default: DIR/stages)"
    made.add_argument("--upstream", type=Path, metavar="DIR", help=upstream)
    return made
