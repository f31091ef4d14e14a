"""What a stage does: supervised training of a classifier, contrastive training without labels, or an SVM's one fit."""

from cry_lightning.tasks.base import MeanSubtraction, RelativeLevel
from cry_lightning.tasks.classifier import Classifier
from cry_lightning.tasks.detector import Detector
from cry_lightning.tasks.simclr import SimCLR
from cry_lightning.tasks.svm import SVM

__all__ = ["SVM", "Classifier", "Detector", "MeanSubtraction", "RelativeLevel", "SimCLR"]
