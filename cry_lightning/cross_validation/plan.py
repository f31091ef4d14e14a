"""Which folds a cross-validation has, and whether the groups suffice for them."""

import logging
from dataclasses import dataclass, replace

import numpy as np

from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.division import column
from cry_lightning.data.splits import Split, census, count
from cry_lightning.errors import UserError

log = logging.getLogger(__name__)
FEW = 2  # groups of a class per fold: with fewer, a fold's score rests on one of them


@dataclass(frozen=True)
class Scheme:
    """How the clips are divided, again and again."""

    group: str  # "subject", "clip" or a column
    folds: int
    repeats: int
    leave_one_out: bool

    def splits(self, val: float) -> list[Split]:
        """The split of every fold of every repeat; `val` is the share of validation in what is not tested."""
        common = Split(
            scheme="leave_one_out" if self.leave_one_out else "kfold",
            group=self.group,
            val=val,
            test=0.0,
            folds=self.folds,
        )
        return [replace(common, repeat=r, fold=f) for r in range(self.repeats) for f in range(self.folds)]


def plan(data: CryDataModule, group: str, folds: int, repeats: int, leave_one_out: bool) -> Scheme:
    """The scheme, checked against the groups that there are.

    Raises:
        UserError: there are too few groups of a class, or there is no such column.
    """
    labelled = np.flatnonzero((data.labels.numpy() >= 0) & data.features.good)
    clips = [data.clips[row] for row in labelled]
    labels, groups = np.array([clip.label for clip in clips]), column(clips, group)
    classes, _, counts = count(labels, groups)
    of_class = (counts > 0).sum(0)
    if leave_one_out:
        if len(counts) < 2:
            raise UserError(f"--loso: there is only one {group}")
        return Scheme(group, len(counts), repeats, leave_one_out)
    if folds < 2 or repeats < 1:
        raise UserError(f"--folds must be at least 2 and --repeats at least 1, not {folds} and {repeats}")
    if (of_class < folds).any():
        rare = census(classes[of_class < folds], counts[:, of_class < folds])
        raise UserError(
            f"--folds {folds}: more than there are groups of {rare}; use --folds {max(2, of_class.min())} or fewer, or"
            " merge or leave out such classes with data.corpus.init_args.classes"
        )
    if (few := of_class < FEW * folds).any():
        log.warning("few groups for %d folds: %s", folds, census(classes[few], counts[:, few]))
    return Scheme(group, folds, repeats, leave_one_out)


def check_classes(data: CryDataModule, split: Split) -> None:
    """Set the data to a fold, and refuse it where nothing is left of a class to learn from.

    Raises:
        UserError: so it is.
    """
    data.split = split
    data.parts = data.divide()
    missing = set(data.classes) - {clip.label for clip in data.clips_of("train")}
    if missing:
        raise UserError(
            f"fold {split.fold} of repeat {split.repeat}: no training clip of {', '.join(sorted(missing))};"
            " use fewer --folds, or merge or leave out such classes with data.corpus.init_args.classes"
        )
