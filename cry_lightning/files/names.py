"""Names as they are compared, wherever one comes from a disk and another from a table, a YAML or another disk."""

import hashlib
import re
import unicodedata


def nfc(text: str) -> str:
    """Text in the composed form of Unicode: macOS gives names decomposed."""
    return unicodedata.normalize("NFC", text)


def safe_name(text: str) -> str:
    """`text` with everything but letters, digits, dots, dashes and underscores made a dash: fit for a folder's name.

    Letters of other alphabets are written without their marks, or left out; a digest tells such names apart.
    """
    text = nfc(text)
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.") or "corpus"
    if text.isascii():
        return safe
    return f"{safe}-{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:6]}"
