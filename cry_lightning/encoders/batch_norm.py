"""BatchNorm whose gradient is quick on a processor for few channels, too."""

import torch
from torch import Tensor, nn

CACHE_LINE = 16  # numbers of 32 bits in 64 bytes, what the cores of a processor exchange at once


class BatchNorm2d(nn.BatchNorm2d):
    """torch's, whose gradient takes one thread on a processor where several would hinder each other.

    With channels last each thread adds up in C numbers beside those of the next. Where a cache line holds those of
    several, the cores wait for each other at every pixel: with 8 channels, two threads took five times as long as one.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Normalised maps (B, C, F, T) of maps (B, C, F, T)."""
        normalised = super().forward(maps)
        gradient = normalised.grad_fn
        if gradient is not None and _threads_would_hinder_each_other(maps):
            threads = torch.get_num_threads()
            gradient.register_prehook(lambda _: torch.set_num_threads(1))
            gradient.register_hook(lambda *_: torch.set_num_threads(threads))
        return normalised


def _threads_would_hinder_each_other(maps: Tensor) -> bool:
    channels_last = maps.device.type == "cpu" and not maps.is_contiguous()
    return channels_last and maps.shape[1] < CACHE_LINE and not torch.compiler.is_compiling()
