"""How a stage's optimizer is fed and its learning rate led."""

import math

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

REFERENCE_BATCH = 256  # clips per step for which a scaled learning rate is given


def parameter_groups(module: nn.Module, exclude_from_decay: bool, apart: nn.Module | None = None) -> list[dict]:
    """What is left to train, as groups for an optimizer; the parameters of `apart` are in groups of their own.

    With `exclude_from_decay`, biases and the scales of normalisation layers are a group of their own without weight
    decay (LARS leaves such a group's step unscaled, too).
    Source: You et al. 2017, "Large batch training of convolutional networks"; Chen et al. 2020, SimCLR, section 2.2.
    """
    if apart is not None:
        own = set(apart.parameters())
        rest = nn.ParameterList(parameter for parameter in module.parameters() if parameter not in own)
        return parameter_groups(apart, exclude_from_decay) + parameter_groups(rest, exclude_from_decay)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not exclude_from_decay:
        return [{"params": parameters}] if parameters else []
    groups: list[dict] = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1]},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def scale_learning_rate(optimizer: Optimizer, clips_per_step: int) -> None:
    """Multiply every learning rate by clips per step / 256.

    Source: Goyal et al. 2017, "Accurate, large minibatch SGD", section 2.1: the linear scaling rule.
    """
    for group in optimizer.param_groups:
        group["lr"] *= clips_per_step / REFERENCE_BATCH


def slow_down(optimizer: Optimizer, module: nn.Module, share: float) -> None:
    """Multiply the learning rates of the groups that hold a module's parameters by `share`."""
    own = set(module.parameters())
    for group in optimizer.param_groups:
        if own.intersection(group["params"]):
            group["lr"] *= share


def warmup_cosine(optimizer: Optimizer, warmup_steps: int, total_steps: int) -> LambdaLR:
    """Learning rate linear from nearly 0 over `warmup_steps`, then a half cosine down to 0 at `total_steps`.

    Source: Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts.
    """

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return LambdaLR(optimizer, share)
