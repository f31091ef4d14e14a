"""Praat TextGrids as text, long or short.

Praat reads of such a file the numbers, texts and flags that stand by themselves, and passes over all else: names,
brackets and the numbers in them. So does this, which is why the long and the short form need no distinction.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from cry_lightning.console import UserError

TOKEN = re.compile(r'"((?:[^"]|"")*)"|(<\w+>)|(?<!\S)([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\S)|!.*')
INTERVALS, POINTS = "IntervalTier", "TextTier"
AGAIN = "save it again in Praat (Save as text file)"
Row = tuple[float, float, str]


class Tokens:
    """The texts and numbers of a TextGrid, one after the other."""

    def __init__(self, text: str, path: Path) -> None:
        self.path = path
        self.text = text
        self.found = (match for match in TOKEN.finditer(text) if match.lastindex)
        self.inside = "its head"

    def next(self, kind: int, called: str) -> str:
        """The next token, which is a text (1), a flag (2) or a number (3).

        Raises:
            UserError: it is not, or there is none.
        """
        match = next(self.found, None)
        if match is None:
            raise UserError(f"{self.path}: ends within {self.inside}; {AGAIN}")
        if match.lastindex != kind:
            line = self.text.count("\n", 0, match.start()) + 1
            raise UserError(f"{self.path}: line {line} has {match[0][:40]}, not {called}; {AGAIN}")
        return match[kind].replace('""', '"') if kind == 1 else match[kind]

    def word(self, called: str) -> str:
        """The next token, a text."""
        return self.next(1, called)

    def number(self, called: str) -> float:
        """The next token, a number."""
        return float(self.next(3, called))


def parse(text: str, path: Path, tier: str | None = None, or_only: bool = False) -> list[tuple[str, Row]]:
    """The labelled intervals of a tier, or, where that is enough, of the only one; each with its place.

    Raises:
        UserError: it is no TextGrid, is cut short, or has no such tier of intervals, or several and none is named.
    """
    if "ooBinaryFile" in text[:20]:
        raise UserError(f"{path}: a binary TextGrid; {AGAIN}")
    tokens = Tokens(text, path)
    if re.findall(r'"(\w+)"', text[:200])[:2] != ["ooTextFile", "TextGrid"]:
        raise UserError(f"{path}: no TextGrid, it does not begin with ooTextFile and TextGrid; {AGAIN}")
    for name in ("file type", "class"):
        tokens.word(f"the {name}")
    for name in ("beginning", "end"):
        tokens.number(f"the {name}")
    exist = tokens.next(2, "<exists>") == "<exists>"
    tiers = dict(_tiers(tokens)) if exist else {}
    if len(tiers) == 1 and (or_only or tier is None):
        return next(iter(tiers.values()))
    if tier in tiers:
        return tiers[tier]
    named = ", ".join(map(repr, tiers))
    if not tiers:
        raise UserError(f"{path}: has no tier of intervals; mark them in one")
    if tier is None:
        raise UserError(f"{path}: has the tiers {named}; name one by `tier`")
    raise UserError(f"{path}: has no tier of intervals {tier!r}, only {named}; correct `tier`")


def _tiers(tokens: Tokens) -> Iterator[tuple[str, list[tuple[str, Row]]]]:
    """Name and labelled intervals of each tier of intervals."""
    for number in range(int(tokens.number("the number of tiers"))):
        tokens.inside = f"tier {number + 1}"
        kind, name = tokens.word("the class of a tier"), tokens.word("the name of a tier")
        if kind not in (INTERVALS, POINTS):
            raise UserError(f"{tokens.path}: {tokens.inside} is a {kind!r}, neither {INTERVALS} nor {POINTS}; {AGAIN}")
        tokens.inside = f"the tier {name!r}"
        for end in ("beginning", "end"):
            tokens.number(f"the {end} of a tier")
        rows = []
        for index in range(int(tokens.number("the number of intervals or points"))):
            start_s = tokens.number("a time")
            end_s = tokens.number("a time") if kind == INTERVALS else start_s
            rows.append((f"interval {index + 1}", (start_s, end_s, " ".join(tokens.word("a label").split()))))
        if kind == INTERVALS:
            yield name, [row for row in rows if row[1][2]]


def text_of(intervals: Sequence[Row], duration_s: float, tier: str) -> str:
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
