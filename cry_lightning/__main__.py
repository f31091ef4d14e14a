"""The command table: `python -m cry_lightning COMMAND ...`. Each command is imported only when it is called."""

import logging
import sys
from importlib import import_module
from pathlib import Path

from cry_lightning import __doc__ as about
from cry_lightning.arguments import ArgumentParser
from cry_lightning.errors import UserError

COMMANDS = {  # command -> (module with a `main(args)`, what it does)
    "acquire": ("cry_lightning.acquire", "phone videos and recordings into short cry units and a manifest"),
    "describe": ("cry_lightning.describe", "what a corpus holds, how it sounds, and which splits it can support"),
    "fit": ("cry_lightning.cli", "train one stage from a YAML (pretraining, adaptation or fine-tuning)"),
    "test": ("cry_lightning.cli", "run a trained stage on its test subjects: predictions.csv and lineage.json"),
    "evaluate": ("cry_lightning.evaluation.report", "metrics with intervals over subjects, figures and a report"),
    "predict": ("cry_lightning.inference.predict", "what a trained classifier says of recordings, window by window"),
    "embed": ("cry_lightning.inference.embed", "embeddings of clips by a trained encoder, and a map of them"),
    "cross-validate": ("cry_lightning.cross_validation", "a stage or a chain on every fold, pooled"),
    "tune": ("cry_lightning.tune", "search for good settings of a stage on its validation subjects"),
    "robustness": ("cry_lightning.robustness", "trained models under noise, lost bands, lost time, gain and channels"),
    "fuse": ("cry_lightning.evaluation.fuse", "predictions of several runs as one: mean, weighted, vote, stacking"),
    "paper": ("cry_lightning.papers", "a published system run whole, its table beside ours"),
    "architectures": ("cry_lightning.architectures", "networks of timm by picture size, cross-validated alike"),
    "picture": ("cry_lightning.picture", "what a network that sees pictures sees of recordings, as PNG files"),
    "label-efficiency": ("cry_lightning.label_efficiency", "scores against number of labels, for several encoders"),
    "import-weights": ("cry_lightning.import_weights", "published weights into an encoder checkpoint"),
    "prepare": ("cry_lightning.prepare", "build, list, verify or remove feature caches"),
    "download": ("cry_lightning.corpora.download", "fetch a public corpus"),
}


def main(args: list[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and exit code 2 (`--debug` shows its traceback)."""
    args = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    if not args or args[0] in ("-h", "--help"):
        print(table())
        return 0
    command, *rest = args
    logging.basicConfig(format="%(message)s")
    logging.getLogger("cry_lightning").setLevel(logging.INFO)
    try:
        if command not in COMMANDS:
            raise UserError(f"unknown command {command!r}; the commands are {', '.join(COMMANDS)}")
        check_configs(command, rest)
        run = import_module(COMMANDS[command][0]).main
        run([command, *rest] if COMMANDS[command][0] == "cry_lightning.cli" else rest)
    except UserError as error:
        if debug:
            raise
        print(f"cry_lightning: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if debug or error.filename is None:
            raise
        print(f"cry_lightning: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "cry_lightning: stopped; a fit goes on with --ckpt_path RUN/last.ckpt, all else with the same command",
            file=sys.stderr,
        )
        return 130
    return 0


def check_configs(command: str, args: list[str]) -> None:
    """Refuse a config that is not there at once: the command that would refuse it takes seconds to import torch.

    Raises:
        UserError: there is no such file, or nothing at all where a stage is wanted.
    """
    if command in ("fit", "test") and not args:
        raise UserError(f"{command}: which stage? Give its YAML: --config configs/finetune.yaml")
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--config", nargs="*", action="extend", default=[])
    for path in parser.parse_known_args(args)[0].config:
        elsewhere = path.startswith("~") or "://" in path  # where the command itself knows to look
        if path.endswith((".yaml", ".yml")) and not (elsewhere or Path(path).exists()):
            raise UserError(f"--config: {path}: no such file; give the YAML of a stage, such as configs/finetune.yaml")


def table() -> str:
    """Every command with one line on what it does."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {command:<{width}}  {what}" for command, (_, what) in COMMANDS.items())
    return (
        f"{about}\n\nusage: python -m cry_lightning COMMAND [--help] [--debug] ...\n\n{rows}\n\n"
        "`COMMAND --help` tells more; `--debug` shows the traceback of an error."
    )


if __name__ == "__main__":
    sys.exit(main())
