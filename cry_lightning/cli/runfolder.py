"""The folder of one run: which config made it, and what an older run left in it."""

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import yaml

from cry_lightning.cli.precision import canonical
from cry_lightning.commands.configs import Loader
from cry_lightning.console import UserError, first_few
from cry_lightning.files import (
    LOCK,
    MADE_FROM,
    MOVING,
    OLDER,
    Config,
    locked,
    read_object_if_any,
    replacing,
    write_text,
)
from cry_lightning.files.former_names import as_now
from cry_lightning.tasks.checkpoints import sha256

IDENTITY = ("name", "model", "data", "seed_everything", "trainer.precision")  # what makes two fits the same stage
LENGTH = ("checkpoint", "trainer.max_epochs", "trainer.max_steps")  # and the same run of it
HARMLESS = ("data.cache.workers", "data.cache.folder")
BESIDE_TRAINING = (  # what may differ where a fit goes on unasked
    *("ckpt_path", "overwrite", "runs", "pipeline", "map_every_n_epochs", "save_every_n_steps", "trainer.max_time"),
    *("trainer.logger", "trainer.log_every_n_steps", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
)
BEST, LAST = "best.ckpt", "last.ckpt"
TESTED = ("predictions.csv", "lineage.json")
REFERENCE = "reference.pt"  # from `test` too, for `predict`
EVALUATED = (
    *("report.html", "report.md", "report.txt", "card.md", "checklist.md"),
    *("metrics.csv", "clinical.csv", "differences.csv", "leaks.csv", "figures", "validation"),
)
EXPORTED = tuple(f"{name}{ending}" for name in ("best", "last") for ending in (".onnx", ".pt2", "-hub"))
LATER = (*TESTED, *EVALUATED, REFERENCE, *EXPORTED, "test")  # what later commands make of a run
# Keys that older runs lack, and the values that mean what was before.
ADDED = {
    **{"trainings": 1, "val_in_train": False, "shares_of": "clips"},
    **{"layer_decay": 1.0, "head_first": 0.0, "min_batches": 0},
}
HEADER = "# python -m cry_lightning "  # how a config.yaml begins
BESIDE = (MADE_FROM, "excluded_subjects.csv", "unheard_subjects.csv")  # there before a fit; the last is a former name
made_from: ContextVar[str] = ContextVar("made_from", default="")  # what it tells of a run that takes another's place


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
        self.weights = path / "fit" / "weights.sha256"  # of the file that the fit began with
        self.before: Path | None = None  # metrics of a run that is resumed, until it is trained on

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be alone in the folder, and tell its name with what the disk refuses.

        Raises:
            UserError: it holds what is no run, or another process is at work there.
        """
        self._refuse_other_things()
        with locked(self.path):
            self._bring_back()
            yield

    def _refuse_other_things(self) -> None:
        """What a fit removes must be of a run: its lock, its config or its lineage is the mark."""
        if not self.path.is_dir() or (self.path / LOCK).is_file() or self._has_config() or self._has_lineage():
            return
        things = sorted(path.name for path in self.path.iterdir() if path.name not in BESIDE)
        if things:
            held = first_few(things, 3)
            raise UserError(f"{self.path} is no run folder, it holds {held}; give another --name or --runs")

    def _has_config(self) -> bool:
        if not self.config.is_file():
            return False
        with self.config.open("rb") as file:
            return file.read(len(HEADER)) == HEADER.encode()

    def _has_lineage(self) -> bool:
        is_exported = (self.path / "model.safetensors").exists()
        return not is_exported and bool(read_object_if_any(self.path / "lineage.json").keys() & {"stages", "folds"})

    def changed_keys(self, config: str, keys: tuple[str, ...] = (*IDENTITY, *LENGTH)) -> list[str]:
        """Which of these keys differ between the saved config and this one (YAML); none where there is no run.

        Raises:
            UserError: the saved one is damaged.
        """
        trained = self.best.exists() or self.last.exists()  # a fit may have failed in its set-up
        if not (trained and self.config.exists()):
            return []
        return [
            key
            for key in differences(self._read_config(), yaml.load(config, Loader))
            if key.startswith(keys) and key not in HARMLESS
        ]

    def _read_config(self) -> Config:
        try:
            read = yaml.load(self.config.read_text(encoding="utf-8"), Loader)
        except (yaml.YAMLError, ValueError):
            read = None
        if not isinstance(read, dict):
            raise UserError(
                f"{self.config}: damaged, so that nobody can tell what was trained here; give another --name, or"
                " replace the run with --overwrite=true"
            )
        return as_now(read)

    def precision(self, overwriting: str = "") -> str | None:
        """In which the run that is here was trained; None where there is none.

        Args:
            overwriting: config (YAML) of a fit that overwrites; None is returned where it would not go on with the run.
        """
        if overwriting and not self.is_begun(overwriting, True, (*BESIDE_TRAINING, "trainer.precision")):
            return None
        if not ((self.best.exists() or self.last.exists()) and self.config.exists()):
            return None
        return str(canonical((self._read_config().get("trainer") or {}).get("precision")))

    def begin(self, config: str, overwrite: bool) -> None:
        """Open the folder for a new fit: nothing of an older one may pass for this one's.

        An older run is put aside, and comes back if the new one ends before its first checkpoint.

        Raises:
            UserError: it holds a run with another config, or a finished one, and may not be overwritten.
        """
        if not overwrite:
            self._refuse_changed(self.changed_keys(config))
            if self.finished.exists() and self.best.exists():
                raise UserError(
                    f"{self.path} holds a finished run of this very config; train it again with --overwrite=true, or"
                    " give the new one another --name"
                )
        beside = self.path / MADE_FROM
        record = beside.read_text(encoding="utf-8") if beside.is_file() and not overwrite else made_from.get()
        if self.best.exists() or self.last.exists():
            self._put_aside((self.config.name, BEST, LAST, "fit", *LATER, MADE_FROM))
        elif overwrite:
            (self.path / OLDER).mkdir(exist_ok=True)
        self._remove(("fit", *LATER, MADE_FROM))
        if weights := _digest_of_weights(config):
            self.weights.parent.mkdir()
            write_text(weights, self.weights)
        self._save(config)
        if record:
            write_text(record, beside)

    def finish(self, n_steps: int) -> None:
        """Mark that the fit has reached its end: best.ckpt is there from the first validation on.

        Args:
            n_steps: trained, to choose a checkpoint by; 0 where none is wanted.

        Raises:
            UserError: none was chosen, or nothing was trained in the place of an older run.
        """
        older = self.path / OLDER
        if older.is_dir() and any(older.iterdir()) and not (self.best.exists() or self.last.exists()):
            raise UserError(
                f"{self.path}: nothing was trained, so that the run there is not replaced; trainer.max_epochs,"
                " max_steps and limit_train_batches must leave a batch to train on"
            )
        if n_steps and not self.best.exists():
            goes_on = f"; with --ckpt_path {self.last} it goes on" if self.last.exists() else ""
            raise UserError(
                f"{self.path}: ended after {n_steps} steps without a validation, by which a {BEST} is chosen: raise"
                " trainer.max_steps or max_epochs, or validate earlier (trainer.val_check_interval,"
                " check_val_every_n_epoch, limit_val_batches), or have the last weights kept by checkpoint.monitor=null"
                f"{goes_on}"
            )
        self.finished.parent.mkdir(parents=True, exist_ok=True)
        self.finished.touch()
        self._remove((OLDER,))

    def is_begun(self, config: str, overwrite: bool = False, beside: tuple[str, ...] = BESIDE_TRAINING) -> bool:
        """Whether a fit of this very config has not reached its end, and has a last.ckpt to go on from.

        Args:
            config: YAML.
            overwrite: only one counts that was begun with it, too, with the same weights and from the same inputs.
            beside: keys in which the run's may differ.

        Raises:
            UserError: it is, but for its weights, and may not be overwritten.
        """
        if self.finished.exists() or not (self.last.exists() and self.config.exists()):
            return False
        if overwrite and not ((self.path / OLDER).is_dir() and self._began_alike(config)):
            return False
        if not all(key.startswith(beside) for key in self.changed_keys(config, ("",))):
            return False
        if not overwrite and not self._began_alike(config):
            raise UserError(
                f"{self.path}: its fit began with other weights than are at model.init_args.weights now; with"
                f" --ckpt_path {self.last} it goes on all the same, and --overwrite=true begins anew"
            )
        return True

    def _began_alike(self, config: str) -> bool:
        """Whether the fit began with what `weights` names now, if that is known, and is made from what is told now."""
        record, beside = made_from.get(), self.path / MADE_FROM
        if record and not (beside.is_file() and beside.read_text(encoding="utf-8") == record):
            return False
        now = _digest_of_weights(config)
        return not (now and self.weights.is_file()) or self.weights.read_text(encoding="utf-8") == now

    def is_done(self, config: str, checkpoint: Path) -> bool:
        """Whether a fit of this very config, resumed from this checkpoint of the run, has nothing left to do."""
        here = checkpoint.resolve().parent == self.path.resolve()
        return here and self.finished.exists() and self.best.exists() and not self.changed_keys(config)

    def resume(self, config: str, overwrite: bool) -> None:
        """Open the folder for a resumed fit, which may be made longer; its logger begins a new metrics.csv.

        Raises:
            UserError: it holds another stage, and may not be overwritten.
        """
        if not overwrite:
            self._refuse_changed(self.changed_keys(config, IDENTITY))
        metrics = self.path / "fit" / "metrics.csv"
        if metrics.exists():
            number = 1 + len(list(metrics.parent.glob("metrics-*.csv")))
            self.before = metrics.rename(metrics.with_name(f"metrics-{number}.csv"))

    def leave(self) -> None:
        """Have the metrics of a resumed run in their place again, where it was not trained on."""
        if self.before:
            self.before.replace(self.path / "fit" / "metrics.csv")

    def train_on(self, config: str) -> None:
        """Begin to train what was resumed: its tests are removed, as they would pass for those of what comes."""
        self.before = None
        self.finished.unlink(missing_ok=True)
        self._remove(LATER)
        self._save(config)

    def check_copy(self, config: Path) -> None:
        """Refuse the config.yaml of another run's folder, as of a copy: this one would be tested for it.

        Raises:
            UserError: naming both.
        """
        folder = config.expanduser().resolve().parent
        if folder != self.path.resolve() and (folder / BEST).exists():
            raise UserError(
                f"{config}: {self.best} would be tested, and not the {BEST} beside it, as of a copied run: say by"
                f" --ckpt_path which of them is meant; the results are for {self.path}"
            )

    def check_tested(self, checkpoint: Path, config: str) -> None:
        """Refuse to test a checkpoint of this run before the run's end, or under another config (YAML) than its own.

        Raises:
            UserError: either is so.
        """
        checkpoint, folder = checkpoint.resolve(), self.path.resolve()
        if checkpoint == self.best.resolve() and not self.finished.exists():
            there = self.last if self.last.exists() else self.best
            raise UserError(
                f"{self.path}: its fit was interrupted; go on with {self.way_on()}, or test what there is by naming the"
                f" checkpoint: --ckpt_path {there}"
            )
        if checkpoint.parent == folder and (changed := self.changed_keys(config, ("model", "data"))):
            raise UserError(
                f"{self.path} was trained with another config ({first_few(changed, 5)}):"
                f" fit it again, or test it as it is with --config {self.config}"
            )

    def _refuse_changed(self, changed: list[str]) -> None:
        if changed:
            raise UserError(
                f"{self.path} holds a run with another config ({first_few(changed, 5)});"
                " give the new one another --name, or replace the old one with --overwrite=true"
            )

    def way_on(self) -> str:
        """How a fit that ended early goes on."""
        goes_on = shlex.join(["fit", "--config", str(self.config), "--ckpt_path", str(self.last)])
        return goes_on if self.last.exists() else "the same fit"

    def missing(self) -> list[Path]:
        """The folders that `held` will make, the innermost first."""
        return [folder for folder in (self.path, *self.path.parents) if not folder.exists()]

    def forsake(self, made: list[Path]) -> None:
        """Remove what a fit has left that ended before its first checkpoint, and the folders that it made.

        The run that it was to replace is then as it was.

        Args:
            made: these folders, the innermost first.
        """
        if any(path.exists() for path in (self.best, self.last, self.finished)):
            return
        self._remove((self.config.name, "fit"))
        self._bring_back()
        if [path.name for path in self.path.iterdir()] == [LOCK]:
            self._remove((LOCK,))
            with suppress(OSError):  # something else is there
                for folder in made or [self.path]:
                    folder.rmdir()

    def forget_evaluation(self) -> None:
        """Remove the reports, which would pass for those of another test."""
        self._remove(EVALUATED)

    def forget_test(self) -> None:
        """Remove the curves of an older test; a logger would follow a link that stands in their place."""
        self._remove(("test",))

    def _put_aside(self, names: Sequence[str]) -> None:
        """Move a run there, so that whatever ends the process, all of it is there or will be brought back.

        One that is finished stays there until another is: what was to replace it and was not finished is removed.
        """
        if (self.path / OLDER / self.finished.relative_to(self.path)).exists() and not self.finished.exists():
            self._remove((*LATER, BEST, LAST))
            self._bring_back()
        self._remove((OLDER,))
        (moving := self.path / MOVING).mkdir()
        for path in (self.path / name for name in names):
            if os.path.lexists(path):
                path.rename(moving / path.name)
        moving.rename(self.path / OLDER)

    def _bring_back(self) -> None:
        """Have the older run in its place again, unless the one that replaces it has a checkpoint."""
        older, moving = self.path / OLDER, self.path / MOVING
        if older.is_dir() and not (self.best.exists() or self.last.exists()):
            self._remove((self.config.name, "fit", MADE_FROM))
            older.rename(moving)
        if moving.is_dir():
            for path in moving.iterdir():
                path.rename(self.path / path.name)
            moving.rmdir()

    def _remove(self, names: Sequence[str]) -> None:
        for path in (self.path / name for name in names):
            if path.is_dir() and not path.is_symlink():  # what a link leads to is not the run's
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _save(self, config: str) -> None:
        with replacing(self.config) as part:
            part.write_text(config, encoding="utf-8")


def _digest_of_weights(config: str) -> str:
    """SHA-256 of the checkpoint that a stage (YAML) begins with; empty where there is none."""
    model = (yaml.load(config, Loader) or {}).get("model") or {}
    weights = (model.get("init_args") or {}).get("weights")
    return sha256(weights) if weights and Path(weights).exists() else ""


def differences(old: object, new: object, key: str = "") -> list[str]:
    """Dotted keys whose values differ between two nested dicts; see `ADDED`."""
    if isinstance(old, dict) and isinstance(new, dict):
        old = {**{k: ADDED[k] for k in new if k in ADDED and k not in old}, **old}
        keys = [k for k in (*old, *(k for k in new if k not in old))]
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{key}.{k}" if key else k)]
    if key.endswith("trainer.precision"):
        old, new = canonical(old), canonical(new)
    return [] if old == new else [key]
