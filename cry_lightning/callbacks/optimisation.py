"""How the optimisation goes: learning rate and gradient norm, beside the losses."""

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer


class Optimisation(Callback):
    """Logs `train/lr` and `train/grad_norm`, the means over an epoch's steps, where anything is logged.

    The rate is that of the head, or of all; the norm is that before any clipping.
    """

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0  # of rate and norm (2,) over the steps of the epoch, on the device
        self.steps = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self.total, self.steps = 0.0, 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Measure both; to log them at every step would take longer."""
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        if not trainer.loggers or not gradients:
            return
        norm = torch.nn.utils.get_total_norm(gradients).float()
        rate = norm.new_tensor(float(optimizer.param_groups[-1]["lr"]))  # the head comes last
        self.total = self.total + torch.stack([rate, norm])
        self.steps += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means."""
        if isinstance(self.total, Tensor):
            rate, norm = self.total / self.steps
            pl_module.log_dict({"train/lr": rate, "train/grad_norm": norm}, sync_dist=True)
