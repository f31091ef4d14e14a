"""Names as they are compared, wherever one comes from a disk and another from a table, a YAML or another disk."""

import unicodedata


def nfc(text: str) -> str:
    """Text in the composed form of Unicode: macOS gives names decomposed."""
    return unicodedata.normalize("NFC", text)
