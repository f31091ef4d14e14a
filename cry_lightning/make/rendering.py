"""Synthetic corpora, rendered by a process of their own while the first stage imports what it trains with."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cry_lightning.commands.configs import read_config
from cry_lightning.make.chain import MakeStage, pairs

CORPORA = "cry_lightning.corpora."
FOLDER = Path("cache/synthetic")  # where they are rendered if nothing else is stated
RENDER = f"""
import json, sys
from {CORPORA.strip(".")} import synthetic
for name, arguments in json.loads(sys.argv[1]):
    getattr(synthetic, name)(**arguments).prepare()
"""


@contextmanager
def rendered_meanwhile(stages: Iterable[MakeStage]) -> Iterator[None]:
    """Have the synthetic corpora of stages rendered where none is yet; who needs one first waits for its lock."""
    corpora = [] if FOLDER.exists() else [found for stage in stages for found in _corpora_of(stage)]
    if not corpora:
        yield
        return
    # What goes wrong there is found again, and reported, by the stage itself.
    process = subprocess.Popen(
        [sys.executable, "-c", RENDER, json.dumps(corpora)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _corpora_of(stage: MakeStage) -> list[tuple[str, object]]:
    """Names and arguments of the synthetic corpora that its config names, unless its arguments choose other data."""
    if stage.data or any(key.startswith("data") for key, _ in pairs(stage.arguments)):
        return []
    return list(_synthetic(read_config(str(stage.config), "config")))


def _synthetic(content: object) -> Iterator[tuple[str, object]]:
    if not isinstance(content, dict):
        return
    name = content.get("class_path")
    if isinstance(name, str) and name.startswith(f"{CORPORA}Synthetic"):
        yield name.removeprefix(CORPORA), content.get("init_args") or {}
    for value in content.values():
        yield from _synthetic(value)
