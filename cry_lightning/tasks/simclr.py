"""Contrastive training without labels: pretraining on any sound and adaptation to cries are this same task."""

import logging
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from cry_lightning.console import UserError
from cry_lightning.stage_data import StageData
from cry_lightning.tasks.base import Stage
from cry_lightning.tasks.heads import Projector
from cry_lightning.tasks.losses import nt_xent
from cry_lightning.tasks.probe import alignment, effective_rank, probe, uniformity

log = logging.getLogger(__name__)

COLLAPSED_RANK = 2.0  # effective rank below which the embeddings say next to nothing
COLLAPSED_UNIFORMITY = -0.01  # 0 where all views lie in one point
MIN_CLIPS = 10  # of fewer the rank is low whatever the encoder does
VIEW_SEED = 0  # validation views are the same in every epoch, so that its curves compare


class SimCLR(Stage):
    """An encoder that learns to find, among many clips, the other view of the same clip.

    A view is the clip under `augment_waveform` and `augment` (see `Stage`), which usually begin with a random crop.

    Logged in validation: `val/loss`; `val/alignment` and `val/uniformity` of the projections (lower is better for
    both); `val/effective_rank` of the embeddings; and `val/probe_uar`, where the data has a `probe`: balanced accuracy
    of a classifier on the embeddings of the probe's training part, tested on its validation part.

    Args:
        encoder: see `Stage`.
        optimizer: see `Stage`.
        projector: called with encoder.num_features; `Projector` where left out.
        temperature: of NT-Xent, above 0.
        adaptation: this stage goes on from another one, so `weights` must name it.
        probe: kind of the classifier on the embeddings.
        probe_every_n_epochs: how often it is fitted, beside the last of max_epochs; in between its last score is logged
            again.
        **kwargs: see `Stage`.

    Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations"; for cries, Gorin
    et al. 2023, "Self-supervised learning for infant cry analysis".
    """

    def __init__(
        self,
        encoder: nn.Module,
        optimizer: OptimizerCallable,
        projector: Callable[[int], nn.Module] | None = None,
        temperature: float = 0.5,
        adaptation: bool = False,
        probe: Literal["linear", "knn"] = "linear",
        probe_every_n_epochs: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, optimizer, **kwargs)
        self.save_hyperparameters()
        if not temperature > 0:  # nor NaN
            raise UserError(f"temperature must be above 0, not {temperature}; 0.1 to 0.5 are usual")
        if probe_every_n_epochs < 1:
            raise UserError(f"probe_every_n_epochs must be at least 1, not {probe_every_n_epochs}")
        if adaptation and not self.weights:
            raise UserError("adaptation goes on from another stage: give its checkpoint as model.init_args.weights")
        self.projector = (projector or Projector)(self.num_features)
        self.temperature = temperature
        self.probe = probe
        self.probe_every_n_epochs = probe_every_n_epochs
        self.probe_uar: float | None = None
        self.probed_in: int | None = None  # epoch
        self.embeddings: list[list[Tensor]] = []  # of this validation, for each of its loaders
        self.labels: list[list[Tensor]] = []
        self.uniformities: list[float] = []

    def on_fit_start(self) -> None:
        """Refuse batches without negatives; say what accumulation does not do."""
        clips = min(self.data.batch_size, len(self.data.rows("train")))
        for part in ("train", "val"):
            found, needed = len(self.data.rows(part)), 2 * self.trainer.world_size
            if found < needed or self.data.batch_size < 2:
                raise UserError(
                    f"SimCLR compares clips: each process needs two or more in a batch, so {needed} in {part}; there"
                    f" are {found}, and data.batch_size is {self.data.batch_size}"
                )
        if clips < self.data.batch_size:
            log.warning(
                "only %d training clips for batches of %d: that many negatives less", clips, self.data.batch_size
            )
        self._refuse_a_batch_of_one(len(self.data.rows("train")))
        if self.data.probe:
            self._refuse_a_probe_of_one_class(self.data.probe)
        if self.trainer.accumulate_grad_batches > 1:
            log.warning(
                "accumulate_grad_batches averages gradients, but adds no negatives: each loss still compares the %d"
                " views of its own batch; for more, raise data.batch_size or trainer.devices",
                2 * clips * self.trainer.world_size,
            )

    def _refuse_a_batch_of_one(self, clips: int) -> None:
        if self.trainer.world_size == 1 and clips % self.data.batch_size == 1 and not self.data.drop_last:
            raise UserError(
                f"of {clips} training clips in batches of {self.data.batch_size}, the last is alone, and SimCLR"
                " compares clips: set data.drop_last to true, or another data.batch_size"
            )

    @staticmethod
    def _refuse_a_probe_of_one_class(data: StageData) -> None:
        classes = sorted({str(clip.label) for clip in data.clips_of("train")})
        if len(classes) < 2:
            raise UserError(
                f"data.probe: its training part is all of one class, {' '.join(classes)}; the probe compares classes"
            )

    def project_views(self, batch: Tensor) -> Tensor:
        """Projections (2B, D) of two views of each clip of a batch; rows i and i + B are views of clip i."""
        return self.projector(self.encoder(self.view(torch.cat([batch, batch]), augmented=True)))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """NT-Xent of one batch."""
        loss = nt_xent(self.project_views(batch["features"]), self.temperature)
        self.log(
            "train/loss",
            loss,
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(batch["features"]),
            sync_dist=True,
        )
        return self.refuse_nan(loss, batch)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self.embeddings, self.labels, self.uniformities = [[], [], []], [[], [], []], []

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Loss of a batch of loader 0; embeddings for the probe from its loaders, 1 to fit it and 2 to test it."""
        features = batch["features"]
        if dataloader_idx == 0:
            self.log_views(batch, batch_idx)
        elif not self.probing:
            return
        self.embeddings[dataloader_idx].append(self.embed(features).float().cpu())
        self.labels[dataloader_idx].append(batch["label"].cpu())

    def log_views(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the loss and the geometry of two views of a batch's features, the same two in every epoch."""
        features = batch["features"]
        if len(features) < 2:
            return
        with torch.random.fork_rng(devices=[features.device] if features.is_cuda else []):
            torch.manual_seed(VIEW_SEED + batch_idx)
            projections = self.project_views(features).float()
        loss = nt_xent(projections, self.temperature, gather=False)  # ranks may have unequal batches here
        values = {
            "val/loss": self.refuse_nan(loss, batch),
            "val/alignment": alignment(projections),
            "val/uniformity": uniformity(projections),
        }
        self.uniformities.append(float(values["val/uniformity"]))
        self.log_dict(values, batch_size=len(features), sync_dist=True, add_dataloader_idx=False)

    @property
    def probing(self) -> bool:
        """Whether the probe is fitted in this validation; there may be none in some epochs, several in others."""
        epoch = self.current_epoch
        if self.probed_in is None or epoch + 1 == self.trainer.max_epochs:
            return True
        return not 0 < epoch - self.probed_in < self.probe_every_n_epochs

    def on_validation_epoch_end(self) -> None:
        """Log the effective rank and the probe's score; warn where the embeddings have collapsed."""
        embeddings = torch.cat(self.embeddings[0])
        rank = effective_rank(embeddings)
        self.log("val/effective_rank", rank, sync_dist=True)
        collapsed = rank < COLLAPSED_RANK or min(self.uniformities) > COLLAPSED_UNIFORMITY
        if collapsed and len(embeddings) >= MIN_CLIPS:
            warnings.warn(
                f"the embeddings have collapsed (effective rank {float(rank):.1f} of {self.num_features}): a lower"
                " learning rate or weaker augmentation may help",
                stacklevel=1,
            )
        if self.data.probe and self.probing:
            self.probe_uar = probe(self.probe, *self.gathered(1), *self.gathered(2))
            self.probed_in = self.current_epoch
        if self.probe_uar is not None:
            self.log("val/probe_uar", self.probe_uar, prog_bar=True, sync_dist=True)

    def gathered(self, loader: int) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (n, D) and labels (n,) of one loader in this validation."""
        return torch.cat(self.embeddings[loader]).numpy(), torch.cat(self.labels[loader]).numpy()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `Stage`; also keep the probe's last score, which is logged until the next one."""
        super().on_save_checkpoint(checkpoint)
        checkpoint |= {"probe_uar": self.probe_uar, "probed_in": self.probed_in}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the probe's last score over."""
        self.probe_uar, self.probed_in = checkpoint["probe_uar"], checkpoint["probed_in"]
