"""Rows that come back from a page, to be written as a table."""

import json

import pandas as pd

from cry_lightning.console import UserError, printable

MOST_BYTES = 5_000_000  # some 20,000 rows


def table_of(content: bytes) -> pd.DataFrame:
    """The table of a JSON list of rows, which all have the columns of the first; `path` is one of them.

    Raises:
        UserError: it is something else, naming the first row that is at fault.
    """
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"no JSON: {error}") from error
    if not isinstance(rows, list):
        raise UserError("no list of rows")
    columns = list(rows[0]) if rows and isinstance(rows[0], dict) else []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("path"), str):
            raise UserError(f"row {number} has no path")
        if row.keys() != set(columns):
            raise UserError(f"row {number} has other columns than the first")
        if odd := [name for name, value in row.items() if not isinstance(value, str | int | float | None)]:
            raise UserError(f"row {number}: {odd[0]} is no text and no number")
    cells = [{printable(name): _text(value) for name, value in row.items()} for row in rows]
    return pd.DataFrame(cells, columns=None if rows else ["path"])


def _text(value: str | float | None) -> str | float | None:
    return printable(value) if isinstance(value, str) else value
