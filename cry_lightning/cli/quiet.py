"""What fits and tests say that is kept from the terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

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
