"""Search for good values of a stage's settings, chosen on validation subjects alone."""

from cry_lightning.tune.command import main

__all__ = ["main"]
