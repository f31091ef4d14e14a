"""The metrics of a run for each sex, age, site or device, as a table of its recordings or subjects names them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from cry_lightning.console import UserError, counted, from_cell
from cry_lightning.evaluation.compare import SUMMARY, Rows, cell
from cry_lightning.evaluation.intervals import Jackknife
from cry_lightning.evaluation.metrics import units_at
from cry_lightning.evaluation.run import Run
from cry_lightning.files import named_columns, nfc, read_table
from cry_lightning.lineage.spelling import NOT_KNOWN, own_part, plain

RECORDING = ("recording", "path")  # columns that name a recording; the second as in a manifest
SKIPPED = ("clip", "label", "start_s", "duration_s", "end_s", "split")
OWN_COLUMNS = ("subject", *RECORDING, *SKIPPED)
MOST_VALUES = 20  # of a column that makes subgroups
MOST_NUMBERS = 6  # of a column of numbers; of more, ranges make subgroups
RANGES = 4  # at most
NOT_GIVEN = "(not given)"
NAMELESS = "(no name)"  # such as the index that pandas writes


def subgroups(run: Run, path: Path) -> tuple[str, Rows]:
    """A title, and a row for each value of each column, with the metrics at the run's main level and their intervals.

    Recordings are found in either form of Unicode, subjects also by another spelling (`lineage.spelling`).

    Args:
        run: an evaluated run.
        path: CSV with a column `recording`, `path` or `subject`, in capitals or not, and others, such as sex or site; a
            manifest is one.

    Raises:
        UserError: the table cannot be read, or says nothing about the tested recordings.
    """
    table = _read(path)
    key = next((name for name in (*RECORDING, "subject") if name in table.columns), None)
    columns = [name for name in table.columns if name not in OWN_COLUMNS]
    if key is None or not columns:
        raise UserError(f"{path}: needs a column recording, path or subject, and a column such as sex or site")
    own, spelled = ("subject", plain) if key == "subject" else ("recording", _as_path)
    known = table.assign(**{key: table[key].map(spelled)}).drop_duplicates([key, *columns]).set_index(key)[columns]
    if twice := sorted(set(known.index[known.index.duplicated()])):
        raise UserError(f"{path}: {key} {twice[0]!r} has different values of {', '.join(columns)}; give it one each")
    named = run.table[own].map(spelled)
    if key == "subject" and not named.isin(known.index).any():
        named = run.table[own].map(own_part).map(spelled)  # as a manifest has it, without the collection
    if not named.isin(known.index).any():
        raise UserError(f"{path}: none of its {key}s was tested by {run.name}, such as {run.table[own].iloc[0]!r}")
    tested = named.drop_duplicates()
    missing, of = (~tested.isin(known.index)).sum(), f"of {len(tested)} tested {own}s"
    level = run.main_level
    title = f"Subgroups by {path}, at {level.level} level"
    if missing:
        title += f"; {counted(missing, f'{of} is', f'{of} are')} not in {path}"
    for column in columns:
        for alike in differing_in_case(known[column].unique()):
            title += f"; the values {' and '.join(map(repr, alike))} of {column} differ in case alone, and stay apart"
    rows = [["", "value", f"{level.level}s", "subjects", *SUMMARY.values(), *_of_two(run)]]
    for column in columns:
        values = _groups(named.map(known[column]).fillna(""), run.table["subject"])
        if len(values.cat.categories) > MOST_VALUES:
            continue  # such as a date
        for value in values.cat.categories:
            rows.append([column, value, *_row(run, run.table[values == value])])
    if len(rows) == 1:
        raise UserError(
            f"{path}: each of {', '.join(columns)} has over {MOST_VALUES} values; give coarser ones, or numbers"
        )
    return f"{title}:", rows


def differing_in_case(values: Iterable[str]) -> list[list[str]]:
    """Groups of values that differ in case alone."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for value in sorted(values):
        groups[value.casefold()].append(value)
    return [group for group in groups.values() if len(group) > 1]


def _as_path(name: str) -> str:
    """A recording as a manifest names it, on whatever system."""
    return PurePosixPath(nfc(name).replace("\\", "/")).as_posix()


def _groups(values: pd.Series, subjects: pd.Series) -> pd.Series:
    """The values as categories in order; many numbers as ranges, each of about as many subjects."""
    numbers = pd.to_numeric(values, errors="coerce").replace([np.inf, -np.inf], np.nan)
    values = values.replace("", NOT_GIVEN)
    if not (numbers.notna() | values.eq(NOT_GIVEN) | values.str.strip().str.casefold().isin(NOT_KNOWN)).all():
        return values.astype("category")
    if numbers.nunique() > MOST_NUMBERS:
        of_subjects = numbers.groupby([subjects, numbers]).first()  # a subject's recordings may be of several ages
        edges = pd.qcut(of_subjects, RANGES, labels=False, retbins=True, duplicates="drop")[1]
        if len(edges) > 2 or numbers.nunique() > MOST_VALUES:  # most may be of one value, such as 0
            place = pd.cut(numbers, list(edges), labels=False, include_lowest=True)
            of_range = values[numbers.sort_values().index].groupby(place)
            values = values.where(numbers.isna(), of_range.transform("first") + " to " + of_range.transform("last"))
    in_order = pd.DataFrame({"value": values, "number": numbers}).sort_values(["number", "value"])
    return pd.Series(pd.Categorical(values, in_order["value"].unique()), values.index)


def _of_two(run: Run) -> dict[str, tuple[str, str]]:
    """Header -> metric and class, of what two classes have besides."""
    if run.positive is None:
        return {}
    negative = next(name for name in run.classes if name != run.positive)
    return {"sensitivity": ("sensitivity", run.positive), "specificity": ("specificity", negative)}


def _row(run: Run, tested: pd.DataFrame) -> list[str]:
    units = units_at(run.main_level.level, tested)
    jackknife = Jackknife.of(units, run.positive)
    figures = [(metric, "") for metric in SUMMARY] + list(_of_two(run).values())
    cells = [cell(pd.Series(jackknife.score(*figure), ["value", "low", "high"])) for figure in figures]
    return [str(units.table["unit"].nunique()), str(units.n_subjects), *cells]


def _read(path: Path) -> pd.DataFrame:
    def columns_of(header: Sequence[str]) -> list[str]:
        return [name or NAMELESS for name in named_columns(path, header, OWN_COLUMNS)]

    rows = [row for _, row in read_table(path, columns_of)]
    if not rows:
        raise UserError(f"{path}: the table is empty, but for its header")
    table = pd.DataFrame(rows).map(from_cell).drop(columns=NAMELESS, errors="ignore")
    values = table.columns.difference([*OWN_COLUMNS])
    return table.assign(**{name: table[name].str.strip() for name in values})
