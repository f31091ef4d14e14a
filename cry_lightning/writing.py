"""Files that are written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cry_lightning.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A `.part` path to write to, which takes the place of `path` only when the block ends well, else is removed.

    Raises:
        UserError: the disk is full, or the path cannot be written for another reason; what was there is unchanged.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({reason}); make room there, or name another place") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
