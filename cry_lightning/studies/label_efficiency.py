"""`label-efficiency`: one stage with few and more labels, from several encoders."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import pandas as pd

from cry_lightning.cli.runfolder import BEST, LAST
from cry_lightning.commands.arguments import as_arguments
from cry_lightning.commands.stage import check_overrides
from cry_lightning.console import UserError
from cry_lightning.dashboard.runs import begin_study
from cry_lightning.evaluation.run import Tested, read_run
from cry_lightning.files import Json
from cry_lightning.lineage import refuse_leaky
from cry_lightning.studies import engine, label_curves
from cry_lightning.studies.cross_validation import (
    WITHOUT_LAST,
    Chain,
    adapt,
    open_chain,
    read_chain,
    starting_from,
    train_once,
)
from cry_lightning.studies.engine import WITHOUT_BARS, StageConfig, Stages, Study, is_finished
from cry_lightning.studies.label_curves import SCRATCH
from cry_lightning.studies.recipe import Changes, Labels
from cry_lightning.studies.rounds import divided
from cry_lightning.tasks.checkpoints import sha256

WEIGHTS = "model.init_args.weights"
FOLD = "{fold}"  # in a checkpoint's path: an encoder that was not trained on the fold's test subjects
CountedBy = Literal["label_fraction", "per_class"]
# Whatever the YAML says, one of them limits the labels.
NO_LIMIT: Json = {"data.subset.label_fraction": 1.0, "data.subset.per_class": None}
OWN = re.compile(r"--(model|trainer)\.[\w.]+=")  # arguments in which encoders may differ
COMMON = {
    **NO_LIMIT,
    "trainer.limit_val_batches": 0,  # labels that choose a checkpoint would be labels that nobody counts
    "checkpoint.save_top_k": 0,
    "trainer.logger": None,
    **WITHOUT_BARS,
}


@dataclass(frozen=True)
class Trial:
    """One training: an encoder on an amount of labels, under one seed, in one fold."""

    encoder: str
    weights: str | None  # checkpoint; None: from scratch
    counted_by: CountedBy
    amount: float
    seed: int
    fold: int | None  # None: the one that the config names
    own: tuple[str, ...] = ()  # arguments of this encoder alone

    @property
    def name(self) -> str:
        """Name of its run folder."""
        fold = "" if self.fold is None else f"-fold{self.fold}"
        return f"{self.encoder}-{self.counted_by}{self.amount}-seed{self.seed}{fold}"

    @property
    def subset(self) -> tuple[float, int, int | None]:
        """What decides which clips it trains on; the encoder does not."""
        return self.amount, self.seed, self.fold

    @property
    def changes(self) -> list[str]:
        """What sets it apart from the other points, as `fit` takes it."""
        seeds: Json = {"data.seed": self.seed, "seed_everything": self.seed}
        fold = {} if self.fold is None else {"data.split.fold": self.fold}
        limits = NO_LIMIT | {f"data.subset.{self.counted_by}": self.amount}
        return [*as_arguments(limits | seeds | {WEIGHTS: self.weights} | fold), *self.own]


def points(
    encoders: Sequence[str],
    counted_by: CountedBy,
    amounts: Sequence[float],
    seeds: Sequence[int],
    folds: Sequence[int | None],
    own: Sequence[str] = (),
) -> list[Trial]:
    """Every encoder on every amount, seed and fold, the cheap ones first: a leak in any fold shows early.

    Args:
        encoders: "scratch" or "NAME=CHECKPOINT" each.
        counted_by: what the amounts are.
        amounts: shares of each class's subjects, or clips per class.
        seeds: of the subset and of the training alike.
        folds: the folds to pool; [None] for the one that the config names.
        own: "NAME ARGUMENTS..." each: arguments of `fit` that hold for one encoder alone.

    Raises:
        UserError: an option makes no sense, or a checkpoint is missing.
    """
    weights_of = [read_encoder(encoder) for encoder in encoders]
    refuse_twice("--encoders", [name for name, _ in weights_of])
    option = {"label_fraction": "--fractions", "per_class": "--per-class"}[counted_by]
    for name, values in ((option, amounts), ("--seeds", seeds), ("--folds", folds)):
        refuse_twice(name, values)
    for amount in amounts:
        if not 0 < amount <= (1 if counted_by == "label_fraction" else amount):
            raise UserError(f"{option} {amount}: shares lie above 0 and up to 1, clips per class are 1 or more")
    arguments = dict(read_arguments(text, [name for name, _ in weights_of]) for text in own)
    grid = product(sorted(amounts), seeds, folds, weights_of)
    return [
        Trial(name, checkpoint(name, path, fold), counted_by, amount, seed, fold, arguments.get(name, ()))
        for amount, seed, fold, (name, path) in grid
    ]


def read_encoder(text: str) -> tuple[str, str | None]:
    """Name and checkpoint of "scratch" or "NAME=CHECKPOINT"."""
    name, _, path = text.partition("=")
    if text == SCRATCH:
        return name, None
    if not path or name == SCRATCH or not re.fullmatch(r"[\w.-]+", name):
        raise UserError(
            f"--encoders {text}: say {SCRATCH}, or NAME=CHECKPOINT, with a NAME of letters, digits, dots and dashes"
        )
    return name, path


def read_arguments(text: str, encoders: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Name and arguments of "NAME --model.KEY=VALUE ..."; on what it trains, no encoder differs from the others."""
    name, *arguments = shlex.split(text) or [""]
    if name not in encoders:
        raise UserError(f"--arguments {name}: no such encoder; they are {', '.join(encoders)}")
    if alien := [argument for argument in arguments if not OWN.match(argument)]:
        raise UserError(f"--arguments {name}: {alien[0]}: only --model.KEY=VALUE and --trainer.KEY=VALUE may differ")
    if weights := [argument for argument in arguments if re.match(r"--model\.(init_args\.)?weights=", argument)]:
        raise UserError(f"--arguments {name}: {weights[0]}: --encoders states what an encoder starts from")
    return name, tuple(arguments)


def checkpoint(name: str, path: str | None, fold: int | None) -> str | None:
    """The checkpoint of an encoder in a fold."""
    if path is None:
        return None
    if FOLD in path and fold is None:
        raise UserError(f"--encoders {name}={path}: {FOLD} stands for a fold, so name the --folds")
    path = path.replace(FOLD, str(fold))
    if not Path(path).is_file():
        raise UserError(f"--encoders {name}: {path}: no such checkpoint; fit the stage that makes it first")
    return path


def refuse_twice(option: str, values: Sequence[object]) -> None:
    """An option's values must differ."""
    twice = [value for value in values if list(values).count(value) > 1]
    if twice:
        raise UserError(f"{option}: {twice[0]} is named twice")


@dataclass(frozen=True)
class LabelCount:
    """The labels that a point trains on."""

    clips: dict[str, int]  # by class
    subjects: dict[str, int]  # by class
    n_subjects: int
    digest: str  # of the part, name, label, subject and sound of every clip


Subsets = dict[tuple[float, int, int | None], LabelCount]  # by `Trial.subset`


def open_study(stage: StageConfig) -> Study:
    """Resolve the stage, with what all points share, and set up the data.

    Raises:
        UserError: the stage has no test.
    """
    given = check_overrides(stage.path, stage.changes)
    loggers = given.get("trainer", {}).get("logger")
    study = replace(engine.open_study(stage.changed(COMMON, engine.one_device(given))), loggers=loggers)
    study.config["trainer"]["devices"] = 1  # whichever it is: points are not trained again on another
    if not study.has_test:
        raise UserError("--config: this stage is a pretraining, which no labels enter: give one that is fine-tuned")
    steps, epochs = study.config["trainer"]["max_steps"], study.config["trainer"]["max_epochs"]
    if steps > 0 and epochs == -1:  # of few labels, an epoch is a step or two: too often to write a large encoder
        study = replace(study, stage=study.stage.changed({"save_every_n_steps": steps}))
    return study


def subset(study: Study, point: Trial) -> LabelCount:
    """Count what a point trains on.

    Raises:
        UserError: there are too few clips or groups for it, or no such fold.
    """
    split = study.data.split
    if point.fold is not None:
        if split.scheme not in ("kfold", "leave_one_out"):
            raise UserError(f"--folds: {split.scheme} has none; set data.split.scheme to kfold or leave_one_out")
        split = replace(split, fold=point.fold)
    limits = replace(study.data.subset, label_fraction=1.0, per_class=None)
    if point.counted_by == "per_class":
        limits = replace(limits, per_class=int(point.amount))
    else:
        limits = replace(limits, label_fraction=point.amount)
    data = engine.redivided(study.data, split=split, seed=point.seed, subset=limits)
    trained = [clip for clip in data.clips_of("train") if clip.label is not None]
    of_class = {name: [clip.subject for clip in trained if clip.label == name] for name in data.classes}
    return LabelCount(
        clips={name: len(subjects) for name, subjects in of_class.items()},
        subjects={name: len(set(subjects)) for name, subjects in of_class.items()},
        n_subjects=len({clip.subject for clip in trained}),
        digest=engine.digest(data),
    )


def subsets_of(study: Study, trials: Sequence[Trial]) -> Subsets:
    """The subsets of all points, each drawn once.

    Raises:
        UserError: one cannot be drawn.
    """
    return {trial.subset: subset(study, trial) for trial in {trial.subset: trial for trial in trials}.values()}


def made_by(study: Study, point: Trial, subset: LabelCount) -> Json:
    """All that a point's predictions depend on."""
    weights = sha256(point.weights) if point.weights else None
    return {**study.config, "point": point.changes, "weights_sha256": weights, "data_sha256": subset.digest}


def run_point(study: Study, subsets: Subsets, runs: Path, point: Trial) -> Trial:
    """Train a point for its fixed length and test its last weights, unless that is done."""
    wanted, folder = made_by(study, point, subsets[point.subset]), runs / study.corpus / point.name
    if not is_finished(folder, wanted):
        engine.train(study, point.changes, folder, wanted, tested=LAST)
        (folder / LAST).unlink()  # hundreds of a large encoder would fill a disk; config.yaml makes it again
    return point


@dataclass(frozen=True)
class LabelStudy:
    """A label efficiency whose inputs, divisions and subsets have been checked; nothing of it is trained yet."""

    study: Study  # the last stage
    trials: list[Trial]
    subsets: Subsets
    out: Path
    chains: dict[str, Chain] = field(default_factory=dict)  # by encoder: what makes its trials' weights
    upstream: Path = Path()  # where the stages of chains on other corpora lie

    def run(self, jobs: int, command: str, allow_leaky: bool = False) -> pd.DataFrame:
        """Train what is not finished, and report; returns what label_efficiency.csv holds."""
        name = f"Label efficiency on {self.study.corpus}"
        result = label_curves.curves(self._tested(jobs, allow_leaky), self.subsets)
        begin_study(self.out, self.study.corpus, self.study.loggers)
        label_curves.write(result, self.out, len(self.study.data.classes), name, command)
        files = ("label_efficiency.csv", "label_efficiency.png", "report.html")
        print("\n".join([f"\n{label_curves.text(result)}\n", *(str(self.out / file) for file in files)]))
        return result

    def _tested(self, jobs: int, allow_leaky: bool) -> dict[Trial, Tested]:
        """Train the points that are not finished, and read the predictions of all."""
        runs, tested = self.out / "points", {}
        point = partial(run_point, self.study, self.subsets, runs)
        for trial in engine.side_by_side(point, self._with_weights(), jobs, "label-efficiency", "point"):
            folder = str(runs / self.study.corpus / trial.name)
            tested[trial] = read_run(folder, "test")
            if not allow_leaky:
                way_out = f"Give an encoder that was not trained on them (with {FOLD} in its path, one for each fold)"
                refuse_leaky(
                    [(folder, tested[trial].leakage)], f"{way_out}, or let --allow-leaky stamp the table LEAKY"
                )
        return tested

    def _with_weights(self) -> list[Trial]:
        """The points, those of chains with the checkpoints that these make."""
        once = {name: train_once(chain, self.upstream) for name, chain in self.chains.items()}
        folds = dict.fromkeys(trial.fold for trial in self.trials)
        weights = {(name, fold): self._adapted(name, fold, once[name]) for name, fold in product(once, folds)}
        return [
            replace(trial, weights=weights.get((trial.encoder, trial.fold), trial.weights)) for trial in self.trials
        ]

    def _adapted(self, name: str, fold: int | None, weights: str | None) -> str | None:
        """The checkpoint of an encoder whose stages on the tested corpus have not been trained on a fold's test."""
        chain = self.chains[name]
        split = chain.last.data.split if fold is None else replace(chain.last.data.split, fold=fold)
        tested = divided(chain.last.data, split)
        made = [study.config["name"] for study in chain.once]
        for study in chain.adapting:  # encoders that share their first stages share these folders
            made.append(study.config["name"])
            folder = self.out / "adapted" / study.corpus / f"fold{split.fold}-{'-'.join(made)}"
            weights = str(adapt(study, tested, WITHOUT_LAST | starting_from(weights), folder) / BEST)
        return weights


def run(
    stage: StageConfig, trials: list[Trial], out: Path | None, allow_leaky: bool, jobs: int, command: str
) -> pd.DataFrame:
    """Run the command on a stage; returns what label_efficiency.csv holds."""
    study = open_study(stage)
    subsets = subsets_of(study, trials)
    out = out or Path(study.config["runs"]) / study.corpus / "label-efficiency"
    return LabelStudy(study, trials, subsets, out).run(jobs, command, allow_leaky)


@dataclass(frozen=True)
class Encoder:
    """Where an encoder comes from, and what holds for it alone.

    Args:
        before: the stages that make it; none for training from scratch.
        own: what it changes in the last stage.
    """

    before: Sequence[StageConfig]
    own: Changes


def planned(
    last: StageConfig, encoders: Mapping[str, Encoder], labels: Labels, out: Path, upstream: Path, known: Stages
) -> LabelStudy:
    """A label efficiency, checked whole.

    Args:
        last: the stage that all points train.
        encoders: by name.
        labels: amounts, seeds and folds.
        out: folder of the study.
        upstream: where the stages on other corpora lie.
        known: stages that other studies have opened.

    Raises:
        UserError: an input is missing, or a subset cannot be drawn.
    """
    for encoder in encoders.values():
        read_chain([*encoder.before, last], known)
    chains = {name: open_chain([*of.before, last], known) for name, of in encoders.items() if of.before}
    study = open_study(last)
    amounts: Sequence[float] = labels.per_class or labels.fractions
    folds: list[int | None] = [*labels.folds] or [None]
    trials = [
        Trial(name, None, labels.counted_by, amount, seed, fold, own_of(name, encoders[name].own))
        for amount, seed, fold, name in product(sorted(amounts), labels.seeds, folds, encoders)
    ]
    return LabelStudy(study, trials, subsets_of(study, trials), out, chains, upstream)


def own_of(name: str, changes: Changes) -> tuple[str, ...]:
    """What an encoder changes in the last stage, as `fit` takes it.

    Raises:
        UserError: it changes what it is trained on.
    """
    changes = {key: value for key, value in changes.items() if (key, value) != (WEIGHTS, None)}
    arguments = as_arguments(changes)
    if alien := [text for text in arguments if not OWN.match(text)]:
        raise UserError(f"system {name!r}: {alien[0]}: with labels, only model.KEY and trainer.KEY may differ")
    return tuple(arguments)
