"""Small encoders: Res8, a CNN for pictures, and encoders without weights."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from cry_lightning.console import UserError

N_LAYERS = 6  # three residual blocks of two convolutions
GRID = (7, 11)  # (F, T) that three poolings leave of the paper's 60x90


class Res8(nn.Module):
    """Embeddings (B, n_maps) of single-channel features (B, 1, F, T).

    Args:
        n_maps: feature maps of every layer; 19 is the narrow variant.
        pool: average pooling over (F, T) after the first convolution.

    Source: Tang & Lin 2018, "Deep residual learning for small-footprint keyword spotting"
    (their axes are (T, F)).
    """

    def __init__(self, n_maps: int = 45, pool: tuple[int, int] = (3, 4)) -> None:
        super().__init__()
        self.num_features = n_maps
        self.conv0 = nn.Conv2d(1, n_maps, 3, padding=1, bias=False)
        self.smallest = (pool[0], pool[1])  # (F, T) that leave one value after pooling
        self.pool = nn.AvgPool2d(self.smallest)
        self.convs = nn.ModuleList(nn.Conv2d(n_maps, n_maps, 3, padding=1, bias=False) for _ in range(N_LAYERS))
        self.norms = nn.ModuleList(nn.BatchNorm2d(n_maps, affine=False) for _ in range(N_LAYERS))

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, n_maps) of features (B, 1, F, T)."""
        size = features.shape[2:]
        if features.ndim != 4 or features.shape[1] != 1 or size[0] < self.smallest[0] or size[1] < self.smallest[1]:
            raise UserError(
                f"Res8: wants features of shape (B, 1, F, T) with F, T of at least {self.smallest}, "
                f"not {tuple(features.shape)}"
            )
        x = skip = self.pool(relu(self.conv0(features)))
        for layer, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = relu(conv(x))
            if layer % 2 == 1:
                x = skip = x + skip  # the skip carries the sum from before normalisation
            x = norm(x)
        return x.mean((2, 3))


class SmallCNN(nn.Module):
    """Embeddings (B, num_features) of pictures (B, in_chans, F, T): 3x3 convolutions, each with ReLU and max-pooling.

    What they leave is flattened, since the mean over F would not tell high from low: all of it at 60x90 pixels with
    three convolutions, else averaged to as many values.

    Args:
        in_chans: channels of the picture.
        channels: maps of each convolution; the paper has three convolutions and does not print their sizes.

    Raises:
        UserError: for pictures that are too small or of another number of channels.

    Source: Le et al. 2019, "Using transfer learning, SVM, and ensemble classification to classify baby cries based on
    their spectrogram images", the network that is trained from scratch.
    """

    def __init__(self, in_chans: int = 3, channels: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.num_features = channels[-1] * GRID[0] * GRID[1]
        self.smallest = 2 ** len(channels)
        layers: list[nn.Module] = []
        for before, after in pairwise([in_chans, *channels]):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(GRID), nn.Flatten())

    def forward(self, pictures: Tensor) -> Tensor:
        """Embeddings (B, num_features) of pictures (B, in_chans, F, T)."""
        shape = tuple(pictures.shape)
        if len(shape) != 4 or shape[1] != self.in_chans or min(shape[2:]) < self.smallest:
            raise UserError(
                f"SmallCNN: wants pictures of shape (B, {self.in_chans}, F, T) with F and T of at least "
                f"{self.smallest}, not {shape}; mind in_chans and the size of the feature"
            )
        return self.layers(pictures)


class Flatten(nn.Module):
    """Features (B, C, F, T) as they stand, in one row: embeddings (B, C * F * T).

    Args:
        num_features: C * F * T.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, num_features); features of another size are a UserError that tells theirs."""
        rows = features.flatten(1)
        if rows.shape[1] != self.num_features:
            raise UserError(
                f"Flatten: num_features is {self.num_features}, but features of shape {tuple(features.shape[1:])} are"
                f" {rows.shape[1]} numbers; set the encoder's num_features to that"
            )
        return rows


class Statistics(nn.Module):
    """Mean and standard deviation over time of every band of features (B, C, F, T): embeddings (B, 2 * C * F).

    Args:
        n_bands: C * F, such as the coefficients of an MFCC.
    """

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.n_bands = n_bands
        self.num_features = 2 * n_bands

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, 2 * n_bands), the means first; another number of bands is a UserError that tells it."""
        bands = features.flatten(1, 2)
        if bands.shape[1] != self.n_bands:
            raise UserError(
                f"Statistics: n_bands is {self.n_bands}, but features of shape {tuple(features.shape[1:])} have"
                f" {bands.shape[1]}; set the encoder's n_bands to that"
            )
        return torch.cat([bands.mean(-1), bands.std(-1, correction=0)], dim=1)
