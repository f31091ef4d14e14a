"""What all stages share: an encoder behind its front end, optimiser and schedule."""

import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.utilities.types import OptimizerConfig, OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric, MetricCollection

from cry_lightning.console import UserError, first_few
from cry_lightning.files import Checkpoint, Json
from cry_lightning.tasks.augment.waveform import RecordedNoise
from cry_lightning.tasks.checkpoints import compare_front_ends, identity_of, load_encoder, read_checkpoint
from cry_lightning.tasks.checks import check_default_dtype, check_front_end, check_network, check_stage, on_trial
from cry_lightning.tasks.optimisation import Optimisation, parameter_groups, scale_learning_rate, warmup_cosine
from cry_lightning.tasks.stage_data import StageData
from cry_lightning.trust.names import Trust

Place = str | torch.device | None
DONE_ANYWAY = (("strict", True), ("weights_only", True), ("hparams_file", None))  # in loading a checkpoint
OF_STEPS = ("train/loss", "train/lr", "train/grad_norm")  # whose means over an epoch are logged


class MeanSubtraction(nn.Module):
    """Takes from each band of features (B, C, F, T) its mean over time, clip by clip.

    Source: Gorin et al. 2023, "Self-supervised learning for infant cry analysis".
    """

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, F, T) of zero mean over T."""
        return features - features.mean(-1, keepdim=True)


class RelativeLevel(nn.Module):
    """Levels of features (B, C, F, T) in dB, relative to each clip's loudest: 1 there, 0 at `range_db` below and under.

    Neither the distance to the microphone, nor the noise or digital silence around a clip, then reaches the network.
    """

    def __init__(self, range_db: float = 40.0) -> None:
        super().__init__()
        if range_db <= 0:
            raise UserError(f"RelativeLevel: range_db must be above 0, not {range_db}")
        self.range_db = range_db

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, F, T) between 0 and 1."""
        loudest = features.amax((1, 2, 3), keepdim=True)
        return (1 + (features - loudest) / self.range_db).clamp(min=0)


class Mean(Metric):
    """The weighted mean of numbers; `MeanMetric` leaves out the weights where it is not to look for NaN."""

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: float | Tensor, weight: float) -> None:
        """Add a number, in float32 whatever it is in."""
        self.total += torch.as_tensor(value, dtype=torch.float32, device=self.device) * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The mean so far."""
        return self.total / self.weight


class Stage(L.LightningModule):
    """An encoder on its way through one stage of training.

    Args:
        encoder: network from features (B, C, F, T) to embeddings (B, num_features); it has the attribute
            `num_features`, as timm's models do.
        optimisation: optimizer, learning rates and their schedule.
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
        optimisation: Optimisation,
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
        check_default_dtype()
        num_features = getattr(encoder, "num_features", None)
        if not isinstance(num_features, int):
            raise UserError(f"encoder: {type(encoder).__name__} has no attribute num_features (an integer)")
        if not isinstance(optimisation, Optimisation):
            raise UserError(
                "optimisation: give an Optimisation, which holds the optimizer: Optimisation(torch.optim.AdamW)"
            )
        if optimisation.head_first and frozen is True:
            raise UserError("model.optimisation.head_first needs an encoder that learns: set model.frozen to false")
        if augment_waveform and front_end is None:
            raise UserError("augment_waveform needs waveforms: set `front_end`, and the data's feature to Waveform")
        self.encoder = encoder
        self.num_features = num_features
        self.optimisation = optimisation
        self.head_steps = 0  # in which the head alone learns
        self.weights = weights
        self.front_end = front_end
        self.augment_waveform = nn.Sequential(*augment_waveform or [])
        self.augment = nn.Sequential(*augment or [])
        self.normalize = normalize
        self.channels_last = channels_last
        self.upstream: Json | None = None  # the checkpoint `weights` names, less its tensors
        self.means = nn.ModuleDict({name: Mean() for name in OF_STEPS})
        self.logged_in: dict[str, int] = {}  # the epoch in which a metric was last logged, by its name
        self._freeze(frozen)
        if compile:
            self.encoder.compile()

    def __getstate__(self) -> Json:
        """What a copy has, as weight averaging makes one: not what makes optimizers and heads, which has none."""
        return {**super().__getstate__(), **dict.fromkeys(("optimisation", "head_factory"))}

    @classmethod
    def load_from_checkpoint(
        cls, checkpoint_path: str | Path, map_location: Place = "cpu", trust: Sequence[str] = (), **others: object
    ) -> "Stage":
        """The stage of a checkpoint, ready to predict; unlike Lightning's own, it makes no class that is not trusted.

        Args:
            checkpoint_path: RUN/best.ckpt.
            map_location: the device.
            trust: packages whose classes the checkpoint may name, beside the project's own libraries.
            **others: of Lightning's own, as far as they say what is done anyway.

        Raises:
            UserError: it is damaged, another task's, or cannot be made into a network; or an argument would do nothing.
        """
        from cry_lightning.tasks.making import checkpoint_error, made, maker_of

        if idle := [name for name, value in others.items() if (name, value) not in DONE_ANYWAY]:
            raise UserError(
                f"load_from_checkpoint: {', '.join(idle)} would change nothing, since a stage is made as its checkpoint"
                " says; give map_location and trust alone"
            )
        checkpoint = read_checkpoint(checkpoint_path)
        try:
            stage = made(maker_of(checkpoint, Trust(tuple(trust))), checkpoint["state_dict"])
        except Exception as error:
            raise checkpoint_error(checkpoint_path, error) from error
        if not isinstance(stage, cls):
            raise UserError(f"{checkpoint_path}: of a {type(stage).__name__}, not of a {cls.__name__}")
        return stage.to(map_location or "cpu")

    @property
    def trainer(self) -> L.Trainer:
        """The running Trainer, or None: Lightning raises an error then, which keeps torch from tracing a stage."""
        return self._trainer if self._fabric is None else super().trainer  # type: ignore[return-value]  # None

    @trainer.setter
    def trainer(self, trainer: L.Trainer | None) -> None:
        L.LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]

    @property
    def data(self) -> StageData:
        """The datamodule of the running stage.

        Raises:
            UserError: the Trainer was given none.
        """
        if (data := self.trainer.datamodule) is None:  # type: ignore[attr-defined]  # Trainer sets it when it runs
            raise UserError(f"{type(self).__name__}: learns from a CryDataModule; give the Trainer one as datamodule")
        return data

    @property
    def input_front_end(self) -> str | None:
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
        """What does not learn (yet) stays in eval mode: else its BatchNorm statistics would move."""
        super().train(mode)
        waiting = [self.encoder] if self.global_step < self.head_steps else []
        for module in (*self.frozen_modules, *waiting):
            module.eval()
        return self

    def check_inputs(self) -> None:
        """Refuse to begin where what an augmentation reads at the first batch is not there.

        Raises:
            UserError: naming the folder.
        """
        for module in self.modules():
            if isinstance(module, RecordedNoise):
                module.check_inputs()

    def setup(self, stage: str) -> None:
        """Refuse a front end that cannot work on the data, averages of a part of the weights, and no compiler.

        Raises:
            UserError: naming what is at fault.
        """
        compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        compiles = (
            self.encoder._compiled_call_impl is not None and self.device.type == "cpu" and sys.platform != "win32"
        )
        if compiles and not shutil.which(compiler):
            raise UserError(f"compile: torch compiles by {compiler}, which is not here; install it, or set it to false")
        if stage == "fit":
            self.logged_in = {}
            check_stage(self)
            check_front_end(self.front_end, self.augment_waveform, self.data)
            callbacks = self.trainer.callbacks  # type: ignore[attr-defined]  # which Lightning sets elsewhere
            if any(isinstance(each, StochasticWeightAveraging) for each in callbacks):
                raise UserError(
                    "trainer.callbacks: StochasticWeightAveraging would leave out the head; take"
                    " lightning.pytorch.callbacks.EMAWeightAveraging or WeightAveraging"
                )

    def configure_model(self) -> None:
        """Take over the upstream encoder when a fit begins; testing and resuming never need that file.

        Before `setup`, where weights are averaged: their copy is made of what this has made.

        Raises:
            UserError: the encoder does not fit.
        """
        if self.fitting and self.weights and not self.trainer.ckpt_path and self.upstream is None:
            checkpoint = load_encoder(self.encoder, self.weights)
            compare_front_ends(self.weights, checkpoint.get("front_end"), self.input_front_end)
            self.upstream = {key: value for key, value in checkpoint.items() if key in ("lineage",)}
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    @property
    def fitting(self) -> bool:
        """Whether a fit begins, or runs."""
        return self.trainer.state.fn == "fit"

    def on_fit_start(self) -> None:
        """Try the parts on a clip, once there is data, before there is a run."""
        with on_trial(self) as features:
            if features is not None:
                self.check_parts(features)

    def check_parts(self, features: Tensor) -> None:
        """Refuse a network that is none, tried on a clip (1, C, F, T)."""
        check_network(self, features)

    def on_save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep the identity of the encoder's front end, for the stages that start from it, and the precision."""
        checkpoint["front_end"] = self.input_front_end
        checkpoint["precision"] = str(self.trainer.precision)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Make augmentation and dropout a function of (seed, step, rank), so that a resumed run repeats them."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx
        # `torch.manual_seed` takes a millisecond where there is no GPU: it puts by what to do if there will be one.
        seed_generators = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
        seed_generators(hash((seed, step, self.global_rank)) % 2**63)
        if self.optimisation.head_first and self.encoder.training == (self.global_step < self.head_steps):
            self.train()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the learning rate of the head, or of all, and the norm of the gradients before any clipping."""
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        if not self.trainer.loggers or not gradients:
            return
        self.log_mean("train/lr", float(optimizer.param_groups[-1]["lr"]))  # the head comes last
        self.log_mean("train/grad_norm", torch.nn.utils.get_total_norm(gradients).float())

    def log_mean(self, name: str, value: float | Tensor, weight: int = 1, prog_bar: bool = False) -> None:
        """Log the mean over an epoch's steps of a value among `OF_STEPS`."""
        mean = self.means[name]
        assert isinstance(mean, Mean)
        mean.update(value, weight)
        self.log_at_end({name: mean}, prog_bar)

    def log_at_end(self, metrics: Mapping[str, Metric] | MetricCollection, prog_bar: bool = False) -> None:
        """Log metrics, which steps update, at the end of the epoch.

        Lightning computes them then. They are logged once an epoch, since that takes it a millisecond for each, and
        at a step, so that they are in the rest of an epoch that a fit goes on with, too.
        """
        first = str(next(iter(metrics)))
        if self.logged_in.get(first) != self.current_epoch:
            self.logged_in[first] = self.current_epoch
            self.log_dict(metrics, prog_bar, on_step=False, on_epoch=True)

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
                f" {first_few(names, 8)}"
            )
        return loss

    def configure_optimizers(self) -> OptimizerConfig | OptimizerLRSchedulerConfig:
        """The injected optimizer over what is not frozen, and its schedule."""
        how = self.optimisation
        grouped = [
            (group, part)
            for part in how.parts(self, self.encoder)
            for group in parameter_groups(part.parameters, how.exclude_from_decay)
        ]
        if not grouped:
            raise UserError("nothing is left to train: every parameter is frozen")
        try:
            optimizer = how.optimizer([group for group, _ in grouped])
        except ValueError as error:  # such as a negative rate
            raise UserError(f"model.optimisation.optimizer: {error}") from error
        stated = [group["lr"] for group in optimizer.param_groups]
        for group, (_, part) in zip(optimizer.param_groups, grouped, strict=True):
            group["lr"] *= part.rate
        if how.scale_lr:
            batches = self.trainer.accumulate_grad_batches * self.trainer.world_size
            scale_learning_rate(optimizer, self.data.sampling.batch_size * batches)
        if how.warmup_epochs is not None:
            warmup, total = self._warmup_and_total_steps(how.warmup_epochs)
            self.head_steps = round(how.head_first * total)
            begins = [self.head_steps if part.of_encoder else 0 for _, part in grouped]
            cosine = warmup_cosine(optimizer, warmup, total, begins)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}
        if how.scheduler is None:
            return {"optimizer": optimizer}
        scheduled = how.scheduled(optimizer, stated, self.trainer.checkpoint_callback)
        return {"optimizer": optimizer, "lr_scheduler": scheduled}

    def _warmup_and_total_steps(self, warmup_epochs: float) -> tuple[int, int]:
        total = self.trainer.estimated_stepping_batches
        if math.isinf(total):
            raise UserError(
                "model.optimisation.warmup_epochs: a cosine needs an end; set trainer.max_epochs or trainer.max_steps"
            )
        self.trainer.fit_loop.setup_data()  # the number of batches is not known before
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        return round(warmup_epochs * steps_per_epoch), int(total)


HeadFactory = Callable[[int, int], nn.Module]  # (num_features, num_classes) -> head
