"""Whose sound a checkpoint was trained on."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
from lightning import Callback, LightningModule, Trainer

from cry_lightning import lineage
from cry_lightning.callbacks.table import data_of
from cry_lightning.console import UserError
from cry_lightning.files import Checkpoint, sha256
from cry_lightning.lineage import UNKNOWN, Leakage, Lineage, Sounds, StageRecord, subject_fingerprint
from cry_lightning.tasks.stage_data import StageData

log = logging.getLogger(__name__)
WAY_OUT = "train without these: `describe` names what is there twice, and subjects that a split does not keep apart"


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
        self.only_as_begun = False  # a fit that goes on by the same command, on the same clips
        self._own: tuple[StageData, StageRecord] | None = None  # of many clips it takes seconds

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say before the training, not only after it, what the test shares with it and with the stages before."""
        data = data_of(trainer)
        if self.only_as_begun and not self.divided_as_trained(data):
            raise UserError(
                f"{self.run_folder}: the recordings, or their division, have changed since this fit began;"
                " --overwrite=true begins it anew, --ckpt_path goes on all the same"
            )
        tested = data.clips_of("test")
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
            log.warning("the test will be LEAKY: %s; %s", "; ".join(map(str, overlaps)), WAY_OUT)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Checkpoint) -> None:
        """Keep the lineage of the checkpoint that is resumed or tested."""
        self.loaded = lineage.of_checkpoint(checkpoint) if "lineage" in checkpoint else None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Checkpoint) -> None:
        """Add the lineage so far."""
        checkpoint["lineage"] = self.lineage(trainer, pl_module).as_dict()

    def lineage(self, trainer: Trainer, pl_module: LightningModule) -> Lineage:
        """The stages before this one, oldest first, then this one."""
        before = self.loaded
        if before is None and (upstream := getattr(pl_module, "upstream", None)) is not None:
            before = lineage.of_checkpoint(upstream)
        if before is None:
            own_start = not getattr(pl_module.encoder, "weights_from_elsewhere", False)
            before = Lineage(complete=own_start, stages=[])
        own = replace(self.own_stage(data_of(trainer)), noise=noise_of(pl_module))
        # A resumed run finds itself there, perhaps as a release wrote it that did not look for untrained classes.
        stages = [stage for stage in before.stages if replace(stage, untrained=own.untrained) != own]
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
        return replace(self.loaded or UNKNOWN, test_clips=sounds_of(data_of(trainer), *parts))

    def verdict(self, trainer: Trainer, pl_module: LightningModule, part: str, table: pd.DataFrame) -> Leakage:
        """What is known against predictions on a part: on `val`, of the model that is trained, else of that loaded."""
        known = self.of_test(trainer, part)
        if part == "val":
            known = replace(self.lineage(trainer, pl_module), test_clips=known.test_clips)
        return lineage.check(table, known)


def subjects_of(parts: list[tuple[StageData, str]]) -> list[str]:
    """Fingerprints of the subjects of some parts, each a datamodule and the part's name."""
    clips = [clip for data, part in parts for clip in data.clips_of(part).used]
    return sorted({subject_fingerprint(clip.subject, clip.subject_source) for clip in clips})


def sources_of(parts: list[tuple[StageData, str]]) -> dict[str, int]:
    """How the subjects of some parts are known, and how many are so, as of `subjects_of`."""
    source_of = {clip.subject: clip.subject_source for data, part in parts for clip in data.clips_of(part).used}
    return dict(Counter(source_of.values()))


def clips_of(parts: list[tuple[StageData, str]]) -> Sounds:
    """Fingerprints of the clips of some parts, as of `subjects_of`, or a sketch of them."""
    return lineage.sketched(*(data.features.sounds(data.rows(part)) for data, part in parts))


def sounds_of(data: StageData, *parts: str) -> dict[str, str]:
    """Name and fingerprint of each clip of some parts."""
    each = ((data.clips_of(part).names, data.features.sounds(data.rows(part))) for part in parts)
    return {name: sound for names, sounds in each for name, sound in zip(names, sounds, strict=True)}


def noise_of(stage: LightningModule) -> list[str]:
    """Fingerprints of the recordings that a stage's augmentation adds."""
    return sorted({sound for module in stage.modules() for sound in getattr(module, "sounds", ())})
