"""Sections of text and tables, for the terminal and as Markdown."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cry_lightning.cells import as_markdown_list, as_markdown_text, for_spreadsheets, on_one_line
from cry_lightning.evaluation.tables import Rows, as_markdown, as_text
from cry_lightning.writing import replacing

WIDTH = 110


@dataclass
class Section:
    """A heading, and what is said below it."""

    title: str
    tables: list[Rows] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    figure: str = ""  # file name, beside the report


def as_terminal(sections: Sequence[Section]) -> str:
    """Plain text; figures are left out."""
    blocks = []
    for section in sections:
        blocks += [f"{section.title}\n{'=' * len(section.title)}", *map(as_text, section.tables)]
        lines = [textwrap.fill(f"- {on_one_line(remark)}", WIDTH, subsequent_indent="  ") for remark in section.remarks]
        blocks += ["\n".join(lines)] if lines else []
    return "\n\n".join(blocks)


def as_page(title: str, sections: Sequence[Section]) -> str:
    """Markdown."""
    blocks = [f"# {as_markdown_text(title)}"]
    for section in sections:
        blocks += [f"## {as_markdown_text(section.title)}", *map(as_markdown, section.tables)]
        blocks += [f"![{as_markdown_text(section.title)}]({section.figure})"] if section.figure else []
        blocks += [as_markdown_list(section.remarks)] if section.remarks else []
    return "\n\n".join(blocks) + "\n"


def write_table(table: pd.DataFrame, path: Path, index: bool = False) -> None:
    """Write a CSV file, whole or not at all."""
    with replacing(path) as part:
        for_spreadsheets(table).to_csv(part, index=index, float_format="%.6g", errors="backslashreplace")
