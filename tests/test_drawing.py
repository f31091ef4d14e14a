"""What figures share."""

import pytest
from matplotlib.figure import Figure

from cry_lightning.evaluation.drawing import legend_below


@pytest.mark.parametrize(("length", "columns"), [(3, 5), (30, 2), (400, 1)])
def test_a_legend_has_as_many_columns_as_there_is_room_for(length, columns):
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in "abcdefg":
        axes.plot([0, 1], label=name * length)
    legend = legend_below(figure, axes)
    assert legend._ncols == columns and figure.legends == [legend]
    assert columns == 1 or legend.get_window_extent().width <= figure.bbox.width
