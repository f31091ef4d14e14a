"""Whose sound a checkpoint was trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from cry_lightning import lineage
from cry_lightning.callbacks.table import data_of
from cry_lightning.lineage import UNKNOWN, Lineage, StageRecord, fingerprint, sound_fingerprint
from cry_lightning.stage_data import StageData


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

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the lineage of the checkpoint that is resumed or tested."""
        self.loaded = lineage.of_checkpoint(checkpoint) if "lineage" in checkpoint else None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the lineage so far."""
        checkpoint["lineage"] = self.lineage(trainer, pl_module).as_dict()

    def lineage(self, trainer: Trainer, pl_module: Any) -> Lineage:
        """The stages before this one, oldest first, then this one."""
        before = self.loaded
        if before is None and pl_module.upstream is not None:
            before = lineage.of_checkpoint(pl_module.upstream)
        if before is None:
            own_start = not getattr(pl_module.encoder, "weights_from_elsewhere", False)
            before = Lineage(complete=own_start, stages=[])
        own = self.own_stage(data_of(trainer))
        stages = [stage for stage in before.stages if stage != own]  # a resumed run finds itself there
        return Lineage(before.complete, [*stages, own])

    def own_stage(self, data: StageData) -> StageRecord:
        """This stage's training and validation subjects and clips, hashed and sorted.

        Those of a probe count as validation: their labels may choose the checkpoint.
        """
        trained = [(data, "train")]
        chose = [(data, "val"), *((data.probe, part) for part in ("train", "val") if data.probe)]
        return StageRecord(
            stage=self.stage,
            corpus=data.corpus.name,
            subjects=subjects_of(trained),
            clips=clips_of(trained),
            validation_subjects=subjects_of(chose),
            validation_clips=clips_of(chose),
        )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write lineage.json beside the predictions."""
        if not trainer.is_global_zero:
            return
        data = data_of(trainer)
        rows = [*data.rows("val").tolist(), *data.rows("test").tolist()]  # the rows of predictions.csv
        tested = {data.clips[row].name: sound_fingerprint(data.features.content[row]) for row in rows}
        known = replace(self.loaded or UNKNOWN, uncalibrated=not pl_module.calibrated, test_clips=tested)
        lineage.write(known, self.run_folder / lineage.FILE)


def subjects_of(parts: list[tuple[StageData, str]]) -> list[str]:
    """Fingerprints of the subjects of some parts, each a datamodule and the part's name."""
    return sorted({fingerprint(subject) for data, part in parts for subject in data.subjects(part)})


def clips_of(parts: list[tuple[StageData, str]]) -> list[str]:
    """Fingerprints of the clips of some parts, as of `subjects_of`."""
    rows = [(data.features.content, row) for data, part in parts for row in data.rows(part).tolist()]
    return sorted({sound_fingerprint(content[row]) for content, row in rows})
