"""A trained stage made of its checkpoint alone, of classes that are trusted."""

import warnings
from collections.abc import Callable

from torch import Tensor

from cry_lightning.console import UserError, one_line
from cry_lightning.files import Checkpoint
from cry_lightning.files.former_names import stage_as_now
from cry_lightning.tasks.base import Stage
from cry_lightning.trust.configs import check_plain
from cry_lightning.trust.names import Trust

# What only training uses is not made again: the noise that was mixed in need not be on this machine.
UNTRAINED = {
    "optimisation": {"optimizer": {"class_path": "torch.optim.SGD"}},
    "augment": None,
    "augment_waveform": None,
    "compile": False,
}
LEFT_OUT = ("_class_path", "_instantiator")  # of the arguments that Lightning keeps
MOST_OF_ANYTHING = 2**24  # largest whole number among the arguments of a network


def maker_of(checkpoint: Checkpoint, trust: Trust) -> Callable[[], Stage]:
    """Makes the stage that a checkpoint describes, without its weights.

    Raises:
        UserError: its description is none, or names a class that is not trusted.
    """
    kept, classes = checkpoint["hyper_parameters"], checkpoint.get("classes")
    check_plain(kept, "hyper_parameters")
    given = {name: value for name, value in stage_as_now(kept["_class_path"], kept).items() if name not in LEFT_OUT}
    arguments = given | {name: value for name, value in UNTRAINED.items() if name in given}  # an SVM has none
    check_plain(arguments, "model", MOST_OF_ANYTHING)
    if classes is not None:
        arguments["num_classes"] = len(classes)
    specified = {"class_path": kept["_class_path"], "init_args": arguments}

    def make() -> Stage:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is an instance of `nn.Module`.*")  # hyper-parameters nobody saves
            stage: Stage = trust.made(Stage, specified, "model")
        return stage

    return make


def made(make: Callable[[], Stage], state: dict[str, Tensor]) -> Stage:
    """The stage with its weights, ready to predict."""
    stage = make()
    stage.load_state_dict(state)
    stage.setup("predict")
    return stage.eval()


def checkpoint_error(path: object, error: Exception) -> UserError:
    """Why a checkpoint cannot be made into a network; classes that are no longer there may fail in any way."""
    reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    short = reason if isinstance(error, UserError) else one_line(reason)
    return UserError(f"{path}: cannot be made into a network ({short})")
