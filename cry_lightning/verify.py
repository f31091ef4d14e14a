"""`verify`: how much of who cries the embeddings of files hold."""

import logging
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from cry_lightning.console import UserError, for_spreadsheets
from cry_lightning.evaluation.compare import as_text, cell
from cry_lightning.evaluation.verification import COUNTS, METRICS, Sessions, verify
from cry_lightning.files import replacing
from cry_lightning.inference.windows import EMBEDDINGS

log = logging.getLogger(__name__)

MOST_SESSIONS = 6_000  # 18 million pairs
NEEDED = ("subject", "subject_source", "recording")


def run(files: Sequence[Path], session: str, out: Path | None) -> pd.DataFrame:
    """Run the command."""
    tables = [_of_file(path, session) for path in files]
    rows = [["embeddings", *METRICS.values(), "pairs of one subject", "of two", "subjects"]]
    for path, table in zip(files, tables, strict=True):
        estimates = [cell(row) for _, row in table.iterrows()]
        rows.append([str(path), *estimates, *(f"{table[count].iloc[0]:,}" for count in COUNTS)])
    print(as_text(rows))
    print("\nChance: an equal error rate and an AUC of 0.5. [low, high]: 95 % interval over subjects.")
    found = pd.concat(tables, ignore_index=True)
    if out is not None:
        with replacing(out) as part:
            for_spreadsheets(found).to_csv(part, index=False, float_format="%.9g")
        print(out)
    return found


def _of_file(path: Path, session: str) -> pd.DataFrame:
    sessions = read_sessions(path, session)
    try:
        return verify(sessions).assign(file=str(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_sessions(path: Path, session: str) -> Sessions:
    """Embeddings that `embed` wrote, a mean for each subject and value of the column `session`.

    Each embedding is brought to length 1 first, so that a loud window counts no more than others.

    Raises:
        UserError: the file is no such table, has no such column, or knows no subjects.
    """
    table, embeddings = read_embeddings(path, [*NEEDED, session])
    known = (table["subject_source"] != "unknown").to_numpy() & (table[session] != "").to_numpy()
    if not known.any():
        raise UserError(
            f"{path}: no clip has a known subject and a {session}; embed a corpus that names its subjects"
            " (subject_pattern, or a manifest.csv)"
        )
    if not known.all():
        log.warning("%s: %d clips without a known subject, or a %s, are left out", path, (~known).sum(), session)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = pd.DataFrame(embeddings / np.maximum(lengths, np.finfo(np.float32).tiny))[known]
    means = unit.groupby([table["subject"][known], table[session][known]]).mean()
    if len(means) > MOST_SESSIONS:
        raise UserError(
            f"{path}: {len(means)} sessions make too many pairs, at most {MOST_SESSIONS}: embed fewer subjects, or take"
            " a --session that joins what belongs together, such as recording_code of CryCeleb"
        )
    subjects, sessions = (means.index.get_level_values(level).to_numpy(str) for level in (0, 1))
    return Sessions(means.to_numpy(), subjects, sessions)


def read_embeddings(path: Path, columns: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Some columns and the embeddings (n, D) of a file of `embed`.

    Raises:
        UserError: it is no such file, or lacks a column.
    """
    try:
        with h5py.File(path) as file:
            return _columns(file, path, columns), _numbers(file, path)
    except UserError:
        raise
    except (OSError, KeyError, ValueError, MemoryError) as error:
        raise UserError(f"{path}: cannot be read as HDF5 ({error})") from error


def _columns(file: h5py.File, path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not isinstance(file.get(EMBEDDINGS), h5py.Dataset) or "lineage" not in file.attrs:
        raise UserError(f"{path}: is no file of `python -m cry_lightning embed`, which makes one")
    known = [name for name in file if name != EMBEDDINGS]
    if missing := [name for name in columns if name not in known]:
        raise UserError(f"{path}: has no column {', '.join(missing)}; there are {', '.join(known)}")
    if numbers := [name for name in columns if not h5py.check_string_dtype(file[name].dtype)]:
        raise UserError(f"{path}: {', '.join(numbers)} is a time, and names no session")
    if odd := [name for name in columns if file[name].shape != file[EMBEDDINGS].shape[:1]]:
        raise UserError(f"{path}: {', '.join(odd)} and {EMBEDDINGS} have different numbers of rows; embed them again")
    if (status := file.attrs["lineage"]) != "CLEAN":
        log.warning("%s: %s, %s", path, status, file.attrs["lineage_reason"] or "as `embed` reported")
    return pd.DataFrame({name: file[name].asstr(errors="surrogateescape")[:] for name in columns})


def _numbers(file: h5py.File, path: Path) -> np.ndarray:
    found = file[EMBEDDINGS]
    if found.ndim != 2 or not all(found.shape):
        raise UserError(f"{path}: {EMBEDDINGS} have shape {found.shape}, not (clips, numbers); embed them again")
    embeddings = found[:].astype(np.float64)
    if wrong := int((~np.isfinite(embeddings).all(axis=1)).sum()):
        raise UserError(f"{path}: {wrong} of {len(embeddings)} embeddings contain NaN or inf; embed them again")
    return embeddings
