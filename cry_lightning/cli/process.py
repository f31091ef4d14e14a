"""The process of a command: what its terminal shows, left for the next command as it was; those that it starts."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from types import ModuleType

import torch
from torch import distributed

TOLD_ANYWAY = (  # of Lightning's warnings: metrics are logged per epoch, and run folders are used again
    ".*smaller than the logging interval.*",
    ".*(Checkpoint|Experiment logs) directory .* exists and is not empty.*",  # former curves are kept, renamed
    ".*LightningCLI's args parameter.*",
    ".*LeafSpec.*",
    r".*module\(s\) in eval mode at the start of training.*",  # frozen encoders are, on purpose
    ".*using the WeightAveraging callback.*",  # no layer is sharded, and the average is what is tested, on purpose
)
TALKATIVE = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed", "optuna")


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


@contextmanager
def hushed() -> Iterator[None]:
    """Keep back what Lightning and Optuna tell anyway."""
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in TALKATIVE}
    with warnings.catch_warnings():
        for pattern in TOLD_ANYWAY:
            warnings.filterwarnings("ignore", pattern)
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in loggers.items():
                logger.setLevel(level)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what each fit and test has to say from the terminal, but for warnings."""
    logging.disable(logging.INFO)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
