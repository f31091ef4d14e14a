"""What a stage refuses before it trains, since it would be noticed later, or never."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cry_lightning.console import UserError, one_line
from cry_lightning.tasks.stage_data import StageData

if TYPE_CHECKING:
    from cry_lightning.tasks.base import Stage
    from cry_lightning.tasks.classifier import Classifier


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


def check_stage(stage: "Stage") -> None:
    """Refuse a stage whose checkpoints would not tell how it is made, or that cannot learn.

    Raises:
        UserError: naming its class, or the layer.
    """
    if torch.is_inference_mode_enabled():
        raise UserError("torch.inference_mode is in force, under which nothing is learned: fit outside of it")
    if lazy := [name for name, parameter in stage.named_parameters() if is_lazy(parameter)]:
        raise UserError(f"model: {lazy[0]} is of a lazy layer, whose size no optimizer knows; state its size")
    if not stage.hparams:
        raise UserError(
            f"{type(stage).__name__}: its __init__ keeps no arguments, without which no checkpoint of it can be read:"
            " call self.save_hyperparameters() there"
        )


def check_network(stage: "Stage", features: Tensor) -> None:
    """Refuse a network that makes no embeddings (B, D) of a clip (1, C, F, T), or of two.

    Raises:
        UserError: naming the part, and what it makes.
    """
    name = f"model.encoder: {type(stage.encoder).__name__}"
    for n in (1, 2):
        clips = features.repeat(n, 1, 1, 1)
        made, wanted = _embeddings(stage, clips), (n, stage.num_features)
        if _shape(made) != wanted:
            raise UserError(
                f"{name} makes {_shape(made)} of features {_shape(clips)}, where embeddings (B, num_features) are"
                f" expected: {wanted}"
            )
        if made.dtype == torch.float64 != features.dtype:
            raise UserError(f"{name} makes float64 of {features.dtype}")


def check_loss(stage: "Classifier", features: Tensor) -> None:
    """Refuse a head without a score for each class of a clip (1, C, F, T), and a loss that is no number for a batch.

    Raises:
        UserError: naming the part, and what it makes.
    """
    n_classes = len(stage.data.classes)
    n = 3 if n_classes == 2 else 2  # clips: else a loss could take labels (B,) for a row of logits
    labels = torch.arange(n, device=features.device) % n_classes
    logits = _of("head", stage.head, _embeddings(stage, features.repeat(n, 1, 1, 1)))
    if _shape(logits) != (n, n_classes):
        raise UserError(
            f"model.head: {type(stage.head).__name__} makes {_shape(logits)} of {n} clips, where logits (B, K) are"
            f" expected: {(n, n_classes)}"
        )
    loss = _of("loss", stage.loss, logits, labels)
    if _shape(loss) != ():
        raise UserError(
            f"model.loss: {type(stage.loss).__name__} makes {_shape(loss)} of logits {_shape(logits)} and labels"
            f" ({n},), where one number is expected, as by reduction: mean"
        )


@contextmanager
def on_trial(stage: "Stage") -> Iterator[Tensor | None]:
    """The first training clip (1, C, F, T), for a pass that leaves the stage and all random numbers as they were.

    Yields:
        None where a pass costs too much, or takes all processes.
    """
    alone, data = isinstance(stage.trainer.strategy, SingleDeviceStrategy), stage.data
    first = data.rows("train")[:1]
    if not (alone and len(first)) or stage.encoder._compiled_call_impl is not None:
        yield None
        return
    precision, training = stage.trainer.precision_plugin, [module for module in stage.modules() if module.training]
    features = data.features.gather(first)[..., : data.feature.n_frames(data.clip_s)]
    stage.eval()
    try:
        with isolate_rng(torch.cuda.is_initialized()), torch.no_grad(), precision.forward_context():
            yield precision.convert_input(features.to(stage.device))
    finally:
        for module in training:
            module.training = True


def _embeddings(stage: "Stage", features: Tensor) -> Tensor:
    seen = _of("front_end or normalize", stage.view, features, False)
    return _of("encoder", stage.encoder, seen)


def _of(part: str, function: Callable[..., Tensor], *given: object) -> Tensor:
    """What a part of a stage makes, its errors in one line."""
    try:
        return function(*given)
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        name = f"{type(function).__name__} " if isinstance(function, nn.Module) else ""
        of = " and ".join(str(_shape(one)) for one in given if isinstance(one, Tensor))
        raise UserError(one_line(f"model.{part}: {name}fails on {of}: {error}")) from error


def _shape(made: object) -> object:
    """The shape of a tensor, or what else there is."""
    return tuple(made.shape) if isinstance(made, Tensor) else f"a {type(made).__name__}"
