"""What a stage does: supervised training of a classifier, or contrastive training without labels."""

from cry_lightning.tasks.classifier import Classifier
from cry_lightning.tasks.simclr import SimCLR

__all__ = ["Classifier", "SimCLR"]
