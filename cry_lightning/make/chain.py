"""The stages that `make` chains: what each is fitted on, from whose weights, and digests of what it is made from."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TypedDict

import yaml

from cry_lightning.commands.configs import ENDINGS, Loader
from cry_lightning.console import UserError
from cry_lightning.files import Json, nfc, read_table, safe_name, sha256

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
RUNS = Path("runs")
CONFIGS = Path("configs")
CRIES, WORDS = "synthetic-cries", "synthetic-words"
METHODS = ("simclr", "supervised", "adapt", "audioset")
# What a data YAML for fine-tuning lacks for adaptation: clips without labels are used too, in large batches.
UNLABELLED = (
    *("subset.unlabelled=true", "sampling.balanced=false", "sampling.drop_last=true", "sampling.min_batches=0"),
    *("fit=repeat", "sampling.batch_size=128"),
)
PUBLISHED = "mn04_as_mAP_432.pt"  # EfficientAT's network of width 0.4, trained on AudioSet
DATA = ("data", "data.corpus", "data.corpus.name", "data.corpus.init_args.name")
NAMED_BY_MAKE = ("name", "runs", "config", "overwrite", "ckpt_path", *DATA)
WEIGHTS = ("model.weights", "model.init_args.weights")


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
    name = safe_name(stem)
    numbered = f"{name}-{digest(nfc(str(where)))[:6]}"
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


@dataclass(frozen=True)
class MakeStage:
    """One stage: what is fitted on what, beginning with whose weights; and what each is made from, as digests."""

    corpus: str
    name: str
    config: Path
    data: tuple[Path, ...] = ()  # a data YAML or recordings in place of the config's
    arguments: tuple[str, ...] = ()
    before: "MakeStage | None" = None

    def inputs(self, weights: Path | None) -> Inputs:
        """Digests of all that its checkpoint depends on; `weights` is what it begins with."""
        given = [Path(text) for _, text in pairs(self.arguments) if text and len(text) < 1000 and Path(text).is_file()]
        yamls = [path for path in (self.config, *self.data, *given) if path.suffix.lower() in ENDINGS]
        before = self.before.inputs(None) if self.before else None
        return {
            "configs": {**(before["configs"] if before else {}), **of_configs(yamls)},
            "recordings": of_recordings(self.data or [self.config]),
            "weights": of_file(weights) if weights and weights.is_file() else "",
            "arguments": list(self.arguments),
            "files": {str(path): of_file(path) for path in given if path not in yamls},
            "stage before": {key: value for key, value in (before or {}).items() if key != "configs"},
        }

    def folders(self) -> Iterator[Path]:
        """The folders that its runs may be in: by its name, then numbered."""
        yield RUNS / self.corpus / self.name
        yield from (RUNS / self.corpus / f"{self.name}-{number}" for number in count(2))


@dataclass(frozen=True)
class MakeChain:
    """The stages under the user's choices."""

    method: str
    data: str  # "" for made cries
    arguments: tuple[str, ...] = ()
    overwrite: bool = False
    published: Path = Path(PUBLISHED)  # weights for the method audioset

    def __post_init__(self) -> None:
        for key, _ in pairs(self.arguments):
            if key in NAMED_BY_MAKE:
                raise UserError(f"ARGS: --{key}: make gives that itself, by DATA, METHOD, ARGS and OVERWRITE")
        _ = self.corpus

    @cached_property
    def corpus(self) -> str:
        """Name of the data, of which the folder in runs/ is named."""
        return corpus_of(self.data, RUNS, (CRIES, WORDS)) if self.data else CRIES

    @property
    def simclr(self) -> MakeStage:
        """Pretraining without labels."""
        return MakeStage(WORDS, "simclr", CONFIGS / "simclr.yaml")

    @property
    def pretrain(self) -> MakeStage:
        """Pretraining by the method."""
        return MakeStage(WORDS, "pretrain", CONFIGS / "pretrain.yaml") if self.method == "supervised" else self.simclr

    @property
    def adapt(self) -> MakeStage:
        """Adaptation to the cries; the split of the test must hold here too, or it would be trained on them."""
        keys = ("data.split", "data.split.", "data.corpus.")
        divided = tuple(
            f"--{key}={value}" for key, value in pairs(self.arguments) if key == keys[0] or key.startswith(keys[1:])
        )
        own = (*self._data_arguments(), *(f"--data.{given}" for given in UNLABELLED)) if self.data else ()
        name = "-".join(["adapt", *_short(divided)])
        return MakeStage(self.corpus, name, CONFIGS / "adapt.yaml", self._data(), (*own, *divided), self.simclr)

    @property
    def finetune(self) -> MakeStage:
        """Fine-tuning on labelled cries."""
        if self.method == "audioset":
            name = "-".join(["finetune-audioset", *_short(self.arguments)])
            arguments = (f"--model.init_args.weights={imported(self.published)}", *self.arguments)
            config = CONFIGS / "finetune_audioset.yaml"
            return MakeStage(self.corpus, name, config, self._data(), (*self._data_arguments(), *arguments))
        before = self.adapt if self.method == "adapt" else self.pretrain
        own_weights = any(key in WEIGHTS for key, _ in pairs(self.arguments))
        method = [] if self.method == "simclr" else [self.method]
        name = "-".join(["finetune", *method, *_short(self.arguments)])
        arguments = (*self._data_arguments(), *self.arguments)
        return MakeStage(
            self.corpus, name, CONFIGS / "finetune.yaml", self._data(), arguments, None if own_weights else before
        )

    def _data(self) -> tuple[Path, ...]:
        if not self.data:
            return ()
        given = Path(self.data).expanduser()
        own = "data/own_32k.yaml" if self.method == "audioset" else "data/own.yaml"
        return (given,) if given.suffix.lower() in ENDINGS else (CONFIGS / own, given)

    def _data_arguments(self) -> tuple[str, ...]:
        if not self.data:
            return ()
        data_yaml, *recordings = self._data()
        where = [f"--data.corpus.init_args.path={_as_path(path)}" for path in recordings]
        if self.method == "audioset":  # a YAML of the user's may be for another network
            where.append(f"--data.feature={CONFIGS / 'feature/efficientat_32k.yaml'}")
        return (f"--data={_as_path(data_yaml)}", f"--data.corpus.init_args.name={self.corpus}", *where)


def imported(published: Path) -> Path:
    """The checkpoint that published weights are imported into."""
    return RUNS / "audioset" / published.stem / "best.ckpt"


def pairs(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Keys and values of arguments, `--key=value` or `--key value`."""
    found: list[tuple[str, str]] = []
    for word in arguments:
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            found.append((key, value))
        elif found and not found[-1][1]:
            found[-1] = (found[-1][0], word)
    return found


def _short(arguments: tuple[str, ...]) -> list[str]:
    return [digest(*arguments)[:6]] if arguments else []


def _as_path(path: Path) -> str:
    """A path that no parser takes for an option, a number or nothing."""
    return str(path) if len(path.parts) > 1 else f"./{path}"
