"""How a trained model fares when the sound it hears is disturbed: curves over physical units."""

from cry_lightning.robustness.command import main

__all__ = ["main"]
