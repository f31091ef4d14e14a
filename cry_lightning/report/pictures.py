"""The figures of a run: as files, and as what the page holds."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from matplotlib.figure import Figure

from cry_lightning.evaluation import figures
from cry_lightning.evaluation.drawing import PAPER, STYLES, Style, as_svg, save
from cry_lightning.evaluation.run import Run
from cry_lightning.files import replacing
from cry_lightning.report.words import Extras

CAPTIONS = {
    "confusion": "Confusion matrix",
    "curves": "ROC and precision-recall curves",
    "clinical": "Reliability, net benefit and abstention",
}


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
        svg = as_svg(figure)
    with replacing((out / path).with_suffix(".svg")) as part:
        part.write_text(svg, encoding="utf-8")
    return Picture(name, path, svg)
