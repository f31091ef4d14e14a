"""What sits on an encoder: classification heads, called with (num_features, num_classes), and SimCLR's projector."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import batch_norm


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


class ProbeHead(nn.Module):
    """Logits (B, K) of embeddings (B, D), standardised over the training batches: the linear probe of a frozen encoder.

    Source: He et al. 2022, "Masked autoencoders are scalable vision learners", appendix A.1: a BatchNorm without affine
    parameters before the linear layer, since embeddings of unequal scales are slow to learn from.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(in_features, affine=False)
        self.linear = nn.Linear(in_features, num_classes)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Logits (B, K); a batch of one has no spread of its own, and is standardised by that of the others."""
        if len(embeddings) == 1:
            return self.linear(batch_norm(embeddings, self.norm.running_mean, self.norm.running_var))
        return self.linear(self.norm(embeddings))


class Projector(nn.Sequential):
    """Projections (B, D) of embeddings (B, in_features): dense layers with BatchNorm, ReLU between them.

    Args:
        in_features: of the embeddings.
        hidden: units of each hidden layer.
        out_features: D.

    Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations", section 2.1; the
    sizes are those of Gorin et al. 2023.
    """

    def __init__(self, in_features: int, hidden: Sequence[int] = (2048, 2048), out_features: int = 2048) -> None:
        layers: list[nn.Module] = []
        for units in (*hidden, out_features):
            layers += [nn.Linear(in_features, units, bias=False), nn.BatchNorm1d(units), nn.ReLU()]
            in_features = units
        super().__init__(*layers[:-1])
