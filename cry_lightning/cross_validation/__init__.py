"""Cross-validation of a stage, or of a chain of stages, by subject or any other group."""

from cry_lightning.cross_validation.command import main

__all__ = ["main"]
