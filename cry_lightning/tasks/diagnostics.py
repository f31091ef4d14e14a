"""Is contrastive pretraining learning: numbers that tell a spread-out representation from a collapsed one."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ROWS = 2048  # evenly spaced ones of more: the work grows with the square, what it tells hardly


@torch.no_grad()
def alignment(z: Tensor) -> Tensor:
    """Mean squared distance of the two views (rows i and i + B) among normalised projections (2B, D); 0 is perfect.

    Source: Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity
    on the Hypersphere", section 4.1.
    """
    first, second = F.normalize(z.float()).chunk(2)
    return (first - second).square().sum(dim=1).mean()


@torch.no_grad()
def uniformity(z: Tensor) -> Tensor:
    """Log of the mean Gaussian potential exp(-2 d^2) over pairs of normalised projections (n, D); 0 is collapse.

    About -4 is the best there is in many dimensions. Of many rows, 2,048 are compared.

    Source: Wang and Isola 2020, section 4.1.2.
    """
    z = F.normalize(_some(z).float())
    return torch.pdist(z).square().mul(-2).exp().mean().log()


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> Tensor:
    """Number of directions that embeddings (n, D) really fill: exp of the entropy of their singular values.

    Embeddings are centred first; 0 where all are the same but for rounding. Of many rows, 2,048 are used.

    Source: Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", section 2.
    """
    embeddings = _some(embeddings).double()  # or rounding of the mean would pass for a direction
    values = torch.linalg.svdvals((embeddings - embeddings.mean(dim=0)).float())
    rounding = torch.finfo(torch.float32).eps * embeddings.norm()
    values = values[values > rounding]
    if not len(values):
        return values.new_zeros(())
    return torch.special.entr(values / values.sum()).sum().exp()


def _some(rows: Tensor) -> Tensor:
    return rows[:: max(1, math.ceil(len(rows) / MAX_ROWS))]
