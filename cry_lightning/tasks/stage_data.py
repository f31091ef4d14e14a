"""What a stage asks of its data: the contract between tasks, callbacks and the datamodule."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from cry_lightning.corpora import Clips, Corpus
from cry_lightning.features import Feature


class Features(Protocol):
    """The cached features of all clips, a row each."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, channels, bands and frames."""

    @property
    def content(self) -> list[str]:
        """What each row holds: "hash of the file#start-duration"."""

    def left_out(self, clips: Clips) -> tuple[Counter[str], Counter[str]]:
        """Of how many recordings no clip has a feature, by what is wrong in a word; and of the others, how many clips.

        Args:
            clips: of all rows.
        """

    def sounds(self, rows: Tensor) -> Sequence[str]:
        """Fingerprints of the sounds of some rows (n,), as of `lineage.sound_fingerprint`."""

    def gather(self, rows: Tensor) -> Tensor:
        """Features (n, C, F, T) of some rows (n,)."""


class Division(Protocol):
    """Which of many divisions the parts are of."""

    repeat: int
    fold: int
    group: str  # what is never divided


class Sampling(Protocol):
    """How training clips are drawn into batches, and weighed; see `data.subset`."""

    @property
    def batch_size(self) -> int:
        """Clips per batch and process."""

    @property
    def drop_last(self) -> bool:
        """Whether a training batch that is not full is left out."""

    @property
    def balanced(self) -> bool:
        """Whether every class is drawn equally often."""

    @property
    def min_batches(self) -> int:
        """Training batches of an epoch, at least."""

    @property
    def class_weights(self) -> bool:
        """Whether the loss is weighed by the inverse class frequency."""


class Batches(Protocol):
    """Batches {"features", "label", "index"} of one part."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Each batch in turn."""

    def __len__(self) -> int:
        """How many they are."""


class StageData(Protocol):
    """Clips of one corpus under one feature, divided into "train", "val" and "test"; `CryDataModule` is one.

    A datamodule of your own that has these works with every task and callback.
    """

    corpus: Corpus
    feature: Feature
    classes: list[str]  # in the order of the logits
    clips: Clips  # of each row
    labels: Tensor  # index of each row's class (n,), -1 where it has none
    parts: np.ndarray  # of each row (n,), "" where it is left out
    clip_s: float  # seconds that the network is given at once
    shift_s: float  # time shift at random by up to this many seconds in training

    @property
    def sampling(self) -> Sampling:
        """How training clips are drawn into batches."""

    @property
    def features(self) -> Features:
        """Of all clips."""

    @property
    def split(self) -> Division:
        """How the clips are divided."""

    @property
    def probe(self) -> "StageData | None":
        """Labelled clips on which an encoder that learns without labels is tried out."""

    def rows(self, part: str) -> Tensor:
        """Rows (n,) of one part."""

    def clips_of(self, part: str) -> Clips:
        """Clips of one part, in the order of their rows."""

    def subjects(self, part: str) -> list[str]:
        """Subject ids of one part, sorted."""

    def loss_weights(self) -> Tensor | None:
        """Weight of each class (K,) in the loss, if any."""

    def loader(self, part: str, train: bool = False) -> Batches:
        """Batches of one part; shuffled and shifted where they are for training."""
