"""Names that older releases have in configs, checkpoints and caches, and what they are now."""

from collections.abc import Callable
from typing import cast

from cry_lightning.files import Config

OF_DATA = {  # argument of the datamodule, as older releases have it -> where it is
    "batch_size": "sampling.batch_size",
    "drop_last": "sampling.drop_last",
    "balanced": "sampling.balanced",
    "batch_by_subject": "sampling.by_subject",
    "class_weights": "sampling.class_weights",
    "unlabelled": "subset.unlabelled",
    "label_fraction": "subset.label_fraction",
    "per_class": "subset.per_class",
    "exclude_subjects": "subset.exclude_subjects",
    "cache_dir": "cache.folder",
    "cache_dtype": "cache.dtype",
    "workers": "cache.workers",
}
OF_MODEL = {  # the same of a stage
    name: f"optimisation.{name}"
    for name in (
        *("optimizer", "scheduler", "scheduler_interval", "warmup_epochs", "scale_lr"),
        *("encoder_lr_scale", "layer_decay", "head_first", "exclude_from_decay"),
    )
}
MOVED = {  # where a config has such arguments -> which they are; the longest places first
    "data.probe.init_args": OF_DATA,
    "data.probe": OF_DATA,
    "data": OF_DATA,
    "model.init_args": OF_MODEL,
    "model": OF_MODEL,
}
KNOWN_AS = {  # front end -> its class path in caches and checkpoints, which has the file that it first was in
    f"cry_lightning.features.{now}": f"cry_lightning.features.{then}"
    for now, then in {
        "base.Waveform": "waveform.Waveform",
        "mel.EfficientATLogMel": "efficientat.EfficientATLogMel",
        "mel.Fbank": "logmel.Fbank",
        "mel.LogMel": "logmel.LogMel",
        "mel.MFCC": "mfcc.MFCC",
        "mel.VGGishLogMel": "vggish.VGGishLogMel",
    }.items()
}
FORMER_FILES = {  # of classes that a config may name -> where these are
    **{then.rpartition(".")[0]: now.rpartition(".")[0] for now, then in KNOWN_AS.items()},
    **dict.fromkeys(
        (f"cry_lightning.encoders.{then}" for then in ("efficientat", "panns", "vggish")),
        "cry_lightning.encoders.audioset",
    ),
    "cry_lightning.tasks.augment.stretch": "cry_lightning.tasks.augment.waveform",
    "cry_lightning.corpora.at_path": "cry_lightning.corpora",
}


def regrouped(arguments: Config, moved: dict[str, str]) -> Config:
    """The arguments of a datamodule or a stage as they are now, by those that an older release saved.

    Args:
        arguments: in a config, or a checkpoint.
        moved: `OF_DATA` or `OF_MODEL`.
    """
    now: Config = {}
    for key, value in arguments.items():
        group, _, name = moved.get(key, "").partition(".")
        if not group or group in arguments:  # no release had both: whoever reads it refuses the former one
            now[key] = value
        else:
            now[group] = {**now.get(group, {}), name: value}
    return now


def as_now(config: Config) -> Config:
    """The config of a stage as it is now, by the one that a run of an older release has."""
    config = cast(Config, _classes_as_now(config, {}))
    now, data = dict(config), config.get("data")
    if isinstance(data, dict):
        now["data"] = regrouped(data, OF_DATA)
        if "probe" in data:
            now["data"]["probe"] = _class_as_now(data["probe"], lambda _, given: regrouped(given, OF_DATA))
    if "model" in config:
        now["model"] = _class_as_now(config["model"], stage_as_now)
    return now


def _classes_as_now(value: object, done: dict[int, object]) -> object:
    """A value of a config with its class paths as they are now, what it holds several times as one.

    Args:
        value: it may contain itself, and is itself what comes back where nothing in it has changed.
        done: what has become of the values within, by their ids.
    """
    if isinstance(value, str):
        file, _, name = value.rpartition(".")
        return f"{FORMER_FILES[file]}.{name}" if file in FORMER_FILES else value
    if not isinstance(value, dict | list):
        return value
    if id(value) not in done:
        done[id(value)] = value  # for what contains itself
        within = value if isinstance(value, dict) else dict(enumerate(value))
        changed = {key: now for key, one in within.items() if (now := _classes_as_now(one, done)) is not one}
        if changed:
            now = {**within, **changed}
            done[id(value)] = now if isinstance(value, dict) else [*now.values()]
    return done[id(value)]


def _class_as_now(value: object, arguments_as_now: Callable[[object, Config], Config]) -> object:
    """The same of a class that a config names with its arguments."""
    if not isinstance(value, dict) or not isinstance(given := value.get("init_args"), dict):
        return value
    return {**value, "init_args": arguments_as_now(value.get("class_path"), given)}


def stage_as_now(class_path: object, arguments: Config) -> Config:
    """The arguments of a stage as they are now; one of the user's own may have such arguments itself."""
    return regrouped(arguments, OF_MODEL) if str(class_path).startswith("cry_lightning.") else arguments


def key_as_now(key: str) -> str:
    """A dotted key of a stage's config as it is now, by the one that an older release had; as it is, else."""
    for section, moved in MOVED.items():
        name, dot, rest = key.removeprefix(f"{section}.").partition(".")
        if key.startswith(f"{section}.") and name in moved:
            return f"{section}.{moved[name]}{dot}{rest}"
    return key


def renamed(key: str) -> str:
    """The end of a message on a key that an older release had; empty where there was none such."""
    return f"; it is {now} now" if (now := key_as_now(key)) != key else ""
