"""Arguments of the commands that take no YAML: a mistake is one line, without the usage page."""

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

from cry_lightning.errors import UserError


class ArgumentParser(argparse.ArgumentParser):
    """Refuses what it does not know, abbreviations included.

    Args:
        **kwargs: as for argparse; `prog` is `python -m cry_lightning COMMAND`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Raise the message as a user's mistake."""
        raise UserError(f"{message}; see {self.prog} --help")


def check_name(name: str, given: str) -> None:
    """Refuse what, given as the argument or key `name`, is not the name of one folder.

    Raises:
        UserError: it would lead elsewhere, or could be taken for an option.
    """
    if given in ("", ".", "..") or given.startswith("-") or re.search(r"[/\\\x00-\x1f\x7f]", given):
        raise UserError(f"{name}: {given!r} is no name of a folder; give letters, digits, dots, dashes and underscores")


def check_folder(name: str, path: str | Path) -> None:
    """Refuse a path, given as the argument or key `name`, that cannot be or become a folder.

    Raises:
        UserError: a file is in its place.
    """
    for place in (Path(path), *Path(path).parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"{name}: {place} is a file; name a folder")


def check_there(path: str | Path, instead: str, what: str = "file or folder") -> None:
    """Refuse a path that is not there.

    Args:
        path: of a file or folder.
        instead: what the user gives instead.
        what: it should be.

    Raises:
        UserError: naming it.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no such {what}; {instead}")
