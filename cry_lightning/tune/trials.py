"""One trial: its values proposed, a fit with them, and the best validation score of that fit."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from cry_lightning import lineage, studies
from cry_lightning.errors import UserError
from cry_lightning.jsonfile import read_object
from cry_lightning.lineage import refuse_leaky, sound_fingerprint
from cry_lightning.studies import WITHOUT_BARS, Study
from cry_lightning.tasks.weights import read_checkpoint
from cry_lightning.tune.space import Space, Values, as_arguments
from cry_lightning.wording import one_line
from cry_lightning.writing import replacing

optuna.logging.set_verbosity(optuna.logging.WARNING)
RECORD = "trial.json"  # written last: what has it is not trained again
COMMON = ("--trainer.devices=1", "--trainer.logger=null", *WITHOUT_BARS)
ONE_STEP = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1")


@dataclass(frozen=True)
class Goal:
    """What a trial is judged by, as the stage says for its checkpoint."""

    metric: str
    mode: str  # min or max

    def best_first(self, trials: Sequence["Trial"]) -> list["Trial"]:
        """The trials that have a score, the earlier of equals first."""
        scored = [trial for trial in trials if trial.score is not None]
        return sorted(scored, key=attrgetter("score"), reverse=self.mode == "max")


@dataclass(frozen=True)
class Trial:
    """A finished trial."""

    number: int
    values: Values
    score: float | None  # the best of its epochs; None where it failed
    epoch: int | None  # which that was, from 0
    failure: str  # why it has no score


def propose(space: Space, trials: Sequence[Trial], goal: Goal, seed: int) -> Values:
    """Values of the next trial: a function of the seed and the trials so far, however often the study was stopped.

    Source: Bergstra et al. 2011, "Algorithms for hyper-parameter optimization", NeurIPS: tree-structured Parzen
    estimator, after ten trials at random. Failed trials count as worse than all others.
    """
    seed_of_trial = int(np.random.SeedSequence([seed, len(trials)]).generate_state(1)[0])
    distributions: dict[str, BaseDistribution] = {**space}
    study = optuna.create_study(
        direction="maximize" if goal.mode == "max" else "minimize", sampler=TPESampler(seed=seed_of_trial)
    )
    for trial in trials:
        state = TrialState.PRUNED if trial.score is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=trial.score, params=trial.values, distributions=distributions))
    return study.ask(distributions).params


def rehearse(study: Study, folder: Path) -> None:
    """Fit the stage by one step and validate it, so that what no trial can do is told at once.

    Raises:
        UserError: as `fit`; the stage does not log its metric, or its encoder has heard test subjects.
    """
    studies.train(study, [*COMMON, *ONE_STEP], folder, {})
    keep_lineage(study, folder)
    shutil.rmtree(folder)


def run(study: Study, goal: Goal, number: int, values: Values, runs: Path) -> Trial:
    """Fit a trial in its own folder, and record it.

    Raises:
        UserError: test subjects were heard.
    """
    folder = runs / name_of(number)
    trial = Trial(number, values, *fit(study, goal, values, folder))
    if trial.score is not None:
        keep_lineage(study, folder)
    for checkpoint in folder.glob("*.ckpt"):
        checkpoint.unlink()  # a hundred of a large encoder would fill a disk; config.yaml makes it again
    with replacing(folder / RECORD) as part:
        part.write_text(json.dumps(asdict(trial), indent=1), encoding="utf-8")
    return trial


def fit(study: Study, goal: Goal, values: Values, folder: Path) -> tuple[float | None, int | None, str]:
    """Score, epoch and failure of a fit; values under which it cannot end well fail the trial, not the search."""
    try:
        studies.train(study, [*as_arguments(values), *COMMON], folder, {})
    except (UserError, RuntimeError) as error:  # RuntimeError: out of memory, shapes that do not go together
        return None, None, one_line(str(error))
    scores = pd.read_csv(folder / "fit/metrics.csv", float_precision="round_trip")[["epoch", goal.metric]]
    scores = scores[np.isfinite(scores[goal.metric])]
    if scores.empty:
        return None, None, f"{goal.metric} was never a number"
    best = scores.loc[scores[goal.metric].agg(f"idx{goal.mode}")]
    return float(best[goal.metric]), int(best["epoch"]), ""


def read_trials(folder: Path) -> list[Trial]:
    """The finished trials in a folder of numbered run folders, up to the first that is not finished."""
    trials: list[Trial] = []
    while (record := folder / name_of(len(trials)) / RECORD).exists():
        way_out = f"remove {record.parent}: it is tried again"
        found = read_object(record, way_out)
        if found.keys() != {field.name for field in fields(Trial)} or not isinstance(found["values"], dict):
            raise UserError(f"{record}: is not the record of a trial; {way_out}")
        trials.append(Trial(**found))
    return trials


def name_of(number: int) -> str:
    """Name of a trial's run folder."""
    return f"{number:04}"


def keep_lineage(study: Study, folder: Path) -> None:
    """Write the lineage of a fit beside its config, nothing having been tested.

    Raises:
        UserError: the fit, its choice of checkpoint, or a stage before it has heard test subjects.
    """
    known = lineage.of_checkpoint(read_checkpoint(next(folder.glob("*.ckpt"))))
    lineage.write(known, folder / lineage.FILE)
    data = study.data
    clips = {data.clips[row].name: sound_fingerprint(data.features.content[row]) for row in data.rows("test").tolist()}
    tested = pd.DataFrame({"clip": [*clips], "subject": [clip.subject for clip in data.clips_of("test")]})
    leakage = lineage.check(tested.assign(split="test"), replace(known, test_clips=clips))
    refuse_leaky([(str(folder), leakage)], "Tune without them, or the test will say nothing")
