"""What `prepare` takes."""

from argparse import Namespace
from collections.abc import Sequence

from cry_lightning.arguments import ArgumentParser
from cry_lightning.commands.stage import check_overrides


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: there is nothing to do, or the stage has a mistake.
    """
    own = parser()
    options = own.parse_with_overrides(argv)
    if options.overrides and not options.config:
        own.error(f"unrecognized arguments: {' '.join(options.overrides)}")
    if not (options.config or options.list or options.remove):
        own.error("give --config STAGE.yaml, --list or --remove NAME")
    if options.config:
        check_overrides(options.config, options.overrides)
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning prepare",
        description="Build the feature cache of a stage, or look after the caches there are.",
        epilog="Further arguments override the YAML as in fit, e.g. --data.workers=4.",
    )
    parser.add_argument("--config", metavar="STAGE.yaml", help="build the cache of this stage")
    parser.add_argument("--verify", action="store_true", help="with --config: read all audio and every row again")
    parser.add_argument("--list", action="store_true", help="what is cached, for which corpus and feature")
    parser.add_argument("--remove", nargs="+", metavar="NAME", help="remove caches by the name that --list shows")
    parser.add_argument("--folder", default="cache", help="folder of the caches, for --list and --remove")
    return parser
