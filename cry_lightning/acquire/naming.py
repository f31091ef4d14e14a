"""Whose a source is and what it is: by folder, by its name, or by a table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cry_lightning.corpora import ClassFolders, DonateACry
from cry_lightning.corpora.base import warn_of_unknown_subjects
from cry_lightning.corpora.csvfile import read_table
from cry_lightning.corpora.listing import nfc
from cry_lightning.corpora.trees import has_subject_folders
from cry_lightning.errors import UserError


@dataclass(frozen=True)
class Identity:
    """What is known of a source; blank: nothing."""

    label: str = ""
    subject: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


Identities = dict[str, Identity]  # source, relative to IN -> whose it is


def by_form(root: Path, sources: Sequence[str]) -> Identities:
    """By the Donate-a-Cry code where most names are such, else by class folders where there are, with subject folders.

    Class folders have no source outside of them; the folder below one is the subject.

    Raises:
        UserError: some sources have a subject folder and some have none.
    """
    coded = DonateACry(root)
    clips = {source: coded.clip_at(source) for source in sources}
    if sum(clip is not None for clip in clips.values()) <= len(sources) / 2:
        folders = {source.rpartition("/")[0].partition("/")[0] for source in sources}
        if "" in folders:
            return {}
        has_subjects = has_subject_folders(root, sources, "tell subjects by --name-pattern or --table")
        tree = ClassFolders(root, "^[^/]+/([^/]+)/" if has_subjects else None)
        clips = {source: tree.clip_at(source) for source in sources}
    return {
        source: Identity(clip.label or "", clip.subject.partition(":")[2], clip.columns)
        for source, clip in clips.items()
        if clip
    }


def by_pattern(pattern: str, sources: Sequence[str]) -> Identities:
    """By a regular expression, sought in each path, whose groups are named `label` and `subject`, or one of them.

    Raises:
        UserError: it is none, has other groups, or is found nowhere.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--name-pattern {pattern!r} is not a regular expression: {error}") from error
    if not compiled.groupindex or set(compiled.groupindex) - {"label", "subject"}:
        raise UserError(
            f"--name-pattern {pattern!r} needs groups named label or subject, e.g. '(?P<subject>baby\\d+)_'"
        )
    found = {source: compiled.search(source) for source in sources}
    named = {source: match.groupdict(default="") for source, match in found.items() if match}
    identities = {source: Identity(one.get("label", ""), one.get("subject", "")) for source, one in named.items()}
    if not identities:
        raise UserError(f"--name-pattern {pattern!r} is found in no path, e.g. not in {sources[0]!r}")
    return identities


def by_table(path: Path, sources: Sequence[str]) -> Identities:
    """By a CSV file with the columns source (a path relative to IN), and label, subject or further ones.

    Raises:
        UserError: the file is no such table, tells of a source twice, or of none that is there.
    """
    spelled = {nfc(source): source for source in sources}  # as the disk has it

    def columns_of(header: Sequence[str]) -> list[str]:
        if "source" not in header:
            raise UserError(f"{path}: no column `source`; the header is source,label,subject, separated by commas")
        return list(header)

    identities: Identities = {}
    for line, row in read_table(path, columns_of):
        source = Path(row.pop("source").replace("\\", "/")).as_posix()
        source = spelled.get(nfc(source), source)
        if source in identities:
            raise UserError(f"{path}: line {line} tells of {source} once more")
        identities[source] = Identity(row.pop("label", ""), row.pop("subject", ""), row)
    if not identities.keys() & set(sources):
        raise UserError(
            f"{path}: tells of no source that is there, e.g. not of {sources[0]!r}; paths are relative to IN"
        )
    return identities


def warn_of_unnamed(identities: Identities, sources: Sequence[str], root: Path) -> None:
    """Say that sources are taken for subjects of their own where no more is known."""
    if any(identities.get(source, Identity()).subject in ("", source) for source in sources):
        warn_of_unknown_subjects(root, "give --name-pattern, e.g. '(?P<subject>baby\\d+)', or --table")
