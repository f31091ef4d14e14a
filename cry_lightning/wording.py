"""How messages are worded: cut to one line, printable, with the nearest of the known names."""

import difflib

from cry_lightning.errors import UserError

LONGEST = 250  # characters of a message


class ConfigError(UserError):
    """What is wrong with which key of a config.

    Args:
        key: dotted; empty for the config as a whole.
        reason: in a few words.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(one_line(f"{key}: {reason}" if key else reason))
        self.key = key
        self.reason = reason


def did_you_mean(keys: list[str], known: list[str], dashes: str = "", n: int = 1) -> str:
    """The `n` nearest of the known keys to each, as the end of a message; empty where none is near."""
    near = [dashes + match for key in keys for match in difflib.get_close_matches(key, known, n=n)]
    return f"; did you mean {', '.join(near)}?" if near else ""


def dotted(*keys: str) -> str:
    """The keys that are not empty, joined."""
    return ".".join(filter(None, keys))


def printable(text: str) -> str:
    """Text with what no encoding holds, as in file names from elsewhere, spelled out."""
    return text.encode(errors="backslashreplace").decode()


def one_line(text: str) -> str:
    """A message without line breaks, cut where it goes on and on."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... (--debug shows all)"
