"""VGGish, the network of AudioSet's embeddings."""

from itertools import pairwise

from torch import Tensor, nn

from cry_lightning.console import UserError

PATCH = (64, 96)  # mel bands and frames


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
