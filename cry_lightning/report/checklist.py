"""Reporting guidelines: what a run answers of them, and what only its authors can say.

The items of each are in `checklists/`, numbered as published, in words of our own.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from cry_lightning.console import as_markdown_text
from cry_lightning.evaluation.compare import as_markdown
from cry_lightning.report.facts import Facts

GUIDELINES = {
    "tripod-ai": "TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378), for prediction models",
    "stard-ai": "STARD-AI (Sounderajah et al. 2025, Nature Medicine 31:3283-3289), for diagnostic accuracy",
}
NOTE = (
    "Numbers are those of the guideline, topics are shortened in our own words: submit the published form. What is"
    " filled in is what the run itself shows; nobody has judged whether it is enough."
)

ALL = "all of it"


@dataclass(frozen=True)
class Item:
    """One row of a guideline.

    Args:
        section: of a paper.
        number: as published.
        asks: the topic.
        shows: what the run answers; empty for nothing.
        authors: what is left to them; empty for nothing.
    """

    section: str
    number: str
    asks: str
    shows: str
    authors: str


@dataclass(frozen=True)
class Checklist:
    """A guideline filled in for one run."""

    guideline: str
    items: Sequence[Item]
    note: str = NOTE

    @property
    def summary(self) -> str:
        """How many items have an answer."""
        shown = sum(bool(item.shows) for item in self.items)
        whole = sum(bool(item.shows) and not item.authors for item in self.items)
        return (
            f"{len(self.items)} items: the run answers {whole}, and {shown - whole} in part; {len(self.items) - shown}"
            " are for the authors alone."
        )

    @property
    def sections(self) -> dict[str, list[Item]]:
        """The items of each section."""
        return {
            name: [item for item in self.items if item.section == name]
            for name in dict.fromkeys(item.section for item in self.items)
        }


def fill(name: str, facts: Facts) -> Checklist:
    """A guideline of `GUIDELINES`, filled in with what a run shows."""
    path = files("cry_lightning.report") / "checklists" / f"{name}.tsv"
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    items = []
    for row in rows:
        shows = " ".join(filter(None, (facts[fact] for fact in row["shows"].split())))
        lacking = [text for fact in row["shows"].split() if (text := facts.lacking.get(fact))]
        authors = "; ".join(filter(None, [*lacking, row["authors"]])) or ("" if shows else ALL)
        items.append(Item(row["section"], row["item"], row["asks"], shows, authors))
    return Checklist(GUIDELINES[name], items)


def page(checklist: Checklist, name: str) -> str:
    """The checklist of a run of this name as Markdown."""
    return "\n\n".join(_blocks(checklist, name)) + "\n"


def _blocks(checklist: Checklist, name: str) -> Iterator[str]:
    yield f"# {as_markdown_text(name)} by {checklist.guideline}"
    yield f"{checklist.note}\n\n{checklist.summary}"
    for section, items in checklist.sections.items():
        yield f"## {section}"
        rows = [[item.number, item.asks, item.shows, item.authors] for item in items]
        yield as_markdown([["item", "asks for", "this run", "the authors add"], *rows])
