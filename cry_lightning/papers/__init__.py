"""A published system trained and tested whole, and its tables beside ours."""

from cry_lightning.papers.command import main

__all__ = ["main"]
