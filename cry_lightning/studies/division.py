"""How a cross-validation divides its clips; nothing here takes time to import."""

from collections.abc import Sequence
from dataclasses import dataclass

from cry_lightning.console import UserError


@dataclass(frozen=True)
class CrossValidationPlan:
    """How clips are divided again and again; the options of `cross-validate`.

    Seeds without folds train the YAML's own division; with folds, repeats or a group, every division.

    Raises:
        UserError: they contradict each other.
    """

    folds: int | None = None
    repeats: int = 1
    group: str | None = None
    loso: bool = False
    seeds: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.loso and self.folds is not None:
            raise UserError("--folds and --loso contradict each other: leave-one-out has a fold for each group")
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"--seeds {' '.join(map(str, self.seeds))}: the same seed twice is the same training twice")

    @property
    def of_yaml(self) -> bool:
        """Whether the clips are divided as the YAML of the stage says."""
        return bool(self.seeds) and not (self.loso or self.folds is not None or self.repeats != 1 or self.group)
