"""The arguments of `fit` and `test` checked without torch, and their help."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from jsonargparse.typing import NonNegativeInt, PositiveInt

from cry_lightning.commands import signatures
from cry_lightning.commands.arguments import ArgumentParser, arguments_section, check_folder, check_name
from cry_lightning.commands.configs import (
    BOOL_OR_INT,
    ENDINGS,
    WHOLE_SECTIONS,
    check_class,
    check_keys,
    check_type,
    read_config,
    refuse_recordings,
)
from cry_lightning.console import ConfigError, UserError, did_you_mean, dotted
from cry_lightning.files import Config
from cry_lightning.files.former_names import MOVED, renamed
from cry_lightning.trust.names import Trust

GROUPS = {
    "data": "cry_lightning.data.datamodule.CryDataModule",
    "trainer": "lightning.pytorch.Trainer",
    "checkpoint": "lightning.pytorch.callbacks.ModelCheckpoint",
}
OWN: dict[str, tuple[object, object, str]] = {  # type, default and help of what a stage has beside model and groups
    "name": (str, None, "Stage name: the run folder is RUNS/CORPUS/NAME."),  # always given
    "pipeline": (str, "main", "Stages of one chain: the W&B group."),
    "runs": (str, "runs", "Folder of all run folders."),
    "overwrite": (bool, False, "Replace a finished run, or one of another config."),
    "save_every_n_steps": (PositiveInt | None, None, "Write last.ckpt mid-epoch too."),
    "map_every_n_epochs": (NonNegativeInt, 5, "Send W&B a map of embeddings so often; 0 for never."),
}
# Tables that an option adds to; any other is replaced.
ADDED_TO = {"init_args", "split", *(new.partition(".")[0] for moved in MOVED.values() for new in moved.values())}
OF_LIGHTNING = {  # options that LightningCLI adds by itself
    "config": "the stage's YAML",
    "print_config": "print the whole config and stop",
    "seed_everything": "of weights, order and augmentation (default: 0)",
    "ckpt_path": "resume this very stage from its last.ckpt (fit), or test another checkpoint than best.ckpt (test)",
}
LOG_AUDIO = "--log-audio"
ABOUT_AUDIO = "send W&B the sound of some clips, too; recordings of infants leave this machine so"
KEYS = ["model", *GROUPS, *OF_LIGHTNING, *OWN]  # of a stage's YAML
SHOWN_OF_TRAINER = ("max_epochs", "max_steps", "accelerator", "devices", "precision", "accumulate_grad_batches")


def help_text(command: str, configs: Sequence[str]) -> str:
    """Help of two screens: an example, then the options of the stage that is named, each with one line."""
    named = [read_config(path, "config") for path in configs]
    task = next((one["model"]["class_path"] for one in named if isinstance(one.get("model"), dict)), None)
    task = task or "cry_lightning.tasks.Classifier"
    own = OF_LIGHTNING | {name: about for name, (_, _, about) in OWN.items()}
    own["trust PACKAGE"] = "let a run's config.yaml name classes of this package, too"
    own[LOG_AUDIO.removeprefix("--")] = ABOUT_AUDIO
    example = "  python -m cry_lightning fit --config configs/finetune.yaml --trainer.max_epochs=30"
    if command == "test":
        example = "  python -m cry_lightning test --config runs/synthetic-cries/finetune/config.yaml"
    sections = {
        "": {f"--{name}": about for name, about in own.items()},
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
    return "\n".join([*lines, f"Every option: python -m cry_lightning {command} --help-all"])


def _described(path: str) -> dict[str, str]:
    """Key -> description of every parameter of a class, or of its fields, from its docstring and those of its bases."""
    described: dict[str, str] = {}
    definition = signatures.find(path)
    while definition is not None:
        section = dict(arguments_section(definition.docstring))
        own = {name: about for name, about in described.items() if not about.startswith("see ")}
        described = described | section | own
        bases = definition.node.bases if isinstance(definition.node, ast.ClassDef) else []
        definition = signatures.find(f"{definition.module}.{ast.unparse(bases[0])}") if bases else None
    rows: dict[str, str] = {}
    for name, parameter in (signatures.parameters(path) or {}).items():
        group = signatures.group_of(parameter)
        fields = dict(arguments_section(group.docstring)) if group else {}
        rows |= {f"{name}.{field}": about for field, about in fields.items()} or {name: described.get(name, "")}
    return {name: _in_short(about) for name, about in rows.items()}


def _in_short(text: str) -> str:
    """The first sentence, less what it says in brackets, on one line."""
    text = re.split(r"(?<=[.;:]) ", re.sub(r" \([^()]*(\([^()]*\)[^()]*)*\)", "", text.replace("`", "")))[0].rstrip(
        ".;:"
    )
    return text if len(text) <= 84 else f"{text[:81].rsplit(' ', 1)[0]} ..."


@dataclass(frozen=True)
class Override:
    """One option of the command line."""

    typed: str
    key: str
    value: str | None


def arguments(argv: Sequence[str]) -> None:
    """Check the arguments of `fit` or `test`, which is the first of them; `--help` prints and exits.

    Raises:
        UserError: a file is missing, a key is unknown, or a value cannot be of the type that is needed.
    """
    command, *rest = argv
    if not rest:
        raise UserError(f"{command}: which stage? Give its YAML: --config configs/finetune.yaml")
    given = list(_options(without_audio(taken_out(rest)[1])[1]))
    keys = {one.key for one in given}
    if keys & {"-h", "help"}:
        print(help_text(command, [one.value for one in given if one.key == "config" and one.value]))
        raise SystemExit(0)
    if keys & {"help-all", "print_config"} or any(key.endswith(".help") for key in keys):
        return
    check(given)


def taken_out(arguments: Sequence[str]) -> tuple[Trust, list[str]]:
    """Whom the arguments of a command trust, and the other arguments: no config may have a say in this."""
    parser = ArgumentParser(add_help=False, prog="python -m cry_lightning COMMAND")
    parser.add_argument("--trust", action="append", default=[], metavar="PACKAGE")
    options, others = parser.parse_known_args(list(arguments))
    return Trust(tuple(options.trust)), others


def without_audio(arguments: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether `fit` or `test` is to send sound, and their other arguments: in this, too, no config has a say."""
    return LOG_AUDIO in arguments, [argument for argument in arguments if argument != LOG_AUDIO]


def check_overrides(config: str | Path, overrides: Sequence[str]) -> Config:
    """Check a stage's YAML and the arguments that override it, as of `fit`; returns the config that they make."""
    return check([Override("--config", "config", str(config)), *_options(taken_out(overrides)[1])])


def check_data(given: str, overrides: Sequence[str]) -> None:
    """Check what overrides a data YAML, or the data at a path."""
    named = [Override("--data", "data", given)] * given.endswith(ENDINGS)
    check_sections(resolved([*named, *_options(taken_out(overrides)[1])]))


def check(given: Sequence[Override]) -> Config:
    """The config of a stage, without unknown keys and values of wrong types.

    Raises:
        ConfigError: naming the key.
    """
    config = resolved(given)
    if config.get("name") is None:
        raise ConfigError("", "the following arguments are required: name")
    check_name("name", str(config["name"]))
    if isinstance(config.get("runs"), str):
        check_folder("runs", config["runs"])
    check_sections(config)
    return config


def check_sections(config: Mapping[str, object]) -> None:
    """Refuse unknown keys and values of wrong types in a config's model, data, trainer and checkpoint."""
    check_class("model", config.get("model"), required=True)
    for group, path in GROUPS.items():
        parameters = signatures.parameters(path)
        if parameters is not None and isinstance(given := config.get(group), dict):
            check_keys(group, given, parameters, [dotted(group, name) for name in parameters])
    data = config.get("data")
    cache = data.get("cache") if isinstance(data, dict) else None
    if isinstance(cache, dict) and isinstance(folder := cache.get("folder"), str):
        check_folder("data.cache.folder", folder)


def resolved(given: Sequence[Override]) -> Config:
    """The config that files and options make together.

    Raises:
        ConfigError: a file or an option is at fault.
    """
    config: Config = {}
    for one in given:
        if one.key == "config" and one.value is not None:
            elsewhere = one.value.startswith("~") or "://" in one.value  # where `read_config` knows to look
            if not (elsewhere or Path(one.value).exists()):
                raise UserError(f"--config: {one.value}: no such file; give a YAML such as configs/finetune.yaml")
            read = read_config(one.value, "config")
            if {"systems", "corpora"} <= set(read):
                raise UserError(f"--config: {one.value}: a recipe, for `paper`, where a stage's YAML belongs")
            config = _merged(config, read)
    _refuse_unrecognized([one for one in given if not _recognized(one.key)])
    if unknown := [key for key in config if key not in KEYS]:
        raise ConfigError(unknown[0], f"no such key{did_you_mean(unknown[:1], KEYS)}")
    for one in given:
        if one.key == "seed_everything":
            check_type(BOOL_OR_INT, _value(one.value or ""), one.key)
        if one.value is not None and one.key not in OF_LIGHTNING:
            _set(config, one.key.rstrip("+").split("."), one.value, one.key)
    return config


def _options(argv: Sequence[str]) -> Iterator[Override]:
    """The options of a command line; a value that stands alone belongs to the option before it."""
    rest = list(argv)
    while rest:
        text = rest.pop(0)
        key, equals, value = text.removeprefix("--").partition("=")
        if not text.startswith("--"):
            yield Override(text, text if text.startswith("-") else "", None)
        elif equals:
            yield Override(text, key, value)
        else:
            taken = rest.pop(0) if rest and not rest[0].startswith("--") else None
            yield Override(text if taken is None else f"{text} {taken}", key, taken)


def _recognized(key: str) -> bool:
    first, _, rest = key.rstrip("+").partition(".")
    if first not in KEYS:
        return False
    parameters = signatures.parameters(GROUPS[first]) if first in GROUPS and rest else None
    return parameters is None or rest.partition(".")[0] in parameters


def _refuse_unrecognized(wrong: Sequence[Override]) -> None:
    if not wrong:
        return
    whole = [*KEYS]
    for group, path in GROUPS.items():
        whole += [dotted(group, name) for name in signatures.keys_of(path)]
    keys = [one.key if one.key.partition(".")[0] in KEYS else one.key.partition(".")[0] for one in wrong]
    hint = next(filter(None, map(renamed, keys)), "") or did_you_mean(keys, whole, "--")
    raise ConfigError("", f"unrecognized arguments: {' '.join(one.typed for one in wrong)}{hint}")


def _merged(below: Config, above: Config) -> Config:
    nested = {
        key: _merged(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict) and "class_path" not in value
    }
    return below | above | nested


def _set(config: Config, path: Sequence[str], value: str, key: str) -> None:
    """Put the value of an option into its place; a class that is replaced loses the arguments of the old one."""
    here = config
    for name in path[:-1]:
        if "class_path" in here and name not in ("init_args", "dict_kwargs"):
            here = here.setdefault("init_args", {})
        below = here.get(name)
        if isinstance(below, str):  # a class without arguments
            below = {"class_path": below}
        if not isinstance(below, dict):
            below = {}
        here[name] = here = below
    last = path[-1]
    if "class_path" in here and last not in ("class_path", "init_args", "dict_kwargs"):
        here = here.setdefault("init_args", {})
    if last == "class_path":
        here.pop("init_args", None)
    if key == "data":
        refuse_recordings(key, value)
    is_config = value.endswith(ENDINGS) and (key in WHOLE_SECTIONS or Path(value).is_file())
    new, old = read_config(value, key) if is_config else _value(value), here.get(last)
    if last in ADDED_TO and isinstance(old, dict) and isinstance(new, dict) and not is_config:
        new = _merged(old, new)
    here[last] = new


def _value(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
