"""What was run: stages and data as lineage.json has them, settings as config.yaml has them, how to run it again."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from shlex import quote

from cry_lightning.commands.configs import OF_RUN
from cry_lightning.console import counted
from cry_lightning.evaluation.fusion import FUSED, FUSION
from cry_lightning.evaluation.predictions import SOURCE
from cry_lightning.evaluation.run import Run
from cry_lightning.files import Json, read_object_if_any, sha256
from cry_lightning.lineage import FoldedLineage, Lineage, StageRecord
from cry_lightning.lineage.spelling import joined
from cry_lightning.report import origin

PACKAGES = ("cry_lightning", "torch", "torchaudio", "lightning", "numpy", "scipy", "pandas", "matplotlib")
# What a reader asks of a run -> where its config has it.
SETTINGS = {
    "corpus": "data.corpus",
    "front end": "data.feature",
    "clip length (s)": "data.clip_s",
    "division": "data.split",
    "classes drawn equally often": "data.sampling.balanced",
    "weights of classes in the loss": "data.sampling.class_weights",
    "share of the labels used": "data.subset.label_fraction",
    "task": "model.class_path",
    "network": "model.init_args.encoder",
    "starts from": "model.init_args.weights",
    "network frozen": "model.init_args.frozen",
    "loss": "model.init_args.loss",
    "optimizer": "model.init_args.optimisation.optimizer",
    "schedule": "model.init_args.optimisation.scheduler",
    "augmentation of waveforms": "model.init_args.augment_waveform",
    "augmentation of features": "model.init_args.augment",
    "normalisation": "model.init_args.normalize",
    "epochs at most": "trainer.max_epochs",
    "checkpoint chosen by": "checkpoint.monitor",
    "seed": "seed_everything",
}
LONGEST, MOST, DEEPEST = 300, 20, 4  # characters of a setting, parts of it that are shown, and levels of them


@dataclass(frozen=True)
class Box:
    """One box of the diagram: a stage, or the test."""

    kind: str  # stage, unknown or test
    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Provenance:
    """What is known of how a run came about; nothing is taken on trust but for being shown."""

    run: Run

    @cached_property
    def config(self) -> Mapping[str, object]:
        """The run's config.yaml; empty where it has none that can be read."""
        return origin.config_in(self.run.folder)

    @cached_property
    def recipe(self) -> Mapping[str, object]:
        """What the tested models were trained by: its own config, that of its folds, or that beside its checkpoint."""
        if found := self.config or origin.of_folds(self.cross_validation):
            return found
        return origin.of_checkpoint(self.run.folder, self.models[0]) if len(self.models) == 1 else {}

    @cached_property
    def cross_validation(self) -> Json:
        """What was cross-validated; empty where nothing was."""
        return read_object_if_any(self.run.folder / origin.CROSS_VALIDATION)

    @cached_property
    def fusion(self) -> Json:
        """What was fused, and how; empty where nothing was."""
        return read_object_if_any(self.run.folder / FUSION)

    @property
    def tested_on(self) -> str:
        """The corpus of the test, where the folder tells; tests lie in runs/CORPUS/STAGE, and are of a known stage."""
        if not self.stages:
            return ""
        last, folder = self.stages[-1][0], self.run.folder.resolve()
        if self.cross_validation or folder.parent.name == last.corpus:
            return last.corpus
        return folder.parent.name if folder.name == last.stage else ""

    def setting(self, name: str) -> str:
        """One of `SETTINGS` in words; empty where it is not known, or nothing."""
        return _in_words(_at(self.recipe, SETTINGS[name]))

    @property
    def settings(self) -> dict[str, str]:
        """All that are known."""
        return {name: text for name in SETTINGS if (text := self.setting(name))}

    @cached_property
    def models(self) -> Sequence[Lineage]:
        """The lineage of each model that was tested; none where nothing is known."""
        known = self.run.lineage
        if isinstance(known, FoldedLineage):
            return list(known.folds.values())
        return [known] if known is not None and known.stages else []

    @property
    def checkpoint(self) -> str:
        """SHA-256 of the checkpoint that was tested; empty where there are several, or it is not known."""
        return self.models[0].checkpoint if len(self.models) == 1 else ""

    @property
    def table(self) -> str:
        """SHA-256 of the predictions; empty where they are several tables."""
        given = Path(self.run.name)
        path = given if given.is_file() else self.run.folder / "predictions.csv"
        return sha256(path) if path.is_file() else ""

    @property
    def boxes(self) -> list[Box]:
        """The stages that the tested model rests on, oldest first, and the test."""
        known = bool(self.models) and all(model.complete for model in self.models)
        start = [] if known else [Box("unknown", "not known", ["training data that no lineage lists"])]
        return [*start, *(Box("stage", *_of_stage(stages)) for stages in self.stages), self._test()]

    @property
    def stages(self) -> list[Sequence[StageRecord]]:
        """Each stage, once for each model that was tested."""
        longest = max((len(model.stages) for model in self.models), default=0)
        return [[model.stages[n] for model in self.models if n < len(model.stages)] for n in range(longest)]

    def _test(self) -> Box:
        table = self.run.table
        known = joined(table)[table[SOURCE] != "unknown"].nunique()
        others = f"subjects of {counted(self.run.n_unknown, 'clip')} not known" if known else "subjects not known"
        subjects = ", ".join([counted(known, "subject")] * bool(known) + [others] * bool(self.run.n_unknown))
        split = "validation rows" if table["split"].iloc[0] == "val" else "test rows"
        clips, recordings = (counted(table[kind].nunique(), kind) for kind in ("clip", "recording"))
        counts = f"{clips} of {recordings}, {subjects}"
        models = f"{len(self.models):,} models, one for each fold" if len(self.models) > 1 else ""
        checkpoint = f"checkpoint {self.checkpoint[:12]}" if self.checkpoint else models or "checkpoint not known"
        return Box("test", "test", [f"{split}: {counts}", checkpoint, self.run.leakage.status])

    @property
    def commands(self) -> list[str]:
        """What trains and tests the run, as far as its config.yaml says."""
        if not self.config:
            return []
        path, found = self.run.folder / OF_RUN, []
        weights = _at(self.config, SETTINGS["starts from"])
        if isinstance(weights, str) and weights:
            upstream = Path(weights).with_name(OF_RUN)
            if upstream.is_file():
                found.append(f"python -m cry_lightning fit --config {quote(str(upstream))} --overwrite=true")
            else:
                found.append(f"# weights that come from elsewhere: {quote(weights)}")
        found.append(f"python -m cry_lightning fit --config {quote(str(path))} --overwrite=true")
        return [*found, f"python -m cry_lightning test --config {quote(str(path))}"]


def evaluation_command(runs: Sequence[Run]) -> str:
    """The command that reports on these runs, each a run of its own."""
    return f"python -m cry_lightning evaluate {' '.join(quote(run.name) for run in runs)}"


@cache
def versions() -> dict[str, str]:
    """Of this package, of Python and of the libraries that numbers depend on, where they are installed."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def named(stages: Sequence[StageRecord]) -> str:
    """What a stage is called, which may be another name in each of several models."""
    first, *others = dict.fromkeys(stage.stage for stage in stages)
    return first + f" and {len(others)} more" * bool(others)


def _of_stage(stages: Sequence[StageRecord]) -> tuple[str, list[str]]:
    """Title and lines of a stage, of each model once."""
    first, lines = stages[0], []
    if any(stage.clips for stage in stages):
        lines.append(f"trained on {_count(stages, 'clips', 'clip')} of {_count(stages, 'subjects', 'subject')}")
    lines += _chosen(stages)
    if any(stage.noise for stage in stages):
        lines.append(f"noise of {_count(stages, 'noise', 'recording')} added")
    return f"{named(stages)}, {first.corpus}", lines


def _chosen(stages: Sequence[StageRecord]) -> list[str]:
    """On what a stage's checkpoint was chosen, or what may have chosen it, where that is not recorded."""
    known = [stage.chosen_on for stage in stages if stage.chosen_on is not None]
    if len(known) == len(stages):
        of_clips, of_subjects = ([counts.get(what, 0) for counts in known] for what in ("clips", "subjects"))
        if not any(of_clips):
            return ["no checkpoint chosen: the last weights"]
        probe = f" of {stages[0].probed_on}, by a probe" if stages[0].probed_on else ""
        return [f"checkpoint chosen on {_range(of_clips, 'clip')} of {_range(of_subjects, 'subject')}{probe}"]
    if not any(stage.validation_clips for stage in stages):
        return []
    clips, subjects = _count(stages, "validation_clips", "clip"), _count(stages, "validation_subjects", "subject")
    what = "weights or temperatures of the members" if stages[0].stage.startswith(FUSED) else "checkpoint"
    return [f"{what} chosen on {clips} of {subjects}"]


def _count(stages: Sequence[StageRecord], what: str, called: str) -> str:
    """How many of these a stage has."""
    return _range([len(getattr(stage, what)) for stage in stages], called)


def _range(counts: Sequence[int], called: str) -> str:
    """How many they are; of several models, the lowest and the highest number."""
    return f"{min(counts):,} to " * (min(counts) < max(counts)) + counted(max(counts), called)


def _at(config: object, dotted: str) -> object:
    """What stands at a key of nested tables; nothing where there is no such key."""
    for key in dotted.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _in_words(value: object, depth: int = 0) -> str:
    """A setting: a class as Name(argument=value, ...), without arguments that are not set, and not for ever."""
    if value is None or value is False:
        return ""
    if depth > DEEPEST:  # a config may come from anybody, and refer to a part of it again and again
        return "..."
    if isinstance(value, dict) and "class_path" in value:
        arguments = [given for key in ("init_args", "dict_kwargs") if isinstance(given := value.get(key), dict)]
        given = {name: one for some in arguments for name, one in some.items()}
        text = f"{str(value['class_path']).rpartition('.')[2]}({_in_words(given, depth + 1)})"
    elif isinstance(value, dict):
        parts = ((key, _in_words(one, depth + 1)) for key, one in islice(value.items(), MOST))
        text = ", ".join(f"{key}={one}" for key, one in parts if one)
    elif isinstance(value, list):
        text = f"[{', '.join(_in_words(one, depth + 1) or str(one) for one in value[:MOST])}]"
    else:
        text = "yes" if value is True else str(value)
        text = Path(text).name if Path(text).is_absolute() else text  # reports are shown to others
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
