"""Which part of training each clip of a corpus belongs to, by the split and what the user leaves out of it."""

from collections.abc import Sequence

import numpy as np

from cry_lightning.audio import warn_once
from cry_lightning.corpora import Clip
from cry_lightning.data import splits, subsets
from cry_lightning.errors import UserError


def divide(
    clips: Sequence[Clip],
    good: np.ndarray,
    split: splits.Split,
    unlabelled: bool = False,
    label_fraction: float = 1.0,
    per_class: int | None = None,
    exclude_subjects: str | list[str] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """The part ("train", "val", "test" or "" for left out) of every clip (n,).

    Unlabelled clips are left out, or with `unlabelled` go where their subject goes; none of them is tested.

    Args:
        clips: what is divided.
        good: which of them can be used (n,).
        split: the division asked for.
        unlabelled: keep clips without a label.
        label_fraction: see `subsets.label_fraction`.
        per_class: see `subsets.per_class`.
        exclude_subjects: see `subsets.read_exclusions`; these are left out of train and val.
        seed: of the two subsets.

    Raises:
        UserError: nothing can be used, or the split cannot be made.
    """
    labels = np.array([clip.label or "" for clip in clips])
    groups = column(clips, split.group)
    usable = good & ((labels != "") | unlabelled)
    paths = [exclude_subjects] if isinstance(exclude_subjects, str) else exclude_subjects or []
    excluded = np.zeros(len(clips), dtype=bool)
    for path in paths:
        excluded |= named_in(path, column(clips, "subject"))
    if split.scheme == "holdout" and not split.test:  # nobody is tested: validation keeps its share of who is left
        usable &= ~excluded
    if not usable.any():
        raise UserError(
            "no usable labelled clip: labels come from class folders (with no recording beside them) or from a"
            " manifest.csv with a column `label`; training without labels wants data.unlabelled=true"
        )
    own = column(clips, split.column)[usable] if split.column else None
    parts = np.full(len(clips), "", dtype="<U5")
    parts[usable] = splits.assign(split, labels[usable], groups[usable], own)
    parts[(labels == "") & (parts == "test")] = ""
    parts[excluded & (parts != "test")] = ""
    train = np.flatnonzero(parts == "train")
    if label_fraction < 1:
        train = _keep(parts, train, subsets.label_fraction(labels[train], groups[train], label_fraction, seed))
    if per_class is not None:
        _keep(parts, train, subsets.per_class(labels[train], groups[train], per_class, seed))
    return parts


def named_in(path: str, subjects: np.ndarray) -> np.ndarray:
    """Which of the subjects (n,) a file of exclusions names; a warning where it names others."""
    excluded = subsets.read_exclusions(path)
    if unknown := sorted(excluded - set(subjects)):
        warn_once(
            f"exclude_subjects: {len(unknown)} of the {len(excluded)} subjects in {path} are none of this corpus, first"
            f" {unknown[0]}; its ids are like {min(subjects)}"
        )
    return np.isin(subjects, list(excluded))


def _keep(parts: np.ndarray, train: np.ndarray, kept: np.ndarray) -> np.ndarray:
    parts[train[~kept]] = ""
    return train[kept]


def in_words(clips: Sequence[Clip], classes: Sequence[str]) -> str:
    """How many clips and subjects there are, and how many subjects of each class."""
    of_class = {name: {clip.subject for clip in clips if clip.label == name} for name in classes}
    counts = ", ".join(f"{name} {len(subjects)}" for name, subjects in of_class.items())
    return f"{len(clips)} clips of {len({clip.subject for clip in clips})} subjects ({counts})"


def known_classes(corpus: str, own: list[str], trained: list[str] | None) -> list[str]:
    """The classes in the order of the logits: the corpus's own, or those of a trained model, which may be more.

    Raises:
        UserError: the corpus has classes that the model does not tell.
    """
    if trained is not None and (unknown := set(own) - set(trained)):
        raise UserError(
            f"corpus {corpus} has {', '.join(sorted(unknown))}, but the model tells {', '.join(trained)} apart: map or"
            " leave out labels with data.corpus.init_args.classes"
        )
    return trained or own


def column(clips: Sequence[Clip], name: str) -> np.ndarray:
    """One value per clip (n,): its subject, recording, own name ("clip"), or a column of the manifest.

    Raises:
        UserError: some clips have no such column.
    """
    own = {"subject": lambda c: c.subject, "recording": lambda c: c.path, "clip": lambda c: c.name}
    if name in own:
        return np.array([own[name](clip) for clip in clips])
    missing = sum(name not in clip.columns for clip in clips)
    if missing:
        known = sorted({key for clip in clips for key in clip.columns} | set(own))
        raise UserError(f"{missing} clips have no column {name!r}; the columns are {', '.join(known)}")
    return np.array([clip.columns[name] for clip in clips])
