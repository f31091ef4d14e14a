"""Where `predict` and `embed` write."""

from pathlib import Path

from cry_lightning.arguments import check_folder
from cry_lightning.errors import UserError


def refuse_existing(*paths: Path) -> None:
    """Refuse to write where something is already, or where no folder can be.

    Raises:
        UserError: naming the path.
    """
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists already; remove it, or name another with --out")
        check_folder("--out", path.parent)


def by_recording(out: Path) -> Path:
    """The table of recordings beside that of windows."""
    return out.with_name(f"{out.stem}_recordings.csv")
