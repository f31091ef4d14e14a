"""What a run is made from, as digests: its YAMLs and all that they name, recordings, files; and whether it still is."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict
from unicodedata import normalize

import yaml

from cry_lightning.commands.configs import ENDINGS, Loader
from cry_lightning.console import UserError
from cry_lightning.files import Json, read_table, sha256

NOTE = "recordings"  # in the folder of a corpus's runs: where the recordings lie
NO_RUNS = ("describe", ".DS_Store")  # what is there where nothing was fitted
OF_RECORDINGS = ("root", "path", "clip_list", "folder", "annotations")  # keys that name a folder or a table


# What a run is made from, as digests; "stage before" has the same of that stage, less its configs.
Inputs = TypedDict(
    "Inputs",
    {
        "configs": dict[str, str],  # by path
        "recordings": str,
        "weights": str,
        "arguments": list[str],
        "files": dict[str, str],  # that arguments name
        "stage before": Json,
    },
)


def digest(*parts: str) -> str:
    """A short SHA-256 of some texts."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]


def of_file(path: Path) -> str:
    """The same of a file's content."""
    return sha256(path)[:16]


def of_configs(paths: Sequence[Path]) -> dict[str, str]:
    """Digests of YAMLs, and of those that they name, by path; comments and the order of keys do not count.

    Raises:
        UserError: one is not YAML.
    """
    return {
        str(path): digest(json.dumps(content, sort_keys=True, default=str))
        for path, content in _contents(paths).items()
    }


def of_recordings(paths: Sequence[Path]) -> str:
    """A digest that changes with any file of a folder, with a table or a file in it, and with what YAMLs name as such.

    Raises:
        UserError: a YAML is none.
    """
    lines: list[str] = []
    for path in paths:
        if path.suffix.lower() in ENDINGS:
            contents = _contents([path])
            lines += [f"{name} {json.dumps(content, default=str)}" for name, content in contents.items()]
            lines += [of_recordings([named]) for content in contents.values() for named in _named(content)]
        elif path.is_dir():
            lines += sorted(_files(path))
        elif path.suffix.lower() == ".csv" and path.is_file():
            lines += [of_file(path), *sorted(_in_table(path))]
        elif path.is_file():
            lines.append(_state(path))
    return digest(*lines) if lines else ""


def changed(made_from: Inputs, wanted: Inputs) -> list[str]:
    """Names of the inputs that differ, those of YAMLs by their paths."""
    found = [key for key, value in wanted.items() if key != "configs" and made_from.get(key) != value]
    before, now = made_from.get("configs", {}), wanted["configs"]
    return [*(path for path in {**before, **now} if before.get(path) != now.get(path)), *found]


def corpus_of(data: str, runs: Path, reserved: Sequence[str]) -> str:
    """A name for recordings, of which their folder in `runs` is named: two of them never share one.

    It is that of the file or folder, of a manifest.csv that of its folder; numbered where it is taken.

    Args:
        data: a folder, a table or a YAML.
        runs: the folder of all run folders, where the name is noted down.
        reserved: names that are taken anyway.

    Raises:
        UserError: there is no such file or folder.
    """
    path = Path(data).expanduser()
    if not os.path.exists(path):  # noqa: PTH110  that of Path may raise
        raise UserError(f"DATA={data}: no such file or folder")
    where = path.resolve()
    of = where.parent if where.name == "manifest.csv" else where
    stem = of.stem if of.is_file() else of.name
    name = re.sub(r"[^\w.-]+", "-", normalize("NFC", stem)).strip("-.") or "recordings"
    numbered = f"{name}-{digest(normalize('NFC', str(where)))[:6]}"
    name = numbered if _is_taken(runs / name, str(where)) or name in reserved else name
    note = runs / name / NOTE
    if not note.exists():
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{where}\n", encoding="utf-8", errors="surrogateescape")
    return name


def _is_taken(folder: Path, where: str) -> bool:
    """Whether a folder of runs is of other recordings than these, or of nobody knows which."""
    note = folder / NOTE
    if not note.exists():
        is_free = not folder.exists() or (folder.is_dir() and all(path.name in NO_RUNS for path in folder.iterdir()))
        return not is_free
    return note.read_text(encoding="utf-8", errors="surrogateescape").partition("\n")[0] != where


def _contents(paths: Sequence[Path]) -> dict[Path, object]:
    """What some YAMLs hold, and those that they name relative to themselves, at any depth."""
    found: dict[Path, object] = {}
    waiting = list(paths)
    while waiting:
        path = waiting.pop(0)
        if path in found:
            continue
        try:
            found[path] = yaml.load(path.read_text(encoding="utf-8"), Loader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not YAML ({' '.join(str(error).split())[:150]})") from error
        for _, text in _texts(found[path]):
            named = Path(os.path.normpath(path.parent / text))
            if text.endswith(ENDINGS) and named.is_file():
                waiting.append(named)
    return found


def _texts(content: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in nested dicts and lists, with the key that it stands under."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _texts(value, str(name)) if name != "cache" else ()  # which a run leaves behind
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value, key)
    elif isinstance(content, str):
        yield key, content


def _named(content: object) -> Iterator[Path]:
    """The recordings that a YAML names; the folder of all, as a placeholder, is none."""
    for key, text in _texts(content):
        path = Path(text).expanduser()
        is_one = key in OF_RECORDINGS and path.suffix.lower() not in ENDINGS and os.path.exists(path)  # noqa: PTH110
        if is_one and not Path.cwd().is_relative_to(path.resolve()):
            yield path


def _files(folder: Path) -> Iterator[str]:
    """The state of every file in a folder, those behind links too, without following a link in circles."""
    seen = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        state = Path(here).stat()
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        yield from (_state(Path(here, name)) for name in names)


def _in_table(path: Path) -> Iterator[str]:
    """The state of every file that a cell of a table names, those of its first line too, which may be no header."""
    first: list[str] = []

    def numbered(header: Sequence[str]) -> list[str]:
        first.extend(header)
        return [str(place) for place in range(len(header))]

    try:
        cells = {cell for _, row in read_table(path, numbered) for cell in row.values()}.union(first)
    except UserError:  # no table, which the fit may refuse
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        cells = {cell.strip(' "') for cell in re.split(r"[,;\t\n]", text)}
    for cell in cells - {""}:
        named = path.parent / cell.replace("\\", "/")
        if os.path.isfile(named):  # noqa: PTH113  that of Path raises at what is too long for a name
            yield _state(named)


def _state(path: Path) -> str:
    """Path, size and time of change of a file."""
    try:
        state = path.stat()
    except OSError:  # a link to nowhere
        return str(path)
    return f"{path} {state.st_size} {state.st_mtime_ns}"
