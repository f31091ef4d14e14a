"""`fit` and `test` of one stage: LightningCLI with the project's run folders, callbacks and checkpoint rules."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from cry_lightning.callbacks import Figures, LineageRecorder, PredictionsWriter, set_up_wandb
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.errors import UserError
from cry_lightning.runfolder import RunFolder, WholeCheckpointIO
from cry_lightning.tasks.base import Stage
from cry_lightning.tasks.weights import read_checkpoint

for told_anyway in (  # of Lightning's warnings: metrics are logged per epoch, and run folders are used again
    ".*smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*LightningCLI's args parameter.*",
    ".*LeafSpec.*",
):
    warnings.filterwarnings("ignore", told_anyway)
for talkative in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
    logging.getLogger(talkative).setLevel(logging.WARNING)


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
        """Decide at run time whether W&B goes online; a run never asks for a key."""
        config = self.config[self.subcommand]
        set_up_wandb(config, job_type="test" if self.subcommand == "test" else config.name)

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
    def run_folder(self) -> RunFolder:
        """Where this stage on this corpus leaves what it makes."""
        config = self.config[self.subcommand]
        return RunFolder(Path(config.runs) / self.datamodule.corpus.name / config.name)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A Trainer that logs and checkpoints into the run folder."""
        config, given = self.config[self.subcommand], self.config_init[self.subcommand]
        folder = self.run_folder.path
        loggers = given.trainer.logger
        loggers = loggers if isinstance(loggers, list) else [loggers] if loggers not in (None, True, False) else []
        if given.trainer.logger is not False:
            # One folder per sub-command: a CSVLogger replaces the metrics.csv it finds.
            loggers = [CSVLogger(folder, name="", version=self.subcommand), *loggers]
        best = given.checkpoint
        best.dirpath, best.filename = str(folder), "best"
        every = config.save_every_n_steps
        last = ModelCheckpoint(
            folder,
            "last",
            every_n_train_steps=every,
            every_n_epochs=None if every else 1,
            save_on_train_epoch_end=None if every else True,
            enable_version_counter=False,
        )
        callbacks = [LineageRecorder(config.name, folder), PredictionsWriter(folder), Figures()]
        given.trainer.callbacks = [*(given.trainer.callbacks or []), *callbacks, last]
        plugins = given.trainer.plugins
        plugins = plugins if isinstance(plugins, list) else [plugins] if plugins else []
        return super().instantiate_trainer(logger=loggers, plugins=[*plugins, WholeCheckpointIO()], **kwargs)

    def before_fit(self) -> None:
        """Open the run folder with the config in it, or refuse to mix two runs there."""
        config = self.config.fit
        if config.ckpt_path:
            self.take_up(config.ckpt_path)
        if os.environ.get("LOCAL_RANK", "0") != "0":
            return
        open_folder = self.run_folder.go_on if config.ckpt_path else self.run_folder.begin
        open_folder(self.dump(), config.overwrite)
        for logger in self.trainer.loggers:
            logger.log_hyperparams({"stage": yaml.safe_load(self.dump())})

    def after_fit(self) -> None:
        """Say where the stage's checkpoint is, and by what it was chosen."""
        best = self._get(self.config_init, "checkpoint")
        if self.trainer.is_global_zero:
            self.run_folder.finish()
        if self.trainer.is_global_zero and best.best_model_score is not None:
            print(f"{self.run_folder.best}: {best.monitor} {best.best_model_score:.3f}")

    def after_test(self) -> None:
        """Say where the predictions are."""
        if self.trainer.is_global_zero:
            print(self.run_folder.path / "predictions.csv")

    def before_test(self) -> None:
        """Test the run folder's best checkpoint, and only under the config that made it; or another that is named."""
        folder = self.run_folder
        path = self.config_init.test.ckpt_path = self.config.test.ckpt_path or str(folder.best)
        self.take_up(path)
        if Path(path) == folder.best and not folder.finished.exists():
            raise UserError(
                f"{folder.path}: its fit was interrupted; go on with `fit --config {folder.config} --ckpt_path"
                f" {folder.path / 'last.ckpt'}`, or test what there is by naming the checkpoint: --ckpt_path"
                f" {folder.path / 'last.ckpt'}"
            )
        if Path(path).parent == folder.path and (changed := folder.changed_keys(self.dump(), ("model", "data"))):
            raise UserError(
                f"{folder.path} was trained with another config ({', '.join(changed[:5])}):"
                f" fit it again, or test it as it is with --config {folder.config}"
            )

    def dump(self) -> str:
        """The whole config as one YAML that runs alone."""
        header = f"# python -m cry_lightning {self.subcommand} --config {self.run_folder.config}\n"
        config = self.config[self.subcommand].clone()
        config.ckpt_path, config.overwrite = None, False
        return header + self._parser(self.subcommand).dump(config, skip_none=False)

    def take_up(self, path: str) -> None:
        """Resume or test a checkpoint of this very stage, with its classes.

        Raises:
            UserError: another task or, to be resumed, another stage made it.
        """
        checkpoint = read_checkpoint(path)
        self.datamodule.trained_classes = checkpoint.get("classes")
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


def main(args: list[str]) -> StageCLI:
    """Run `fit` or `test` with command-line arguments, as the shell or a test gives them.

    Raises:
        UserError: a mistake in the config, told in one line.
        KeyboardInterrupt: the run was interrupted.
    """
    try:
        return StageCLI(args)
    except MisconfigurationException as error:
        raise UserError(one_line(str(error))) from error
    except SystemExit as stop:
        if stop.code == 1:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from stop
        raise
