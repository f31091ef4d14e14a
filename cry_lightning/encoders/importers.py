"""How published weights name what the encoders here hold: pure functions on names and tensors."""

from dataclasses import dataclass

from torch import Tensor

from cry_lightning.encoders.panns import PANN


@dataclass(frozen=True)
class Layout:
    """One publisher's names.

    Args:
        norm: what it calls a BatchNorm.
        other_parts: what its files hold besides the trunk: the beginnings of those names.
    """

    norm: str
    other_parts: tuple[str, ...] = ()


# In SpeechBrain, norm_type "in" has the same names as "bn", and in eval mode the same numbers.
LAYOUTS = {
    "panns": Layout("bn", ("spectrogram_extractor.", "logmel_extractor.", "fc1.", "fc_audioset.")),
    "speechbrain": Layout("norm"),
}


def published_name(name: str, layout: Layout) -> str:
    """What a publisher calls the tensor `name` of a PANN: blocks.0.norm1.weight is PANNs' conv_block1.bn1.weight."""
    if name.startswith("norm."):
        return name.replace("norm", f"{layout.norm}0")
    _, block, layer = name.split(".", 2)
    return f"conv_block{int(block) + 1}.{layer.replace('norm', layout.norm)}"


def sizes(published: dict[str, Tensor], layout: Layout) -> dict[str, int]:
    """The arguments of the PANN that has these weights; KeyError where its first layers are not there."""
    return {
        "n_mels": len(published[published_name("norm.weight", layout)]),
        "width": len(published[published_name("blocks.0.conv1.weight", layout)]),
    }


def misfits(published: dict[str, Tensor], encoder: PANN, layout: Layout) -> list[str]:
    """What keeps published weights from being those of an encoder: what is missing, left over or of another shape."""
    wanted = {published_name(name, layout): tensor.shape for name, tensor in encoder.state_dict().items()}
    given = {name: tensor.shape for name, tensor in published.items() if not name.startswith(layout.other_parts)}
    return [
        *(f"{name} is missing" for name in wanted if name not in given),
        *(f"{name} is left over" for name in given if name not in wanted),
        *(
            f"{name} is {tuple(given[name])} there and {tuple(shape)} here"
            for name, shape in wanted.items()
            if given.get(name, shape) != shape
        ),
    ]


def in_our_axes(tensor: Tensor) -> Tensor:
    """Kernels from their axes (T, F) to ours (F, T); anything else as it is."""
    return tensor.transpose(2, 3).contiguous() if tensor.ndim == 4 else tensor


def imported(published: dict[str, Tensor], encoder: PANN, layout: Layout) -> dict[str, Tensor]:
    """The state dict of an encoder that these weights fit."""
    return {name: in_our_axes(published[published_name(name, layout)]) for name in encoder.state_dict()}
