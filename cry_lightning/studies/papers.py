"""`paper`: a recipe run whole: every system under every protocol, checked before anything is trained, tabled."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cry_lightning.commands.arguments import check_folder
from cry_lightning.commands.stage import KEYS, check_overrides
from cry_lightning.console import UserError, as_markdown_text, did_you_mean
from cry_lightning.evaluation.compare import as_markdown, as_text, pairs
from cry_lightning.evaluation.fuse import fuse
from cry_lightning.evaluation.run import Run, evaluated, named_apart
from cry_lightning.files import write_table, write_text
from cry_lightning.report.command import write_report
from cry_lightning.report.page import StudyPage, write_page
from cry_lightning.studies import label_efficiency, paper_tables
from cry_lightning.studies.cross_validation import CrossValidation, planned, read_chain, write_pooled
from cry_lightning.studies.engine import WITHOUT_BARS, StageConfig, Stages, Study, naming, side_by_side, test
from cry_lightning.studies.label_efficiency import WEIGHTS, Encoder, LabelStudy
from cry_lightning.studies.recipe import (
    EVERY,
    LAST,
    OF_POSITIVE,
    Changes,
    Labels,
    Protocol,
    Recipe,
    Setting,
    System,
    missing,
    read_recipe,
    texts,
    yaml_of,
)
from cry_lightning.studies.rounds import Fold

log = logging.getLogger(__name__)

Runs = dict[str, dict[str, Run]]  # protocol -> system -> run
Plans = dict[str, dict[str, CrossValidation | None]]  # protocol -> system; a fusion has none
Round = tuple[CrossValidation, Fold, str | None]  # and the checkpoint that it starts from


@dataclass(frozen=True)
class Order:
    """A recipe on one of its corpora, as the user has asked for it.

    Args:
        path: of the recipe.
        recipe: what it says.
        setting: the corpus.
        given: the user's own arguments of each stage, by its name; "last" and "every" as in the recipe.
    """

    path: Path
    recipe: Recipe
    setting: Setting
    given: Mapping[str, Sequence[str]]

    def stages(self, system: System, protocol: Protocol) -> list[StageConfig]:
        """The stages of a system under a protocol."""
        last = self._stage(system.stages[-1], system.arguments, protocol.arguments)
        return [*self.before_last(system), last]

    def _stage(self, name: str, *of_last: Changes) -> StageConfig:
        """What is particular wins over what is general, and the user's arguments over both."""
        shared = [EVERY, LAST, name] if of_last else [EVERY, name]
        own = {"name": name} if name in self.recipe.configs else {}
        return StageConfig(str(yaml_of(self.recipe, self.path, name)), name=name).changed(
            own,
            *(self.setting.stages.get(key, {}) for key in shared),
            *of_last,
            *(self.given.get(key, ()) for key in shared),
        )

    def positive(self, protocol: str) -> str | None:
        """The class of sensitivity under a protocol."""
        return self.setting.protocols[protocol].positive or self.setting.positive

    def before_last(self, system: System) -> list[StageConfig]:
        """The stages of a system that its encoder comes from."""
        return [self._stage(name) for name in system.stages[:-1]]

    def with_labels(self, system: System, labels: Labels) -> StageConfig:
        """The last stage of a system, without what is the system's own, and without weights: those come from before."""
        return self._stage(system.stages[-1], {WEIGHTS: None}, labels.arguments)

    def chains(self) -> Iterator[tuple[str, str, list[StageConfig]]]:
        """Protocol, system and stages of each cross-validation."""
        for protocol, division in self.setting.protocols.items():
            for name, system in self.recipe.systems.items():
                if system.stages:
                    yield protocol, name, self.stages(system, division)

    def every_chain(self) -> list[list[StageConfig]]:
        """The stages of all chains, those with few labels too."""
        with_labels = [
            [*self.before_last(system), self.with_labels(system, labels)]
            for labels in self.setting.labels.values()
            for system in labels.systems(self.recipe.systems).values()
        ]
        return [stages for *_, stages in self.chains()] + with_labels


def by_stage(recipe: Recipe, overrides: Sequence[str]) -> dict[str, list[str]]:
    """The user's arguments by the stage that they are for: --STAGE.KEY=VALUE, or --KEY=VALUE for every last stage.

    Raises:
        UserError: an argument begins with neither a stage nor a key of one.
    """
    names = [*recipe.stages, LAST, EVERY]
    found: dict[str, list[str]] = {}
    stage = LAST
    for text in overrides:
        if text.startswith("--"):
            first, dot, _ = text[2:].partition("=")[0].partition(".")
            if dot and first not in [*names, *KEYS]:
                near = did_you_mean([first], [*names, *KEYS], "--")
                raise UserError(f"unrecognized arguments: {text}{near}; the stages are {', '.join(recipe.stages)}")
            stage = first if dot and first in names else LAST
            text = f"--{text.removeprefix(f'--{first}.')}" if stage == first else text
        found.setdefault(stage, []).append(text)
    return found


def check_recordings(order: Order, name: str) -> None:
    """Refuse a corpus whose recordings are not on this disk, unless the user's arguments name others in their place.

    Raises:
        UserError: naming them, and the corpora that can be run on instead; or an argument has a mistake.
    """
    replaced = paths_in(replace(order, given={})) - paths_in(order)
    wanted = {path: where for path, where in order.setting.needs.items() if path not in replaced}
    if absent := missing(wanted):
        others = [other for other, of in order.recipe.corpora.items() if not missing(of.needs)]
        stand_ins = f"--corpus {' or '.join(others)} (ON= of make)"
        raise UserError(f"corpus {name}: {absent}. What can run here as a stand-in: {stand_ins}")


def paths_in(order: Order) -> set[str]:
    """What the configs of all stages name of the recordings that the corpus needs.

    Raises:
        UserError: a config has a mistake.
    """
    stages = dict.fromkeys(stage for stages in order.every_chain() for stage in stages)
    configs = []
    for stage in stages:
        with naming(stage.name):
            configs.append(check_overrides(stage.path, stage.changes))
    named = set(texts(configs))
    return {path for path in order.setting.needs if any(f"{text}/".startswith(f"{path}/") for text in named)}


def can_run(recipe: Recipe, corpus: str) -> Recipe:
    """The recipe without the systems that are not for a corpus, or whose published weights or members are not there."""
    kept: dict[str, System] = {}
    for name, system in recipe.systems.items():
        if system.only_on and corpus not in system.only_on:
            continue
        absent = missing(system.needs) or ", ".join(f"no {member}" for member in system.fuses if member not in kept)
        if absent:
            log.warning("%s is left out: %s", name, absent)
        else:
            kept[name] = system
    return replace(recipe, systems=kept)


def plan_all(order: Order, out: Path, known: Stages) -> Plans:
    """Check the inputs of every stage, then the divisions of every system; nothing is trained.

    Raises:
        UserError: naming the stage and what it lacks.
    """
    plans: Plans = {}
    chains = list(order.chains())
    for stages in order.every_chain():
        read_chain([stage.changed(WITHOUT_BARS) for stage in stages], known)
    for protocol in order.setting.protocols:
        plans[protocol] = dict.fromkeys(order.recipe.systems)
    for protocol, name, stages in chains:
        here, division = out / slug(protocol), order.setting.protocols[protocol]
        adapted = here / "adapted" / slug("-".join(order.recipe.systems[name].stages[:-1]))
        plan = planned(stages, division, here / slug(name), out / "upstream", adapted, known)
        check_classes(order, protocol, plan.chain.last.data.classes)
        check_upstream(order, name, plan.chain.once)
        plans[protocol][name] = plan
    return plans


def check_classes(order: Order, protocol: str, classes: Sequence[str]) -> None:
    """Refuse metrics of a positive class where there are not two, and a positive class that there is not.

    Raises:
        UserError: naming them.
    """
    positive, where = order.positive(protocol), f"{order.path}: protocol {protocol!r}"
    asked = [metric for metric in order.recipe.metrics if metric in OF_POSITIVE]
    if len(classes) != 2 and (asked or positive):
        what = f"metrics: {', '.join(asked)}" if asked else f"positive: {positive}"
        raise UserError(f"{where}: {what}: there must be two classes, not {len(classes)} ({', '.join(classes)})")
    if positive and positive not in classes:
        raise UserError(f"{where}: positive: {positive} is none of the classes {', '.join(classes)}")


def check_upstream(order: Order, system: str, once: Sequence[Study]) -> None:
    """Refuse to report a stage that has no test.

    Raises:
        UserError: naming it.
    """
    for stage, study in zip(order.recipe.systems[system].stages, once, strict=False):
        if stage in order.recipe.upstream and not study.has_test:
            raise UserError(f"{order.path}: upstream.{stage}: a pretraining, which has no test to report; leave it out")


def plan_labels(order: Order, out: Path, known: Stages) -> list[LabelStudy]:
    """Check the label efficiencies, too.

    Raises:
        UserError: naming what cannot be.
    """
    studies = []
    for name, labels in order.setting.labels.items():
        systems = labels.systems(order.recipe.systems)
        encoders = {key: Encoder(order.before_last(system), system.arguments) for key, system in systems.items()}
        last = order.with_labels(next(iter(systems.values())), labels)
        studies.append(label_efficiency.planned(last, encoders, labels, out / slug(name), out / "upstream", known))
    return studies


def train_all(plans: Plans, jobs: int) -> None:
    """Train and test what is not finished, all rounds of all systems some at a time, and pool the tests of each."""
    trained = [plan for of_protocol in plans.values() for plan in of_protocol.values() if plan]
    rounds: list[Round] = []
    for plan in trained:
        weights = plan.train_once()
        rounds += [(plan, this, weights) for this in plan.rounds]
    folders = iter(list(side_by_side(_trained, rounds, jobs, desc="paper", unit="fold")))
    for plan in trained:
        write_pooled([next(folders) for _ in plan.rounds], plan.out)


def _trained(given: Round) -> Path:
    plan, this, weights = given
    return plan.train_round(this, weights)


def evaluate_all(order: Order, plans: Plans, out: Path) -> Runs:
    """Fuse and evaluate all; the report of each protocol is written beside its runs."""
    runs: Runs = {}
    for protocol, of_protocol in plans.items():
        runs[protocol] = {}
        for name, plan in of_protocol.items():
            folder = out / slug(protocol) / slug(name)
            if plan is None:
                fuse([str(runs[protocol][member].folder) for member in order.recipe.systems[name].fuses], folder)
            runs[protocol][name] = evaluated(folder, order.positive(protocol))
        reported = named_apart([*runs[protocol].values()])
        runs[protocol] = dict(zip(runs[protocol], reported, strict=True))
        write_report(reported, pairs(reported), out / slug(protocol))
    return runs


def test_upstream(recipe: Recipe, plans: Plans) -> dict[str, Run]:
    """The stages that come first, tested on their own corpora, by name, as far as the recipe reports them."""
    tested: dict[str, Run] = {}
    for of_protocol in plans.values():
        for name, plan in of_protocol.items():
            for stage, folder in zip(recipe.systems[name].stages, plan.folders_once if plan else [], strict=False):
                if stage in recipe.upstream and stage not in tested:
                    test(folder)
                    tested[stage] = evaluated(folder, None)
    return tested


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
    command: str,
) -> pd.DataFrame:
    """Run the command; returns what table.csv holds, or else the first label_efficiency.csv."""
    path = given / "paper.yaml" if given.is_dir() else given
    recipe = read_recipe(path).with_seeds(seeds)
    name = corpus or next(iter(recipe.corpora))
    if name not in recipe.corpora:
        raise UserError(f"--corpus {name} (ON= of make): {recipe.title} runs on {', '.join(recipe.corpora)}")
    setting = recipe.corpora[name]
    order = Order(path, can_run(recipe, name), setting, by_stage(recipe, overrides))
    check_recordings(order, name)
    study = path.parent.name if path.stem == "paper" else f"{path.parent.name}-{path.stem}"
    out = out or Path("runs") / study / name
    check_folder("--out", out)
    known = Stages()
    plans, label_studies = plan_all(order, out, known), plan_labels(order, out, known)
    head = f"{recipe.title}, on {name}. {setting.note}".strip()
    if not plans:
        print(f"\n{head}")
    tables = [tabled(recipe, order, plans, head, out, jobs, command)] if plans else []
    tables += [study.run(jobs, command) for study in label_studies]
    return tables[0]


def tabled(recipe: Recipe, order: Order, plans: Plans, head: str, out: Path, jobs: int, command: str) -> pd.DataFrame:
    """Run all systems that can be, under all protocols, and print and write the tables; returns what table.csv holds.

    Args:
        recipe: with the systems that cannot be run here, whose published figures are tabled, too.
        order: without them.
        plans: of each system under each protocol.
        head: title and note.
        out: where the tables are written.
        jobs: folds at a time.
        command: that asked for it.
    """
    train_all(plans, jobs)
    runs = evaluate_all(order, plans, out)
    tables = [paper_tables.figures(recipe, runs)]
    tables += [table for form in recipe.tables for table in paper_tables.FORMS[form](recipe, runs, plans)]
    tables += [*paper_tables.differences(recipe, runs), *paper_tables.of_works(recipe)]
    if tested := test_upstream(recipe, plans):
        tables.insert(0, paper_tables.of_upstream(recipe, tested))
    reading = paper_tables.reading(recipe, runs)
    text = "\n\n".join([head, *map(as_text, tables), reading])
    figures = paper_tables.long_form(recipe, runs)
    write(figures, "\n\n".join([f"# {as_markdown_text(head)}", *map(as_markdown, tables), reading]), out)
    protocols = sorted({run.folder.parent for of_protocol in runs.values() for run in of_protocol.values()})
    reports = [(folder.name, folder.relative_to(out) / "report.html") for folder in protocols]
    html = write_page(StudyPage(head, command, tables, reading=reading.split("\n"), reports=reports), out)
    print(f"\n{text}\n\n{out / 'table.md'}\n{out / 'table.csv'}\n{html}")
    for folder in protocols:
        print(folder / "report.html")
    return figures


def write(figures: pd.DataFrame, page: str, out: Path) -> None:
    """Write table.md and table.csv."""
    write_text(page + "\n", out / "table.md")
    write_table(figures, out / "table.csv")
