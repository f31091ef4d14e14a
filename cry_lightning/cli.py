"""`fit` and `test` of one stage: LightningCLI with the project's run folders, callbacks and checkpoint rules."""

import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from cry_lightning.callbacks import Figures, LineageRecorder, PredictionsWriter, wandb_is_online
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.errors import UserError
from cry_lightning.tasks.base import Stage
from cry_lightning.tasks.weights import read_checkpoint

for told_anyway in (  # of Lightning's warnings: metrics are logged per epoch, and run folders are used again
    ".*smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*LightningCLI's args parameter.*",
    ".*LeafSpec.*",
):
    warnings.filterwarnings("ignore", told_anyway)

WANDB = "lightning.pytorch.loggers.WandbLogger"
IDENTITY = ("name", "model", "data", "seed_everything", "trainer.precision")  # what makes two fits the same stage
LENGTH = ("checkpoint", "trainer.max_epochs", "trainer.max_steps")  # and the same run of it


class OneLineParser(LightningArgumentParser):
    """Tells a wrong argument or key in one line instead of a usage page."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message as a user's mistake."""
        raise UserError(one_line(message)) from ex


class StageCLI(LightningCLI):
    """One stage of training: its YAML in, its run folder out."""

    def __init__(self, args: list[str]) -> None:
        super().__init__(
            Stage,
            CryDataModule,
            subclass_mode_model=True,
            seed_everything_default=0,
            save_config_callback=None,
            auto_configure_optimizers=False,
            parser_class=OneLineParser,
            trainer_defaults={"num_sanity_val_steps": 0, "log_every_n_steps": 50},
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The two commands of a stage."""
        skipped = {"model", "datamodule", "train_dataloaders", "val_dataloaders", "dataloaders", "weights_only"}
        return {"fit": skipped, "test": skipped | {"verbose"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What a stage YAML holds beside trainer, model and data."""
        parser.add_argument("--name", type=str, required=True, help="Stage name: the run folder is RUNS/CORPUS/NAME.")
        parser.add_argument("--pipeline", type=str, default="main", help="Stages of one chain: the W&B group.")
        parser.add_argument("--runs", type=str, default="runs", help="Folder of all run folders.")
        parser.add_argument("--overwrite", type=bool, default=False, help="Replace a run made with another config.")
        parser.add_argument(
            "--save_every_n_steps", type=int | None, default=None, help="Write last.ckpt mid-epoch too."
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {"checkpoint.monitor": "val/uar", "checkpoint.mode": "max", "checkpoint.enable_version_counter": False}
        )

    def _parse_ckpt_path(self) -> None:
        """Override Lightning's: hyper-parameters of a checkpoint never beat the YAML and the command line."""

    def before_instantiate_classes(self) -> None:
        """Decide at run time whether W&B goes online, stays offline or is left out; a run never asks for a key."""
        config = self.config[self.subcommand]
        online, leave_out = wandb_is_online(), os.environ.get("WANDB_MODE") == "disabled"
        os.environ.setdefault("WANDB_CONSOLE", "off")  # an error may name a file, and names stay on this machine
        if not online:
            os.environ.setdefault("WANDB_SILENT", "true")
        loggers = config.trainer.logger if isinstance(config.trainer.logger, list) else [config.trainer.logger]
        for logger in list(loggers):
            if getattr(logger, "class_path", None) != WANDB:
                continue
            if leave_out:
                loggers.remove(logger)
                continue
            logger.init_args.offline = not online
            logger.init_args.save_dir = config.runs
            logger.init_args.name = config.name
            logger.init_args.group = config.pipeline
            logger.init_args.job_type = config.name if self.subcommand == "fit" else self.subcommand

    def instantiate_classes(self) -> None:
        """What a class will not be made of is a mistake in the config, wherever it is noticed."""
        try:
            super().instantiate_classes()
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, UserError):
                cause = cause.__cause__
            raise cause or UserError(one_line(f"config: {error}")) from error

    @property
    def run_folder(self) -> Path:
        """runs/<corpus>/<stage>, whatever the loggers."""
        config = self.config[self.subcommand]
        return Path(config.runs) / self.datamodule.corpus.name / config.name

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A Trainer that logs and checkpoints into the run folder."""
        config, given = self.config[self.subcommand], self.config_init[self.subcommand]
        loggers = given.trainer.logger
        loggers = loggers if isinstance(loggers, list) else [loggers] if loggers not in (None, True, False) else []
        if given.trainer.logger is not False:
            # One folder per sub-command: a CSVLogger replaces the metrics.csv it finds.
            loggers = [CSVLogger(self.run_folder, name="", version=self.subcommand), *loggers]
        best = given.checkpoint
        best.dirpath, best.filename = str(self.run_folder), "best"
        every = config.save_every_n_steps
        last = ModelCheckpoint(
            self.run_folder,
            "last",
            every_n_train_steps=every,
            every_n_epochs=None if every else 1,
            save_on_train_epoch_end=None if every else True,
            enable_version_counter=False,
        )
        callbacks = [LineageRecorder(config.name, self.run_folder), PredictionsWriter(self.run_folder), Figures()]
        given.trainer.callbacks = [*(given.trainer.callbacks or []), *callbacks, last]
        return super().instantiate_trainer(logger=loggers, **kwargs)

    def before_fit(self) -> None:
        """Refuse to mix two runs in one folder, then open the folder with the config in it."""
        resumed = self.config.fit.ckpt_path
        if resumed:
            self.check_same_stage(read_checkpoint(resumed), resumed)
        if os.environ.get("LOCAL_RANK", "0") != "0":
            return
        saved = self.run_folder / "config.yaml"
        changed = self.changed_keys()
        if changed and not self.config.fit.overwrite:
            raise UserError(
                f"{self.run_folder} holds a run with another config ({', '.join(changed[:5])});"
                " give the new one another --name, or replace the old one with --overwrite=true"
            )
        if resumed:
            self.keep_curves()
        else:  # nothing of an older fit may pass for this one's
            for stale in (
                "best.ckpt",
                "last.ckpt",
                "predictions.csv",
                "lineage.json",
                "report.md",
                "report.txt",
                "metrics.csv",
            ):
                (self.run_folder / stale).unlink(missing_ok=True)
            for stale in ("fit", "test", "figures"):
                shutil.rmtree(self.run_folder / stale, ignore_errors=True)
        self.run_folder.mkdir(parents=True, exist_ok=True)
        part = saved.with_suffix(".part")
        part.write_text(self.dump(), encoding="utf-8")
        part.replace(saved)
        for logger in self.trainer.loggers:
            logger.log_hyperparams({"stage": yaml.safe_load(self.dump())})

    def keep_curves(self) -> None:
        """Number the curves of the interrupted fit: the logger begins a new metrics.csv."""
        metrics = self.run_folder / "fit" / "metrics.csv"
        if metrics.exists():
            number = 1 + len(list(metrics.parent.glob("metrics-*.csv")))
            metrics.rename(metrics.with_name(f"metrics-{number}.csv"))

    def after_fit(self) -> None:
        """Say where the stage's checkpoint is, and by what it was chosen."""
        best = self._get(self.config_init, "checkpoint")
        if self.trainer.is_global_zero and best.best_model_score is not None:
            print(f"{self.run_folder / 'best.ckpt'}: {best.monitor} {best.best_model_score:.3f}")

    def after_test(self) -> None:
        """Say where the predictions are."""
        if self.trainer.is_global_zero:
            print(f"{self.run_folder / 'predictions.csv'}")

    def before_test(self) -> None:
        """Test the run folder's best checkpoint, and only under the config that made it."""
        best = self.run_folder / "best.ckpt"
        path = self.config_init.test.ckpt_path = self.config.test.ckpt_path or str(best)
        checkpoint = read_checkpoint(path)
        self.check_same_stage(checkpoint, path)
        if Path(path).parent == self.run_folder and (changed := self.changed_keys()):
            raise UserError(
                f"{self.run_folder} was trained with another config ({', '.join(changed[:5])}):"
                f" fit it again, or test it as it is with --config {self.run_folder / 'config.yaml'}"
            )

    def dump(self) -> str:
        """The whole config as one YAML that runs alone."""
        header = f"# python -m cry_lightning {self.subcommand} --config {self.run_folder / 'config.yaml'}\n"
        config = self.config[self.subcommand].clone()
        config.ckpt_path, config.overwrite = None, False
        return header + self._parser(self.subcommand).dump(config, skip_none=False)

    def changed_keys(self) -> list[str]:
        """Keys in which the config saved in the run folder differs from this one; none where there is no run."""
        saved = self.run_folder / "config.yaml"
        if not saved.exists():
            return []
        old, new = yaml.safe_load(saved.read_text(encoding="utf-8")), yaml.safe_load(self.dump())
        resumed = self.subcommand == "fit" and self.config.fit.ckpt_path  # a resumed fit may be made longer
        relevant = IDENTITY if resumed else (*IDENTITY, *LENGTH)
        return [key for key in differences(old, new) if key.startswith(relevant)]

    def check_same_stage(self, checkpoint: dict[str, Any], path: str) -> None:
        """Resuming and testing take a checkpoint of this very stage only."""
        made_by = checkpoint.get("hyper_parameters", {}).get("_class_path")
        own = self.config[self.subcommand].model.class_path
        if made_by != own:
            raise UserError(
                f"ckpt_path: {path} was made by {made_by}, not by {own};"
                " to start from its encoder use model.init_args.weights"
            )
        lineage = checkpoint.get("lineage", {}).get("stages", [])
        stage = (lineage[-1]["corpus"], lineage[-1]["stage"]) if lineage else None
        here = (self.datamodule.corpus.name, self.config[self.subcommand].name)
        if self.subcommand == "fit" and stage != here:
            raise UserError(
                f"ckpt_path: {path} is of stage {'/'.join(stage or ('?',))}, not {'/'.join(here)}: ckpt_path resumes"
                " the same stage; to start from another stage's encoder use model.init_args.weights"
            )


def one_line(text: str) -> str:
    """A message without line breaks, cut where it goes on and on."""
    text = " ".join(text.split())
    return text if len(text) <= 1000 else f"{text[:1000]} ... (--debug shows all)"


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Dotted keys whose values differ between two nested dicts."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [k for k in (*old, *(k for k in new if k not in old))]
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{key}.{k}" if key else k)]
    return [] if old == new else [key]


def main(args: list[str]) -> StageCLI:
    """Run `fit` or `test` with command-line arguments, as the shell or a test gives them."""
    for talkative in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    return StageCLI(args)
