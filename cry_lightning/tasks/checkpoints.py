"""Checkpoints as files, and as folders in the layout of Hugging Face; an encoder carried from one into the next stage.

Such a folder has numbers in safetensors, all else in JSON, and no pickle.
"""

import json
import logging
import warnings
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cry_lightning import files
from cry_lightning.console import UserError, first_few, one_line
from cry_lightning.files import Checkpoint, Json, read_object

PREFIX = "encoder."
SCHEMA = 1  # of a folder
CONFIG, TENSORS, LINEAGE = "config.json", "model.safetensors", "lineage.json"
WAY_OUT = "export the model again, or fetch the whole folder again"
log = logging.getLogger(__name__)


def load_data(path: str | Path, kind: str, if_missing: str) -> object:
    """What torch.save wrote to a file, without running any code that it may hold.

    Args:
        path: the file.
        kind: what it is called in messages.
        if_missing: what the user does where it is missing.

    Raises:
        UserError: where it is missing, damaged, or would run code on loading.
    """
    try:
        _check_archive(Path(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's, about kinds of tensors that no stage has
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such {kind}; {if_missing}") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: a folder; name the {kind} in it, such as {Path(path) / 'best.ckpt'}") from error
    except Exception as error:  # a damaged pickle may fail in any way
        if (found := files.kind_of(path)) not in ("", files.CHECKPOINT):
            if found == files.TRUNCATED:
                raise UserError(f"{path}: not a whole {kind}, its end is missing") from error
            raise UserError(f"{path}: {found}, and not a {kind}") from error
        if not isinstance(error, UnpicklingError):
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{path}: not a whole {kind} ({reason})") from error
        raise UserError(
            f"{path}: refused, not a {kind}, or it holds more than data (tensors, strings, numbers, lists)"
        ) from error


def _check_archive(path: Path) -> None:
    """Refuse bytes that have changed since they were written, which torch would load all the same, and a bomb.

    torch.save compresses nothing: a file that says it holds more than its own size was made to fill the memory.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as bundle:
            if sum(entry.file_size for entry in bundle.infolist()) > path.stat().st_size:
                raise ValueError("it unpacks to more than its own size")
            if damaged := bundle.testzip():
                raise ValueError(f"damaged: {damaged} has another checksum")


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint, or the folder that one was exported to, as tensors, strings, numbers and lists only.

    Raises:
        UserError: where the file is missing, damaged, or would run code on loading.
    """
    if (Path(path) / CONFIG).is_file():
        return read_folder(Path(path))
    checkpoint = load_data(path, "checkpoint", "fit the stage that makes it first")
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path}: not a checkpoint of a stage (it has no state_dict)")
    return cast(Checkpoint, checkpoint)


def write_folder(folder: Path, checkpoint: Checkpoint, about: Mapping[str, object]) -> None:
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
        "files": {name: files.sha256(folder / name) for name in (TENSORS, LINEAGE)},
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")


def read_folder(folder: Path) -> Checkpoint:
    """The checkpoint in a folder; what its texts name is another's matter, see `trust`.

    Raises:
        UserError: a file is missing, damaged, or not the one that config.json was written for.
    """
    for name in (CONFIG, TENSORS, LINEAGE):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no model in it, it has no {name}; {WAY_OUT}")
    config = read_object(folder / CONFIG, WAY_OUT)
    checkpoint, hashes = config.get("checkpoint"), config.get("files")
    if config.get("schema") != SCHEMA:
        raise UserError(f"{folder / CONFIG}: schema is {config.get('schema')!r}, where this version reads {SCHEMA}")
    if not isinstance(checkpoint, dict) or not isinstance(hashes, dict):
        raise UserError(f"{folder / CONFIG}: has no tables named checkpoint and files; {WAY_OUT}")
    for name in (TENSORS, LINEAGE):
        if hashes.get(name) != files.sha256(folder / name):
            raise UserError(f"{folder / name}: damaged, or of another model: {CONFIG} has another hash; {WAY_OUT}")
    state = load_tensors(folder / TENSORS, WAY_OUT)
    whole = checkpoint | {"state_dict": state, "lineage": read_object(folder / LINEAGE, WAY_OUT)}
    return cast(Checkpoint, whole)


def load_tensors(path: Path, way_out: str) -> dict[str, Tensor]:
    """What a file of safetensors holds.

    Raises:
        UserError: it is none, or damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{path}: no safetensors ({one_line(str(error))}); {way_out}") from error


def sha256(path: str | Path) -> str:
    """Of a file's content; of an exported folder, that of the file in it which has the hashes of the others.

    Raises:
        UserError: it cannot be read.
    """
    config = Path(path) / CONFIG
    try:
        return files.sha256(config if config.is_file() else Path(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fit the stage that makes it first") from error


def size_of(path: Path) -> int:
    """Bytes of the file that has the numbers of a checkpoint."""
    tensors = path / TENSORS
    return (tensors if tensors.is_file() else path).stat().st_size


def load_encoder(encoder: nn.Module, path: str | Path) -> Checkpoint:
    """Initialise an encoder, strictly, from the `encoder.` entries of another stage's checkpoint, which is returned.

    Raises:
        UserError: naming the tensors that are missing, left over, or of another shape (both shapes).
    """
    checkpoint = read_checkpoint(path)
    given = {k.removeprefix(PREFIX): v for k, v in checkpoint["state_dict"].items() if k.startswith(PREFIX)}
    wanted = encoder.state_dict()
    problems = [f"{name} is missing" for name in wanted.keys() - given.keys()]
    problems += [f"{name} is not in this encoder" for name in given.keys() - wanted.keys()]
    problems += [
        f"{name} is {tuple(given[name].shape)} there and {tuple(wanted[name].shape)} here"
        for name in given.keys() & wanted.keys()
        if given[name].shape != wanted[name].shape
    ]
    if problems:
        raise UserError(
            f"weights: {path} does not fit this encoder ({type(encoder).__name__}):"
            f" {first_few(sorted(problems), 4, '; ')}; use the encoder that made it"
        )
    encoder.load_state_dict(given, strict=True)
    return checkpoint


def identity_of(front_end: nn.Module) -> str | None:
    """Class and arguments of a front end, as JSON, by which checkpoints know it; None of a module that tells none."""
    identity = getattr(front_end, "identity", None)
    return json.dumps(identity()) if identity else None


@cache  # a study begins many fits with the same weights
def compare_front_ends(path: str, trained_on: str | None, fed: str | None) -> None:
    """Warn where an encoder is given another front end than it was trained on, naming what the two differ in.

    It is no mistake: another sample rate may be meant. There is no warning where one of them is not known.
    """
    if trained_on is None or fed is None or trained_on == fed:
        return
    theirs, ours = json.loads(trained_on), json.loads(fed)
    changed = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    log.warning(
        "weights: %s was trained on %s, this stage feeds %s", path, _in_words(theirs, changed), _in_words(ours, changed)
    )


def _in_words(identity: Json, names: list[str]) -> str:
    given = [f"{name}={identity[name]}" for name in names if name in identity and name != "class_path"]
    return f"{str(identity['class_path']).rpartition('.')[2]}({', '.join(given)})"
