"""What a run leaves behind: last.ckpt, its lineage, its predictions, and curves and pictures in W&B."""

from cry_lightning.callbacks.dashboard import Dashboard, Figures, set_up_wandb
from cry_lightning.callbacks.interruption import Interruption
from cry_lightning.callbacks.last import LastCheckpoint
from cry_lightning.callbacks.lineage import LineageRecorder
from cry_lightning.callbacks.maps import Maps
from cry_lightning.callbacks.progress import Bar, EpochLines
from cry_lightning.callbacks.table import PredictionsWriter

__all__ = [
    "Bar",
    "Dashboard",
    "EpochLines",
    "Figures",
    "Interruption",
    "LastCheckpoint",
    "LineageRecorder",
    "Maps",
    "PredictionsWriter",
    "set_up_wandb",
]
