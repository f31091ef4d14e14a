"""Types of what files contain, JSON objects read with a clear error, and the hash of a file."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required, TypedDict

from cry_lightning.console import UserError

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
    described: dict[str, str]  # hashes of the labels, and of the subjects, of the clips
    probe_uar: float | None
    probed_in: int | None  # epoch
    source: Json  # of published weights that were imported


def read_object(path: Path, way_out: str) -> Json:
    """The JSON object in a file.

    Args:
        path: the file.
        way_out: what the user can do where it is damaged.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); {way_out}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not a JSON object; {way_out}")
    return content


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
