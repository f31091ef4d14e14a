"""A mistake in a stage's YAML or arguments, as one line that names the key at fault."""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from cry_lightning.commands.configs import OF_RUN, Loader, refuse_recordings
from cry_lightning.commands.signatures import keys_of, nearest
from cry_lightning.console import ConfigError, UserError, did_you_mean, dotted, one_line
from cry_lightning.files.former_names import as_now, renamed
from cry_lightning.trust.names import refusal

OF_KEY = re.compile(r'Parser key "(.+?)"')
UNKNOWN_KEY = re.compile(r"(?:Option|accept option) '(.+?)'")
DENIED = re.compile(r"Importing '([\w.]+)' is not allowed, denied by the '(.+?)' entry")
NOT_A_FILE = re.compile(r"Expected a path but (.+?\.ya?ml) either")
UNKNOWN_NETWORK = re.compile(r"^Unknown model \((.+)\)$")
CLASS_PATH = re.compile(r"class_path '([\w.]+)'|import path string: ([\w.]+)$")
AROUND = ("Parser key", "Does not validate against")  # a reason
NO_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'$")
WRONG_TYPE = re.compile(r"Expected an? (?:<class '([\w.]+)'>|typing\.Literal\[(.+?)\])")
OF_A_SUBTYPE = re.compile(  # not merely of its form
    r"^ +- (?!Not a valid subclass|Does not validate|Expected an? |a (?:class path|dict) )"
    r"(?:Problem with given class_path .+:\n[\s-]*)?(.+)$",
    re.MULTILINE,
)


class OneLineParser(LightningArgumentParser):
    """Refuses a wrong argument or key in one line; jsonargparse reads each class of the config with one, too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_args(self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any) -> Namespace:
        """See argparse; a config that is not even text is a user's mistake as well."""
        if args is not None and "defaults" in kwargs:  # of a class inside, whose values were read and written again
            args = [as_yaml(text) for text in args]
        try:
            return super().parse_args(args, *others, **kwargs)
        except UnicodeDecodeError as error:
            raise UserError("config: a file that should be YAML is not text; is it a checkpoint?") from error

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:
        """See jsonargparse, which reads files by this; a run's config may be an older release's."""
        if kwargs.get("path") == OF_RUN:
            content = of_this_release(content)
        return super().parse_string(content, *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message as a user's mistake."""
        parser = getattr(ex, "subcommand_parser", self)
        known = [action.dest for action in parser._actions if not action.dest.endswith("help")]
        raise explain(message, list(causes(ex)), known) from ex


def as_yaml(argument: str) -> str:
    """An option as YAML has it, of which jsonargparse wrote the value as Python does: nothing, a table or a list."""
    key, _, value = argument.partition("=")
    if value == "None":
        return f"{key}=null"
    if not value.startswith(("{", "[")):
        return argument
    try:
        read = ast.literal_eval(value)
        return f"{key}={json.dumps(read)}" if repr(read) == value else argument  # else a user wrote it, as YAML
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return argument


def of_this_release(text: str) -> str:
    """The config of a run as this release writes it."""
    try:
        config = yaml.load(text, Loader)
    except yaml.YAMLError:  # whoever reads it says so
        return text
    now = as_now(config) if isinstance(config, dict) else config
    return text if now == config else yaml.safe_dump(now, sort_keys=False)


class WholeSection(argparse.Action):
    """A file given for a section (`--data FILE`) replaces it; jsonargparse would keep each key that only the old has.

    A corpus without `window_s` must not be cut into the windows of the corpus that it takes the place of. The class
    stands before that of jsonargparse's action.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See argparse.Action."""
        if args:
            parser, config, given = args[:3]
            if isinstance(given, str):
                refuse_recordings(self.dest, given)
            config[self.dest] = parser.get_defaults()[self.dest]
        return super().__call__(*args, **kwargs)


def explain(message: str, errors: list[BaseException], known: list[str]) -> ConfigError:
    """What a parser that knows these keys complains of, given the errors behind its message, outermost first."""
    found = OF_KEY.match(message)
    key = found[1] if found else ""
    if of_class := next((error for error in errors if isinstance(error, ConfigError)), None):  # by its own parser
        key, reason = dotted(key, of_class.key), of_class.reason
    elif unknown := UNKNOWN_KEY.search(message):
        key, reason = dotted(key, unknown[1]), f"no such key{did_you_mean([unknown[1]], known)}"
    else:
        reason = reason_in(str(errors[-1] if errors and found else message), message)
        reason += hint(reason, message, known)
    return ConfigError(key, with_new_name(key, reason))


def hint(reason: str, message: str, known: list[str]) -> str:
    """The end of a complaint: the name that may have been meant; empty where none is near."""
    if reason.startswith("unrecognized arguments"):
        of_data = [dotted("data", name) for name in keys_of("cry_lightning.data.datamodule.CryDataModule")]
        return did_you_mean(re.findall(r"--([\w.]+)", reason), [*known, *of_data], "--")
    path, attribute = CLASS_PATH.search(message), NO_ATTRIBUTE.search(reason)
    near = did_you_mean([attribute[2]], dir(sys.modules.get(attribute[1]))) if attribute else ""
    return (nearest(path[1] or path[2]) if path else "") or near


def with_new_name(key: str, reason: str) -> str:
    """A complaint of an unknown key with the name that it has now, if an older release had it, and no similar ones."""
    complaint = reason.partition("; did you mean")[0]
    if not complaint.startswith(("no such key", "unrecognized arguments")):
        return reason
    keys = [dotted(key, one) for one in re.findall(r"--([\w.]+)", complaint)] or [key]
    moved = next(filter(None, map(renamed, keys)), "")
    return complaint + moved if moved else reason


def instantiation_error(error: Exception, given_in: str = "config") -> UserError:
    """Why a class will not be made of its arguments: a mistake in what they were given in, wherever it was noticed."""
    errors = list(causes(error))
    if reported := next((cause for cause in errors if isinstance(cause, UserError)), None):
        return reported
    reason = reason_in(str(next((one for one in errors if not str(one).startswith(AROUND)), error)), str(error))
    if unknown := UNKNOWN_NETWORK.match(reason):
        import timm  # it takes long, and was imported for the network

        near = did_you_mean([unknown[1]], timm.list_models(), n=3) or "; timm.list_models() names all"
        return UserError(f"{given_in}: timm has no network {unknown[1]}{near}")
    return UserError(one_line(f"{given_in}: {reason}"))


def reason_in(reason: str, message: str) -> str:
    """What the innermost error says, in a user's words; the message names the files and other types, too.

    Where one of several types may be given, what the one says that took the value, and failed with it.
    """
    if denied := DENIED.search(f"{reason} {message}"):
        return refusal(denied[1]) if denied[2] == "*" else f"{denied[1]} is no part of a network; no config may name it"
    if unread := NOT_A_FILE.search(message):
        return f"{unread[1]}: no such file, or not YAML with keys in it"
    if WRONG_TYPE.match(reason):
        types = dict.fromkeys(name or choices for name, choices in WRONG_TYPE.findall(message) if name != "NoneType")
        return f"expected {' or '.join(types)}, not {reason.split('Got value: ')[-1]}"
    if reason.startswith("Not a valid subclass"):
        of_subtype = OF_A_SUBTYPE.search(message)
        return of_subtype[1] if of_subtype else "give class_path and init_args, and no key beside them"
    return OF_KEY.sub("", reason).replace('in "<unicode string>", ', "").lstrip(": ")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from or while handling, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
