"""The classes that a file may name, and objects made of what it gives for their arguments."""

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from cry_lightning.console import UserError
from cry_lightning.files import Json

PACKAGES = ("cry_lightning", "torch.nn", "torch.optim", "timm")
FUNCTIONS = ("timm.create_model", "cry_lightning.corpora.corpus_at")  # that count as classes
TRAINING_ONLY = "cry_lightning.tasks.augment"  # whose noise would be looked for on this machine
WEIGHTS_OF_TIMM: Json = {"pretrained": False, "checkpoint_path": None, "cache_dir": None}  # where to look
SOURCES_OF_TIMM = ("pretrained_cfg", "pretrained_cfg_overlay")  # may say where to look, and more
SPECIFICATION = {"class_path", "init_args", "dict_kwargs"}
WITHOUT_CLASSES = ("builtins", "collections.abc", "typing")
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
HELP = (
    "name classes of this package, too (may be repeated); without it a checkpoint or a run's config.yaml names classes"
    f" of {', '.join(PACKAGES)} alone"
)


@dataclass(frozen=True)
class Trust:
    """Whose classes a file may name.

    Args:
        named: modules that the user trusts beside the project's own libraries.

    Raises:
        UserError: one of them is no name of a module.
    """

    named: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for module in self.named:
            if not all(part.isidentifier() for part in module.split(".")) or module.startswith("jsonargparse"):
                raise UserError(
                    f"--trust {module}: give the name of a package whose code you trust, as import takes it"
                )

    def holds(self, name: str) -> bool:
        """Whether a dotted name lies in a trusted module."""
        return any(f"{name}.".startswith(f"{module}.") for module in (*PACKAGES, *self.named))

    def resolve(self, class_path: object, base: type, field: str) -> Callable[..., object]:
        """The subclass of `base` that a field of a checkpoint names.

        Raises:
            UserError: it names anything else; nothing was imported if that lies outside of the trusted modules.
        """
        if not (isinstance(class_path, str) and DOTTED.fullmatch(class_path)):
            raise UserError(f"{field}: {shortened(class_path)} is no class path, package.module.Class")
        if not self.holds(class_path):
            raise UserError(f"{field}: {refusal(class_path)}{in_python(class_path)}")
        found = self._walked(class_path) or self._walked(in_its_room(class_path))
        if class_path in FUNCTIONS:
            expected = get_type_hints(found)["return"]
        elif not inspect.isclass(found) or not self.holds(found.__module__):
            raise UserError(f"{field}: {class_path} is no class of {', '.join((*PACKAGES, *self.named))}")
        else:
            expected = found
        if not issubclass(expected, base):
            raise UserError(f"{field}: {class_path} is no {base.__name__}, which is what belongs there")
        if found.__module__.startswith(TRAINING_ONLY):
            raise UserError(f"{field}: {class_path} is for training alone, and is not made again from a checkpoint")
        return found

    def _walked(self, class_path: str) -> Any:
        """What lies at a dotted name of a trusted module, reached by its own submodules and attributes; else None."""
        root = next(m for m in sorted((*PACKAGES, *self.named), key=len) if f"{class_path}.".startswith(f"{m}."))
        try:
            found: Any = import_module(root)
            for part in class_path.removeprefix(root).split(".")[1:]:
                is_module = inspect.ismodule(found)
                place = f"{found.__name__}.{part}" if is_module else ""
                known = part in vars(found) or hasattr(found, part)
                found = getattr(found, part) if known else import_module(place) if is_module else None
                if inspect.ismodule(found) and found.__name__ != place:  # somebody else's, merely imported there
                    return None
        except ImportError:
            return None
        return found

    def made(self, hint: object, value: object, field: str) -> Any:
        """What a checkpoint gives for an argument: classes made as the argument's type hint asks, all else as it is.

        Args:
            hint: of the argument. A class asks for an instance of it, a Callable that returns one for a factory.
            value: {class_path, init_args, dict_kwargs}, or a class path alone, where a class is asked for.
            field: the argument's name in messages.

        Raises:
            UserError: naming the field, and what is wrong with it.
        """
        origin, inside = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):
            return self._made_by_one_hint(inside, value, field)
        if origin is Literal:
            return value if value in inside else _wrong(field, f"one of {', '.join(map(str, inside))}", value)
        if inspect.isclass(origin) and issubclass(origin, Callable):  # type: ignore[arg-type]  # a class as well
            return self._factory(inside[-1] if inside else object, value, field)
        if inspect.isclass(origin) and issubclass(origin, Mapping):
            if not isinstance(value, dict):
                _wrong(field, "a table", value)
            return {key: self.made(inside[1], one, f"{field}.{key}") for key, one in value.items()}
        if inspect.isclass(origin) and issubclass(origin, Sequence):
            if not isinstance(value, list | tuple):
                _wrong(field, "a list", value)
            fixed = origin is tuple and Ellipsis not in inside
            if fixed and len(value) != len(inside):
                _wrong(field, f"{len(inside)} values", value)
            hints = inside if fixed else [inside[0]] * len(value)
            return (tuple if origin is tuple else list)(
                self.made(h, one, field) for h, one in zip(hints, value, strict=True)
            )
        if isinstance(hint, type) and hint in SCALARS:
            return value if SCALARS[hint](value) else _wrong(field, hint.__name__, value)
        if inspect.isclass(hint) and hint is not object and hint.__module__ not in WITHOUT_CLASSES:
            if isinstance(value, dict) and "class_path" not in value and "init_args" not in value:
                value = {"class_path": f"{hint.__module__}.{hint.__qualname__}", "init_args": value}
            return self._factory(hint, value, field)()
        return value

    def _made_by_one_hint(self, hints: tuple[object, ...], value: object, field: str) -> object:
        """What fits one of several type hints."""
        if value is None and type(None) in hints:
            return None
        refused: list[UserError] = []
        for hint in sorted(hints, key=lambda one: one not in SCALARS):  # a text, where it may be one, names nothing
            if hint is type(None):
                continue
            try:
                return self.made(hint, value, field)
            except UserError as error:
                refused.append(error)
        raise refused[-1]

    def _factory(self, base: object, value: object, field: str) -> Callable[..., object]:
        """Calls the class that a checkpoint specifies, with the arguments that stand there."""
        specified = {"class_path": value} if isinstance(value, str) else value
        if not isinstance(specified, dict) or "class_path" not in specified or set(specified) - SPECIFICATION:
            _wrong(field, "class_path and init_args", value)
        if not inspect.isclass(base) or base is object:
            raise UserError(f"{field}: no class belongs there, so none is made of {shortened(specified['class_path'])}")
        found = self.resolve(specified["class_path"], base, field)
        given = [specified.get(name) or {} for name in ("init_args", "dict_kwargs")]
        if not all(isinstance(one, dict) and all(isinstance(key, str) for key in one) for one in given):
            _wrong(field, "a table of arguments", value)
        return partial(found, **self.arguments(found, given[0] | given[1], field))

    def arguments(self, of: Callable[..., object], given: Mapping[str, object], field: str) -> dict[str, Any]:
        """The arguments of a class as a checkpoint gives them, made where they are classes; see `made`.

        Nothing makes it read weights: they are in the checkpoint.
        """
        kept = {name: WEIGHTS_OF_TIMM.get(name, value) for name, value in given.items()}
        if name := elsewhere(kept):
            raise UserError(f"{field}.{name} names weights from elsewhere; those of a checkpoint are in the checkpoint")
        hints = hints_of(of)
        return {name: self.made(hints.get(name, object), value, f"{field}.{name}") for name, value in kept.items()}


def in_its_room(class_path: str) -> str:
    """The name of an own class without its file's, which an older checkpoint may name by a file of before."""
    own, *parts = class_path.split(".")
    return f"{own}.{parts[0]}.{parts[-1]}" if own == "cry_lightning" else class_path


def elsewhere(arguments: Mapping[str, object]) -> str:
    """The argument of a network that has timm look for it in a file or on a hub, with its value; "" where none does."""
    at_a_place = re.search(r"[:/\\]", str(arguments.get("model_name", "")))
    named = ["model_name"] * bool(at_a_place) + [n for n in (*SOURCES_OF_TIMM, "checkpoint_path") if arguments.get(n)]
    return f"{named[0]} {shortened(arguments[named[0]])}" if named else ""


SCALARS: dict[type, Callable[[object], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, int) and not isinstance(value, bool),
    float: lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value == value,  # no NaN
    str: lambda value: isinstance(value, str),
    Path: lambda value: isinstance(value, str),
    type(None): lambda value: value is None,
}


def hints_of(of: Callable[..., object]) -> Json:
    """Type hints of the arguments of a class or function; where `__init__` hands `**kwargs` on, the next base's too."""
    functions = (
        [vars(base)["__init__"] for base in of.__mro__ if "__init__" in vars(base)] if inspect.isclass(of) else [of]
    )
    hints: Json = {}
    for function in functions:
        try:
            hints = get_type_hints(function) | hints
            kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
        except (NameError, TypeError, ValueError):  # hints that only a type checker understands
            break
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return hints


def refusal(class_path: str) -> str:
    """Why a name is not resolved, and the way out in a command."""
    return f"{class_path} is not imported unless you trust who wrote it: --trust {class_path.partition('.')[0]}"


def in_python(class_path: str) -> str:
    """The way out where a function takes the checkpoint."""
    return f", or in Python trust=[{class_path.partition('.')[0]!r}]"


def shortened(value: object) -> str:
    """A value in a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _wrong(field: str, expected: str, value: object) -> NoReturn:
    raise UserError(f"{field}: expected {expected}, not {shortened(value)}")
