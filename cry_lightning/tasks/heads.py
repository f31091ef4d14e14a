"""What sits on an encoder: classification heads, called with (num_features, num_classes), and SimCLR's projector."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import batch_norm, logsigmoid


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
        if self.training and len(embeddings) == 1:
            return self.linear(batch_norm(embeddings, self.norm.running_mean, self.norm.running_var))
        return self.linear(self.norm(embeddings))


class SupportVectors(nn.Module):
    """Log-probabilities (B, K) of embeddings (B, D) by M one-vs-rest machines: M = K, or one for two classes.

    The only machine of two classes tells the second from the first. Empty until `take` or a checkpoint fills it.

    Args:
        in_features: D.
        num_classes: K.
        kernel: of all machines.
    """

    def __init__(self, in_features: int, num_classes: int, kernel: Literal["rbf", "linear"] = "rbf") -> None:
        super().__init__()
        self.kernel = kernel
        binary_classifiers = 1 if num_classes == 2 else num_classes
        empty = partial(torch.zeros, dtype=torch.float64)
        self.mean, self.scale = nn.Buffer(empty(in_features)), nn.Buffer(empty(in_features))
        self.vectors = nn.Buffer(empty(0, in_features))  # (S, D), standardised; those of all machines
        self.dual, self.intercept = (
            nn.Buffer(empty(binary_classifiers, 0)),
            nn.Buffer(empty(binary_classifiers)),
        )  # (M, S), (M,)
        self.gamma = nn.Buffer(empty(()))
        self.slope, self.offset = (
            nn.Buffer(empty(binary_classifiers)),
            nn.Buffer(empty(binary_classifiers)),
        )  # (M,): Platt scaling
        self.calibrated = nn.Buffer(empty(()))  # 0 where slope and offset leave decision values as they are

    def take(self, fitted: Mapping[str, ArrayLike]) -> None:
        """Fill every buffer, by its name."""
        for name, buffer in self.named_buffers():
            setattr(self, name, torch.as_tensor(fitted[name], dtype=torch.float64, device=buffer.device))

    def decision(self, embeddings: Tensor) -> Tensor:
        """Decision values (B, M) of embeddings (B, D), in float64: above 0 for the machine's own class."""
        rows = (embeddings.double() - self.mean) / self.scale
        values = rows @ self.vectors.T
        if self.kernel == "rbf":
            norms = rows.square().sum(1)[:, None] + self.vectors.square().sum(1)
            values = (self.gamma * (2 * values - norms)).exp()
        return values @ self.dual.T + self.intercept

    def forward(self, embeddings: Tensor) -> Tensor:
        """Log-probabilities (B, K): each machine's own, divided by the sum over the machines."""
        logits = self.slope * self.decision(embeddings) + self.offset
        if logits.shape[1] == 1:
            logits = torch.cat([-logits, logits], dim=1)
        return logsigmoid(logits).log_softmax(1).float()

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *others: object) -> None:
        """Make room first: how many support vectors there are, only the checkpoint knows."""
        for name, buffer in self.named_buffers():
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, buffer.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *others)


class Projector(nn.Sequential):
    """Projections (B, D) of embeddings (B, in_features): dense layers with BatchNorm, ReLU between them.

    Args:
        in_features: of the embeddings.
        hidden: units of each hidden layer.
        out_features: D.

    Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations", section 2.1,
    with one hidden layer there; number and sizes here are our choice.
    """

    def __init__(self, in_features: int, hidden: Sequence[int] = (2048, 2048), out_features: int = 2048) -> None:
        layers: list[nn.Module] = []
        for units in (*hidden, out_features):
            layers += [nn.Linear(in_features, units, bias=False), nn.BatchNorm1d(units), nn.ReLU()]
            in_features = units
        super().__init__(*layers[:-1])
