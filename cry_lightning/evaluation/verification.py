"""`verify`: how well embeddings tell whether two recordings are of one subject, as equal error rates with intervals."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd

from cry_lightning.console import UserError, counted, one_line
from cry_lightning.evaluation.compare import as_text, cell
from cry_lightning.evaluation.intervals import MIN_SUBJECTS, rate_interval
from cry_lightning.files import kind_of, write_table

log = logging.getLogger(__name__)

DRAWS = 400  # of the subjects
ROUNDING, DECIMALS = 1e-6, 9  # embeddings are float32
METRICS = {"eer": "equal error rate", "auc": "AUC"}
COUNTS = {  # the last: those with several sessions, on whom the intervals rest
    "n_same": "pairs of one subject",
    "n_different": "of two",
    "n_subjects": "subjects",
    "n_paired": "with pairs of their own",
}
MOST_SESSIONS = 6_000  # 18 million pairs
NEEDED = ("subject", "subject_source", "recording")
EMBEDDINGS = "embeddings"  # what a file of `embed` calls them


class Sessions(NamedTuple):
    """The mean embedding (S, D) of each session of each subject, in the order of the names."""

    embeddings: np.ndarray
    subjects: np.ndarray
    sessions: np.ndarray


def run(files: Sequence[Path], session: str, out: Path | None) -> pd.DataFrame:
    """Run the command."""
    tables = []
    for path in files:
        sessions = read_sessions(path, session)
        try:
            tables.append(verify(sessions).assign(file=str(path)))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    rows = [["embeddings", *METRICS.values(), *COUNTS.values()]]
    for path, table in zip(files, tables, strict=True):
        estimates = [cell(row) for _, row in table.iterrows()]
        rows.append([str(path), *estimates, *(f"{table[count].iloc[0]:,}" for count in COUNTS)])
    print(as_text(rows))
    print("\nChance: an equal error rate and an AUC of 0.5. [low, high]: 95 % interval over subjects.")
    found = pd.concat(tables, ignore_index=True)
    if out is not None:
        write_table(found, out, float_format="%.9g")
        print(out)
    return found


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
        n_unknown = counted((~known).sum(), "clip")
        log.warning("%s: left out: %s without a known subject, or a %s", path, n_unknown, session)
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
        what = kind_of(path)
        if what not in ("", "HDF5"):
            raise UserError(f"{path}: {what}, and no embeddings; give a file that `embed` wrote") from error
        raise UserError(one_line(f"{path}: cannot be read as HDF5 ({error})")) from error


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
    embeddings: np.ndarray = found[:].astype(np.float64)
    if wrong := int((~np.isfinite(embeddings).all(axis=1)).sum()):
        raise UserError(f"{path}: {wrong} of {len(embeddings)} embeddings contain NaN or inf; embed them again")
    return embeddings


def pairs(sessions: Sessions) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of different sessions: its score (P,), whether it is of one subject (P,), and the subjects of both.

    The score is the cosine of the two embeddings, less the mean of the subjects' means: what all share says nothing,
    and who has many sessions does not draw that mean to itself. Scores that differ by rounding alone are made equal.
    """
    codes = pd.factorize(sessions.subjects, sort=True)[0]
    names = pd.factorize(sessions.sessions, sort=True)[0]
    centre = pd.DataFrame(sessions.embeddings).groupby(codes).mean().mean().to_numpy()
    centred = sessions.embeddings - centre
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    nothing_left = lengths <= ROUNDING * max(np.linalg.norm(centre), np.finfo(float).tiny)
    centred = np.where(nothing_left, 0, centred / np.maximum(lengths, np.finfo(float).tiny))
    one, other = np.triu_indices(len(codes), 1)
    different = names[one] != names[other]
    one, other = one[different], other[different]
    scores = (centred @ centred.T)[one, other].round(DECIMALS)
    return scores, codes[one] == codes[other], codes[one], codes[other]


def error_rates(scores: np.ndarray, same: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Equal error rate and AUC of pairs (P,) in the order of their scores, lowest first; NaN without pairs of a kind.

    The equal error rate is where the curve of false against missed acceptances has both alike. It is linear between
    scores: pairs of one score are accepted together.
    """
    missed = np.cumsum(weights * same)
    rejected = np.cumsum(weights * ~same)
    if not (missed[-1] and rejected[-1]):
        return np.nan, np.nan
    last_of_score = np.append(scores[1:] > scores[:-1], True)
    missed, rejected = (np.append(0, counts[last_of_score] / counts[-1]) for counts in (missed, rejected))
    equal = np.interp(0, missed + rejected - 1, missed)  # false acceptances are 1 - rejected
    return float(equal), float(np.trapezoid(rejected, missed))


def verify(sessions: Sessions) -> pd.DataFrame:
    """Equal error rate and AUC over all pairs, with 95 % intervals over subjects, drawn anew with all their pairs.

    A pair of two subjects counts as often as both were drawn, in all combinations, one of a single subject as often as
    that was; leaving subjects out in turn says too little of an equal error rate, which is a quantile.
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", ch. 6 and 11.6.

    Returns: metric, value, low, high, n_same, n_different, n_subjects, n_paired (of them, with pairs of their own). No
        interval (NaN) where fewer than 5 have any.

    Raises:
        UserError: no subject has two sessions, or there is one subject alone.
    """
    scores, same, one, other = pairs(sessions)
    if not same.any():
        raise UserError("no subject has two sessions to compare; take another column by --session")
    if same.all():
        raise UserError("there is one subject alone, and nobody to tell it from")
    order = np.argsort(scores, kind="stable")
    scores, same, one, other = scores[order], same[order], one[order], other[order]
    values = error_rates(scores, same, np.ones(len(same)))
    variances = np.nanvar([error_rates(scores, same, weights) for weights in drawn(same, one, other)], axis=0)
    n_sessions = np.bincount(pd.factorize(sessions.subjects)[0])
    paired = n_sessions[n_sessions > 1]
    counts = (same.sum(), (~same).sum(), len(n_sessions), len(np.unique(one[same])))
    effective = paired.sum() ** 2 / np.square(paired).sum() if counts[-1] >= MIN_SUBJECTS else np.nan  # Kish 1965
    rows = [
        (metric, value, *rate_interval(value, variance, effective), *counts)
        for metric, value, variance in zip(METRICS, values, variances, strict=True)
    ]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", *COUNTS])


def drawn(same: np.ndarray, one: np.ndarray, other: np.ndarray) -> Iterator[np.ndarray]:
    """How often each pair (P,) counts when the subjects are drawn anew, with replacement; the same at every call."""
    rng = np.random.default_rng(0)
    n_subjects = max(one.max(), other.max()) + 1
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(n_subjects, size=n_subjects), minlength=n_subjects).astype(float)
        yield np.where(same, times[one], times[one] * times[other])
