"""Masked prediction without labels: what is hidden of a spectrogram, predicted from what is left of it."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from cry_lightning.console import UserError
from cry_lightning.tasks.base import HeadFactory
from cry_lightning.tasks.heads import MLPHead
from cry_lightning.tasks.optimisation import Optimisation
from cry_lightning.tasks.pretext import Pretext

SILENT = 1e-5  # deviation of a clip's cells below which they are all alike


class MaskedPrediction(Pretext):
    """An encoder that learns to predict the level of masked cells of a spectrogram from the others.

    A view (under `augment_waveform` and `augment`) is divided into cells as equal as can be; some are replaced by the
    mean of the view, and predicted from the embedding of the rest. The loss is the mean squared error over masked
    cells, of levels standardised by each clip's own cells: 1 is no better than that clip's mean; the mean spectrum of
    all sounds is known after some steps already.

    Args:
        encoder: see `Stage`.
        optimisation: see `Stage`.
        decoder: made for (encoder.num_features, cells); one hidden layer of 512 units where left out.
        bands: cells in frequency.
        frames: cells in time.
        masked: share of the cells that is hidden, above 0 and below 1.
        **kwargs: see `Pretext`.

    Source: after He et al. 2022, "Masked autoencoders are scalable vision learners", and Niizumi et al. 2022, "Masked
    spectrogram modeling using masked autoencoders"; here by an encoder of any kind, whose embedding is one vector, so
    that cells have levels, not textures.
    """

    def __init__(
        self,
        encoder: nn.Module,
        optimisation: Optimisation,
        decoder: HeadFactory | None = None,
        bands: int = 10,
        frames: int = 10,
        masked: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, optimisation, **kwargs)
        self.save_hyperparameters()
        if min(bands, frames) < 1 or not 0 < masked < 1 or not 1 <= round(masked * bands * frames) < bands * frames:
            raise UserError(
                f"MaskedPrediction: of {bands} x {frames} cells a share of {masked} cannot be hidden; bands and frames"
                " are at least 1, masked is above 0 and below 1, and one cell at least is hidden and one is not"
            )
        self.bands, self.frames = bands, frames
        self.n_masked = round(masked * bands * frames)
        cells = bands * frames
        self.decoder = decoder(self.num_features, cells) if decoder else MLPHead(self.num_features, cells, [512], 0.0)

    def draw(self, view: Tensor) -> Tensor:
        """Which cells of a view (B, C, F, T) are masked (B, cells): as many in each row, drawn by torch."""
        cells = self.bands * self.frames
        hidden = torch.rand(len(view), cells, device=view.device).argsort(1)[:, : self.n_masked]
        return torch.zeros(len(view), cells, dtype=torch.bool, device=view.device).scatter_(1, hidden, True)

    def levels(self, view: Tensor) -> Tensor:
        """Mean levels (B, cells) of the cells of a view (B, C, F, T), standardised row by row."""
        if view.shape[2] < self.bands or view.shape[3] < self.frames:
            raise UserError(
                f"MaskedPrediction: a view has {view.shape[2]} bands and {view.shape[3]} frames, too few for"
                f" {self.bands} x {self.frames} cells; lower model.init_args.bands or frames"
            )
        rows, columns = self._places(view)
        of_rows, of_columns = (one_hot(of, n).to(view) for of, n in ((rows, self.bands), (columns, self.frames)))
        means = (of_rows / of_rows.sum(0)).T @ view.mean(1) @ (of_columns / of_columns.sum(0))
        cells = means.flatten(1)
        deviation = cells.std(1, keepdim=True, correction=0)
        return (cells - cells.mean(1, keepdim=True)) / deviation.clamp(min=SILENT)

    def _places(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """The cell, in frequency and in time, of each band (F,) and frame (T,) of a view (B, C, F, T)."""
        n_bands, n_frames = view.shape[2:]
        place = partial(torch.arange, device=view.device)
        return place(n_bands) * self.bands // n_bands, place(n_frames) * self.frames // n_frames

    def loss_of(self, features: Tensor) -> Tensor:
        """Mean squared error of the masked cells of a batch."""
        view = self.view(features, augmented=True)
        hidden, levels = self.draw(view), self.levels(view)
        rows, columns = self._places(view)
        mask = hidden.view(-1, 1, self.bands, self.frames)[:, :, rows][..., columns].to(view.dtype)
        left = view + mask * (view.mean((1, 2, 3), keepdim=True) - view)
        predicted = self.decoder(self.encoder(left)).float()
        return (predicted - levels)[hidden].square().mean()
