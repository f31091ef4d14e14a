"""Recordings listed in a CSV file."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cry_lightning.corpora.base import Clip, Corpus, safe_name, warn_of_unknown_subjects
from cry_lightning.corpora.csvfile import read_text
from cry_lightning.errors import UserError

OWN_COLUMNS = {"path", "label", "subject", "start_s", "duration_s"}
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


class Manifest(Corpus):
    """A UTF-8 CSV file, separated by commas, with a header and one clip per row.

    Columns, in capitals or not: `path` (relative to the CSV's folder, or absolute), and by choice `label` (blank:
    unlabelled), `subject` (blank: the recording is its own subject), `start_s` and `duration_s` (blank: from the
    beginning, to the end).
    Further columns are kept in `Clip.columns`.

    Args:
        root: the CSV file.
        collection: the id space of the subjects; the CSV file's name by default.
        label: another column to take the label from, where one table answers several questions.
    """

    def __init__(self, root: str | Path, collection: str | None = None, label: str = "label", **kwargs: Any) -> None:
        self.collection = collection or safe_name(Path(root).stem)
        super().__init__(root, **kwargs)
        self.label = label

    def path_of(self, clip: Clip) -> Path:
        """The file that holds a clip; paths are relative to the manifest's folder."""
        return self.root.parent / clip.path

    def recordings(self) -> list[Clip]:
        """One clip per row, in the order of the file."""
        rows = self._rows()
        clips = [self._clip(line, row) for line, row in rows]
        self._refuse_missing_files(clips)
        self._refuse_duplicates([line for line, _ in rows], clips)
        if any(not row.get("subject") for _, row in rows):
            warn_of_unknown_subjects(self.root, "fill in the column `subject`")
        return clips

    def _rows(self) -> list[tuple[int, dict[str, str]]]:
        """Line number and columns of every row, blanks stripped."""
        reader = csv.DictReader(io.StringIO(read_text(self.root), newline=""), restkey="", restval="", strict=True)
        rows = []
        try:
            reader.fieldnames = self._columns(reader.fieldnames or [])
            for row in reader:
                if "" in row:
                    raise UserError(f"{self.root}: line {reader.line_num} has more fields than the header")
                rows.append((reader.line_num, {column: value.strip() for column, value in row.items()}))
        except csv.Error as error:
            raise UserError(f"{self.root}: line {reader.line_num} is not CSV: {error}") from error
        if not rows:
            raise UserError(f"{self.root}: lists no recordings; write one row for each clip")
        return rows

    def _columns(self, header: Sequence[str]) -> list[str]:
        """The names of the columns, our own in lower case."""
        columns = [column.strip() for column in header]
        columns = [column.lower() if column.lower() in OWN_COLUMNS else column for column in columns]
        if "path" not in columns:
            for separator, name in OTHER_SEPARATORS.items():
                if separator in "".join(header):
                    raise UserError(f"{self.root}: columns are separated by {name}; separate them by commas")
            raise UserError(f"{self.root}: no column `path`, only {columns}; the header needs at least `path`")
        if self.label not in ("label", *columns):
            raise UserError(
                f"{self.root}: no column {self.label!r} for the label; the columns are {', '.join(columns)}"
            )
        if twice := {column for column in columns if columns.count(column) > 1}:
            raise UserError(f"{self.root}: more than one column {', '.join(sorted(twice))}; keep one of each name")
        return columns

    def _clip(self, line: int, row: dict[str, str]) -> Clip:
        if not row["path"]:
            raise UserError(f"{self.root}: line {line} has no path")
        path = Path(row["path"].replace("\\", "/")).as_posix()
        return Clip(
            path=path,
            subject=f"{self.collection}:{row.get('subject') or path}",
            label=row.get(self.label) or None,
            start_s=self._seconds(line, row, "start_s") or 0.0,
            duration_s=self._seconds(line, row, "duration_s"),
            columns={column: value for column, value in row.items() if column not in OWN_COLUMNS},
        )

    def _seconds(self, line: int, row: dict[str, str], column: str) -> float | None:
        if not row.get(column):
            return None
        try:
            seconds = float(row[column])
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf or (column == "duration_s" and seconds == 0):
            raise UserError(f"{self.root}: line {line}: {column} is {row[column]!r}, not a length of time in seconds")
        return seconds

    def _refuse_missing_files(self, clips: list[Clip]) -> None:
        paths = dict.fromkeys(clip.path for clip in clips)
        missing = [path for path in paths if not (self.root.parent / path).is_file()]
        if missing:
            raise UserError(
                f"{self.root}: {len(missing)} listed files do not exist, first {', '.join(missing[:3])}; "
                f"paths are relative to {self.root.parent}"
            )

    def _refuse_duplicates(self, lines: list[int], clips: list[Clip]) -> None:
        lines_of = defaultdict(list)
        for line, clip in zip(lines, clips, strict=True):
            lines_of[clip.name].append(line)
        if twice := {name: at for name, at in lines_of.items() if len(at) > 1}:
            name, at = next(iter(twice.items()))
            raise UserError(f"{self.root}: {len(twice)} clips are listed more than once, first {name} on lines {at}")
