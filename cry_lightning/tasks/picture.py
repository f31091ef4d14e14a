"""Spectrograms as colour pictures."""

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap
from torch import Tensor, nn

from cry_lightning.console import UserError

N_COLOURS = 256  # as many as a PNG's palette holds
# SoX's own, from black by violet, red and yellow to white: what its pictures show at these shares of the range.
SOX_SHARES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.73, 0.8, 0.9, 1.0)
SOX_COLOURS = ("#000000", "#0c0059", "#6e0080", "#bd005b", "#ef0003", "#ff9a00", "#ffd613", "#fffe86", "#fffffa")


class ColourMap(nn.Module):
    """Colours (B, 3, F, T) in 0..1, highest frequency on top, of levels (B, 1, F, T) in dB, lowest frequency first.

    Args:
        name: "sox", or any colour map of matplotlib's.
        range_db: the levels from -range_db (the first colour) to 0 (the last) have colours of their own.

    Raises:
        UserError: there is no such colour map, the range is not above 0, or features have several channels.
    """

    table: Tensor  # (N_COLOURS, 3)

    def __init__(self, name: str = "sox", range_db: float = 120.0) -> None:
        super().__init__()
        if range_db <= 0:
            raise UserError(f"ColourMap: range_db must be above 0, not {range_db}")
        self.range_db = range_db
        colours = colour_map(name)(np.linspace(0, 1, N_COLOURS))[:, :3]
        # Rounded to what a PNG can hold, so that a picture on disk is the very one that the network sees.
        table = torch.from_numpy(np.rint(colours * 255)).float() / 255
        self.register_buffer("table", table, persistent=False)  # the name makes it again

    def forward(self, levels: Tensor) -> Tensor:
        """Pictures (B, 3, F, T) of levels (B, 1, F, T)."""
        if levels.ndim != 4 or levels.shape[1] != 1:
            raise UserError(f"ColourMap: wants features of shape (B, 1, F, T), not {tuple(levels.shape)}")
        share = (1 + levels[:, 0].flip(1) / self.range_db).clamp(0, 1)
        colours = self.table[(share * (N_COLOURS - 1)).round().long()]  # (B, F, T, 3)
        return colours.movedim(-1, 1)


def colour_map(name: str) -> Colormap:
    """SoX's colour map or one of matplotlib's."""
    if name == "sox":
        return LinearSegmentedColormap.from_list(name, list(zip(SOX_SHARES, SOX_COLOURS, strict=True)), N_COLOURS)
    if name not in colormaps:
        raise UserError(
            f"ColourMap: no colour map {name!r}; give sox, or one of matplotlib's: inferno, magma, gray ..."
        )
    return colormaps[name]
