"""What a run leaves behind: its lineage, its predictions, and pictures in W&B."""

import json
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.leakage import fingerprint

Outputs = dict[str, torch.Tensor]


class LineageRecorder(Callback):
    """Writes into every checkpoint whose sound it, and the stages before it, were trained on.

    A stage is {"stage", "corpus", "subjects", "clips", "validation_subjects"}, subjects by the hash of their id and
    clips by the hash of their audio's content; "complete" is false where an ancestor's training data is unknown.

    Args:
        stage: name of the running stage.
        run_folder: where `test` writes lineage.json.
    """

    def __init__(self, stage: str, run_folder: Path) -> None:
        self.stage = stage
        self.run_folder = run_folder
        self.loaded: dict[str, Any] | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the lineage of the checkpoint that is resumed or tested."""
        self.loaded = checkpoint.get("lineage")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the lineage so far."""
        checkpoint["lineage"] = self.lineage(trainer, pl_module)

    def lineage(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        """The stages before this one, oldest first, then this one."""
        before = self.loaded
        if before is None and pl_module.upstream is not None:
            before = pl_module.upstream.get("lineage", {"complete": False, "stages": []})
        before = before or {"complete": True, "stages": []}
        own = self.own_stage(data_of(trainer))
        stages = [stage for stage in before["stages"] if stage != own]  # a resumed run finds itself there
        return {"complete": before["complete"], "stages": [*stages, own]}

    def own_stage(self, data: Any) -> dict[str, Any]:
        """This stage's training and validation subjects and training clips, hashed and sorted."""
        return {
            "stage": self.stage,
            "corpus": data.corpus.name,
            "subjects": sorted(fingerprint(subject) for subject in data.subjects("train")),
            "clips": sorted({fingerprint(data.features.content[row]) for row in data.rows("train").tolist()}),
            "validation_subjects": sorted(fingerprint(subject) for subject in data.subjects("val")),
        }

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write lineage.json beside the predictions."""
        if not trainer.is_global_zero:
            return
        data = data_of(trainer)
        lineage = dict(self.loaded or {"complete": False, "stages": []})
        lineage["uncalibrated"] = not pl_module.calibrated
        rows = [*data.rows("val").tolist(), *data.rows("test").tolist()]  # the rows of predictions.csv
        lineage["test_clips"] = {data.clips[row].name: fingerprint(data.features.content[row]) for row in rows}
        with predictions.replacing(self.run_folder / "lineage.json") as part:
            part.write_text(json.dumps(lineage, indent=1), encoding="utf-8")


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

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Outputs, *_: Any) -> None:
        """Collect the scores of a batch."""
        self.outputs.append({key: value.cpu() for key, value in outputs.items()})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the rows of every process and write the table."""
        outputs = self.outputs
        if trainer.world_size > 1:
            gathered: list[list[Outputs]] = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(gathered, outputs)
            outputs = [output for rank in gathered for output in rank]
        if trainer.is_global_zero:
            predictions.write(predictions_table(data_of(trainer), outputs), self.run_folder / "predictions.csv")


def predictions_table(data: Any, outputs: list[Outputs]) -> pd.DataFrame:
    """The table of design: clip, recording, subject, repeat, fold, split, label, score_<class>..."""
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
        }
    )
    table[[f"score_{name}" for name in data.classes]] = scores / scores.sum(1, keepdims=True)
    return table.sort_values(["split", "clip"], ignore_index=True)


class Figures(Callback):
    """Sends the confusion matrix and a few examples to W&B, after the fit (validation) and after the test.

    Examples are pictures of features named by a hash: neither sound nor file names leave the machine.

    Args:
        n_examples: how many features are shown.
    """

    def __init__(self, n_examples: int = 8) -> None:
        self.n_examples = n_examples
        self.outputs: list[Outputs] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the last pass only."""
        self.outputs = []

    on_test_start = on_validation_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the scores of the first loader."""
        if dataloader_idx == 0 and wandb_loggers(trainer):
            self.outputs.append({key: value.cpu() for key, value in outputs.items()})

    on_test_batch_end = on_validation_batch_end

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last validation pass."""
        self.send(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the test."""
        self.send(trainer, "test")

    def send(self, trainer: Trainer, part: str) -> None:
        """Log the pictures of what was collected."""
        if not self.outputs:
            return
        data = data_of(trainer)
        table = predictions_table(data, self.outputs)
        rows = torch.cat([output["index"] for output in self.outputs])[: self.n_examples]
        features = data.features.gather(rows)
        captions = [f"{fingerprint(data.features.content[row])}: {data.clips[row].label}" for row in rows.tolist()]
        for logger in wandb_loggers(trainer):
            logger.log_image(f"{part}/confusion", [confusion_figure(table)])
            logger.log_image(f"{part}/examples", [feature_figure(f[0]) for f in features], caption=captions)


def confusion_figure(table: pd.DataFrame) -> Figure:
    """Counts of true against predicted classes of a predictions table."""
    classes = predictions.classes_of(table)
    guesses = table[predictions.score_columns(table)].to_numpy().argmax(1)
    figure = Figure(layout="constrained")
    predicted = [classes[guess] for guess in guesses]
    ConfusionMatrixDisplay.from_predictions(
        table["label"], predicted, labels=classes, ax=figure.subplots(), xticks_rotation=40, colorbar=False
    )
    return figure


def feature_figure(feature: torch.Tensor) -> Figure:
    """A picture of one feature (F, T), low frequencies below."""
    figure = Figure(figsize=(4, 2), layout="constrained")
    figure.subplots().imshow(feature.numpy(), origin="lower", aspect="auto")
    return figure


def data_of(trainer: Trainer) -> Any:
    """The datamodule of a running trainer."""
    return trainer.datamodule  # type: ignore[attr-defined]  # Trainer sets it when it runs


def wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    """The W&B loggers among a trainer's loggers."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def wandb_is_online() -> bool:
    """Whether W&B may go online: a key is found and WANDB_MODE does not forbid it. Never asks."""
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        found = netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        found = False
    return os.environ.get("WANDB_MODE", "online") == "online" and (found or bool(os.environ.get("WANDB_API_KEY")))
