"""Events that were found against those that are there: frames and events, with intervals over subjects."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cry_lightning.annotations import Interval
from cry_lightning.annotations.spans import FRAME_S, LEAST_IOU, ONSET_S, frames, matches, onset_matches
from cry_lightning.evaluation.compare import cell
from cry_lightning.evaluation.intervals import MIN_SUBJECTS, Estimate, rate_interval

LEVELS = {
    "frames": f"of {1000 * FRAME_S:g} ms",
    "events": f"intersection over union at least {LEAST_IOU:g}",
    "onsets": f"beginnings within {ONSET_S:g} s",
}
METRICS = ("precision", "recall", "f1")
Counts = tuple[int, int, int]  # found and there, there, found


def counts(reference: Sequence[Interval], predicted: Sequence[Interval]) -> dict[str, Counts]:
    """What was found of one recording, at each level."""
    there, found = ([(one.start_s, one.end_s) for one in intervals] for intervals in (reference, predicted))
    n_frames = int(np.ceil(max([end for _, end in (*there, *found)], default=0) / FRAME_S))
    true, detected = frames(there, n_frames), frames(found, n_frames)
    return {
        "frames": (int((true & detected).sum()), int(true.sum()), int(detected.sum())),
        "events": (matches(there, found), len(there), len(found)),
        "onsets": (onset_matches(there, found), len(there), len(found)),
    }


def table_of(per_recording: Mapping[str, dict[str, Counts]], subject_of: Mapping[str, str]) -> pd.DataFrame:
    """Precision, recall and F1 at each level: level, metric, value, low, high, n_reference, n_predicted, n_subjects.

    Args:
        per_recording: `counts` by the name of the recording.
        subject_of: name of a recording -> its subject.
    """
    names = list(per_recording)
    codes, subjects = pd.factorize(pd.Series([subject_of[name] for name in names]), sort=True)
    rows = []
    for level in LEVELS:
        sums = np.zeros((len(subjects), 3))
        np.add.at(sums, codes, np.array([per_recording[name][level] for name in names], float))
        both, there, found = sums.T
        shares = {"precision": (both, found), "recall": (both, there), "f1": (2 * both, there + found)}
        of_all = (int(there.sum()), int(found.sum()), len(subjects))
        rows += [(level, metric, *share_interval(*shares[metric]), *of_all) for metric in METRICS]
    columns = ["level", "metric", "value", "low", "high", "n_reference", "n_predicted", "n_subjects"]
    return pd.DataFrame(rows, columns=columns)


def share_interval(parts: np.ndarray, wholes: np.ndarray) -> Estimate:
    """The sum of parts (S,) over that of wholes (S,), by subject, and its interval by leaving subjects out in turn.

    NaN where the wholes are 0; no interval (NaN) where fewer than 5 subjects have any.
    Source: see `intervals`; the effective number of subjects is that of the wholes (Kish 1965).
    """
    parts, wholes = parts[wholes > 0], wholes[wholes > 0]
    if not len(wholes):
        return np.nan, np.nan, np.nan
    value = float(parts.sum() / wholes.sum())
    if len(wholes) < MIN_SUBJECTS:
        return value, np.nan, np.nan
    without = (parts.sum() - parts) / (wholes.sum() - wholes)
    variance = float((len(wholes) - 1) * np.square(without - value).mean())
    low, high = rate_interval(value, variance, float(wholes.sum() ** 2 / np.square(wholes).sum()))
    return value, float(low), float(high)


def as_rows(table: pd.DataFrame) -> list[list[str]]:
    """A row for each level, with the intervals in brackets."""
    estimates = {(row["level"], row["metric"]): cell(row) for _, row in table.iterrows()}
    of_levels = [[level, about, *(estimates[level, metric] for metric in METRICS)] for level, about in LEVELS.items()]
    return [["", "", *METRICS], *of_levels]
