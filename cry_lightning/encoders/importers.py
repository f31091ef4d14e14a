"""How published weights name what the encoders here hold: a class per publisher, functions of names and tensors."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from cry_lightning.encoders.audioset import CNN6, CNN10, CNN14, AudioSetHead, EfficientAT, VGGish
from cry_lightning.encoders.small import N_LAYERS, Res8
from cry_lightning.files import Json

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of BatchNorm, which no training multiplies by
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COUNTERS = (torch.int32, torch.int64)
Shapes = Mapping[str, tuple[int, ...]]
Tensors = dict[str, Tensor]


def misfits(wanted: Shapes, given: Shapes) -> list[str]:
    """What is missing, left over or of another shape, by names and shapes of tensors."""
    return [
        *(f"{name} is missing" for name in wanted if name not in given),
        *(f"{name} is left over" for name in given if name not in wanted),
        *(
            f"{name} is {given[name]} there and {shape} here"
            for name, shape in wanted.items()
            if given.get(name, shape) != shape
        ),
    ]


def faults(tensors: Mapping[str, Tensor]) -> list[str]:
    """What no trained network has: tensors of another kind, or numbers that no training leaves."""
    found = [f"{name} {fault}" for name, tensor in tensors.items() if (fault := next(_faults(name, tensor), ""))]
    weights = [tensor for name, tensor in tensors.items() if not name.endswith(STATISTICS)]
    return found or ["every weight is zero"] * (bool(weights) and not any(map(torch.any, weights)))


def _faults(name: str, tensor: Tensor) -> Iterator[str]:
    types = FLOATS + COUNTERS * name.endswith("num_batches_tracked")
    kinds = {
        "is quantized": tensor.is_quantized,
        "is sparse": tensor.layout != torch.strided,
        "has a shape and no numbers": tensor.is_meta,
        f"has numbers of the type {str(tensor.dtype).removeprefix('torch.')}": tensor.dtype not in types,
    }
    yield from (kind for kind, holds in kinds.items() if holds)
    if not torch.isfinite(tensor).all():
        yield "holds NaN or infinity"
    if name.endswith("running_var") and (tensor < 0).any():
        yield "holds a negative number, which no variance is"


class Publisher(ABC):
    """What one publisher's files hold, and what it is called there."""

    networks: tuple[type[nn.Module], ...]  # the encoders that they fit; the first is the usual one
    left_out: tuple[str, ...] = ()  # what they hold besides the encoder: the beginnings of those names

    def tensors(self, content: Json) -> object:
        """The table of tensors in a file's content."""
        return content

    @abstractmethod
    def sizes(self, published: Tensors) -> Mapping[str, float]:
        """The arguments of the encoder that has these weights; KeyError where its first layers are not there."""

    @abstractmethod
    def published_name(self, name: str) -> str:
        """What is called there what is called `name` in the encoder's state dict."""

    def uses(self, published: Tensors, encoder: nn.Module) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Published name -> the encoder's name of the tensor that it goes into, and the shape that it must have."""
        return {self.published_name(name): (name, tuple(ours.shape)) for name, ours in encoder.state_dict().items()}

    def imported(self, published: Tensors, encoder: nn.Module) -> Tensors:
        """The state dict of an encoder that these weights fit."""
        return {name: in_our_axes(published[self.published_name(name)]) for name in encoder.state_dict()}

    def head(self, published: Tensors) -> Tensors:
        """The state dict of a classifier of theirs that is kept beside the encoder; that of most is left out."""
        return {}

    def misfits(self, published: Tensors, encoder: nn.Module) -> list[str]:
        """What keeps weights from being those of an encoder: what is missing, left over or of another shape."""
        wanted = {name: shape for name, (_, shape) in self.uses(published, encoder).items()}
        given = {name: tuple(tensor.shape) for name, tensor in published.items() if not name.startswith(self.left_out)}
        return misfits(wanted, given)

    def faults(self, published: Tensors, encoder: nn.Module) -> list[str]:
        """What keeps tensors that fit from being weights."""
        return faults({name: published[name] for name in self.uses(published, encoder)})


class SpeechBrain(Publisher):
    """SpeechBrain's CNN14; its norm_type "in" has the same names as "bn", and in eval mode the same numbers."""

    networks = (CNN14, CNN10, CNN6)
    norm = "norm"  # what it calls a BatchNorm

    def sizes(self, published: Tensors) -> dict[str, int]:
        """Bands and width."""
        return {
            "n_mels": len(published[self.published_name("norm.weight")]),
            "width": len(published[self.published_name("blocks.0.conv1.weight")]),
        }

    def published_name(self, name: str) -> str:
        """blocks.0.norm1.weight is conv_block1.norm1.weight."""
        if name.startswith("norm."):
            return name.replace("norm", f"{self.norm}0")
        _, block, layer = name.split(".", 2)
        return f"conv_block{int(block) + 1}.{layer.replace('norm', self.norm)}"


class PANNs(SpeechBrain):
    """The same networks at their origin, with front end and classifier."""

    norm = "bn"
    left_out = ("spectrogram_extractor.", "logmel_extractor.", "fc1.", "fc_audioset.")

    def tensors(self, content: Json) -> object:
        """They lie beside the state of the training."""
        return content.get("model")


class Honk(Publisher):
    """Honk's res8, wide and narrow, with its classifier.

    A branch of it that prunes channels scales the maps that go into every second convolution; such scales are
    multiplied into its kernels.
    """

    networks = (Res8,)
    left_out = ("output.",)

    def tensors(self, content: Json) -> object:
        """With BatchNorm's counters, which PyTorch before 0.4.1 did not write and which change no number."""
        counters = [f"bn{layer + 1}.num_batches_tracked" for layer in range(N_LAYERS)]
        return content | {name: torch.tensor(0) for name in counters if name not in content}

    def sizes(self, published: Tensors) -> dict[str, int]:
        """Feature maps."""
        return {"n_maps": len(published["conv0.weight"])}

    def published_name(self, name: str) -> str:
        """convs.0.weight is conv1.weight, norms.0.running_mean is bn1.running_mean."""
        if name == "conv0.weight":
            return name
        kind, layer, tensor = name.split(".")
        return f"{'conv' if kind == 'convs' else 'bn'}{int(layer) + 1}.{tensor}"

    def uses(self, published: Tensors, encoder: nn.Module) -> dict[str, tuple[str, tuple[int, ...]]]:
        """With the scales, where there is any."""
        kernels = super().uses(published, encoder)
        if not any(name.startswith("scale") for name in published):
            return kernels
        n_maps = self.sizes(published)["n_maps"]
        return kernels | {f"scale{i}.scale": (f"convs.{i}.weight", (n_maps,)) for i in range(1, N_LAYERS, 2)}

    def imported(self, published: Tensors, encoder: nn.Module) -> Tensors:
        """Each scale multiplied into the input channels of the convolution that follows it."""
        state = super().imported(published, encoder)
        for name, (ours, _) in self.uses(published, encoder).items():
            if name.startswith("scale"):
                state[ours] = state[ours] * published[name][:, None, None]
        return state


class TorchVGGish(Publisher):
    """VGGish as torchvggish holds it, whose names are ours, with or without the PCA that it may be followed by."""

    networks = (VGGish,)
    left_out = ("pproc.",)

    def sizes(self, published: Tensors) -> dict[str, int]:
        """Channels of the first convolution."""
        return {"width": len(published["features.0.weight"])}

    def published_name(self, name: str) -> str:
        """The same."""
        return name


class EfficientATRelease(Publisher):
    """EfficientAT's MobileNets, with their classifier of AudioSet, which is kept; their axes are ours.

    Nothing in a file tells its front end: those published with another hop or number of bands pass for the usual ones.
    """

    networks = (EfficientAT,)
    classifier = "classifier."

    def sizes(self, published: Tensors) -> dict[str, float]:
        """Width."""
        return {"width_mult": len(published["features.16.1.weight"]) / 960}

    def published_name(self, name: str) -> str:
        """The same, but for squeeze-and-excitation, of which there could be several."""
        return name.replace(".fc", ".conc_se_layers.0.fc")

    def uses(self, published: Tensors, encoder: nn.Module) -> dict[str, tuple[str, tuple[int, ...]]]:
        """With the classifier's."""
        with torch.device("meta"):
            head = AudioSetHead(**self.sizes(published)).state_dict()
        kept = {self.classifier + name: (f"head.{name}", tuple(ours.shape)) for name, ours in head.items()}
        return super().uses(published, encoder) | kept

    def imported(self, published: Tensors, encoder: nn.Module) -> Tensors:
        """As it is there."""
        return {name: published[self.published_name(name)] for name in encoder.state_dict()}

    def head(self, published: Tensors) -> Tensors:
        """That of `AudioSetHead`."""
        start = self.classifier
        return {name.removeprefix(start): tensor for name, tensor in published.items() if name.startswith(start)}


PUBLISHERS = {
    "panns": PANNs(),
    "speechbrain": SpeechBrain(),
    "honk": Honk(),
    "vggish": TorchVGGish(),
    "efficientat": EfficientATRelease(),
}


def publisher_of(content: Json) -> str | None:
    """Whose layout and names a file's content has; None where it is nobody's here."""
    for whose, publisher in PUBLISHERS.items():
        tensors = publisher.tensors(content)
        for network in publisher.networks:
            with torch.device("meta"):
                names = {publisher.published_name(name) for name in network().state_dict()}
            if isinstance(tensors, dict) and names <= tensors.keys():
                return whose
    return None


def in_our_axes(tensor: Tensor) -> Tensor:
    """Kernels from their axes (T, F) to ours (F, T); anything else as it is."""
    return tensor.transpose(2, 3).contiguous() if tensor.ndim == 4 else tensor
