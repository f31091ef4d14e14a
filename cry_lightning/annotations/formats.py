"""Intervals as text: Audacity labels and Raven selection tables, in columns; Praat TextGrids, long or short.

Praat reads of a TextGrid the numbers, texts and flags that stand by themselves, and passes over all else: names,
brackets and the numbers in them. So does this, which is why the long and the short form need no distinction.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cry_lightning.console import UserError, first_few

SELECTION, VIEW, CHANNEL, BEGIN, END = "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"
LOW, HIGH, ANNOTATION = "Low Freq (Hz)", "High Freq (Hz)", "Annotation"
BEGIN_FILE, OFFSET = "Begin File", "File Offset (s)"  # of tables of a sequence of sound files
LABELS = (ANNOTATION, "Label", "Species")  # what Raven's users call that column
SPECTRAL = "\\"  # begins Audacity's lines on the frequencies of the label before
Row = tuple[float, float, str]


class Line(NamedTuple):
    """An interval as it is written."""

    number: int
    begin: str
    end: str
    label: str
    channel: str = ""
    offset: str = ""  # of the beginning within the sound file, where it counts from that of a sequence of files


TOKEN = re.compile(r'"((?:[^"]|"")*)"|(<\w+>)|(?<!\S)([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\S)|!.*')
INTERVALS, POINTS = "IntervalTier", "TextTier"
AGAIN = "save it again in Praat (Save as text file)"


def parse_table(text: str, path: Path) -> list[tuple[str, Row]]:
    """The intervals of a file, each with its place; their labels may be empty.

    Where no time has a point, commas are decimal ones, as programs write them in German or French: tabs separate.

    Raises:
        UserError: a line is neither's.
    """
    lines = [line.split("\t") for line in text.splitlines()]
    is_raven = bool(lines) and BEGIN in lines[0]
    found = list(_selections(lines, path) if is_raven else _labels(lines, path))
    with_points = any("." in time for line in found for time in (line.begin, line.end, line.offset))
    rows: list[tuple[Line, Row]] = []
    for line in found:
        times = (line.begin, line.end, line.offset or line.begin)
        start_s, end_s, offset_s = (_seconds(time, path, line.number, with_points) for time in times)
        if is_raven or start_s != end_s:  # Audacity's labels of a point mark no interval
            end_s = round(end_s - start_s + offset_s, 9) if line.offset else end_s
            rows.append((line, (offset_s, end_s, line.label)))
    return [(f"line {line.number}", row) for line, row in _mixed(rows)]


def _mixed(rows: Iterable[tuple[Line, Row]]) -> list[tuple[Line, Row]]:
    """Intervals with those of one label that overlap in different channels made one, as these are mixed.

    What is reversed, or overlaps within its channel, stays as it is, to be refused.
    """
    mixed: list[tuple[Line, Row]] = []
    last: dict[str, int] = {}  # label -> place
    ends: dict[tuple[str, str], float] = {}  # label and channel -> until where it is marked
    for line, (start_s, end_s, label) in sorted(rows, key=lambda one: one[1]):
        before, (begin_s, until_s, _) = mixed[last[label]] if label in last else (line, (0.0, 0.0, ""))
        alone = ends.get((label, line.channel), 0.0) <= start_s < end_s
        ends[label, line.channel] = max(end_s, ends.get((label, line.channel), 0.0))
        if start_s < until_s and alone:
            mixed[last[label]] = (line if end_s > until_s else before, (begin_s, max(end_s, until_s), label))
        else:
            last[label] = len(mixed)
            mixed.append((line, (start_s, end_s, label)))
    return mixed


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
        yield Line(number, fields[0], fields[1], _one_cell(" ".join(fields[2:])))


def _selections(lines: list[list[str]], path: Path) -> Iterable[Line]:
    """Raven's: a selection has a line for each view, the first of which counts; its label is in any of their columns.

    Where a table tells sound files, times count from the beginning of the first that was open.
    """
    header = lines[0]
    if END not in header or not set(LABELS) & set(header):
        missing = END if END not in header else ANNOTATION
        raise UserError(f"{path}: no column {missing!r}; save the table with it, from Raven")
    found: dict[str, Line] = {}
    files = set()
    for number, fields in enumerate(lines[1:], 2):
        if not any(fields):
            continue
        row = dict(zip(header, fields, strict=False))
        if END not in row:
            raise UserError(f"{path}: line {number} has fewer columns than the header; save the table again from Raven")
        labels = {_one_cell(field) for name, field in zip(header, fields, strict=False) if name in LABELS} - {""}
        if len(labels) > 1:
            several = ", ".join(map(repr, sorted(labels)))
            raise UserError(f"{path}: line {number} has the labels {several}; rename the columns that hold no labels")
        one = Line(number, row[BEGIN], row[END], "".join(labels), row.get(CHANNEL, ""), row.get(OFFSET, ""))
        files |= {row.get(BEGIN_FILE, "")} - {""}
        selection = row.get(SELECTION) or str(number)
        first = found.get(selection, one)
        found[selection] = first._replace(label=first.label or one.label)
    if len(files) > 1:
        raise UserError(f"{path}: marks {len(files)} sound files, {first_few(sorted(files), 3)}; save a table for each")
    return found.values()


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


def raven(intervals: Iterable[Row]) -> str:
    """A Raven selection table; the frequencies, which Raven wants, are those of cries by phone."""
    rows = [[SELECTION, VIEW, CHANNEL, BEGIN, END, LOW, HIGH, ANNOTATION]]
    for number, (start, end, label) in enumerate(intervals, 1):
        rows.append([str(number), "Spectrogram 1", "1", repr(start), repr(end), "0.0", "4000.0", label])
    return "".join("\t".join(row) + "\n" for row in rows)


def _one_cell(label: str) -> str:
    return " ".join(label.split())


class Tokens:
    """The texts and numbers of a TextGrid, one after the other."""

    def __init__(self, text: str, path: Path) -> None:
        self.path = path
        self.text = text
        self.found = (match for match in TOKEN.finditer(text) if match.lastindex)
        self.inside = "its head"
        self.at = 0

    def next(self, kind: int, called: str) -> str:
        """The next token, which is a text (1), a flag (2) or a number (3).

        Raises:
            UserError: it is not, or there is none.
        """
        match = next(self.found, None)
        if match is None:
            raise UserError(f"{self.path}: ends within {self.inside}; {AGAIN}")
        self.at = match.start()
        if match.lastindex != kind:
            raise self.fault(match[0], called)
        return match[kind].replace('""', '"') if kind == 1 else match[kind]

    def word(self, called: str) -> str:
        """The next token, a text."""
        return self.next(1, called)

    def number(self, called: str) -> float:
        """The next token, a number."""
        token = self.next(3, called)
        if not math.isfinite(float(token)):
            raise self.fault(token, called)
        return float(token)

    def count(self, called: str) -> int:
        """The next token, a number of things."""
        number = self.number(called)
        if number < 0 or not number.is_integer():
            raise self.fault(f"{number:g}", called)
        return int(number)

    def end(self) -> None:
        """Refuse further tokens: a size that is too small would lose them.

        Raises:
            UserError: there is one.
        """
        if match := next(self.found, None):
            self.at = match.start()
            raise self.fault(match[0], "the end that its sizes tell")

    def fault(self, token: str, called: str) -> UserError:
        """What to raise of the last token."""
        line = self.text.count("\n", 0, self.at) + 1
        return UserError(f"{self.path}: line {line} has {token[:40]}, not {called}; {AGAIN}")


def parse_textgrid(text: str, path: Path, tier: str | None = None, or_only: bool = False) -> list[tuple[str, Row]]:
    """The labelled intervals of a tier, or, where that is enough, of the only one; each with its place.

    Raises:
        UserError: it is no TextGrid, is cut short, or has no such tier of intervals, several of the name, or several
            and none is named.
    """
    if "ooBinaryFile" in text[:20]:
        raise UserError(f"{path}: a binary TextGrid; {AGAIN}")
    tokens = Tokens(text, path)
    if re.findall(r'"(ooTextFile|TextGrid)(?: short)?"', text[:200])[:2] != ["ooTextFile", "TextGrid"]:
        raise UserError(f"{path}: no TextGrid, it does not begin with ooTextFile and TextGrid; {AGAIN}")
    for name in ("file type", "class"):
        tokens.word(f"the {name}")
    for name in ("beginning", "end"):
        tokens.number(f"the {name}")
    exist = tokens.next(2, "<exists>") == "<exists>"
    tiers = list(_tiers(tokens)) if exist else []
    names = list(dict.fromkeys(name for name, _ in tiers))
    if len(names) == 1 and (or_only or tier is None):
        (tier,) = names
    found = [rows for name, rows in tiers if name == tier]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{path}: has {len(found)} tiers of intervals called {tier!r}; rename or remove all but one")
    named = ", ".join(map(repr, names))
    if not tiers:
        raise UserError(f"{path}: has no tier of intervals; mark them in one")
    if tier is None:
        raise UserError(f"{path}: has the tiers {named}; name one by --tier (in a YAML, `tier`)")
    raise UserError(f"{path}: has no tier of intervals {tier!r}, only {named}; correct --tier (in a YAML, `tier`)")


def _tiers(tokens: Tokens) -> Iterator[tuple[str, list[tuple[str, Row]]]]:
    """Name and labelled intervals of each tier of intervals."""
    for number in range(tokens.count("the number of tiers")):
        tokens.inside = f"tier {number + 1}"
        kind, name = tokens.word("the class of a tier"), tokens.word("the name of a tier")
        if kind not in (INTERVALS, POINTS):
            raise UserError(f"{tokens.path}: {tokens.inside} is a {kind!r}, neither {INTERVALS} nor {POINTS}; {AGAIN}")
        tokens.inside = f"the tier {name!r}"
        for end in ("beginning", "end"):
            tokens.number(f"the {end} of a tier")
        rows = []
        for index in range(tokens.count("the number of intervals or points")):
            start_s = tokens.number("a time")
            end_s = tokens.number("a time") if kind == INTERVALS else start_s
            rows.append((f"interval {index + 1}", (start_s, end_s, " ".join(tokens.word("a label").split()))))
        if kind == INTERVALS:
            yield name, [row for row in rows if row[1][2]]
    tokens.end()


def textgrid(intervals: Sequence[Row], duration_s: float, tier: str) -> str:
    """A TextGrid in the long form, of one tier; what lies between intervals has an empty label, as Praat wants it."""
    end_s = max([duration_s, *(end for _, end, _ in intervals)])
    rows: list[Row] = []
    reached = 0.0
    for start, end, label in intervals:
        rows += [(reached, start, "")] if start > reached else []
        rows.append((start, end, label))
        reached = end
    rows += [(reached, end_s, "")] if end_s > reached or not rows else []
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end_s!r}"]
    lines += ["tiers? <exists>", "size = 1", "item []:", "    item [1]:", f'        class = "{INTERVALS}"']
    lines += [f"        name = {_quoted(tier)}", "        xmin = 0", f"        xmax = {end_s!r}"]
    lines.append(f"        intervals: size = {len(rows)}")
    for number, (start, end, label) in enumerate(rows, 1):
        lines += [f"        intervals [{number}]:", f"            xmin = {start!r}", f"            xmax = {end!r}"]
        lines.append(f"            text = {_quoted(label)}")
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""'))
