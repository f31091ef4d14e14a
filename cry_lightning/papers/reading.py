"""Read and check a paper.yaml."""

from pathlib import Path

import jsonargparse
import yaml

from cry_lightning.console import UserError, one_line
from cry_lightning.papers.study import NAMES, Paper


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
