"""JSON that lies beside runs, and may be damaged."""

import json
from pathlib import Path
from typing import Any

from cry_lightning.errors import UserError


def read_object(path: Path, way_out: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: the file.
        way_out: what the user can do where it is damaged.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); {way_out}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not a JSON object; {way_out}")
    return content
