"""What `paper.yaml` says: the systems of a publication, the corpora they can run on, and what was published."""

import logging
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

import jsonargparse

from cry_lightning.errors import UserError
from cry_lightning.evaluation.tables import SUMMARY
from cry_lightning.messages import one_line

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
        published: its figures in the publication.
        against: a system above it, besides the first, from which its difference is told.
        needs: published weights, by path, and where to get them; without them the row is left out.
    """

    stages: list[str] = field(default_factory=list)
    fuses: list[str] = field(default_factory=list)
    arguments: str = ""
    published: Figures = field(default_factory=dict)
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
class Paper:
    """A publication and how to run it.

    Args:
        title: authors, year and what is tabled.
        metrics: what is tabled, as `evaluate` calls it.
        systems: its rows, by name; differences are from the first.
        corpora: what it can run on, by name.
        upstream: published figures of the stages that come first, by the stage's name.
        references: further published figures.
    """

    title: str
    metrics: list[str]
    systems: dict[str, System]
    corpora: dict[str, Setting]
    upstream: dict[str, Figures] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)


def read_paper(path: Path) -> Paper:
    """Read a paper.yaml.

    Raises:
        UserError: it cannot be read, or says what makes no sense.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--paper", type=Paper)
    content = _content(path)
    try:
        paper = parser.instantiate_classes(parser.parse_object({"paper": content})).paper
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise UserError(one_line(f"{path}: {error}")) from error
    check(paper, path)
    return paper


def _content(path: Path) -> object:
    try:
        return jsonargparse.get_loader("yaml")(path.read_text(encoding="utf-8"))
    except OSError as error:
        there = ", ".join(sorted(str(paper.parent) for paper in Path("configs/papers").glob("*/paper.yaml")))
        way_out = f"there are {there}" if there else "give a paper.yaml of configs/papers"
        raise UserError(f"{path}: cannot be read ({error.strerror}); {way_out}") from error


def check(paper: Paper, path: Path) -> None:
    """Refuse systems that are neither a chain of stages that are there nor a fusion of earlier ones.

    Raises:
        UserError: there is such a system, or a stage has arguments and no YAML.
    """
    if unknown := [metric for metric in paper.metrics if metric not in NAMES]:
        raise UserError(f"{path}: metrics: {', '.join(unknown)} is none of {', '.join(NAMES)}")
    seen: list[str] = []
    for name, system in paper.systems.items():
        if bool(system.stages) == bool(system.fuses):
            raise UserError(f"{path}: system {name!r} needs either stages or fuses")
        named = [*system.fuses, *([system.against] if system.against else [])]
        if unknown := [other for other in named if other not in seen]:
            raise UserError(f"{path}: system {name!r} names {', '.join(unknown)}, which must stand above it")
        seen.append(name)
    stages = {stage for system in paper.systems.values() for stage in system.stages}
    given = {stage for setting in paper.corpora.values() for stage in setting.stages} - {"every"}
    if absent := [stage for stage in sorted(stages | given) if not path.with_name(f"{stage}.yaml").exists()]:
        raise UserError(f"{path}: no {', '.join(f'{stage}.yaml' for stage in absent)} beside it")


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
