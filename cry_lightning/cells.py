"""Text of unknown origin (names of files, classes and people) as a cell: of a spreadsheet, of Markdown, of a terminal.

A spreadsheet runs what a cell begins with `=`, `+`, `-` or `@` for. Such texts are written with an apostrophe before
them, which spreadsheets take for "this is text". The project's own reader of such tables takes it off again. What is
only read by programs is written as it is: manifests, caches, HDF5 and JSON.
"""

import re
from collections.abc import Iterable

import pandas as pd

RUN_BY_SPREADSHEETS = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
MARKDOWN = {"\\": "\\\\", "|": "\\|", "*": "\\*", "&": "&amp;", "<": "&lt;", ">": "&gt;", "](": "]\\("}
MARKED = re.compile(r"\]\(|[\\|*&<>]")


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before each text, names of columns included, that a spreadsheet would run."""
    safe = table.copy()
    for place, kind in enumerate(table.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            safe.isetitem(place, list(map(as_cell, table.iloc[:, place])))
    return safe.set_axis([as_cell(name) for name in table.columns], axis=1)


def as_cell(value: object) -> object:
    """A text with an apostrophe before it where a spreadsheet would run it; any other value as it is."""
    if not isinstance(value, str) or not RUN_BY_SPREADSHEETS.match(value) or _is_number(value):
        return value
    return f"'{value}"


def from_cell(text: str) -> str:
    """What `as_cell` was given."""
    return text[1:] if text.startswith("'") and RUN_BY_SPREADSHEETS.match(text) else text


def on_one_line(text: str) -> str:
    """The text without line breaks, or whatever else would move a terminal's cursor."""
    return CONTROL.sub(" ", text)


def as_markdown_text(text: str) -> str:
    """The text as Markdown shows it, on one line, and no link, table or HTML of its own; `quotes` in pairs stay."""
    escaped = MARKED.sub(lambda found: MARKDOWN[found[0]], on_one_line(text))
    return escaped.replace("`", "\\`") if escaped.count("`") % 2 else escaped


def as_markdown_list(lines: Iterable[str]) -> str:
    """A bullet for each line."""
    return "\n".join(f"- {as_markdown_text(line)}" for line in lines)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
