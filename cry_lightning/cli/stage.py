"""`fit` and `test` of one stage: LightningCLI with the project's run folders, callbacks and checkpoint rules."""

import errno
import logging
import re
import signal
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import yaml
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities.model_helpers import is_overridden

from cry_lightning import lineage
from cry_lightning.callbacks.dashboard import Dashboard, Figures, Maps, set_up_wandb
from cry_lightning.callbacks.progress import Bar, EpochLines
from cry_lightning.callbacks.records import LineageRecorder, PredictionsWriter
from cry_lightning.callbacks.resuming import Interruption, LastCheckpoint
from cry_lightning.cli.checkpoint_io import WholeCheckpointIO, check_checkpoint
from cry_lightning.cli.precision import AUTO, automatic, canonical, check_stated, of_test
from cry_lightning.cli.process import hushed, started_alone
from cry_lightning.cli.runfolder import RunFolder
from cry_lightning.commands.arguments import check_folder, check_name
from cry_lightning.commands.configs import Loader
from cry_lightning.commands.messages import OneLineParser, WholeSection, instantiation_error
from cry_lightning.commands.stage import ABOUT_AUDIO, LOG_AUDIO, OWN, taken_out, without_audio
from cry_lightning.console import Interrupted, UserError, one_line
from cry_lightning.dashboard.runs import finish_wandb
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.files import way_out
from cry_lightning.inference import reference
from cry_lightning.report.command import write_card
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.base import Stage
from cry_lightning.tasks.checkpoints import read_checkpoint
from cry_lightning.trust import configs
from cry_lightning.trust.names import HELP

# A whole number is so many batches, a fraction a share. Typing keeps one order of `Union[int, float]`, that of whoever
# wrote it first, and may read 1 as 1.0, the whole epoch.
COUNTS_OR_SHARES = (
    *(f"trainer.limit_{part}_batches" for part in ("train", "val", "test", "predict")),
    "trainer.overfit_batches",
    "trainer.val_check_interval",
)
log = logging.getLogger(__name__)
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # what a disk says that takes no more


class StageCLI(LightningCLI):
    """One stage of training: its YAML in, its run folder out.

    Args:
        args: of the command.
        own: the config is of a run that this very process has made, one of a study's many; its reference.pt is not.
        alone: further processes of the training run just this command, and not the study around it.
    """

    nothing_left = False  # of a resumed fit
    goes_on = True  # with the run in its folder, if there is one
    about_precision = ""  # of a fit, where it is not stated
    body: str  # the whole config, written out once since that takes long
    until_the_end: ExitStack  # of the command: the lock on its run folder

    def __init__(self, args: list[str], own: bool = False, alone: bool = False) -> None:
        self.own = own
        self.alone = alone
        self.args = args
        self.trust, args = taken_out(args)
        self.with_audio, args = without_audio(args)
        self.given = args[:1]
        self.states_precision = any(arg.startswith("--trainer.precision") for arg in args)
        self.interruption = Interruption()
        with hushed(), configs.resolving(self.trust, [] if own else args) as self.of_run:
            super().__init__(
                Stage,
                CryDataModule,
                subclass_mode_model=True,
                seed_everything_default=0,
                save_config_callback=None,
                auto_configure_optimizers=False,
                parser_class=OneLineParser,
                trainer_defaults={"num_sanity_val_steps": 0, "log_every_n_steps": 50, "precision": AUTO},
                args=args,
            )

    def subcommands(self) -> dict[str, set[str]]:
        """The command of the stage that was given, since a parser takes a quarter of a second, with what it skips."""
        skipped = {"model", "datamodule", "train_dataloaders", "val_dataloaders", "dataloaders", "weights_only"}
        commands = {"fit": skipped, "test": skipped | {"verbose"}}
        return {name: skips for name, skips in commands.items() if name in self.given} or commands

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What a stage YAML holds beside trainer, model and data."""
        for action in parser._actions:
            if action.dest == "data":
                action.__class__ = type("WholeSection", (WholeSection, type(action)), {})
            elif action.dest in COUNTS_OR_SHARES:
                action._typehint = int | float | None  # type: ignore[attr-defined]
            elif action.dest == "trainer.precision":
                action._typehint = Literal[AUTO] | action._typehint  # type: ignore[attr-defined]
        parser.epilog = f"--trust PACKAGE: let a run's config.yaml {HELP}. {LOG_AUDIO}: {ABOUT_AUDIO}."
        for name, (kind, default, about) in OWN.items():
            parser.add_argument(f"--{name}", type=kind, default=default, required=name == "name", help=about)
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {"checkpoint.monitor": "val/uar", "checkpoint.mode": "max", "checkpoint.enable_version_counter": False}
        )

    def _parse_ckpt_path(self) -> None:
        """Override Lightning's: hyper-parameters of a checkpoint never beat the YAML and the command line."""

    def before_instantiate_classes(self) -> None:
        """Check the folders that will be made, and decide whether W&B goes online; a run never asks for a key."""
        config = self.config[self.subcommand]
        check_name("name", config.name)
        for section in ("model", "data", "trainer", "checkpoint"):
            configs.check_classes(config[section], bool(self.of_run), section)
        if self.of_run and self.subcommand == "fit" and "timm" not in self.trust.named:
            configs.refuse_elsewhere(config)
        config.runs = str(Path(config.runs).expanduser())
        check_folder("runs", config.runs)
        check_folder("data.cache.folder", config.data.cache.folder)
        set_up_wandb(config, "test" if self.subcommand == "test" else config.name, self.with_audio)
        if self.of_run:
            configs.refuse_loggers(config, self.trust)
            if self.goes_on:
                configs.refuse_places(config, Path(self.of_run), self.args)

    def instantiate_classes(self) -> None:
        """Report what a class cannot be instantiated with as a mistake in the config."""
        config = self.config
        settled = config[self.subcommand].clone()
        settled.ckpt_path, settled.overwrite = None, False
        self.body = self._parser(self.subcommand).dump(settled, skip_none=False)
        if self.of_run and self.subcommand == "test":
            self.config = configs.without_weights(config)
        else:
            self.config_dump = yaml.load(self.body, Loader)  # Lightning would write it out once more
        try:
            super().instantiate_classes()
        except Exception as error:
            raise instantiation_error(error) from error
        finally:
            self.config = config
        check_name("data.corpus.name", self.datamodule.corpus.name)

    @property
    def run_folder(self) -> RunFolder:
        """Where this stage on this corpus leaves what it makes."""
        config = self.config[self.subcommand]
        return RunFolder(Path(config.runs) / self.datamodule.corpus.name / config.name)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A Trainer that logs and checkpoints into the run folder."""
        config, given = self.config[self.subcommand], self.config_init[self.subcommand]
        folder = self.run_folder
        given.trainer.precision = self.settle_precision()
        loggers = given.trainer.logger
        loggers = loggers if isinstance(loggers, list) else [loggers] if loggers not in (None, True, False) else []
        wandb_loggers = [logger for logger in loggers if isinstance(logger, WandbLogger)]
        loggers = [logger for logger in loggers if logger not in wandb_loggers]
        if given.trainer.logger is not False:
            # One folder per sub-command: a CSVLogger replaces the metrics.csv it finds.
            loggers = [CSVLogger(folder.path, name="", version=self.subcommand), *loggers]
        best = given.checkpoint
        best.dirpath, best.filename = str(folder.path), "best"
        recorder = LineageRecorder(config.name, folder.path)
        callbacks = [
            PredictionsWriter(folder.path),
            recorder,  # after the table, whose hash it writes
            Dashboard(wandb_loggers, yaml.load(self.body, Loader), folder.path),  # after what it states to be there
            Maps(config.map_every_n_epochs),
        ]
        given.trainer.callbacks = [*(given.trainer.callbacks or []), *callbacks]
        own_bar = any(isinstance(one, ProgressBar) for one in given.trainer.callbacks)
        if given.trainer.enable_progress_bar is None and not own_bar:
            given.trainer.enable_progress_bar = sys.stdout.isatty()  # it would fill a log file
        if given.trainer.enable_progress_bar and not own_bar:
            given.trainer.callbacks.append(Bar())
        if given.trainer.enable_model_summary is None:
            given.trainer.enable_model_summary = False  # `EpochLines` has it in a line
        plugins = given.trainer.plugins
        plugins = plugins if isinstance(plugins, list) else [plugins] if plugins else []
        trainer = super().instantiate_trainer(
            logger=loggers, plugins=[*plugins, WholeCheckpointIO(folder.path)], **kwargs
        )
        bar = bool(given.trainer.enable_progress_bar) or own_bar
        chosen: ModelCheckpoint = trainer.checkpoint_callback  # type: ignore[assignment]
        last = LastCheckpoint(folder.last, config.save_every_n_steps, self.interruption)
        # After the one for best.ckpt, whose state they hold.
        trainer.callbacks += [Figures(recorder, chosen, self.with_audio), EpochLines(chosen, not bar), last]  # type: ignore[attr-defined]
        return trainer

    def settle_precision(self) -> object:
        """The precision that is stated, or that of the run that is gone on with, or else what suits the hardware."""
        trainer = self.config[self.subcommand].trainer
        stated = trainer.precision or AUTO
        if self.subcommand == "test":
            return of_test(stated, self.states_precision)
        if stated != AUTO:
            check_stated(stated, trainer.accelerator, self.model.automatic_optimization)
            return stated
        overwriting, ckpt = self.dump() if self.config.fit.overwrite else "", self.config.fit.ckpt_path
        precision: object
        precision, why = self.run_folder.precision(overwriting) if self.goes_on else None, "as the run began"
        if precision is None and ckpt and Path(ckpt).is_file():
            precision = canonical(read_checkpoint(ckpt).get("precision"))
        if precision is None:
            precision, why = automatic(trainer.accelerator, self.model)
        self.about_precision = f"precision: {precision}, {why}; --trainer.precision sets another"
        self.body = re.sub(r"(?m)^(  precision:) (auto|null)$", rf"\1 {precision}", self.body, count=1)
        return precision

    def _run_subcommand(self, subcommand: str) -> None:
        """Override Lightning's: close what is opened for the command, and report a full disk in one line."""
        folder = self.run_folder
        several = self.trainer.num_devices * self.trainer.num_nodes > 1
        alone = started_alone(self.args) if several and self.alone else nullcontext()
        try:
            with self.interruption.noted(), alone, ExitStack() as self.until_the_end:
                super()._run_subcommand(subcommand)
        except BaseException as error:
            if not (isinstance(error, OSError) and error.errno in DISK_IS_FULL):
                raise
            raise UserError(
                f"{folder.path}: nothing more can be written ({error.strerror}); {way_out(error)}, then go on"
                f" with {folder.way_on()}"
            ) from error

    def before_fit(self) -> None:
        """Open the run folder with the config in it, or refuse to mix two runs there."""
        config = self.config.fit
        self.model.check_inputs()
        if config.trainer.sync_batchnorm and self.trainer.strategy.root_device.type == "cpu":
            raise UserError("trainer.sync_batchnorm: torch has it for GPUs alone; leave it out on CPU")
        folder, is_trial = self.run_folder, self.trainer.fast_dev_run  # type: ignore[attr-defined]  # Trainer sets it
        unasked = not (config.ckpt_path or is_trial) and folder.is_begun(self.dump(), config.overwrite)
        anew = f"without {folder.last} it" if config.overwrite else "--overwrite=true"
        if unasked:
            config.ckpt_path = self.config_init.fit.ckpt_path = str(folder.last)
            log.info("%s: goes on from its last.ckpt; %s would begin anew", folder.path, anew)
            self.recorder.begins_anew = f"{anew} would begin anew"
        if config.ckpt_path:
            try:
                self.load_checkpoint(config.ckpt_path)
            except UserError as error:
                raise UserError(f"{error}{f'; {anew} would begin anew' * unasked}") from error
            self.nothing_left = folder.is_done(self.dump(), Path(config.ckpt_path))
        if self.nothing_left or is_trial or not self.trainer.is_global_zero:
            return
        made = folder.missing()
        self.until_the_end.enter_context(folder.held())
        self.until_the_end.push(lambda kind, *_: folder.forsake(made) if kind else None)  # before the lock is let go
        open_folder = folder.resume if config.ckpt_path else folder.begin
        open_folder(self.dump(), config.overwrite)
        if config.ckpt_path:  # only when data and checkpoint have proved to be fit for it
            begun = LambdaCallback(on_train_start=lambda *_: folder.train_on(self.dump()))
            self.trainer.callbacks.append(begun)  # type: ignore[attr-defined]
            self.until_the_end.callback(folder.leave)
        if self.about_precision:
            log.info(self.about_precision)
        for logger in self.trainer.loggers:
            logger.log_hyperparams({"stage": yaml.load(self.body, Loader)})

    @property
    def recorder(self) -> LineageRecorder:
        """Of what the stage is trained on."""
        return next(one for one in self.trainer.callbacks if isinstance(one, LineageRecorder))  # type: ignore[attr-defined]

    def fit(self, **kwargs: Any) -> None:
        """Train, unless the run that is resumed has reached its end."""
        if not self.nothing_left:
            self.trainer.fit(**kwargs)

    def after_fit(self) -> None:
        """Say where the stage's checkpoint is, and by what it was chosen."""
        best, folder = self._get(self.config_init, "checkpoint"), self.run_folder
        if self.nothing_left:
            print(f"{folder.path}: nothing is left to train; the run is as it was")
        elif self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder.finish(self.trainer.global_step if best.save_top_k else 0)
        if self.trainer.is_global_zero and best.best_model_score is not None:
            print(f"{folder.best}: {best.monitor} {best.best_model_score:.3f}")

    def test(self, **kwargs: Any) -> None:
        """Test without Lightning's table of metrics, which has no intervals."""
        self.trainer.test(**kwargs | {"verbose": False})

    def after_test(self) -> None:
        """Write what rests on the predictions, and say where they are, and how to go on."""
        if not self.trainer.is_global_zero:
            return
        self.run_folder.forget_evaluation()
        folder = self.run_folder.path
        if not self.own:
            self.write_reference(Path(self.config_init.test.ckpt_path))
            write_card(folder)
        tested = lineage.read(folder / lineage.FILE)
        if tested and tested.left_out_in_words:
            print(tested.left_out_in_words)
        print(f"{folder / 'predictions.csv'}; metrics: python -m cry_lightning evaluate {quote(str(folder))}")

    def write_reference(self, checkpoint: Path) -> None:
        """Write, beside the run's own checkpoint, what its training and validation clips say of others."""
        if checkpoint.resolve() != self.run_folder.best.resolve() or not isinstance(self.model, Classifier):
            return
        if not self.recorder.divided_as_trained(self.datamodule):
            log.warning(
                "%s: the corpus has changed since the fit, so that what was trained on and what was not is no longer"
                " known here; no %s is written",
                self.run_folder.path,
                reference.FILE,
            )
            return
        stage = self.model.to(self.trainer.strategy.root_device)
        if found := reference.fitted(stage, self.datamodule, checkpoint):
            path = checkpoint.with_name(reference.FILE)
            found.save(path)
            for remark in [*found.remarks, *found.doubts]:
                log.warning("%s: %s", path, remark)

    @property
    def has_test(self) -> bool:
        """Whether the stage tells how good it is on labelled clips; a pretraining does not."""
        return is_overridden("test_step", self.model)

    def before_test(self) -> None:
        """Test the run folder's best checkpoint, and only under the config that made it; or another that is named."""
        if not self.has_test:
            raise UserError("this stage has nothing to test: it is a pretraining; probe or fine-tune it")
        given = self.config.test.ckpt_path
        if self.of_run and not given:
            self.run_folder.check_copy(Path(self.of_run))
        path = self.config_init.test.ckpt_path = given or str(self.run_folder.best)
        self.load_checkpoint(path)
        if self.trainer.is_global_zero:
            self.until_the_end.enter_context(self.run_folder.held())
            self.run_folder.check_tested(Path(path), self.dump())
            self.run_folder.forget_test()

    def dump(self) -> str:
        """The whole config as one YAML that runs alone."""
        return f"# python -m cry_lightning {self.subcommand} --config {self.run_folder.config}\n{self.body}"

    def load_checkpoint(self, path: str) -> None:
        """Resume or test a checkpoint of this very stage, with its classes."""
        if Path(path).is_dir():
            raise UserError(f"--ckpt_path {path}: a folder; name a run's best.ckpt or last.ckpt")
        checkpoint, config = read_checkpoint(path), self.config[self.subcommand]
        resumed = (self.datamodule.corpus.name, config.name) if self.subcommand == "fit" else None
        check_checkpoint(path, checkpoint, config.model.class_path, resumed)
        self.datamodule.trained_classes = checkpoint.get("classes")


class ReadCLI(StageCLI):
    """Parses as `fit` does, and stops."""

    goes_on = False  # a run by this name is another's, not the study's

    def before_fit(self) -> None:
        """No run folder is opened."""

    def fit(self, **_: object) -> None:
        """Nothing is fitted."""

    def after_fit(self) -> None:
        """Nothing was fitted."""


def main(args: list[str], own: bool = False, alone: bool = False) -> StageCLI:
    """Run `fit` or `test` with command-line arguments, as the shell or a test gives them.

    Args:
        args: the arguments.
        own: see `StageCLI`.
        alone: likewise.

    Raises:
        UserError: a mistake in the config, in one line.
        Interrupted: a scheduler's signal has ended it.
        KeyboardInterrupt: Ctrl-C has; it says how to go on.
    """
    try:
        return StageCLI(args, own, alone)
    except MisconfigurationException as error:
        raise UserError(one_line(str(error))) from error
    except Interrupted as stop:
        if stop.number == signal.SIGINT:  # so that it is to a script what it is elsewhere
            raise KeyboardInterrupt(stop.message) from stop
        raise
    finally:
        finish_wandb()
