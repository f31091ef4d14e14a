"""What a file is, by its first bytes: for messages about one that is given in the place of another."""

import re
import zipfile
from codecs import getincrementaldecoder
from contextlib import suppress
from pathlib import Path

CHECKPOINT, TRUNCATED = "a checkpoint", "a truncated checkpoint or archive"
LOOKED_AT = 512  # bytes
BY_BEGINNING = {
    rb"RIFF....WAVE|RF64|FORM....AIF|\.snd|OggS|fLaC|#!AMR|\x1aE\xdf\xa3|....ftyp": "a recording",
    rb"ID3|\xff[\xe2\xe3\xf0-\xf3\xf8-\xfb]": "a recording",  # MP3 and AAC
    rb"\x89HDF": "HDF5",
    rb"\x1f\x8b": "a gzip archive",
    rb"\x89PNG|\xff\xd8\xff": "a picture",
    rb"%PDF": "a PDF",
    rb"ooBinaryFile": "a binary file of Praat",
}
BEGINNINGS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in BY_BEGINNING.items()]


def kind_of(path: str | Path) -> str:
    """In words, "a recording" or "text"; empty of a file that is of no known kind, or cannot be read."""
    path = Path(path)
    try:
        if path.is_dir():
            return "a folder"
        if not path.is_file():  # to look into a pipe would empty it
            return ""
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
    except (OSError, ValueError):
        return ""
    if not start:
        return "an empty file"
    if start.startswith(b"PK\x03\x04"):
        return _archive(path)
    if found := next((kind for pattern, kind in BEGINNINGS if pattern.match(start)), ""):
        return found
    return "text" if _is_text(start) else ""


def _archive(path: Path) -> str:
    """Of what torch.save writes, a ZIP archive, or of another one."""
    try:
        with zipfile.ZipFile(path) as bundle:
            names = bundle.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return TRUNCATED
    return CHECKPOINT if any(name.endswith("/data.pkl") for name in names) else "a ZIP archive"


def _is_text(start: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        getincrementaldecoder("utf-8")().decode(start)  # whose last character may be cut
        return b"\0" not in start
    return False
