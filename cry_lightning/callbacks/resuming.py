"""SIGTERM and SIGUSR1, by which a scheduler says that time is up, or Ctrl-C, end a fit; it goes on from last.ckpt.

The same signal again some seconds later, or another Ctrl-C, is from somebody who will not wait for what hangs.
"""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torchmetrics import Metric

from cry_lightning.console import SIGNALS, Interrupted

AGAIN_S = 5.0  # sooner, one signal has come on two ways: to a group of processes, and to each of them
BY_HAND_S = 0.5  # the same of Ctrl-C, by a person who waits
log = logging.getLogger(__name__)
Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None  # as `signal.signal` has it
# Of a metric, by its name: how often it was updated, and its states. Of a logged value, by its key: its sums.
Gathered = dict[str, tuple[int, dict[str, Tensor | list[Tensor]]] | dict[str, Tensor]]


class Interruption:
    """Notes such a signal. Outside of a training it ends the command at once; within, `LastCheckpoint` asks for it."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.seen: dict[int, float] = {}  # when each came first, s
        self.waits = False  # for a checkpoint

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Take these signals until the block ends; threads other than the main one cannot.

        One that has not ended it is passed on to the study that it is a part of, if any, or to a script's own handler.
        """
        before = self.take()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        passed_on = before.get(self.signal) if self.signal else None
        if self.signal and callable(passed_on) and passed_on is not signal.default_int_handler:
            passed_on(self.signal, None)

    def take(self) -> dict[signal.Signals, Handler]:
        """Take these signals, also from Lightning, which would end a validation half done; returns who had them."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        by_hand = number == signal.SIGINT
        first = min(self.seen.values(), default=math.inf) if by_hand else self.seen.get(number, math.inf)
        again = now - first >= (BY_HAND_S if by_hand else AGAIN_S)
        self.seen.setdefault(number, now)
        if self.signal is not None and not again:
            return
        self.signal = signal.Signals(number)
        if again:
            signal.signal(number, signal.SIG_DFL)  # a third ends what no Python reaches
        if again or not self.waits:
            raise Interrupted(number, f"stopped by {self.signal.name}{' again' * again}; the same command goes on")
        if by_hand:
            rank_zero_only(log.warning)("stops after this step; Ctrl-C again stops at once")

    def came(self, trainer: Trainer) -> bool:
        """Whether one came, to this process or to one that trains with it."""
        here = self.signal is not None
        return here if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(here, all=False)

    def end(self, written: str) -> None:
        """End the command, `written` being where the training goes on from.

        Raises:
            Interrupted: always.
        """
        came = self.signal or signal.SIGTERM  # to another process, that is
        raise Interrupted(came, f"stopped by {came.name} after {written}; the same command goes on from there")


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt at the end of each epoch, or every so many steps, and where a signal ends a fit.

    Never between a step and a validation that follows it: resumed from there, Lightning takes that validation for done,
    and another best.ckpt would win. What falls there is written after the step that follows, or at the epoch's end.

    Args:
        path: of the checkpoint.
        every_n_steps: optimizer steps from one to the next; None writes one after each epoch.
        interruption: asked after each step.
    """

    def __init__(self, path: Path, every_n_steps: int | None = None, interruption: Interruption | None = None) -> None:
        self.path = path
        self.every_n_steps = every_n_steps
        self.interruption = interruption or Interruption()
        self.ends = False  # before the next step
        self.step = 0  # the last that was seen
        self.due = False
        self.within_epoch: Gathered = {}  # what the metrics of a running epoch have gathered
        self.loaders: list[dict[str, int]] = []  # where in its epoch the loader stood

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep where the loader stood, which Lightning forgets if a schedule has asked for the number of steps."""
        fit_loop = checkpoint.get("loops", {}).get("fit_loop", {})
        self.loaders = fit_loop.get("state_dict", {}).get("combined_loader", [])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from where the fit begins or goes on."""
        for state in self.loaders:
            trainer.train_dataloader.load_state_dict(state)  # type: ignore[union-attr]  # it is there
        self.step = trainer.global_step
        self.interruption.waits = True
        self.interruption.take()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Go on with the metrics of an epoch that was left half done, unless a signal ends the fit here."""
        if self.ends and not self.due:  # there is no such next step where the fit is over
            self.interruption.end(f"step {trainer.global_step}, with {self.path} written")
        for name, metric in metrics_of(pl_module):
            if isinstance(kept := self.within_epoch.pop(name, None), tuple):
                metric._update_count, states = kept
                for key, value in states.items():
                    setattr(metric, key, value)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Save after a step that is due, unless a validation or the epoch's end is next."""
        loop = trainer.fit_loop.epoch_loop
        for key, sums in [*self.within_epoch.items()]:
            if key not in loop._results or isinstance(sums, tuple) or not loop._results[key].is_tensor:
                continue
            del self.within_epoch[key]
            here = loop._results[key]
            for name, value in sums.items():
                setattr(here, name, getattr(here, name) + value.to(here.device))
        if trainer.global_step == self.step:  # gradients are gathered; half a step cannot be resumed
            return
        self.step = trainer.global_step
        self.ends |= self.interruption.came(trainer)
        self.due |= self.ends or (self.every_n_steps is not None and self.step % self.every_n_steps == 0)
        validates = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]  # it is there
        if self.due and not (validates or trainer.is_last_batch or trainer.should_stop):
            self.within_epoch = gathered(trainer, pl_module)
            self.save(trainer)
            self.within_epoch = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after the epoch and its validation, or after the next step where the fit's length is given in steps."""
        self.ends |= self.interruption.came(trainer)
        self.due |= self.ends or self.every_n_steps is None
        # Resumed from an epoch's end, Lightning counts that epoch again where there are max_steps.
        if self.due and trainer.max_steps == -1:
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what no further step was left for."""
        if self.due:
            self.save(trainer)
        self.interruption.waits = False

    def save(self, trainer: Trainer) -> None:
        """Write last.ckpt."""
        self.due = False
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]  # Trainer sets it
            trainer.save_checkpoint(self.path, weights_only=False)  # with the optimizer, that is

    def state_dict(self) -> dict[str, Gathered]:
        """What the metrics of the running epoch have gathered so far."""
        return {"within_epoch": self.within_epoch}

    def load_state_dict(self, state_dict: dict[str, Gathered]) -> None:
        """Take it up."""
        self.within_epoch = dict(state_dict["within_epoch"])


def metrics_of(module: LightningModule) -> list[tuple[str, Metric]]:
    """The torchmetrics in a module, by name."""
    return [(name, part) for name, part in module.named_modules() if isinstance(part, Metric)]


def gathered(trainer: Trainer, module: LightningModule) -> Gathered:
    """States of the metrics that were updated, and the sums behind values that are logged as an epoch's mean."""
    states: Gathered = {}
    for name, metric in metrics_of(module):
        if metric._update_count:
            states[name] = (metric._update_count, {key: getattr(metric, key) for key in metric._defaults})
    for key, result in trainer.fit_loop.epoch_loop._results.items():
        if result.is_tensor and result.meta.on_epoch and result.meta.is_mean_reduction:
            states[key] = {name: getattr(result, name) for name in ("value", "cumulated_batch_size")}
    return states
