"""The stages that `make` chains: what each is fitted on, and from whose weights."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path

from cry_lightning.commands.configs import ENDINGS
from cry_lightning.console import UserError
from cry_lightning.files import nfc, safe_name
from cry_lightning.make.digests import Inputs, digest, of_configs, of_file, of_recordings, of_sounds, own_packages

NOTE = "recordings"  # in the folder of a corpus's runs: where the recordings lie
NO_RUNS = ("describe", ".DS_Store")  # what is there where nothing was fitted
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
WHERE = ("data", "data.corpus.init_args.path")
WEIGHTS = ("model.weights", "model.init_args.weights")


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
    return numbered if _is_taken(runs / name, str(where)) or name in reserved else name


def note_down(data: str, folder: Path) -> None:
    """Write into a folder of runs where their recordings lie."""
    if not (note := folder / NOTE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{Path(data).expanduser().resolve()}\n", encoding="utf-8", errors="surrogateescape")


def _is_taken(folder: Path, where: str) -> bool:
    """Whether a folder of runs is of other recordings than these, or of nobody knows which."""
    note = folder / NOTE
    if not note.exists():
        is_free = not folder.exists() or (folder.is_dir() and all(path.name in NO_RUNS for path in folder.iterdir()))
        return not is_free
    return note.read_text(encoding="utf-8", errors="surrogateescape").partition("\n")[0] != where


def as_it_is_called(path: Path) -> Path:
    """One spelling for all that lead to the same place: below this folder, or else from the root."""
    here, place = Path.cwd(), Path(os.path.realpath(path.expanduser()))
    for spelling in (place, Path(os.path.normpath(here / path.expanduser()))):
        if spelling.is_relative_to(here) and Path(os.path.realpath(spelling)) == place:
            return spelling.relative_to(here)
    return place


@dataclass(frozen=True)
class MakeStage:
    """One stage: what is fitted on what, beginning with whose weights; and what each is made from, as digests."""

    corpus: str
    name: str
    config: Path
    data: tuple[Path, ...] = ()  # a data YAML or recordings in place of the config's
    arguments: tuple[str, ...] = ()
    before: "MakeStage | None" = None

    @property
    def given(self) -> list[Path]:
        """Files that arguments name."""
        return [Path(text) for _, text in pairs(self.arguments) if text and len(text) < 1000 and Path(text).is_file()]

    @property
    def yamls(self) -> list[Path]:
        """The configs that it is put together of."""
        return [path for path in (self.config, *self.data, *self.given) if path.suffix.lower() in ENDINGS]

    @property
    def trust(self) -> list[str]:
        """Arguments by which its run's config may name what the user's own configs do, and whom ARGS trust."""
        stated = [value for key, value in pairs(self.arguments) if key == "trust"]
        return [f"--trust={package}" for package in dict.fromkeys([*own_packages(self.yamls), *stated])]

    def inputs(self, weights: Path | None) -> Inputs:
        """Digests of all that its checkpoint depends on; `weights` is what it begins with."""
        given, yamls = self.given, self.yamls
        before = self.before.inputs(None) if self.before else None
        return {
            "configs": (before["configs"] if before else {}) | of_configs(yamls),
            "recordings": of_recordings(self.data or [self.config]),
            "sounds": of_sounds(self.data or [self.config]),
            "weights": of_file(weights) if weights and weights.is_file() else "",
            "arguments": list(self.arguments),
            "files": {str(path): of_file(path) for path in given if path not in yamls},
            "stage before": {key: value for key, value in (before or {}).items() if key != "configs"},
        }

    def as_recorded(self, made_from: Inputs) -> "MakeStage":
        """The same stage with its data spelt as in a record of an older release, where it is the same."""
        mine = self.data[-1] if self.data else None
        for key, text in pairs(made_from["arguments"]):
            if mine and key in WHERE and Path(text) != mine and as_it_is_called(Path(text)) == mine:
                return self._spelt(mine, Path(text))
        return self

    def _spelt(self, now: Path, then: Path) -> "MakeStage":
        respelt = {f"--{key}={_as_path(now)}": f"--{key}={_as_path(then)}" for key in WHERE}
        return replace(
            self,
            data=tuple(then if path == now else path for path in self.data),
            arguments=tuple(respelt.get(argument, argument) for argument in self.arguments),
            before=self.before and self.before._spelt(now, then),
        )

    def folders(self) -> Iterator[Path]:
        """The folders that its runs may be in: by its name, then numbered."""
        yield RUNS / self.corpus / self.name
        yield from (RUNS / self.corpus / f"{self.name}-{number}" for number in count(2))


@dataclass(frozen=True)
class MakeChain:
    """The stages under the user's choices."""

    method: str
    data: str  # "" for synthetic cries
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
        given = as_it_is_called(Path(self.data))
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
