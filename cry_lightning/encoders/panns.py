"""CNN14, CNN10 and CNN6, the plain convolutional networks of PANNs, up to their embedding."""

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn

from cry_lightning.console import UserError


class ConvBlock(nn.Sequential):
    """Convolutions without bias, each with BatchNorm and ReLU: (B, in, F, T) to (B, out, F, T)."""

    def __init__(self, in_channels: int, out_channels: int, kernels: tuple[int, ...]) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, kernel in enumerate(kernels, start=1):
            layers[f"conv{i}"] = conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
            layers[f"norm{i}"] = nn.BatchNorm2d(out_channels)
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
