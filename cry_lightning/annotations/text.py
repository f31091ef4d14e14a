"""Text of files of intervals, in the encodings that Praat, Audacity and Raven write."""

import codecs
from pathlib import Path

from cry_lightning.console import UserError

SLACK_S = 0.1  # an interval may end this much behind the sound, whose length differs between decoders
ENCODINGS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}  # else UTF-8, marked or not


def read_text(path: Path) -> str:
    """The text of a file, by its byte-order mark in UTF-16, else in UTF-8.

    Raises:
        UserError: the file cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a file of intervals") from error
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "UTF-8")
    try:
        return content.decode(encoding).removeprefix("\N{BYTE ORDER MARK}")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not {encoding}; save it as UTF-8") from error
