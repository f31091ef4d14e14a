"""A small convolutional network for pictures."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from cry_lightning.errors import UserError

GRID = (7, 11)  # (F, T) that three poolings leave of the paper's 60x90


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
