"""Means over an epoch's steps."""

import torch
from torch import Tensor
from torchmetrics import Metric


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
