"""The classical baseline: fitted by scikit-learn, kept and scored as tensors, a stage like any other."""

from cry_lightning.tasks.svm.stage import SVM

__all__ = ["SVM"]
