"""Which parameters a stage trains, at which learning rates, and how these change."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypedDict

from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import LRSchedulerConfigType
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from cry_lightning.console import UserError

REFERENCE_BATCH = 256  # clips per step for which a scaled learning rate is given


@dataclass(frozen=True)
class Optimisation:
    """How a stage's weights are changed step by step.

    Args:
        optimizer: called with the parameters that are not frozen.
        scheduler: learning-rate schedule, called with the optimizer.
        scheduler_interval: step it every "epoch" or every "step".
        warmup_epochs: instead of `scheduler`, raise the learning rate over so many epochs, then let it fall to zero as
            a cosine, both step by step.
        scale_lr: the optimizer's learning rate is meant for 256 clips per step (over all processes and accumulated
            batches): scale it to those there are.
        encoder_lr_scale: learning rate of the encoder, as a share of the optimizer's, which the head has.
        layer_decay: learning rate of each of the encoder's layers, as a share of that of the layer after it.
        head_first: share of the training in which the head alone learns; the encoder then begins with a warm-up of its
            own. Needs `warmup_epochs`.
        exclude_from_decay: no weight decay on biases and normalisation layers.

    Raises:
        UserError: a value is out of range, or two of them contradict each other.
    """

    optimizer: OptimizerCallable
    scheduler: LRSchedulerCallable | None = None
    scheduler_interval: Literal["epoch", "step"] = "epoch"
    warmup_epochs: float | None = None
    scale_lr: bool = False
    encoder_lr_scale: float = 1.0
    layer_decay: float = 1.0
    head_first: float = 0.0
    exclude_from_decay: bool = False

    def __post_init__(self) -> None:
        place, rate, decay = "model.optimisation", self.encoder_lr_scale, self.layer_decay
        if self.scheduler is not None and self.warmup_epochs is not None:
            raise UserError(f"{place}.scheduler and {place}.warmup_epochs are two schedules; set one of them to null")
        if self.warmup_epochs is not None and self.warmup_epochs < 0:
            raise UserError(f"{place}.warmup_epochs must be 0 or more, not {self.warmup_epochs}")
        if not 0 < rate <= 1:
            raise UserError(
                f"{place}.encoder_lr_scale must be above 0 and at most 1, not {rate}; or model.frozen: true"
            )
        if not 0 < decay <= 1:
            raise UserError(f"{place}.layer_decay must be above 0 and at most 1, not {decay}")
        if not 0 <= self.head_first < 1:
            raise UserError(
                f"{place}.head_first must be at least 0 and below 1, not {self.head_first}; or model.frozen: true"
            )
        if self.head_first and self.warmup_epochs is None:
            raise UserError(f"{place}.head_first needs {place}.warmup_epochs (0 or more)")

    def parts(self, stage: nn.Module, encoder: nn.Module) -> list["Part"]:
        """All parameters by their rates: where these differ, the encoder's last layers first, the head last."""
        if (self.encoder_lr_scale, self.layer_decay, self.head_first) == (1.0, 1.0, 0.0):
            return [Part([*stage.parameters()], 1.0, False)]
        of_encoder = layers(encoder) if self.layer_decay < 1 else [[*encoder.parameters()]]
        own = set(encoder.parameters())
        head = [parameter for parameter in stage.parameters() if parameter not in own]
        slower = enumerate(reversed(of_encoder))
        return [
            *(Part(each, self.encoder_lr_scale * self.layer_decay**depth, True) for depth, each in slower),
            Part(head, 1.0, False),
        ]

    def scheduled(
        self, optimizer: Optimizer, stated: Sequence[float], checkpoint: Checkpoint | None
    ) -> LRSchedulerConfigType:
        """The scheduler of an optimizer, and when it steps.

        Args:
            optimizer: whose groups have their rates.
            stated: the rate that each had as the optimizer was made.
            checkpoint: how the best one is chosen.

        Raises:
            UserError: the scheduler does not take its arguments, or does not go with the rates; or it lacks a metric.
        """
        assert self.scheduler is not None
        rates = [group["lr"] for group in optimizer.param_groups]
        try:
            schedule = self.scheduler(optimizer)
        except (TypeError, ValueError) as error:  # such as a cycle without an end
            raise UserError(f"model.optimisation.scheduler: {error}") from error
        keep_shares(schedule, optimizer, stated, rates)
        config: LRSchedulerConfigType = {"scheduler": schedule, "interval": self.scheduler_interval}
        if isinstance(schedule, ReduceLROnPlateau):
            config["monitor"] = watched(schedule, checkpoint)
        return config


class Part(NamedTuple):
    """Parameters that learn at one rate."""

    parameters: list[nn.Parameter]  # frozen ones among them
    rate: float  # as a share of the optimizer's
    of_encoder: bool  # whether they may have to wait for the head


class Group(TypedDict, total=False):
    """Parameters that an optimizer treats alike."""

    params: list[nn.Parameter]
    weight_decay: float


def parameter_groups(parameters: Sequence[nn.Parameter], exclude_from_decay: bool) -> list[Group]:
    """Those of the parameters that are left to train, as groups for an optimizer; none of them is empty.

    With `exclude_from_decay`, biases and the scales of normalisation layers are a group of their own without weight
    decay (LARS leaves such a group's step unscaled, too).
    Source: You et al. 2017, "Large batch training of convolutional networks"; Chen et al. 2020, SimCLR, section 2.2.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not exclude_from_decay:
        return [{"params": trained}] if trained else []
    groups: list[Group] = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1]},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def layers(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of an encoder, layer by layer in the order of its forward pass.

    A layer is one of its parts, or one of the parts of a list of parts; what the encoder holds itself is in the first.
    An encoder that only holds another network has that one's layers.
    """
    while len(whole := [part for part in encoder.children() if [*part.parameters()]]) == 1 and not [
        *encoder.parameters(recurse=False)
    ]:
        encoder = whole[0]
    found = [[*encoder.parameters(recurse=False)]]
    for part in encoder.children():
        several = part if isinstance(part, (nn.Sequential, nn.ModuleList)) else [part]
        found += [[*one.parameters()] for one in several]
    return [layer for layer in found if layer]


def scale_learning_rate(optimizer: Optimizer, clips_per_step: int) -> None:
    """Multiply every learning rate by clips per step / 256.

    Source: Goyal et al. 2017, "Accurate, large minibatch SGD", section 2.1: the linear scaling rule.
    """
    for group in optimizer.param_groups:
        group["lr"] *= clips_per_step / REFERENCE_BATCH


def keep_shares(schedule: LRScheduler, optimizer: Optimizer, stated: Sequence[float], rates: Sequence[float]) -> None:
    """Give each group its share of the rates that a schedule sets itself, as `OneCycleLR` does by `max_lr`.

    Args:
        schedule: of the optimizer, newly made.
        optimizer: whose groups have other rates since.
        stated: the rate of each group, of which it had a share before.
        rates: these shares.

    Raises:
        UserError: the schedule is none of torch's cycles.
    """
    groups = optimizer.param_groups
    kept = all(group.get("initial_lr", group["lr"]) == rate for group, rate in zip(groups, rates, strict=True))
    if kept or [*stated] == [*rates]:
        return
    if not isinstance(schedule, (OneCycleLR, CyclicLR)):
        raise UserError(
            f"model.optimisation.scheduler: {type(schedule).__name__} sets learning rates of its own, which undoes"
            " encoder_lr_scale, layer_decay and scale_lr: leave these out, or take another schedule"
        )
    shares = [rate / whole for rate, whole in zip(rates, stated, strict=True)]
    for group, share in zip(groups, shares, strict=True):
        for name in {"lr", "initial_lr", "max_lr", "min_lr"} & {*group}:
            group[name] *= share
    for name in {"base_lrs", "max_lrs", "_last_lr"} & {*vars(schedule)}:
        setattr(schedule, name, [rate * share for rate, share in zip(getattr(schedule, name), shares, strict=True)])


def watched(schedule: ReduceLROnPlateau, checkpoint: Checkpoint | None) -> str:
    """The metric at whose plateau the rate falls: the schedule's own, or else the one that chooses the checkpoint.

    Raises:
        UserError: there is none, or the schedule takes its rise for a fall.
    """
    place = "model.optimisation.scheduler: ReduceLROnPlateau"
    chosen_by, mode = getattr(checkpoint, "monitor", None), getattr(checkpoint, "mode", None)
    monitor = getattr(schedule, "monitor", None) or chosen_by
    if monitor is None:
        raise UserError(f"{place} needs a metric: set checkpoint.monitor")
    if monitor == chosen_by and schedule.mode != mode:
        raise UserError(
            f"{place} has the mode {schedule.mode}, but {monitor} chooses the checkpoint by the mode {mode}: make the"
            " two one"
        )
    return str(monitor)


def warmup_cosine(
    optimizer: Optimizer, warmup_steps: int, total_steps: int, begins: Sequence[int] | None = None
) -> LambdaLR:
    """Learning rate linear from nearly 0 over `warmup_steps`, then a half cosine down to 0 at `total_steps`.

    Args:
        optimizer: whose learning rates are the highest ones.
        warmup_steps: may be 0.
        total_steps: at which all rates are 0.
        begins: the step at which each of its groups begins, with a warm-up of its own; 0 by default.

    Source: Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts.
    """

    def share(begin: int, step: int) -> float:
        if step < begin:
            return 0.0
        if step < begin + warmup_steps:
            return (step - begin + 1) / warmup_steps
        done = (step - begin - warmup_steps) / max(total_steps - begin - warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    begins = begins or [0] * len(optimizer.param_groups)
    return LambdaLR(optimizer, [partial(share, begin) for begin in begins])
