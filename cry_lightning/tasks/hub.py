"""A checkpoint as a folder in the layout of Hugging Face: numbers in safetensors, all else in JSON, and no pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from cry_lightning.console import UserError, one_line
from cry_lightning.files import Checkpoint, read_object, sha256

SCHEMA = 1
CONFIG, TENSORS, LINEAGE = "config.json", "model.safetensors", "lineage.json"
WAY_OUT = "export the model again, or fetch the whole folder again"


def write(folder: Path, checkpoint: Checkpoint, about: Mapping[str, object]) -> None:
    """Write a checkpoint into a folder.

    Args:
        folder: it exists, and is empty.
        checkpoint: state_dict, lineage, and plain data.
        about: what others may want to know of it.
    """
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint["state_dict"].items()}
    (folder / TENSORS).write_bytes(save(state, metadata={"format": "pt"}))  # save_file's are for its owner's eyes alone
    (folder / LINEAGE).write_text(json.dumps(checkpoint["lineage"]), encoding="utf-8")
    plain = {name: value for name, value in checkpoint.items() if name not in ("state_dict", "lineage")}
    config = {
        "model_type": "cry_lightning",
        "schema": SCHEMA,
        **about,
        "checkpoint": plain,
        "files": {name: sha256(folder / name) for name in (TENSORS, LINEAGE)},
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")


def read(folder: Path) -> Checkpoint:
    """The checkpoint in a folder; what its texts name is another's matter, see `trust`.

    Raises:
        UserError: a file is missing, damaged, or not the one that config.json was written for.
    """
    for name in (CONFIG, TENSORS, LINEAGE):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no model in it, it has no {name}; {WAY_OUT}")
    config = read_object(folder / CONFIG, WAY_OUT)
    checkpoint, files = config.get("checkpoint"), config.get("files")
    if config.get("schema") != SCHEMA:
        raise UserError(f"{folder / CONFIG}: schema is {config.get('schema')!r}, where this version reads {SCHEMA}")
    if not isinstance(checkpoint, dict) or not isinstance(files, dict):
        raise UserError(f"{folder / CONFIG}: has no tables named checkpoint and files; {WAY_OUT}")
    for name in (TENSORS, LINEAGE):
        if files.get(name) != sha256(folder / name):
            raise UserError(f"{folder / name}: damaged, or of another model: {CONFIG} has another hash; {WAY_OUT}")
    try:
        state = load_file(folder / TENSORS)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{folder / TENSORS}: no safetensors ({one_line(str(error))}); {WAY_OUT}") from error
    whole = checkpoint | {"state_dict": state, "lineage": read_object(folder / LINEAGE, WAY_OUT)}
    return cast(Checkpoint, whole)
