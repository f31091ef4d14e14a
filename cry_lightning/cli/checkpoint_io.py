"""Checkpoints written whole or not at all, and which of them a fit or a test may take up."""

import io
from pathlib import Path

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from cry_lightning.cli.runfolder import BEST, LAST
from cry_lightning.console import UserError
from cry_lightning.files import Checkpoint, Json, whole
from cry_lightning.lineage import of_checkpoint

FOR_RESUMING = ("optimizer_states", "lr_schedulers")  # of a checkpoint's keys
STATE = ("epoch", "global_step", "loops", "callbacks")  # and what else a resumed fit reads


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there; Lightning's own way is through the system's /tmp.

    It reads data alone, and removes only checkpoints in the run's folder: a resumed fit takes the name of its former
    best one from a checkpoint, which anybody may have written.

    best.ckpt goes without what only resuming needs: an optimizer may keep twice as much as the weights.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(self, checkpoint: Json, path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint whole or not at all."""
        if Path(path).name == BEST:
            # Not by ModelCheckpoint's save_weights_only: that leaves out the lineage too.
            checkpoint = {key: value for key, value in checkpoint.items() if key not in FOR_RESUMING}
        torch.save(checkpoint, content := io.BytesIO())  # into a file, it hides why a disk refuses
        with whole(Path(path)) as part:
            part.write_bytes(content.getbuffer())

    def load_checkpoint(self, path: str | Path, *_: object, **__: object) -> Json:
        """Read a checkpoint onto the CPU, as Lightning does, but without running any code that it may hold."""
        return super().load_checkpoint(path, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint of the run's own folder, and nothing else."""
        place = Path(path).resolve()
        if self.folder is not None and place.parent == self.folder.resolve() and place.suffix == ".ckpt":
            super().remove_checkpoint(path)


def check_checkpoint(path: str, checkpoint: Checkpoint, task: str, resumed: tuple[str, str] | None) -> None:
    """Refuse a checkpoint of another task, and to resume any but the stage's own, with all that it goes on from.

    Args:
        path: of the checkpoint.
        checkpoint: what it holds; best.ckpt has no state of its optimizer.
        task: class path.
        resumed: corpus and name of the stage that goes on from it; None of a test.

    Raises:
        UserError: it is another's, or lacks something.
    """
    made_by = checkpoint.get("hyper_parameters", {}).get("_class_path")
    if made_by != task:
        raise UserError(
            f"ckpt_path: {path} was made by {made_by}, not by {task};"
            " to start from its encoder use model.init_args.weights"
        )
    if resumed is None:
        return
    stages = of_checkpoint(checkpoint).stages
    own = (stages[-1].corpus, stages[-1].stage) if stages else ("?",)
    if own != resumed:
        raise UserError(
            f"ckpt_path: {path} is of stage {'/'.join(own)}, not {'/'.join(resumed)}: ckpt_path resumes the same stage;"
            " to start from another stage's encoder use model.init_args.weights"
        )
    if not checkpoint.keys() >= set(FOR_RESUMING):
        raise UserError(
            f"ckpt_path: {path} is for testing and predicting, without the optimizer's state: resume from"
            f" {Path(path).with_name(LAST)}"
        )
    if missing := [key for key in STATE if key not in checkpoint]:
        raise UserError(f"ckpt_path: {path} is damaged, it has no {', '.join(missing)}; fit the stage again")
