"""`python -m cry_lightning tune`: trials run where they are not yet, then the best of them as a stage config."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cry_lightning import studies
from cry_lightning.console import UserError
from cry_lightning.studies import Study, is_begun, mark, open_study
from cry_lightning.tune import report
from cry_lightning.tune.space import Space, as_arguments, as_json, check_grouping, check_space, read_space
from cry_lightning.tune.trials import goal_of, rehearse, run_trials

MADE_OF = "tune.json"  # what is searched in a folder


def run(arguments: Sequence[str], space_path: str, n_trials: int, seed: int, out: Path | None) -> Path:
    """Run the command on a stage, given by the arguments of `fit`; returns the path of its best config."""
    space = read_space(space_path)
    study = open_study(arguments)
    goal = goal_of(study)
    out = out or Path(study.config["runs"]) / study.corpus / f"tune-{study.config['name']}"
    runs = out / "trials" / study.corpus
    wanted = made_of(study, space, seed)
    if not is_begun(out / MADE_OF, wanted):
        check_grouping(study)
        check_space(study, space, space_path)
        rehearse(study, runs / "rehearsal")
        mark(out / MADE_OF, wanted)
    search = run_trials(study, space, goal, seed, n_trials, runs)
    trials = search.trials
    best = goal.best_first(trials)
    if not best:
        raise UserError(f"all of {len(trials)} trials failed, the last: {trials[-1].user_attrs['failure']}")
    report.write(search, goal, out)
    name = f"{study.config['name']}-tuned"
    whole = open_study([*study.arguments, *as_arguments(best[0].params), f"--name={name}"]).config
    path = report.write_best(whole, goal, best[0], out)
    print(report.text(search, goal, len(study.data.subjects("val"))))
    print(f"\n{out / 'trials.csv'}\n{out / 'trials.png'}\npython -m cry_lightning fit --config {path}")
    return path


def made_of(study: Study, space: Space, seed: int) -> dict[str, Any]:
    """All that the trials depend on, as JSON has it."""
    inputs = {"weights": studies.start(study, None), "data": studies.digest(study.data)}
    return json.loads(json.dumps({"stages": {"0": study.config}, "space": as_json(space), "seed": seed, **inputs}))
