"""The progress bar of long work."""

from typing import Any

from tqdm import tqdm


def progress_bar(*args: Any, hidden: bool = False, **kwargs: Any) -> "tqdm[Any]":
    """A bar of tqdm's that a terminal shows, so that no log file fills with it; a hidden one is shown nowhere."""
    return tqdm(*args, **kwargs | {"disable": True if hidden else None})
