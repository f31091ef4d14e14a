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
