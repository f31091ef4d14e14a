"""Rows of a CSV file, or a plain word on why there are none."""

import csv
import io
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

from cry_lightning.errors import UserError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark.

    Raises:
        UserError: the file cannot be read, is empty, or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a CSV file") from error
    if not content.strip():
        raise UserError(f"{path}: the file is empty")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line}, byte {error.start}: not UTF-8; save it as UTF-8") from error


def read_table(path: Path, columns_of: Callable[[Sequence[str]], list[str]]) -> list[tuple[int, dict[str, str]]]:
    """Line number and columns of every row that is not empty, blanks stripped; empty columns without a name left out.

    Args:
        path: a file separated by commas, with a header.
        columns_of: the header -> the names of the columns, as they are to be called.

    Raises:
        UserError: the file cannot be read as such, or has a value in no column, or in one without a name.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    columns: list[str] | None = None
    try:
        for fields in reader:
            fields = [field.strip() for field in fields]
            if not any(fields):
                continue
            if columns is None:
                columns = columns_of(fields)
                continue
            for place, (name, value) in enumerate(zip_longest(columns, fields, fillvalue="")):
                if not name and value:
                    fault = f"has {value!r} in a column without a name; name it, or empty it"
                    if place >= len(columns):
                        fault = "has more fields than the header"
                    raise UserError(f"{path}: line {reader.line_num} {fault}")
            own = zip_longest(columns, fields, fillvalue="")
            rows.append((reader.line_num, {name: value for name, value in own if name}))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is not CSV: {error}") from error
    return rows
