"""What a run is evaluated by: its predictions.csv, and whose sound its checkpoint was trained on."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cry_lightning import lineage
from cry_lightning.annotations.spans import COLUMN
from cry_lightning.console import UserError
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.predictions import SCORE
from cry_lightning.files import Checkpoint, sha256
from cry_lightning.lineage import UNKNOWN, Leakage, Lineage, Sounds, StageRecord, subject_fingerprint
from cry_lightning.tasks.stage_data import StageData

log = logging.getLogger(__name__)
DESCRIBED: dict[str, Callable[..., str]] = {
    "labels": lambda clip: json.dumps([clip.label, clip.columns.get(COLUMN)]),
    "subjects": lambda clip: clip.subject,
}
TESTED = "test"  # key of the same of the test clips, with labels and subjects at once
WAY_OUT = "train without these: `describe` names what is there twice, and subjects that a split does not keep apart"
PARTED = ("recording", "clip")  # what is kept whole where subjects are divided on purpose
Outputs = dict[str, torch.Tensor]


class LineageRecorder(Callback):
    """Writes into every checkpoint what it, and the stages before it, were trained on: a `lineage.Lineage`.

    Args:
        stage: name of the running stage.
        run_folder: where `test` writes lineage.json.
    """

    def __init__(self, stage: str, run_folder: Path) -> None:
        self.stage = stage
        self.run_folder = run_folder
        self.loaded: Lineage | None = None
        self.begins_anew = ""  # how a fit does that goes on by the same command, on the same clips
        self._own: tuple[StageData, StageRecord] | None = None  # of many clips it takes seconds
        self._described: tuple[StageData, dict[str, str]] | None = None  # likewise
        self.loaded_description: dict[str, str] = {}  # of the clips of the checkpoint that was loaded

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say before the training, not only after it, what the test shares with it and with the stages before."""
        data = data_of(trainer)
        if self.begins_anew and (changed := self.changed_since_begun(data)):
            raise UserError(
                f"{self.run_folder}: {changed} have changed since this fit began; {self.begins_anew},"
                f" --ckpt_path={self.run_folder / 'last.ckpt'} goes on all the same"
            )
        tested = data.clips_of("test")
        if self.begins_anew and self.differs(TESTED, data):
            log.warning(
                "%s: the test clips (%d now), their labels or subjects have changed since this fit began; it goes on,"
                " as nothing is trained on them",
                self.run_folder,
                len(tested),
            )
        if not (trainer.is_global_zero and len(tested)):
            return
        known = replace(self.lineage(trainer, pl_module), test_clips=sounds_of(data, "test"))
        table = pd.DataFrame(
            {
                "clip": tested.names,
                "subject": tested.each(lambda clip: clip.subject),
                "subject_source": tested.each(lambda clip: clip.subject_source),
                "split": "test",
            }
        )
        if overlaps := lineage.check(table, known).overlaps:
            level = logging.INFO if data.split.group in PARTED else logging.WARNING  # studies tell warnings alone
            log.log(level, "the test will be LEAKY: %s; %s", "; ".join(map(str, overlaps)), WAY_OUT)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Checkpoint) -> None:
        """Keep the lineage of the checkpoint that is resumed or tested."""
        self.loaded = lineage.of_checkpoint(checkpoint) if "lineage" in checkpoint else None
        self.loaded_description = checkpoint.get("described", {})

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Checkpoint) -> None:
        """Add the lineage so far."""
        checkpoint["lineage"] = self.lineage(trainer, pl_module).as_dict()
        checkpoint["described"] = self.description(data_of(trainer))

    def lineage(self, trainer: Trainer, pl_module: LightningModule) -> Lineage:
        """The stages before this one, oldest first, then this one."""
        before = self.loaded
        if before is None and (upstream := getattr(pl_module, "upstream", None)) is not None:
            before = lineage.of_checkpoint(upstream)
        if before is None:
            own_start = not getattr(pl_module.encoder, "weights_from_elsewhere", False)
            before = Lineage(complete=own_start, stages=[])
        own = chosen_on(trainer, replace(self.own_stage(data_of(trainer)), noise=noise_of(pl_module)))
        # A resumed run finds itself there, perhaps as a release wrote it that did not look for all of this.
        now = partial(replace, untrained=own.untrained, chosen_on=own.chosen_on, probed_on=own.probed_on)
        stages = [stage for stage in before.stages if now(stage) != own]
        return Lineage(before.complete, [*stages, own])

    def own_stage(self, data: StageData) -> StageRecord:
        """This stage's training and validation subjects and clips, hashed and sorted.

        Those of a probe count as validation: their labels may choose the checkpoint.
        """
        if self._own is not None and self._own[0] is data:
            return self._own[1]
        trained = [(data, "train")]
        chose = [(data, "val"), *((data.probe, part) for part in ("train", "val") if data.probe)]
        record = StageRecord(
            stage=self.stage,
            corpus=data.corpus.name,
            subjects=subjects_of(trained),
            clips=clips_of(trained),
            validation_subjects=subjects_of(chose),
            validation_clips=clips_of(chose),
            subject_sources=sources_of([*trained, *chose]),
            untrained=lineage.without_training(data.classes, {clip.label for clip in data.clips_of("train").used}),
        )
        self._own = data, record
        return record

    def description(self, data: StageData) -> dict[str, str]:
        """Hashes of labels, and of subjects, of what is trained on or chooses the checkpoint; one of the test."""
        if self._described is None or self._described[0] is not data:
            parts = [(one, part) for one in (data, data.probe) if one for part in ("train", "val")]
            tested = digest_of([(data, "test")], lambda clip: " ".join(value(clip) for value in DESCRIBED.values()))
            trained = {what: digest_of(parts, value) for what, value in DESCRIBED.items()}
            self._described = data, {**trained, TESTED: tested}
        return self._described[1]

    def changed_since_begun(self, data: StageData) -> str:
        """What is not as it was when the checkpoint that was loaded was written, in words; empty where all is."""
        if not self.divided_as_trained(data):
            return "the recordings, or their division,"
        changed = [what for what in DESCRIBED if self.differs(what, data)]
        return f"{' and '.join(changed)} of the clips" if changed else ""

    def differs(self, what: str, data: StageData) -> bool:
        """Whether clips are described otherwise than in the checkpoint that was loaded, which may say nothing of it."""
        now, then = self.description(data)[what], self.loaded_description
        return isinstance(then, dict) and then.get(what, now) != now

    def divided_as_trained(self, data: StageData) -> bool:
        """Whether training and validation clips are those of the last stage of the checkpoint that was loaded."""
        if self.loaded is None or not self.loaded.stages:
            return False
        now, then = self.own_stage(data), self.loaded.stages[-1]
        return (now.clips, now.validation_clips) == (then.clips, then.validation_clips)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write lineage.json beside the predictions, which must lie there."""
        if not trainer.is_global_zero:
            return
        tested_by = sha256(Path(trainer.ckpt_path)) if trainer.ckpt_path else ""
        known = replace(self.of_test(trainer, "val", "test"), uncalibrated=not pl_module.calibrated)
        lineage.write(replace(known, checkpoint=tested_by), self.run_folder / lineage.FILE)

    def of_test(self, trainer: Trainer, *parts: str) -> Lineage:
        """The lineage of the checkpoint that was loaded, tested on these parts."""
        data = data_of(trainer)
        of_recordings, of_clips = data.features.left_out(data.clips)
        return replace(
            self.loaded or UNKNOWN,
            test_clips=sounds_of(data, *parts),
            recordings=len({clip.path for clip in data.clips.used}),
            recordings_left_out=dict(of_recordings),
            listed=len(data.clips),
            left_out=dict(of_clips),
            not_listed=not_listed(data),
        )

    def verdict(self, trainer: Trainer, pl_module: LightningModule, part: str, table: pd.DataFrame) -> Leakage:
        """What is known against predictions on a part: on `val`, of the model that is trained, else of that loaded."""
        known = self.of_test(trainer, part)
        if part == "val":
            known = replace(self.lineage(trainer, pl_module), test_clips=known.test_clips)
        return lineage.check(table, known)


def chosen_on(trainer: Trainer, stage: StageRecord) -> StageRecord:
    """The stage with what a fit chooses its checkpoint on: a probe's validation clips, its own ones, or none."""
    data, best = data_of(trainer), trainer.checkpoint_callback
    monitor = best.monitor if isinstance(best, ModelCheckpoint) and best.save_top_k else None
    if monitor is None or monitor.startswith("train/"):
        return replace(stage, chosen_on={})
    probe = data.probe if "probe" in monitor else None
    clips = (probe or data).clips_of("val")
    counts = {"clips": len(clips), "subjects": len({clip.subject for clip in clips.used})}
    return replace(stage, chosen_on=counts, probed_on=probe.corpus.name if probe else "")


def subjects_of(parts: list[tuple[StageData, str]]) -> list[str]:
    """Fingerprints of the subjects of some parts, each a datamodule and the part's name."""
    clips = [clip for data, part in parts for clip in data.clips_of(part).used]
    return sorted({subject_fingerprint(clip.subject, clip.subject_source) for clip in clips})


def sources_of(parts: list[tuple[StageData, str]]) -> dict[str, int]:
    """How the subjects of some parts are known, and how many are so, as of `subjects_of`."""
    source_of = {clip.subject: clip.subject_source for data, part in parts for clip in data.clips_of(part).used}
    return dict(Counter(source_of.values()))


def digest_of(parts: list[tuple[StageData, str]], value: Callable[..., str]) -> str:
    """Hash of the sound of each clip of some parts with what stands there of it, in whatever order: a sum of hashes."""
    total = 0
    for data, part in parts:
        sounds = data.features.sounds(data.rows(part))
        for sound, text in zip(sounds, data.clips_of(part).each(value), strict=True):
            total += int.from_bytes(hashlib.sha256(f"{sound} {text}".encode(errors="surrogateescape")).digest())
    return f"{total % 2**256:064x}"


def clips_of(parts: list[tuple[StageData, str]]) -> Sounds:
    """Fingerprints of the clips of some parts, as of `subjects_of`, or a sketch of them."""
    return lineage.sketched(*(data.features.sounds(data.rows(part)) for data, part in parts))


def not_listed(data: StageData) -> dict[str, int]:
    """What the corpus left out when it was listed, and how many, by kinds; no file is named."""
    return {what: n for what, n in data.corpus.left_out.items() if n and not what.startswith("file")}


def sounds_of(data: StageData, *parts: str) -> dict[str, str]:
    """Name and fingerprint of each clip of some parts."""
    each = ((data.clips_of(part).names, data.features.sounds(data.rows(part))) for part in parts)
    return {name: sound for names, sounds in each for name, sound in zip(names, sounds, strict=True)}


def noise_of(stage: LightningModule) -> list[str]:
    """Fingerprints of the recordings that a stage's augmentation adds."""
    return sorted({sound for module in stage.modules() for sound in getattr(module, "sounds", ())})


class PredictionsWriter(Callback):
    """Writes predictions.csv from `test`: one row per test and validation clip.

    Args:
        run_folder: where it is written.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self.outputs: list[Outputs] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self.outputs = []

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Outputs, *_: object) -> None:
        """Collect the scores of a batch."""
        self.outputs.append({key: value.cpu() for key, value in outputs.items()})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the rows of every process and write the table."""
        outputs = self.outputs
        if trainer.world_size > 1:
            outputs = gathered(outputs, trainer.world_size)
        if trainer.is_global_zero:
            predictions.write(predictions_table(data_of(trainer), outputs), self.run_folder / "predictions.csv")


def gathered(outputs: list[Outputs], n_processes: int) -> list[Outputs]:
    """The outputs of all processes, in each of them."""
    of_ranks: list[list[Outputs]] = [[] for _ in range(n_processes)]
    torch.distributed.all_gather_object(of_ranks, outputs)
    return [output for rank in of_ranks for output in rank]


def predictions_table(data: StageData, outputs: list[Outputs]) -> pd.DataFrame:
    """A row for each predicted clip: `predictions.KEYS`, subject_source, score_<class>..."""
    rows = torch.cat([output["index"] for output in outputs]).tolist()
    scores = torch.cat([output["scores"] for output in outputs]).double().numpy()
    clips = [data.clips[row] for row in rows]
    table = pd.DataFrame(
        {
            "clip": [clip.name for clip in clips],
            "recording": [clip.path for clip in clips],
            "subject": [clip.subject for clip in clips],
            "repeat": data.split.repeat,
            "fold": data.split.fold,
            "split": data.parts[rows],
            "label": [clip.label for clip in clips],
            "subject_source": [clip.subject_source for clip in clips],
        }
    )
    table[[SCORE + name for name in data.classes]] = scores / scores.sum(1, keepdims=True)
    return table.sort_values(["split", "clip"], ignore_index=True)


def data_of(trainer: Trainer) -> StageData:
    """The datamodule of a running trainer."""
    return trainer.datamodule  # type: ignore[attr-defined]  # Trainer sets it when it runs
