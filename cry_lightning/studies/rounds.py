"""The rounds of a cross-validation: which clips each of them trains on and tests."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cry_lightning.console import UserError
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.splits import Split, census, count
from cry_lightning.data.subset import column
from cry_lightning.files import Json
from cry_lightning.studies import engine
from cry_lightning.studies.division import CrossValidationPlan

log = logging.getLogger(__name__)
FEW = 2  # groups of a class per fold: with fewer, a fold's score rests on one of them


@dataclass(frozen=True)
class Fold:
    """One training and test."""

    split: Split
    seed: int | None = None  # of the training; the YAML's own where there is none

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"repeat{self.split.repeat}-fold{self.split.fold}"

    @property
    def seeds(self) -> Json:
        """What a stage's config has for its seed."""
        return {} if self.seed is None else {"seed_everything": self.seed, "data.seed": self.seed}


@dataclass(frozen=True)
class Scheme:
    """How the clips are divided, again and again."""

    group: str  # "subject", "clip" or a column
    folds: int
    repeats: int
    leave_one_out: bool
    seeds: tuple[int, ...] = ()  # to train each division from; else each has one of its own

    def rounds(self, val: float, seed: int, training_seed: int = 0) -> list[Fold]:
        """Every fold of every repeat: of one division, or of one division and training seed.

        Args:
            val: share of validation in what is not tested.
            seed: of the divisions.
            training_seed: of the first division, which is the YAML's own; unless there are `seeds`.
        """
        common = Split(
            scheme="leave_one_out" if self.leave_one_out else "kfold",
            group=self.group,
            val=val,
            test=0.0,
            folds=self.folds,
            trainings=len(self.seeds) or 1,
            seed=seed,
        )
        trained_from = [
            *(self.seeds * self.repeats),
            *(() if self.seeds else [None, *range(training_seed + 1, training_seed + self.repeats)]),
        ]
        return [
            Fold(replace(common, repeat=r, fold=f), of_repeat)
            for r, of_repeat in enumerate(trained_from)
            for f in range(self.folds)
        ]


def trained_again(split: Split, seeds: Sequence[int]) -> list[Fold]:
    """One division trained from several seeds, each of which is a repeat.

    Raises:
        UserError: repeats would change this division.
    """
    if split.scheme in ("kfold", "leave_one_out"):
        raise UserError(f"--seeds train one division again; with data.split.scheme={split.scheme} use --repeats")
    return [Fold(replace(split, repeat=repeat), seed) for repeat, seed in enumerate(seeds)]


def plan(data: CryDataModule, division: CrossValidationPlan) -> Scheme:
    """The scheme, checked against the groups that there are.

    Raises:
        UserError: there are too few groups of a class, or there is no such column.
    """
    if data.split.val_in_train:
        raise UserError(
            "data.split.val_in_train: folds have no validation part where data.split.val is 0; set that instead"
        )
    group, folds, repeats = division.group or "subject", division.folds, division.repeats
    seeds = tuple(division.seeds or ())
    labelled = data.labelled_rows
    clips = data.clips[labelled]
    labels, groups = clips.each(lambda clip: clip.label or ""), column(clips, group)
    classes, _, counts = count(labels, groups)
    of_class = (counts > 0).sum(0)
    if division.loso:
        if len(counts) < 2:
            raise UserError(f"--loso: corpus {data.corpus.name} has one {group} alone, and nobody is left to train on")
        return Scheme(group, len(counts), repeats, True, seeds)
    folds = 5 if folds is None else folds
    if folds < 2 or repeats < 1:
        raise UserError(f"--folds must be at least 2 and --repeats at least 1, not {folds} and {repeats}")
    if (of_class < folds).any():
        rare = census(classes[of_class < folds], counts[:, of_class < folds], group)
        raise UserError(
            f"--folds {folds}: more than there are {group}s of {rare}; use --folds {max(2, of_class.min())} or fewer,"
            " or merge or leave out such classes with data.corpus.init_args.classes"
        )
    if (few := of_class < FEW * folds).any():
        log.warning("few %ss for %d folds: %s", group, folds, census(classes[few], counts[:, few], group))
    return Scheme(group, folds, repeats, False, seeds)


def divided(data: CryDataModule, split: Split) -> CryDataModule:
    """The data of a fold.

    Raises:
        UserError: nothing is left of a class to learn from.
    """
    data = engine.redivided(data, split=split)
    missing = set(data.classes) - {clip.label for clip in data.clips_of("train")}
    if missing:
        raise UserError(
            f"fold {split.fold} of repeat {split.repeat}: no training clip of {', '.join(sorted(missing))};"
            " use fewer --folds, or merge or leave out such classes with data.corpus.init_args.classes"
        )
    return data
