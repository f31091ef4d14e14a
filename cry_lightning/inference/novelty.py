"""How unlike the training clips a clip is, by what an encoder makes of it: input, layers and embedding."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

MOST_LAYERS = 8  # of an encoder, from its first to its last
MOST_COMPONENTS = 64  # of a layer
CLIPS_PER_COMPONENT = 4  # with fewer clips, the smallest variances would be chance
FLATTEST = 1e-3  # of the scales of a layer's numbers, as a share of their mean: none is divided by 0
SMALLEST = 1e-6  # variance of a direction, where the numbers have unit variance
INPUT, EMBEDDING = "<input>", "<embedding>"  # no submodules have such names


class Layers:
    """Takes what flows through an encoder while it is open: numbers (B, D) of its input, its layers and its embedding.

    Args:
        encoder: maps features (B, C, F, T) to embeddings.
        names: of its submodules; see `layers_of`.
    """

    def __init__(self, encoder: nn.Module, names: Sequence[str]) -> None:
        self.encoder = encoder
        self.names = [INPUT, *names, EMBEDDING]
        self._found: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> "Layers":
        self._compiled, self.encoder._compiled_call_impl = self.encoder._compiled_call_impl, None
        self._hooks = [
            self.encoder.get_submodule(name).register_forward_hook(self._taking(name)) for name in self.names[1:-1]
        ]
        self._hooks.append(self.encoder.register_forward_hook(self._take_ends))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.encoder._compiled_call_impl = self._compiled
        for hook in self._hooks:
            hook.remove()

    def _taking(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def take(module: nn.Module, given: object, output: Tensor) -> None:
            self._found[name] = summary(output)

        return take

    def _take_ends(self, module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        features = given[0].float()
        deviations, means = torch.std_mean(features, -1, correction=0)
        self._found[INPUT] = torch.cat([means.flatten(1), deviations.flatten(1)], 1)
        self._found[EMBEDDING] = output.float()

    def taken(self) -> list[Tensor]:
        """The numbers (B, D) of the last batch, in the order of `names`."""
        return [self._found[name] for name in self.names]


def summary(maps: Tensor) -> Tensor:
    """Mean and deviation (B, 2 C) of each channel of maps (B, C, F, T), or of each number of tokens (B, N, C)."""
    over = (2, 3) if maps.ndim == 4 else (1,)
    first = (maps[:, :, :1, :1] if maps.ndim == 4 else maps[:, :1]).float()
    numbers = maps.float() - first  # so that squares differ by more than rounding where a channel hardly varies
    means = numbers.mean(over)
    # Several times as fast as torch.std_mean, which takes longer than the convolution before it.
    deviations = (numbers.square().mean(over) - means.square()).clamp(min=0).sqrt()
    means = means + (first[:, :, 0, 0] if maps.ndim == 4 else first[:, 0])
    return torch.cat([means, deviations], 1)


def layers_of(encoder: nn.Module, run: Callable[[], object], batch_size: int) -> list[str]:
    """Names of submodules, in even steps from first to last, that make maps or tokens of a batch as `run` passes it."""
    called: dict[str, None] = {}

    def noting(name: str) -> Callable[[nn.Module, object, object], None]:
        def note(module: nn.Module, given: object, output: object) -> None:
            if isinstance(output, Tensor) and len(output) == batch_size and _is_spread(output):
                called[name] = None

        return note

    leaves = [(name, module) for name, module in encoder.named_modules() if name and not any(module.children())]
    hooks = [module.register_forward_hook(noting(name)) for name, module in leaves]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    names = list(called)
    if len(names) <= MOST_LAYERS:
        return names
    return [names[round(place * (len(names) - 1) / (MOST_LAYERS - 1))] for place in range(MOST_LAYERS)]


def _is_spread(output: Tensor) -> bool:
    """Whether it is tokens (B, N, C) or maps (B, C, F, T), which a gate's (B, C, 1, 1) are not."""
    return output.ndim == 3 or (output.ndim == 4 and output.shape[2:].numel() > 1)


@dataclass(frozen=True)
class Layer:
    """Where the training clips lie in the numbers of one layer (D,): a Gaussian of R directions, and the rest alike.

    Source: Tipping and Bishop 1999, "Probabilistic principal component analysis", J. R. Statist. Soc. B 61(3).
    """

    mean: Tensor  # (D,)
    scale: Tensor  # (D,)
    directions: Tensor  # (R, D)
    variances: Tensor  # (R,)
    rest: Tensor  # (), variance in each other direction
    typical: Tensor  # (), distance of validation clips: their median

    @classmethod
    def of(cls, numbers: Tensor, validation: Tensor) -> "Layer":
        """Fitted to training clips (n, D); `typical` by validation clips (m, D)."""
        mean, scale = numbers.mean(0), numbers.std(0, correction=0)
        scale = scale + FLATTEST * scale.mean().clamp(min=SMALLEST)
        standard = (numbers - mean) / scale
        n, width = standard.shape
        rank = max(1, min(MOST_COMPONENTS, n // CLIPS_PER_COMPONENT, width - 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, values, vectors = torch.svd_lowrank(standard, min(rank + 8, n, width), niter=4)
        variances = (values[:rank] ** 2 / n).clamp(min=SMALLEST)
        left = (standard.square().sum() / n - variances.sum()) / max(width - rank, 1)
        one = torch.ones(())
        layer = cls(mean, scale, vectors[:, :rank].T.contiguous(), variances, left.clamp(min=SMALLEST), one)
        return cls(**(vars(layer) | {"typical": layer.distance(validation).median().clamp(min=SMALLEST)}))

    def distance(self, numbers: Tensor) -> Tensor:
        """Mahalanobis distance (B,) of clips (B, D), over that of a typical validation clip."""
        standard = (numbers - self.mean) / self.scale
        along = standard @ self.directions.T
        beside = (standard.square().sum(1) - along.square().sum(1)).clamp(min=0)
        return ((along.square() / self.variances).sum(1) + beside / self.rest).sqrt() / self.typical


@dataclass(frozen=True)
class Novelty:
    """How unlike the training clips other clips are: about 1 for clips of unseen subjects, more the stranger they are.

    It is the mean of the distances in each layer. Embeddings alone are made to tell the classes apart, and leave out
    much by which a cry differs from other sounds.
    Source: Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and adversarial
    attacks", sections 2.1 and 2.2, with one Gaussian for all classes and equal weights.
    """

    layers: Mapping[str, Layer]

    def __call__(self, taken: Sequence[Tensor]) -> Tensor:
        """Novelty (B,) of the numbers of a batch, as `Layers.taken` has them."""
        distances = [layer.distance(one) for layer, one in zip(self.layers.values(), taken, strict=True)]
        return torch.stack(distances).mean(0)

    @property
    def names(self) -> list[str]:
        """Of the encoder's submodules."""
        return [name for name in self.layers if name not in (INPUT, EMBEDDING)]

    def to(self, device: torch.device) -> "Novelty":
        """The same on another device."""
        moved = {name: {key: one.to(device) for key, one in vars(layer).items()} for name, layer in self.layers.items()}
        return Novelty({name: Layer(**tensors) for name, tensors in moved.items()})
