"""What a stage does: it trains a classifier, or without labels by contrast or masks, or fits an SVM once."""

from cry_lightning.tasks.base import MeanSubtraction, RelativeLevel
from cry_lightning.tasks.classifier import Classifier
from cry_lightning.tasks.detector import Detector
from cry_lightning.tasks.masked import MaskedPrediction
from cry_lightning.tasks.simclr import SimCLR
from cry_lightning.tasks.svm import SVM

__all__ = ["SVM", "Classifier", "Detector", "MaskedPrediction", "MeanSubtraction", "RelativeLevel", "SimCLR"]
