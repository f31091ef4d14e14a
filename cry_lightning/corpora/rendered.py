"""A corpus that is made by a program and kept as recordings beside a manifest."""

import fcntl
import hashlib
import json
import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from cry_lightning.corpora.base import Clip
from cry_lightning.corpora.manifest import Manifest
from cry_lightning.errors import UserError
from cry_lightning.progress import progress_bar

GENERATOR_VERSION = 1  # raise it when the same arguments begin to give another sound: corpora are then made again


class Rendered(Manifest):
    """A corpus rendered once into a folder of its own, named by everything that decides how it sounds.

    Args:
        folder: where made corpora are kept.
        identity: all arguments that decide how the corpus sounds.
        n_clips: how many clips it will have.
    """

    def __init__(self, folder: str, collection: str, identity: dict[str, Any], n_clips: int, **kwargs: Any) -> None:
        key = json.dumps({"version": GENERATOR_VERSION} | identity, sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:10]
        super().__init__(Path(folder) / f"{collection}-{digest}" / "manifest.csv", collection=collection, **kwargs)
        self.sample_rate: int = identity["sample_rate"]
        self.n_samples = round(identity["duration_s"] * self.sample_rate)
        self.seed: int = identity["seed"]
        self.n_clips = n_clips
        for argument, value in identity.items():
            if argument.startswith(("n_", "duration", "sample_rate")) and value <= 0:
                raise UserError(f"{collection}: {argument} is {value}; it must be above 0")

    @abstractmethod
    def render(self) -> Iterator[tuple[dict[str, str], np.ndarray]]:
        """Manifest row (without the clip's length) and 16-bit samples (N,) of each clip."""

    def person(self, name: str) -> str:
        """Subject id of one of this seed's people: another seed makes other people."""
        return f"seed{self.seed}-{name}"

    def stream(self, purpose: int, *which: int) -> np.random.Generator:
        """Random numbers that depend on the seed and on what they are for, and on nothing drawn before."""
        return np.random.default_rng([purpose, self.seed, *which])

    def prepare(self) -> None:
        """Render the corpus unless it exists whole; a folder bears its final name only when it is whole."""
        folder = self.root.parent
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent):
            for killed in folder.parent.glob(f"{self.collection}-*.part/"):  # who holds the lock renders alone
                shutil.rmtree(killed)
            if not folder.exists():
                self._render_into(folder.with_name(f"{folder.name}.part"))

    def recordings(self) -> list[Clip]:
        """Every clip, rendered first where need be."""
        self.prepare()
        return super().recordings()

    def _render_into(self, part: Path) -> None:
        try:
            rows = []
            for row, samples in progress_bar(self.render(), f"rendering {self.collection}", self.n_clips, unit="clip"):
                path = part / row["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                buffer = BytesIO()  # libsndfile does not say why it cannot write
                soundfile.write(buffer, samples, self.sample_rate, subtype="PCM_16", format="WAV")
                path.write_bytes(buffer.getbuffer())
                rows.append(row | {"start_s": "0", "duration_s": str(self.n_samples / self.sample_rate)})
            pd.DataFrame(rows).to_csv(part / "manifest.csv", index=False)
            part.rename(self.root.parent)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"{self.root.parent}: cannot be written ({reason}); make room, or see `folder`") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for the lock on a folder, which a killed process lets go of by itself; no file of it stays."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
