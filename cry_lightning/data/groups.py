"""The groups of a datamodule's arguments: what is trained on, how it is drawn into batches, where it is cached."""

from dataclasses import dataclass
from typing import Literal

from cry_lightning.console import UserError


@dataclass(frozen=True)
class Subset:
    """Which clips of the training part are trained on.

    Args:
        unlabelled: train on clips without a label too (their label is -1); for stages that learn without labels.
        label_fraction: train on this share of each class's subjects only (nested: a smaller share is part of a larger).
        per_class: train on this many clips of each class only, spread over its subjects (nested).
        exclude_subjects: file with one subject id per line, or a predictions.csv for those it tests, or several such;
            none of them is used in training or validation.
    """

    unlabelled: bool = False
    label_fraction: float = 1.0
    per_class: int | None = None
    exclude_subjects: str | list[str] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.label_fraction <= 1:
            raise UserError(f"data.subset.label_fraction must lie above 0 and up to 1, not {self.label_fraction}")

    @property
    def exclusions(self) -> list[str]:
        """The files of `exclude_subjects`."""
        return [self.exclude_subjects] if isinstance(self.exclude_subjects, str) else self.exclude_subjects or []


@dataclass(frozen=True)
class Sampling:
    """How training clips are drawn into batches, and weighed.

    Args:
        batch_size: clips per batch and process.
        drop_last: leave out the last training batch where it is not full.
        balanced: draw training clips so that every class is equally likely.
        by_subject: make training batches of as few subjects as can be, so that who it is does not tell SimCLR's
            negatives apart; see `EpochOrder`.
        class_weights: weigh the loss by the inverse class frequency of the training clips.
        min_batches: training batches of an epoch, at least: where there are fewer clips, they are drawn several times.
    """

    batch_size: int = 64
    drop_last: bool = False
    balanced: bool = False
    by_subject: bool = False
    class_weights: bool = False
    min_batches: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"data.sampling.batch_size must be 1 or more, not {self.batch_size}")
        if self.min_batches < 0:
            raise UserError(f"data.sampling.min_batches must be 0 or more, not {self.min_batches}")
        if self.min_batches and self.by_subject:
            raise UserError("data.sampling.min_batches may draw a clip twice for a batch of data.sampling.by_subject")
        if self.balanced and self.by_subject:
            raise UserError("data.sampling.balanced draws by class, so it cannot go with data.sampling.by_subject")


@dataclass(frozen=True)
class Caching:
    """Where features are kept, and how they are computed.

    Args:
        folder: where feature caches lie.
        dtype: type of the numbers on the disk; "float16" halves a cache.
        workers: processes that build the cache; 0 builds it in this one.
    """

    folder: str = "cache"
    dtype: Literal["float32", "float16"] = "float32"
    workers: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"data.cache.workers must be 0 or more, not {self.workers}")
