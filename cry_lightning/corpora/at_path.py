"""The corpus that lies at a path, its form guessed by its files."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

from cry_lightning.audio import EXTENSIONS, warn_once
from cry_lightning.console import UserError
from cry_lightning.corpora import cries, words
from cry_lightning.corpora.base import Corpus, safe_name
from cry_lightning.corpora.cries import CryCeleb, DonateACry
from cry_lightning.corpora.listing import find_recordings
from cry_lightning.corpora.manifest import Manifest
from cry_lightning.corpora.trees import ClassFolders, UnlabelledTree
from cry_lightning.corpora.words import FSDD
from cry_lightning.files import kind_of

STRAYS = 0.05  # of the recordings of a known corpus may lie in folders of other names, and are left out
BY_NAME: dict[type[Corpus], Callable[[str], object]] = {  # what parses the name, or path, of a recording of these
    DonateACry: lambda path: cries.DONATEACRY_NAME.match(Path(path).name),
    FSDD: lambda path: words.NAME.match(Path(path).name),
    CryCeleb: cries.CRYCELEB_PATH.match,
}
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
    CryCeleb if most names parse as such, in each of its folders, or nearly all; ClassFolders if all its recordings lie
    in folders; and else an UnlabelledTree.

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
        kind = "a recording" if path.suffix.lower() in EXTENSIONS else kind_of(path) or "a file"
        its_folder = f"its folder, {path.parent}" if kind == "a recording" else "a folder of recordings"
        raise UserError(f"{path}: is {kind}; give {its_folder}, or a manifest, a .csv file")
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give a folder of recordings or a manifest, a .csv file")
    in_folder: dict[str, list[str]] = {}
    for recording in find_recordings(path):
        in_folder.setdefault(recording.rpartition("/")[0].partition("/")[0], []).append(recording)
    n_recordings = sum(map(len, in_folder.values()))
    for form, named in BY_NAME.items():
        known = {folder: sum(map(bool, map(named, own))) for folder, own in in_folder.items()}
        others = [folder for folder, n in known.items() if 2 * n <= len(in_folder[folder])]
        if n_recordings and (not others or sum(known.values()) > (1 - STRAYS) * n_recordings):
            return form
        if len(others) < len(in_folder):
            whole = "is taken as recordings without labels" if "" in in_folder else "each folder is taken as a class"
            warn_once(
                f"{path}: recordings in {_some(in_folder.keys() - set(others))} have names as of {form.__name__}, those"
                f" in {_some(others)} have not: {whole}; move one kind away, or say by a manifest.csv whose they are"
            )
    return UnlabelledTree if "" in in_folder else ClassFolders


def _some(folders: Collection[str]) -> str:
    return ", ".join(folder or "the folder itself" for folder in sorted(folders)[:3])
