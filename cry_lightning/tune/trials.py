"""One trial after another: its values proposed, a fit with them, and the best validation score of that fit."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from cry_lightning import lineage, studies
from cry_lightning.console import UserError, one_line, progress_bar
from cry_lightning.lineage import refuse_leaky, sound_fingerprint
from cry_lightning.studies import WITHOUT_BARS, Study
from cry_lightning.tasks.weights import read_checkpoint
from cry_lightning.tune.space import Space, Values, as_arguments

JOURNAL = "journal.log"  # the finished trials, as Optuna keeps them
COMMON = ("--trainer.devices=1", "--trainer.logger=null", *WITHOUT_BARS)
ONE_STEP = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1")


@dataclass(frozen=True)
class Goal:
    """What a trial is judged by, as the stage says for its checkpoint."""

    metric: str
    mode: str  # min or max

    @property
    def direction(self) -> StudyDirection:
        """The mode, as Optuna has it."""
        return StudyDirection.MAXIMIZE if self.mode == "max" else StudyDirection.MINIMIZE

    def best_first(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The trials that have a score, the earlier of equals first."""
        scored = [trial for trial in trials if trial.value is not None]
        return sorted(scored, key=attrgetter("value"), reverse=self.mode == "max")


def goal_of(study: Study) -> Goal:
    """What the stage chooses its checkpoint by.

    Raises:
        UserError: it is no validation metric.
    """
    chosen_by = study.config["checkpoint"]
    if not str(chosen_by["monitor"]).startswith("val/"):
        raise UserError(
            f"checkpoint.monitor: {chosen_by['monitor']} is no validation metric; name one, such as val/uar"
        )
    return Goal(chosen_by["monitor"], chosen_by["mode"])


@contextmanager
def hushed() -> Iterator[None]:
    """Keep from the terminal what Optuna tells of each study that it makes."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


@hushed()
def open_search(runs: Path, goal: Goal) -> optuna.Study:
    """The search in a folder of run folders, with the trials that are finished; a new one where there is none.

    Raises:
        UserError: its journal is damaged.
    """
    runs.mkdir(parents=True, exist_ok=True)
    journal = runs / JOURNAL
    if journal.exists():  # a killed write leaves half a line, which all later ones would make unreadable
        content = journal.read_bytes()
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
    try:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        return optuna.create_study(storage=storage, study_name="tune", direction=goal.direction, load_if_exists=True)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(one_line(f"{journal}: damaged ({error}); remove it: all trials are run again")) from error


@hushed()
def propose(space: Space, trials: Sequence[FrozenTrial], goal: Goal, seed: int) -> Values:
    """Values of the next trial: a function of the seed and the trials so far, however often the study was stopped.

    Source: Bergstra et al. 2011, "Algorithms for hyper-parameter optimization", NeurIPS: tree-structured Parzen
    estimator, after ten trials at random. Failed trials count as worse than all others.
    """
    seed_of_trial = int(np.random.SeedSequence([seed, len(trials)]).generate_state(1)[0])
    search = optuna.create_study(direction=goal.direction, sampler=TPESampler(seed=seed_of_trial))
    search.add_trials(trials)
    return search.ask({**space}).params


def run_trials(study: Study, space: Space, goal: Goal, seed: int, wanted: int, runs: Path) -> optuna.Study:
    """Run trials until there are as many as wanted; what a killed search was at is run again."""
    search = open_search(runs, goal)
    with progress_bar(total=wanted, initial=len(search.trials), desc="tune", unit="trial") as bar:
        while len(search.trials) < wanted:
            values = propose(space, search.trials, goal, seed)
            search.add_trial(run(study, goal, space, values, runs / f"{len(search.trials):04}"))
            bar.update()
            if best := goal.best_first(search.trials):
                bar.set_postfix({goal.metric: f"{best[0].value:.3f}"})
    return search


def rehearse(study: Study, folder: Path) -> None:
    """Fit the stage by one step and validate it, so that what no trial can do is told at once.

    Raises:
        UserError: as `fit`; the stage does not log its metric, or its encoder has heard test subjects.
    """
    studies.train(study, [*COMMON, *ONE_STEP], folder, {})
    keep_lineage(study, folder)
    shutil.rmtree(folder)


def run(study: Study, goal: Goal, space: Space, values: Values, folder: Path) -> FrozenTrial:
    """A trial, fitted in its own folder.

    Raises:
        UserError: test subjects were heard.
    """
    trial = finished(space, values, *fit(study, goal, values, folder))
    if trial.value is not None:
        keep_lineage(study, folder)
    for checkpoint in folder.glob("*.ckpt"):
        checkpoint.unlink()  # a hundred of a large encoder would fill a disk; config.yaml makes it again
    return trial


def finished(space: Space, values: Values, score: float | None, epoch: int | None, failure: str) -> FrozenTrial:
    """A trial with the score of its best epoch, from 0, or none and why, as Optuna has it."""
    state = TrialState.PRUNED if score is None else TrialState.COMPLETE
    told = {"epoch": epoch, "failure": failure}
    return create_trial(state=state, value=score, params=values, distributions={**space}, user_attrs=told)


def fit(study: Study, goal: Goal, values: Values, folder: Path) -> tuple[float | None, int | None, str]:
    """Score, epoch and failure of a fit; values under which it cannot end well fail the trial, not the search."""
    try:
        studies.train(study, [*as_arguments(values), *COMMON], folder, {})
    except (UserError, RuntimeError) as error:  # RuntimeError: out of memory, shapes that do not go together
        return None, None, one_line(str(error))
    scores = pd.read_csv(folder / "fit/metrics.csv")[["epoch", goal.metric]]
    scores = scores[np.isfinite(scores[goal.metric])]
    if scores.empty:
        return None, None, f"{goal.metric} was never a number"
    best = scores.loc[scores[goal.metric].agg(f"idx{goal.mode}")]
    return float(best[goal.metric]), int(best["epoch"]), ""


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
