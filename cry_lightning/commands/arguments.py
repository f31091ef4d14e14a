"""Command lines from the signatures and docstrings of typed functions."""

import argparse
import inspect
import json
import math
import os
import re
import shlex
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, wraps
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from cry_lightning.console import UserError, one_line

if TYPE_CHECKING:  # it would slow down the start of every command
    from cry_lightning.files import Json

R = TypeVar("R")
SECTIONS = re.compile(r"^(Args|Returns|Raises|Example|Source): *", re.MULTILINE)


class ArgumentParser(argparse.ArgumentParser):
    """Refuses what it does not know, abbreviations included.

    Args:
        **kwargs: as for argparse; `prog` is `python -m cry_lightning COMMAND`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Raise the message as a user's mistake."""
        raise UserError(f"{message}; see {self.prog} --help")


def check_name(name: str, given: str) -> None:
    """Refuse what, given as the argument or key `name`, is not the name of one folder.

    Raises:
        UserError: it would lead elsewhere, or could be taken for an option.
    """
    if given in ("", ".", "..") or given.startswith("-") or re.search(r"[/\\\x00-\x1f\x7f]", given):
        raise UserError(f"{name}: {given!r} is no name of a folder; give letters, digits, dots, dashes and underscores")


def check_folder(name: str, path: str | Path) -> None:
    """Refuse a path, given as the argument or key `name`, that cannot be or become a folder.

    Raises:
        UserError: a file is in its place.
    """
    folder = Path(path).expanduser()
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"{name}: {place} is a file; name a folder")


def check_there(path: str | Path, instead: str, what: str = "file or folder") -> None:
    """Refuse a path that is not there.

    Args:
        path: of a file or folder.
        instead: what the user gives instead.
        what: it should be.

    Raises:
        UserError: naming it.
    """
    if not str(path) or not Path(path).exists():  # an empty text, as of a variable that is not set, is no "."
        raise UserError(f"{path or repr('')}: no such {what}; {instead}")


SHIPPED = Path(__file__).parents[1] / "configs"  # installed with the package
Overrides = Sequence[str] | Mapping[str, object]  # of a YAML: arguments of `fit`, or dotted keys and their values


@dataclass(frozen=True)
class Taken:
    """How an argument is taken, beside its type: what stands in `Annotated`."""

    metavar: str | None = None  # in the shell's help
    option: bool = False  # the shell gives it by name, where Python may give it by position
    repeated: bool = False  # the shell names it once for each value
    in_shell: str = ""  # what the shell gives where it is left out
    choices: Iterable[str] | None = None  # all there are; of a table, the help tells each
    read: Callable[[str], object] | None = None  # makes the value of a text
    counted: str = ""  # what it counts, of which there must be one at least
    instead: str = ""  # what to give where there is nothing at its path,
    what: str = "file or folder"  # and what should be there
    folder: bool = False  # it is, or becomes, a folder


@dataclass(frozen=True)
class Argument:
    """One parameter of a function."""

    name: str
    kind: type  # of one value
    depth: int  # 1: a sequence of them, 2: of sequences
    taken: Taken
    default: object
    positional: bool
    about: str

    @property
    def shown(self) -> str:
        """How messages and the shell call it."""
        return self.name if self.positional else f"--{self.name.rstrip('_').replace('_', '-')}"

    def add_to(self, parser: ArgumentParser | argparse._ArgumentGroup) -> None:
        """Add it to a parser; what is not given is left to the function."""
        taken, required = self.taken, self.default is inspect.Parameter.empty
        how: dict[str, Any] = {"help": self._help(), "default": taken.in_shell or argparse.SUPPRESS}
        if not self.positional:
            how |= {"required": required, "dest": self.name}
        if self.kind is bool:
            parser.add_argument(self.shown, **how, action="store_true")
            return
        metavar = taken.metavar or (self.name.rpartition("_")[2].upper() if self.kind is float else None)
        how |= {"type": self.read, "metavar": metavar, "choices": taken.choices}
        if self.depth > taken.repeated:
            how["nargs"] = "+" if required or not self.positional else "*"
        if self.depth > 1 or taken.repeated:
            how["action"] = "append"
        parser.add_argument(self.shown, **how)

    def _help(self) -> str:
        about, default = self.about.removesuffix(".").replace("%", "%%"), self.taken.in_shell or self.default
        if "default" in about or default in (inspect.Parameter.empty, None, False, ()):
            return about
        values = default if self.depth and isinstance(default, list | tuple) else [default]
        texts = ["x".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in values]
        return f"{about} (default: {' '.join(texts)})".lstrip()

    def take(self, value: Any) -> object:
        """The value given, in its type and checked.

        Raises:
            UserError: it makes no sense.
        """
        if value is None and self.default is None:
            return None
        if not self.depth:
            return self._one(value)
        several = isinstance(value, Iterable) and not isinstance(value, str | Path)
        values = list(value) if several else [value]
        if self.depth > 1 and not any(isinstance(one, str | Path) for one in values):
            return [[self._one(one) for one in inner] for inner in values]
        return [self._one(one) for one in values] if self.depth == 1 else [[self._one(one) for one in values]]

    def _one(self, value: object) -> object:
        taken = self.taken
        wanted = "True or False" if self.kind is bool else "a value"
        if value is None or (self.kind is bool and type(value).__name__ not in ("bool", "bool_")):  # NumPy's, too
            raise UserError(f"{self.shown}: {wanted} is wanted, not {value!r}")
        if self.kind is bool or not (isinstance(value, str) or self.kind in (str, Path, int, float)):
            return value
        if isinstance(value, Iterable) and not isinstance(value, str):
            raise UserError(f"{self.shown}: one value is wanted, not several ({type(value).__name__})")
        try:
            value = self.read(str(value))
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise UserError(f"{self.shown}: {error}") from error
        text = str(value)
        if taken.choices is not None and text not in taken.choices:
            raise UserError(f"{self.shown}: invalid choice: {value!r} (choose from {', '.join(taken.choices)})")
        if taken.folder:
            check_folder(taken.metavar or self.name if self.positional else self.shown, text)
        if taken.instead:
            check_there(text, taken.instead, taken.what)
        return value

    @property
    def read(self) -> Callable[[str], object]:
        """Makes a value of a text; named as argparse tells it."""
        if self.kind not in (int, float):
            return self.taken.read or (lambda text: self.kind(find_shipped([text])[0]))

        def number(text: str) -> float:
            if re.fullmatch(r"[-+]?\d*,\d+", text):
                meant = f"({text.replace(',', '.')})"
                raise argparse.ArgumentTypeError(f"{text}: use a point for decimals {meant}, and blanks between values")
            value = self.kind(text)
            if not math.isfinite(value):
                raise ValueError(f"{text} is not a number")
            if self.taken.counted and value < 1:
                raise argparse.ArgumentTypeError(f"{text}: 1 or more {self.taken.counted} are needed")
            return value

        number.__name__ = self.kind.__name__ if self.kind is int else "number"
        return number


def command(function: Callable[..., R]) -> Callable[..., R]:
    """A function that takes its arguments as its command does: paths as texts, one value for a sequence of one."""
    known = {argument.name: argument for argument in arguments_of(function)}

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> R:
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        given = {name: known[name].take(value) if name in known else value for name, value in bound.arguments.items()}
        if "overrides" in given:
            given["overrides"] = as_arguments(bound.arguments["overrides"])
        return function(**given)

    return called


def parse(function: Callable[..., object], argv: Sequence[str]) -> "Json":
    """The keyword arguments that a command line gives to a function; what is not known are its `overrides`, if any.

    Raises:
        UserError: the line has a mistake.
    """
    parser, parameters = parser_of(function), inspect.signature(function).parameters
    if "overrides" in parameters:
        options, rest = parser.parse_known_args(_positional_by_name(function, argv))
        given = vars(options) | {"overrides": rest}
    else:
        given = vars(parser.parse_args(_positional_by_name(function, argv)))
    for name, parameter in parameters.items():
        if is_dataclass(kind := parameter.annotation):
            own = [field.name for field in fields(kind) if field.name in given]
            given[name] = kind(**{field: given.pop(field) for field in own})  # type: ignore[operator]
    return given


def _positional_by_name(function: Callable[..., object], argv: Sequence[str]) -> list[str]:
    """A command line whose one argument without an option, if it was given by its name, stands before all others."""
    known, arguments = arguments_of(function), list(argv)
    bare = [one for one in known if one.positional]
    option = f"--{bare[0].taken.metavar or bare[0].name}".lower() if len(bare) == 1 else ""
    if not option or option in [one.shown for one in known]:
        return arguments
    values: list[str] = []
    while option in (names := [argument.partition("=")[0] for argument in arguments]):
        place = names.index(option)
        _, given, value = arguments[place].partition("=")
        rest = arguments[place + 1 :]
        n_values = 0 if given else next((n for n, one in enumerate(rest) if one.startswith("-")), len(rest))
        values += [value] if given else rest[:n_values]
        arguments[place:] = rest[n_values:]
    return [*values, *arguments]


def parser_of(function: Callable[..., object]) -> ArgumentParser:
    """The parser of a function: parameters without a default are positional, those by keyword alone are options."""
    head, *_ = SECTIONS.split(inspect.getdoc(function) or "")
    arguments = arguments_of(function)
    blocks = head.strip().split("\n\n") + [f"example: {text}" for text in section(function, "Example")]
    parser = ArgumentParser(
        prog=f"python -m cry_lightning {name_of(function)}",
        description="\n\n".join(textwrap.fill(" ".join(block.split()), 100) for block in blocks),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for argument in arguments:
        argument.add_to(parser)
        if isinstance(argument.taken.choices, Mapping):
            rows = [f"  {name}: {about}" for name, about in argument.taken.choices.items()]
            parser.epilog = "\n".join([f"{argument.name}:", *rows])
    for name, parameter in inspect.signature(function).parameters.items():
        if is_dataclass(kind := parameter.annotation):
            group = parser.add_argument_group(name)
            for argument in arguments_of(kind):  # type: ignore[arg-type]
                replace(argument, positional=False).add_to(group)
    return parser


def name_of(function: Callable[..., object]) -> str:
    """Of its command."""
    return function.__name__.rstrip("_").replace("_", "-")


def first_sentence(docstring: str) -> str:
    """Of a docstring, on one line, without its full stop."""
    return re.split(r"\.(?:\s|$)", " ".join(docstring.split()), maxsplit=1)[0]


@cache
def arguments_of(function: Callable[..., object]) -> list[Argument]:
    """The parameters that are arguments; `overrides`, and dataclasses, are none."""
    documented = dict(arguments_section(inspect.getdoc(function) or ""))
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind, depth, taken = _resolved(parameter.annotation)
        if name != "overrides" and not is_dataclass(kind):
            positional = parameter.kind is not parameter.KEYWORD_ONLY and not taken.option
            found.append(Argument(name, kind, depth, taken, parameter.default, positional, documented.get(name, "")))
    return found


def _resolved(hint: Any) -> tuple[type, int, Taken]:
    """The type of one value, how deep sequences of it are nested, and how it is taken."""
    depth, taken = 0, Taken()
    while True:
        origin, inside = get_origin(hint), get_args(hint)
        if origin is Annotated:
            hint, taken = inside[0], inside[1]
        elif origin in (Union, UnionType):
            hint = next(one for one in inside if one is not type(None))
        elif origin is Literal:
            return str, depth, replace(taken, choices=inside)
        elif inspect.isclass(origin) and issubclass(origin, Sequence) and not taken.read:
            hint, depth = inside[0], depth + 1
        else:
            return hint, depth, taken


def section(function: Callable[..., object], name: str) -> list[str]:
    """The text of a section of a docstring, if it has one."""
    _, *parts = SECTIONS.split(inspect.getdoc(function) or "")
    return [" ".join(text.split()) for title, text in zip(parts[::2], parts[1::2], strict=True) if title == name]


def arguments_section(docstring: str) -> Iterator[tuple[str, str]]:
    """Name and description of each argument under `Args:` in a docstring."""
    name, words = "", list[str]()
    _, _, section = docstring.partition("Args:\n")
    for line in section.splitlines():
        if not line.startswith("    "):
            break
        head, colon, rest = line.strip().partition(": ")
        if colon and not line.startswith("     ") and head.isidentifier():
            if name:
                yield name, " ".join(words)
            name, words = head, [rest]
        else:
            words.append(line.strip())
    if name:
        yield name, " ".join(words)


def as_arguments(overrides: Overrides) -> list[str]:
    """Overrides as the command line gives them."""
    if isinstance(overrides, str) or not isinstance(overrides, Iterable):
        raise UserError(
            f"overrides: give a list of arguments, or a table of keys and values, not {one_line(str(overrides))!r}"
        )
    if not isinstance(overrides, Mapping):
        return find_shipped([str(one) for one in overrides])
    texts = {
        key: str(value) if isinstance(value, str | Path) else json.dumps(value, default=str)
        for key, value in overrides.items()
    }
    return find_shipped([f"--{key}={value}" for key, value in texts.items()])


def command_line(function: Callable[..., object], given: Mapping[str, Any]) -> str:
    """The command that calls a function with these arguments; what has its default is left out."""
    words = ["python", "-m", "cry_lightning", name_of(function)]
    for argument in arguments_of(function):
        value = given[argument.name]
        if (tuple(value) if isinstance(value, list) else value) == argument.default:
            continue
        times = value if argument.depth > 1 else [value if argument.depth else [value]]
        for values in [[one] for one in value] if argument.taken.repeated else times:
            words += [] if argument.positional else [argument.shown]
            words += [] if argument.kind is bool else [str(one) for one in values]
    return shlex.join([*words, *as_arguments(given.get("overrides", ()))])


def find_shipped(argv: Sequence[str]) -> list[str]:
    """The arguments, with `configs/...` that the current folder lacks replaced by the file that is installed."""
    found = []
    for text in argv:
        option, equals, path = text.rpartition("=")
        shipped = SHIPPED.parent / path
        is_shipped = path.startswith("configs/") and not Path(path).exists() and shipped.exists()
        found.append(f"{option}{equals}{shipped}" if is_shipped else text)
    return found


def refuse_existing(*paths: Path, option: str = "--out") -> None:
    """Refuse to write, as the option says, where something is already, no folder can be or nothing may be written.

    Raises:
        UserError: naming the path.
    """
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists already; remove it, or name another with {option}")
        check_folder(option, path.parent)
        there = next(folder for folder in (path.parent, *path.parent.parents) if folder.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"{option} {path}: {there} cannot be written to; name another place")


Checkpoint = Annotated[Path, Taken("CKPT", option=True, instead="name a run's best.ckpt", what="checkpoint")]
Folder = Annotated[Path, Taken("DIR", folder=True)]
Stage = Annotated[str, Taken("STAGE.yaml", option=True)]
Device = Literal["auto", "cpu", "cuda"]
Trusted = Annotated[Sequence[str], Taken("PACKAGE", repeated=True)]
Size = Annotated[int, Taken("B", counted="clips")]
