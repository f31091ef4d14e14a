"""The process that a command runs in, left for the next command as it was; those that it starts."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import distributed


@contextmanager
def restored() -> Iterator[None]:
    """Take away what a command leaves: a group of processes, ranks and seeds in the environment, torch's settings."""
    environment, threads = dict(os.environ), torch.get_num_threads()
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    precision = torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.benchmark = benchmark
        torch.set_float32_matmul_precision(precision)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


@contextmanager
def started_alone(args: Sequence[str]) -> Iterator[None]:
    """Have Lightning start just this `fit` for each further process, and not the study around it.

    Args:
        args: of the command line.
    """
    main, argv = sys.modules["__main__"], sys.argv
    command = ModuleType("__main__")
    command.__spec__ = find_spec("cry_lightning.__main__")
    with restored():
        try:
            sys.modules["__main__"], sys.argv = command, ["cry_lightning", *args]
            os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # a script's own folder is among them
            yield
        finally:
            sys.modules["__main__"], sys.argv = main, argv
