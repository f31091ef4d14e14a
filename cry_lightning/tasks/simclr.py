"""Contrastive training without labels: pretraining on any sound and adaptation to cries are this same task."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cry_lightning.console import UserError
from cry_lightning.tasks.heads import Projector
from cry_lightning.tasks.losses import nt_xent
from cry_lightning.tasks.optimisation import Optimisation
from cry_lightning.tasks.pretext import Pretext, alignment, uniformity

log = logging.getLogger(__name__)

COLLAPSED_UNIFORMITY = -0.01  # 0 where all views lie in one point


class SimCLR(Pretext):
    """An encoder that learns to find, among many clips, the other view of the same clip.

    A view is the clip under `augment_waveform` and `augment` (see `Stage`), which usually begin with a random crop.

    Logged in validation, beside what `Pretext` logs: `val/alignment` and `val/uniformity` of the projections; lower is
    better for both.

    Args:
        encoder: see `Stage`.
        optimisation: see `Stage`.
        projector: called with encoder.num_features; `Projector` where left out.
        temperature: of NT-Xent, above 0.
        **kwargs: see `Pretext`.

    Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations"; for cries, Gorin
    et al. 2023, "Self-supervised learning for infant cry analysis".
    """

    def __init__(
        self,
        encoder: nn.Module,
        optimisation: Optimisation,
        projector: Callable[[int], nn.Module] | None = None,
        temperature: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, optimisation, **kwargs)
        self.save_hyperparameters()
        if not temperature > 0:  # nor NaN
            raise UserError(f"temperature must be above 0, not {temperature}; 0.1 to 0.5 are usual")
        self.projector = (projector or Projector)(self.num_features)
        self.temperature = temperature
        self.uniformities: list[float] = []  # of this validation

    def on_fit_start(self) -> None:
        """See `Pretext`; also refuse batches without negatives, and say what accumulation does not do."""
        super().on_fit_start()
        batch_size = self.data.sampling.batch_size
        if self.data.sampling.min_batches:
            raise UserError("SimCLR: of a clip that is drawn twice, one is the other's negative: leave min_batches out")
        clips = min(batch_size, len(self.data.rows("train")))
        for part in ("train", "val"):
            found, needed = len(self.data.rows(part)), 2 * self.trainer.world_size
            if found < needed or batch_size < 2:
                raise UserError(
                    f"SimCLR compares clips: each process needs two or more in a batch, so {needed} in {part}; there"
                    f" are {found}, and data.sampling.batch_size is {batch_size}"
                )
        if clips < batch_size:
            log.warning("only %d training clips for batches of %d: that many negatives less", clips, batch_size)
        n_rows, sampling = len(self.data.rows("train")), self.data.sampling
        if self.trainer.world_size == 1 and n_rows % batch_size == 1 and not sampling.drop_last:
            raise UserError(
                f"of {n_rows} training clips in batches of {batch_size}, the last is alone, and SimCLR"
                " compares clips: set data.sampling.drop_last to true, or another data.sampling.batch_size"
            )
        if self.trainer.accumulate_grad_batches > 1:
            log.warning(
                "accumulate_grad_batches averages gradients, but adds no negatives: each loss still compares the %d"
                " views of its own batch; for more, raise data.sampling.batch_size or trainer.devices",
                2 * clips * self.trainer.world_size,
            )

    def project_views(self, batch: Tensor) -> Tensor:
        """Projections (2B, D) of two views of each clip of a batch; rows i and i + B are views of clip i."""
        return self.projector(self.encoder(self.view(torch.cat([batch, batch]), augmented=True)))

    def loss_of(self, features: Tensor) -> Tensor:
        """NT-Xent of two views of a batch, with the views of all processes as negatives."""
        return nt_xent(self.project_views(features), self.temperature)

    def measures(self, features: Tensor) -> dict[str, Tensor]:
        """The loss and the geometry of two views of a batch."""
        if len(features) < 2:
            return {}
        projections = self.project_views(features).float()
        values = {
            "val/loss": nt_xent(projections, self.temperature, gather=False),  # ranks may have unequal batches here
            "val/alignment": alignment(projections),
            "val/uniformity": uniformity(projections),
        }
        self.uniformities.append(float(values["val/uniformity"]))
        return values

    def on_validation_epoch_start(self) -> None:
        """See `Pretext`."""
        super().on_validation_epoch_start()
        self.uniformities = []

    def has_collapsed(self, rank: Tensor) -> bool:
        """See `Pretext`; projections that lie in one point are as bad."""
        return super().has_collapsed(rank) or min(self.uniformities) > COLLAPSED_UNIFORMITY
