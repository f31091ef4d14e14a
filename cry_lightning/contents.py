"""What YAMLs, JSON files and checkpoints contain."""

from typing import TYPE_CHECKING, Any, Required, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

Config = dict[str, Any]  # a resolved YAML: each value is of the type that its place in the config asks for
Json = dict[str, object]  # a JSON object: look at a value's type before you use it


class Checkpoint(TypedDict, total=False):
    """A stage's checkpoint, as Lightning and the stage write it; one from elsewhere may contradict any of it."""

    state_dict: Required[dict[str, "Tensor"]]
    hyper_parameters: Config
    datamodule_hyper_parameters: Config
    CryDataModule: dict[str, str]  # what the datamodule adds
    classes: list[str]  # in the order of the logits
    front_end: str | None  # its identity, as JSON
    precision: str
    lineage: Json
    probe_uar: float | None
    probed_in: int | None  # epoch
    source: Json  # of published weights that were imported


MOVED = {  # argument of the datamodule, as older releases have it -> where it is
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


def regrouped(data: Config) -> Config:
    """The arguments of a datamodule as they are now, by those that an older release saved."""
    now = {key: value for key, value in data.items() if key not in MOVED}
    for old, new in MOVED.items():
        group, _, name = new.partition(".")
        if old in data:
            now[group] = {name: data[old], **(now[group] if isinstance(now.get(group), dict) else {})}
    return now


def as_now(config: Config) -> Config:
    """The config of a stage as it is now, by the one that a run of an older release has."""
    data = config.get("data")
    if not isinstance(data, dict):
        return config
    now, probe = regrouped(data), data.get("probe")
    if isinstance(probe, dict) and isinstance(probe.get("init_args"), dict):
        now["probe"] = {**probe, "init_args": regrouped(probe["init_args"])}
    return {**config, "data": now}


def renamed(key: str) -> str:
    """The end of a message on a key that an older release had; empty where there was none such."""
    section, _, name = key.rpartition(".")
    if name not in MOVED or section not in ("data", "data.probe", "data.probe.init_args"):
        return ""
    return f"; it is {section}.{MOVED[name]} now"
