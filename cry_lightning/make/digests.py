"""What a run is made from, as digests: configs, recordings, weights; and whose classes its configs name."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import yaml

from cry_lightning.commands.configs import ENDINGS, Loader
from cry_lightning.console import UserError
from cry_lightning.files import Json, read_table, sha256

OF_RECORDINGS = ("root", "path", "clip_list", "folder", "annotations")  # keys that name a folder or a table
CACHE = Path("cache")
TABLES = (".csv", ".textgrid")
NOT_THERE = ("is ", os.strerror(errno.ENOENT))  # of a named pipe and the like, of a link to nowhere
# What a run is made from, as digests; "stage before" has the same of that stage, less its configs.
Inputs = TypedDict(
    "Inputs",
    {
        "configs": dict[str, str],  # by path
        "recordings": str,
        "sounds": str,
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


def own_packages(paths: Sequence[Path]) -> list[str]:
    """Packages whose classes YAMLs of the user's name, and `fit` imports; what a run has left is no such YAML."""
    from cry_lightning.trust.configs import is_of_run  # takes as long as all else here
    from cry_lightning.trust.names import Trust

    contents = (content for path, content in _contents(paths).items() if not is_of_run(path))
    named = [text for content in contents for key, text in _texts(content) if key == "class_path"]
    packages = {text.partition(".")[0] for text in named if not Trust().holds(text)}
    return sorted(packages - {"torch", "lightning"})  # of which a run's config may name what it needs


def of_recordings(
    paths: Sequence[Path], state_of: Callable[[Path], str] | None = None, among: Callable[[Path], bool] | None = None
) -> str:
    """A digest that changes with any file of a folder, with a table or a file in it, and with what YAMLs name as such.

    Args:
        paths: folders, tables, YAMLs or recordings.
        state_of: what is known of a file; its path, size and time of change.
        among: which files of a folder count; all.

    Raises:
        UserError: a YAML is none.
    """
    state_of = state_of or _state
    lines: list[str] = []
    for path in paths:
        if path.suffix.lower() in ENDINGS:
            contents = _contents([path])
            lines += [f"{name} {json.dumps(content, default=str)}" for name, content in contents.items()]
            named = [path for content in contents.values() for path in _named(content)]
            lines += [of_recordings([one], state_of, among) for one in named]
        elif path.is_dir():
            lines += sorted(map(state_of, filter(among, _files(path))))
        elif path.suffix.lower() == ".csv" and path.is_file():
            lines += [of_file(path), *sorted(map(state_of, _in_table(path)))]
        elif path.is_file():
            lines.append(state_of(path))
    return digest(*lines) if lines else ""


def of_sounds(paths: Sequence[Path]) -> str:
    """A digest of what is in all these recordings and tables, which others of the same size and time do not have.

    As a fit, it reads only those that are new to the index of the caches.

    Raises:
        UserError: a file cannot be read, perhaps for a moment only, after which it would be another.
    """
    files: list[Path] = []

    def note(path: Path) -> str:
        files.append(path)
        return ""

    def among(path: Path) -> bool:
        from cry_lightning.audio import EXTENSIONS  # brings its decoders

        return path.suffix.lower() in (*EXTENSIONS, *TABLES)

    manifests = [path / "manifest.csv" for path in paths if path.is_dir()]  # which may name files of other endings
    of_recordings([*paths, *manifests], note, among)
    if not files:
        return ""
    from cry_lightning.data.inventory import content_hashes  # brings pandas

    found = content_hashes([*dict.fromkeys(files)], CACHE)
    for path, content in found.items():
        reason = content.removeprefix("unreadable:")
        if reason != content and not reason.startswith(NOT_THERE):
            raise UserError(f"{path}: cannot be read ({reason}); give the same command again, or take it away")
    return digest(*sorted(f"{path} {content}" for path, content in found.items()))


def changed(made_from: Inputs, wanted: Inputs) -> list[str]:
    """Names of the inputs that differ, those of YAMLs by their paths."""
    found = [key for key in wanted if key != "configs" and not _is_same(key, made_from, wanted)]
    found = [key for key in found if key != "sounds" or "recordings" not in found]
    before, now = made_from.get("configs", {}), wanted["configs"]
    return [*(path for path in {**before, **now} if before.get(path) != now.get(path)), *found]


def _is_same(key: str, made_from: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    """Whether an input is as it was, as far as is known: records of older releases have no `sounds`."""
    before, now = made_from.get(key), wanted[key]
    if isinstance(before, dict) and isinstance(now, dict) and key == "stage before":
        return before.keys() <= now.keys() and all(_is_same(inner, before, now) for inner in now)
    return before == now or (key == "sounds" and key not in made_from)


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


def _files(folder: Path) -> Iterator[Path]:
    """Every file in a folder, those behind links too, without following a link in circles."""
    seen = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        state = Path(here).stat()
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        yield from (Path(here, name) for name in names)


def _in_table(path: Path) -> Iterator[Path]:
    """Every file that a cell of a table names, those of its first line too, which may be no header."""
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
            yield named


def _state(path: Path) -> str:
    """Path, size and time of change of a file."""
    try:
        state = path.stat()
    except OSError:  # a link to nowhere
        return str(path)
    return f"{path} {state.st_size} {state.st_mtime_ns}"
