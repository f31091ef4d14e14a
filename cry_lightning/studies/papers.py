"""`paper`: a published system run whole, by a YAML that lists its stages and systems."""

import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import jsonargparse
import pandas as pd
import yaml

from cry_lightning import cli
from cry_lightning.api.studies import division_of
from cry_lightning.arguments import check_folder
from cry_lightning.console import UserError, as_markdown_text, for_spreadsheets, one_line
from cry_lightning.evaluation.compare import SUMMARY, as_markdown, as_text, pairs
from cry_lightning.evaluation.fuse import fuse
from cry_lightning.evaluation.report import write_report
from cry_lightning.evaluation.run import Run, evaluate_run, read_run
from cry_lightning.files import replacing
from cry_lightning.studies.cross_validation import cross_validate
from cry_lightning.studies.engine import quiet

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
        content = jsonargparse.get_loader("yaml")(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_way_out()}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is not YAML; {_way_out()}") from error
    if isinstance(content, dict) and "model" in content:
        raise UserError(f"{path}: is a stage, no paper.yaml; {_way_out(path)}")
    return content


def _way_out(stage: Path | str = "STAGE.yaml") -> str:
    there = ", ".join(sorted(str(paper.parent) for paper in Path("configs/papers").glob("*/paper.yaml")))
    papers = f"there are {there}" if there else "give a paper.yaml of configs/papers"
    return f"{papers}; a single stage is trained by `python -m cry_lightning fit --config {stage}`"


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
        if unknown := [version for version in system.published if version not in paper.versions]:
            raise UserError(f"{path}: system {name!r}: published: {', '.join(unknown)} is none of versions")
        named = [*system.fuses, *([system.against] if system.against else [])]
        if unknown := [other for other in named if other not in seen]:
            raise UserError(f"{path}: system {name!r} names {', '.join(unknown)}, which must stand above it")
        seen.append(name)
    stages = {stage for system in paper.systems.values() for stage in system.stages}
    given = {stage for setting in paper.corpora.values() for stage in setting.stages} - {"every"}
    if absent := [stage for stage in sorted(stages | given) if not path.with_name(f"{stage}.yaml").exists()]:
        raise UserError(f"{path}: no {', '.join(f'{stage}.yaml' for stage in absent)} beside it")


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


def run(
    given: Path,
    corpus: str | None,
    overrides: Sequence[str],
    seeds: Sequence[int] | None,
    jobs: int,
    out: Path | None,
) -> pd.DataFrame:
    """Run the command; returns what table.csv holds."""
    from cry_lightning.studies import paper_tables  # which needs what is above

    path = given / "paper.yaml" if given.is_dir() else given
    paper = read_paper(path)
    name, setting = setting_of(paper, corpus)
    paper = can_run(paper)
    study = path.parent.name if path.stem == "paper" else f"{path.parent.name}-{path.stem}"
    out = out or Path("runs") / study / name
    check_folder("--out", out)
    plan = Plan(path, paper, setting, out, overrides, seeds, jobs)
    runs = run_all(plan)
    tables = [paper_tables.figures(paper, runs, metric) for metric in paper.metrics]
    tables += [*paper_tables.of_classes(runs), *paper_tables.of_folds(runs), paper_tables.differences(paper, runs)]
    tables += paper_tables.of_works(paper)
    if tested := run_upstream(plan):
        tables.insert(0, paper_tables.of_upstream(paper, tested))
    head = f"{paper.title}, on {name}. {setting.note}".strip()
    text = "\n\n".join([head, *map(as_text, tables), paper_tables.reading(runs)])
    figures = paper_tables.long_form(paper, runs)
    page = "\n\n".join([f"# {as_markdown_text(head)}", *map(as_markdown, tables), paper_tables.reading(runs)])
    write(figures, page, out)
    print(f"\n{text}\n\n{out / 'table.md'}\n{out / 'table.csv'}")
    for protocol in sorted({run.folder.parent for of_protocol in runs.values() for run in of_protocol.values()}):
        print(protocol / "report.md")
    return figures


def write(figures: pd.DataFrame, page: str, out: Path) -> None:
    """Write table.md and table.csv."""
    with replacing(out / "table.md") as part:
        part.write_text(page + "\n", encoding="utf-8")
    with replacing(out / "table.csv") as part:
        for_spreadsheets(figures).to_csv(part, index=False)
