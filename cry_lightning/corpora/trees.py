"""Recordings found in folders."""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from cry_lightning.audio import warn_once
from cry_lightning.console import UserError, counted, first_few
from cry_lightning.corpora.base import Corpus, labels_of, warn_of_unknown_subjects
from cry_lightning.corpora.clips import Clip, SubjectSource
from cry_lightning.corpora.listing import find_recordings, look_through
from cry_lightning.files import nfc, safe_name

FOLDER_BELOW_CLASS = re.compile("^[^/]+/([^/]+)/")
LEAST_INFANTS = 3  # of two classes that are called otherwise nothing can be said
MAX_NAMED = 3


class Tree(Corpus):
    """A folder of recordings whose paths tell what they are."""

    def recordings(self) -> list[Clip]:
        """One clip per recording, in the order of their paths; those that are not the collection's are left out."""
        paths = find_recordings(self.root)
        self._report_left_out()
        clip_at = {path: self.clip_at(path) for path in paths}
        clips = [clip for clip in clip_at.values() if clip]
        if not clips:
            raise UserError(f"{self.root}: no file is named as in {type(self).__name__}, e.g. not {paths[0]}")
        if left_out := [path for path, clip in clip_at.items() if not clip]:
            self.left_out["recordings with a name that does not parse"] = len(left_out)
            first = f"{left_out[0]}{' ...' * (len(left_out) > 1)}"
            warn_once(f"{self.root}: {counted(len(left_out), 'recording')} left out, as names do not parse: {first}")
        return clips

    def _report_left_out(self) -> None:
        """Count the files that are passed over."""
        listing = look_through(self.root)
        for path, why in listing.odd.items():
            self.left_out[f"file: {path}, {why}"] = 1
        if listing.beside:
            endings = " ".join(sorted(listing.beside))
            self.left_out[f"files without sound, by their endings ({endings})"] = listing.beside.total()

    @abstractmethod
    def clip_at(self, path: str) -> Clip | None:
        """The clip that a path, relative to the root, stands for; None if it belongs to no clip of the collection."""


class UnlabelledTree(Tree):
    """Recordings of any container, at any depth, without labels.

    Args:
        root: folder with the recordings.
        subject_pattern: regular expression whose group, `(...)` or `(?P<subject>...)`, finds the subject in a
            recording's relative path. Without it every recording is its own subject.
        collection: the id space of the subjects; the folder's name by default.
    """

    def __init__(
        self, root: str | Path, subject_pattern: str | None = None, collection: str | None = None, **kwargs: Any
    ) -> None:
        self.collection = collection or safe_name(Path(root).resolve().name)
        super().__init__(root, **kwargs)
        self.subject_pattern = _one_group(subject_pattern)

    def recordings(self) -> list[Clip]:
        """One clip per recording, in the order of their paths."""
        clips = super().recordings()
        if self.subject_pattern is None:
            way_out = r"give subject_pattern, e.g. '(baby\d+)', that finds the subject in a recording's path"
            warn_of_unknown_subjects(self.root, way_out)
        return clips

    def clip_at(self, path: str) -> Clip:
        """An unlabelled clip."""
        return Clip(path, f"{self.collection}:{self.subject_of(path)}", subject_source=self.subject_source)

    @property
    def subject_source(self) -> SubjectSource:
        """How subjects are known."""
        return "unknown" if self.subject_pattern is None else "rule"

    def subject_of(self, path: str) -> str:
        """The subject by `subject_pattern`, else the path itself."""
        if self.subject_pattern is None:
            return path
        group = "subject" if "subject" in self.subject_pattern.groupindex else 1
        if not (match := self.subject_pattern.search(nfc(path))) or not match[group]:
            raise UserError(f"subject_pattern {self.subject_pattern.pattern!r} finds no subject in {path}")
        return match[group]


class ClassFolders(UnlabelledTree):
    """A tree with one folder per class; recordings outside of such a folder are unlabelled.

    Where every recording lies at `class/subject/file`, or deeper, the folder below the class is its subject.

    Args:
        root: folder with the class folders.
        subject_pattern: regular expression whose group, `(...)` or `(?P<subject>...)`, finds the subject in a
            recording's relative path. Without it the subject is the folder below the class, or, where there is none,
            the recording itself.
        collection: the id space of the subjects; the folder's name by default.
    """

    def __init__(
        self, root: str | Path, subject_pattern: str | None = None, collection: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(root, subject_pattern, collection, **kwargs)

    def recordings(self) -> list[Clip]:
        """One clip per recording, in the order of their paths.

        Raises:
            UserError: some recordings have a subject folder and some have none.
        """
        otherwise = "say who made what in a manifest.csv"
        if self.subject_pattern is None and has_subject_folders(self.root, find_recordings(self.root), otherwise):
            self.subject_pattern = FOLDER_BELOW_CLASS
        clips = super().recordings()
        if not self.classes and may_be_infants(clips, self.subject_pattern in (None, FOLDER_BELOW_CLASS)):
            folders = first_few(sorted(map(repr, labels_of(clips))), MAX_NAMED)
            warn_once(
                f"{self.root}: each top folder is taken for a class, but are {folders} infants? Folders are"
                " class/infant/file; else say who made what in a manifest.csv with the columns path,label,subject"
            )
        return clips

    def clip_at(self, path: str) -> Clip:
        """A clip labelled by the first folder on its path."""
        parents = PurePosixPath(path).parent.parts
        return replace(super().clip_at(path), label=parents[0] if parents else None)


def may_be_infants(clips: Sequence[Clip], by_folders: bool) -> bool:
    """Whether the classes look like infants: they are more than the subjects, or most have one or two recordings.

    Args:
        clips: one for each recording.
        by_folders: subjects are folders, or not known; where a pattern finds few speakers of many words, all is well.
    """
    n_recordings = Counter(clip.label for clip in clips if clip.label is not None)
    if not by_folders or len(n_recordings) < LEAST_INFANTS:
        return False
    n_subjects = len({clip.subject for clip in clips})
    return len(n_recordings) > n_subjects or 2 * sum(n <= 2 for n in n_recordings.values()) > len(n_recordings)


def has_subject_folders(root: Path, paths: Sequence[str], otherwise: str) -> bool:
    """Whether recordings, by their paths below the root, lie in folders of their subjects below those of the classes.

    Raises:
        UserError: some do and some do not; `otherwise` tells what can be done but to move these.
    """
    without = [path for path in paths if path.count("/") < 2]
    if without and len(without) < len(paths):
        raise UserError(
            f"{root}: {without[0]} has no subject folder below its class, as others have (class/subject/file); move it,"
            f" or {otherwise}"
        )
    return not without


def _one_group(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(nfc(pattern))
    except re.error as error:
        raise UserError(f"subject_pattern {pattern!r} is not a regular expression: {error}") from error
    if "subject" not in compiled.groupindex and compiled.groups != 1:
        raise UserError(
            f"subject_pattern {pattern!r} needs one group, or one named subject, e.g. '(?P<subject>baby\\d+)'"
        )
    return compiled
