"""`evaluate-events`: intervals found in recordings against those marked by hand, with intervals over subjects."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from cry_lightning import audio
from cry_lightning.annotations import Interval, find, matched, of_label, read
from cry_lightning.annotations.spans import FRAME_S, LEAST_IOU, ONSET_S, frames, matches, onset_matches
from cry_lightning.console import UserError, counted, first_few, printable
from cry_lightning.corpora import corpus_at
from cry_lightning.corpora.base import warn_of_unknown_subjects
from cry_lightning.corpora.cries import DONATEACRY_NAME
from cry_lightning.evaluation.compare import as_text, cell
from cry_lightning.evaluation.intervals import MIN_SUBJECTS, Estimate, rate_interval
from cry_lightning.files import nfc, write_table

LEVELS = {
    "frames": f"of {1000 * FRAME_S:g} ms",
    "events": f"intersection over union at least {LEAST_IOU:g}",
    "onsets": f"beginnings within {ONSET_S:g} s",
}
MAX_LABELS = 12  # in a message
METRICS = ("precision", "recall", "f1")
Counts = tuple[int, int, int]  # found and there, there, found


def run(
    reference: Path, predicted: Path, label: str, tier: str | None, subjects: Path | None, out: Path | None
) -> pd.DataFrame:
    """Run the command; see `evaluate_events`."""
    label = nfc(label)  # as the files are read
    there = find(reference)
    found = matched(find(predicted), there)
    if missing := [name for name in there if name not in found]:
        raise UserError(
            f"{predicted}: has no file for {len(missing)} of the {len(there)} recordings of {reference}, first"
            f" {missing[0]}; add it, without intervals where nothing was found"
        )
    subject_of, length_s_of = by_corpus(subjects, there) if subjects else (by_name(reference, there), {})
    marked = {name: read(path, tier, length_s_of.get(name)) for name, path in there.items()}
    predictions = {name: read(found[name], tier, length_s_of.get(name), or_only=True) for name in there}
    check_label(label, reference, marked)
    if any(predictions.values()):
        check_label(label, predicted, predictions)
    per_recording = {
        name: counts(of_label(label, marked[name], path), of_label(label, predictions[name], found[name]))
        for name, path in there.items()
    }
    table = table_of(per_recording, subject_of)
    of = counted(table["n_subjects"].iloc[0], "subject")
    print(f"{counted(len(there), 'recording')} of {of}, intervals labelled {label!r}")
    for folder, intervals in ((reference, marked), (predicted, predictions)):
        if not_counted := others(label, intervals.values()):
            print(printable(f"not counted: {not_counted} in {folder}"))
    print(as_text(as_rows(table)))
    if out is not None:
        write_table(table, out, float_format="%.9g")
        print(out)
    return table


def check_label(label: str, folder: Path, intervals: Mapping[str, Sequence[Interval]]) -> None:
    """Refuse the intervals of a folder, by recording, where none has the label.

    Raises:
        UserError: naming those that they have.
    """
    labels = {one.label for of_one in intervals.values() for one in of_one}
    if not labels:
        raise UserError(f"{folder}: no interval has a label; mark those that are to be found")
    if label not in labels:
        others = first_few(sorted(labels), MAX_LABELS)
        raise UserError(f"{folder}: no interval is labelled {label!r}, only {others}; give --label, or rename them")


def by_name(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The subject of each recording: the app install of Donate-a-Cry names, else the recording itself."""
    codes = {name: DONATEACRY_NAME.match(f"{PurePosixPath(name).name}.") for name in names}
    if not all(codes.values()):
        warn_of_unknown_subjects(folder, "name the recordings, or their manifest, by --subjects")
    return {name: code["install"].lower() if code else name for name, code in codes.items()}


def by_corpus(path: Path, files: Mapping[str, Path]) -> tuple[dict[str, str], dict[str, float]]:
    """The subject of each recording, given by its file of intervals, in a corpus; of those with sound the length in s.

    Raises:
        UserError: some recording is not there, or may be one of several.
    """
    corpus = corpus_at(path)
    clips = corpus.recordings()
    of_file = matched(files, [clip.path for clip in clips])
    clip_of = {of_file[clip.path]: clip for clip in clips if clip.path in of_file}
    found = {name: clip_of[file] for name, file in files.items() if file in clip_of}
    if unknown := [name for name in files if name not in found]:
        raise UserError(
            f"{path}: has no recording {unknown[0]} (and {len(unknown) - 1} more); add it, with its subject"
        )
    lengths = {}
    for name, clip in found.items():
        with suppress(audio.AudioError, OSError):  # subjects are known without the sound, too
            lengths[name] = audio.info(corpus.path_of(clip)).duration_s
    return {name: clip.subject for name, clip in found.items()}, lengths


def others(label: str, intervals: Iterable[Sequence[Interval]]) -> str:
    """How many intervals have other labels, in words."""
    labels = Counter(one.label for of_one in intervals for one in of_one if one.label != label)
    of_labels = first_few([f"{other!r} {count}" for other, count in labels.most_common()], MAX_LABELS)
    return f"{counted(labels.total(), 'interval')} of other labels ({of_labels})" if labels else ""


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
