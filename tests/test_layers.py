"""Who imports whom: the rooms of the house keep to their doors."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import cry_lightning

PACKAGE = Path(cry_lightning.__file__).parent
FREE = {"annotations", "commands", "console", "files", "lineage"}  # for every room
MAY_IMPORT = {
    "console": set(),
    "files": set(),
    "lineage": set(),
    "annotations": {"audio"},
    "trust": set(),
    "commands": {"trust"},
    "audio": set(),
    "features": {"audio"},
    "encoders": set(),
    "corpora": {"audio"},
    "data": {"audio", "corpora", "features", "trust"},
    "evaluation": set(),
    "dashboard": {"evaluation"},
    "report": {"audio", "dashboard", "data", "evaluation"},
    "tasks": {"corpora", "features", "trust"},
    "callbacks": {"audio", "dashboard", "evaluation", "tasks"},
    "acquire": {"audio", "corpora", "evaluation"},
    "describe": {"audio", "corpora", "data", "evaluation", "features"},
    "inference": {"acquire", "audio", "corpora", "data", "evaluation", "features", "tasks", "trust"},
    "cli": {"callbacks", "corpora", "dashboard", "data", "inference", "report", "tasks", "trust"},
    "export": {"audio", "evaluation", "inference", "tasks", "trust"},
    "serving": {"audio", "export", "features", "inference", "tasks"},
    "studies": {
        *("audio", "cli", "corpora", "dashboard", "data", "encoders", "evaluation", "inference", "report", "tasks"),
        "trust",
    },
    "download": {"encoders", "features", "tasks"},
    "make": {"audio", "cli", "data", "download", "trust"},
}
NO_TORCH = {"acquire", "audio", "corpora", "dashboard", "evaluation", "make", "report", "trust", *FREE}
WITH_TORCH = {"commands.messages"}  # of such rooms, for those who import torch anyway
OF_ALL = ("__init__", "__main__", "api")  # import the commands, each when it is called


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@cache
def imported_modules(path: Path, for_types: bool = True) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not for_types:
        guarded = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
        tree.body = [node for node in tree.body if node not in guarded]
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def rooms_among(modules: set[str]) -> set[str]:
    return {m.split(".")[1] for m in modules if m.startswith("cry_lightning.")}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) not in OF_ALL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_room_imports_only_what_it_may(path):
    room = room_of(path)
    modules = imported_modules(path)
    assert rooms_among(modules) - {room} - FREE <= MAY_IMPORT[room]
    if room in NO_TORCH and name_of(path) not in WITH_TORCH:
        modules = imported_modules(path, for_types=False)
        assert not {m for m in modules if m.split(".")[0] in ("torch", "lightning", "torchaudio")}
        assert not {m for m in modules if m.removeprefix("cry_lightning.") in WITH_TORCH}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_doors_hold_no_logic(path):
    """They hand names on; the package's own imports them when they are asked for."""
    kinds = {type(node) for node in ast.parse(path.read_text(encoding="utf-8")).body}
    assert kinds <= {ast.Expr, ast.ImportFrom}


def test_no_two_rooms_need_each_other():
    needed = {room: set() for room in MAY_IMPORT}
    for path in FILES:
        needed[room_of(path)] |= rooms_among(imported_modules(path)) - {room_of(path)}
    TopologicalSorter(needed).prepare()  # raises a CycleError that names them


def test_only_the_dashboard_and_those_who_feed_it_know_wandb():
    knowing = {room_of(path) for path in FILES if "wandb" in path.read_text(encoding="utf-8").lower()}
    assert knowing <= {"callbacks", "cli", "dashboard", "trust"}


def test_any_is_the_type_of_little():
    lines = [line for path in PACKAGE.rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(bool(re.search(r"\bAny\b", line)) for line in lines) < 60
