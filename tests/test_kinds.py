"""A file in the place of another is told by what it is."""

import zipfile

import h5py
import numpy as np
import pytest
import soundfile
import torch

from cry_lightning import audio
from cry_lightning.console import UserError
from cry_lightning.evaluation import predictions, verification
from cry_lightning.files import kind_of, read_table
from cry_lightning.tasks.checkpoints import read_checkpoint


@pytest.fixture
def file_of(tmp_path):
    """Writes a file of a kind, and returns its path."""

    def write(kind):
        path = tmp_path / "file"
        if kind == "a recording":
            soundfile.write(path, np.zeros(800), 8000, format="WAV")
        elif kind == "a ZIP archive":
            with zipfile.ZipFile(path, "w") as bundle:
                bundle.writestr("notes.txt", "a")
        elif kind == "HDF5":
            h5py.File(path, "w").close()
        elif kind == "a folder":
            path.mkdir()
        elif kind in ("a checkpoint", "a truncated document, checkpoint or archive"):
            torch.save({"state_dict": {"a": torch.zeros(999)}}, path)
            path.write_bytes(path.read_bytes()[: 2000 if "truncated" in kind else None])
        else:
            path.write_bytes(
                {"an empty file": b"", "text": "path,label\n\u00e4.wav,".encode(), "": b"\0\1\2\xff\xfe"}[kind]
            )
        return path

    return write


KINDS = ["a recording", "text", "an empty file", "a folder", "a checkpoint", "a ZIP archive", "HDF5", ""]
KINDS.append("a truncated document, checkpoint or archive")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_given_in_the_place_of_another_is_told_in_one_line(file_of, kind):
    path = file_of(kind)
    assert kind_of(path) == kind
    readers = {
        "a checkpoint": (read_checkpoint, f"{kind}[,;] |its end is missing|refused, not a checkpoint"),
        "HDF5": (
            lambda path: verification.read_embeddings(path, []),
            f"{kind}, and no embeddings|cannot be read as HDF5",
        ),
        "a recording": (audio.info, f"it is {kind}|is {kind}|the file is empty|cannot be decoded"),
        "text": (read_table, f"{kind}, and no text|a directory|is empty|not UTF-8"),
        "text ": (predictions.read, rf"\({kind}\)|no column|a directory|is empty|not a CSV table"),
    }
    for wanted, (read, told) in readers.items():
        if wanted == kind:
            continue
        with pytest.raises(UserError, match=f"(?i){path}: .*({told})") as error:
            read(path)
        assert "\n" not in str(error.value)
