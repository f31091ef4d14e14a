"""Which splits the subjects of a corpus support, and tables of what it holds."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cry_lightning.console import first_few
from cry_lightning.corpora import Clip
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.splits import Split
from cry_lightning.data.subset import divide
from cry_lightning.describe.summary import ALL, MEASURES, subjects_of
from cry_lightning.evaluation.compare import Rows
from cry_lightning.evaluation.intervals import MIN_SUBJECTS

PARTS = {"train": "train", "val": "val", "test": "test", "": "left out"}
USUAL_FOLDS = 10
MANY_TRAININGS = 30
NAMED = 5  # classes
NAMES = ("duration (s)", "level, RMS (dBFS)", "peak (dBFS)", "silence (%)", "at full scale (%)")
QUANTILES = {"min": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "max": 1.0}


def parts_of(data: CryDataModule, clips: Sequence[Clip], good: np.ndarray) -> np.ndarray:
    """The part of every clip (n,) by the data's own split, as a fit would divide them.

    Raises:
        UserError: that split cannot be made.
    """
    return divide(clips, good, data.split, data.subset, data.seed)


def part_table(clips: pd.DataFrame, parts: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Subjects and clips of each class and part, in long form; clips as from `clip_table`."""
    own = clips.assign(part=pd.Series(parts, index=clips.index).map(PARTS)).groupby(["class", "part"], observed=True)
    counts = own["subject"].agg(subjects="nunique", clips="size")
    return (
        counts.reindex(pd.MultiIndex.from_product([classes, PARTS.values()]), fill_value=0)
        .rename_axis(["class", "part"])
        .reset_index()
    )


def split_in_words(split: Split) -> str:
    """The data's own split, as its YAML says it."""
    if split.scheme == "column":
        return f"the column {split.column!r}"
    shares = f"val {split.val:g}" + (f", test {split.test:g}" if split.scheme == "holdout" else "")
    fold = f", fold {split.fold}" if split.scheme in ("kfold", "leave_one_out") else ""
    return f"{split.scheme} by {split.group} ({shares}{fold})"


def of_the_test(clips: pd.DataFrame, parts: np.ndarray, split: Split, subjects: pd.Series) -> list[str]:
    """Whether the test part can carry an interval for each class, and whether it tests on training subjects.

    Args:
        clips: as from `clip_table`.
        parts: of every clip (n,).
        split: that made them.
        subjects: how many each class has.
    """
    of_part = {part: clips[parts == part] for part in PARTS}
    if of_part["test"].empty:
        return ["It tests nobody, as pretraining may."]
    tested = subjects_of(of_part["test"]).reindex(subjects.index, fill_value=0)
    few = tested[tested < MIN_SUBJECTS]
    remarks = [f"Every class has {MIN_SUBJECTS} test subjects or more: each can have an interval."]
    if len(few):
        wanting = f"The test has fewer than {MIN_SUBJECTS} subjects of {listed(few)}: no interval for their figures."
        remarks = [wanting, *way_out(split, subjects[few.index])]
    learned = {*of_part["train"]["subject"], *of_part["val"]["subject"]}
    if decoded := learned & set(of_part["test"]["subject"]):
        remarks.append(f"LEAKY: {len(decoded)} test subjects are also trained or validated on; divide by subject.")
    return remarks


def way_out(split: Split, few: pd.Series) -> list[str]:
    """Which test share would give classes that have few test subjects enough of them; few: all that they have."""
    elsewhere = 1 + (split.val > 0)  # at least one subject to train on, and one to validate on
    hopeless, others = few[few < MIN_SUBJECTS + elsewhere], few[few >= MIN_SUBJECTS + elsewhere]
    remarks = []
    if len(others) and split.scheme == "holdout":
        share = math.ceil(100 * MIN_SUBJECTS / others.min()) / 100
        smaller = ", with a smaller val," if share + split.val >= 1 else ""
        remarks.append(f"A test share of about {share:g}{smaller} would give {MIN_SUBJECTS} of {listed(others)}.")
    if len(hopeless):
        remarks.append(f"No held-out share can give {MIN_SUBJECTS} of {listed(hopeless)}: they have too few subjects.")
    return remarks


def across_subjects(subjects: pd.Series, n_subjects: int, val: float) -> list[str]:
    """How many folds there can be, and leaving one subject out, in words.

    Args:
        subjects: how many each class has.
        n_subjects: with a label, in all.
        val: share that each fold keeps for validation.
    """
    if len(subjects) < 2:
        return ["There is one class only: there is nothing to tell apart."]
    needed = 2 + (val > 0)
    parts = "the test, the training and the validation" if val else "the test and the training"
    if len(rare := subjects[subjects < needed]):
        return [
            f"Cross-validation by subject, leave-one-subject-out included, is impossible: {parts} need a subject of"
            f" each class, and there are only {listed(rare)}. Merge or leave out such classes (the corpus's `classes`)"
            + (", or validate on none (val 0)." if val and rare.min() == 2 else ".")
        ]
    folds = subjects.min()
    remarks = [
        f"Cross-validation by subject: {folds} folds at the most, for want of {listed(subjects[subjects == folds])}."
    ]
    if folds > USUAL_FOLDS:
        remarks[0] += f" 5 or {USUAL_FOLDS} are usual."
    else:
        remarks[0] += " With so many, each tests about one subject of theirs."
    few = subjects[subjects < MIN_SUBJECTS]
    remarks.append("With all folds scored as one, every subject is tested once: each class can have an interval.")
    if len(few):
        remarks[1] = f"Even with all folds scored as one there is no interval for {listed(few)}."
    many = " K folds tell nearly the same at less cost." if n_subjects > MANY_TRAININGS else ""
    remarks.append(f"Leave-one-subject-out: possible, {n_subjects} trainings, to be scored as one.{many}")
    return remarks


def listed(subjects: pd.Series) -> str:
    """Classes with their numbers of subjects, those of equal numbers together."""
    texts = []
    for n, own in subjects.groupby(subjects, sort=False):
        texts.append(f"{first_few([*map(str, own.index)], NAMED)} ({n}{' each' if len(own) > 1 else ''})")
    return ", ".join(texts)


def class_rows(counts: pd.DataFrame) -> Rows:
    """The dataset table; counts as from `by_class`."""
    rows = [["class", "subjects", "recordings", "clips", "minutes", "clips per subject: min", "median", "max"]]
    for _, row in counts.iterrows():
        spread = [row[f"clips_per_subject_{key}"] for key in ("min", "median", "max")]
        rows.append([row["class"], *amounts(row), *("-" if pd.isna(n) else f"{n:g}" for n in spread)])
    return rows


def column_rows(counts: pd.DataFrame) -> Rows:
    """One column's values against the classes, `clips (subjects)` in each cell; counts as from `by_column`."""
    classes = [name for name in counts["class"].unique() if name != ALL]
    rows = [[counts["column"].iloc[0], "subjects", "recordings", "clips", "minutes", *classes]]
    for value, own in counts.groupby("value", sort=False):
        cells = [pair(row["clips"], row["subjects"]) for _, row in own[own["class"] != ALL].iterrows()]
        rows.append([str(value), *amounts(own[own["class"] == ALL].iloc[0]), *cells])
    return rows


def part_rows(counts: pd.DataFrame) -> Rows:
    """Classes against the parts of a split, `subjects (clips)` in each cell; counts as from `part_table`."""
    parts = [part for part in counts["part"].unique() if counts.loc[counts["part"] == part, "clips"].any()]
    rows = [["class", *parts]]
    for label, own in counts.groupby("class", sort=False):
        cells = [pair(row["subjects"], row["clips"]) for _, row in own[own["part"].isin(parts)].iterrows()]
        rows.append([str(label), *cells])
    return rows


def measured(recordings: pd.DataFrame, of_class: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Quantiles of every measure over all recordings and over those of each class, in long form.

    Args:
        recordings: as from `survey`, usable ones only.
        of_class: the recordings of each class.
    """
    rows = []
    for label, names in [(ALL, recordings.index.to_numpy()), *of_class.items()]:
        for measure in MEASURES:
            values = recordings.loc[names, measure].dropna()
            quantiles = {name: values.quantile(share) for name, share in QUANTILES.items()}
            rows.append({"class": label, "measure": measure, "recordings": len(values)} | quantiles)
    return pd.DataFrame(rows)


def measure_rows(quantiles: pd.DataFrame) -> Rows:
    """Quantiles of every measure over all recordings; quantiles as from `measured`."""
    own = quantiles[quantiles["class"] == ALL]
    rows = [["over recordings", *QUANTILES]]
    for name, (_, row) in zip(NAMES, own.iterrows(), strict=True):
        rows.append([name, *(as_figure(row[quantile], row["measure"]) for quantile in QUANTILES)])
    return rows


def median_rows(quantiles: pd.DataFrame) -> Rows:
    """The median of every measure for each class: a recorder that differs between classes would show here."""
    rows = [["median of class", "recordings", *NAMES]]
    for label, own in quantiles[quantiles["class"] != ALL].groupby("class", sort=False):
        medians = [as_figure(row["median"], row["measure"]) for _, row in own.iterrows()]
        rows.append([str(label), f"{own['recordings'].iloc[0]:,}", *medians])
    return rows


def as_figure(value: float, measure: str) -> str:
    """A measure as text: shares in percent."""
    if pd.isna(value):
        return "-"
    if measure.endswith("_share"):
        return f"{100 * value:.2g}" if value < 0.1 else f"{100 * value:.0f}"
    digits = 2 if measure == "duration_s" else 1
    return f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.0


def pair(first: int, second: int) -> str:
    """`first (second)`, or a dash where there is nothing."""
    return f"{first:,} ({second:,})" if first else "-"


def amounts(row: pd.Series) -> list[str]:
    """Subjects, recordings, clips and minutes as text."""
    return [*(f"{row[key]:,}" for key in ("subjects", "recordings", "clips")), f"{row['minutes']:,.1f}"]
