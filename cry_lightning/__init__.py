"""Multi-stage training for infant-cry analysis: pretrain, fine-tune and evaluate, honest about subjects."""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cry_lightning.api.data import *  # noqa: F403
    from cry_lightning.api.evaluation import *  # noqa: F403
    from cry_lightning.api.models import *  # noqa: F403
    from cry_lightning.api.studies import *  # noqa: F403

__version__ = "0.1.0"
COMMANDS = (
    *("acquire", "describe", "fit", "test", "evaluate", "evaluate_events", "verify", "predict", "embed"),
    *("export", "serve", "dashboard", "cross_validate", "tune", "robustness", "fuse", "leakage", "paper"),
    *("architectures", "picture", "label_efficiency", "import_weights", "prepare", "download", "weights", "list_"),
)
__all__ = [*COMMANDS, "load"]  # noqa: F405


class _Package(ModuleType):
    """The package, whose functions are imported when they are used; a room may have the name of its function."""

    def __getattribute__(self, name: str) -> object:
        get = super().__getattribute__
        if name != "__all__" and name in get("__dict__").get("__all__", ()):
            # Lightning's metrics import onnxruntime, if they can, which calls its publisher's servers.
            os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
            files = ("data", "evaluation", "models", "studies")
            modules = (import_module(f"cry_lightning.api.{file}") for file in files)
            return next(vars(module)[name] for module in modules if name in vars(module))
        return get(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__dict__["__all__"]})


sys.modules[__name__].__class__ = _Package
