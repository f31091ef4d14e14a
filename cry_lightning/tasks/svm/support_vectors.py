"""Fitted support vector machines as a head: buffers and a few lines of torch, so that any checkpoint holds them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from cry_lightning.tasks.svm.machines import Kernel


class SupportVectors(nn.Module):
    """Log-probabilities (B, K) of embeddings (B, D) by M one-vs-rest machines: M = K, or one for two classes.

    The only machine of two classes tells the second from the first. Empty until `take` or a checkpoint fills it.

    Args:
        in_features: D.
        num_classes: K.
        kernel: of all machines.
    """

    mean: Tensor  # (D,), and
    scale: Tensor  # (D,): how embeddings are standardised
    vectors: Tensor  # (S, D), standardised; those of all machines
    dual: Tensor  # (M, S)
    intercept: Tensor  # (M,)
    gamma: Tensor  # ()
    slope: Tensor  # (M,), and
    offset: Tensor  # (M,): Platt scaling of the decision values
    calibrated: Tensor  # (): 1 where slope and offset were fitted, 0 where they leave decision values as they are

    def __init__(self, in_features: int, num_classes: int, kernel: Kernel = "rbf") -> None:
        super().__init__()
        self.kernel = kernel
        machines = 1 if num_classes == 2 else num_classes
        shapes: dict[str, tuple[int, ...]] = {
            "mean": (in_features,),
            "scale": (in_features,),
            "vectors": (0, in_features),
            "dual": (machines, 0),
            "intercept": (machines,),
            "gamma": (),
            "slope": (machines,),
            "offset": (machines,),
            "calibrated": (),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def take(self, fitted: Mapping[str, np.ndarray | float]) -> None:
        """Fill every buffer, by its name."""
        for name, buffer in self.named_buffers():
            setattr(self, name, torch.as_tensor(fitted[name], dtype=torch.float64, device=buffer.device))

    def decision(self, embeddings: Tensor) -> Tensor:
        """Decision values (B, M) of embeddings (B, D), in float64: above 0 for the machine's own class."""
        rows = (embeddings.double() - self.mean) / self.scale
        values = rows @ self.vectors.T
        if self.kernel == "rbf":
            norms = rows.square().sum(1)[:, None] + self.vectors.square().sum(1)
            values = (self.gamma * (2 * values - norms)).exp()
        return values @ self.dual.T + self.intercept

    def forward(self, embeddings: Tensor) -> Tensor:
        """Log-probabilities (B, K): each machine's own, divided by the sum over the machines."""
        logits = self.slope * self.decision(embeddings) + self.offset
        if logits.shape[1] == 1:
            logits = torch.cat([-logits, logits], dim=1)
        return logsigmoid(logits).log_softmax(1).float()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Make room first: how many support vectors there are, only the checkpoint knows."""
        for name, buffer in self.named_buffers():
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, buffer.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
