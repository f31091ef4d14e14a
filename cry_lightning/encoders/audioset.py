"""The networks of AudioSet up to their embedding: those of PANNs, VGGish, and EfficientAT with its head."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from cry_lightning.console import UserError
from cry_lightning.encoders.batch_norm import BatchNorm2d

PATCH = (64, 96)  # mel bands and frames
N_CLASSES = 527  # of AudioSet
# kernel, expanded channels, channels, squeeze-and-excitation, activation, stride: MobileNetV3-Large's table at width 1
BLOCKS = (
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)
FIRST, EXPANSION, HIDDEN = 16, 6, 1280  # channels of the first convolution, of the last by those before, of the head


class ConvBlock(nn.Sequential):
    """Convolutions without bias, each with BatchNorm and ReLU: (B, in, F, T) to (B, out, F, T)."""

    def __init__(self, in_channels: int, out_channels: int, kernels: tuple[int, ...]) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, kernel in enumerate(kernels, start=1):
            layers[f"conv{i}"] = conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
            layers[f"norm{i}"] = BatchNorm2d(out_channels)
            layers[f"relu{i}"] = nn.ReLU(inplace=True)
            nn.init.xavier_uniform_(conv.weight)
            in_channels = out_channels
        super().__init__(layers)


class PANN(nn.Module):
    """Embeddings (B, num_features) of log-mel spectrograms (B, 1, F, T): what the networks of PANNs share.

    BatchNorm over the bands; blocks of convolutions, each twice as wide as the one before; between them average pooling
    by 2 in both axes, and dropout; mean over F; maximum plus mean over T.

    Args:
        n_mels: bands F of the front end.
        width: channels of the first block; 64 in the published networks.
        dropout: probability of dropping a value after each block.

    Raises:
        UserError: for features of another number of bands, or too short for the poolings.

    Source: Kong et al. 2020, "PANNs: large-scale pretrained audio neural networks for audio pattern recognition",
    CNNs (their axes are (T, F)).
    """

    n_blocks: int
    n_pools: int  # after the first blocks
    kernels: tuple[int, ...]  # of the convolutions in each block

    def __init__(self, n_mels: int = 64, width: int = 64, dropout: float = 0.2) -> None:
        super().__init__()
        if n_mels < self.shortest:
            raise UserError(f"{type(self).__name__}: n_mels must be at least {self.shortest}, not {n_mels}")
        channels = [1, *(width * 2**block for block in range(self.n_blocks))]
        self.num_features = channels[-1]
        self.n_mels = n_mels
        self.width = width
        self.norm = nn.BatchNorm2d(n_mels)
        self.blocks = nn.ModuleList(ConvBlock(before, after, self.kernels) for before, after in pairwise(channels))
        self.pool = nn.AvgPool2d(2)
        self.dropout = nn.Dropout(dropout)

    @property
    def shortest(self) -> int:
        """Bands or frames that leave one value after the poolings."""
        return 2**self.n_pools

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, num_features) of features (B, 1, F, T)."""
        shape = tuple(features.shape)
        if len(shape) != 4 or shape[1:3] != (1, self.n_mels) or shape[3] < self.shortest:
            raise UserError(
                f"{type(self).__name__}: wants features of shape (B, 1, {self.n_mels}, T) with T of at least "
                f"{self.shortest} frames, not {shape}; set n_mels to the front end's, and longer clips or crops"
            )
        x = self.norm(features.transpose(1, 2)).transpose(1, 2)
        for i, block in enumerate(self.blocks):
            x = block(x)
            x = self.dropout(self.pool(x) if i < self.n_pools else x)
        over_time = x.mean(2)
        return over_time.amax(2) + over_time.mean(2)


class CNN14(PANN):
    """Six blocks of two 3x3 convolutions and five poolings: embeddings (B, 2048), 75 million parameters."""

    n_blocks, n_pools, kernels = 6, 5, (3, 3)


class CNN10(PANN):
    """Four blocks of two 3x3 convolutions, each pooled: embeddings (B, 512), 4.7 million parameters."""

    n_blocks, n_pools, kernels = 4, 4, (3, 3)


class CNN6(PANN):
    """Four blocks of one 5x5 convolution, each pooled: embeddings (B, 512), 4.3 million parameters."""

    n_blocks, n_pools, kernels = 4, 4, (5,)


class VGGish(nn.Module):
    """Embeddings (B, 2 * width) of log-mel patches (B, 1, 64, 96).

    Six 3x3 convolutions with ReLU and four poolings by 2, then three dense layers, ReLU after the last one, too. It has
    no normalisation inside; the initial weights are those of He et al. (2015), which keep the variance through it.

    Args:
        width: channels of the first convolution; 64 in the published network (128 features, 72 million parameters).

    Raises:
        UserError: for features of another shape.

    Source: Hershey et al. 2017, "CNN architectures for large-scale audio classification" (their axes are (T, F)).
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.num_features = 2 * width
        channels = [1, width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
        pooled = (True, True, False, True, False, True)
        convolutions: list[nn.Module] = []
        for (before, after), pool in zip(pairwise(channels), pooled, strict=True):
            convolutions += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
            if pool:
                convolutions.append(nn.MaxPool2d(2))
        dense: list[nn.Module] = []
        for before, after in pairwise([4 * 6 * channels[-1], 64 * width, 64 * width, self.num_features]):
            dense += [nn.Linear(before, after), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*convolutions)  # named as in the published weights
        self.embeddings = nn.Sequential(*dense)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, num_features) of features (B, 1, 64, 96)."""
        if features.ndim != 4 or features.shape[1:] != (1, *PATCH):
            raise UserError(
                f"VGGish: wants features of shape (B, 1, 64, 96), not {tuple(features.shape)}; those are the feature "
                "VGGishLogMel of clip_s: 0.975"
            )
        maps = self.features(features)  # (B, C, F, T)
        return self.embeddings(maps.permute(0, 3, 2, 1).flatten(1))  # (T, F, C) is the published order


class ConvNorm(nn.Sequential):
    """Convolution without bias, BatchNorm and an activation: (B, in, F, T) to (B, out, F / stride, T / stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: type[nn.Module] = nn.Identity,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        super().__init__(conv, BatchNorm2d(out_channels, eps=1e-3, momentum=0.01), activation())


class SqueezeExcitation(nn.Module):
    """Weighs each channel of maps (B, C, F, T) by what the means of all channels tell.

    Source: Hu et al. 2018, "Squeeze-and-excitation networks".
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = scaled(channels // 4)
        self.fc1 = nn.Linear(channels, squeezed)
        self.fc2 = nn.Linear(squeezed, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, F, T), each multiplied by a number between 0 and 1."""
        weights = self.fc2(self.fc1(maps.mean((2, 3))).relu()).sigmoid()
        return maps * weights[:, :, None, None]


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation and projection, with a skip where shapes allow it."""

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        kernel: int,
        excited: bool,
        activation: type[nn.Module],
        stride: int,
    ) -> None:
        super().__init__()
        expand = [ConvNorm(in_channels, expanded, activation)] if expanded != in_channels else []
        depthwise = ConvNorm(expanded, expanded, activation, kernel, stride, groups=expanded)
        excite = [SqueezeExcitation(expanded)] if excited else []
        self.block = nn.Sequential(*expand, depthwise, *excite, ConvNorm(expanded, out_channels))
        self.skips = stride == 1 and in_channels == out_channels

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, out, F / stride, T / stride) of maps (B, in, F, T)."""
        return maps + self.block(maps) if self.skips else self.block(maps)


class EfficientAT(nn.Module):
    """Embeddings (B, num_features) of the log-mels (B, 1, F, T) of `EfficientATLogMel`: the mean over F and T.

    MobileNetV3-Large for sound. Any length will do; it was trained on 10 s.

    Args:
        width_mult: multiplies all channels, rounded to multiples of 8; 0.4 has 384 features, 1.0 has 960.

    Raises:
        UserError: for a width that is not above 0, or features of another shape.

    Source: Schmid, Koutini & Widmer 2023, "Efficient large-scale audio tagging via transformer-to-CNN knowledge
    distillation"; Howard et al. 2019, "Searching for MobileNetV3", table 1.
    """

    def __init__(self, width_mult: float = 1.0) -> None:
        super().__init__()
        if not 0 < width_mult <= 10:
            raise UserError(f"EfficientAT: width_mult must be above 0 and at most 10, not {width_mult}")
        self.width_mult = width_mult
        channels = before = scaled(FIRST, width_mult)
        layers: list[nn.Module] = [ConvNorm(1, channels, nn.Hardswish, kernel=3, stride=2)]
        for kernel, expanded, after, excited, activation, stride in BLOCKS:
            sizes = (before, scaled(expanded, width_mult), scaled(after, width_mult))
            layers.append(InvertedResidual(*sizes, kernel, excited, activation, stride))
            before = sizes[-1]
        self.num_features = EXPANSION * before
        self.features = nn.Sequential(*layers, ConvNorm(before, self.num_features, nn.Hardswish))

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, num_features) of features (B, 1, F, T)."""
        if features.ndim != 4 or features.shape[1] != 1:
            raise UserError(f"EfficientAT: wants features of shape (B, 1, F, T), not {tuple(features.shape)}")
        return self.features(features).mean((2, 3))

    def maps(self, features: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """What some layers, counted from 0 in `features`, make of features (B, 1, F, T): maps (B, C, F', T') each."""
        if not all(0 <= layer < len(self.features) for layer in layers):
            raise UserError(f"EfficientAT: has layers 0 to {len(self.features) - 1}, not {', '.join(map(str, layers))}")
        found = {}
        for layer, module in enumerate(self.features[: max(layers) + 1]):
            features = module(features)
            if layer in layers:
                found[layer] = features
        return [found[layer] for layer in layers]


class AudioSetHead(nn.Sequential):
    """Logits (B, 527) of AudioSet's classes, each yes or no for itself, of embeddings (B, D) of `EfficientAT`.

    `import-weights` keeps it in the checkpoint, beside the encoder; stages do without.

    Args:
        width_mult: of the encoder.
    """

    def __init__(self, width_mult: float = 1.0) -> None:
        embedding, hidden = EXPANSION * scaled(BLOCKS[-1][2], width_mult), scaled(HIDDEN, width_mult)
        dense, classify = nn.Linear(embedding, hidden), nn.Linear(hidden, N_CLASSES)
        layers = {"2": dense, "3": nn.Hardswish(), "4": nn.Dropout(0.2), "5": classify}  # as they are numbered there
        super().__init__(OrderedDict(layers))


def scaled(channels: int, width_mult: float = 1.0) -> int:
    """Channels at a width: the nearest multiple of 8, but no less than 90 % of the product."""
    from timm.layers.helpers import make_divisible  # takes seconds, with all that timm imports

    return make_divisible(channels * width_mult, 8)
