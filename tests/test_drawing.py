"""What figures share."""

import re

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cry_lightning.evaluation.drawing import PAPER, SCREEN, as_svg, entitle, legend_below


def test_figures_of_a_page_have_ids_of_their_own_and_the_same_at_every_call():
    def drawn(name: str) -> str:
        figure = Figure(figsize=(3, 2))
        figure.add_subplot().plot([0, 1], marker="o")
        with SCREEN.applied():
            return as_svg(figure, name)

    ids = [re.findall(r' id="([^"]+)"', drawn(name)) for name in ("1-curves", "2-curves")]
    assert len(ids[0]) > 2 and len({*ids[0], *ids[1]}) == len(ids[0]) + len(ids[1])
    used = re.findall(r'(?:url\(|href=")#([^")]+)', drawn("1-curves"))
    assert used and {*used} <= {*ids[0]}
    assert drawn("1-curves") == drawn("1-curves")


@pytest.mark.parametrize(("length", "columns"), [(3, 5), (30, 2), (400, 1)])
def test_a_legend_has_as_many_columns_as_there_is_room_for(length, columns):
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in "abcdefg":
        axes.plot([0, 1], label=name * length)
    legend = legend_below(figure, axes)
    assert legend._ncols == columns and figure.legends == [legend]
    assert columns == 1 or legend.get_window_extent().width <= figure.bbox.width


@pytest.mark.parametrize("style", [SCREEN, PAPER])
def test_a_long_title_is_broken_and_not_cut(style):
    with style.applied():
        figure, _ = style.panels(1)
        entitle(figure, "finetune-audioset-b5a390, Neonatal ward of 2024, recording level", "UNKNOWN LINEAGE")
        FigureCanvasAgg(figure).draw()
        extent = figure._suptitle.get_window_extent()
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width
