"""The process that a stage runs in, left as it was for the stage that may follow."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from cry_lightning.dashboard.runs import finish_wandb


@contextmanager
def restored() -> Iterator[None]:
    """Take away what a stage leaves: W&B's run, the group of its processes, ranks and seeds in the environment."""
    environment, threads = dict(os.environ), torch.get_num_threads()
    try:
        yield
    finally:
        finish_wandb()
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
        torch.set_num_threads(threads)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
