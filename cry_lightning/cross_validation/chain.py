"""A chain of stages: what is trained once, what in each fold, and one fold trained."""

import json
import logging
import shutil
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cry_lightning import studies
from cry_lightning.cross_validation.plan import check_classes
from cry_lightning.data.splits import Split
from cry_lightning.errors import UserError
from cry_lightning.studies import WITHOUT_BARS, Study, is_finished

log = logging.getLogger(__name__)
CHECKPOINT = ("best.ckpt",)


@dataclass(frozen=True)
class Chain:
    """Stages in their order; those before the last either know nothing of the tested corpus, or adapt to it."""

    once: list[Study]  # trained once: they share no subject with the last stage's corpus
    adapting: list[Study]  # trained in each fold, without its test subjects
    last: Study  # trained and tested in each fold

    @property
    def config(self) -> dict[str, Any]:
        """All of its configs, by the place in the chain."""
        return {str(place): study.config for place, study in enumerate([*self.once, *self.adapting, self.last])}


def open_chain(configs: Sequence[str], overrides: Sequence[str]) -> Chain:
    """Resolve the stages and set up their data; overrides are the last one's.

    Raises:
        UserError: a stage follows one that hears the tested corpus, and does not; or chooses by tested subjects.
    """
    last = studies.open_study(["--config", configs[-1], *overrides, *WITHOUT_BARS])
    tested = {clip.subject for clip in last.data.clips}
    once: list[Study] = []
    adapting: list[Study] = []
    for config in configs[:-1]:
        study = without_probe(studies.open_study(["--config", config, *WITHOUT_BARS]), tested)
        hears = tested & {clip.subject for clip in study.data.clips}
        if adapting and not hears:
            raise UserError(f"{config}: a stage on another corpus cannot come after one on {last.corpus}")
        (adapting if hears else once).append(study)
    return Chain(once, adapting, last)


def without_probe(study: Study, tested: set[str]) -> Study:
    """The stage without a probe on tested subjects, whose labels it must not see.

    Raises:
        UserError: its checkpoint is chosen by that probe.
    """
    probe = study.data.probe
    if probe is None or not tested & {clip.subject for clip in probe.clips}:
        return study
    monitor = study.config["checkpoint"]["monitor"]
    if "probe" in monitor:
        raise UserError(f"{study.config['name']}: {monitor} chooses its checkpoint by tested subjects; use val/loss")
    log.info("%s: trained without its probe, whose subjects are tested here", study.config["name"])
    return studies.open_study([*study.arguments, "--data.probe=null"])


def train_once(chain: Chain, out: Path) -> str | None:
    """Train the stages that know nothing of the tested corpus; returns the last one's checkpoint."""
    weights: str | None = None
    for study in chain.once:
        folder = out / "stages" / study.corpus / study.config["name"]
        made_of = {"config": study.config, "weights": studies.start(study, weights), "data": studies.digest(study.data)}
        if not is_finished(folder, made_of, CHECKPOINT):
            studies.train(study, starting_from(weights), folder, made_of)
        weights = str(folder / "best.ckpt")
    return weights


def train_fold(chain: Chain, split: Split, weights: str | None, out: Path, keep: bool) -> Path:
    """Train and test one fold, unless that is done; returns its run folder.

    Args:
        chain: the stages.
        split: the fold.
        weights: checkpoint of the stages that were trained once, if there are any.
        out: folder of the study.
        keep: leave the checkpoints.
    """
    name = f"repeat{split.repeat}-fold{split.fold}"
    folder = out / "folds" / chain.last.corpus / name
    data = copy(chain.last.data)
    check_classes(data, split)
    first = [*chain.adapting, chain.last][0]
    made_of = {"config": chain.config, "weights": studies.start(first, weights), "data": studies.digest(data)}
    if is_finished(folder, made_of):
        return folder
    together = [f"--pipeline={out.name}"]  # the dashboard's one view of all folds
    adapted = []
    for study in chain.adapting:
        adapted.append(out / "folds" / study.corpus / f"{name}-{study.config['name']}")
        own = unheard(study, split, data.subjects("test"), adapted[-1])
        studies.train(study, [*own, *together, *starting_from(weights)], adapted[-1], {})
        weights = str(adapted[-1] / "best.ckpt")
    own = [f"--data.split.{key}={'null' if value is None else value}" for key, value in vars(split).items()]
    studies.train(chain.last, [*own, *together, *starting_from(weights)], folder, made_of, tested="best.ckpt")
    if not keep:
        for path in adapted:
            shutil.rmtree(path)
        for checkpoint in folder.glob("*.ckpt"):
            checkpoint.unlink()
    return folder


def starting_from(weights: str | None) -> list[str]:
    """The argument that hands a stage the encoder of the stage before it; without one, its YAML says."""
    return [f"--model.init_args.weights={weights}"] if weights else []


def unheard(study: Study, split: Split, tested: list[str], folder: Path) -> list[str]:
    """Arguments under which a stage on the tested corpus hears no subject of a fold's test, not even unlabelled."""
    division = [f"--data.split.{key}" for key in ("column=null", "scheme=holdout", "test=0")]
    if split.group == "clip":  # every subject is on both sides there, and the report is stamped LEAKY
        return division
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "unheard_subjects.txt"
    listed.write_text("".join(f"{subject}\n" for subject in tested), encoding="utf-8")
    before = study.config["data"]["exclude_subjects"] or []
    excluded = [*([before] if isinstance(before, str) else before), str(listed)]
    return [*division, f"--data.exclude_subjects={json.dumps(excluded)}"]


def share_cores(jobs: int) -> None:
    """Give each of several processes its share of the cores."""
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
