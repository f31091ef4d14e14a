"""Plain data: what a file may hold beside names."""

import math
from typing import Any

from cry_lightning.errors import UserError

MOST_VALUES = 100_000
DEEPEST = 50
LARGEST = 2**63 - 1


def check_plain(value: Any, field: str, largest: int = LARGEST) -> None:
    """Refuse all but tables, lists, texts and finite numbers, and more of them than a config ever holds.

    Args:
        value: what a file holds.
        field: what it is called in messages.
        largest: whole number.

    Raises:
        UserError: naming the field at fault.
    """
    waiting, seen = [(value, field, 0)], 0
    while waiting:  # not by recursion: a table may hold itself, or the same one a billion times
        value, name, depth = waiting.pop()
        seen += 1
        if seen > MOST_VALUES or depth > DEEPEST:
            raise UserError(f"{field}: more than {MOST_VALUES} values, or more than {DEEPEST} levels of them")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise UserError(f"{name}: has keys that are no text")
            waiting += [(one, f"{name}.{key}", depth + 1) for key, one in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(one, f"{name}.{index}", depth + 1) for index, one in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name}: {value} is no finite number")
        elif isinstance(value, int) and abs(value) > largest:
            raise UserError(f"{name}: a number larger than {largest:,}")
        elif not (value is None or isinstance(value, str | bool | int | float)):
            raise UserError(f"{name}: a {type(value).__name__}, where only tables, lists, texts and numbers belong")
