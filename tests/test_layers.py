"""Who imports whom: the rooms of the house keep to their doors."""

import ast
import re
from pathlib import Path

import pytest

import cry_lightning

PACKAGE = Path(cry_lightning.__file__).parent
FREE = {  # for every room
    *("acoustic_fingerprint", "annotations", "arguments", "console", "contents", "former_names"),
    *("drawing", "files", "lineage", "spelling"),
}
MAY_IMPORT = {
    "annotations": set(),
    "audio": set(),
    "features": {"from_torchaudio"},
    "encoders": set(),
    "evaluation": set(),
    "drawing": set(),
    "report": {"audio", "dashboard", "data", "evaluation"},
    "corpora": {"published", "audio", "from_torchaudio"},
    "data": {"audio", "corpora", "features"},
    "stage_data": {"corpora", "features"},
    "tasks": {"encoders", "stage_data", "trust"},
    "callbacks": {"dashboard", "evaluation", "stage_data"},
    "dashboard": {"evaluation"},
    "cli": {
        "data",
        "tasks",
        "callbacks",
        "dashboard",
        "reference",
        "report",
        "runfolder",
        "messages",
        "precision",
        "trust",
    },
    "precision": set(),
    "reference": {"data", "evaluation", "tasks"},
    "runfolder": {"precision"},
    "messages": {"commands", "trust"},
    "trust": set(),
    "prepare": {"cli", "data"},
    "acquire": {"audio", "corpora", "evaluation"},
    "evaluate_events": {"corpora", "evaluation"},
    "verify": {"evaluation", "inference"},
    "picture": {"cli", "corpora", "data", "evaluation", "inference", "studies", "trust"},
    "data_argument": {"data", "messages", "trust"},
    "describe": {"audio", "corpora", "data", "data_argument", "evaluation", "features", "messages"},
    "inference": {
        "acquire",
        "audio",
        "corpora",
        "data",
        "data_argument",
        "evaluation",
        "features",
        "messages",
        "reference",
        "tasks",
        "trust",
    },
    "export": {"audio", "evaluation", "inference", "reference", "tasks", "trust"},
    "serving": {"audio", "export", "features", "inference", "reference", "tasks"},
    "studies": {
        "audio",
        "commands",
        "cli",
        "corpora",
        "dashboard",
        "data",
        "encoders",
        "evaluation",
        "inference",
        "messages",
        "report",
        "runfolder",
        "tasks",
        "trust",
    },
    "import_weights": {"encoders", "features", "tasks"},
    "weights": {"published", "corpora", "import_weights"},
    "commands": {"trust"},
    "published": set(),
    "from_torchaudio": set(),
    "arguments": set(),
    "make": {"commands"},
    "acoustic_fingerprint": set(),
    "console": set(),
    "contents": set(),
    "former_names": set(),
    "files": set(),
    "lineage": set(),
    "spelling": set(),
}
NO_TORCH = {
    "acquire",
    "published",
    "audio",
    "commands",
    "corpora",
    "dashboard",
    "evaluation",
    "evaluate_events",
    "from_torchaudio",
    "make",
    "report",
    "trust",
    *FREE,
}
OF_ALL = ("__init__", "__main__", "api")  # import the commands, each when it is called


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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


FILES = sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) not in OF_ALL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_room_imports_only_what_it_may(path):
    room = room_of(path)
    modules = imported_modules(path)
    rooms = {m.split(".")[1] for m in modules if m.startswith("cry_lightning.")}
    assert rooms - {room} - FREE <= MAY_IMPORT[room]
    if room in NO_TORCH:
        modules = imported_modules(path, for_types=False)
        assert not {m for m in modules if m.split(".")[0] in ("torch", "lightning", "torchaudio")}


def test_only_the_dashboard_and_those_who_feed_it_know_wandb():
    knowing = {room_of(path) for path in FILES if "wandb" in path.read_text(encoding="utf-8").lower()}
    assert knowing <= {"callbacks", "cli", "dashboard"}


def test_any_is_the_type_of_little():
    lines = [line for path in PACKAGE.rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(bool(re.search(r"\bAny\b", line)) for line in lines) < 60
