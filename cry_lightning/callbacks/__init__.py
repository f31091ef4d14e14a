"""What a run leaves behind: last.ckpt, its lineage, its predictions, and curves and pictures in W&B."""

from cry_lightning.callbacks.dashboard import Dashboard, Figures, finish_wandb, set_up_wandb, wandb_is_online
from cry_lightning.callbacks.last import LastCheckpoint
from cry_lightning.callbacks.lineage import LineageRecorder
from cry_lightning.callbacks.progress import EpochLines
from cry_lightning.callbacks.table import PredictionsWriter

__all__ = [
    "Dashboard",
    "EpochLines",
    "Figures",
    "LastCheckpoint",
    "LineageRecorder",
    "PredictionsWriter",
    "finish_wandb",
    "set_up_wandb",
    "wandb_is_online",
]
