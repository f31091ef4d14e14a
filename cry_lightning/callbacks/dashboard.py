"""Weights & Biases: whether a run goes online, what it sends and when, and maps of embeddings while it is trained."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from weakref import WeakSet

import torch
from jsonargparse import Namespace
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger

from cry_lightning.callbacks import pictures
from cry_lightning.callbacks.clips import N_EXAMINED, of_clips
from cry_lightning.callbacks.records import LineageRecorder, Outputs, data_of, gathered, predictions_table
from cry_lightning.commands.stage import LOG_AUDIO
from cry_lightning.console import one_line
from cry_lightning.dashboard.runs import artifact, artifact_name, is_disabled, is_online, keep_private, remember
from cry_lightning.evaluation.run import Tested, evaluate_run
from cry_lightning.files import Config, sha256
from cry_lightning.lineage import fingerprint
from cry_lightning.tasks.stage_data import StageData

if TYPE_CHECKING:
    from wandb import Run

log = logging.getLogger(__name__)
PARTS = ("train", "val", "test")
WANDB = "lightning.pytorch.loggers.WandbLogger"
CALLED = ("log_hyperparams", "log_metrics", "log_image", "log_table", "after_save_checkpoint", "finalize")
_silent: WeakSet[WandbLogger] = WeakSet()  # those of which W&B has refused something
MOST_CLIPS = 512  # of a map
N_VIEWED = 4  # clips
VIEW_SEED = 0  # the same views in every epoch, so that they compare


class Dashboard(Callback):
    """Joins W&B's loggers to a run where nothing refuses it any more, so that a refused one leaves nothing there.

    A run is named CORPUS/STAGE, has its encoder, feature and task as tags, and says by artifacts what it was made of
    and what it made: they hold hashes and counts, so that the chain of stages is a graph and no
    file leaves the machine.

    Args:
        loggers: W&B's.
        config: the stage's config, which they get.
        run_folder: of the stage.
    """

    def __init__(self, loggers: list[WandbLogger], config: Config, run_folder: Path) -> None:
        self.loggers = [harmless(logger) for logger in loggers]
        self.config = config
        self.run_folder = run_folder

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Begin the runs after the first batch: data, weights and shapes have been accepted."""
        for logger in self.loggers if trainer.is_global_zero else ():
            with attempted(logger):
                self._begin(logger, trainer, pl_module)
        if self.loggers:
            trainer.loggers = [*trainer.loggers, *self.loggers]
            self.loggers = []

    on_test_batch_end = on_train_batch_end  # type: ignore[assignment]  # whatever it is given

    def _begin(self, logger: WandbLogger, trainer: Trainer, pl_module: LightningModule) -> None:
        logger._wandb_init.pop("anonymous", None)  # which wandb no longer has, and warns of
        logger.log_hyperparams({"stage": self.config})
        run = logger.experiment
        run.name = f"{self.run_folder.parent.name}/{self.run_folder.name}"
        if trainer.testing:
            remember(run, self.run_folder / "test")
        run.tags = (*(run.tags or ()), *self.tags(trainer, pl_module))
        self._use(run, trainer)

    def tags(self, trainer: Trainer, pl_module: LightningModule) -> list[str]:
        """The classes of task, encoder and feature."""
        parts = [pl_module, getattr(pl_module, "encoder", None), data_of(trainer).feature]
        return [type(part).__name__ for part in parts if part is not None]

    def _use(self, run: "Run", trainer: Trainer) -> None:
        """State the cache, and the checkpoint that a fit starts from or a test tests; and how much data there is."""
        data = data_of(trainer)
        counts = {part: {"clips": len(data.clips_of(part)), "subjects": len(data.subjects(part))} for part in PARTS}
        run.summary.update({f"data/{part}/{unit}": n for part, each in counts.items() for unit, n in each.items()})
        inputs: list[tuple[str, str, Mapping[str, object]]] = [
            (f"{data.corpus.name}-{type(data.feature).__name__}", "cache", counts)
        ]
        arguments = self.config["model"].get("init_args") or {}  # of a class without arguments there are none
        weights = trainer.ckpt_path if trainer.testing else arguments.get("weights")
        if weights and Path(weights).is_file():
            inputs.append((artifact_name(Path(weights).parent), "checkpoint", {"sha256": sha256(Path(weights))}))
        run.config.update({"inputs": {name: {"type": kind, **contents} for name, kind, contents in inputs}})
        for each in () if run.offline else inputs:  # offline, W&B knows of no artifact that a run uses
            try:
                run.use_artifact(artifact(*each))
            except Exception as error:  # a picture of the chain is worth no training
                log.warning("W&B does not take %s as an input: %s", each[0], one_line(str(error)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """State the checkpoint that was chosen."""
        best: ModelCheckpoint = trainer.checkpoint_callback  # type: ignore[assignment]
        self._made(trainer, "checkpoint", Path(best.best_model_path))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """State the predictions."""
        self._made(trainer, "predictions", self.run_folder / "predictions.csv")

    def _made(self, trainer: Trainer, kind: str, path: Path) -> None:
        name = artifact_name(self.run_folder, kind)
        for logger in working(trainer) if path.is_file() else ():
            with attempted(logger):
                logger.experiment.log_artifact(artifact(name, kind, {"sha256": sha256(path)}))


class Figures(Callback):
    """Sends what the chosen checkpoint does to W&B, after the fit (validation) and after the test.

    That is its metrics, confusion matrix, ROC and reliability curves with their stamp, a table of clips by hashes, and
    pictures of a few features: no file name leaves the machine, and no sound that was not asked for.

    Args:
        recorder: knows the lineage.
        best: the callback that chooses the checkpoint.
        with_audio: the table of clips has sound.
        n_examples: how many features are shown.
    """

    def __init__(
        self, recorder: LineageRecorder, best: ModelCheckpoint, with_audio: bool = False, n_examples: int = 8
    ) -> None:
        self.recorder = recorder
        self.best = best
        self.with_audio = with_audio
        self.n_examples = n_examples
        self.outputs: list[Outputs] = []
        self.metrics: dict[str, float] = {}  # of the pass that `outputs` are of
        self.chosen: tuple[float, int, list[Outputs], dict[str, float]] | None = None  # score, epoch, and both

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a pass; the one before is kept if its checkpoint was."""
        self._keep_chosen(trainer)
        self.outputs, self.metrics = [], {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the test."""
        self.outputs = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: torch.Tensor | Mapping[str, torch.Tensor] | None,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the scores of the first loader, where the stage gives scores."""
        if isinstance(outputs, Mapping) and outputs and dataloader_idx == 0 and wandb_loggers(trainer):
            self.outputs.append({key: value.cpu() for key, value in outputs.items()})

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the metrics of the pass."""
        self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.metrics |= {"epoch": trainer.current_epoch}

    def _keep_chosen(self, trainer: Trainer) -> None:
        """Keep the last pass where its checkpoint is the best by now."""
        score = self.best.best_model_score
        if score is None or not self.metrics or (self.chosen and self.chosen[0] == float(score)):
            return
        if self.metrics.get(self.best.monitor or "") == float(score):
            self.chosen = float(score), int(self.metrics.pop("epoch")), self.outputs, self.metrics

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the pass of the chosen checkpoint: its metrics are what the run is compared by."""
        self._keep_chosen(trainer)
        if self.chosen is None or not wandb_loggers(trainer):  # it was chosen before the run was resumed
            return
        _, epoch, outputs, metrics = self.chosen
        self.send(trainer, pl_module, "val", outputs)
        validated = {name: value for name, value in metrics.items() if not name.startswith("train/")}  # of before
        for logger in working(trainer):
            with attempted(logger):
                logger.experiment.summary.update(validated | {"chosen/epoch": epoch})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the test."""
        self.send(trainer, pl_module, "test", self.outputs)

    def send(self, trainer: Trainer, pl_module: LightningModule, part: str, outputs: list[Outputs]) -> None:
        """Log the pictures and the table of what all processes have collected."""
        if trainer.world_size > 1:
            outputs = gathered(outputs, trainer.world_size)
        if not outputs or not trainer.is_global_zero:
            return
        data = data_of(trainer)
        table = predictions_table(data, outputs)
        rows = torch.cat([output["index"] for output in outputs])
        examples = rows[: self.n_examples]
        captions = [f"{fingerprint(data.features.content[row])}: {data.clips[row].label}" for row in examples.tolist()]
        verdict = self.recorder.verdict(trainer, pl_module, part, table)
        tested = Tested(part, self.recorder.run_folder, table, table.iloc[:0], table["label"], verdict, None)
        drawn = pictures.of_run(evaluate_run(tested, part, None))
        examined = [pictures.feature_figure(feature[0]) for feature in data.features.gather(examples)]
        for logger in working(trainer):
            with attempted(logger):
                logger.experiment.summary[f"{part}/lineage"] = verdict.status
                logger.experiment.tags = (*(logger.experiment.tags or ()), verdict.status)
            for name, figure in drawn.items():
                logger.log_image(f"{part}/{name}", [figure])
            with attempted(logger), TemporaryDirectory() as folder:  # W&B takes media from files
                clips = of_clips(data, table, rows.tolist(), Path(folder) if self.with_audio else None)
                logger.log_table(f"{part}/clips", dataframe=clips)
            logger.log_image(f"{part}/examples", examined, caption=captions)


@cache
def tell_once(reason: str) -> None:
    """Warn of what W&B refuses, the first time in this process: a search has hundreds of runs."""
    log.warning("W&B: %s; the run goes on, and sends no more", reason)


@contextmanager
def attempted(logger: WandbLogger) -> Iterator[None]:
    """Do something with a logger, which is silent from then on if W&B refuses: no dashboard is worth a training."""
    try:
        yield
    except Exception as error:
        _silent.add(logger)
        tell_once(one_line(f"{type(error).__name__}: {error}"))


def harmless(logger: WandbLogger) -> WandbLogger:
    """The same logger, whose methods do nothing after W&B has refused something."""
    for name in CALLED:
        setattr(logger, name, partial(_call, logger, getattr(logger, name)))
    return logger


def _call(logger: WandbLogger, method: Callable[..., None], *args: object, **kwargs: object) -> None:
    if logger not in _silent:
        with attempted(logger):
            method(*args, **kwargs)


def working(trainer: Trainer) -> list[WandbLogger]:
    """The W&B loggers of the process that sends, less those of which W&B has refused something."""
    return [logger for logger in wandb_loggers(trainer) if trainer.is_global_zero and logger not in _silent]


def wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    """The W&B loggers among a trainer's loggers, the same ones in every process."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def set_up_wandb(config: Namespace, job_type: str, with_audio: bool) -> None:
    """Complete the W&B loggers of a stage's config: online, offline, or left out where W&B is disabled.

    Args:
        config: the stage's config, whose `trainer.logger` is changed in place.
        job_type: what W&B shows the run as.
        with_audio: they are to be sent sound, which is said.
    """
    keep_private()
    loggers = config.trainer.logger if isinstance(config.trainer.logger, list) else [config.trainer.logger]
    own = [logger for logger in loggers if getattr(logger, "class_path", None) == WANDB]
    for logger in own:
        logger.init_args.offline = not is_online()
        logger.init_args.save_dir = config.runs
        logger.init_args.name = config.name
        logger.init_args.group = config.pipeline
        logger.init_args.job_type = job_type
    if own and is_disabled():
        config.trainer.logger = [logger for logger in loggers if logger not in own] or None
    if with_audio:
        when = "now" if is_online() else "when `wandb sync` sends it"
        sent = f"the sound of up to {N_EXAMINED} clips goes into W&B's table, and leaves this machine {when}"
        nothing = "no sound is sent, as this run does not log to W&B"
        log.info("%s: %s", LOG_AUDIO, sent if own and not is_disabled() else nothing)


class Maps(Callback):
    """Sends a map of validation clips to W&B every some epochs and at the end, with SimCLR's views of a few clips.

    The clips are those of the probe, which have labels, or else the stage's own.

    Args:
        every_n_epochs: how often; 0 for never.
    """

    def __init__(self, every_n_epochs: int) -> None:
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw both, after a validation that is due; nothing is drawn at random that the training would draw."""
        epoch, loggers = trainer.current_epoch, wandb_loggers(trainer)
        if not (loggers and self.every_n_epochs and trainer.is_global_zero):
            return
        if epoch % self.every_n_epochs and epoch + 1 != trainer.max_epochs:
            return
        data = data_of(trainer)
        with trainer.precision_plugin.forward_context():
            embedded = embed(pl_module, data.probe or data)
            views = two_views(pl_module, data) if hasattr(pl_module, "project_views") else []
        for logger in loggers:
            if embedded is not None:
                logger.log_image("val/embeddings", [pictures.map_figure(*embedded)])
            if views:
                drawn = [pictures.views_figure(*pair) for _, *pair in views]
                logger.log_image("val/views", drawn, caption=[caption for caption, *_ in views])


def embed(stage: LightningModule, data: StageData) -> tuple[torch.Tensor, list[str]] | None:
    """Embeddings (n, D) of validation clips and their labels; none where the stage gives none, or too few."""
    found, rows = [], []
    for batch in data.loader("val"):
        embeddings = stage.embed(batch["features"].to(stage.device))  # type: ignore[operator]
        if embeddings.ndim != 2:
            return None
        found.append(embeddings.float().cpu())
        rows += batch["index"].tolist()
        if len(rows) >= MOST_CLIPS:
            break
    labels = [data.clips[row].label or "unlabelled" for row in rows[:MOST_CLIPS]]
    return (torch.cat(found)[:MOST_CLIPS], labels) if len(labels) > 2 else None


def two_views(stage: LightningModule, data: StageData) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """A hash, and two augmented views (F, T), of each of a few validation clips."""
    batch = next(iter(data.loader("val")))
    features, rows = batch["features"][:N_VIEWED].to(stage.device), batch["index"][:N_VIEWED].tolist()
    with torch.random.fork_rng(devices=[features.device] if features.is_cuda else []):
        torch.manual_seed(VIEW_SEED)
        seen = stage.view(torch.cat([features, features]), augmented=True).float().cpu()  # type: ignore[operator]
    hashes = [fingerprint(data.features.content[row]) for row in rows]
    return [(name, seen[n, 0], seen[n + len(rows), 0]) for n, name in enumerate(hashes)]
