"""`tune`: search for good settings of a stage on its validation subjects, by Optuna."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import jsonargparse
import numpy as np
import optuna
import pandas as pd
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from cry_lightning import lineage
from cry_lightning.cli.process import hushed
from cry_lightning.console import UserError, did_you_mean, log_line, one_line, progress_bar
from cry_lightning.dashboard.runs import begin_study
from cry_lightning.files import Config, Json, write_json
from cry_lightning.lineage import refuse_leaky
from cry_lightning.studies import engine, tune_report
from cry_lightning.studies.engine import WITHOUT_BARS, StageConfig, Study, is_begun, open_study
from cry_lightning.tasks.checkpoints import read_checkpoint

Drawn = CategoricalDistribution | FloatDistribution | IntDistribution
Space = dict[str, Drawn]  # by the dotted key of the stage
Values = Json  # of the keys of a space
RANGE = ("low", "high", "log", "step")
PARTS = ("train", "val", "test")
FIXED = ("name", "runs", "overwrite", "ckpt_path", "checkpoint", "trainer.logger", "trainer.devices")  # for all trials
SHAPES = "{low, high} with log or step by choice, or {choices}"
JOURNAL = "journal.log"  # the finished trials, as Optuna keeps them
ONE_STEP: Json = {"trainer.max_epochs": 1, "trainer.limit_train_batches": 1, "trainer.logger": None}
AT_RANDOM = 10  # trials that do not depend on those before
PROVENANCE = "tune.json"  # what is searched in a folder


def read_space(path: str) -> Space:
    """The space in a YAML file: dotted keys of a stage, each with {low, high, log, step} or {choices}.

    Raises:
        UserError: the file is missing or is no such space.
    """
    try:
        read = jsonargparse.get_loader("yaml")  # as `fit` reads: 1e-3 is a number
        content = read(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"--space {path}: no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(one_line(f"--space {path}: not YAML ({error})")) from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"--space {path}: empty; give dotted keys of the stage, each with {SHAPES}")
    space = {}
    for key, setting in content.items():
        try:
            space[str(key)] = distribution(setting)
        except (ValueError, TypeError) as error:
            raise UserError(one_line(f"--space {path}: {key}: {error}")) from error
    return space


def distribution(setting: object) -> Drawn:
    """What one key is drawn from; whole numbers at both ends mean whole numbers in between.

    Raises:
        ValueError: it makes no sense.
    """
    if not isinstance(setting, dict):
        raise ValueError(f"expected {SHAPES}, not {setting}")
    if unknown := [key for key in setting if key not in (*RANGE, "choices")]:
        raise ValueError(f"no such setting: {unknown[0]}{did_you_mean([str(unknown[0])], [*RANGE, 'choices'])}")
    if "choices" in setting:
        choices = setting["choices"]
        if len(setting) > 1 or not isinstance(choices, list):
            raise ValueError(f"expected {SHAPES}, not {setting}")
        return CategoricalDistribution([json.dumps(c) if isinstance(c, dict | list) else c for c in choices])
    if missing := [key for key in ("low", "high") if key not in setting]:
        raise ValueError(f"{' and '.join(missing)} missing; expected {SHAPES}")
    low, high, step, log = setting["low"], setting["high"], setting.get("step"), bool(setting.get("log", False))
    numbers = [low, high, 1 if step is None else step]
    if wrong := [each for each in numbers if isinstance(each, bool) or not isinstance(each, int | float)]:
        raise ValueError(f"expected a number, not {wrong[0]}")
    if all(isinstance(each, int) for each in numbers):
        return IntDistribution(low, high, log, numbers[-1])
    return FloatDistribution(low, high, log, step)


def corners(space: Space) -> list[Values]:
    """A few settings that have, taken together, both ends of every range and each of all choices."""
    ends: dict[str, Sequence[object]] = {
        key: drawn.choices if isinstance(drawn, CategoricalDistribution) else (drawn.low, drawn.high)
        for key, drawn in space.items()
    }
    most = max(map(len, ends.values()))
    return [{key: values[index % len(values)] for key, values in ends.items()} for index in range(most)]


def check_grouping(study: Study) -> None:
    """Refuse to choose on subjects that are trained on, or tested.

    Raises:
        UserError: so it would be.
    """
    part_of: dict[str, str] = {}
    for part in PARTS:
        for subject in study.data.subjects(part):
            if part_of.setdefault(subject, part) != part:
                raise UserError(
                    f"subject {subject} is both in {part_of[subject]} and in {part}: what suits known subjects would be"
                    " chosen; set data.split.group=subject, and data.split.column=null where the corpus divides itself"
                )


def check_space(study: Study, space: Space, path: str) -> None:
    """Parse settings that have, taken together, both ends of every range and each of all choices.

    Raises:
        UserError: `fit` would not take them, or they choose who is validated on and tested.
    """
    if fixed := [key for key in space if key.startswith(FIXED)]:
        raise UserError(f"--space {path}: {fixed[0]} is the same for all trials; leave it out")
    divided = [study.data.subjects(part) for part in PARTS[1:]]
    for values in corners(space):
        try:
            corner = open_study(study.stage.changed(values))
        except UserError as error:
            known = list(dotted_keys(study.config))
            unknown = [key for key in space if key not in known]
            has_hint = any(words in str(error) for words in ("did you mean", "; it is "))
            hint = "" if has_hint else did_you_mean(unknown, known)
            raise UserError(f"--space {path}: {error}{hint}") from error
        if [corner.data.subjects(part) for part in PARTS[1:]] != divided:
            raise UserError(f"--space {path}: trials must share their validation and test subjects; leave the data be")


def dotted_keys(config: Config, prefix: str = "") -> Iterator[str]:
    """Every key of a nested config."""
    for key, value in config.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted_keys(value, f"{prefix}{key}.")


@dataclass(frozen=True)
class Goal:
    """What a trial is ranked by, as the stage says for its checkpoint."""

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


@hushed()
def open_search(runs: Path, goal: Goal) -> optuna.Study:
    """The search in a folder of run_trial folders, with the trials that are finished; a new one where there is none.

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
        raise UserError(one_line(f"{journal}: damaged ({error}); remove it: all trials are run_trial again")) from error


@hushed()
def propose(space: Space, trials: Sequence[FrozenTrial], goal: Goal, seed: int, number: int | None = None) -> Values:
    """Values of the next trial: a function of the seed and the trials so far, however often the study was stopped.

    Args:
        space: what they are drawn from.
        trials: those that are finished.
        goal: what they are scored by.
        seed: of the search.
        number: of the trial, from 0, where it is one of the first, which do not depend on those before.

    Source: Bergstra et al. 2011, "Algorithms for hyper-parameter optimization", NeurIPS: tree-structured Parzen
    estimator, after ten trials at random. Failed trials count as worse than all others.
    """
    seed_of_trial = int(np.random.SeedSequence([seed, len(trials) if number is None else number]).generate_state(1)[0])
    search = optuna.create_study(
        direction=goal.direction, sampler=TPESampler(n_startup_trials=AT_RANDOM, seed=seed_of_trial)
    )
    search.add_trials(trials)
    return search.ask({**space}).params


def run_trials(
    study: Study, space: Space, goal: Goal, seed: int, wanted: int, runs: Path, jobs: int = 1
) -> optuna.Study:
    """Run trials until there are as many as wanted, those at random some at a time; what was stopped is run again."""
    search = open_search(runs, goal)
    run_one = partial(run_trial, study, goal, space, runs)
    with progress_bar(range(wanted), "tune", initial=len(search.trials), unit="trial") as bar:
        while (first := len(search.trials)) < wanted:
            several = jobs > 1 and first < AT_RANDOM
            numbers = range(first, min(wanted, AT_RANDOM) if several else first + 1)
            proposed = [(number, propose(space, search.trials, goal, seed, number)) for number in numbers]
            for trial in engine.side_by_side(run_one, proposed, jobs):
                search.add_trial(trial)
                log_line(f"tune: trial {len(search.trials)} of {wanted} done, {scored(trial, goal)}")
                bar.update()
                if best := goal.best_first(search.trials):
                    bar.set_postfix({goal.metric: f"{best[0].value:.3f}"})
    return search


def scored(trial: FrozenTrial, goal: Goal) -> str:
    """What came of a trial, in a few words."""
    return f"failed: {trial.user_attrs['failure']}" if trial.value is None else f"{goal.metric} {trial.value:.3f}"


def common(study: Study) -> Json:
    """What all trials share."""
    return engine.one_device(study.config) | WITHOUT_BARS


def rehearse(study: Study, folder: Path) -> None:
    """Fit the stage by one step and validate it, so that what no trial can do is reported at once.

    Raises:
        UserError: as `fit`; the stage does not log its metric, or its encoder was trained on test subjects.
    """
    engine.train(study, common(study) | ONE_STEP, folder, {})
    keep_lineage(study, folder)
    shutil.rmtree(folder)


def run_trial(study: Study, goal: Goal, space: Space, runs: Path, proposed: tuple[int, Values]) -> FrozenTrial:
    """A trial, given by its number and values, fitted in its own folder.

    Raises:
        UserError: test subjects were used.
    """
    number, values = proposed
    folder = runs / f"{number:04}"
    trial = finished(space, values, *fit(study, goal, values, folder))
    if trial.value is not None:
        keep_lineage(study, folder)
    for checkpoint in folder.glob("*.ckpt"):
        checkpoint.unlink()  # a hundred of a large encoder would fill a disk; config.yaml makes it again
    return trial


def finished(space: Space, values: Values, score: float | None, epoch: int | None, failure: str) -> FrozenTrial:
    """A trial with the score of its best epoch, from 0, or none and why, as Optuna has it."""
    state = TrialState.PRUNED if score is None else TrialState.COMPLETE
    attributes = {"epoch": epoch, "failure": failure}
    return create_trial(state=state, value=score, params=values, distributions={**space}, user_attrs=attributes)


def fit(study: Study, goal: Goal, values: Values, folder: Path) -> tuple[float | None, int | None, str]:
    """Score, epoch and failure of a fit; values under which it cannot end well fail the trial, not the search."""
    try:
        group = {"pipeline": folder.parents[2].name}  # one in W&B
        engine.train(study, values | common(study) | group, folder, {})
    except (UserError, RuntimeError) as error:  # RuntimeError: out of memory, shapes that do not go together
        return None, None, one_line(str(error))
    if not (metrics := folder / "fit/metrics.csv").is_file():
        raise UserError(f"{metrics} is not there, by which trials are ranked: leave trainer.logger as it is")
    scores = pd.read_csv(metrics)[["epoch", goal.metric]]
    scores = scores[np.isfinite(scores[goal.metric])]
    if scores.empty:
        return None, None, f"{goal.metric} was never a number"
    best = scores.loc[scores[goal.metric].agg(f"idx{goal.mode}")]
    return float(best[goal.metric]), int(best["epoch"]), ""


def keep_lineage(study: Study, folder: Path) -> None:
    """Write the lineage of a fit beside its config, nothing having been tested.

    Raises:
        UserError: the fit, its choice of checkpoint, or a stage before it was trained on test subjects.
    """
    known = lineage.of_checkpoint(read_checkpoint(next(folder.glob("*.ckpt"))))
    lineage.write(known, folder / lineage.FILE)
    data = study.data
    clips = dict(zip(data.clips_of("test").names, data.features.sounds(data.rows("test")), strict=True))
    whose = [(clip.subject, clip.subject_source) for clip in data.clips_of("test")]
    tested = pd.DataFrame(whose, columns=["subject", "subject_source"]).assign(clip=[*clips])
    leakage = lineage.check(tested.assign(split="test"), replace(known, test_clips=clips))
    refuse_leaky([(str(folder), leakage)], "Tune without them, or the test will say nothing")


def run(stage: StageConfig, space_path: str, n_trials: int, seed: int, out: Path | None, jobs: int) -> Path:
    """Run the command on a stage; returns the path of its best config."""
    space = read_space(space_path)
    study = open_study(stage)
    goal = goal_of(study)
    out = out or Path(study.config["runs"]) / study.corpus / f"tune-{study.config['name']}"
    runs = out / "trials" / study.corpus
    wanted = provenance(study, space, seed)
    if not is_begun(out / PROVENANCE, wanted):
        check_grouping(study)
        check_space(study, space, space_path)
        rehearse(study, runs / "rehearsal")
        write_json(wanted, out / PROVENANCE)
    search = run_trials(study, space, goal, seed, n_trials, runs, jobs)
    trials = search.trials
    best = goal.best_first(trials)
    if not best:
        raise UserError(f"all of {len(trials)} trials failed, the last: {trials[-1].user_attrs['failure']}")
    begin_study(out, study.corpus, study.config["trainer"]["logger"])
    tune_report.write(search, goal, out)
    name = f"{study.config['name']}-tuned"
    whole = open_study(stage.changed(best[0].params, {"name": name})).config
    path = out / "best.yaml"
    command = tune_report.write_best(whole, goal, best[0], path)
    print(tune_report.text(search, goal, len(study.data.subjects("val"))))
    print(f"\n{out / 'trials.csv'}\n{out / 'trials.png'}\n{command}")
    return path


def provenance(study: Study, space: Space, seed: int) -> Json:
    """All that the trials depend on, as JSON has it."""
    inputs = {"weights": engine.start(study, None), "data": engine.digest(study.data)}
    plain = {key: vars(drawn) | {"kind": type(drawn).__name__} for key, drawn in space.items()}
    return json.loads(json.dumps({"stages": {"0": study.config}, "space": plain, "seed": seed, **inputs}))
