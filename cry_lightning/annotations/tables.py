"""Audacity labels and Raven selection tables: text in columns, separated by tabs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from cry_lightning.console import UserError

SELECTION, VIEW, CHANNEL, BEGIN, END = "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"
LOW, HIGH, ANNOTATION = "Low Freq (Hz)", "High Freq (Hz)", "Annotation"
LABELS = (ANNOTATION, "Label", "Species")  # what Raven's users call that column
SPECTRAL = "\\"  # begins Audacity's lines on the frequencies of the label before
Row = tuple[float, float, str]


def parse(text: str, path: Path) -> list[tuple[str, Row]]:
    """The intervals of a file, each with its place; their labels may be empty.

    Raises:
        UserError: a line is neither's.
    """
    lines = [line.split("\t") for line in text.splitlines()]
    if lines and BEGIN in lines[0]:
        return list(_selections(lines, path))
    return list(_labels(lines, path))


def _labels(lines: list[list[str]], path: Path) -> Iterator[tuple[str, Row]]:
    """Audacity's: beginning, end, label; labels of a point mark no interval."""
    for number, fields in enumerate(lines, 1):
        if not any(fields) or fields[0] == SPECTRAL:
            continue
        if len(fields) < 2:
            way_out = (
                "an Audacity label is start, end and label, a Raven table begins with its header, all between tabs"
            )
            raise UserError(f"{path}: line {number} is no interval; {way_out}")
        start_s, end_s = (_seconds(field, path, number) for field in fields[:2])
        label = _one_cell(" ".join(fields[2:]))
        if start_s != end_s:
            yield f"line {number}", (start_s, end_s, label)


def _selections(lines: list[list[str]], path: Path) -> Iterator[tuple[str, Row]]:
    """Raven's: a selection has a line for each view; one counts."""
    header = lines[0]
    names = [name for name in LABELS if name in header]
    if END not in header or not names:
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
        start_s, end_s = (_seconds(row[name], path, number) for name in (BEGIN, END))
        yield f"line {number}", (start_s, end_s, _one_cell(row.get(names[0], "")))


def _seconds(field: str, path: Path, line: int) -> float:
    try:
        return float(field)
    except ValueError:
        raise UserError(f"{path}: line {line} has {field[:40]!r} for a time in seconds; correct it") from None


def audacity(intervals: Iterable[Row]) -> str:
    """Audacity labels."""
    return "".join(f"{start!r}\t{end!r}\t{_one_cell(label)}\n" for start, end, label in intervals)


def raven(intervals: Iterable[Row], high_hz: float = 4000.0) -> str:
    """A Raven selection table; the frequencies, which Raven wants, are those of cries by phone."""
    rows = [[SELECTION, VIEW, CHANNEL, BEGIN, END, LOW, HIGH, ANNOTATION]]
    for number, (start, end, label) in enumerate(intervals, 1):
        rows.append([str(number), "Spectrogram 1", "1", repr(start), repr(end), "0.0", repr(high_hz), _one_cell(label)])
    return "".join("\t".join(row) + "\n" for row in rows)


def _one_cell(label: str) -> str:
    return " ".join(label.split())
