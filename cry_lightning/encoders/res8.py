"""Res8, the small residual network of the honk keyword spotter."""

from torch import Tensor, nn
from torch.nn.functional import relu

from cry_lightning.errors import UserError

N_LAYERS = 6  # three residual blocks of two convolutions


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
