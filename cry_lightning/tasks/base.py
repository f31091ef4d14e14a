"""What every stage shares: encoder, upstream weights, freezing, augmentation and reproducible randomness."""

import os
from collections.abc import Callable
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from cry_lightning.errors import UserError
from cry_lightning.tasks.weights import load_encoder


class Stage(L.LightningModule):
    """An encoder on its way through one stage of training.

    Args:
        encoder: maps (B, C, F, T) to (B, num_features) and has the attribute `num_features`, as timm's models do.
        optimizer: called with the parameters that are not frozen.
        scheduler: learning-rate schedule, called with the optimizer.
        scheduler_interval: step it every "epoch" or every "step".
        weights: checkpoint of an earlier stage whose encoder is the starting point of this one.
        frozen: true freezes the encoder whole; a list of its submodules' names freezes those.
        front_end: turns batches of waveforms (cached by the `Waveform` feature) into features on the device.
        augment_waveform: modules applied to waveforms (B, N) in training, before the front end.
        augment: modules applied to features (B, C, F, T) in training.
        normalize: module applied to features last, in training and testing alike.
        channels_last: memory layout of the network; faster where the hardware likes it, same numbers.
        compile: torch.compile the encoder; pays after some tens of epochs.
    """

    def __init__(
        self,
        encoder: nn.Module,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        weights: str | None = None,
        frozen: bool | list[str] = False,
        front_end: nn.Module | None = None,
        augment_waveform: list[nn.Module] | None = None,
        augment: list[nn.Module] | None = None,
        normalize: nn.Module | None = None,
        channels_last: bool = True,
        compile: bool = False,
    ) -> None:
        super().__init__()
        num_features = getattr(encoder, "num_features", None)
        if not isinstance(num_features, int):
            raise UserError(f"encoder: {type(encoder).__name__} has no attribute num_features (an integer)")
        if augment_waveform and front_end is None:
            raise UserError("augment_waveform needs waveforms: set `front_end`, and the data's feature to Waveform")
        self.encoder = encoder
        self.num_features = num_features
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.weights = weights
        self.front_end = front_end
        self.augment_waveform = nn.Sequential(*augment_waveform or [])
        self.augment = nn.Sequential(*augment or [])
        self.normalize = normalize
        self.channels_last = channels_last
        self.upstream: dict[str, Any] | None = None  # the checkpoint `weights` names, less its tensors
        self._freeze(frozen)
        if compile:
            self.encoder.compile()

    @property
    def data(self) -> Any:
        """The datamodule of the running stage."""
        return self.trainer.datamodule  # type: ignore[attr-defined]  # Trainer sets it when it runs

    def _freeze(self, frozen: bool | list[str]) -> None:
        names = frozen if isinstance(frozen, list) else [""] if frozen else []
        try:
            self.frozen_modules = [self.encoder.get_submodule(name) for name in names]
        except AttributeError as error:
            known = ", ".join(name for name, _ in self.encoder.named_children())
            raise UserError(f"frozen: {error}; this encoder's parts are {known}") from error
        for module in self.frozen_modules:
            module.requires_grad_(False)
            module.eval()  # at once: the Trainer keeps the modes that it finds

    def train(self, mode: bool = True) -> "Stage":
        """Frozen modules stay in eval mode: requires_grad alone would let their BatchNorm statistics move."""
        super().train(mode)
        for module in self.frozen_modules:
            module.eval()
        return self

    def setup(self, stage: str) -> None:
        """Take over the upstream encoder when a fit begins; testing and resuming never need that file."""
        if stage == "fit" and self.weights and not self.trainer.ckpt_path:
            checkpoint = load_encoder(self.encoder, self.weights)
            self.upstream = {key: value for key, value in checkpoint.items() if key in ("lineage",)}
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Make augmentation and dropout a function of (seed, step, rank), so that a resumed run repeats them."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed(hash((seed, step, self.global_rank)) % 2**63)

    def embed(self, features: Tensor) -> Tensor:
        """Embeddings (B, D) of a batch's features (B, C, F, T), or of waveforms where there is a front end."""
        if self.front_end is not None:
            waveform = features.flatten(1)
            if self.training:
                waveform = self.augment_waveform(waveform)
            features = self.front_end(waveform)
        if self.training:
            features = self.augment(features)
        if self.normalize is not None:
            features = self.normalize(features)
        if self.channels_last:
            features = features.contiguous(memory_format=torch.channels_last)
        return self.encoder(features)

    def configure_optimizers(self) -> dict[str, Any]:
        """The injected optimizer over what is not frozen, and its schedule."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        if not parameters:
            raise UserError("nothing is left to train: every parameter is frozen")
        optimizer = self.optimizer(parameters)
        if self.scheduler is None:
            return {"optimizer": optimizer}
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": self.scheduler_interval},
        }


HeadFactory = Callable[[int, int], nn.Module]  # (num_features, num_classes) -> head
