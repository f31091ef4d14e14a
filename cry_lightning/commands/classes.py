"""The classes that a YAML can name, found in the source files of their rooms, and the nearest to a wrong name."""

import ast
import difflib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cry_lightning.commands import signatures
from cry_lightning.commands.signatures import Definition
from cry_lightning.typed import first_sentence

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
PLACE = Path(__file__).parents[1]


@cache
def classes(kind: str) -> dict[str, Definition]:
    """Class path, as short as it can be -> definition, of the classes of a kind."""
    room, base = ROOMS[kind]
    package = f"cry_lightning.{room}"
    exported = signatures.names(package)
    found = {one.name: one for one in _defined(package) if base in _ancestors(one)}
    if kind == "encoders":
        found = {name: one for name, one in found.items() if "num_features" in _text(one)}
    bases = {above for one in found.values() for above in _ancestors(one)}
    kept = {name: one for name, one in found.items() if name in exported or name not in bases}
    paths = {f"{package if name in exported else one.module}.{name}": one for name, one in kept.items()}
    others = {path: one for path in FUNCTIONS.get(kind, ()) if (one := signatures.find(path))}
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
        for node in signatures.classes_of(module):
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
        above = signatures.find(f"{definition.module}.{path}")
        found += _ancestors(above) if above and above.module.startswith("cry_lightning.") else []
    return found


def _text(definition: Definition) -> str:
    """The source of a class, and of those that it descends from within the project."""
    above = [signatures.find(f"{definition.module}.{name}") for name in _ancestors(definition)]
    return "\n".join(ast.unparse(one.node) for one in [definition, *filter(None, above)])


def _example(path: str) -> str:
    needed = [f"{name}: ..." for name, one in (signatures.parameters(path) or {}).items() if one.required]
    given = f", init_args: {{{', '.join(needed)}}}" if needed else ""
    return f"{{class_path: {path}{given}}}"
