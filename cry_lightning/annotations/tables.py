"""Audacity labels and Raven selection tables: text in columns, separated by tabs."""

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from cry_lightning.console import UserError

SELECTION, VIEW, CHANNEL, BEGIN, END = "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"
LOW, HIGH, ANNOTATION = "Low Freq (Hz)", "High Freq (Hz)", "Annotation"
LABELS = (ANNOTATION, "Label", "Species")  # what Raven's users call that column
SPECTRAL = "\\"  # begins Audacity's lines on the frequencies of the label before
Row = tuple[float, float, str]
Line = tuple[int, str, str, str]  # number, beginning, end and label of an interval


def parse(text: str, path: Path) -> list[tuple[str, Row]]:
    """The intervals of a file, each with its place; their labels may be empty.

    Where no time has a point, commas are decimal ones, as programs write them in German or French: tabs separate.

    Raises:
        UserError: a line is neither's.
    """
    lines = [line.split("\t") for line in text.splitlines()]
    is_raven = bool(lines) and BEGIN in lines[0]
    found = list(_selections(lines, path) if is_raven else _labels(lines, path))
    with_points = any("." in time for _, *times, _ in found for time in times)
    rows = []
    for number, *times, label in found:
        start_s, end_s = (_seconds(time, path, number, with_points) for time in times)
        if is_raven or start_s != end_s:  # Audacity's labels of a point mark no interval
            rows.append((f"line {number}", (start_s, end_s, label)))
    return rows


def _labels(lines: list[list[str]], path: Path) -> Iterator[Line]:
    """Audacity's: beginning, end, label."""
    for number, fields in enumerate(lines, 1):
        if not any(fields) or fields[0] == SPECTRAL:
            continue
        if len(fields) < 2:
            way_out = (
                "an Audacity label is start, end and label, a Raven table begins with its header, all between tabs"
            )
            raise UserError(f"{path}: line {number} is no interval; {way_out}")
        yield number, fields[0], fields[1], _one_cell(" ".join(fields[2:]))


def _selections(lines: list[list[str]], path: Path) -> Iterator[Line]:
    """Raven's: a selection has a line for each view, one of which counts; its label is in any of the columns for it."""
    header = lines[0]
    if END not in header or not set(LABELS) & set(header):
        missing = END if END not in header else ANNOTATION
        raise UserError(f"{path}: no column {missing!r}; save the table with it, from Raven")
    seen = set()
    for number, fields in enumerate(lines[1:], 2):
        row = dict(zip(header, fields, strict=False))
        selection = row.get(SELECTION) or str(number)
        if not any(fields) or selection in seen:
            continue
        seen.add(selection)
        if END not in row:
            raise UserError(f"{path}: line {number} has fewer columns than the header; save the table again from Raven")
        labels = {_one_cell(field) for name, field in zip(header, fields, strict=False) if name in LABELS} - {""}
        if len(labels) > 1:
            several = ", ".join(map(repr, sorted(labels)))
            raise UserError(f"{path}: line {number} has the labels {several}; rename the columns that hold no labels")
        yield number, row[BEGIN], row[END], "".join(labels)


def _seconds(field: str, path: Path, line: int, with_points: bool) -> float:
    time = field if with_points else field.replace(",", ".", 1)
    with suppress(ValueError):
        seconds = float(time)
        if math.isfinite(seconds) and "_" not in time:  # "1_0" is 10 in Python alone
            return seconds
    raise UserError(f"{path}: line {line} has {field[:40]!r} for a time in seconds; correct it")


def audacity(intervals: Iterable[Row]) -> str:
    """Audacity labels."""
    return "".join(f"{start!r}\t{end!r}\t{label}\n" for start, end, label in intervals)


def raven(intervals: Iterable[Row], high_hz: float = 4000.0) -> str:
    """A Raven selection table; the frequencies, which Raven wants, are those of cries by phone."""
    rows = [[SELECTION, VIEW, CHANNEL, BEGIN, END, LOW, HIGH, ANNOTATION]]
    for number, (start, end, label) in enumerate(intervals, 1):
        rows.append([str(number), "Spectrogram 1", "1", repr(start), repr(end), "0.0", repr(high_hz), label])
    return "".join("\t".join(row) + "\n" for row in rows)


def _one_cell(label: str) -> str:
    return " ".join(label.split())
