"""How few labels each encoder needs: many small trainings on nested subsets, one curve per encoder."""

from cry_lightning.label_efficiency.command import main

__all__ = ["main"]
