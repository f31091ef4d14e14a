"""`cross-validate`: a stage, or a chain of stages, on every fold, pooled."""

import json
import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cry_lightning import lineage
from cry_lightning.console import UserError, for_spreadsheets, progress_bar
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.division import column
from cry_lightning.data.splits import Split, census, count
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.compare import SUMMARY, as_text
from cry_lightning.evaluation.metrics import measure, units_at
from cry_lightning.files import replacing
from cry_lightning.lineage import FoldedLineage, Lineage
from cry_lightning.studies import engine
from cry_lightning.studies.engine import WITHOUT_BARS, Study, is_begun, is_finished, mark

log = logging.getLogger(__name__)


FEW = 2  # groups of a class per fold: with fewer, a fold's score rests on one of them
CHECKPOINT = ("best.ckpt",)
# A killed round begins anew; and to write a large network each epoch takes as long as the epoch.
WITHOUT_LAST = "--save_every_n_steps=1000000000"
PROVENANCE = "cross_validation.json"  # what is cross-validated in a folder


@dataclass(frozen=True)
class Fold:
    """One training and test."""

    split: Split
    seed: int | None = None  # of the training; the YAML's own where there is none

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"repeat{self.split.repeat}-fold{self.split.fold}"

    @property
    def seed_arguments(self) -> list[str]:
        """Arguments of `fit` for its seed."""
        return [] if self.seed is None else [f"--seed_everything={self.seed}", f"--data.seed={self.seed}"]

    @property
    def split_arguments(self) -> list[str]:
        """Arguments of `fit` for its split."""
        return [f"--data.split.{key}={'null' if value is None else value}" for key, value in vars(self.split).items()]


@dataclass(frozen=True)
class Scheme:
    """How the clips are divided, again and again."""

    group: str  # "subject", "clip" or a column
    folds: int
    repeats: int
    leave_one_out: bool

    def rounds(self, val: float, seed: int, training_seed: int = 0) -> list[Fold]:
        """Every fold of every repeat, which each have a division and a training seed of their own.

        Args:
            val: share of validation in what is not tested.
            seed: of the divisions.
            training_seed: of the first repeat, which is the YAML's own.
        """
        common = Split(
            scheme="leave_one_out" if self.leave_one_out else "kfold",
            group=self.group,
            val=val,
            test=0.0,
            folds=self.folds,
            seed=seed,
        )
        return [
            Fold(replace(common, repeat=r, fold=f), training_seed + r if r else None)
            for r in range(self.repeats)
            for f in range(self.folds)
        ]


def trained_again(split: Split, seeds: Sequence[int]) -> list[Fold]:
    """One division trained from several seeds, each of which is a repeat.

    Raises:
        UserError: repeats would change this division.
    """
    if split.scheme in ("kfold", "leave_one_out"):
        raise UserError(f"--seeds train one division again; with data.split.scheme={split.scheme} use --repeats")
    return [Fold(replace(split, repeat=repeat), seed) for repeat, seed in enumerate(seeds)]


def plan(data: CryDataModule, group: str, folds: int, repeats: int, leave_one_out: bool) -> Scheme:
    """The scheme, checked against the groups that there are.

    Raises:
        UserError: there are too few groups of a class, or there is no such column.
    """
    labelled = np.flatnonzero((data.labels.numpy() >= 0) & data.features.good)
    clips = [data.clips[row] for row in labelled]
    labels, groups = np.array([clip.label for clip in clips]), column(clips, group)
    classes, _, counts = count(labels, groups)
    of_class = (counts > 0).sum(0)
    if leave_one_out:
        if len(counts) < 2:
            raise UserError(f"--loso: there is only one {group}")
        return Scheme(group, len(counts), repeats, leave_one_out)
    if folds < 2 or repeats < 1:
        raise UserError(f"--folds must be at least 2 and --repeats at least 1, not {folds} and {repeats}")
    if (of_class < folds).any():
        rare = census(classes[of_class < folds], counts[:, of_class < folds], group)
        raise UserError(
            f"--folds {folds}: more than there are {group}s of {rare}; use --folds {max(2, of_class.min())} or fewer,"
            " or merge or leave out such classes with data.corpus.init_args.classes"
        )
    if (few := of_class < FEW * folds).any():
        log.warning("few %ss for %d folds: %s", group, folds, census(classes[few], counts[:, few], group))
    return Scheme(group, folds, repeats, leave_one_out)


def divided(data: CryDataModule, split: Split) -> CryDataModule:
    """The data of a fold.

    Raises:
        UserError: nothing is left of a class to learn from.
    """
    data = engine.redivided(data, split=split)
    missing = set(data.classes) - {clip.label for clip in data.clips_of("train")}
    if missing:
        raise UserError(
            f"fold {split.fold} of repeat {split.repeat}: no training clip of {', '.join(sorted(missing))};"
            " use fewer --folds, or merge or leave out such classes with data.corpus.init_args.classes"
        )
    return data


@dataclass(frozen=True)
class Chain:
    """Stages in their order; those before the last either know nothing of the tested corpus, or adapt to it."""

    once: list[Study]  # trained once: they share no subject with the last stage's corpus
    adapting: list[Study]  # trained in each fold, without its test subjects
    last: Study  # trained and tested in each fold

    @property
    def stages(self) -> list[Study]:
        """All of them, in their order."""
        return [*self.once, *self.adapting, self.last]


def open_chain(stages: Sequence[Sequence[str]]) -> Chain:
    """Resolve the stages, each given by the arguments of `fit`, and set up their data.

    Raises:
        UserError: a stage follows one that hears the tested corpus, and does not; or chooses by tested subjects; or the
            last has no test.
    """
    last = engine.open_study([*stages[-1], *WITHOUT_BARS])
    if not last.has_test:
        raise UserError(f"{last.config['name']}: a pretraining, which has no test; the last stage is to be fine-tuned")
    tested = {clip.subject for clip in last.data.clips}
    once: list[Study] = []
    adapting: list[Study] = []
    for arguments in stages[:-1]:
        study = without_probe(engine.open_study([*arguments, *WITHOUT_BARS]), tested)
        hears = tested & {clip.subject for clip in study.data.clips}
        if adapting and not hears:
            raise UserError(f"{study.config['name']}: a stage on another corpus cannot come after one on {last.corpus}")
        (adapting if hears else once).append(study)
    return Chain(once, adapting, last)


def without_probe(study: Study, tested: set[str]) -> Study:
    """The stage without a probe on tested subjects, whose labels it must not see.

    Raises:
        UserError: its checkpoint is chosen by that probe.
    """
    probe = study.data.probe
    if probe is None or not tested & {clip.subject for clip in probe.clips}:
        return study
    monitor = study.config["checkpoint"]["monitor"]
    if "probe" in monitor:
        raise UserError(f"{study.config['name']}: {monitor} chooses its checkpoint by tested subjects; use val/loss")
    log.info("%s: trained without its probe, whose subjects are tested here", study.config["name"])
    return engine.open_study([*study.arguments, "--data.probe=null"])


def train_once(chain: Chain, stages: Path) -> str | None:
    """Train the stages that know nothing of the tested corpus in a folder; returns the last one's checkpoint."""
    weights: str | None = None
    for study in chain.once:
        folder = stages / study.corpus / study.config["name"]
        provenance = made_by([study], engine.start(study, weights), engine.digest(study.data))
        if not is_finished(folder, provenance, CHECKPOINT):
            engine.train(study, starting_from(weights), folder, provenance)
        weights = str(folder / "best.ckpt")
    return weights


def made_by(stages: Sequence[Study], start: str | None, data: str) -> dict[str, Any]:
    """All that what they make depends on: their configs, the weights they start from, and their data, by hashes."""
    return {"stages": {str(place): study.config for place, study in enumerate(stages)}, "weights": start, "data": data}


def train_fold(chain: Chain, this: Fold, weights: str | None, out: Path, keep: bool) -> Path:
    """Train and test one round, unless that is done; returns its run folder.

    Args:
        chain: the stages.
        this: the round.
        weights: checkpoint of the stages that were trained once, if there are any.
        out: folder of the study.
        keep: leave the checkpoints.
    """
    folder = out / "folds" / chain.last.corpus / this.name
    data = divided(chain.last.data, this.split)
    stages = [*chain.adapting, chain.last]
    heard = " ".join(engine.digest(part) for part in (*(study.data for study in chain.adapting), data))
    provenance = made_by(stages, engine.start(stages[0], weights), heard) | {"seed": this.seed}
    if is_finished(folder, provenance):
        return folder
    common = [*this.seed_arguments, WITHOUT_LAST, f"--pipeline={out.name}"]  # the dashboard's one view of all rounds
    adapted = []
    for study in chain.adapting:
        adapted.append(out / "folds" / study.corpus / f"{this.name}-{study.config['name']}")
        own = exclude_test_subjects(study, data, adapted[-1])
        engine.train(study, [*own, *common, *starting_from(weights)], adapted[-1], {})
        weights = str(adapted[-1] / "best.ckpt")
    own = [*this.split_arguments, *common, *starting_from(weights)]
    engine.train(chain.last, own, folder, provenance, tested="best.ckpt")
    if not keep:
        for path in adapted:
            shutil.rmtree(path)
        for checkpoint in folder.glob("*.ckpt"):
            checkpoint.unlink()
    return folder


def starting_from(weights: str | None) -> list[str]:
    """The argument that hands a stage the encoder of the stage before it; without one, its YAML says."""
    return [f"--model.init_args.weights={weights}"] if weights else []


def exclude_test_subjects(study: Study, tested: CryDataModule, folder: Path) -> list[str]:
    """Arguments under which a stage on the tested corpus hears no tested group, not even unlabelled.

    Args:
        study: the stage.
        tested: the data of the round.
        folder: of its run, where the subjects are listed.
    """
    division = [f"--data.split.{key}" for key in ("column=null", "scheme=holdout", "test=0")]
    group = tested.split.group
    if group == "clip":  # every subject is on both sides there, and the report is stamped LEAKY
        return division
    groups, subjects = column(tested.clips, group), column(tested.clips, "subject")
    unheard_subjects = np.unique(subjects[np.isin(groups, groups[tested.parts == "test"])])
    listed = folder / "unheard_subjects.csv"
    with replacing(listed) as part:
        pd.DataFrame({"subject": unheard_subjects, "split": "test"}).to_csv(part, index=False)
    before = study.config["data"]["exclude_subjects"] or []
    excluded = [*([before] if isinstance(before, str) else before), str(listed)]
    return [*division, f"--data.exclude_subjects={json.dumps(excluded)}"]


def share_cores(jobs: int) -> None:
    """Give each of several processes its share of the cores."""
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))


def write_pooled(folders: Sequence[Path], out: Path) -> None:
    """Write predictions.csv and lineage.json of all folds, and folds.csv, into a folder.

    The lineage stays that of each fold: what one fold tests, another has trained on.
    """
    tables = [predictions.read(folder / "predictions.csv") for folder in folders]
    keys = [table[["repeat", "fold"]].iloc[0].to_dict() for table in tables]
    predictions.write(pd.concat(tables, ignore_index=True), out / "predictions.csv")
    known = {(key["repeat"], key["fold"]): _lineage(folder) for key, folder in zip(keys, folders, strict=True)}
    lineage.write(FoldedLineage(known), out / lineage.FILE)
    folds = pd.DataFrame([key | fold_row(table) for key, table in zip(keys, tables, strict=True)])
    with replacing(out / "folds.csv") as part:
        for_spreadsheets(folds).to_csv(part, index=False)


def _lineage(folder: Path) -> Lineage:
    found = lineage.of_table(folder / "predictions.csv")
    if not isinstance(found, Lineage) or found.doubt:
        raise UserError(
            f"{folder}: no {lineage.FILE} of one model and this table; remove the folder, so that the fold is run again"
        )
    return found


def fold_row(table: pd.DataFrame) -> dict[str, float]:
    """Counts and metrics of a fold's tested clips."""
    units = units_at("clip", table[table["split"] == "test"])
    measured = measure(units.table, np.ones((1, units.n_subjects)))
    counts = {"clips": units.n_clips, "subjects": units.n_subjects, "classes": units.table["label"].nunique()}
    return counts | {metric: float(measured[metric, ""][0]) for metric in SUMMARY}


def folds_as_text(out: Path) -> str:
    """A row for each fold, then the mean, the standard deviation over the folds of a repeat, and that over repeats."""
    folds = pd.read_csv(out / "folds.csv")
    rows = [["repeat", "fold", "clips", "subjects", "classes", *SUMMARY.values()]]
    for fold in folds.to_dict("records"):
        counts = [str(fold[key]) for key in ("repeat", "fold", "clips", "subjects", "classes")]
        rows.append([*counts, *(f"{fold[metric]:.3f}" for metric in SUMMARY)])
    of_repeats = folds.groupby("repeat")[list(SUMMARY)]
    spreads = {"mean": of_repeats.mean().mean(), "SD of folds": of_repeats.std().mean()}
    if len(of_repeats) > 1:
        spreads["SD of repeats"] = of_repeats.mean().std()
    rows += [
        [name, "", "", "", "", *(f"{found[metric]:.3f}" for metric in SUMMARY)]
        for name, found in spreads.items()
        if found.notna().any()
    ]
    return as_text(rows)


def cross_validate(
    stages: Sequence[Sequence[str]],
    *,
    folds: int | None,
    repeats: int,
    group: str | None,
    loso: bool,
    seeds: Sequence[int] | None,
    jobs: int,
    keep: bool,
    out: Path | None,
    upstream: Path | None,
) -> Path:
    """Train and test all rounds that are not finished, and pool the tests in a run folder, which is returned.

    The stages are given by the arguments of `fit`, the others are those of the command.

    Raises:
        UserError: there are too few groups, or the folder holds another cross-validation.
    """
    chain = open_chain(stages)
    data = chain.last.data
    if seeds:
        kind, rounds = f"{len(seeds)}-seeds", trained_again(data.split, seeds)
        scheme = {"seeds": list(seeds)}
    else:
        planned = plan(data, group or "subject", folds or 5, repeats, loso)
        divisions = "leave-one-out" if planned.leave_one_out else planned.folds
        kind = f"{divisions}x{planned.repeats}-{planned.group}"
        rounds = planned.rounds(data.split.val, data.split.seed, int(chain.last.config["seed_everything"]))
        scheme = vars(planned)
    for this in rounds:
        divided(data, this.split)  # what cannot be is told before hours are spent
    name = f"{chain.last.config['name']}-{kind}"  # each kind of cross-validation has a folder of its own
    out = out or Path(chain.last.config["runs"]) / chain.last.corpus / name
    wanted = {"stages": {str(place): study.config for place, study in enumerate(chain.stages)}, "scheme": scheme}
    if not is_begun(out / PROVENANCE, wanted):
        mark(out / PROVENANCE, wanted)
    weights = train_once(chain, upstream or out / "stages")
    write_pooled(train_folds(chain, rounds, weights, out, keep, jobs), out)
    return out


def train_folds(chain: Chain, rounds: list[Fold], weights: str | None, out: Path, keep: bool, jobs: int) -> list[Path]:
    """Train the rounds that are not finished, some at a time; returns their run folders in the same order."""
    train = partial(train_fold, chain, weights=weights, out=out, keep=keep)
    bar = partial(progress_bar, total=len(rounds), desc="cross-validate", unit="fold")
    if jobs == 1:
        return list(bar(map(train, rounds)))
    with ProcessPoolExecutor(jobs, get_context("spawn"), share_cores, (jobs,)) as pool:
        return list(bar(pool.map(train, rounds)))
