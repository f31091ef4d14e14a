"""What `predict` writes: tables as CSV, JSON or Parquet, or the rows of each recording as intervals."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from cry_lightning import annotations, audio
from cry_lightning.annotations.files import ENDING, FORMS, Interval
from cry_lightning.commands.arguments import refuse_existing
from cry_lightning.console import UserError, as_cell, for_spreadsheets, printable
from cry_lightning.files import replacing

Row = dict[str, str | int | float | None]  # of a table, None where it is blank
TABLES = (".csv", ".json", ".parquet")
TIER = "predicted"


def check_place(out: Path) -> None:
    """Refuse a form that cannot be written here, or a place, before hours of work for it.

    Raises:
        UserError: naming it, or the package that it needs.
    """
    if out.suffix.lower() not in TABLES and not ENDING.search(out.name):
        raise UserError(f"--out {out}: name a file that ends in {', '.join((*TABLES, *FORMS.values()))}")
    refuse_existing(out, by_recording(out))
    if out.suffix.lower() == ".parquet" and not (find_spec("pyarrow") or find_spec("fastparquet")):
        raise UserError(f"--out {out}: Parquet needs the package pyarrow; pip install pyarrow, or name a .csv")


def by_recording(out: Path) -> Path:
    """The table of recordings beside that of windows, or beside files of intervals of any form."""
    is_table = out.suffix.lower() in TABLES
    return out.with_name(f"{out.stem}_recordings{out.suffix.lower()}" if is_table else f"{out.name}_recordings.csv")


def files_of(out: Path, recordings: Sequence[str]) -> dict[str, Path]:
    """The file that each recording's rows go to: one table for all, or intervals, of which each has a file."""
    if out.suffix.lower() in TABLES or len(recordings) == 1:
        return dict.fromkeys(recordings, out)
    ending = ENDING.search(out.name)
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in recordings])  # noqa: PTH100, PTH120
    names = annotations.names_for([os.path.relpath(path, common) for path in recordings])
    return {
        path: folder_of(out) / f"{name}{ending[0] if ending else ''}"
        for path, name in zip(recordings, names, strict=True)
    }


def folder_of(out: Path) -> Path:
    """Of the intervals of several recordings."""
    return out.with_name(ENDING.sub("", out.name))


def write(rows: pd.DataFrame, recordings: pd.DataFrame, files: Mapping[str, Path], out: Path) -> None:
    """Write rows and recordings, each file whole or not at all; the table of recordings is last, the mark of all.

    Raises:
        UserError: a file cannot be written; of intervals, all others are.
    """
    of_recordings, form = by_recording(out), out.suffix.lower()
    refused: list[UserError] = []
    with ExitStack() as stack:
        last = stack.enter_context(replacing(of_recordings))
        write_table(recordings, last, of_recordings.suffix.lower())
        if form in TABLES:
            write_table(rows, stack.enter_context(replacing(out)), form)
        elif len(files) == 1:
            refused = write_intervals(rows, recordings, files)
        else:
            folder, part = folder_of(out), stack.enter_context(filling(folder_of(out)))
            refused = write_intervals(rows, recordings, {p: part / f.relative_to(folder) for p, f in files.items()})
            refused = [UserError(str(error).replace(str(part), str(folder), 1)) for error in refused]
    if refused:
        raise UserError(f"{refused[0]}{f' (and {len(refused) - 1} more)' if len(refused) > 1 else ''}")


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A folder beside it to write into, whose files are in the folder once all are written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent) as beside:
        (part := Path(beside, folder.name)).mkdir()  # with the usual permissions
        yield part
        if folder.exists():
            for path in [path for path in part.rglob("*") if path.is_file()]:
                (place := folder / path.relative_to(part)).parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
        elif any(part.iterdir()):
            part.rename(folder)


def write_table(table: pd.DataFrame, path: Path, form: str) -> None:
    """Write a table in the form of this ending; float32 scores survive exactly."""
    if form == ".json":
        path.write_text(json.dumps(as_records(table), indent=1), encoding="utf-8")
    elif form == ".parquet":
        table.assign(path=table["path"].map(printable)).to_parquet(path, index=False)
    else:
        path.write_text(as_csv(table), encoding="utf-8", errors="surrogateescape")


def as_records(table: pd.DataFrame) -> list[Row]:
    """A row each, blank numbers as None, which JSON has."""
    return table.astype(object).where(table.notna(), None).to_dict("records")  # type: ignore[return-value]


def as_csv(table: pd.DataFrame) -> str:
    """The text of a CSV file, in which no spreadsheet finds anything to run."""
    # A path that a spreadsheet would run is written as one below the current folder, which it is.
    paths = [text if as_cell(text) == text else f"./{text}" for text in table["path"]]
    return for_spreadsheets(table.assign(path=paths)).to_csv(index=False, float_format="%.9g")


def write_intervals(rows: pd.DataFrame, recordings: pd.DataFrame, files: Mapping[str, Path]) -> list[UserError]:
    """Write the intervals of each recording that could be read, none in one where nothing was found.

    Returns: why some cannot be written.
    """
    units = recordings.columns[1] == "units"
    of_path = dict(iter(rows.groupby("path")))
    refused: list[UserError] = []
    for path, n in zip(recordings["path"], recordings.iloc[:, 1], strict=True):
        found = list(intervals(of_path.get(path, rows[:0]), joined=not units))
        try:
            duration_s = audio.info(path).duration_s
        except audio.AudioError:
            if not found:
                continue
            duration_s = 0.0  # it was there a while ago
        if n or path not in rows.attrs["failed"]:
            last_s = max([round(duration_s, 6), *(one.end_s for one in found)])
            try:
                annotations.write(found, files[path], last_s, TIER)
            except UserError as error:
                refused.append(error)
    return refused


def intervals(rows: pd.DataFrame, joined: bool) -> Iterator[Interval]:
    """The rows of a recording as intervals that do not overlap, in the order of time.

    Windows that overlap meet in the middle of the overlap.

    Args:
        rows: as `Predicted.rows`.
        joined: make one of those that meet and have the same label.
    """
    rows = rows.sort_values("start_s")
    starts = rows["start_s"].to_numpy().copy()
    ends = starts + rows["duration_s"].to_numpy()
    for before, after in pairwise(range(len(rows))):
        if starts[after] < ends[before]:
            ends[before] = starts[after] = (starts[after] + ends[before]) / 2
    held: Interval | None = None
    labels = map(label_of, rows[["predicted", "decision", "abstained", "novelty"]].to_dict("records"))  # type: ignore[arg-type]
    for start, end, label in zip(np.round(starts, 6), np.round(ends, 6), labels, strict=True):
        if held and joined and held.label == label and start - held.end_s < 1e-5:
            held = Interval(held.start_s, float(end), label)
            continue
        if held:
            yield held
        held = Interval(float(start), float(end), label)
    if held:
        yield held


def label_of(row: Mapping[str, object]) -> str:
    """The decision, or in brackets why there is none; without a reference, the class of the highest score.

    That class in brackets, with a question mark, where a reference decides nothing.
    """
    of_no_reference = row["novelty"] != row["novelty"]  # NaN
    label = str(row["predicted"]) if of_no_reference else f"({row['predicted']}?)"
    if row["decision"] or row["abstained"]:
        label = str(row["decision"] or f"({row['abstained']})")
    return " ".join(printable(label).split())  # as intervals are read
