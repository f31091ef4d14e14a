"""What every stage shares: encoder, upstream weights, freezing, augmentation and reproducible randomness."""

import math
import os
from collections.abc import Callable
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from cry_lightning.errors import UserError
from cry_lightning.tasks.front_end import check_front_end
from cry_lightning.tasks.optimisation import parameter_groups, scale_learning_rate, slow_down, warmup_cosine
from cry_lightning.tasks.weights import compare_front_ends, identity_of, load_encoder


class Stage(L.LightningModule):
    """An encoder on its way through one stage of training.

    Args:
        encoder: maps (B, C, F, T) to (B, num_features) and has the attribute `num_features`, as timm's models do.
        optimizer: called with the parameters that are not frozen.
        scheduler: learning-rate schedule, called with the optimizer.
        scheduler_interval: step it every "epoch" or every "step".
        warmup_epochs: instead of `scheduler`, raise the learning rate over so many epochs, then let it fall to zero as
            a cosine, both step by step.
        scale_lr: the optimizer's learning rate is meant for 256 clips per step (over all processes and accumulated
            batches): scale it to those there are.
        encoder_lr_scale: learning rate of the encoder, as a share of the optimizer's, which the head has.
        exclude_from_decay: no weight decay on biases and normalisation layers.
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
        warmup_epochs: float | None = None,
        scale_lr: bool = False,
        encoder_lr_scale: float = 1.0,
        exclude_from_decay: bool = False,
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
        if scheduler is not None and warmup_epochs is not None:
            raise UserError("scheduler and warmup_epochs are two schedules; set one of them to null")
        if warmup_epochs is not None and warmup_epochs < 0:
            raise UserError(f"warmup_epochs must be 0 or more, not {warmup_epochs}")
        if not 0 < encoder_lr_scale <= 1:
            raise UserError(f"encoder_lr_scale must be above 0 and at most 1, not {encoder_lr_scale}; or frozen: true")
        if augment_waveform and front_end is None:
            raise UserError("augment_waveform needs waveforms: set `front_end`, and the data's feature to Waveform")
        self.encoder = encoder
        self.num_features = num_features
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.warmup_epochs = warmup_epochs
        self.scale_lr = scale_lr
        self.encoder_lr_scale = encoder_lr_scale
        self.exclude_from_decay = exclude_from_decay
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

    @property
    def heard_through(self) -> str | None:
        """What tells the front end: the stage's own, or else that of its data; see `identity_of`."""
        return identity_of(self.data.feature if self.front_end is None else self.front_end)

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
        """Take over the upstream encoder when a fit begins; testing and resuming never need that file.

        Raises:
            UserError: the encoder does not fit, or the front end cannot work on the data.
        """
        if stage == "fit":
            check_front_end(self.front_end, self.augment_waveform, self.data)
        if stage == "fit" and self.weights and not self.trainer.ckpt_path:
            checkpoint = load_encoder(self.encoder, self.weights)
            compare_front_ends(self.weights, checkpoint.get("front_end"), self.heard_through)
            self.upstream = {key: value for key, value in checkpoint.items() if key in ("lineage",)}
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the encoder hears through, for the stages that start from it."""
        checkpoint["front_end"] = self.heard_through

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Make augmentation and dropout a function of (seed, step, rank), so that a resumed run repeats them."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed(hash((seed, step, self.global_rank)) % 2**63)

    def view(self, batch: Tensor, augmented: bool) -> Tensor:
        """What the encoder sees of features (B, C, F, T), or of waveforms where there is a front end."""
        if self.front_end is not None:
            waveform = batch.flatten(1)
            batch = self.front_end(self.augment_waveform(waveform) if augmented else waveform)
        if augmented:
            batch = self.augment(batch)
        if self.normalize is not None:
            batch = self.normalize(batch)
        return batch.contiguous(memory_format=torch.channels_last) if self.channels_last else batch

    def embed(self, batch: Tensor) -> Tensor:
        """Embeddings (B, D) of a batch's features (B, C, F, T) or waveforms, augmented in training."""
        return self.encoder(self.view(batch, augmented=self.training))

    def refuse_nan(self, loss: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The loss; where it is not a number, training ends with the names of the batch's clips."""
        if not torch.isfinite(loss):
            names = [self.data.clips[row].name for row in batch["index"].tolist()]
            raise UserError(
                f"the loss is {loss.item()} at step {self.global_step}: lower the learning rate, or look at"
                f" {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
            )
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """The injected optimizer over what is not frozen, and its schedule."""
        apart = self.encoder if self.encoder_lr_scale < 1 else None
        groups = parameter_groups(self, self.exclude_from_decay, apart)
        if not any(group["params"] for group in groups):
            raise UserError("nothing is left to train: every parameter is frozen")
        optimizer = self.optimizer(groups)  # type: ignore[arg-type]  # every optimizer takes groups
        if apart is not None:
            slow_down(optimizer, apart, self.encoder_lr_scale)
        if self.scale_lr:
            batches = self.trainer.accumulate_grad_batches * self.trainer.world_size
            scale_learning_rate(optimizer, self.data.batch_size * batches)
        if self.warmup_epochs is not None:
            schedule: Any = warmup_cosine(optimizer, *self._warmup_and_total_steps(self.warmup_epochs))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
        if self.scheduler is None:
            return {"optimizer": optimizer}
        schedule = self.scheduler(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": self.scheduler_interval}}

    def _warmup_and_total_steps(self, warmup_epochs: float) -> tuple[int, int]:
        total = self.trainer.estimated_stepping_batches
        if math.isinf(total):
            raise UserError("warmup_epochs: a cosine needs an end; set trainer.max_epochs or trainer.max_steps")
        self.trainer.fit_loop.setup_data()  # the number of batches is not known before
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        return round(warmup_epochs * steps_per_epoch), int(total)


HeadFactory = Callable[[int, int], nn.Module]  # (num_features, num_classes) -> head
