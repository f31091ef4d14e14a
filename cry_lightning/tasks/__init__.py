"""What a stage does: it trains a classifier, or without labels by contrast or masks, or fits an SVM once."""

from cry_lightning.tasks.base import MeanSubtraction as MeanSubtraction, RelativeLevel as RelativeLevel
from cry_lightning.tasks.classifier import Classifier as Classifier
from cry_lightning.tasks.detector import Detector as Detector
from cry_lightning.tasks.masked import MaskedPrediction as MaskedPrediction
from cry_lightning.tasks.simclr import SimCLR as SimCLR
from cry_lightning.tasks.svm import SVM as SVM
