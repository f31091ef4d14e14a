"""Classification heads beyond `torch.nn.Linear`, called as head(num_features, num_classes)."""

from collections.abc import Sequence

from torch import nn


class MLPHead(nn.Sequential):
    """Logits (B, K) of embeddings (B, D): dropout, then dense layers with ReLU between them.

    Args:
        in_features: D.
        num_classes: K.
        hidden: units of each hidden layer.
        dropout: probability of dropping an input.

    Source: Le et al. 2019, "Using transfer learning, SVM, and ensemble classification to classify baby cries based on
    their spectrogram images".
    """

    def __init__(
        self, in_features: int, num_classes: int, hidden: Sequence[int] = (512, 256, 128), dropout: float = 0.25
    ) -> None:
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        for units in hidden:
            layers += [nn.Linear(in_features, units), nn.ReLU()]
            in_features = units
        super().__init__(*layers, nn.Linear(in_features, num_classes))
