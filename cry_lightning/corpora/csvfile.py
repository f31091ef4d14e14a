"""Text of a CSV file, or a plain word on why there is none."""

from pathlib import Path

from cry_lightning.errors import UserError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark.

    Raises:
        UserError: the file cannot be read, is empty, or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a CSV file") from error
    if not content.strip():
        raise UserError(f"{path}: the file is empty")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line}, byte {error.start}: not UTF-8; save it as UTF-8") from error
