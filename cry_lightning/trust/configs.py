"""Which classes a checkpoint's or a run's config may name."""

import inspect
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pydoc import locate

from jsonargparse import Namespace, set_parsing_settings
from jsonargparse._common import parsing_settings  # of which there is no other way to restore what was

from cry_lightning.console import UserError
from cry_lightning.trust.names import FUNCTIONS, PACKAGES, WEIGHTS_OF_TIMM, Trust, elsewhere

MOST_VALUES = 100_000
DEEPEST = 50
LARGEST = 2**63 - 1
OF_RUNS = ("best.ckpt", "last.ckpt", "lineage.json", "predictions.csv", "made_of.json", "made_from.json", "tune.json")
YAML = (".yaml", ".yml", ".json")
FACTORIES = ("head", "projector", "decoder")
LIGHTNING = "lightning.pytorch."
IN_A_TRAINER = (  # what a run's config may name of Lightning, beside the trusted modules
    "callbacks.device_stats_monitor.DeviceStatsMonitor",
    "callbacks.early_stopping.EarlyStopping",
    "callbacks.gradient_accumulation_scheduler.GradientAccumulationScheduler",
    "callbacks.lr_monitor.LearningRateMonitor",
    "callbacks.model_summary.ModelSummary",
    "callbacks.progress.rich_progress.RichProgressBar",
    "callbacks.progress.tqdm_progress.TQDMProgressBar",
    "callbacks.rich_model_summary.RichModelSummary",
    "callbacks.timer.Timer",
    "callbacks.weight_averaging.EMAWeightAveraging",
    "callbacks.weight_averaging.WeightAveraging",
    "cli.ReduceLROnPlateau",
    "loggers.csv_logs.CSVLogger",
    "loggers.tensorboard.TensorBoardLogger",
    "loggers.wandb.WandbLogger",
)
OF_LOGGERS = ("project", "name", "group", "job_type", "offline", "prefix", "save_dir")  # that lead nowhere


def check_plain(value: object, field: str, largest: int = LARGEST) -> None:
    """Refuse all but tables, lists, texts and finite numbers, and more of them than a config ever holds.

    Args:
        value: what a file holds.
        field: what it is called in messages.
        largest: whole number.

    Raises:
        UserError: naming the field at fault.
    """
    waiting, seen = [(value, field, 0)], 0
    while waiting:  # not by recursion: a table may hold itself, or the same one a billion times
        value, name, depth = waiting.pop()
        seen += 1
        if seen > MOST_VALUES or depth > DEEPEST:
            raise UserError(f"{field}: more than {MOST_VALUES} values, or more than {DEEPEST} levels of them")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise UserError(f"{name}: has keys that are no text")
            waiting += [(one, f"{name}.{key}", depth + 1) for key, one in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(one, f"{name}.{index}", depth + 1) for index, one in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name}: {value} is no finite number")
        elif isinstance(value, int) and abs(value) > largest:
            raise UserError(f"{name}: a number larger than {largest:,}")
        elif not (value is None or isinstance(value, str | bool | int | float)):
            raise UserError(f"{name}: a {type(value).__name__}, where only tables, lists, texts and numbers belong")


def is_of_run(path: Path) -> bool:
    """Whether a YAML is what a run leaves, by its name or by what lies beside it, rather than a stage of the user's."""
    if not path.is_file():
        return False
    return any(
        place.stem.lower() == "config" or any((place.parent / name).exists() for name in OF_RUNS)
        for place in (path, path.resolve())
    )


def run_config_among(arguments: Sequence[str]) -> str | None:
    """The first YAML of a run among the arguments of a command."""
    given = [text.partition("=")[2] if text.startswith("--") else text for text in arguments]
    after = dict(zip(given[1:], arguments, strict=False))
    for text in given:
        is_yaml = text.lower().endswith(YAML) or after.get(text) in ("--config", "-c")
        if text and is_yaml and is_of_run(Path(text).expanduser()):
            return text
    return None


@contextmanager
def resolving(trust: Trust, arguments: Sequence[str]) -> Iterator[str | None]:
    """While the block runs, jsonargparse resolves only trusted names if a run's config is among the arguments.

    Yields:
        the first such config; None if there is none.
    """
    names = ("import_path_verdicts", "import_paths_enforced")
    before = {name: parsing_settings[name] for name in names}
    of_run = run_config_among(arguments)
    try:
        if of_run:
            lightning = [LIGHTNING + name for name in IN_A_TRAINER]
            short = [f"{LIGHTNING}{name.split('.')[0]}.{name.split('.')[-1]}" for name in IN_A_TRAINER]
            set_parsing_settings(
                import_path_denylist=["*"], import_path_allowlist=[*PACKAGES, *trust.named, *lightning, *short]
            )
        else:
            set_parsing_settings(import_path_denylist=[])  # what no config has any use for, such as os.system
        yield of_run
    finally:
        parsing_settings.update(before)


def check_classes(config: object, of_run: bool, field: str) -> None:
    """Refuse a parsed config that names another callable than a class where one is called: a head or a projector.

    Args:
        config: of a whole stage, or a part of it.
        of_run: whether it was read from a run: then every field is for classes alone.
        field: the part's dotted name.

    Raises:
        UserError: naming the field.
    """
    if isinstance(config, list):
        for number, one in enumerate(config):
            check_classes(one, of_run, f"{field}.{number}")
    elif isinstance(config, Namespace | dict):
        for name, one in dict(config.__dict__ if isinstance(config, Namespace) else config).items():
            if name == "class_path" and isinstance(one, str) and one not in FUNCTIONS:
                check_classes(locate(one), of_run, field)
            elif name in ("init_args", "dict_kwargs"):
                check_classes(one, of_run, field)
            elif name not in ("class_path", "__path__"):  # the latter is that of a YAML, which can be called
                check_classes(one, of_run, f"{field}.{name}")
    elif callable(config) and not inspect.isclass(config) and (of_run or field.rpartition(".")[2] in FACTORIES):
        name = f"{config.__module__}.{getattr(config, '__qualname__', config)}"
        raise UserError(f"{field}: {name} is no class; name one whose instances belong there, such as torch.nn.Linear")


def without_weights(config: Namespace) -> Namespace:
    """A copy of a parsed config whose networks look for no weights, for a stage that takes a checkpoint's."""
    copy = config.clone()
    for key, value in copy.items():
        section, _, name = key.rpartition(".")
        if name == "dict_kwargs" and value:
            copy[key] = {argument: WEIGHTS_OF_TIMM.get(argument, given) for argument, given in value.items()}
        elif ".model." in f".{section}." and name in WEIGHTS_OF_TIMM:
            copy[key] = WEIGHTS_OF_TIMM[name]
    return copy


def refuse_elsewhere(config: Namespace) -> None:
    """Refuse a run's config whose networks would be looked for in a file, or on a hub, that it names itself.

    Raises:
        UserError: naming the argument.
    """
    for key, value in config.items():
        name = key.rpartition(".")[2]
        arguments = value if name == "dict_kwargs" else {name: value} if key.startswith("model.") else {}
        if named := elsewhere(arguments or {}):
            raise UserError(f"{key}: the run's config names {named}; give the stage's own YAML, or add --trust timm")


def refuse_loggers(config: Namespace, trust: Trust) -> None:
    """Refuse a run's config whose loggers, once W&B's are set up, could send or write to a place that it names itself.

    What is left to it is the project in the user's own account of W&B, and new folders in that of all runs.

    Raises:
        UserError: naming the logger, and the argument.
    """
    loggers = config.trainer.logger if isinstance(config.trainer.logger, list) else [config.trainer.logger]
    for logger in (one for one in loggers if hasattr(one, "class_path") and not trust.holds(one.class_path)):
        defaults = inspect.signature(locate(logger.class_path)).parameters  # type: ignore[arg-type]
        given = vars(logger.get("init_args") or Namespace())
        named = [
            name
            for name, value in given.items()
            if name not in OF_LOGGERS
            and (value != defaults[name].default if name in defaults else value and type(value) is not int)
        ]
        named += ["dict_kwargs"] * bool(logger.get("dict_kwargs"))
        folder = os.path.join(given.get("save_dir") or "", given.get("name") or "")  # noqa: PTH118  it may be a URL
        there = Path(os.path.expandvars(folder)).expanduser().resolve()
        if "://" in folder or not there.is_relative_to(Path(config.runs).resolve()):
            named.append("save_dir")
        if named:
            raise UserError(
                f"trainer.logger: the run's config says where {logger.class_path} writes or sends to, by its"
                f" {' and '.join(named)}; give the stage's own YAML, or add --trust lightning.pytorch.loggers"
            )


def refuse_places(config: Namespace, of_run: Path, given: Sequence[str]) -> None:
    """Refuse a run's config that would replace a run, or lead to other runs than those around it, by itself.

    Args:
        config: of the stage.
        of_run: the run's config.
        given: arguments of the command, which may say either.

    Raises:
        UserError: naming the key.
    """
    options = {argument.partition("=")[0] for argument in given}
    if config.overwrite and "--overwrite" not in options:
        raise UserError("overwrite: the run's config asks to replace a run; if you do, add --overwrite=true")
    runs, lies_in = Path(config.runs).resolve(), of_run.expanduser().resolve().parent
    near = lies_in.is_relative_to(runs) or any(runs.is_relative_to(place) for place in (lies_in, Path.cwd()))
    if "--runs" not in options and not near:
        raise UserError(f"runs: the run's config names {config.runs}, far from itself; say by --runs where to write")
