"""What `test` finds out on a classifier's own data, for `predict`: calibration, thresholds, novelty."""

from cry_lightning.inference.reference.decisions import Decisions
from cry_lightning.inference.reference.fitting import fitted
from cry_lightning.inference.reference.novelty import Novelty
from cry_lightning.inference.reference.reference import FILE, Reference, beside

__all__ = ["FILE", "Decisions", "Novelty", "Reference", "beside", "fitted"]
