"""Who is trained on and who is tested on: pure functions on arrays of labels and groups, one entry per clip.

A group (a subject, a recording, a site) is never divided. Results depend on the names of the groups and the seed, not
on the order of the clips. A clip without a label ("") goes where its group goes.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from cry_lightning.console import UserError, counted
from cry_lightning.corpora.base import part_by_hash
from cry_lightning.corpora.clips import Names, as_names

UNLABELLED = "unlabelled"  # the class of all clips, where none has one
PART_OF = {"train": "train", "val": "val", "test": "test", "validation": "val", "valid": "val", "dev": "val"}
HOLDOUT_ATTEMPTS = 32
CLOSE_ENOUGH = 0.005  # mean deviation of a part's shares at which no further attempt is made
LOOSEST = 1.5  # times the imbalance of scikit-learn's division, which the further ones may have
EVEN = 0.01  # imbalance that is no matter
JITTER = 0.5  # standard deviation of the logarithm of sizes, by which the order of groups is disturbed
FOLD_ATTEMPTS = 1000


@dataclass
class Split:
    """How clips are divided into train, val and test.

    Args:
        scheme: "holdout" for one stratified division, "kfold" for repeated stratified K-fold, "leave_one_out" for one
            test group at a time, "hash" for a division that new groups do not change (see `by_hash`), "column" for the
            manifest's own division, "external" to test a trained model on all.
        group: what is never divided: "subject", "recording", "clip" or a column of the manifest.
        column: the column that holds the manifest's own division; naming it implies that scheme.
        val: share of the clips for validation; of those outside test, in every scheme but "holdout" and "hash".
        test: share of the clips for testing ("holdout" and "hash" only).
        folds: number of folds ("kfold").
        fold: the fold, or the group in sorted order, that is the test part.
        repeat: number of the repeat: of "kfold" each has another division into folds (see `fold_of_groups`), and of it
            and "leave_one_out" other validation parts.
        trainings: so many repeats in turn share one division and differ in what they are trained from.
        shares_of: what shares and folds are balanced by: the clips of each group and class, or its recordings, so that
            other windows of the same recordings are divided alike.
        seed: of every random choice.
        val_in_train: train on the validation part, too, and validate on nobody; the test part stays the same.
    """

    scheme: Literal["holdout", "kfold", "leave_one_out", "hash", "column", "external"] = "holdout"
    group: str = "subject"
    column: str | None = None
    val: float = 0.15
    test: float = 0.2
    folds: int = 5
    fold: int = 0
    repeat: int = 0
    trainings: int = 1
    shares_of: Literal["clips", "recordings"] = "clips"
    seed: int = 0
    val_in_train: bool = False

    def __post_init__(self) -> None:
        if self.column is not None:
            if self.scheme not in ("holdout", "column"):
                raise UserError(
                    f"split: column {self.column!r} and scheme {self.scheme} contradict each other;"
                    " set data.split.column=null for the scheme"
                )
            self.scheme = "column"
        elif self.scheme == "column":
            raise UserError("split: scheme column needs split.column, the name of the manifest's split column")
        if min(self.val, self.test) < 0 or self.val + self.test >= 1:
            raise UserError(f"split: val {self.val} and test {self.test} must not be negative and sum to less than 1")
        if self.scheme == "kfold" and not 0 <= self.fold < self.folds:
            raise UserError(f"split: fold {self.fold} must lie between 0 and folds - 1 ({self.folds - 1})")
        if self.trainings < 1:
            raise UserError(f"split: trainings {self.trainings} must be at least 1")

    @property
    def nth_division(self) -> int:
        """The number of the division that this repeat has."""
        return self.repeat // self.trainings


def assign(split: Split, labels: Names, groups: Names, own: Names | None = None) -> np.ndarray:
    """The part ("train", "val", "test", or "" for left out) of every clip.

    Args:
        split: the division asked for.
        labels: class names, "" where unlabelled. Where no clip is labelled, all count as one class.
        groups: group ids.
        own: the manifest's own values, for the scheme "column"; "" leaves a labelled clip out.

    Raises:
        UserError: where a class has too few groups, or the column holds other values than it may.
    """
    label, group = as_names(labels), as_names(groups)
    if not np.any(label != ""):
        label = as_names(np.full(len(label), UNLABELLED))
    labelled = label != ""
    if split.scheme == "external":
        return np.full(len(label), "test")
    parts = np.full(len(label), "", dtype="<U5")
    seed = split.seed + (split.nth_division if split.scheme in ("kfold", "leave_one_out") else 0)
    if split.scheme == "holdout":
        shares = {"train": 1 - split.val - split.test, "val": split.val, "test": split.test}
        parts[labelled] = holdout(label[labelled], group[labelled], shares, seed, split.group)
    elif split.scheme == "kfold":
        parts[labelled] = _kfold(label[labelled], group[labelled], split)
    elif split.scheme == "leave_one_out":
        parts[labelled] = _leave_one_out(group[labelled], split.fold, split.group)
    elif split.scheme == "hash":
        parts[labelled] = by_hash(label[labelled], group[labelled], split.val, split.test)
    else:
        assert own is not None and split.column is not None  # Split sees to the name, the caller to the values
        parts = _own_parts(as_names(own), split.column)
    if split.val and not np.any(parts == "val"):
        rest = labelled & (parts == "train")
        parts[rest] = holdout(label[rest], group[rest], {"train": 1 - split.val, "val": split.val}, seed, split.group)
    _place_unlabelled(parts, ~labelled, group)
    return np.where(parts == "val", "train", parts) if split.val_in_train else parts


def holdout(labels: Names, groups: Names, shares: dict[str, float], seed: int, group: str) -> np.ndarray:
    """Divide groups so that each part holds its share of each class's clips and groups, and at least one of each.

    Groups are shuffled and dealt out greedily, those of the rarest class first, each to the part that lacks the largest
    fraction of its shares of that class; of some such deals the one nearest to the shares is kept. Clips alone would
    let one group with most of a class's clips be all that the training part has of it.
    """
    shares = {part: share for part, share in shares.items() if share > 0}
    classes, group_of, counts = count(labels, groups)
    _refuse_rare(classes, counts, len(shares), f"a division into {', '.join(shares)}", group)
    amounts = np.stack([counts, counts > 0], axis=-1)  # (groups, K, 2): clips, and groups
    wanted = np.multiply.outer(list(shares.values()), amounts.sum(0))  # (parts, K, 2)
    rng = np.random.default_rng(seed)
    best, best_deviation = None, np.inf
    for _ in range(HOLDOUT_ATTEMPTS):
        part_of_group = _assign_greedily(amounts, wanted, rng)
        got = np.stack([amounts[part_of_group == part].sum(0) for part in range(len(shares))])
        deviation = (np.abs(got - wanted).sum((0, 1)) / wanted.sum((0, 1))).mean() / len(shares)
        if np.all(got > 0) and deviation < best_deviation:
            best, best_deviation = part_of_group, deviation
        if best_deviation < CLOSE_ENOUGH:
            break
    if best is None:
        raise UserError(
            f"split: found no division of {len(counts)} {group}s with every class in each of {', '.join(shares)}; "
            f"too many {group}s share the rare classes: {census(classes, counts, group)}"
        )
    parts: np.ndarray = np.array(list(shares))[best[group_of]]
    return parts


def _kfold(labels: pd.Categorical, groups: pd.Categorical, split: Split) -> np.ndarray:
    classes, group_of, counts = count(labels, groups)
    _refuse_rare(classes, counts, split.folds, f"{split.folds}-fold cross-validation", split.group)
    fold = fold_of_groups(counts, split.folds, split.seed, split.nth_division, split.group)
    return np.where(fold[group_of] == split.fold, "test", "train")


def by_hash(labels: pd.Categorical, groups: pd.Categorical, val: float, test: float) -> np.ndarray:
    """The part of every clip by its group's hash, see `part_by_hash`.

    A group stays where it is whichever others there are; the shares of the clips are only roughly those asked for.

    Args:
        labels: class names (n,).
        groups: group ids (n,), hashed without their collection.
        val: share of all hashes.
        test: share of all hashes.

    Raises:
        UserError: a class is missing from a part.
    """
    part_of = [part_by_hash(name.partition(":")[2] or name, val, test) for name in groups.categories]
    parts: np.ndarray = np.array(part_of)[groups.codes]
    for part, share in {"train": 1 - val - test, "val": val, "test": test}.items():
        if share and (missing := sorted({*labels.unique()} - {*labels[parts == part].unique()})):
            raise UserError(
                f"split: by their hashes, no group of {', '.join(missing)} falls to {part}; move split.val and"
                " split.test, or use the scheme holdout"
            )
    return parts


def _leave_one_out(groups: pd.Categorical, fold: int, group: str) -> np.ndarray:
    names = groups.remove_unused_categories().categories
    if not 0 <= fold < len(names):
        raise UserError(f"split: fold {fold} must lie between 0 and {len(names) - 1}, one for each of the {group}s")
    return np.where(groups == names[fold], "test", "train")


def _own_parts(own: pd.Categorical, column: str) -> np.ndarray:
    own = own.remove_unused_categories()
    values = [value.strip().lower() for value in own.categories]
    unknown = sorted(set(values) - set(PART_OF) - {""})
    if unknown or "train" not in values:
        held = f"holds {', '.join(map(repr, unknown))}" if unknown else "names no clip for train"
        raise UserError(f"split: column {column!r} {held}; its values are train, val, test, or nothing")
    parts: np.ndarray = np.array([PART_OF.get(value, "") for value in values], dtype="<U5")[own.codes]
    return parts


def _place_unlabelled(parts: np.ndarray, unlabelled: np.ndarray, groups: pd.Categorical) -> None:
    """Give unlabelled clips the part of their group, train where it has none: no test subject is there."""
    if not unlabelled.any():
        return
    movable = unlabelled & np.isin(parts, ("", "train"))
    parts[movable] = "train"
    for part in ("val", "test"):
        parts[movable & np.isin(groups.codes, groups.codes[~unlabelled & (parts == part)])] = part


def count(labels: Names, groups: Names) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class names (K,), index of each clip's group, and clips per group and class (groups, K)."""
    label, group = as_names(labels), as_names(groups)
    n_groups, n_classes = len(group.categories), len(label.categories)
    place = group.codes.astype(int)
    place *= n_classes  # in place, since there may be millions
    place += label.codes
    counts = np.bincount(place, minlength=n_groups * n_classes).reshape(n_groups, n_classes)
    has_group, has_class = counts.any(axis=1), counts.any(axis=0)
    group_of = (np.cumsum(has_group, dtype=np.int32) - 1)[group.codes]
    return label.categories.to_numpy(str)[has_class], group_of, counts[has_group][:, has_class]


def _assign_greedily(amounts: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Index of a part for every group: one greedy deal, see `holdout`."""
    part_of_group = np.full(len(amounts), -1)
    got = np.zeros_like(wanted)
    shuffled = rng.permutation(len(amounts))
    groups_of_class = (amounts[..., 1] > 0).sum(0)
    for rare in np.argsort(groups_of_class, kind="stable"):
        for group in shuffled[(amounts[shuffled, rare, 1] > 0) & (part_of_group[shuffled] < 0)]:
            part = part_of_group[group] = np.argmin((got[:, rare] / wanted[:, rare]).sum(-1))
            got[part] += amounts[group]
    return part_of_group


def _refuse_rare(classes: np.ndarray, counts: np.ndarray, needed: int, purpose: str, group: str) -> None:
    rare = (counts > 0).sum(0) < needed
    if rare.any():
        way_out = "merge or leave out those with the corpus's `classes`"
        if rare.all():  # which leaves none
            named = set(classes) - {UNLABELLED}
            way_out = f"it takes more {group}s" + ", and two classes at least" * (len(named) == 1)
        raise UserError(
            f"split: {purpose} needs at least {needed} {group}s of each class, but there are only"
            f" {census(classes[rare], counts[:, rare], group)}; {way_out}"
        )


def census(classes: np.ndarray, counts: np.ndarray, group: str = "group") -> str:
    """Each class with its numbers of groups, by the name that these have, and clips; arrays as from `count`."""
    groups, clips = (counts > 0).sum(0), counts.sum(0)
    rows = zip(classes, groups, clips, strict=True)
    return ", ".join(f"{name} ({counted(g, group)}, {counted(n, 'clip')})" for name, g, n in rows)


def fold_of_groups(counts: np.ndarray, folds: int, seed: int, repeat: int, group: str = "group") -> np.ndarray:
    """The fold of every group (groups,), from clips per group and class (groups, K).

    Repeat 0 is scikit-learn's division. Each further one differs from all before it, and is at most 1.5 times as
    unbalanced: `StratifiedGroupKFold(shuffle=True)` shuffles only groups that tie, so that of infants with unequal
    numbers of clips every seed gives nearly the same division.

    Raises:
        UserError: there are not so many different divisions.
    """
    try:
        return _fold_of_groups(np.ascontiguousarray(counts, int).tobytes(), counts.shape, folds, seed, repeat)
    except LookupError as error:
        raise UserError(
            f"--repeats: found only {error} different balanced divisions of {len(counts)} {group}s into {folds} folds;"
            f" use --repeats {error}, or other --folds"
        ) from None


@lru_cache(maxsize=128)  # a cross-validation asks for each repeat in every fold, and for all before it
def _fold_of_groups(counts_as_bytes: bytes, shape: tuple[int, int], folds: int, seed: int, repeat: int) -> np.ndarray:
    counts = np.frombuffer(counts_as_bytes, int).reshape(shape)
    if repeat == 0:
        return _by_scikit_learn(counts, folds, seed)
    before = [_fold_of_groups(counts_as_bytes, shape, folds, seed, earlier) for earlier in range(repeat)]
    bound = max(LOOSEST * imbalance(counts, before[0], folds), EVEN)
    known = set(map(_partition, before))
    for attempt in range(FOLD_ATTEMPTS):
        found = _dealt(counts, folds, np.random.default_rng([seed, repeat, attempt]))
        new = _partition(found) not in known and _trainable(counts, found, folds)
        if new and imbalance(counts, found, folds) <= bound:
            return found
    raise LookupError(repeat)


def imbalance(counts: np.ndarray, fold: np.ndarray, folds: int) -> float:
    """Standard deviation over folds of the share of a class's clips, mean over classes: what scikit-learn minimizes."""
    held = np.stack([counts[fold == each].sum(axis=0) for each in range(folds)])
    return float((held / counts.sum(axis=0)).std(axis=0).mean())


def _by_scikit_learn(counts: np.ndarray, folds: int, seed: int) -> np.ndarray:
    group, label = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    fold = np.zeros(len(counts), int)
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(label, label, group)
    for each, (_, tested) in enumerate(splits):
        fold[group[tested]] = each
    return fold


def _dealt(counts: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Groups in a random order, large ones rather first, each to the fold that has least of its classes."""
    shares = counts / counts.sum(axis=0)
    order = np.argsort(-np.log(shares.sum(axis=1)) + JITTER * rng.normal(size=len(counts)))
    held, fold = np.zeros((folds, counts.shape[1])), np.zeros(len(counts), int)
    for group in order:
        # Of the sum of squares of all shares, this is what depends on the fold; of several such, the emptiest.
        fold[group] = np.lexsort([held.sum(axis=1), held @ shares[group]])[0]
        held[fold[group]] += shares[group]
    return fold


def _trainable(counts: np.ndarray, fold: np.ndarray, folds: int) -> bool:
    """Whether no fold is empty or has all groups of a class."""
    return all((fold == each).any() and (counts[fold != each] > 0).any(axis=0).all() for each in range(folds))


def _partition(fold: np.ndarray) -> bytes:
    """A division whatever the numbers of its folds: they are numbered as they first appear."""
    _, first, number = np.unique(fold, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number].tobytes()
