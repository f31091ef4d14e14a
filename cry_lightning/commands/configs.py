"""A stage's YAML files read and checked without importing what they name."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from cry_lightning.commands import signatures
from cry_lightning.commands.signatures import Parameter, nearest
from cry_lightning.console import ConfigError, UserError, did_you_mean, dotted, one_line
from cry_lightning.files import Config, kind_of
from cry_lightning.files.former_names import as_now, renamed

WHOLE_SECTIONS = ("config", "data", "model")  # options in whose place a YAML may stand
ENDINGS = (".yaml", ".yml")
OF_RUN = "config.yaml"  # in a run's folder
DEEPEST = 50  # levels of tables and files
OF_OPTIMIZER = ("lr", "learning_rate", "weight_decay", "momentum")
SIMPLE = {"int": int, "float": float, "bool": bool}
NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
UNDECIDED = object()
BOOL_OR_INT = Parameter("", ast.parse("bool | int", mode="eval").body)


class RepeatedKey(yaml.YAMLError):
    """A key stands twice in a table, of which YAML would take the last, and say nothing."""


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # ten times as fast in C
    """Loads YAML, and refuses a key that stands twice in a table."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """The table of a node."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key.value, str)):
            if key.value in seen:
                raise RepeatedKey(f"line {key.start_mark.line + 1}: the key {key.value} stands there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _loaded(path: Path) -> object:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except RepeatedKey as error:
        raise UserError(f"{path}, {error}") from error


def read_config(path: str, key: str) -> Config:
    """What a YAML holds, files that it names by paths relative to itself read in their places.

    Raises:
        UserError: it is missing, not text, or not YAML with keys in it.
    """
    if path.startswith("~"):
        path = str(Path(path).expanduser())
    if path.startswith("file://"):
        path = path.removeprefix("file://")
    return _read(Path(path), key)


def _read(path: Path, key: str) -> Config:
    kind = kind_of(path)
    unread = f"{path}: no such file, or not YAML with keys in it"
    if kind not in ("", "text"):
        unread = f"{path}: {kind}, and not YAML with keys in it"
    elif key == "config" and kind:
        unread = f"{path}: not YAML with keys in it"
    try:
        content = _loaded(path)
    except OSError as error:
        raise ConfigError(key, unread) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{key}: {path}: {kind or 'not text'}, and not YAML") from error
    except yaml.YAMLError as error:
        if key != "config":
            raise ConfigError(key, unread) from error
        reason = str(error).replace('in "<unicode string>", ', "")
        raise UserError(one_line(f"{path}: not YAML: {reason}")) from error
    if not isinstance(content, dict):
        raise ConfigError(key, unread)
    return Reader(key).table(as_now(content) if path.name == OF_RUN else content, path.parent)


class Reader:
    """Puts files in the places where a YAML names them.

    Args:
        key: of the YAML, for messages.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.done: dict[tuple[int, Path], Config] = {}  # a YAML may hold the same table a billion times
        self.kept: list[object] = []  # so that no other table gets the number of one that is done

    def whole(self, value: object, folder: Path, depth: int = 0) -> object:
        """A value of a YAML in `folder`, with what it names.

        Raises:
            ConfigError: it names itself, or holds itself.
        """
        if depth > DEEPEST:
            raise ConfigError(self.key, f"more than {DEEPEST} levels; does a YAML name itself?")
        if isinstance(value, dict):
            return self.table(value, folder, depth)
        if isinstance(value, str) and value.endswith(ENDINGS) and (folder / value).is_file():
            try:
                content = _loaded(folder / value)
            except (UnicodeDecodeError, yaml.YAMLError):
                return value
            return self.whole(content, (folder / value).parent, depth + 1)
        return value

    def table(self, value: Config, folder: Path, depth: int = 0) -> Config:
        """The same of a table."""
        place = id(value), folder
        if place not in self.done:
            self.kept.append(value)
            self.done[place] = {name: self.whole(one, folder, depth + 1) for name, one in value.items()}
        return self.done[place]


def refuse_recordings(key: str, path: str) -> None:
    """Refuse recordings where a data YAML is wanted.

    Raises:
        ConfigError: telling how they are given.
    """
    if not path.endswith(ENDINGS) and Path(path).exists():
        own = f"--data configs/data/own.yaml --data.corpus.init_args.path={path}"
        raise ConfigError(key, f"{path} is not a YAML; for recordings that lie there: {own}")


def check_class(key: str, value: object, required: bool = False) -> None:
    """Check the arguments of a class that a config names by class_path and init_args."""
    if not isinstance(value, dict) or not isinstance(value.get("class_path"), str):
        return
    if value.keys() - {"class_path", "init_args", "dict_kwargs"}:
        raise ConfigError(key, "give class_path and init_args, and no key beside them")
    _check_path(key, value["class_path"])
    given = value.get("init_args") or {}
    parameters = signatures.parameters(value["class_path"])
    if isinstance(given, dict) and parameters is not None:
        check_keys(key, given, parameters, list(parameters))
        if required and (missing := list(_missing(given, parameters))):
            raise ConfigError(key, f"the following arguments are required: {', '.join(missing)}")


def _missing(given: Mapping[str, object], parameters: Mapping[str, Parameter]) -> Iterator[str]:
    """The parameters that have no default and are not given; of a dataclass, those of its fields."""
    for name, one in parameters.items():
        value, fields = given.get(name), signatures.fields_of(one)
        if one.required and fields:
            yield from (dotted(name, field) for field in _missing(value if isinstance(value, dict) else {}, fields))
        elif one.required and value is None:
            yield name


def _check_path(key: str, path: str) -> None:
    """Refuse a class path of the project, in whose source files there is no such name."""
    module, _, name = path.rpartition(".")
    if not path.startswith("cry_lightning."):
        return
    if not (known := signatures.names(module)):
        raise ConfigError(key, f"{path}: no such class{nearest(path)}")
    if name not in known:
        raise ConfigError(key, f"module {module!r} has no attribute {name!r}{nearest(path)}")


def check_keys(key: str, given: Mapping[str, object], parameters: Mapping[str, Parameter], known: list[str]) -> None:
    """Refuse arguments that are none of the parameters (`known` are their names in messages), and wrong values."""
    for name, value in given.items():
        here = dotted(key, str(name))
        if name not in parameters:
            asked = here if known and known[0].startswith(f"{key}.") else str(name)
            whole = _whole(here, value)
            moved = renamed(whole)
            hint = moved or _of_optimizer(whole, known) or did_you_mean([asked], known)
            raise ConfigError(whole if moved else here, f"no such key{hint}")
        _check_names_class(here, value, parameters[name])
        check_class(here, value)
        fields = signatures.fields_of(parameters[name])
        if fields and isinstance(value, dict) and "class_path" not in value:  # in the place of a dataclass
            check_keys(here, value.get("init_args", value), fields, list(fields))
        check_type(parameters[name], value, here)


def _of_optimizer(key: str, known: list[str]) -> str:
    """The end of a message on the learning rate or its like where a stage that has an optimizer has other keys."""
    section, _, name = key.rpartition(".")
    of_stage = section in ("model", "model.init_args") and any(one.endswith("optimisation") for one in known)
    if not (of_stage or section in ("model.optimisation", "model.init_args.optimisation")) or name not in OF_OPTIMIZER:
        return ""
    return "; the optimizer's are at model.init_args.optimisation.optimizer.init_args, such as its lr"


def _whole(key: str, value: object) -> str:
    """A key, and those below it while there is one alone, as in an option of the command line."""
    while isinstance(value, dict) and len(value) == 1:
        [(name, value)] = value.items()
        key = dotted(key, str(name))
    return key


def _check_names_class(key: str, value: object, parameter: Parameter) -> None:
    """Refuse a text where a class is wanted, if it can be the path of neither a class nor a YAML."""
    names = {node.id for node in ast.walk(parameter.annotation or ast.Constant(None)) if isinstance(node, ast.Name)}
    if not isinstance(value, str) or not names or names & {"str", "Path", "Any"}:
        return
    if value.endswith(ENDINGS):
        raise ConfigError(key, f"{value}: no such file, or not YAML with keys in it")
    of_module = "nn.Module" in ast.unparse(parameter.annotation or ast.Constant(None))
    of_ours = any(one.module.startswith("cry_lightning.") for one in signatures.classes_in(parameter))
    if "." not in value and (of_module or of_ours):
        raise ConfigError(key, f"expected a whole class path, package.module.Class, not {value}{nearest(value)}")
    _check_path(key, value)


def check_type(parameter: Parameter, value: object, key: str) -> None:
    """Refuse a value that none of the simple types of an annotation fits; other types are not looked at."""
    if value is None or parameter.annotation is None:
        return
    types = list(_types(parameter.annotation, parameter.module))
    if UNDECIDED in types or any(_fits(value, one) for one in types):
        return
    raise ConfigError(key, f"expected {' or '.join(_named(one) for one in types if one is not None)}, not {value}")


def _named(kind: object) -> str:
    return ", ".join(map(repr, kind)) if isinstance(kind, tuple) else str(getattr(kind, "__name__", kind))


def _fits(value: object, kind: object) -> bool:
    if isinstance(kind, tuple):
        return value in kind
    if kind is None:
        return False
    if kind in (bool, list, dict):
        return isinstance(value, kind)
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as a text, the command's own parser as a number
        return bool(NUMBER.fullmatch(value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _types(annotation: ast.expr, module: str) -> Iterator[object]:
    """int, float, bool, list, dict, None, and the values of literals as a tuple; UNDECIDED for all else."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        yield from _types(annotation.left, module)
        yield from _types(annotation.right, module)
    elif isinstance(annotation, ast.Constant) and annotation.value is None:
        yield None
    elif isinstance(annotation, ast.Name) and annotation.id in SIMPLE:
        yield SIMPLE[annotation.id]
    elif isinstance(annotation, ast.Name):
        alias = signatures.find(f"{module}.{annotation.id}")
        if alias is not None and isinstance(alias.node, ast.Assign):
            yield from _types(alias.node.value, alias.module)
        else:
            yield UNDECIDED
    elif isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("list", "dict"):
        yield {"list": list, "dict": dict}[ast.unparse(annotation.value)]
    elif isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        elements = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        yield tuple(element.value for element in elements if isinstance(element, ast.Constant))
    elif isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("Optional", "Union"):
        inside = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        for one in inside:
            yield from _types(one, module)
    else:
        yield UNDECIDED
