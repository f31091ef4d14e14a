"""report.html, of runs or of a study: one file that holds all it shows, and fetches nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.figure import Figure

from cry_lightning.evaluation import compare, figures
from cry_lightning.evaluation.compare import Pair, Rows
from cry_lightning.evaluation.drawing import PAPER, STYLES, Style, as_svg, save
from cry_lightning.evaluation.run import Run
from cry_lightning.files import write_text
from cry_lightning.report import mistakes, words
from cry_lightning.report.checklist import Checklist
from cry_lightning.report.mistakes import Mistakes
from cry_lightning.report.provenance import Provenance, evaluation_command, versions
from cry_lightning.report.words import Asked, Extras

CAPTIONS = {
    "confusion": "Confusion matrix",
    "curves": "ROC and precision-recall curves",
    "clinical": "Reliability, net benefit and abstention",
}
MOST_BYTES = 3_000_000  # of a page that can be sent
MOST_MISTAKES = 30  # of all runs together


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Args:
        name: of its kind, see `CAPTIONS`.
        path: of its PNG file, from the report's folder.
        svg: the same as an element of a page.
    """

    name: str
    path: str
    svg: str

    @property
    def caption(self) -> str:
        """What it shows."""
        return CAPTIONS[self.name]


def draw(run: Run, extras: Extras, out: Path, prefix: str, style: str) -> list[Picture]:
    """Write the figures of a run into figures/, their names after a prefix."""
    drawings: dict[str, Callable[[Style], Figure]] = {
        "confusion": lambda style: figures.confusion(run, style),
        "curves": lambda style: figures.curves(run, style),
    }
    if (readout := extras.readout) is not None:
        drawings["clinical"] = lambda style: figures.clinical(run, readout, style)
    drawn = [_drawn(name, drawing, out, prefix, STYLES[style]) for name, drawing in drawings.items()]
    for name, ending in product(CAPTIONS, (".png", ".svg", ".pdf")):
        if name not in drawings or (ending == ".pdf" and STYLES[style] is not PAPER):
            (out / f"figures/{prefix}{name}{ending}").unlink(missing_ok=True)  # of another call
    return drawn


def _drawn(name: str, drawing: Callable[[Style], Figure], out: Path, prefix: str, style: Style) -> Picture:
    path = f"figures/{prefix}{name}.png"
    with style.applied():
        save(figure := drawing(style), out / path, *([".pdf"] if style is PAPER else []))
        svg = as_svg(figure, f"{prefix}{name}")
    write_text(svg, (out / path).with_suffix(".svg"))
    return Picture(name, path, svg)


@dataclass(frozen=True)
class Section:
    """What the page says of one run."""

    run: Run
    extras: Extras
    pictures: Sequence[Picture]
    mistakes: Mistakes
    provenance: Provenance

    @property
    def warnings(self) -> list[str]:
        """What a reader must know to trust or doubt the numbers."""
        clean = self.run.leakage.status == "CLEAN" and not self.run.leakage.uncalibrated
        return [*([] if clean else [words.lineage(self.run)]), *self.run.notes]

    @property
    def tables(self) -> list[tuple[str, Rows]]:
        """The results of each class, with the titles of the tables."""
        found = [(words.classes_shown(self.run), compare.per_class(self.run))]
        if self.run.positive is None:
            return found
        title = f"Positive class: {self.run.positive} ({words.POSITIVE})."
        return [(title, compare.two_class(self.run, self.run.positive)), *found]

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of what the report rests on."""
        found = {"predictions.csv": self.provenance.table, "checkpoint": self.provenance.checkpoint}
        return {name: value for name, value in found.items() if value}


def page(
    runs: Sequence[Run],
    compared: Sequence[Pair],
    extras: Mapping[str, Extras],
    pictures: Mapping[str, Sequence[Picture]],
    asked: Asked,
    checklist: Checklist | None = None,
) -> str:
    """The report as one HTML page.

    Args:
        runs: one or several.
        compared: their differences.
        extras: of each run, by its name.
        pictures: of each run, by its name.
        asked: what a reader wants besides.
        checklist: of the run, filled in.
    """
    each = min(mistakes.MOST, max(1, MOST_MISTAKES // len(runs)))
    sections = [
        Section(run, extras[run.name], pictures[run.name], mistakes.find(run, each, asked.with_audio), Provenance(run))
        for run in runs
    ]
    paired = [pair for pair in compared if not pair.unlike]
    summary = compare.summary(runs)
    shown = {
        "title": runs[0].title if len(runs) == 1 else f"{len(runs)} runs",
        "several": len(runs) > 1,
        "contents": _contents(sections, checklist is not None),
        "sections": sections,
        "words": words,
        "audio_asked": asked.with_audio,
        # Of one run, its name and its stamp stand above.
        "summary": summary if len(runs) > 1 else [row[1:-1] for row in summary],
        "baselines": [f"always {units.majority_class}" for run in runs for units in run.levels],
        "differences": compare.rows(paired) if paired else None,
        "unpaired": words.UNPAIRED if len(paired) < len(compared) else "",
        "reading": compare.READING,
        "comparisons": [compare.verdict(pair) for pair in compared],
        "checklist": checklist,
        "method": words.method(runs),
        "command": asked.command or evaluation_command(runs),
        "versions": versions(),
    }
    for with_sound, with_pictures, with_figures in (
        (True,) * 3,
        (False, True, True),
        (False, False, True),
        (False,) * 3,
    ):
        text = template("report.html").render(
            shown, with_sound=with_sound, with_pictures=with_pictures, with_figures=with_figures
        )
        if len(text) < MOST_BYTES:
            break
    return text


def _contents(sections: Sequence[Section], with_checklist: bool) -> list[tuple[str, str]]:
    """Titles of the parts, and where they are."""
    if len(sections) > 1:
        runs = [(section.run.label, f"run{number}") for number, section in enumerate(sections, 1)]
        return [("Verdicts", "verdict"), ("All runs", "all"), *runs, ("Reading", "reading"), ("Reproduce", "reproduce")]
    extras = sections[0].extras
    parts = {"Verdict": "verdict", "What was run": "made", "Results": "results"}
    parts |= {"Calibration": "clinical"} if extras.readout else {}
    parts |= {"Errors": "errors"} | ({"Subgroups": "subgroups"} if extras.subgroups else {})
    parts |= {"Checklist": "checklist"} if with_checklist else {}
    return list((parts | {"Reading": "reading", "Reproduce": "reproduce"}).items())


@cache
def template(name: str) -> Template:
    """One of the templates of this room, into which all text goes escaped."""
    loader = PackageLoader("cry_lightning.report", "templates")
    settings = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return settings.get_template(name)


@dataclass(frozen=True)
class StudyPage:
    """What the page of a study shows.

    Args:
        title: what was studied.
        command: that wrote it.
        tables: with a header each.
        verdict: in words.
        warnings: why to doubt the numbers.
        figures: caption and SVG element of each.
        reading: how to read the tables, a paragraph each.
        reports: name and path, from the page's folder, of the reports that it rests on.
    """

    title: str
    command: str
    tables: Sequence[Rows]
    verdict: str = ""
    warnings: Sequence[str] = ()
    figures: Sequence[tuple[str, str]] = ()
    reading: Sequence[str] = ()
    reports: Sequence[tuple[str, Path]] = ()


def write_page(page: StudyPage, out: Path) -> Path:
    """Write report.html of a study into a folder; returns its path."""
    reports = [(name, quote(path.as_posix())) for name, path in page.reports]
    shown = asdict(page) | {"reports": reports, "versions": versions()}
    write_text(template("study.html").render(shown), out / "report.html")
    return out / "report.html"
