"""What an encoder makes of clips while it is trained: a map of its embeddings and, of SimCLR, the views it compares."""

import torch
from lightning import Callback, LightningModule, Trainer

from cry_lightning.callbacks import pictures
from cry_lightning.callbacks.dashboard import wandb_loggers
from cry_lightning.callbacks.table import data_of
from cry_lightning.lineage import fingerprint
from cry_lightning.tasks.stage_data import StageData

MOST_CLIPS = 512  # of a map
N_VIEWED = 4  # clips
VIEW_SEED = 0  # the same views in every epoch, so that they compare


class Maps(Callback):
    """Sends a map of validation clips to W&B every some epochs and at the end, with SimCLR's views of a few clips.

    The clips are those of the probe, which have labels, or else the stage's own.

    Args:
        every_n_epochs: how often; 0 for never.
    """

    def __init__(self, every_n_epochs: int) -> None:
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw both, after a validation that is due; nothing is drawn at random that the training would draw."""
        epoch, loggers = trainer.current_epoch, wandb_loggers(trainer)
        if not (loggers and self.every_n_epochs and trainer.is_global_zero):
            return
        if epoch % self.every_n_epochs and epoch + 1 != trainer.max_epochs:
            return
        data = data_of(trainer)
        with trainer.precision_plugin.forward_context():
            embedded = embed(pl_module, data.probe or data)
            views = two_views(pl_module, data) if hasattr(pl_module, "project_views") else []
        for logger in loggers:
            if embedded is not None:
                logger.log_image("val/embeddings", [pictures.map_figure(*embedded)])
            if views:
                drawn = [pictures.views_figure(*pair) for _, *pair in views]
                logger.log_image("val/views", drawn, caption=[caption for caption, *_ in views])


def embed(stage: LightningModule, data: StageData) -> tuple[torch.Tensor, list[str]] | None:
    """Embeddings (n, D) of validation clips and their labels; none where the stage gives none, or too few."""
    found, rows = [], []
    for batch in data.loader("val"):
        embeddings = stage.embed(batch["features"].to(stage.device))  # type: ignore[operator]
        if embeddings.ndim != 2:
            return None
        found.append(embeddings.float().cpu())
        rows += batch["index"].tolist()
        if len(rows) >= MOST_CLIPS:
            break
    labels = [data.clips[row].label or "unlabelled" for row in rows[:MOST_CLIPS]]
    return (torch.cat(found)[:MOST_CLIPS], labels) if len(labels) > 2 else None


def two_views(stage: LightningModule, data: StageData) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """A hash, and two augmented views (F, T), of each of a few validation clips."""
    batch = next(iter(data.loader("val")))
    features, rows = batch["features"][:N_VIEWED].to(stage.device), batch["index"][:N_VIEWED].tolist()
    with torch.random.fork_rng(devices=[features.device] if features.is_cuda else []):
        torch.manual_seed(VIEW_SEED)
        seen = stage.view(torch.cat([features, features]), augmented=True).float().cpu()  # type: ignore[operator]
    hashes = [fingerprint(data.features.content[row]) for row in rows]
    return [(name, seen[n, 0], seen[n + len(rows), 0]) for n, name in enumerate(hashes)]
