"""The folder of one run: which config made it, what an older run left in it, checkpoints never half written."""

import shutil
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.plugins.io import TorchCheckpointIO

from cry_lightning.errors import UserError

IDENTITY = ("name", "model", "data", "seed_everything", "trainer.precision")  # what makes two fits the same stage
LENGTH = ("checkpoint", "trainer.max_epochs", "trainer.max_steps")  # and the same run of it
HARMLESS = ("data.workers", "data.cache_dir")
BEST, LAST = "best.ckpt", "last.ckpt"
FOR_RESUMING = ("optimizer_states", "lr_schedulers")  # of a checkpoint's keys
TESTED = ("predictions.csv", "lineage.json")
EVALUATED = ("report.md", "report.txt", "metrics.csv", "figures", "validation")


class RunFolder:
    """runs/<corpus>/<stage>, whatever the loggers.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.best = path / BEST
        self.last = path / LAST
        self.finished = path / "fit" / "finished"  # a mark that the fit reached its end

    def changed_keys(self, config: str, keys: tuple[str, ...] = (*IDENTITY, *LENGTH)) -> list[str]:
        """Which of these keys differ between the saved config and this one (YAML); none where there is no run."""
        trained = self.best.exists() or self.last.exists()  # a fit may have failed in its set-up
        if not (trained and self.config.exists()):
            return []
        old, new = yaml.safe_load(self.config.read_text(encoding="utf-8")), yaml.safe_load(config)
        return [key for key in differences(old, new) if key.startswith(keys) and key not in HARMLESS]

    def begin(self, config: str, overwrite: bool) -> None:
        """Open the folder for a new fit: nothing of an older one may pass for this one's.

        Raises:
            UserError: it holds a run with another config, and may not be overwritten.
        """
        self._refuse_changed(self.changed_keys(config), overwrite)
        for checkpoint in (self.best, self.last):
            checkpoint.unlink(missing_ok=True)
        shutil.rmtree(self.path / "fit", ignore_errors=True)
        self._remove_what_later_commands_made()
        self._save(config)

    def finish(self) -> None:
        """Mark that the fit has reached its end: best.ckpt is there from the first epoch on."""
        self.finished.parent.mkdir(parents=True, exist_ok=True)
        self.finished.touch()

    def go_on(self, config: str, overwrite: bool) -> None:
        """Open the folder for a resumed fit, which may be made longer; its logger begins a new metrics.csv.

        Its tests are removed: they would pass for those of the checkpoint to come.

        Raises:
            UserError: it holds another stage, and may not be overwritten.
        """
        self._refuse_changed(self.changed_keys(config, IDENTITY), overwrite)
        self.finished.unlink(missing_ok=True)
        self._remove_what_later_commands_made()
        metrics = self.path / "fit" / "metrics.csv"
        if metrics.exists():
            number = 1 + len(list(metrics.parent.glob("metrics-*.csv")))
            metrics.rename(metrics.with_name(f"metrics-{number}.csv"))
        self._save(config)

    def check_tested(self, checkpoint: Path, config: str) -> None:
        """Refuse to test a checkpoint of this run before the run's end, or under another config (YAML) than its own.

        Raises:
            UserError: either is so.
        """
        if checkpoint == self.best and not self.finished.exists():
            raise UserError(
                f"{self.path}: its fit was interrupted; go on with `fit --config {self.config} --ckpt_path"
                f" {self.last}`, or test what there is by naming the checkpoint: --ckpt_path {self.last}"
            )
        if checkpoint.parent == self.path and (changed := self.changed_keys(config, ("model", "data"))):
            raise UserError(
                f"{self.path} was trained with another config ({', '.join(changed[:5])}):"
                f" fit it again, or test it as it is with --config {self.config}"
            )

    def _refuse_changed(self, changed: list[str], overwrite: bool) -> None:
        if changed and not overwrite:
            raise UserError(
                f"{self.path} holds a run with another config ({', '.join(changed[:5])});"
                " give the new one another --name, or replace the old one with --overwrite=true"
            )

    def forget_evaluation(self) -> None:
        """Remove the reports, which would pass for those of another test."""
        self._remove(EVALUATED)

    def _remove_what_later_commands_made(self) -> None:
        self._remove((*TESTED, *EVALUATED, "test"))

    def _remove(self, names: tuple[str, ...]) -> None:
        for path in (self.path / name for name in names):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _save(self, config: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        part = self.config.with_suffix(".part")
        part.write_text(config, encoding="utf-8")
        part.replace(self.config)


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there; Lightning's own way may copy across file systems.

    It reads data alone, and removes only checkpoints in the run's folder: a resumed fit takes the name of its former
    best one from a checkpoint, which anybody may have written.

    best.ckpt goes without what only resuming needs: an optimizer may keep twice as much as the weights.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint whole or not at all."""
        if Path(path).name == BEST:
            # Not by ModelCheckpoint's save_weights_only: that leaves out the lineage too.
            checkpoint = {key: value for key, value in checkpoint.items() if key not in FOR_RESUMING}
        part = Path(f"{path}.part")
        super().save_checkpoint(checkpoint, part, storage_options)
        part.replace(path)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint without running any code that it may hold."""
        return super().load_checkpoint(path, *args, **(kwargs | {"weights_only": True}))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint of the run's own folder, and nothing else."""
        place = Path(path).resolve()
        if self.folder is not None and place.parent == self.folder.resolve() and place.suffix == ".ckpt":
            super().remove_checkpoint(path)


def check_task(path: str, checkpoint: dict[str, Any], task: str) -> None:
    """Refuse a checkpoint of another task, given by its class path.

    Raises:
        UserError: another task made it.
    """
    made_by = checkpoint.get("hyper_parameters", {}).get("_class_path")
    if made_by != task:
        raise UserError(
            f"ckpt_path: {path} was made by {made_by}, not by {task};"
            " to start from its encoder use model.init_args.weights"
        )


def check_stage(path: str, checkpoint: dict[str, Any], corpus: str, name: str) -> None:
    """Refuse to resume a checkpoint as any but its own stage: the one of this name on this corpus.

    Raises:
        UserError: it is of another stage.
    """
    stages = checkpoint.get("lineage", {}).get("stages", [])
    own = (stages[-1]["corpus"], stages[-1]["stage"]) if stages else ("?",)
    if own != (corpus, name):
        raise UserError(
            f"ckpt_path: {path} is of stage {'/'.join(own)}, not {corpus}/{name}: ckpt_path resumes the same stage;"
            " to start from another stage's encoder use model.init_args.weights"
        )


def check_resumable(path: str, checkpoint: dict[str, Any]) -> None:
    """Refuse to resume a checkpoint without the state of its optimizer, as best.ckpt is.

    Raises:
        UserError: it has none.
    """
    if not checkpoint.keys() >= set(FOR_RESUMING):
        raise UserError(
            f"ckpt_path: {path} is for testing and predicting, without the optimizer's state: resume from"
            f" {Path(path).with_name(LAST)}"
        )


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Dotted keys whose values differ between two nested dicts."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [k for k in (*old, *(k for k in new if k not in old))]
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{key}.{k}" if key else k)]
    return [] if old == new else [key]
