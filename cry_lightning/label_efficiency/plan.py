"""Which trainings a study is made of: pure functions from options to points."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from cry_lightning.console import UserError

SCRATCH = "scratch"
FOLD = "{fold}"  # in a checkpoint's path: an encoder that was not trained on the fold's test subjects
CountedBy = Literal["label_fraction", "per_class"]
NO_LIMIT = {"label_fraction": "1.0", "per_class": "null"}  # whatever the YAML says, one of the two limits the labels


@dataclass(frozen=True)
class Point:
    """One training: an encoder on an amount of labels, under one seed, in one fold."""

    encoder: str
    weights: str | None  # checkpoint; None: from scratch
    counted_by: CountedBy
    amount: float
    seed: int
    fold: int | None  # None: the one that the config names
    own: tuple[str, ...] = ()  # arguments of this encoder alone

    @property
    def name(self) -> str:
        """Name of its run folder."""
        fold = "" if self.fold is None else f"-fold{self.fold}"
        return f"{self.encoder}-{self.counted_by}{self.amount}-seed{self.seed}{fold}"

    @property
    def subset(self) -> tuple[float, int, int | None]:
        """What decides which clips it trains on; the encoder does not."""
        return self.amount, self.seed, self.fold

    @property
    def arguments(self) -> list[str]:
        """What sets it apart from the other points, as `fit` takes it."""
        fold = [] if self.fold is None else [f"--data.split.fold={self.fold}"]
        limits = NO_LIMIT | {self.counted_by: str(self.amount)}
        return [
            *(f"--data.{key}={value}" for key, value in limits.items()),
            f"--data.seed={self.seed}",
            f"--seed_everything={self.seed}",
            f"--model.init_args.weights={self.weights or 'null'}",
            *fold,
            *self.own,
        ]


def points(
    encoders: Sequence[str],
    counted_by: CountedBy,
    amounts: Sequence[float],
    seeds: Sequence[int],
    folds: Sequence[int | None],
    own: Sequence[str] = (),
) -> list[Point]:
    """Every encoder on every amount, seed and fold, the cheap ones first: a leak in any fold shows early.

    Args:
        encoders: "scratch" or "NAME=CHECKPOINT" each.
        counted_by: what the amounts are.
        amounts: shares of each class's subjects, or clips per class.
        seeds: of the subset and of the training alike.
        folds: the folds to pool; [None] for the one that the config names.
        own: "NAME ARGUMENTS..." each: arguments of `fit` that hold for one encoder alone.

    Raises:
        UserError: an option makes no sense, or a checkpoint is missing.
    """
    weights_of = [read_encoder(encoder) for encoder in encoders]
    refuse_twice("--encoders", [name for name, _ in weights_of])
    option = {"label_fraction": "--fractions", "per_class": "--per-class"}[counted_by]
    for name, values in ((option, amounts), ("--seeds", seeds), ("--folds", folds)):
        refuse_twice(name, values)
    for amount in amounts:
        if not 0 < amount <= (1 if counted_by == "label_fraction" else amount):
            raise UserError(f"{option} {amount}: shares lie above 0 and up to 1, clips per class are 1 or more")
    arguments = dict(read_arguments(text, [name for name, _ in weights_of]) for text in own)
    grid = product(sorted(amounts), seeds, folds, weights_of)
    return [
        Point(name, checkpoint(name, path, fold), counted_by, amount, seed, fold, arguments.get(name, ()))
        for amount, seed, fold, (name, path) in grid
    ]


def read_encoder(text: str) -> tuple[str, str | None]:
    """Name and checkpoint of "scratch" or "NAME=CHECKPOINT"."""
    name, _, path = text.partition("=")
    if text == SCRATCH:
        return name, None
    if not path or name == SCRATCH or not re.fullmatch(r"[\w.-]+", name):
        raise UserError(
            f"--encoders {text}: say {SCRATCH}, or NAME=CHECKPOINT, with a NAME of letters, digits, dots and dashes"
        )
    return name, path


def read_arguments(text: str, encoders: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Name and arguments of "NAME --model.KEY=VALUE ..."; on what it trains, no encoder differs from the others."""
    name, *arguments = shlex.split(text) or [""]
    if name not in encoders:
        raise UserError(f"--arguments {name}: no such encoder; they are {', '.join(encoders)}")
    if alien := [argument for argument in arguments if not re.match(r"--(model|trainer)\.[\w.]+=", argument)]:
        raise UserError(f"--arguments {name}: {alien[0]}: only --model.KEY=VALUE and --trainer.KEY=VALUE may differ")
    if weights := [argument for argument in arguments if re.match(r"--model\.(init_args\.)?weights=", argument)]:
        raise UserError(f"--arguments {name}: {weights[0]}: what an encoder starts from is said by --encoders")
    return name, tuple(arguments)


def checkpoint(name: str, path: str | None, fold: int | None) -> str | None:
    """The checkpoint of an encoder in a fold."""
    if path is None:
        return None
    if FOLD in path and fold is None:
        raise UserError(f"--encoders {name}={path}: {FOLD} stands for a fold, so name the --folds")
    path = path.replace(FOLD, str(fold))
    if not Path(path).is_file():
        raise UserError(f"--encoders {name}: {path}: no such checkpoint; fit the stage that makes it first")
    return path


def refuse_twice(option: str, values: Sequence[object]) -> None:
    """An option's values must differ."""
    twice = [value for value in values if list(values).count(value) > 1]
    if twice:
        raise UserError(f"{option}: {twice[0]} is named twice")
