"""Which files below a folder are recordings, and which are left out and why."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

from cry_lightning.audio import EXTENSIONS, NO_SOUND, warn_once, what_it_is
from cry_lightning.commands.arguments import check_there
from cry_lightning.console import UserError, first_few
from cry_lightning.files import nfc

MAX_NAMED = 3  # files, in one line
LOOKED_AT = 512  # bytes of a file with an unknown ending


@dataclass
class Listing:
    """What lies below a folder."""

    recordings: list[str] = field(default_factory=list)  # POSIX, relative to the folder, sorted
    beside: Counter[str] = field(default_factory=Counter)  # ending -> number of files that hold no sound
    odd: dict[str, str] = field(default_factory=dict)  # path -> why it is left out, though it might be one


def find_recordings(root: Path) -> list[str]:
    """Paths of all recordings below a folder, POSIX, relative to it, sorted; see `look_through`.

    What may be a recording and is left out is warned of, once.

    Raises:
        UserError: the folder, or one in it, cannot be read, or holds no recording.
    """
    listing = look_through(root)
    odd = [f"{path}, {why}" for path, why in sorted(listing.odd.items())]
    reason = f"left out: {first_few(odd, MAX_NAMED, '; ', '; and')}" if odd else ""
    if not listing.recordings:
        looked_for = f"looked for .wav, .mp3, .m4a, .mp4 and {len(EXTENSIONS) - 4} other endings of sound and video"
        raise UserError(f"{root}: no recordings found; {reason or looked_for}")
    if odd:
        warn_once(f"{root}: {reason}")
    return listing.recordings


def recordings_named(paths: Sequence[str]) -> list[str]:
    """The recordings among paths, and those below folders among them, each once.

    Raises:
        UserError: there is no path, or one does not exist, or is a folder without recordings.
    """
    if not paths:
        raise UserError("no recording was named; give recordings, or folders of them")
    return _once(found for path in paths for found in _found(path))


def look_through(root: Path) -> Listing:
    """Every file below a folder, linked folders included, each folder once; hidden files and folders are passed over.

    Raises:
        UserError: the folder, or one in it, cannot be read.
    """
    listing = Listing()
    folders = [(root, "")]
    seen: set[tuple[int, int]] = set()
    while folders:
        folder, prefix = folders.pop()
        status, entries = _entries(folder)
        if (status.st_dev, status.st_ino) in seen:
            listing.odd[prefix.rstrip("/")] = "a link to a folder that is listed already"
            continue
        seen.add((status.st_dev, status.st_ino))
        linked: list[tuple[Path, str]] = []
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith("."):
                continue
            # Nor may it be forbidden to look there: who reads it says so.
            leads_nowhere = entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110
            if not leads_nowhere and entry.is_dir():
                (linked if entry.is_symlink() else folders).append((folder / entry.name, f"{path}/"))
            elif leads_nowhere or entry.is_file():
                _add_file(listing, path, folder / entry.name)
            else:
                listing.odd[path] = f"is {what_it_is(folder / entry.name)}"
        folders[:0] = linked  # behind all that are no links: what lies in the folder itself keeps its own name
    listing.recordings.sort()
    return listing


def _entries(folder: Path) -> tuple[os.stat_result, list[os.DirEntry[str]]]:
    """What a folder is, and what lies in it, by name."""
    try:
        with os.scandir(folder) as entries:
            return folder.stat(), sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be read ({error.strerror})") from error


def _add_file(listing: Listing, path: str, file: Path) -> None:
    ending = PurePosixPath(path).suffix.lower()
    if ending in EXTENSIONS:
        listing.recordings.append(path)
    elif ending in NO_SOUND or _is_text(file):
        listing.beside[ending or "none"] += 1
    else:
        listing.odd[path] = f"its ending {ending or '(none)'} is not known; rename it if it is a recording"


def _is_text(file: Path) -> bool:
    """Whether a file of an unknown ending is a text, as a licence is, or empty."""
    try:
        with file.open("rb") as opened:
            start = opened.read(LOOKED_AT)
    except OSError:
        return False
    return b"\0" not in start and all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)


def on_disk(path: Path) -> Path:
    """The path as the disk spells it, where its names are there in another form of Unicode; else as it is."""
    if str(path).isascii() or os.path.exists(path):  # noqa: PTH110  that of Path may raise
        return path
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        here = found / part
        if not os.path.exists(here):  # noqa: PTH110
            with suppress(OSError, ValueError):  # no folder, or one that may not be listed
                here = next((other for other in found.iterdir() if nfc(other.name) == nfc(part)), here)
        found = here
    return found


def _found(path: str) -> Iterator[str]:
    check_there(path, "give recordings, or folders of them")
    if Path(path).is_dir():
        yield from (str(Path(path, name)) for name in find_recordings(Path(path)))
    else:
        yield path  # if it is no file, who reads it says so


def _once(paths: Iterable[str]) -> list[str]:
    """Each recording by the first of its names, whatever ways lead to its folder."""
    folder_at = cache(os.path.realpath)
    named: dict[tuple[str, str], str] = {}
    for path in paths:
        folder, name = os.path.split(path)
        named.setdefault((folder_at(folder), name), path)
    return list(named.values())
