"""Alignment, uniformity and effective rank against literal sums, and at collapse and isotropy."""

import math

import pytest
import torch
from torch import Tensor

from cry_lightning.tasks import pretext
from cry_lightning.tasks.pretext import alignment, effective_rank, uniformity


def projections(n: int, d: int) -> Tensor:
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_alignment_and_uniformity_are_the_literal_means():
    z = projections(14, 5)
    unit = [row / row.norm() for row in z]
    squared = [[float((a - b).square().sum()) for b in unit] for a in unit]
    assert alignment(z) == pytest.approx(sum(squared[i][i + 7] for i in range(7)) / 7, rel=1e-5)
    potentials = [math.exp(-2 * squared[i][j]) for i in range(14) for j in range(i)]
    assert uniformity(z) == pytest.approx(math.log(sum(potentials) / len(potentials)), rel=1e-5)


@pytest.mark.parametrize("point", [0.0, 1.0])
def test_collapse_is_perfectly_aligned_and_not_at_all_uniform(point):
    z = torch.full((64, 32), point)
    assert alignment(z) == 0
    assert uniformity(z) == 0


def test_isotropic_projections_are_uniform_and_unaligned():
    z = projections(2000, 256).float()
    assert alignment(z) == pytest.approx(2, abs=0.05)
    assert uniformity(z) == pytest.approx(-4 + 8 / 256, abs=0.02)  # exp(4 cos - 4), the cosine of variance 1 / D


def test_of_many_rows_evenly_spaced_ones_are_used(monkeypatch):
    z = projections(250, 4)
    monkeypatch.setattr(pretext, "MAX_ROWS", 100)
    assert uniformity(z) == uniformity(z[::3]) != uniformity(z[:100])
    assert effective_rank(z) == effective_rank(z[::3]) != effective_rank(z[:100])


def test_effective_rank_is_the_literal_entropy():
    x = projections(30, 6)
    values = torch.linalg.svdvals(x - x.mean(0))
    p = [float(value / values.sum()) for value in values]
    assert effective_rank(x) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)), rel=1e-5)


def test_effective_rank_counts_directions():
    isotropic = torch.cat([torch.eye(8), -torch.eye(8)])
    assert effective_rank(isotropic + 5.0) == pytest.approx(8, rel=1e-4)
    line = torch.linspace(-1, 1, 50)[:, None] * torch.ones(8)
    assert effective_rank(line) == pytest.approx(1, rel=1e-4)
    point = torch.full((50, 8), 0.1)
    assert effective_rank(point) == 0
    assert effective_rank(point + 1e-9 * isotropic.repeat(4, 1)[:50]) == 0  # rounding is no direction
