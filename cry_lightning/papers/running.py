"""Every system of a publication under every protocol, each a run folder that `evaluate` reads."""

import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cry_lightning import cli
from cry_lightning.api_studies import division_of
from cry_lightning.cross_validation.command import cross_validate
from cry_lightning.evaluation.fuse import fuse
from cry_lightning.evaluation.pairs import pairs
from cry_lightning.evaluation.report import write_report
from cry_lightning.evaluation.run import Run, evaluate_run, read_run
from cry_lightning.papers.study import Paper, Setting, System, stage_arguments
from cry_lightning.studies import quiet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is run."""

    path: Path  # of paper.yaml
    paper: Paper
    setting: Setting
    out: Path
    overrides: Sequence[str]  # arguments of `fit` that all last stages take
    seeds: Sequence[int] | None  # in place of those of the protocols that have some
    jobs: int


Runs = dict[str, dict[str, Run]]  # protocol -> system -> run


def run_all(plan: Plan) -> Runs:
    """Run what is not finished, and evaluate all; the report of each protocol is written beside its runs."""
    runs: Runs = {}
    for protocol, options in plan.setting.protocols.items():
        runs[protocol] = {}
        for name, system in plan.paper.systems.items():
            folder = plan.out / slug(protocol) / slug(name)
            log.info("%s: %s", protocol, name)
            if system.fuses:
                members = [str(runs[protocol][member].folder) for member in system.fuses]
                fuse(members, folder)
            else:
                run_chain(plan, system, shlex.split(options), folder)
            runs[protocol][name] = evaluated(folder, plan.setting.positive)
        of_protocol = list(runs[protocol].values())
        write_report(of_protocol, pairs(of_protocol), plan.out / slug(protocol))
    return runs


def run_chain(plan: Plan, system: System, options: Sequence[str], folder: Path) -> None:
    """Cross-validate one system's stages; those on other corpora are shared by all systems."""
    stages = stage_arguments(plan.path, plan.setting, system)
    division, overrides = division_of(stages[-1][1], options)
    stages[-1] += [*overrides, *plan.overrides]
    if division["seeds"] and plan.seeds:
        division["seeds"] = plan.seeds
    cross_validate(stages, **division | {"out": folder, "upstream": plan.out / "upstream", "jobs": plan.jobs})


def run_upstream(plan: Plan) -> dict[str, Run]:
    """The stages that come first, tested on their own corpora, by name, as far as figures of them were published."""
    tested = {}
    for config in sorted((plan.out / "upstream").glob("*/*/config.yaml")):
        stage, folder = config.parent.name, config.parent
        if name := next((name for name in plan.paper.upstream if stage.endswith(name)), None):
            with quiet():
                cli.main(["test", "--config", str(config)], own=True)
            tested[name] = evaluated(folder, None)
    return tested


def evaluated(folder: Path, positive: str | None) -> Run:
    """A run scored on its tests."""
    return evaluate_run(read_run(str(folder), "test"), "test", positive)


def slug(name: str) -> str:
    """A name as that of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
