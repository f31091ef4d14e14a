"""Whether a front end on the device can work on what the data gives it."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from cry_lightning.errors import UserError


def check_front_end(front_end: nn.Module | None, augment_waveform: Iterable[nn.Module], data: Any) -> None:
    """Refuse what would be computed and be nonsense: a front end takes any numbers for waveforms, of any rate.

    Raises:
        UserError: the data of the stage are no waveforms, or of another rate than a module is set to.
    """
    feature = data.feature
    if front_end is not None and data.features.shape[1:3] != (1, 1):
        raise UserError(
            f"front_end: {type(front_end).__name__} takes waveforms, but data.feature is {type(feature).__name__}; make"
            " that cry_lightning.features.Waveform, or front_end null"
        )
    for module in (front_end, *augment_waveform):
        if (rate := getattr(module, "sample_rate", feature.sample_rate)) != feature.sample_rate:
            raise UserError(
                f"{type(module).__name__} is set to {rate} Hz, but the data's waveforms have {feature.sample_rate} Hz:"
                " make the two sample_rates one"
            )
