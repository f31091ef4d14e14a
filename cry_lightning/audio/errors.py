"""What is wrong with a recording, in one line, whatever library found it; and what is odd about it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from cry_lightning.errors import UserError

log = logging.getLogger(__name__)


class AudioError(UserError):
    """A file, or a part of one, that cannot be used as sound; the message begins with its path."""


@contextmanager
def failures_told(path: str | Path) -> Iterator[None]:
    """Whatever a decoder raises within, want of memory included, is told as an AudioError of this file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # decoders raise what they like when a header is damaged
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
        if isinstance(error, MemoryError):
            reason = "it would need more memory than there is"
        reason = " ".join(str(reason).replace(str(path), "").split()) or type(error).__name__
        raise AudioError(f"{path}: cannot be decoded as sound ({reason})") from error


@cache
def warn_once(text: str) -> None:
    """Log what is odd about recordings, the first time that this process has it to say."""
    log.warning(text)
