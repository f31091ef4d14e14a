"""The process that a command runs in, left for the next command as it was."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

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
