"""What is taken of torchaudio, imported where it is used: it loads with few releases of torch only."""

from importlib import import_module
from types import ModuleType

from cry_lightning.console import UserError


def torchaudio(module: str) -> ModuleType:
    """A module of torchaudio, such as "functional".

    Raises:
        UserError: it is not installed, or was built for another release of torch.
    """
    try:
        return import_module(f"torchaudio.{module}")
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"torchaudio does not load with the torch that is installed ({reason}); install the releases that go"
            " together: pip install --constraint constraints.txt torch torchvision torchaudio"
        ) from error
