"""From the steps' outputs to predictions.csv."""

from pathlib import Path

import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer

from cry_lightning.evaluation import predictions
from cry_lightning.tasks.stage_data import StageData

Outputs = dict[str, torch.Tensor]


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
    table[[f"score_{name}" for name in data.classes]] = scores / scores.sum(1, keepdims=True)
    return table.sort_values(["split", "clip"], ignore_index=True)


def data_of(trainer: Trainer) -> StageData:
    """The datamodule of a running trainer."""
    return trainer.datamodule  # type: ignore[attr-defined]  # Trainer sets it when it runs
