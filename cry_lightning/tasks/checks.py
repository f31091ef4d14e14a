"""What a stage refuses before it trains, since it would be noticed later, or never."""

from collections.abc import Iterable

import lightning as L
import torch
from torch import nn

from cry_lightning.console import UserError
from cry_lightning.tasks.stage_data import StageData


def check_front_end(front_end: nn.Module | None, augment_waveform: Iterable[nn.Module], data: StageData) -> None:
    """Refuse what would be computed and be nonsense: a front end takes any numbers for waveforms, of any rate.

    Raises:
        UserError: the data of the stage are no waveforms, or of another rate than a module is set to or wants.
    """
    feature = data.feature
    if front_end is not None and data.features.shape[1:3] != (1, 1):
        raise UserError(
            f"front_end: {type(front_end).__name__} takes waveforms, but data.feature is {type(feature).__name__}; make"
            " that cry_lightning.features.Waveform, or front_end null"
        )
    if getattr(front_end, "own_rate", False):
        raise UserError(
            f"front_end: {type(front_end).__name__} takes each recording at its own sample rate, which waveforms no"
            " longer have; make it data.feature"
        )
    for module in (front_end, *augment_waveform):
        if (rate := getattr(module, "sample_rate", feature.sample_rate)) != feature.sample_rate:
            raise UserError(
                f"{type(module).__name__} is set to {rate} Hz, but the data's waveforms have {feature.sample_rate} Hz:"
                " make the two sample_rates one"
            )


def check_default_dtype() -> None:
    """Refuse to make a front end or a network of other numbers than it is trained and read with.

    Raises:
        UserError: torch's default is not float32.
    """
    if (dtype := torch.get_default_dtype()) is not torch.float32:
        raise UserError(
            f"torch.set_default_dtype({dtype}) is in force: front ends and networks are of float32, so set it back by"
            " torch.set_default_dtype(torch.float32); trainer.precision is for training"
        )


def check_kept(stage: L.LightningModule) -> None:
    """Refuse a stage whose checkpoints would not tell how it is made.

    Raises:
        UserError: naming its class.
    """
    if not stage.hparams:
        raise UserError(
            f"{type(stage).__name__}: its __init__ keeps no arguments, without which no checkpoint of it can be read:"
            " call self.save_hyperparameters() there"
        )
