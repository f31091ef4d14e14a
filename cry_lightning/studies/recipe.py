"""What a recipe says: a YAML that lists the stages of a study, how they are divided, and what is reported."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import jsonargparse
import yaml

from cry_lightning.commands.arguments import check_name
from cry_lightning.console import UserError, one_line
from cry_lightning.evaluation.compare import SUMMARY, TESTED
from cry_lightning.files import Json, kind_of
from cry_lightning.studies.division import CrossValidationPlan

OF_POSITIVE = {"sensitivity": "sensitivity", "specificity": "specificity", "precision": "precision", "f1": "F1"}
AVERAGES = {  # over classes, alike or by their cases; those of recall are UAR and accuracy
    "macro_precision": "macro precision",
    "weighted_precision": "weighted precision",
    "weighted_f1": "weighted F1",
}
NAMES = SUMMARY | OF_POSITIVE | AVERAGES  # of the metrics that are tabled
OF_CLASS = ("precision", "recall", "f1")
Form = Literal["corpus", "folds", "recall", "classes", "confusion"]
LAST, EVERY = "last", "every"  # in place of a stage's name: the last stage of each system, and all stages
Figures = dict[str, str]  # metric -> as published
if TYPE_CHECKING:
    Changes = Json  # dotted key of a stage's config -> value
else:
    Changes = dict  # of a dict[str, object], jsonargparse would make objects of the values


@dataclass(frozen=True)
class Protocol(CrossValidationPlan):
    """A division, and what else is particular to it.

    Args:
        arguments: of the last stage.
        positive: the class of sensitivity, in place of the corpus's.
    """

    arguments: Changes = field(default_factory=dict)
    positive: str | None = None


@dataclass(frozen=True)
class Labels:
    """Training with few and more labels, as by `label-efficiency`; the systems are its encoders.

    Args:
        per_class: clips of each class.
        fractions: instead, shares of each class's subjects.
        seeds: of subset and training.
        folds: of the last stage's division, to pool; its own one by default.
        arguments: of the last stage.
        encoders: name of an encoder -> the system that it is of; all systems, by their names, by default.

    Raises:
        UserError: there are no amounts, or two kinds of them.
    """

    per_class: list[int] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    folds: list[int] = field(default_factory=list)
    arguments: Changes = field(default_factory=dict)
    encoders: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.per_class) == bool(self.fractions):
            raise UserError("labels: give either per_class or fractions")

    @property
    def counted_by(self) -> Literal["label_fraction", "per_class"]:
        """What the amounts are, as the data has it."""
        return "per_class" if self.per_class else "label_fraction"

    def systems(self, systems: Mapping[str, "System"]) -> dict[str, "System"]:
        """Those of the systems that are its encoders, by the names that they have here."""
        named = self.encoders or {name: name for name in systems}
        return {name: systems[system] for name, system in named.items() if system in systems}


@dataclass(frozen=True)
class System:
    """One row of the table: a chain of stages, or a fusion of other systems.

    Args:
        stages: names of stages, in their order.
        fuses: instead, the names of the systems whose probabilities are fused.
        arguments: of the last stage.
        published: its figures in the publication, by its version.
        published_folds: its accuracy in each fold there, the mean last.
        published_classes: its precision, recall and F1 of each class there.
        against: a system above it, besides the first, from which its difference is reported.
        needs: published weights, by path, and where to get them; without them the row is left out.
        only_on: the corpora that it is run on; all by default.
    """

    stages: list[str] = field(default_factory=list)
    fuses: list[str] = field(default_factory=list)
    arguments: Changes = field(default_factory=dict)
    published: dict[str, Figures] = field(default_factory=dict)
    published_folds: list[str] = field(default_factory=list)
    published_classes: dict[str, Figures] = field(default_factory=dict)
    against: str | None = None
    needs: dict[str, str] = field(default_factory=dict)
    only_on: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Setting:
    """A corpus to run on.

    Args:
        protocols: how it is divided, by name.
        labels: label efficiencies, by name.
        stages: what each stage takes there, by its name; "last" is the last stage of each system, "every" all stages.
        needs: what must lie on the disk, by path: where to get it.
        positive: the class of sensitivity, where there are two.
        note: what a reader must know.
    """

    protocols: dict[str, Protocol] = field(default_factory=dict)
    labels: dict[str, Labels] = field(default_factory=dict)
    stages: dict[str, Changes] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)
    positive: str | None = None
    note: str = ""

    def with_seeds(self, seeds: Sequence[int]) -> "Setting":
        """See `Recipe.with_seeds`."""
        protocols = {
            name: replace(protocol, seeds=seeds) if protocol.seeds else protocol
            for name, protocol in self.protocols.items()
        }
        labels = {name: replace(one, seeds=list(seeds)) for name, one in self.labels.items()}
        return replace(self, protocols=protocols, labels=labels)


@dataclass(frozen=True)
class PublishedFigure:
    """A published figure of another system, or of another protocol, to be read beside ours."""

    name: str
    figures: Figures


@dataclass(frozen=True)
class Work:
    """Another published work, and how it came by its figure.

    Args:
        name: authors and year.
        corpus: its recordings.
        figure: metric and value, as published.
        protocol: what was kept apart between training and testing, as far as it is known.
        classes: how many, or which.
        feature: what its classifier takes.
        classifier: its kind.
    """

    name: str
    corpus: str
    figure: str
    protocol: str
    classes: str = ""
    feature: str = ""
    classifier: str = ""


@dataclass(frozen=True)
class Recipe:
    """A study: which systems are trained on which corpora, divided how, and what is reported of them.

    Args:
        title: what it is; of a publication authors, year and what is tabled.
        systems: its rows, by name; differences are from the first.
        corpora: what it can run on, by name.
        metrics: what is tabled, one of `NAMES`.
        differences: the metric of paired differences, one of `TESTED`.
        tables: forms of further tables, see `paper_tables`.
        deviation: what stands behind ±: over seeds or folds, the standard deviation or the standard error of the mean.
        configs: YAMLs of stages by their names, relative to the recipe; others are NAME.yaml beside it.
        versions: of the publication, where their figures differ; a column each.
        upstream: the stages that come first and are tested on their own corpora, by name, with published figures.
        references: further published figures.
        published_corpus: infant, or all of them -> class -> clips, as published.
        compared: other works, on whatever corpus.
    """

    title: str
    systems: dict[str, System]
    corpora: dict[str, Setting]
    metrics: list[str] = field(default_factory=lambda: ["uar"])
    differences: str = "uar"
    tables: list[Form] = field(default_factory=lambda: ["recall", "folds"])
    deviation: Literal["standard deviation", "standard error"] = "standard deviation"
    configs: dict[str, str] = field(default_factory=dict)
    versions: list[str] = field(default_factory=lambda: ["published"])
    upstream: dict[str, Figures] = field(default_factory=dict)
    references: list[PublishedFigure] = field(default_factory=list)
    published_corpus: dict[str, dict[str, int]] = field(default_factory=dict)
    compared: list[Work] = field(default_factory=list)

    @property
    def stages(self) -> list[str]:
        """The names of all stages."""
        return list(dict.fromkeys(stage for system in self.systems.values() for stage in system.stages))

    def with_seeds(self, seeds: Sequence[int] | None) -> "Recipe":
        """The recipe with these seeds wherever one division, or one subset, is trained from several."""
        if not seeds:
            return self
        return replace(self, corpora={name: setting.with_seeds(seeds) for name, setting in self.corpora.items()})


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        UserError: it cannot be read, or says what makes no sense.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--recipe", type=Recipe)
    content = _content(path)
    refuse_texts(content, path)
    try:
        recipe: Recipe = parser.instantiate(parser.parse_object({"recipe": content})).recipe
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise UserError(one_line(f"{path}: {error}")) from error
    check(recipe, path)
    return recipe


def refuse_texts(content: object, path: Path) -> None:
    """Refuse arguments in one text, where a recipe has keys and values.

    Raises:
        UserError: naming where they stand.
    """
    places = [
        ("systems", "*", "arguments"),
        *(("corpora", "*", kind, "*") for kind in ("protocols", "labels", "stages")),
    ]
    for where, value in (found for place in places for found in _at(content, place)):
        if isinstance(value, str):
            raise UserError(f"{path}: {where}: give keys and values, such as {{folds: 3}}, not the text {value!r}")


def _at(content: object, place: Sequence[str], where: str = "") -> Iterator[tuple[str, object]]:
    """What stands at a place in nested dicts, "*" being every key, with its dotted name."""
    if not place:
        yield where.removeprefix("."), content
    elif isinstance(content, Mapping):
        for key in content if place[0] == "*" else content.keys() & {place[0]}:
            yield from _at(content[key], place[1:], f"{where}.{key}")


def _content(path: Path) -> object:
    try:
        content = jsonargparse.get_loader("yaml")(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_way_out()}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is not YAML; {_way_out()}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: {kind_of(path)}, and not YAML with keys in it; {_way_out()}")
    if "model" in content:
        raise UserError(f"{path}: is a stage, no paper.yaml; {_way_out(path)}")
    return content


def _way_out(stage: Path | str = "STAGE.yaml") -> str:
    there = ", ".join(sorted(str(paper.parent) for paper in Path("configs/papers").glob("*/paper.yaml")))
    papers = f"there are {there}" if there else "give a paper.yaml of configs/papers"
    return f"{papers}; a single stage is trained by `python -m cry_lightning fit --config {stage}`"


def check(recipe: Recipe, path: Path) -> None:
    """Refuse systems that are neither a chain of stages that are there nor a fusion of earlier ones.

    Raises:
        UserError: there is such a system, or a stage that is spoken of and has no YAML.
    """
    for key, named, known in named_metrics(recipe):
        if unknown := [metric for metric in named if metric not in known]:
            raise UserError(f"{path}: {key}: {', '.join(unknown)} is none of {', '.join(known)}")
    seen: list[str] = []
    for name, system in recipe.systems.items():
        if bool(system.stages) == bool(system.fuses):
            raise UserError(f"{path}: system {name!r} needs either stages or fuses")
        if unknown := [version for version in system.published if version not in recipe.versions]:
            raise UserError(f"{path}: system {name!r}: published: {', '.join(unknown)} is none of versions")
        named = [*system.fuses, *([system.against] if system.against else [])]
        if unknown := [other for other in named if other not in seen]:
            raise UserError(f"{path}: system {name!r} names {', '.join(unknown)}, which must stand above it")
        seen.append(name)
        if unknown := [corpus for corpus in system.only_on if corpus not in recipe.corpora]:
            raise UserError(f"{path}: system {name!r}: only_on: {', '.join(unknown)} is none of corpora")
    for setting in recipe.corpora.values():
        if not (setting.protocols or setting.labels):
            raise UserError(f"{path}: each of corpora needs protocols or labels")
        for labels in setting.labels.values():
            check_encoders(recipe, labels, path)
    given = {stage for setting in recipe.corpora.values() for stage in setting.stages} - {LAST, EVERY}
    for stage in sorted({*recipe.stages, *given, *recipe.upstream}):
        if not yaml_of(recipe, path, stage).exists():
            raise UserError(f"{path}: no {recipe.configs.get(stage, f'{stage}.yaml')} beside it")


def named_metrics(recipe: Recipe) -> Iterator[tuple[str, Iterable[str], Iterable[str]]]:
    """Every key that names metrics, those it names, and those it may name."""
    yield "metrics", recipe.metrics, NAMES
    yield "differences", [recipe.differences], TESTED
    for name, system in recipe.systems.items():
        for version, figures in system.published.items():
            yield f"systems.{name}.published.{version}", figures, NAMES
        for each, figures in system.published_classes.items():
            yield f"systems.{name}.published_classes.{each}", figures, OF_CLASS
    for stage, figures in recipe.upstream.items():
        yield f"upstream.{stage}", figures, NAMES
    for reference in recipe.references:
        yield f"references.{reference.name}", reference.figures, NAMES


def check_encoders(recipe: Recipe, labels: Labels, path: Path) -> None:
    """Refuse encoders that are not of one stage.

    Raises:
        UserError: there is no such system, they fuse, end in several stages, more than one is from scratch, or a name
            is no folder's.
    """
    if unknown := set(labels.encoders.values()) - recipe.systems.keys():
        raise UserError(f"{path}: labels: encoders: {', '.join(sorted(unknown))} is none of systems")
    systems = labels.systems(recipe.systems)
    if len(lasts := {system.stages[-1] if system.stages else "a fusion" for system in systems.values()}) > 1:
        raise UserError(f"{path}: labels: all systems must end in one stage, not in {', '.join(sorted(lasts))}")
    for name, system in systems.items():
        if (len(system.stages) == 1) != (name == "scratch"):
            raise UserError(f"{path}: labels: a system of one stage is called scratch, and no other is; see {name!r}")
        check_name(f"{path}: system", name)


def yaml_of(recipe: Recipe, path: Path, stage: str) -> Path:
    """The YAML of a stage."""
    return Path(os.path.normpath(path.parent / recipe.configs.get(stage, f"{stage}.yaml")))


def missing(needs: Mapping[str, str]) -> str:
    """What of it does not lie on the disk, and where to get it, in words; empty where nothing is missing."""
    return "; ".join(f"{path} is not there: {where}" for path, where in needs.items() if not Path(path).exists())


def texts(config: object) -> Iterator[str]:
    """Every text in nested dicts and lists."""
    if isinstance(config, Mapping):
        config = list(config.values())
    if isinstance(config, str):
        yield config
    elif isinstance(config, Sequence):
        for value in config:
            yield from texts(value)
