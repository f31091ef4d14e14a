"""The options of a stage, and the help of two screens that `fit` and `test` give of them."""

import ast
import re
from collections.abc import Sequence

from cry_lightning.commands import signatures
from cry_lightning.commands.configs import read_config
from cry_lightning.typed import arguments_section

GROUPS = {
    "data": "cry_lightning.data.datamodule.CryDataModule",
    "trainer": "lightning.pytorch.Trainer",
    "checkpoint": "lightning.pytorch.callbacks.ModelCheckpoint",
}
CLI = "cry_lightning.cli.StageCLI"
OF_LIGHTNING = {  # options that LightningCLI adds by itself
    "config": "the stage's YAML",
    "print_config": "print the whole config and stop",
    "seed_everything": "of weights, order and augmentation (default: 0)",
    "ckpt_path": "resume this very stage from its last.ckpt (fit), or test another checkpoint than best.ckpt (test)",
}
SHOWN_OF_TRAINER = ("max_epochs", "max_steps", "accelerator", "devices", "precision", "accumulate_grad_batches")


def help_text(command: str, configs: Sequence[str]) -> str:
    """Help of two screens: an example, then the options of the stage that is named, each with one line."""
    named = [read_config(path, "config") for path in configs]
    task = next((one["model"]["class_path"] for one in named if isinstance(one.get("model"), dict)), None)
    task = task or "cry_lightning.tasks.Classifier"
    example = "  python -m cry_lightning fit --config configs/finetune.yaml --trainer.max_epochs=30"
    if command == "test":
        example = "  python -m cry_lightning test --config runs/synthetic-cries/finetune/config.yaml"
    sections = {
        "": _own_options(command),
        "--data FILE.yaml, or --data.NAME VALUE:": _described(GROUPS["data"]),
        f"--model.init_args.NAME VALUE, here of {task.rpartition('.')[2]}:": _described(task),
    }
    trainer = ", ".join(SHOWN_OF_TRAINER)
    lines = [f"usage: python -m cry_lightning {command} --config STAGE.yaml [--NAME VALUE] ...", "", example]
    for title, rows in sections.items():
        lines += ["", *([title] if title else [])]
        width = max(map(len, rows), default=0)
        lines += [f"  {name:<{width}}  {about}" for name, about in rows.items()]
    lines += ["", f"--trainer.NAME VALUE: Lightning's Trainer: {trainer} ...", "--checkpoint.NAME VALUE: monitor, mode"]
    return "\n".join([*lines, "", f"Every option: python -m cry_lightning {command} --help-all"])


def _own_options(command: str) -> dict[str, str]:
    rows = {f"--{name}": about for name, about in OF_LIGHTNING.items()}
    for name, call in added_options().items():
        about = next((keyword.value for keyword in call.keywords if keyword.arg == "help"), None)
        rows[f"--{name}"] = str(ast.literal_eval(about)) if about is not None else ""
    rows["--trust PACKAGE"] = "let a run's config.yaml name classes of this package, too"
    return rows


def _described(path: str) -> dict[str, str]:
    """Name -> description of every parameter of a class, from its docstring and those of its bases."""
    described: dict[str, str] = {}
    definition = signatures.find(path)
    while definition is not None:
        section = dict(arguments_section(definition.docstring))
        own = {name: about for name, about in described.items() if not about.startswith("see ")}
        described = described | section | own
        bases = definition.node.bases if isinstance(definition.node, ast.ClassDef) else []
        definition = signatures.find(f"{definition.module}.{ast.unparse(bases[0])}") if bases else None
    return {name: _in_short(described.get(name, "")) for name in signatures.parameters(path) or {}}


def _in_short(text: str) -> str:
    """The first sentence, less what it says in brackets, on one line."""
    text = re.split(r"(?<=[.;:]) ", re.sub(r" \([^()]*(\([^()]*\)[^()]*)*\)", "", text.replace("`", "")))[0].rstrip(
        ".;:"
    )
    return text if len(text) <= 84 else f"{text[:81].rsplit(' ', 1)[0]} ..."


def added_options() -> dict[str, ast.Call]:
    """Name -> call of `add_argument` for the options that the stage's command line adds."""
    definition = signatures.find(CLI)
    calls = [node for node in ast.walk(definition.node) if isinstance(node, ast.Call)] if definition else []
    added = [call for call in calls if ast.unparse(call.func).endswith(".add_argument")]
    return {ast.literal_eval(call.args[0]).removeprefix("--"): call for call in added}
