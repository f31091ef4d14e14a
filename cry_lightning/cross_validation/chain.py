"""A chain of stages: what is trained once, what in each fold, and one fold trained."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cry_lightning import studies
from cry_lightning.console import UserError
from cry_lightning.cross_validation.plan import Round, divided
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.division import column
from cry_lightning.files import replacing
from cry_lightning.studies import WITHOUT_BARS, Study, is_finished

log = logging.getLogger(__name__)
CHECKPOINT = ("best.ckpt",)
# A killed round begins anew; and to write a large network each epoch takes as long as the epoch.
WITHOUT_LAST = "--save_every_n_steps=1000000000"


@dataclass(frozen=True)
class Chain:
    """Stages in their order; those before the last either know nothing of the tested corpus, or adapt to it."""

    once: list[Study]  # trained once: they share no subject with the last stage's corpus
    adapting: list[Study]  # trained in each fold, without its test subjects
    last: Study  # trained and tested in each fold

    @property
    def stages(self) -> list[Study]:
        """All of them, in their order."""
        return [*self.once, *self.adapting, self.last]


def open_chain(stages: Sequence[Sequence[str]]) -> Chain:
    """Resolve the stages, each given by the arguments of `fit`, and set up their data.

    Raises:
        UserError: a stage follows one that hears the tested corpus, and does not; or chooses by tested subjects; or the
            last has no test.
    """
    last = studies.open_study([*stages[-1], *WITHOUT_BARS])
    if not last.has_test:
        raise UserError(f"{last.config['name']}: a pretraining, which has no test; the last stage is to be fine-tuned")
    tested = {clip.subject for clip in last.data.clips}
    once: list[Study] = []
    adapting: list[Study] = []
    for arguments in stages[:-1]:
        study = without_probe(studies.open_study([*arguments, *WITHOUT_BARS]), tested)
        hears = tested & {clip.subject for clip in study.data.clips}
        if adapting and not hears:
            raise UserError(f"{study.config['name']}: a stage on another corpus cannot come after one on {last.corpus}")
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


def train_once(chain: Chain, stages: Path) -> str | None:
    """Train the stages that know nothing of the tested corpus in a folder; returns the last one's checkpoint."""
    weights: str | None = None
    for study in chain.once:
        folder = stages / study.corpus / study.config["name"]
        made_of = made_by([study], studies.start(study, weights), studies.digest(study.data))
        if not is_finished(folder, made_of, CHECKPOINT):
            studies.train(study, starting_from(weights), folder, made_of)
        weights = str(folder / "best.ckpt")
    return weights


def made_by(stages: Sequence[Study], start: str | None, data: str) -> dict[str, Any]:
    """All that what they make depends on: their configs, the weights they start from, and their data, by hashes."""
    return {"stages": {str(place): study.config for place, study in enumerate(stages)}, "weights": start, "data": data}


def train_round(chain: Chain, this: Round, weights: str | None, out: Path, keep: bool) -> Path:
    """Train and test one round, unless that is done; returns its run folder.

    Args:
        chain: the stages.
        this: the round.
        weights: checkpoint of the stages that were trained once, if there are any.
        out: folder of the study.
        keep: leave the checkpoints.
    """
    folder = out / "folds" / chain.last.corpus / this.name
    data = divided(chain.last.data, this.split)
    stages = [*chain.adapting, chain.last]
    heard = " ".join(studies.digest(part) for part in (*(study.data for study in chain.adapting), data))
    made_of = made_by(stages, studies.start(stages[0], weights), heard) | {"seed": this.seed}
    if is_finished(folder, made_of):
        return folder
    common = [*this.seed_arguments, WITHOUT_LAST, f"--pipeline={out.name}"]  # the dashboard's one view of all rounds
    adapted = []
    for study in chain.adapting:
        adapted.append(out / "folds" / study.corpus / f"{this.name}-{study.config['name']}")
        own = unheard(study, data, adapted[-1])
        studies.train(study, [*own, *common, *starting_from(weights)], adapted[-1], {})
        weights = str(adapted[-1] / "best.ckpt")
    own = [*this.split_arguments, *common, *starting_from(weights)]
    studies.train(chain.last, own, folder, made_of, tested="best.ckpt")
    if not keep:
        for path in adapted:
            shutil.rmtree(path)
        for checkpoint in folder.glob("*.ckpt"):
            checkpoint.unlink()
    return folder


def starting_from(weights: str | None) -> list[str]:
    """The argument that hands a stage the encoder of the stage before it; without one, its YAML says."""
    return [f"--model.init_args.weights={weights}"] if weights else []


def unheard(study: Study, tested: CryDataModule, folder: Path) -> list[str]:
    """Arguments under which a stage on the tested corpus hears no tested group, not even unlabelled.

    Args:
        study: the stage.
        tested: the data of the round.
        folder: of its run, where the subjects are listed.
    """
    division = [f"--data.split.{key}" for key in ("column=null", "scheme=holdout", "test=0")]
    group = tested.split.group
    if group == "clip":  # every subject is on both sides there, and the report is stamped LEAKY
        return division
    groups, subjects = column(tested.clips, group), column(tested.clips, "subject")
    unheard_subjects = np.unique(subjects[np.isin(groups, groups[tested.parts == "test"])])
    listed = folder / "unheard_subjects.csv"
    with replacing(listed) as part:
        pd.DataFrame({"subject": unheard_subjects, "split": "test"}).to_csv(part, index=False)
    before = study.config["data"]["exclude_subjects"] or []
    excluded = [*([before] if isinstance(before, str) else before), str(listed)]
    return [*division, f"--data.exclude_subjects={json.dumps(excluded)}"]


def share_cores(jobs: int) -> None:
    """Give each of several processes its share of the cores."""
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
