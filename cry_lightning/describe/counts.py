"""Who and what is in a corpus: subjects, recordings, clips and minutes by class and by any column."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from cry_lightning.audio import SLACK_S
from cry_lightning.corpora import Clip
from cry_lightning.errors import UserError

ALL, UNLABELLED, BLANK = "(all)", "(unlabelled)", "(blank)"
AT_MOST = 12  # values of a column, and classes across a table or a figure


def clip_table(clips: Sequence[Clip], recordings: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One row per clip: recording, subject, class, start_s, duration_s, and `fault` where it cannot be used.

    Args:
        clips: as the corpus lists them.
        recordings: as from `survey`.
        classes: in their order; unlabelled clips, where there are any, are one more.
    """
    rows = [(clip.path, clip.subject, clip.label or UNLABELLED, clip.start_s, clip.duration_s) for clip in clips]
    table = pd.DataFrame(rows, columns=["recording", "subject", "class", "start_s", "duration_s"])
    present = [*classes, UNLABELLED] if UNLABELLED in set(table["class"]) else list(classes)
    table["class"] = table["class"].astype(pd.CategoricalDtype(present, ordered=True))
    ends_s = table["recording"].map(recordings["duration_s"])
    table["duration_s"] = table["duration_s"].astype(float).fillna(ends_s - table["start_s"])
    table["fault"] = table["recording"].map(recordings["fault"])
    inside = (table["start_s"] + table["duration_s"] <= ends_s + SLACK_S) & (table["duration_s"] > 0)
    table.loc[(table["fault"] == "") & ~inside, "fault"] = "the clip ends after its recording"
    return table


def columns_of(clips: Sequence[Clip]) -> pd.DataFrame:
    """The corpus's further columns, one row per clip, blank where a clip has no such column."""
    return pd.DataFrame([dict(clip.columns) for clip in clips], dtype=object).fillna("").astype(str)


def choose_columns(columns: pd.DataFrame, clips: Sequence[Clip], wanted: Sequence[str] | None) -> list[str]:
    """The columns to count by: those wanted; by default all whose few values come again and again.

    Without being asked for, a column is left out that has one value only, more than 12, or more than one for every two
    clips, that says no more than the class, or that tells subjects apart one by one.

    Raises:
        UserError: there is no such column.
    """
    if wanted is not None:
        if unknown := [name for name in wanted if name not in columns]:
            there = f"the columns are {', '.join(map(str, columns))}" if len(columns.columns) else "the corpus has none"
            raise UserError(f"--by {' '.join(unknown)}: no such column; {there}")
        return list(dict.fromkeys(wanted))
    few = [str(name) for name in columns if 1 < columns[name].nunique() <= min(AT_MOST, len(clips) / 2)]
    known = [pd.Series([clip.label or "" for clip in clips]), pd.Series([clip.subject for clip in clips])]
    return [name for name in few if not any(one_to_one(columns[name], other) for other in known)]


def one_to_one(values: pd.Series, others: pd.Series) -> bool:
    """Whether two columns tell the same, under other names perhaps."""
    pairs = len(pd.DataFrame({"one": values, "other": others}).drop_duplicates())
    return pairs == values.nunique() == others.nunique()


def numbers(values: pd.Series) -> pd.Series | None:
    """Texts as numbers, NaN where blank; None where some are no numbers."""
    given = pd.to_numeric(values.where(values != ""), errors="coerce")
    return given if ((given.notna() & np.isfinite(given)) == (values != "")).all() and given.notna().any() else None


def grouped(values: pd.Series) -> pd.Series:
    """The values as an ordered category: many numbers as ranges between quartiles, many texts as the commonest ones."""
    filled = values.where(values != "", BLANK)
    given = numbers(values)
    if filled.nunique() > AT_MOST and given is not None:
        return ranges(given)
    order = sorted(set(filled) - {BLANK}, key=lambda text: (float(text), text) if given is not None else text)
    ordered = filled.astype(pd.CategoricalDtype([*order, BLANK], ordered=True))
    return gathered(ordered.cat.remove_unused_categories())


def ranges(given: pd.Series) -> pd.Series:
    """Numbers as ranges between their quartiles, an ordered category."""
    edges = np.unique(given.quantile([0.25, 0.5, 0.75], interpolation="lower"))
    ends = [f"{edge:,.0f}" if edge == round(edge) else f"{edge:g}" for edge in edges]
    between = [f"above {low} to {high}" for low, high in pairwise(ends)]
    names = [f"up to {ends[0]}", *between, f"above {ends[-1]}", BLANK]
    place = np.where(given.isna(), len(names) - 1, np.searchsorted(edges, given.fillna(edges[0])))
    told = pd.Series(np.array(names, dtype=object)[place], given.index)
    return told.astype(pd.CategoricalDtype(names, ordered=True)).cat.remove_unused_categories()


def gathered(values: pd.Series) -> pd.Series:
    """A category with at most 12 values: of more, the commonest, and one for the others."""
    categories = values.cat.categories
    if len(categories) <= AT_MOST:
        return values
    common = set(values.value_counts().index[: AT_MOST - 1])
    others = f"({len(categories) - len(common)} others)"
    kept = [*(name for name in categories if name in common), others]
    return values.astype(object).where(values.isin(common), others).astype(pd.CategoricalDtype(kept, ordered=True))


def amounts(clips: pd.DataFrame) -> dict[str, float]:
    """Subjects, recordings, clips and minutes of some clips."""
    counts = {"subjects": clips["subject"].nunique(), "recordings": clips["recording"].nunique(), "clips": len(clips)}
    return {**counts, "minutes": clips["duration_s"].sum() / 60}


def by_class(clips: pd.DataFrame) -> pd.DataFrame:
    """A row for each class, unlabelled clips among them, and one for all: a paper's dataset table.

    Args:
        clips: as from `clip_table`.
    """
    rows = []
    for name, own in [*clips.groupby("class", observed=False), (ALL, clips)]:
        per_subject = own.groupby("subject").size()
        spread = {"min": per_subject.min(), "median": per_subject.median(), "max": per_subject.max()}
        rows.append({"class": name} | amounts(own) | {f"clips_per_subject_{key}": n for key, n in spread.items()})
    return pd.DataFrame(rows)


def by_column(clips: pd.DataFrame, name: str, values: pd.Series) -> pd.DataFrame:
    """A row for each value of a column and class, and for all classes.

    Args:
        clips: as from `clip_table`.
        name: of the column.
        values: of the column, an ordered category, one per clip.
    """
    table = clips.assign(value=values, **{"class": gathered(clips["class"])})
    rows = []
    for value, own in table.groupby("value", observed=False):
        for label, of_class in [(ALL, own), *own.groupby("class", observed=False)]:
            rows.append({"column": name, "value": value, "class": label} | amounts(of_class))
    return pd.DataFrame(rows)


def subjects_of(clips: pd.DataFrame) -> pd.Series:
    """How many subjects each class has that has any."""
    counts = clips.groupby("class", observed=True)["subject"].nunique().drop(UNLABELLED, errors="ignore")
    return counts.set_axis(counts.index.astype(str))
