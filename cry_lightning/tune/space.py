"""The search space: which keys of a stage are varied, over what, and whether the stage can be searched so."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cry_lightning.console import UserError, did_you_mean, one_line
from cry_lightning.studies import Study, open_study

Drawn = CategoricalDistribution | FloatDistribution | IntDistribution
Space = dict[str, Drawn]  # by the dotted key of the stage
Values = dict[str, Any]  # of the keys of a space
RANGE = ("low", "high", "log", "step")
PARTS = ("train", "val", "test")
FIXED = ("name", "runs", "overwrite", "ckpt_path", "checkpoint", "trainer.logger", "trainer.devices")  # for all trials
SHAPES = "{low, high} with log or step by choice, or {choices}"


def read_space(path: str) -> Space:
    """The space in a YAML file: dotted keys of a stage, each with {low, high, log, step} or {choices}.

    Raises:
        UserError: the file is missing or is no such space.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"--space {path}: no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(one_line(f"--space {path}: not YAML ({error})")) from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"--space {path}: empty; give dotted keys of the stage, each with {SHAPES}")
    space = {}
    for key, setting in content.items():
        try:
            space[str(key)] = distribution(setting)
        except (ValueError, TypeError) as error:
            raise UserError(one_line(f"--space {path}: {key}: {error}")) from error
    return space


def distribution(setting: Any) -> Drawn:
    """What one key is drawn from; whole numbers at both ends mean whole numbers in between.

    Raises:
        ValueError: it makes no sense.
    """
    if not isinstance(setting, dict):
        raise ValueError(f"expected {SHAPES}, not {setting}")
    if unknown := [key for key in setting if key not in (*RANGE, "choices")]:
        raise ValueError(f"no such setting: {unknown[0]}{did_you_mean([str(unknown[0])], [*RANGE, 'choices'])}")
    if "choices" in setting:
        choices = setting["choices"]
        if len(setting) > 1 or not isinstance(choices, list):
            raise ValueError(f"expected {SHAPES}, not {setting}")
        return CategoricalDistribution([json.dumps(c) if isinstance(c, dict | list) else c for c in choices])
    if missing := [key for key in ("low", "high") if key not in setting]:
        raise ValueError(f"{' and '.join(missing)} missing; expected {SHAPES}")
    low, high = number(setting["low"]), number(setting["high"])
    step, log = setting.get("step"), bool(setting.get("log", False))
    step = None if step is None else number(step)
    if all(isinstance(value, int) for value in (low, high, step or 1)):
        return IntDistribution(low, high, log, step or 1)
    return FloatDistribution(low, high, log, step)


def number(value: Any) -> Any:
    """An int or a float; YAML takes 1e-3, without a dot, for a text.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, not {value}")
    return value


def corners(space: Space) -> list[Values]:
    """A few settings that have, taken together, both ends of every range and each of all choices."""
    ends: dict[str, Sequence[Any]] = {
        key: drawn.choices if isinstance(drawn, CategoricalDistribution) else (drawn.low, drawn.high)
        for key, drawn in space.items()
    }
    most = max(map(len, ends.values()))
    return [{key: values[index % len(values)] for key, values in ends.items()} for index in range(most)]


def as_arguments(values: Values) -> list[str]:
    """Values as `fit` takes them."""
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]


def as_json(space: Space) -> dict[str, Any]:
    """The space in plain values, to tell two of them apart."""
    return {key: vars(drawn) | {"kind": type(drawn).__name__} for key, drawn in space.items()}


def check_grouping(study: Study) -> None:
    """Refuse to choose on subjects that are trained on, or tested.

    Raises:
        UserError: so it would be.
    """
    part_of: dict[str, str] = {}
    for part in PARTS:
        for subject in study.data.subjects(part):
            if part_of.setdefault(subject, part) != part:
                raise UserError(
                    f"subject {subject} is both in {part_of[subject]} and in {part}: what suits known subjects would be"
                    " chosen; set data.split.group=subject, and data.split.column=null where the corpus divides itself"
                )


def check_space(study: Study, space: Space, path: str) -> None:
    """Parse settings that have, taken together, both ends of every range and each of all choices.

    Raises:
        UserError: `fit` would not take them, or they choose who is validated on and tested.
    """
    if fixed := [key for key in space if key.startswith(FIXED)]:
        raise UserError(f"--space {path}: {fixed[0]} is the same for all trials; leave it out")
    divided = [study.data.subjects(part) for part in PARTS[1:]]
    for values in corners(space):
        try:
            corner = open_study([*study.arguments, *as_arguments(values)])
        except UserError as error:
            known = list(dotted_keys(study.config))
            unknown = [key for key in space if key not in known]
            hint = "" if "did you mean" in str(error) else did_you_mean(unknown, known)
            raise UserError(f"--space {path}: {error}{hint}") from error
        if [corner.data.subjects(part) for part in PARTS[1:]] != divided:
            raise UserError(f"--space {path}: trials must share their validation and test subjects; leave the data be")


def dotted_keys(config: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of a nested config."""
    for key, value in config.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted_keys(value, f"{prefix}{key}.")
