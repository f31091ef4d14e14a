"""What `picture` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder, check_there
from cry_lightning.commands.stage import check_overrides
from cry_lightning.trust.names import add_trust


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense, or the stage has a mistake.
    """
    options = parser().parse_with_overrides(argv)
    check_folder("--out", options.out)
    for path in options.recording:
        check_there(path, "give recordings, or folders of them")
    check_overrides(options.config, options.overrides)
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning picture",
        description="Write what a stage's network sees of recordings: a PNG for each, or for each of its windows, of"
        " as many pixels as the feature has, highest frequency on top.",
        epilog="Further arguments override the YAML as in fit, with = and no blank:"
        " --data.feature.init_args.size=[120,180]",
    )
    config = "a stage that sees pictures, e.g. configs/papers/le2020/resnet50.yaml"
    parser.add_argument("recording", nargs="+", metavar="RECORDING", help="any container, or a folder of them")
    parser.add_argument("--config", required=True, metavar="STAGE.yaml", help=config)
    add_trust(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the pictures are written")
    return parser
