"""Groups of a datamodule's arguments; who is trained on, validated and tested, and nested subsets with fewer labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cry_lightning.audio import warn_once
from cry_lightning.console import UserError, counted, from_cell
from cry_lightning.corpora import Clip, Clips
from cry_lightning.corpora.clips import Names, as_names
from cry_lightning.data import splits
from cry_lightning.data.splits import census, count
from cry_lightning.files import nfc, read_text


@dataclass(frozen=True)
class Subset:
    """Which clips of the training part are trained on.

    Args:
        unlabelled: train on clips without a label too (their label is -1); for stages that learn without labels.
        label_fraction: train on this share of each class's subjects only (nested: a smaller share is part of a larger).
        per_class: train on this many clips of each class only, spread over its subjects (nested).
        exclude_subjects: file with one subject id per line, or a predictions.csv for those it tests, or several such;
            none of them is used in training or validation.
    """

    unlabelled: bool = False
    label_fraction: float = 1.0
    per_class: int | None = None
    exclude_subjects: str | list[str] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.label_fraction <= 1:
            raise UserError(f"data.subset.label_fraction must lie above 0 and up to 1, not {self.label_fraction}")

    @property
    def exclusions(self) -> list[str]:
        """The files of `exclude_subjects`."""
        return [self.exclude_subjects] if isinstance(self.exclude_subjects, str) else self.exclude_subjects or []


@dataclass(frozen=True)
class Sampling:
    """How training clips are drawn into batches, and weighed.

    Args:
        batch_size: clips per batch and process.
        drop_last: leave out the last training batch where it is not full.
        balanced: draw training clips so that every class is equally likely.
        by_subject: make training batches of as few subjects as can be, so that who it is does not tell SimCLR's
            negatives apart; see `EpochOrder`.
        class_weights: weigh the loss by the inverse class frequency of the training clips.
        min_batches: training batches of an epoch, at least: where there are fewer clips, they are drawn several times.
    """

    batch_size: int = 64
    drop_last: bool = False
    balanced: bool = False
    by_subject: bool = False
    class_weights: bool = False
    min_batches: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"data.sampling.batch_size must be 1 or more, not {self.batch_size}")
        if self.min_batches < 0:
            raise UserError(f"data.sampling.min_batches must be 0 or more, not {self.min_batches}")
        if self.min_batches and self.by_subject:
            raise UserError("data.sampling.min_batches may draw a clip twice for a batch of data.sampling.by_subject")
        if self.balanced and self.by_subject:
            raise UserError("data.sampling.balanced draws by class, so it cannot go with data.sampling.by_subject")


@dataclass(frozen=True)
class Caching:
    """Where features are kept, and how they are computed.

    Args:
        folder: where feature caches lie.
        dtype: type of the numbers on the disk; "float16" halves a cache.
        workers: processes that build the cache; 0 builds it in this one.
    """

    folder: str = "cache"
    dtype: Literal["float32", "float16"] = "float32"
    workers: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"data.cache.workers must be 0 or more, not {self.workers}")


def fraction_of_groups(labels: Names, groups: Names, fraction: float, seed: int) -> np.ndarray:
    """Mask of the training clips of a fraction of the groups, but at least one group of each class.

    Under one seed, the groups of a smaller fraction are among those of a larger one. Unlabelled clips stay.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"label_fraction must lie above 0 and up to 1, not {fraction}")
    label, group = as_names(labels), as_names(groups)
    labelled = label != ""
    kept = ~labelled
    _, group_of, counts = count(label[labelled], group[labelled])
    if not labelled.any():
        raise UserError("label_fraction: no training clip has a label")
    order = _stratified_order(counts > 0, np.random.default_rng(seed))
    covers = int(np.argmax((np.cumsum(counts[order], axis=0) > 0).all(1))) + 1
    n_groups = max(round(fraction * len(counts)), covers)
    kept[labelled] = np.isin(group_of, order[:n_groups])
    return kept


def clips_per_class(labels: Names, groups: Names, n: int, seed: int) -> np.ndarray:
    """Mask of n training clips of each class, taken from its groups in turn; unlabelled clips stay.

    Under one seed and order of clips, the clips of a smaller n are among those of a larger one.
    """
    label, group = as_names(labels), as_names(groups)
    kept = label == ""
    classes, _, counts = count(label[~kept], group[~kept])
    short = counts.sum(0) < n
    if n < 1 or short.any():
        raise UserError(f"per_class: there are not {n} training clips of {census(classes[short], counts[:, short])}")
    for index, name in enumerate(classes):
        rng = np.random.default_rng([seed, index])
        rows = rng.permutation(np.flatnonzero(label == name))
        names, group_of = np.unique(group.codes[rows], return_inverse=True)
        place = rng.permutation(len(names))[group_of]
        turn = pd.Series(rows).groupby(group_of).cumcount()
        kept[rows[np.lexsort((place, turn))[:n]]] = True
    return kept


def read_exclusions(path: str | Path) -> set[str]:
    """Subject ids in a text file, one per line (what follows a # is a comment), or in a predictions.csv, its test rows.

    Raises:
        UserError: the file cannot be read as such, or names nobody.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".csv":
            subjects = _tested_subjects(path)
        else:
            subjects = {nfc(line.split("#")[0].strip()) for line in read_text(path).splitlines()} - {""}
    except (OSError, ValueError) as error:  # of a file that is no text, too
        raise UserError(f"exclude_subjects: {path} cannot be read: {error}") from error
    if not subjects:
        raise UserError(f"exclude_subjects: {path} names no subject; leave exclude_subjects out to exclude nobody")
    return subjects


def _tested_subjects(path: Path) -> set[str]:
    table = pd.read_csv(path, dtype=str, keep_default_na=False).map(from_cell)
    if missing := {"subject", "split"} - set(table):
        raise UserError(
            f"exclude_subjects: {path} has no column {' and '.join(sorted(missing))}; a .csv here is the"
            " predictions.csv of a run, and a list of subjects is a .txt"
        )
    return {*map(nfc, table["subject"][table["split"] == "test"])}


def _stratified_order(has: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Groups in an order in which every beginning holds each class's groups about evenly; `has` is (groups, K)."""
    total, taken, order = has.sum(0), np.zeros(has.shape[1]), []
    waiting = rng.permutation(len(has))
    while waiting.size:
        share = np.where(taken < total, taken / total, np.inf)
        least_covered = np.lexsort((total, share))[0]
        group = waiting[has[waiting, least_covered]][0]
        order.append(group)
        taken += has[group]
        waiting = waiting[waiting != group]
    return order


def divide(
    clips: Sequence[Clip],
    good: np.ndarray,
    split: splits.Split,
    subset: Subset = Subset(),  # frozen
    seed: int = 0,
) -> np.ndarray:
    """The part ("train", "val", "test" or "" for left out) of every clip (n,).

    Unlabelled clips are left out, or with `subset.unlabelled` go where their subject goes; none of them is tested.

    Args:
        clips: what is divided.
        good: which of them can be used (n,).
        split: the division asked for.
        subset: of the training part; its `unlabelled` clips and `exclude_subjects` count for validation, too.
        seed: of `label_fraction` and `per_class`.

    Raises:
        UserError: nothing can be used, or the split cannot be made.
    """
    clips = Clips.of(clips)
    labels, groups = clips.each(lambda clip: clip.label or ""), column(clips, split.group)
    usable = good & ((labels != "") | subset.unlabelled)
    excluded = np.zeros(len(clips), dtype=bool)
    for path in subset.exclusions:
        excluded |= named_in(path, column(clips, "subject"))
    if split.scheme == "holdout" and not split.test:  # nobody is tested: validation keeps its share of who is left
        usable &= ~excluded
    if not usable.any():
        raise UserError(
            "no usable labelled clip: labels come from class folders (with no recording beside them) or from a"
            " manifest.csv with a column `label`; training without labels wants data.subset.unlabelled=true"
        )
    own = column(clips, split.column) if split.column else None
    rows = np.flatnonzero(usable)
    kept, alike = _recordings(rows, clips, labels, groups, own) if split.shares_of == "recordings" else (rows, ...)
    assigned = splits.assign(split, labels[kept], groups[kept], None if own is None else own[kept])
    parts = np.full(len(clips), "", dtype="<U5")
    parts[rows] = assigned[alike]
    parts[(labels == "") & (parts == "test")] = ""
    parts[excluded & (parts != "test")] = ""
    train = np.flatnonzero(parts == "train")
    if subset.label_fraction < 1:
        train = _keep(parts, train, fraction_of_groups(labels[train], groups[train], subset.label_fraction, seed))
    if subset.per_class is not None:
        _keep(parts, train, clips_per_class(labels[train], groups[train], subset.per_class, seed))
    return parts


def _recordings(
    rows: np.ndarray, clips: Clips, labels: pd.Categorical, groups: pd.Categorical, own: pd.Categorical | None
) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each recording, label, group and part of its own, and the place among these of every row's."""
    named = [clips.each(lambda clip: clip.path), labels, groups, *([] if own is None else [own])]
    codes = np.stack([names.codes[rows] for names in named])
    _, first, alike = np.unique(codes, axis=1, return_index=True, return_inverse=True)
    return rows[first], alike.ravel()


def named_in(path: str, subjects: pd.Categorical) -> np.ndarray:
    """Which of the subjects (n,) a file of exclusions names; a warning where it names others."""
    excluded, known = read_exclusions(path), subjects.remove_unused_categories().categories
    if unknown := sorted(excluded - set(known)):
        warn_once(
            f"exclude_subjects: {len(unknown)} of the {len(excluded)} subjects in {path} are none of this corpus, first"
            f" {unknown[0]}; its ids are like {min(known)}"
        )
    return subjects.isin(list(excluded))


def _keep(parts: np.ndarray, train: np.ndarray, kept: np.ndarray) -> np.ndarray:
    parts[train[~kept]] = ""
    left: np.ndarray = train[kept]
    return left


def in_words(clips: Clips, classes: Sequence[str]) -> str:
    """How many clips and subjects there are, and how many subjects of each class."""
    of_class: dict[str | None, set[str]] = {name: set() for name in classes}
    for clip in clips.used:
        if clip.label in of_class:
            of_class[clip.label].add(clip.subject)
    counts = ", ".join(f"{name} {len(subjects)}" for name, subjects in of_class.items())
    n_subjects = len({clip.subject for clip in clips.used})
    return f"{counted(len(clips), 'clip')} of {counted(n_subjects, 'subject')} ({counts})"


def known_classes(corpus: str, own: list[str], trained: list[str] | None) -> list[str]:
    """The classes in the order of the logits: the corpus's own, or those of a trained model, which may be more.

    Raises:
        UserError: the corpus has classes that the model does not tell.
    """
    if trained is not None and (unknown := set(own) - set(trained)):
        raise UserError(
            f"corpus {corpus} has {', '.join(sorted(unknown))}, but the model has {', '.join(trained)}: map or"
            " leave out labels with data.corpus.init_args.classes"
        )
    return trained or own


def class_indices(clips: Clips, classes: Sequence[str]) -> np.ndarray:
    """Index of each clip's class (n,); -1 where it has none of these."""
    labels = clips.each(lambda clip: clip.label or "")
    index = {name: i for i, name in enumerate(classes)}
    indices: np.ndarray = np.array([index.get(name, -1) for name in labels.categories], int)[labels.codes]
    return indices


def column(clips: Clips, name: str) -> pd.Categorical:
    """One value per clip (n,): its subject, recording, own name ("clip"), or a column of the manifest.

    Raises:
        UserError: some clips have no such column.
    """
    if name == "clip":
        return as_names(np.array(clips.names))
    own = {"subject": lambda c: c.subject, "recording": lambda c: c.path}
    if name in own:
        return clips.each(own[name])
    name = nfc(name)
    has = np.array([name in clip.columns for clip in clips.sources], bool)[clips.source_of]
    if not has.all():
        known = sorted({key for clip in clips.used for key in clip.columns} | {*own, "clip"})
        which = counted((~has).sum(), "clip has", "clips have")
        raise UserError(f"{which} no column {name!r}; the columns are {', '.join(known)}")
    return clips.each(lambda clip: clip.columns.get(name, ""))
