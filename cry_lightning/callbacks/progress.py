"""What a fit says of itself while it runs: a bar in a terminal, elsewhere one line per epoch."""

import logging
import time

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar

log = logging.getLogger(__name__)
Shown = dict[str, int | str | float | dict[str, float]]
SHOWN = ("train/loss", "val/loss")  # beside the metric that chooses the checkpoint


class Bar(RichProgressBar):
    """One bar for the whole stage: the epoch, the loss, and the metric that chooses the checkpoint."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> Shown:
        """What stands beside the bar; no number of the logger's."""
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        best: ModelCheckpoint | None = trainer.checkpoint_callback  # type: ignore[assignment]
        if best is not None and trainer.state.fn == "fit" and best.monitor in trainer.callback_metrics:
            shown[best.monitor] = float(trainer.callback_metrics[best.monitor])
            shown |= {} if best.best_model_score is None else {"best": float(best.best_model_score)}
        return shown

    def _get_train_description(self, current_epoch: int) -> str:
        """The epoch, counted from 1 as in a log."""
        last = f"/{self.trainer.max_epochs}" if self.trainer.max_epochs not in (None, -1) else ""
        return f"epoch {current_epoch + 1}{last}".ljust(len(self.validation_description))


class EpochLines(Callback):
    """Logs the size of the network once, and a line for each epoch: its time, losses, and the metric that chooses.

    Args:
        best: the callback that keeps the best checkpoint.
        lines: log the epochs, too; a progress bar shows them itself.
    """

    def __init__(self, best: ModelCheckpoint, lines: bool) -> None:
        self.best = best
        self.lines = lines
        self.began = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how large the network is, and start the clock: an epoch may be gone on with."""
        self.began = time.perf_counter()
        sizes = [(each.numel(), each.requires_grad) for each in pl_module.parameters()]
        trained = sum(n for n, is_trained in sizes if is_trained)
        name = type(getattr(pl_module, "encoder", pl_module)).__name__
        log.info("%s: %s parameters, %s of them trained", name, f"{sum(n for n, _ in sizes):,}", f"{trained:,}")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch, whose validation is over by now."""
        if self.lines and trainer.is_global_zero:
            log.info(self.line(trainer))

    def line(self, trainer: Trainer) -> str:
        """Of the epoch that has just ended: "epoch 3/30  4.2 s  train/loss 0.531  val/uar 0.731 (best 0.750)"."""
        metrics, monitor = trainer.callback_metrics, self.best.monitor
        last = f"/{trainer.max_epochs}" if trainer.max_epochs not in (None, -1) else ""
        parts = [f"epoch {trainer.current_epoch + 1}{last}", f"{time.perf_counter() - self.began:.1f} s"]
        parts += [f"{name} {float(metrics[name]):.3f}" for name in SHOWN if name in metrics and name != monitor]
        if monitor in metrics:
            now, before = float(metrics[monitor]), self.best.best_model_score
            better = max if self.best.mode == "max" else min
            best = now if before is None else better(now, float(before))
            parts.append(f"{monitor} {now:.3f} (best {best:.3f})")
        return "  ".join(parts)
