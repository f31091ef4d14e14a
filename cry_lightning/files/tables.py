"""Texts and tables that people save, from an editor or a spreadsheet."""

import codecs
import csv
import io
import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

from cry_lightning.console import UserError

ENCODINGS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}  # else UTF-8, marked or not
SEPARATORS = ",;\t"
SEPARATOR_LINE = re.compile(r'"?sep=([^\w"\r\n])"?(?=[\r\n])', re.IGNORECASE)  # the first, as Excel takes it
QUOTED = re.compile('"([^"]*)"')
NUMBER = re.compile(r"[-+]?\d*,\d+")
NAMES = {"path", "recording", "source", "label", "subject"}  # columns of no numbers


def read_text(path: Path) -> str:
    """The text of a file, by its byte-order mark in UTF-16, else in UTF-8.

    Raises:
        UserError: the file cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a file") from error
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "UTF-8")
    try:
        return content.decode(encoding).removeprefix("\N{BYTE ORDER MARK}")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line}, byte {error.start}: not {encoding}; save it as UTF-8") from error


def read_table(path: Path, columns_of: Callable[[Sequence[str]], list[str]] = list) -> list[tuple[int, dict[str, str]]]:
    """Line number and columns of every row that is not empty, blanks stripped; empty columns without a name left out.

    In a file that is separated by semicolons, decimal commas become points, but not in what names files, labels or
    subjects.

    Args:
        path: a file with a header, separated by commas, semicolons or tabs: by that of which the header has most
            outside of quotes, or by what a line `sep=;` before it says.
        columns_of: the header -> the names of the columns, as they are to be called.

    Raises:
        UserError: the file cannot be read as such, or has a value in no column, or in one without a name.
    """
    text = read_text(path)
    told = SEPARATOR_LINE.match(text)
    if told:
        text = text[told.end() :]  # with its end of line, so that lines are counted
    unquoted = QUOTED.sub(lambda quoted: "x" if quoted[1].strip() else "", text)
    header = next((line for line in unquoted.splitlines() if line.strip(f"{SEPARATORS} ")), "")
    if not header:
        raise UserError(f"{path}: the file is empty")
    separator = told[1] if told else max(SEPARATORS, key=header.count)
    has_commas = separator == ";"  # as spreadsheets save numbers with decimal commas
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
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
            row: dict[str, str] = {}
            for place, (name, value) in enumerate(zip_longest(columns, fields, fillvalue="")):
                if not name and value:
                    fault = f"has {value!r} in a column without a name; name it, or empty it"
                    if place >= len(columns):
                        fault = "has more fields than the header"
                    raise UserError(f"{path}: line {reader.line_num} {fault}")
                if name:
                    is_number = has_commas and name.lower() not in NAMES and NUMBER.fullmatch(value)
                    row[name] = value.replace(",", ".") if is_number else value
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is not CSV: {error}") from error
    return rows
