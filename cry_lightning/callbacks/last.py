"""last.ckpt, from which a killed fit goes on to the very result of one that was not killed."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor
from torchmetrics import Metric

from cry_lightning.callbacks.interruption import Interruption

# Of a metric, by its name: how often it was updated, and its states. Of a logged value, by its key: its sums.
Gathered = dict[str, tuple[int, dict[str, Tensor | list[Tensor]]] | dict[str, Tensor]]


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
