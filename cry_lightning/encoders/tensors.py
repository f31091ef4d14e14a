"""What keeps the tensors in a file from being the weights of a network, in words."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of BatchNorm, which no training multiplies by
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COUNTERS = (torch.int32, torch.int64)
Shapes = Mapping[str, tuple[int, ...]]


def misfits(wanted: Shapes, given: Shapes) -> list[str]:
    """What is missing, left over or of another shape, by names and shapes of tensors."""
    return [
        *(f"{name} is missing" for name in wanted if name not in given),
        *(f"{name} is left over" for name in given if name not in wanted),
        *(
            f"{name} is {given[name]} there and {shape} here"
            for name, shape in wanted.items()
            if given.get(name, shape) != shape
        ),
    ]


def faults(tensors: Mapping[str, Tensor]) -> list[str]:
    """What no trained network has: tensors of another kind, or numbers that no training leaves."""
    found = [f"{name} {fault}" for name, tensor in tensors.items() if (fault := next(_faults(name, tensor), ""))]
    weights = [tensor for name, tensor in tensors.items() if not name.endswith(STATISTICS)]
    return found or ["every weight is zero"] * (bool(weights) and not any(map(torch.any, weights)))


def _faults(name: str, tensor: Tensor) -> Iterator[str]:
    types = FLOATS + COUNTERS * name.endswith("num_batches_tracked")
    kinds = {
        "is quantized": tensor.is_quantized,
        "is sparse": tensor.layout != torch.strided,
        "has a shape and no numbers": tensor.is_meta,
        f"has numbers of the type {str(tensor.dtype).removeprefix('torch.')}": tensor.dtype not in types,
    }
    yield from (kind for kind, holds in kinds.items() if holds)
    if not torch.isfinite(tensor).all():
        yield "holds NaN or infinity"
    if name.endswith("running_var") and (tensor < 0).any():
        yield "holds a negative number, which no variance is"
