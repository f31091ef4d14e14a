"""What a run leaves behind: its lineage, its predictions, and pictures in W&B."""

from cry_lightning.callbacks.dashboard import Figures, finish_wandb, set_up_wandb, wandb_is_online
from cry_lightning.callbacks.lineage import LineageRecorder
from cry_lightning.callbacks.table import PredictionsWriter

__all__ = ["Figures", "LineageRecorder", "PredictionsWriter", "finish_wandb", "set_up_wandb", "wandb_is_online"]
