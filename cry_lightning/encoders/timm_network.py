"""Networks of timm as encoders of pictures."""

from functools import partial
from pathlib import Path
from typing import Any, Required, TypedDict

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import load_state_dict
from torch import Tensor, nn

from cry_lightning.console import UserError, first_few


class Published(TypedDict, total=False):
    """What timm tells of a network, as far as it is asked."""

    fixed_input_size: bool
    classifier: Required[str | tuple[str, ...]]  # names of its last layers


class TimmNetwork(nn.Module):
    """Embeddings (B, num_features) of pictures (B, in_chans, F, T), in 0..1, by any network of timm without its head.

    Pictures of three colours are standardised as the network's data config asks, mostly by ImageNet's mean and
    standard deviation.

    Args:
        model_name: as timm calls it, e.g. resnet50 or resnet50.a1_in1k.
        in_chans: channels of the picture; published weights, made for three, are adapted.
        img_size: F and T for networks that are built for one size, as most transformers are; others take any size and
            have no use for it.
        pretrained: fetch the published weights from timm's hub.
        checkpoint_path: take them from this file instead (safetensors or PyTorch, tensors named as timm does).
        **kwargs: for timm.create_model.

    Raises:
        UserError: the network cannot take pictures of that size, or the file holds another network's weights.
    """

    mean: Tensor  # (in_chans, 1, 1)
    std: Tensor  # (in_chans, 1, 1)

    def __init__(
        self,
        model_name: str,
        in_chans: int = 3,
        img_size: tuple[int, int] | None = None,
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        make = partial(timm.create_model, model_name, in_chans=in_chans, num_classes=0, **kwargs)
        with torch.device("meta"):  # shapes without numbers
            sketch = make().eval()
            published: Published = sketch.pretrained_cfg  # type: ignore[assignment]
            fixed = published.get("fixed_input_size", False)
            if fixed and img_size:
                make = partial(make, img_size=tuple(img_size))
                sketch = make().eval()
        data = resolve_model_data_config(sketch)
        self.name = model_name
        self.weights_from_elsewhere = bool(pretrained or checkpoint_path)
        self.in_chans = in_chans
        self.fixed_size: tuple[int, int] | None = tuple(img_size or data["input_size"][1:]) if fixed else None
        strides = [stage["reduction"] for stage in getattr(sketch, "feature_info", [])] or [1]
        self.finest, self.coarsest = min(strides), max(strides)
        if self.fixed_size and any(pixels % self.finest for pixels in self.fixed_size):
            raise UserError(
                f"{model_name}: cuts pictures into patches of {self.finest}x{self.finest}; img_size must be a multiple"
                f" of that, not {pixels_of(self.fixed_size)}"
            )
        # Asked of the network, since some of timm's tell another number.
        size = self.fixed_size or data["input_size"][1:]
        self.num_features: int = sketch(torch.empty(1, in_chans, *size, device="meta")).shape[1]
        self.network = (
            with_weights(make, checkpoint_path, list(sketch.state_dict()), published["classifier"])
            if checkpoint_path
            else make(pretrained=pretrained)
        )
        colours = {"mean": data["mean"], "std": data["std"]} if in_chans == 3 else {"mean": (0.0,), "std": (1.0,)}
        for statistic, values in colours.items():
            self.register_buffer(statistic, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Embeddings (B, num_features) of pictures (B, in_chans, F, T)."""
        self.check(tuple(pictures.shape))
        return self.network((pictures - self.mean) / self.std)

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse pictures of a shape that the network is not for.

        Raises:
            UserError: it is not for pictures of this shape, with what to set.
        """
        if len(shape) != 4 or shape[1] != self.in_chans:
            colour = "; set model.init_args.normalize to cry_lightning.tasks.picture.ColourMap" * (self.in_chans == 3)
            raise UserError(f"{self.name}: wants pictures of shape (B, {self.in_chans}, F, T), not {shape}{colour}")
        if self.fixed_size and shape[2:] != self.fixed_size:
            raise UserError(
                f"{self.name}: is built for pictures of {pixels_of(self.fixed_size)}, not {pixels_of(shape[2:])};"
                f" set its img_size to [{shape[2]}, {shape[3]}], or the size of the feature"
            )
        if min(shape[2:]) < self.coarsest:
            raise UserError(
                f"{self.name}: sees pictures {self.coarsest} times smaller at its end, so {pixels_of(shape[2:])} is too"
                f" small; make the feature's size at least {self.coarsest}x{self.coarsest}"
            )


def with_weights(make: partial[nn.Module], path: str, names: list[str], head: str | tuple[str, ...]) -> nn.Module:
    """The network with the weights in a file; timm adapts its first convolution and its positions.

    Args:
        make: makes the network.
        path: the file.
        names: of the network's tensors.
        head: what the names of the tensors begin with that it does without.

    Raises:
        UserError: the file is missing, cannot be read, or is not of this network.
    """
    if not Path(path).is_file():
        raise UserError(f"checkpoint_path: {path}: no such file of weights")
    try:
        given = load_state_dict(path, weights_only=True)
    except Exception as error:  # of three libraries, each with its own
        raise UserError(f"checkpoint_path: {path}: cannot be read as weights ({str(error)[:100]})") from error
    # timm itself leaves at random what a file of another network lacks. Files of old count no batches.
    problems = [f"{n} is missing" for n in names if n not in given and not n.endswith("num_batches_tracked")]
    problems += [f"{n} is left over" for n in given if n not in names and not n.startswith(head)]
    if not problems:
        try:
            return make(pretrained=True, pretrained_cfg_overlay={"file": path, "custom_load": False})
        except RuntimeError as error:
            problems = [" ".join(line.split()) for line in str(error).splitlines()[1:]] or [str(error)]
    raise UserError(f"checkpoint_path: {path} is not of {make.args[0]}: {first_few(problems, 3, '; ')}")


def pixels_of(size: tuple[int, ...]) -> str:
    """F x T in words."""
    return "x".join(map(str, size))
