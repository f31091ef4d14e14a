"""What a stage asks of its data: the contract between tasks, callbacks and the datamodule."""

from typing import Protocol

import numpy as np
from torch import Tensor

from cry_lightning.corpora import Clip, Corpus
from cry_lightning.data.building import CachedFeatures
from cry_lightning.data.loader import BatchLoader
from cry_lightning.data.splits import Split
from cry_lightning.features import Feature


class StageData(Protocol):
    """Clips of one corpus under one feature, divided into "train", "val" and "test"; `CryDataModule` is one.

    A datamodule of your own that has these works with every task and callback. Rows are those of the cache.
    """

    corpus: Corpus
    feature: Feature
    features: CachedFeatures
    clips: list[Clip]  # of each row
    classes: list[str]  # in the order of the logits
    labels: Tensor  # index of each row's class (n,), -1 where it has none
    parts: np.ndarray  # of each row (n,), "" where it is left out
    split: Split
    batch_size: int
    drop_last: bool
    balanced: bool
    class_weights: bool

    @property
    def probe(self) -> "StageData | None":
        """Labelled clips on which an encoder that learns without labels is tried out."""

    def rows(self, part: str) -> Tensor:
        """Rows (n,) of one part."""

    def clips_of(self, part: str) -> list[Clip]:
        """Clips of one part, in the order of their rows."""

    def subjects(self, part: str) -> list[str]:
        """Subject ids of one part, sorted."""

    def loss_weights(self) -> Tensor | None:
        """Weight of each class (K,) in the loss, if any."""

    def loader(self, part: str, train: bool = False) -> BatchLoader:
        """Batches of one part: {"features", "label", "index"}."""
