"""What `tune` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder, check_there, count_of
from cry_lightning.commands.stage import check_overrides


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense, or the stage has a mistake.
    """
    options = parser().parse_with_overrides(argv)
    if options.out:
        check_folder("--out", options.out)
    check_there(options.space, "give a YAML such as configs/spaces/finetune.yaml")
    check_overrides(options.config, options.overrides)
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning tune",
        description="Fit a stage with one setting after another, each chosen in the light of those before (Optuna), "
        "and write the one that does best on the validation subjects as a stage config. Test subjects are not heard.",
        epilog="Further arguments override the YAML as in fit, e.g. --data configs/data/donateacry.yaml. Finished "
        "trials are not run again: a killed search goes on with the same command, a longer one with more --trials.",
    )
    parser.add_argument("--config", required=True, metavar="STAGE.yaml", help="the stage that every trial fits")
    space = "dotted keys of the stage, each with {low, high}, log or step by choice, or with {choices}"
    parser.add_argument("--space", required=True, metavar="SPACE.yaml", help=space)
    parser.add_argument(
        "--trials", required=True, type=count_of("trials"), metavar="N", help="how many, finished ones included"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the search; that of a fit is seed_everything (default: 0)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: RUNS/CORPUS/tune-NAME")
    return parser
