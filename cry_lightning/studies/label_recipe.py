"""The label efficiencies of a recipe, whose systems are the encoders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pandas as pd

from cry_lightning.cli.runfolder import BEST
from cry_lightning.commands.arguments import as_arguments
from cry_lightning.console import UserError
from cry_lightning.studies.cross_validation import (
    WITHOUT_LAST,
    Chain,
    adapt,
    open_chain,
    read_chain,
    starting_from,
    train_once,
)
from cry_lightning.studies.engine import StageConfig, Stages, Study
from cry_lightning.studies.label_efficiency import OWN, Subsets, Trial, open_study, report, run_points, subset
from cry_lightning.studies.recipe import Changes, Labels
from cry_lightning.studies.rounds import divided

WEIGHTS = "model.init_args.weights"


@dataclass(frozen=True)
class Encoder:
    """Where an encoder comes from, and what holds for it alone.

    Args:
        before: the stages that make it; none for training from scratch.
        own: what it changes in the last stage.
    """

    before: Sequence[StageConfig]
    own: Changes


@dataclass(frozen=True)
class LabelStudy:
    """A label efficiency whose inputs, divisions and subsets have been checked; nothing of it is trained yet."""

    study: Study  # the last stage
    chains: dict[str, Chain]  # by encoder, but for scratch
    trials: list[Trial]  # without weights
    subsets: Subsets
    out: Path
    upstream: Path  # where the stages on other corpora lie

    def run(self, jobs: int, command: str) -> pd.DataFrame:
        """Train what is not finished, and report; returns what label_efficiency.csv holds."""
        once = {name: train_once(chain, self.upstream) for name, chain in self.chains.items()}
        folds = dict.fromkeys(trial.fold for trial in self.trials)
        weights = {(name, fold): self._adapted(name, fold, once[name]) for name, fold in product(once, folds)}
        trials = [replace(trial, weights=weights.get((trial.encoder, trial.fold))) for trial in self.trials]
        tested = run_points(self.study, trials, self.subsets, self.out / "points", False, jobs)
        return report(self.study, tested, self.subsets, self.out, command)

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
    subsets = {trial.subset: subset(study, trial) for trial in {trial.subset: trial for trial in trials}.values()}
    return LabelStudy(study, chains, trials, subsets, out, upstream)


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
