"""Embeddings beside what is known of their clips: the HDF5 file of `embed`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from cry_lightning.corpora import Clip, Corpus
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.windows import duration_s
from cry_lightning.lineage import Leakage, Lineage, check, sound_fingerprint
from cry_lightning.tasks.weights import sha256
from cry_lightning.writing import replacing

EMBEDDINGS = "embeddings"
COLUMNS = ("clip", "recording", "subject", "label", "start_s", "duration_s")  # of every corpus


def clip_table(corpus: Corpus, clips: Sequence[Clip]) -> pd.DataFrame:
    """A row for each clip: `COLUMNS`, then the corpus's further columns.

    All but the times are texts, blank where nothing is known.
    """
    rows = [(c.name, c.path, c.subject, c.label or "", c.start_s, duration_s(corpus, c)) for c in clips]
    own = pd.DataFrame(rows, columns=COLUMNS)
    further = pd.DataFrame([dict(clip.columns) for clip in clips], dtype=object).fillna("").astype(str)
    return own.join(further.drop(columns=[*COLUMNS, EMBEDDINGS], errors="ignore"))


def verdict(table: pd.DataFrame, content: Mapping[str, str], lineage: Lineage) -> Leakage:
    """Whether the stage has learned from these clips or their subjects.

    Args:
        table: as from `clip_table`.
        content: name of a clip -> what it holds, as in a cache.
        lineage: of the stage.
    """
    clips = {name: sound_fingerprint(content[name]) for name in table["clip"]}
    return check(table.assign(split="test"), replace(lineage, test_clips=clips))


def write(embeddings: np.ndarray, table: pd.DataFrame, trained: TrainedStage, leakage: Leakage, path: Path) -> None:
    """Write an HDF5 file whole or not at all.

    Datasets are `embeddings` (n, D) in float32 and one for each column of the table; attributes tell where the
    embeddings come from: checkpoint, checkpoint_sha256, stage and front_end (JSON), lineage and lineage_reason.
    """
    front_end = trained.fitting | {"feature": trained.feature.identity(), "clip_s": trained.clip_s}
    buffer = BytesIO()  # HDF5 crashes where a disk fills up under it
    with h5py.File(buffer, "w") as file:
        file[EMBEDDINGS] = embeddings
        for name, values in table.items():
            text = None if is_numeric_dtype(values) else h5py.string_dtype()
            file.create_dataset(str(name).replace("/", "_"), data=values.to_numpy(), dtype=text)
        file.attrs["checkpoint"] = str(trained.path)
        file.attrs["checkpoint_sha256"] = sha256(trained.path)
        file.attrs["stage"] = json.dumps(trained.hyper_parameters)
        file.attrs["front_end"] = json.dumps(front_end)
        file.attrs["lineage"] = leakage.status
        file.attrs["lineage_reason"] = leakage.reason
    with replacing(path) as part:
        part.write_bytes(buffer.getbuffer())
