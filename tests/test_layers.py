"""Who imports whom: the rooms of the house keep to their doors."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cry_lightning

PACKAGE = Path(cry_lightning.__file__).parent
FREE = {"errors", "arguments", "progress"}  # every room may tell a user's mistake, and how far it is
MAY_IMPORT = {
    "audio": set(),
    "features": set(),
    "encoders": set(),
    "evaluation": set(),
    "corpora": {"audio"},
    "data": {"audio", "corpora", "features"},
    "tasks": {"encoders"},
    "callbacks": {"evaluation"},
    "cli": {"data", "tasks", "callbacks", "runfolder", "messages"},
    "runfolder": set(),
    "messages": set(),
    "prepare": {"cli", "data"},
    "studies": {"cli", "data", "evaluation", "runfolder", "tasks"},
    "cross_validation": {"data", "evaluation", "studies"},
    "papers": {"cli", "cross_validation", "evaluation", "messages", "studies"},
    "acquire": {"audio", "corpora", "evaluation"},
    "picture": {"cli", "corpora", "data", "evaluation", "inference", "studies"},
    "architectures": {"cross_validation", "encoders", "evaluation", "messages", "studies"},
    "robustness": {"corpora", "evaluation", "inference", "tasks"},
    "data_argument": {"data", "messages"},
    "describe": {"audio", "corpora", "data", "data_argument", "evaluation", "features", "messages"},
    "inference": {"audio", "corpora", "data", "data_argument", "evaluation", "features", "messages", "tasks"},
    "tune": {"evaluation", "messages", "runfolder", "studies", "tasks"},
    "label_efficiency": {"evaluation", "studies", "tasks"},
    "import_weights": {"encoders", "features", "tasks"},
    "arguments": set(),
    "progress": set(),
    "errors": set(),
}
NO_TORCH = {"acquire", "audio", "corpora", "evaluation", "errors", "arguments", "progress"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


FILES = sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) not in ("__init__", "__main__"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_room_imports_only_what_it_may(path):
    room = room_of(path)
    modules = imported_modules(path)
    rooms = {m.split(".")[1] for m in modules if m.startswith("cry_lightning.")}
    assert rooms - {room} - FREE <= MAY_IMPORT[room]
    if room in NO_TORCH and path.name != "speech_commands.py":  # torchaudio knows that corpus's lists
        assert not {m for m in modules if m.split(".")[0] in ("torch", "lightning", "torchaudio")}


WITHOUT_TORCH = """
import sys
from cry_lightning.__main__ import main
for line in sys.argv[1:]:
    try:
        main(line.split())
    except SystemExit:
        pass
    assert not {"torch", "lightning"} & set(sys.modules), line
"""


def test_help_and_mistakes_that_need_no_torch_do_not_wait_for_it():
    commands = ("acquire", "download", "evaluate", "fuse", "prepare")
    lines = [f"{command} {argument}" for command in commands for argument in ("--help", "--nonsense")]
    lines += ["evaluate nowhere", "fuse nowhere elsewhere --out new", "acquire nowhere new"]
    lines += ["fit --config=nowhere.yaml", "cross-validate --config nowhere.yaml --folds 3"]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_only_callbacks_and_cli_know_wandb():
    knowing = {room_of(path) for path in FILES if "wandb" in path.read_text(encoding="utf-8").lower()}
    assert knowing <= {"callbacks", "cli"}
