"""Subjects and labels that look like slips of the pen: one infant under two names, or a word for "not known"."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

import pandas as pd

from cry_lightning.console import first_few
from cry_lightning.files import nfc

MAX_NAMED = 5  # of each kind
NEAR = "accents, punctuation or the script of digits"  # in which names differ that are `loose`ly one
NOT_KNOWN = {"na", "n/a", "#n/a", "nan", "none", "null", "nil", "unknown", "undefined", "missing", "?", "-", "--"}
KEYWORDS = {"unknown", "silence"}  # beside each other, labels of a keyword task: other words, and none


def doubts(subjects: Iterable[str], labels: Iterable[str | None] = ()) -> list[str]:
    """What is probably wrong with these names, in sentences; nothing, if they look right.

    Args:
        subjects: "collection:id", or ids; those that are no more than a recording's name are best left out.
        labels: of the same clips, or the classes; None: unlabelled.
    """
    sentences, subjects = [], set(subjects)
    if same := probably_one(subjects):
        groups = first_few([" and ".join(map(repr, group)) for group in same], MAX_NAMED, "; ", "; and")
        sentences.append(
            f"PROBABLY ONE INFANT under several names ({len(same)} such): {groups}. Spell each subject in one"
            " way, or a split may put one infant on both sides without notice."
        )
    if near := perhaps_one(subjects):
        groups = first_few([" and ".join(map(repr, group)) for group in near], MAX_NAMED, "; ", "; and")
        sentences.append(
            f"PROBABLY ONE INFANT, but counted as several, under names that differ in {NEAR} alone ({len(near)} such):"
            f" {groups}. If they are one, spell each subject in one way: a split may put it on both sides."
        )
    given = {label for label in labels if label}
    for alike in probably_one(given):
        sentences.append(
            f"The labels {' and '.join(map(repr, alike))} differ in their spelling alone, and are so many classes:"
            " spell them in one way, or join them by the corpus's `classes`."
        )
    in_doubt = given - KEYWORDS if given >= KEYWORDS else given
    for what, names in (("subject", map(own_part, subjects)), ("label", in_doubt)):
        if empty := sorted({name for name in names if name and name.strip().casefold() in NOT_KNOWN}):
            listed = ", ".join(map(repr, empty))
            sentences.append(f"The {what} {listed} probably stands for one that is not known: leave it blank then.")
    return sentences


def named_by_recording(subjects: Iterable[tuple[str, str]]) -> list[str]:
    """What is doubtful where each subject is named as its one recording, in a sentence.

    Args:
        subjects: "collection:id" and the path of a recording, of those whose subject was given.
    """
    pairs = set(subjects)
    several = len({subject for subject, _ in pairs}) < len(pairs)  # recordings of one
    if (
        several
        or len(pairs) < 2
        or not all(own_part(subject) == nfc(PurePosixPath(path).stem) for subject, path in pairs)
    ):
        return []
    return [
        f"Each of {len(pairs)} subjects is named as its one recording. If an infant was recorded more than once, it may"
        " be on both sides of a split without notice: write into the column `subject` who it is, or leave that blank."
    ]


def probably_one(subjects: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ in case, leading zeros, blanks, a trailing `.0` or `,0`, or Unicode's form alone."""
    return _alike(subjects, plain)


def perhaps_one(subjects: Iterable[str]) -> list[list[str]]:
    """Groups of names that also differ in accents, punctuation or the script of digits, but in nothing else."""
    return [group for group in _alike(subjects, loose) if [group] != probably_one(group)]


def _alike(subjects: Iterable[str], form: Callable[[str], str]) -> list[list[str]]:
    """Groups of names of one collection whose ids have the same form."""
    groups: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for subject in set(subjects):
        own = own_part(subject)
        groups[plain(subject.removesuffix(own)), form(own)].add(subject)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def joined(table: pd.DataFrame) -> pd.Series:
    """The subject of each row in one spelling, the first of several of one infant, as which lineages compare them.

    Args:
        table: has `subject`, and may have `subject_source`: those that are not known are names of recordings.
    """
    subjects = table["subject"]
    known = subjects[table["subject_source"] != "unknown"] if "subject_source" in table else subjects
    first = {name: group[0] for group in probably_one(known.unique()) for name in group}
    return subjects.replace(first) if first else subjects


def plain(name: str) -> str:
    """A name without what a keyboard or a spreadsheet may have done to it."""
    name = "".join(unicodedata.normalize("NFKC", name).casefold().split())
    name = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")  # unseen, as a soft hyphen
    name = re.sub(r"(?<=\d)[.,]0+$", "", name)
    return re.sub(r"\d+", lambda digits: digits[0].lstrip("0") or "0", name)


def loose(name: str) -> str:
    """A name without what two writers of one id may differ in, too; names that are `plain`ly one have one such form.

    Punctuation stays a boundary between digits: 1-2 is not 12.
    """
    spelled = plain(name)
    if spelled.isascii() and spelled.isalnum():
        return spelled  # as most are
    bare = (letter for letter in unicodedata.normalize("NFKD", spelled) if not unicodedata.combining(letter))
    latin = "".join(str(unicodedata.digit(letter, letter)) for letter in bare)
    marked = "".join("-" if unicodedata.category(letter)[0] == "P" else letter for letter in plain(latin))
    return re.sub(r"(?<!\d)-|-(?!\d)", "", re.sub("-+", "-", marked)) or spelled


def own_part(subject: str) -> str:
    """The id within a collection."""
    return subject.partition(":")[2] or subject
