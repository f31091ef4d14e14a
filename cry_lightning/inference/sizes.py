"""How large a network may be that a checkpoint describes: no larger than the weights in it, lest it fill the memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.utils._python_dispatch import TorchDispatchMode

from cry_lightning.errors import UserError
from cry_lightning.tasks.base import Stage

BESIDE_WEIGHTS = 20_000_000  # numbers, 80 MB: filters and windows, which no checkpoint keeps
MOST_MADE = 2**29  # numbers, 2 GB: the result of one step on one clip


def refuse_larger(path: Path, n_tensors: int, make: Callable[[], Stage], features: Tensor) -> None:
    """Make a network without numbers (torch's device "meta"), and refuse it where it has more than its checkpoint.

    Args:
        path: the checkpoint.
        n_tensors: in it.
        make: makes the network.
        features: of one clip (1, C, F, T), which it hears without computing anything.

    Raises:
        UserError: it has, or makes more of one clip than memory holds.
    """
    with (
        torch.device("meta"),
        _counted(path.stat().st_size + BESIDE_WEIGHTS, 1_000 + 10 * n_tensors),
        torch.inference_mode(),
    ):
        stage = make().eval().to("meta")
        try:
            with _Measured():
                stage.embed(features.to("meta"))
        except UserError:
            raise
        except (RuntimeError, NotImplementedError):  # it looks at numbers, or takes no such features: told when it runs
            return


class _Measured(TorchDispatchMode):
    """Refuses steps of a network that make more numbers than `MOST_MADE`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.numel() > MOST_MADE:
            raise UserError(f"its network makes {made.numel():,} numbers of one clip, and more than {MOST_MADE:,}")
        return made


@contextmanager
def _counted(most_numbers: int, most_parts: int) -> Iterator[None]:
    """Count the parts of modules, and their numbers, as they are put together."""
    numbers = parts = 0

    def count_part(*_: Any) -> None:
        nonlocal parts
        parts += 1
        if parts > most_parts:
            raise UserError(f"a network of more than {most_parts:,} parts, which its checkpoint has no weights for")

    def count_numbers(_: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal numbers
        count_part()
        numbers += 0 if tensor is None or isinstance(tensor, nn.UninitializedParameter) else tensor.numel()
        if numbers > most_numbers:
            raise UserError(f"a network of more numbers than the checkpoint has bytes, at its {name}")

    hooks = [
        registration.register_module_module_registration_hook(count_part),
        registration.register_module_parameter_registration_hook(count_numbers),
        registration.register_module_buffer_registration_hook(count_numbers),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
