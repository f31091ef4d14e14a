"""Weights & Biases: whether a run goes online, what it sends, and when it begins to."""

import netrc
import os
import sys
from typing import Any
from urllib.parse import urlparse

import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from cry_lightning.callbacks.lineage import LineageRecorder
from cry_lightning.callbacks.table import Outputs, data_of, predictions_table
from cry_lightning.evaluation import predictions
from cry_lightning.lineage import Status, fingerprint

WANDB = "lightning.pytorch.loggers.WandbLogger"
# What W&B would gather by itself of the machine, its user, the command line, the packages, the code and its git
# repository stays here, unless the user has set the variable. docs/stages.md lists what is left.
UNSENT = {
    "WANDB_CONSOLE": "off",  # an error may name a file
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_JOB_CREATION": "true",
    "WANDB_SAVE_CODE": "false",
    "WANDB_X_DISABLE_MACHINE_INFO": "true",
    "WANDB_X_DISABLE_META": "true",
    "WANDB_X_DISABLE_STATS": "true",
    "WANDB_X_SAVE_REQUIREMENTS": "false",
    "WANDB_HOST": "-",
    "WANDB_PROGRAM": "-",
}


class Dashboard(Callback):
    """Joins W&B's loggers to a run where nothing refuses it any more, so that a refused one leaves nothing there.

    Args:
        loggers: W&B's.
        config: the stage's config, which they get.
    """

    def __init__(self, loggers: list[WandbLogger], config: dict[str, Any]) -> None:
        self.loggers = loggers
        self.config = config

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Begin the runs after the first batch: data, weights and shapes have been accepted."""
        if self.loggers:
            for logger in self.loggers:
                logger.log_hyperparams({"stage": self.config})
            trainer.loggers = [*trainer.loggers, *self.loggers]
            self.loggers = []

    on_test_batch_end = on_train_batch_end  # type: ignore[assignment]  # whatever it is given


class Figures(Callback):
    """Sends the confusion matrix, its stamp and a few examples to W&B, after the fit (validation) and after the test.

    Examples are pictures of features named by a hash: neither sound nor file names leave the machine.

    Args:
        recorder: knows the lineage.
        n_examples: how many features are shown.
    """

    def __init__(self, recorder: LineageRecorder, n_examples: int = 8) -> None:
        self.recorder = recorder
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
        """Collect the scores of the first loader, where the stage gives scores."""
        if outputs and dataloader_idx == 0 and wandb_loggers(trainer):
            self.outputs.append({key: value.cpu() for key, value in outputs.items()})

    on_test_batch_end = on_validation_batch_end

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last validation pass."""
        self.send(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the test."""
        self.send(trainer, pl_module, "test")

    def send(self, trainer: Trainer, pl_module: LightningModule, part: str) -> None:
        """Log the pictures of what was collected."""
        if not self.outputs:
            return
        data = data_of(trainer)
        table = predictions_table(data, self.outputs)
        rows = torch.cat([output["index"] for output in self.outputs])[: self.n_examples]
        features = data.features.gather(rows)
        captions = [f"{fingerprint(data.features.content[row])}: {data.clips[row].label}" for row in rows.tolist()]
        status = self.recorder.status(trainer, pl_module, part, table)
        for logger in wandb_loggers(trainer):
            logger.experiment.summary[f"{part}/lineage"] = status
            logger.log_image(f"{part}/confusion", [confusion_figure(table, status)])
            logger.log_image(f"{part}/examples", [feature_figure(f[0]) for f in features], caption=captions)


def confusion_figure(table: pd.DataFrame, status: Status) -> Figure:
    """Counts of true against predicted classes of a predictions table, stamped unless it is clean."""
    classes = predictions.classes_of(table)
    guesses = table[predictions.score_columns(table)].to_numpy().argmax(1)
    figure = Figure(layout="constrained")
    predicted = [classes[guess] for guess in guesses]
    ConfusionMatrixDisplay.from_predictions(
        table["label"], predicted, labels=classes, ax=figure.subplots(), xticks_rotation=40, colorbar=False
    )
    if status != "CLEAN":
        figure.suptitle(status, color="darkred")
    return figure


def feature_figure(feature: torch.Tensor) -> Figure:
    """A picture of one feature (F, T), low frequencies below."""
    figure = Figure(figsize=(4, 2), layout="constrained")
    figure.subplots().imshow(feature.numpy(), origin="lower", aspect="auto")
    return figure


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


def finish_wandb() -> None:
    """End this process's W&B run, if any: the next fit here, such as another fold, has one of its own."""
    wandb = sys.modules.get("wandb")  # it takes long to import, and most runs do without
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def set_up_wandb(config: Any, job_type: str) -> None:
    """Complete the W&B loggers of a stage's config: online, offline, or left out where W&B is disabled.

    Args:
        config: the stage's config, whose `trainer.logger` is changed in place.
        job_type: what W&B shows the run as.
    """
    for variable, value in UNSENT.items():
        os.environ.setdefault(variable, value)
    if not wandb_is_online():
        os.environ.setdefault("WANDB_SILENT", "true")
    loggers = config.trainer.logger if isinstance(config.trainer.logger, list) else [config.trainer.logger]
    own = [logger for logger in loggers if getattr(logger, "class_path", None) == WANDB]
    for logger in own:
        logger.init_args.offline = not wandb_is_online()
        logger.init_args.save_dir = config.runs
        logger.init_args.name = config.name
        logger.init_args.group = config.pipeline
        logger.init_args.job_type = job_type
    if own and os.environ.get("WANDB_MODE") == "disabled":
        config.trainer.logger = [logger for logger in loggers if logger not in own] or None
