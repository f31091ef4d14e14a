"""report.html of a study: its tables and figures in one file that fetches nothing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from cry_lightning.evaluation.compare import Rows
from cry_lightning.files import replacing
from cry_lightning.report.page import template
from cry_lightning.report.provenance import versions


@dataclass(frozen=True)
class StudyPage:
    """What the page of a study shows.

    Args:
        title: what was studied.
        command: that wrote it.
        tables: with a header each.
        note: what a reader must know of the corpus.
        verdict: in words.
        warnings: why to doubt the numbers.
        figures: caption and SVG element of each.
        reading: how to read the tables, a paragraph each.
        reports: name and path, from the page's folder, of the reports that it rests on.
    """

    title: str
    command: str
    tables: Sequence[Rows]
    note: str = ""
    verdict: str = ""
    warnings: Sequence[str] = ()
    figures: Sequence[tuple[str, str]] = ()
    reading: Sequence[str] = ()
    reports: Sequence[tuple[str, Path]] = ()


def write_page(page: StudyPage, out: Path) -> Path:
    """Write report.html into a folder; returns its path."""
    reports = [(name, quote(path.as_posix())) for name, path in page.reports]
    shown = asdict(page) | {"reports": reports, "versions": versions()}
    with replacing(out / "report.html") as part:
        part.write_bytes(template("study.html").render(shown).encode(errors="backslashreplace"))
    return out / "report.html"
