"""`evaluate-events`: intervals that were found in recordings against those that were marked by hand."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from cry_lightning.annotations import Interval, find, read
from cry_lightning.console import UserError, for_spreadsheets
from cry_lightning.corpora import corpus_at
from cry_lightning.corpora.base import warn_of_unknown_subjects
from cry_lightning.corpora.cries import DONATEACRY_NAME
from cry_lightning.evaluation.compare import as_text
from cry_lightning.evaluation.events import as_rows, counts, table_of
from cry_lightning.files import replacing


def run(
    reference: Path, predicted: Path, label: str, tier: str | None, subjects: Path | None, out: Path | None
) -> pd.DataFrame:
    """Run the command; see `evaluate_events`."""
    there, found = find(reference), find(predicted)
    if missing := [name for name in there if name not in found]:
        raise UserError(
            f"{predicted}: has no file for {len(missing)} of the {len(there)} recordings of {reference}, first"
            f" {missing[0]}; add it, without intervals where nothing was found"
        )
    marked = {name: read(path, tier) for name, path in there.items()}
    if not any(one.label == label for intervals in marked.values() for one in intervals):
        labels = sorted({one.label for intervals in marked.values() for one in intervals})
        raise UserError(f"{reference}: no interval is labelled {label!r}, only {', '.join(labels)}; give --label")
    subject_of = by_corpus(subjects, there) if subjects else by_name(reference, there)
    per_recording = {name: counts(_of(label, marked[name]), _of(label, read(found[name], tier))) for name in there}
    table = table_of(per_recording, subject_of)
    print(f"{len(there)} recordings of {table['n_subjects'].iloc[0]} subjects, intervals labelled {label!r}")
    print(as_text(as_rows(table)))
    if out is not None:
        with replacing(out) as part:
            for_spreadsheets(table).to_csv(part, index=False, float_format="%.9g")
        print(out)
    return table


def by_name(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The subject of each recording: the app install of Donate-a-Cry names, else the recording itself."""
    codes = {name: DONATEACRY_NAME.match(f"{name}.") for name in names}
    if not all(codes.values()):
        warn_of_unknown_subjects(folder, "name the recordings, or their manifest, by --subjects")
    return {name: code["install"].lower() if code else name for name, code in codes.items()}


def by_corpus(path: Path, names: Iterable[str]) -> dict[str, str]:
    """The subject of each recording in a corpus.

    Raises:
        UserError: some recording is not there, or is of two subjects.
    """
    corpus = corpus_at(path)
    found: dict[str, str] = {}
    for clip in corpus.recordings():
        name = Path(clip.path).stem
        if found.setdefault(name, clip.subject) != clip.subject:
            raise UserError(f"{path}: recordings called {name} are of two subjects; rename one, and its intervals")
    if unknown := [name for name in names if name not in found]:
        raise UserError(
            f"{path}: has no recording {unknown[0]} (and {len(unknown) - 1} more); add it, with its subject"
        )
    return found


def _of(label: str, intervals: list[Interval]) -> list[Interval]:
    return [one for one in intervals if one.label == label]
