"""What `paper.yaml` says: the systems of a publication, the corpora they can run on, and what was published."""

import logging
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

from cry_lightning.console import UserError
from cry_lightning.evaluation.tables import SUMMARY

log = logging.getLogger(__name__)
NAMES = SUMMARY | {"sensitivity": "sensitivity", "specificity": "specificity"}  # of the metrics that are tabled
Figures = dict[str, str]  # metric -> as published


@dataclass(frozen=True)
class System:
    """One row of the table: a chain of stages, or a fusion of other systems.

    Args:
        stages: names of the stage YAMLs beside paper.yaml, in their order.
        fuses: instead, the names of the systems whose probabilities are fused.
        arguments: of the last stage.
        published: its figures in the publication, by its version.
        against: a system above it, besides the first, from which its difference is told.
        needs: published weights, by path, and where to get them; without them the row is left out.
    """

    stages: list[str] = field(default_factory=list)
    fuses: list[str] = field(default_factory=list)
    arguments: str = ""
    published: dict[str, Figures] = field(default_factory=dict)
    against: str | None = None
    needs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """A corpus to run on.

    Args:
        protocols: how it is divided, by name: options of `cross-validate`, and further arguments of the last stage.
        stages: arguments of `fit` that each stage takes there, by name; those of "every" all last stages take.
        needs: what must lie on the disk, by path: where to get it.
        positive: the class of sensitivity, where there are two.
        note: what a reader must know.
    """

    protocols: dict[str, str]
    stages: dict[str, str] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)
    positive: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Reference:
    """A published figure of another system, or of another protocol, to be read beside ours."""

    name: str
    figures: Figures


@dataclass(frozen=True)
class Work:
    """Another published work, and how it came by its figure.

    Args:
        name: authors and year.
        corpus: and its classes.
        figure: metric and value, as published.
        protocol: what was kept apart between training and testing, as far as it is known.
    """

    name: str
    corpus: str
    figure: str
    protocol: str


@dataclass(frozen=True)
class Paper:
    """A publication and how to run it.

    Args:
        title: authors, year and what is tabled.
        metrics: what is tabled, as `evaluate` calls it.
        systems: its rows, by name; differences are from the first.
        corpora: what it can run on, by name.
        versions: of the publication, where their figures differ; a column each.
        upstream: published figures of the stages that come first, by the stage's name.
        references: further published figures.
        compared: other works, on whatever corpus.
    """

    title: str
    metrics: list[str]
    systems: dict[str, System]
    corpora: dict[str, Setting]
    versions: list[str] = field(default_factory=lambda: ["published"])
    upstream: dict[str, Figures] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)
    compared: list[Work] = field(default_factory=list)


def setting_of(paper: Paper, name: str | None) -> tuple[str, Setting]:
    """The corpus asked for, or else the first, and whether it can be run.

    Raises:
        UserError: there is none of that name, or its recordings are not on this disk.
    """
    name = name or next(iter(paper.corpora))
    if name not in paper.corpora:
        raise UserError(f"--corpus {name} (ON= of make): {paper.title} runs on {', '.join(paper.corpora)}")
    setting = paper.corpora[name]
    if told := missing(setting.needs):
        others = [other for other, of in paper.corpora.items() if not missing(of.needs)]
        stand_ins = f"--corpus {' or '.join(others)} (ON= of make)"
        raise UserError(f"corpus {name}: {told}. What can run here as a stand-in: {stand_ins}")
    return name, setting


def missing(needs: dict[str, str]) -> str:
    """What of it does not lie on the disk, and where to get it, in words; empty where nothing is missing."""
    return "; ".join(f"{path} is not there: {where}" for path, where in needs.items() if not Path(path).exists())


def can_run(paper: Paper) -> Paper:
    """The paper without the systems whose published weights, or whose members, are not there; they are told."""
    kept: dict[str, System] = {}
    for name, system in paper.systems.items():
        absent = missing(system.needs) or ", ".join(f"no {member}" for member in system.fuses if member not in kept)
        if absent:
            log.warning("%s is left out: %s", name, absent)
        else:
            kept[name] = system
    return replace(paper, systems=kept)


def stage_arguments(paper: Path, setting: Setting, system: System) -> list[list[str]]:
    """The arguments of `fit` for each stage of a system on a corpus."""
    stages = [
        ["--config", str(paper.with_name(f"{stage}.yaml")), *shlex.split(setting.stages.get(stage, ""))]
        for stage in system.stages
    ]
    stages[-1] += [*shlex.split(setting.stages.get("every", "")), *shlex.split(system.arguments)]
    return stages
