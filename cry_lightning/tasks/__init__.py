"""What a stage does: supervised training of a classifier (pretraining and fine-tuning alike)."""

from cry_lightning.tasks.classifier import Classifier

__all__ = ["Classifier"]
