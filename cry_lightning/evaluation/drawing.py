"""How figures look: their sizes, colours that colour-blind readers tell apart, and the files that they become."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.rcsetup import cycler

from cry_lightning.console import on_one_line
from cry_lightning.files import replacing

# Source: Okabe and Ito 2008, "Color Universal Design", without their yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", (0, (3, 1, 1, 1, 1, 1)))  # not ":", which marks chance
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
ALARMING = "darkred"  # of a title that is stamped
CHARACTERS_PER_IN = 11  # of a line of a title, in capitals too
DPI = 300
COLOUR_RANGE = (5, 99.5)  # percentiles of all features shown: digital silence would leave little colour for sound
LARGEST = (80, 160)  # rows and columns of a thumbnail, in pixels
FONTS = re.compile(r"font-family: 'DejaVu Sans'[^;\"]*")
ALIKE = "font-family: 'DejaVu Sans', Verdana, sans-serif"  # of about the same width
NAMES = re.compile(r'<g id="[^"]*">')  # of groups, the same in every figure of a page; nothing refers to them


class Look(TypedDict):
    """Of a line, as matplotlib takes it."""

    color: str
    linestyle: str | tuple[int, tuple[int, ...]]


def line(number: int) -> Look:
    """Colour and pattern of the line of this number; 28 differ, in both from the next."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)]}


def in_lines(text: str, most: int) -> str:
    """A text in lines of so many characters at most, broken after a space, or a sign within a name, where one is."""
    lines = re.findall(rf"(?s).{{1,{most}}}(?:(?<=[ _/-])|$)|.{{{most}}}", on_one_line(text))
    return "\n".join(line.strip() for line in lines)


def marker(number: int) -> str:
    """The mark of the points of the line of this number."""
    return MARKERS[number % len(MARKERS)]


@dataclass(frozen=True)
class Style:
    """Sizes of a figure.

    Args:
        font_pt: of all text.
        width_in: of a figure, whose panels stand one below the other.
        widest_in: of one that needs more room.
    """

    font_pt: float
    width_in: float
    widest_in: float

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Draw and save with this style; each further line has another colour and another pattern."""
        looks = list(map(line, range(len(COLOURS) * len(LINES))))
        lines = cycler(color=[look["color"] for look in looks], linestyle=[look["linestyle"] for look in looks])
        settings = rc_context(
            {
                "font.size": self.font_pt,
                "axes.titlesize": self.font_pt,
                "axes.labelsize": self.font_pt,
                "figure.titlesize": self.font_pt,
                "legend.fontsize": self.font_pt,
                "xtick.labelsize": self.font_pt,
                "ytick.labelsize": self.font_pt,
                "axes.prop_cycle": lines,
                "lines.linewidth": self.font_pt / 6,
                "lines.markersize": self.font_pt / 2,
                "legend.frameon": False,
                "text.parse_math": False,  # a class may be called what it likes, dollars included
                "svg.fonttype": "none",  # text stays text
                "pdf.fonttype": 42,
            }
        )
        with settings, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a name in letters that the font lacks
            yield

    def panels(self, n: int, legend_rows: int = 0) -> tuple[Figure, list[Axes]]:
        """A figure of n panels, a little less high than wide, with room below them for some rows of a legend."""
        height = 0.95 * self.width_in * n + 1.5 * (legend_rows + 1) * self.font_pt / 72
        figure = Figure(figsize=(self.width_in, height), layout="constrained")
        return figure, list(figure.subplots(n, squeeze=False)[:, 0])


def legend_below(figure: Figure, axes: Axes, columns: int = 5) -> Legend:
    """A legend of these axes below all panels, in so many columns, or as many as there is room for."""
    legend = figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    if columns > 1 and legend.get_window_extent().width > figure.bbox.width:
        legend.remove()
        return legend_below(figure, axes, columns - 1)
    return legend


SCREEN = Style(font_pt=10, width_in=4.5, widest_in=9.0)
PAPER = Style(font_pt=8, width_in=3.5, widest_in=3.5)  # one column of most journals
STYLES = {"screen": SCREEN, "paper": PAPER}


def save(figure: Figure, path: Path, *endings: str) -> None:
    """Write a figure as PNG of 300 dpi, and beside it with other endings, ".svg" or ".pdf".

    Raises:
        UserError: one cannot be written.
    """
    for ending in (".png", *endings):
        with replacing(path.with_suffix(ending)) as part:
            if ending == ".svg":
                part.write_text(as_svg(figure, path.stem), encoding="utf-8")
            else:
                dateless = {"CreationDate": None} if ending == ".pdf" else None  # the same figure is the same file
                figure.savefig(part, format=ending[1:], dpi=DPI, metadata=dateless)
                figure.set_layout_engine("none")  # once is enough


def as_svg(figure: Figure, name: str) -> str:
    """A figure as an SVG element, whose background is clear and whose text is text; no other of a page has its name."""
    written, nothing = io.StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.hashsalt": name}):  # of the ids within, which are drawn at random without
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    drawing = written.getvalue()[written.getvalue().index("<svg") :]
    return FONTS.sub(ALIKE, NAMES.sub("<g>", drawing))


def entitle(figure: Figure, title: str, stamps: str = "") -> None:
    """Write a title above the figure, in lines that its width holds, in an alarming colour where it is stamped."""
    lines = in_lines(": ".join(filter(None, [stamps, title])), int(figure.get_figwidth() * CHARACTERS_PER_IN))
    figure.suptitle(lines, color=ALARMING if stamps else "black")


def thumbnails(features: np.ndarray) -> np.ndarray:
    """Small pictures (n, H, W, 3) of features (n, F, T), on one scale of colours, low frequencies at the bottom."""
    rows, columns = (-(-size // most) for size, most in zip(features.shape[1:], LARGEST, strict=True))
    small = features[:, ::rows, ::columns][:, ::-1]
    low, high = np.percentile(small, COLOUR_RANGE)
    coloured: np.ndarray = colormaps["magma"](Normalize(low, max(high, low + 1e-9))(small), bytes=True)
    return coloured[..., :3]
