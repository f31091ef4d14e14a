"""The command table: `python -m cry_lightning COMMAND ...`. Each command is imported only when it is called."""

import logging
import sys
from collections.abc import Callable
from importlib import import_module

from cry_lightning import __doc__ as about
from cry_lightning import __version__
from cry_lightning.commands.configs import find_shipped
from cry_lightning.errors import UserError

COMMANDS = {  # command -> (module with a `main(args)`, what it does)
    "acquire": ("cry_lightning.acquire.command", "phone videos and recordings into short cry units and a manifest"),
    "describe": ("cry_lightning.describe.command", "what a corpus holds, how it sounds, and the splits it can support"),
    "fit": ("cry_lightning.cli", "train one stage from a YAML (pretraining, adaptation or fine-tuning)"),
    "test": ("cry_lightning.cli", "run a trained stage on its test subjects: predictions.csv and lineage.json"),
    "evaluate": ("cry_lightning.evaluation.report", "metrics with intervals over subjects, figures and a report"),
    "predict": ("cry_lightning.inference.predict", "what a trained classifier says of recordings, window by window"),
    "embed": ("cry_lightning.inference.embed", "embeddings of clips by a trained encoder, and a map of them"),
    "cross-validate": ("cry_lightning.cross_validation.command", "a stage or a chain on every fold, pooled"),
    "tune": ("cry_lightning.tune.command", "search for good settings of a stage on its validation subjects"),
    "robustness": (
        "cry_lightning.robustness.command",
        "trained models under noise, lost bands, lost time, gain and channels",
    ),
    "fuse": ("cry_lightning.evaluation.fuse", "predictions of several runs as one: mean, weighted, vote, stacking"),
    "paper": ("cry_lightning.papers.command", "a published system run whole, its table beside ours"),
    "architectures": ("cry_lightning.architectures", "networks of timm by picture size, cross-validated alike"),
    "picture": ("cry_lightning.picture", "what a network that sees pictures sees of recordings, as PNG files"),
    "label-efficiency": (
        "cry_lightning.label_efficiency.command",
        "scores against number of labels, for several encoders",
    ),
    "import-weights": ("cry_lightning.import_weights", "published weights into an encoder checkpoint"),
    "prepare": ("cry_lightning.prepare", "build, list, verify or remove feature caches"),
    "download": ("cry_lightning.corpora.download", "fetch a public corpus"),
}
OF_A_STAGE = ("fit", "test")
EVERY_OPTION = "--help-all"  # of a stage, as its own parser, which takes seconds, lists them


def main(args: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2 (`--debug` shows its traceback)."""
    args = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    if not args or args[0] in ("-h", "--help"):
        print(table())
        return 0
    if args[0] == "--version":
        print(f"cry_lightning {__version__}")
        return 0
    logging.basicConfig(format="%(message)s")
    logging.getLogger("cry_lightning").setLevel(logging.INFO)
    try:
        run(args[0], find_shipped(args[1:]))
    except UserError as error:
        if debug:
            raise
        print(f"cry_lightning: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"cry_lightning: error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "cry_lightning: stopped; a fit goes on with --ckpt_path RUN/last.ckpt, all else with the same command",
            file=sys.stderr,
        )
        return 130
    return 0


def run(command: str, args: list[str]) -> None:
    """Run a command, its arguments checked first: to import what it runs takes seconds.

    Raises:
        UserError: there is no such command, or a mistake in its arguments.
    """
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}; the commands are {', '.join(COMMANDS)}")
    if command in OF_A_STAGE:
        args = [command, *args]
    options = "stage" if command in OF_A_STAGE else command.replace("-", "_")
    check: Callable[[list[str]], object] = import_module(f"cry_lightning.commands.{options}").arguments
    check(args)
    args = ["--help" if arg == EVERY_OPTION else arg for arg in args]
    import_module(COMMANDS[command][0]).main(args)


def table() -> str:
    """Every command with one line on what it does."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {command:<{width}}  {what}" for command, (_, what) in COMMANDS.items())
    usage = "python -m cry_lightning COMMAND [--help] [--debug] ..., or cry-lightning COMMAND ..."
    return (
        f"{about}\n\nusage: {usage}\n\n{rows}\n\n"
        "`COMMAND --help` tells more; `--debug` shows the traceback of an error."
    )


if __name__ == "__main__":
    sys.exit(main())
