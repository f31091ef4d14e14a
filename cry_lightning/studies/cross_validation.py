"""`cross-validate`: a stage, or a chain of stages, on every fold, pooled."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from cry_lightning import lineage
from cry_lightning.cli.runfolder import BEST
from cry_lightning.console import UserError
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.subset import column
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.compare import SUMMARY, as_text, number
from cry_lightning.evaluation.metrics import measure, units_at
from cry_lightning.evaluation.run import division_of, spread_of_repeats
from cry_lightning.files import Json, replacing, waited_for, write_json, write_table
from cry_lightning.lineage import FoldedLineage, Lineage
from cry_lightning.report.origin import CROSS_VALIDATION
from cry_lightning.studies import engine
from cry_lightning.studies.division import CrossValidationPlan
from cry_lightning.studies.engine import WITHOUT_BARS, StageConfig, Stages, Study, is_begun, is_finished, run_stage
from cry_lightning.studies.launcher import submitted
from cry_lightning.studies.rounds import Fold, divided, plan, trained_again

log = logging.getLogger(__name__)


# To write a large network each epoch takes as long as the epoch; so a round that is killed begins anew.
WITHOUT_LAST = {"save_every_n_steps": 1_000_000_000}


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


def open_chain(stages: Sequence[StageConfig], known: Stages | None = None) -> Chain:
    """Resolve the stages, check what all of them need, and set up their data.

    Raises:
        UserError: an input is missing; a stage follows one on the tested corpus, and is on another; or chooses by
            tested subjects; or the last has no test.
    """
    known, stages = known or Stages(), [stage.changed(WITHOUT_BARS) for stage in stages]
    read_chain(stages, known)
    last = known.open(stages[-1])
    if not last.has_test:
        raise UserError(f"{last.config['name']}: a pretraining, which has no test; the last stage is to be fine-tuned")
    tested = {clip.subject for clip in last.data.clips.used}
    once: list[Study] = []
    adapting: list[Study] = []
    for stage in stages[:-1]:
        study = without_probe(known.open(stage), tested)
        shared = tested & {clip.subject for clip in study.data.clips.used}
        if adapting and not shared:
            raise UserError(f"{study.config['name']}: a stage on another corpus cannot come after one on {last.corpus}")
        (adapting if shared else once).append(study)
    return Chain(once, adapting, last)


def read_chain(stages: Sequence[StageConfig], known: Stages) -> None:
    """Check what does not take long: configs, recordings, and the weights that the first stage starts from.

    Raises:
        UserError: naming the stage and the file.
    """
    first, *_ = [known.read(stage) for stage in stages]
    with engine.naming(first.config["name"]):
        engine.start(first, None)


def without_probe(study: Study, tested: set[str]) -> Study:
    """The stage without a probe on tested subjects, whose labels it must not see.

    Raises:
        UserError: its checkpoint is chosen by that probe.
    """
    probe = study.data.probe
    if probe is None or not tested & {clip.subject for clip in probe.clips.used}:
        return study
    monitor = study.config["checkpoint"]["monitor"]
    if "probe" in monitor:
        raise UserError(f"{study.config['name']}: {monitor} chooses its checkpoint by tested subjects; use val/loss")
    log.info("%s: trained without its probe, whose subjects are tested here", study.config["name"])
    return engine.open_study(study.stage.changed({"data.probe": None}))


def folder_of(study: Study, stages: Path) -> Path:
    """The run folder of a stage that is trained once."""
    return stages / study.corpus / study.config["name"]


def train_once(chain: Chain, stages: Path) -> str | None:
    """Train the stages that know nothing of the tested corpus in a folder; returns the last one's checkpoint."""
    weights: str | None = None
    for study in chain.once:
        folder = folder_of(study, stages)
        provenance = made_by([study], engine.start(study, weights), engine.digest(study.data))
        weights = str(run_stage(study, starting_from(weights), folder, provenance) / BEST)
    return weights


def made_by(stages: Sequence[Study], start: str | None, data: str) -> Json:
    """All that what they make depends on: their configs, the weights they start from, and their data, by hashes."""
    return {"stages": {str(place): study.config for place, study in enumerate(stages)}, "weights": start, "data": data}


def adapt(study: Study, tested: CryDataModule, changes: Json, folder: Path) -> Path:
    """Train a stage on the tested corpus without the test subjects, unless that is done; returns its run folder.

    Args:
        study: the stage.
        tested: the data of the round.
        changes: of the round.
        folder: of its run.
    """
    own = exclude_test_subjects(study, tested, folder) | changes
    with waited_for(folder.with_name(f".{folder.name}.lock"), f"{folder}: another process trains it; waiting"):
        weights = changes.get("model.init_args.weights")
        start = engine.start(study, None if weights is None else str(weights))
        provenance = made_by([study], start, f"{engine.digest(study.data)} {engine.digest(tested)}")
        return run_stage(study, own, folder, provenance | {"seed": changes.get("seed_everything")})


def starting_from(weights: str | None) -> Json:
    """The change that hands a stage the encoder of the stage before it; without one, its YAML says."""
    return {"model.init_args.weights": weights} if weights else {}


def exclude_test_subjects(study: Study, tested: CryDataModule, folder: Path) -> Json:
    """Changes under which a stage on the tested corpus is trained on no tested group, not even unlabelled.

    Args:
        study: the stage.
        tested: the data of the round.
        folder: of its run, where the subjects are listed.
    """
    division: Json = {"data.split.column": None, "data.split.scheme": "holdout", "data.split.test": 0}
    group = tested.split.group
    if group == "clip":  # every subject is on both sides there, and the report is stamped LEAKY
        return division
    groups, subjects = column(tested.clips, group), column(tested.clips, "subject")
    excluded = sorted(subjects[groups.isin(groups[tested.parts == "test"].unique())].unique())
    listed = folder / "excluded_subjects.csv"
    with replacing(listed) as part:
        pd.DataFrame({"subject": excluded, "split": "test"}).to_csv(part, index=False)
    return division | {"data.subset.exclude_subjects": [*study.data.subset.exclusions, str(listed)]}


def write_pooled(folders: Sequence[Path], out: Path) -> None:
    """Write predictions.csv and lineage.json of all folds, and folds.csv, into a folder.

    The lineage stays that of each fold: what one fold tests, another has trained on.
    """
    tables = [predictions.read(folder / "predictions.csv") for folder in folders]
    keys = [table[["repeat", "fold"]].iloc[0].to_dict() for table in tables]
    pooled = pd.concat(tables, ignore_index=True)
    predictions.write(pooled, out / "predictions.csv")
    division = division_of(pooled[pooled["split"] == "test"])
    known = {(key["repeat"], key["fold"]): _lineage(folder) for key, folder in zip(keys, folders, strict=True)}
    lineage.write(FoldedLineage(known), out / lineage.FILE)
    rows = [
        key | {"division": division[key["repeat"]]} | fold_row(table) for key, table in zip(keys, tables, strict=True)
    ]
    folds = pd.DataFrame(rows)
    write_table(folds, out / "folds.csv")


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
    measured = measure(units.table)
    counts = {"clips": units.n_clips, "subjects": units.n_subjects, "classes": units.table["label"].nunique()}
    return counts | {metric: float(measured[metric, ""][0]) for metric in SUMMARY}


def folds_as_text(out: Path) -> str:
    """A row for each fold, then the mean, and the standard deviations over folds, over seeds and over divisions."""
    folds = pd.read_csv(out / "folds.csv")
    rows = [["repeat", "fold", "clips", "subjects", "classes", *SUMMARY.values()]]
    for fold in folds.to_dict("records"):
        counts = [str(fold[key]) for key in ("repeat", "fold", "clips", "subjects", "classes")]
        rows.append([*counts, *(number(fold[metric]) for metric in SUMMARY)])
    of_repeats = folds.groupby("repeat")[list(SUMMARY)]
    spreads = {"mean": of_repeats.mean().mean(), "SD of folds": of_repeats.std().mean()}
    division = folds.groupby("repeat")["division"].first()
    found = {metric: spread_of_repeats(of_repeats.mean()[metric], division) for metric in SUMMARY}
    for place, name in enumerate(("SD of seeds", "SD of divisions")):
        spreads[name] = pd.Series({metric: of_metric[place] for metric, of_metric in found.items()})
    rows += [
        [name, "", "", "", "", *(number(of_name[metric]) for metric in SUMMARY)]
        for name, of_name in spreads.items()
        if of_name.notna().any()
    ]
    return as_text(rows)


@dataclass(frozen=True)
class CrossValidation:
    """A cross-validation whose inputs and divisions have been checked; nothing of it is trained or written yet."""

    chain: Chain
    rounds: list[Fold]
    scheme: Json  # of the rounds, to tell two of them apart
    out: Path  # the run folder of the pooled tests
    upstream: Path  # where the stages on other corpora lie
    adapted: Path | None = None  # where those on the tested one lie, where other studies share them

    @property
    def provenance(self) -> Json:
        """What is cross-validated."""
        return {"stages": {str(place): study.config for place, study in enumerate(self.chain.stages)}} | {
            "scheme": self.scheme
        }

    @property
    def folders_once(self) -> list[Path]:
        """The run folders of the stages that are trained once, in their order."""
        return [folder_of(study, self.upstream) for study in self.chain.once]

    def train_once(self) -> str | None:
        """Begin: train the stages on other corpora, unless that is done; returns the checkpoint that all rounds get."""
        if not (self.out / CROSS_VALIDATION).exists():
            write_json(self.provenance, self.out / CROSS_VALIDATION)
        return train_once(self.chain, self.upstream)

    def train_round(self, this: Fold, weights: str | None, keep: bool = False) -> Path:
        """Train and test one round, unless that is done; returns its run folder.

        Args:
            this: the round.
            weights: checkpoint of the stages that were trained once, if there are any.
            keep: leave the checkpoints.
        """
        folder = self.folder_of_round(this)
        data = divided(self.chain.last.data, this.split)
        provenance = self.provenance_of(this, data, weights)
        if is_finished(folder, provenance):
            return folder
        common = this.seeds | WITHOUT_LAST | {"pipeline": self.out.name}  # the dashboard's one view of all rounds
        adapted = []
        for study in self.chain.adapting:
            path = (self.adapted or self.out / "folds") / study.corpus / f"{this.name}-{study.config['name']}"
            weights = str(adapt(study, data, common | starting_from(weights), path) / BEST)
            adapted.append(path)
        own = {"data.split": asdict(this.split)} | common | starting_from(weights)
        engine.train(self.chain.last, own, folder, provenance, tested=BEST)
        if not keep:
            for path in [] if self.adapted else adapted:
                shutil.rmtree(path)
            for checkpoint in folder.glob("*.ckpt"):
                checkpoint.unlink()
        return folder

    def folder_of_round(self, this: Fold) -> Path:
        """The run folder of a round."""
        return self.out / "folds" / self.chain.last.corpus / this.name

    def provenance_of(self, this: Fold, data: CryDataModule, weights: str | None) -> Json:
        """What a round is made of: its data are divided for it, `weights` are of the stages that were trained once."""
        stages = [*self.chain.adapting, self.chain.last]
        digests = " ".join(engine.digest(part) for part in (*(study.data for study in self.chain.adapting), data))
        return made_by(stages, engine.start(stages[0], weights), digests) | {"seed": this.seed}

    def run(self, jobs: int, keep: bool, launcher: str | None = None) -> Path:
        """Train and test all rounds that are not finished, and pool the tests in a run folder, which is returned."""
        weights = self.train_once()
        train = partial(self.train_round, weights=weights, keep=keep)
        if launcher:
            self.submit(train, weights, launcher)
        else:
            list(engine.side_by_side(train, self.rounds, jobs, desc="cross-validate", unit="fold"))
        write_pooled([self.folder_of_round(this) for this in self.rounds], self.out)
        return self.out

    def submit(self, train: Callable[[Fold], Path], weights: str | None, launcher: str) -> None:
        """Have the rounds that are not finished trained in jobs, and wait for them."""
        left: dict[str, Fold] = {}
        for this in self.rounds:
            provenance = self.provenance_of(this, divided(self.chain.last.data, this.split), weights)
            if not is_finished(self.folder_of_round(this), provenance):
                made_of = hashlib.sha256(json.dumps(provenance).encode()).hexdigest()
                left[f"{this.name} {made_of}"] = this  # so that a job on other data is not waited for
        list(submitted(train, left, launcher, self.out / "jobs", "cross-validate", "fold"))


def planned(
    stages: Sequence[StageConfig],
    division: CrossValidationPlan,
    out: Path | None = None,
    upstream: Path | None = None,
    adapted: Path | None = None,
    known: Stages | None = None,
) -> CrossValidation:
    """A cross-validation of some stages, checked whole.

    Args:
        stages: in their order.
        division: of the last one's clips.
        out: the run folder of the pooled tests.
        upstream: where the stages on other corpora lie, by default in `out`.
        adapted: where the stages on the tested corpus lie, and stay; by default in `out`, until their fold is tested.
        known: stages that other studies have opened.

    Raises:
        UserError: an input is missing, there are too few groups, or the folder holds another cross-validation.
    """
    chain = open_chain(stages, known)
    data = chain.last.data
    scheme: Json
    if division.seeds and division.of_yaml:
        kind, rounds = f"{len(division.seeds)}-seeds", trained_again(data.split, division.seeds)
        scheme = {"seeds": list(division.seeds)}
    else:
        of_groups = plan(data, division)
        divisions = "leave-one-out" if of_groups.leave_one_out else of_groups.folds
        kind = f"{divisions}x{of_groups.repeats}-{of_groups.group}" + f"-{len(of_groups.seeds)}-seeds" * bool(
            division.seeds
        )
        rounds = of_groups.rounds(data.split.val, data.split.seed, int(chain.last.config["seed_everything"]))
        scheme = vars(of_groups) | {"seeds": list(of_groups.seeds)}
        scheme = {key: value for key, value in scheme.items() if key != "seeds" or value}
    for this in rounds:
        divided(data, this.split)
    name = f"{chain.last.config['name']}-{kind}"  # each kind of cross-validation has a folder of its own
    out = out or Path(chain.last.config["runs"]) / chain.last.corpus / name
    found = CrossValidation(chain, rounds, scheme, out, upstream or out / "stages", adapted)
    is_begun(out / CROSS_VALIDATION, found.provenance)
    return found
