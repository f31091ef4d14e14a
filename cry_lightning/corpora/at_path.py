"""The corpus that lies at a path, its form guessed by its files."""

import re
from pathlib import Path
from typing import Literal

from cry_lightning.console import UserError
from cry_lightning.corpora import cries, words
from cry_lightning.corpora.base import Corpus, safe_name
from cry_lightning.corpora.cries import CryCeleb, DonateACry
from cry_lightning.corpora.listing import find_recordings
from cry_lightning.corpora.manifest import Manifest
from cry_lightning.corpora.trees import ClassFolders, UnlabelledTree
from cry_lightning.corpora.words import FSDD

TAKEN_BY: dict[str, tuple[type[Corpus], ...]] = {
    "target": (DonateACry, CryCeleb),
    "subject_pattern": (ClassFolders, UnlabelledTree),
    "collection": (ClassFolders, UnlabelledTree, Manifest),
}


def corpus_at(
    path: str | Path,
    name: str | None = None,
    target: Literal["reason", "age", "sex", "period"] | None = None,
    subject_pattern: str | None = None,
    collection: str | None = None,
    classes: dict[str, list[str]] | None = None,
    window_s: float | None = None,
    hop_s: float | None = None,
    min_active_db: float | None = None,
) -> Corpus:
    """The corpus that lies at a path, its form guessed.

    A CSV file is a Manifest, as is a folder with a manifest.csv in it. Another folder is a DonateACry, an FSDD or a
    CryCeleb if most names parse as such, ClassFolders if all its recordings lie in folders, and else an UnlabelledTree.

    Args:
        path: a CSV file or a folder.
        name: names the run folder and the cache; by default what the path ends in, of a manifest.csv its folder.
        target: the label, of Donate-a-Cry reason (default), age or sex, of CryCeleb period.
        subject_pattern: regular expression whose group, `(...)` or `(?P<subject>...)`, finds the subject in a
            recording's relative path, in ClassFolders and UnlabelledTree only.
        collection: the id space of the subjects, in ClassFolders, UnlabelledTree and Manifest only; corpora that call
            the same infants by the same ids must have the same. By default the name of the folder or the CSV file.
        classes: new class -> the corpus's own labels that belong to it.
        window_s: cut every clip longer than this into windows of this many seconds.
        hop_s: from window to window; the window's length by default.
        min_active_db: leave out windows whose level (dB relative to full scale, RMS) is below this.

    Raises:
        UserError: nothing is there, or `target`, `subject_pattern` or `collection` is given for another form.
    """
    path = Path(path).expanduser()
    if (path / "manifest.csv").is_file():
        path = path / "manifest.csv"
    form = _form(path)
    folder = path.resolve().parent if path.name == "manifest.csv" else path.resolve()
    name = name or safe_name(path.stem if form is Manifest and folder == path.resolve() else folder.name)
    own = {"target": target, "subject_pattern": subject_pattern, "collection": collection}
    own = {argument: value for argument, value in own.items() if value is not None}
    for argument in own:
        if form not in TAKEN_BY[argument]:
            forms = " and ".join(taker.__name__ for taker in TAKEN_BY[argument])
            raise UserError(f"{path}: {argument} is for {forms}, this looks like a {form.__name__}")
    return form(path, name=name, classes=classes, window_s=window_s, hop_s=hop_s, min_active_db=min_active_db, **own)


def _form(path: Path) -> type[Corpus]:
    if path.suffix.lower() == ".csv":
        return Manifest
    if path.is_file():
        raise UserError(f"{path}: is a file; give its folder, {path.parent}, or a manifest, a .csv file")
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give a folder of recordings or a manifest, a .csv file")
    recordings = find_recordings(path)
    names: dict[type[Corpus], re.Pattern[str]] = {
        DonateACry: cries.DONATEACRY_NAME,
        FSDD: words.NAME,
        CryCeleb: cries.CRYCELEB_PATH,
    }
    for form, pattern in names.items():
        texts = recordings if form is CryCeleb else [Path(recording).name for recording in recordings]
        if sum(bool(pattern.match(text)) for text in texts) > len(recordings) / 2:
            return form
    folders = {recording.rpartition("/")[0].partition("/")[0] for recording in recordings}
    return UnlabelledTree if "" in folders else ClassFolders
