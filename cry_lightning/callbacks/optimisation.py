"""How the optimisation goes: learning rate and gradient norm, beside the losses."""

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer


class Optimisation(Callback):
    """Logs `train/lr` and `train/grad_norm`, the means over an epoch's steps, where anything is logged.

    The rate is that of the head, or of all; the norm is that before any clipping.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Measure both, on the device."""
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        if not trainer.loggers or not gradients:
            return
        rate = float(optimizer.param_groups[-1]["lr"])  # the head comes last
        norm = torch.nn.utils.get_total_norm(gradients).float()
        values: dict[str, float | Tensor] = {"train/lr": rate, "train/grad_norm": norm}
        pl_module.log_dict(values, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
