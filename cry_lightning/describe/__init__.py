"""What a corpus is made of: who and what is in it, how it sounds, and which splits its subjects can support."""

from cry_lightning.describe.command import main

__all__ = ["main"]
