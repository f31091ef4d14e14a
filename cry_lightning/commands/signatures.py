"""Parameters of classes read from their source files without importing them, and what a YAML can name."""

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cry_lightning.commands.arguments import first_sentence

BASES_WITHOUT_PARAMETERS = {
    "nn.Module",
    "L.LightningModule",
    "L.LightningDataModule",
    "torch.nn.Module",
    "ABC",
    "Protocol",
    "object",
}
ROOMS = {  # kind -> room, and what its classes descend from
    "encoders": ("encoders", "Module"),
    "features": ("features", "Feature"),
    "corpora": ("corpora", "Corpus"),
    "augmentations": ("tasks.augment", "Module"),
    "losses": ("tasks.losses", "Module"),
    "tasks": ("tasks", "Stage"),
}
OF_TORCH = {
    "torch.nn.CrossEntropyLoss": "Cross-entropy of logits (B, K), the default; scores are probabilities",
    "torch.nn.MultiMarginLoss": "Hinge loss of logits (B, K); its scores rank, but are no probabilities",
}
FUNCTIONS = {"corpora": ("cry_lightning.corpora.corpus_at",)}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a class."""

    module: str  # in which its annotation is to be understood
    annotation: ast.expr | None
    required: bool = False


@dataclass(frozen=True)
class Definition:
    """A class, function or other name in a source file."""

    module: str
    node: ast.ClassDef | ast.FunctionDef | ast.Assign

    @property
    def name(self) -> str:
        """By which it is defined."""
        return ast.unparse(self.node.targets[0]) if isinstance(self.node, ast.Assign) else self.node.name

    @property
    def docstring(self) -> str:
        """Its docstring; empty where it has none."""
        return "" if isinstance(self.node, ast.Assign) else ast.get_docstring(self.node) or ""

    @property
    def is_dataclass(self) -> bool:
        """Whether its parameters are its fields."""
        decorators = self.node.decorator_list if isinstance(self.node, ast.ClassDef) else []
        return any("dataclass" in ast.unparse(decorator) for decorator in decorators)


def find(path: str, through: tuple[str, ...] = ()) -> Definition | None:
    """The definition behind a dotted path, `through` imports; None where the source files do not show one."""
    module, _, name = path.rpartition(".")
    tree = _parsed(module) if module and path not in through else None
    if tree is None:
        return None
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return Definition(module, node)
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
            return Definition(module, node)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for imported in node.names:
                if (imported.asname or imported.name) == name:
                    return find(f"{node.module}.{imported.name}", (*through, path))
    return None


def names(module: str) -> list[str]:
    """The names of a module's classes and functions, those that it imports among them; none where it has no file."""
    tree = _parsed(module)
    found = []
    for node in tree.body if tree else []:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            found += [imported.asname or imported.name for imported in node.names]
    return found


def classes_of(module: str) -> list[ast.ClassDef]:
    """The classes that a module defines."""
    tree = _parsed(module)
    return [node for node in tree.body if isinstance(node, ast.ClassDef)] if tree else []


def parameters(path: str) -> dict[str, Parameter] | None:
    """Name -> parameter of the class or function at a dotted path; None where they are not all known."""
    definition = find(path)
    return _parameters(definition) if definition else None


def classes_in(parameter: Parameter) -> Iterator[Definition]:
    """The classes that an annotation names, as far as source files show them."""
    for node in ast.walk(parameter.annotation) if parameter.annotation else []:
        definition = find(f"{parameter.module}.{node.id}") if isinstance(node, ast.Name) else None
        if definition and isinstance(definition.node, ast.ClassDef):
            yield definition


def group_of(parameter: Parameter) -> Definition | None:
    """The dataclass whose fields a parameter holds, as `data.split` does; None where it holds anything else."""
    return next((one for one in classes_in(parameter) if one.is_dataclass), None)


def fields_of(parameter: Parameter) -> dict[str, Parameter]:
    """The fields of such a dataclass; none where a parameter holds anything else."""
    group = group_of(parameter)
    return (_parameters(group) if group else None) or {}


def keys_of(path: str) -> list[str]:
    """The parameters of a class, each followed by the fields that it holds, as `split.val`."""
    found = []
    for name, parameter in (parameters(path) or {}).items():
        found += [name, *(f"{name}.{field}" for field in fields_of(parameter))]
    return found


def _parameters(definition: Definition) -> dict[str, Parameter] | None:
    node, module = definition.node, definition.module
    if isinstance(node, ast.FunctionDef):
        return None if node.args.kwarg else _of_function(node, module)
    if isinstance(node, ast.Assign):
        return None
    if definition.is_dataclass:
        fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
        return {ast.unparse(one.target): Parameter(module, one.annotation, one.value is None) for one in fields}
    init = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    own = _of_function(init, module) if init else {}
    if init and not init.args.kwarg:
        return own
    inherited: dict[str, Parameter] = {}
    for base in map(ast.unparse, node.bases):
        if base in BASES_WITHOUT_PARAMETERS:
            continue
        above = find(f"{module}.{base}")
        of_base = _parameters(above) if above else None
        if of_base is None:
            return None
        inherited = of_base | inherited
    filled = _filled(definition, init) if init else set()
    return {name: one for name, one in inherited.items() if name not in filled} | own


def _filled(definition: Definition, init: ast.FunctionDef) -> set[str]:
    """Arguments that the `__init__` of a class gives to that of its base itself, so that nobody else can."""
    above = next((one for one in map(_init, _bases(definition)) if one), None)
    calls = [node for node in ast.walk(init) if isinstance(node, ast.Call)]
    call = next((node for node in calls if ast.unparse(node.func) == "super().__init__"), None)
    if call is None:
        return set()
    in_order = list(_of_function(*above)) if above else []
    return {*in_order[: len(call.args)], *(keyword.arg for keyword in call.keywords if keyword.arg)}


def _bases(definition: Definition) -> list[Definition]:
    """The classes that one descends from, as far as source files show them."""
    bases = map(ast.unparse, definition.node.bases) if isinstance(definition.node, ast.ClassDef) else ()
    return [found for base in bases if (found := find(f"{definition.module}.{base}"))]


def _init(definition: Definition) -> tuple[ast.FunctionDef, str] | None:
    """The `__init__` that a class has or inherits, and its module."""
    own = [node for node in getattr(definition.node, "body", ()) if isinstance(node, ast.FunctionDef)]
    if init := next((node for node in own if node.name == "__init__"), None):
        return init, definition.module
    return next((found for base in _bases(definition) if (found := _init(base))), None)


def _of_function(node: ast.FunctionDef, module: str) -> dict[str, Parameter]:
    positional, keywords = [*node.args.posonlyargs, *node.args.args], node.args.kwonlyargs
    without_default = positional[: len(positional) - len(node.args.defaults)]
    without_default += [one for one, default in zip(keywords, node.args.kw_defaults, strict=True) if default is None]
    return {
        one.arg: Parameter(module, one.annotation, one in without_default)
        for one in [*positional, *keywords]
        if one.arg != "self"
    }


@cache
def _parsed(module: str) -> ast.Module | None:
    file = _file(module)
    return ast.parse(file.read_text(encoding="utf-8")) if file else None


def _file(module: str) -> Path | None:
    """The source file of a module: only the top package is looked up, since the look-up would import what is above."""
    top, *below = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    place = Path(next(iter(spec.submodule_search_locations)), *below)
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py") if below else (place / "__init__.py",)
    return next((file for file in candidates if file.is_file()), None)


PLACE = Path(__file__).parents[1]


@cache
def classes(kind: str) -> dict[str, Definition]:
    """Class path, as short as it can be -> definition, of the classes of a kind."""
    room, base = ROOMS[kind]
    package = f"cry_lightning.{room}"
    exported = names(package)
    found = {one.name: one for one in _defined(package) if base in _ancestors(one)}
    if kind == "encoders":
        found = {name: one for name, one in found.items() if "num_features" in _text(one)}
    bases = {above for one in found.values() for above in _ancestors(one)}
    kept = {name: one for name, one in found.items() if name in exported or name not in bases}
    paths = {f"{package if name in exported else one.module}.{name}": one for name, one in kept.items()}
    others = {path: one for path in FUNCTIONS.get(kind, ()) if (one := find(path))}
    return dict(sorted(paths.items())) | others


def summaries(kind: str) -> dict[str, tuple[str, str]]:
    """Class path -> the first sentence on the class, and an example of how a YAML names it."""
    found = {path: first_sentence(one.docstring) for path, one in classes(kind).items()}
    found |= OF_TORCH if kind == "losses" else {}
    return {path: (about, _example(path)) for path, about in found.items()}


def nearest(text: str) -> str:
    """The end of a message on a name that is no class: the nearest class path; empty where none is near."""
    known = [*OF_TORCH, *(path for kind in ROOMS for path in classes(kind))]
    names = {path.rpartition(".")[2].lower(): path for path in known}
    found = difflib.get_close_matches(text.rpartition(".")[2].lower(), names, n=1)
    return f"; did you mean {names[found[0]]}?" if found else ""


def _defined(package: str) -> Iterator[Definition]:
    folder = PLACE.joinpath(*package.split(".")[1:])
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    for file in files:
        module = ".".join(["cry_lightning", *file.relative_to(PLACE).with_suffix("").parts]).removesuffix(".__init__")
        for node in classes_of(module):
            if not node.name.startswith("_"):
                yield Definition(module, node)


def _ancestors(definition: Definition) -> list[str]:
    """Names of the classes that one descends from."""
    found: list[str] = []
    for base in definition.node.bases if isinstance(definition.node, ast.ClassDef) else []:
        path = ast.unparse(base).partition("[")[0]
        found.append(path.rpartition(".")[2])
        if path.startswith("nn."):
            found.append("Module")
        above = find(f"{definition.module}.{path}")
        found += _ancestors(above) if above and above.module.startswith("cry_lightning.") else []
    return found


def _text(definition: Definition) -> str:
    """The source of a class, and of those that it descends from within the project."""
    above = [find(f"{definition.module}.{name}") for name in _ancestors(definition)]
    return "\n".join(ast.unparse(one.node) for one in [definition, *filter(None, above)])


def _example(path: str) -> str:
    needed = [f"{name}: ..." for name, one in (parameters(path) or {}).items() if one.required]
    given = f", init_args: {{{', '.join(needed)}}}" if needed else ""
    return f"{{class_path: {path}{given}}}"
