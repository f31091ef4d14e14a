"""NT-Xent against a literal loop, and on two processes against one with the joint batch."""

import math
import os

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from cry_lightning.console import UserError
from cry_lightning.tasks.losses import nt_xent


def projections(n: int, d: int = 16, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(n, d, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()


def literal(z: Tensor, temperature: float) -> Tensor:
    """Equation 1 of the paper, row by row."""
    n = len(z)
    losses = []
    for i in range(n):
        similar = [torch.dot(z[i], z[k]) / (z[i].norm() * z[k].norm()) / temperature for k in range(n)]
        others = torch.stack([similar[k] for k in range(n) if k != i])
        losses.append(others.logsumexp(0) - similar[(i + n // 2) % n])
    return torch.stack(losses).mean()


def value_and_gradient(loss, z: Tensor, *arguments) -> tuple[Tensor, Tensor]:
    z = z.detach().clone().requires_grad_()
    value = loss(z, *arguments)
    (3 * value).backward()  # a factor, as loss scaling and accumulation bring one
    return value.detach(), z.grad


@pytest.mark.sampled(8)
@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.5, 10.0])
@pytest.mark.parametrize("n", [4, 22])
@pytest.mark.parametrize("block", [1, 7, 11, 512])
def test_is_the_literal_loop(n, block, temperature):
    z = projections(n)
    expected = value_and_gradient(literal, z, temperature)
    torch.testing.assert_close(value_and_gradient(nt_xent, z, temperature, block), expected, rtol=1e-10, atol=1e-12)


def test_gradient_is_the_finite_difference():
    assert torch.autograd.gradcheck(lambda z: nt_xent(z, 0.2, 4), projections(10, 5))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_low_precision_is_computed_in_float32(dtype, tolerance):
    z = projections(32, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        value, gradient = value_and_gradient(nt_xent, z, 0.05)
    expected, expected_gradient = value_and_gradient(literal, z.double(), 0.05)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=0)  # only the gradient is rounded to dtype
    torch.testing.assert_close(
        gradient.double(), expected_gradient, rtol=tolerance, atol=tolerance * float(expected_gradient.abs().max())
    )


@pytest.mark.parametrize("scale", [1e-8, 1e15])
def test_the_length_of_projections_does_not_matter(scale):
    z = projections(12, dtype=torch.float32)
    torch.testing.assert_close(nt_xent(z * scale, 0.1), nt_xent(z, 0.1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_extreme_batches_stay_finite(dtype):
    zeros = torch.zeros(6, 4, dtype=dtype)
    one_zero = projections(6, 4, dtype).detach().index_fill(0, torch.tensor(2), 0.0)
    all_same = torch.ones(6, 4, dtype=dtype)
    opposed = torch.cat([all_same[:3], -all_same[:3]])  # every positive is the worst of all
    for z in (zeros, one_zero, all_same, opposed):
        value, gradient = value_and_gradient(nt_xent, z, 0.01)
        assert value.isfinite() and gradient.isfinite().all() and gradient.abs().max() < 1e4
    assert value_and_gradient(nt_xent, zeros, 0.01)[0] == pytest.approx(math.log(5))
    assert nt_xent(opposed, 0.01) == pytest.approx(200 + math.log(2))


def test_has_a_value_where_no_gradient_is_recorded():
    z = projections(8)
    with torch.inference_mode():
        assert nt_xent(z, 0.1) == pytest.approx(float(literal(z, 0.1)))


def test_a_nan_is_not_hidden():
    assert nt_xent(projections(6).detach().index_fill(0, torch.tensor(1), torch.nan), 0.1).isnan()


class LargestTensor(TorchDispatchMode):
    """Remembers how many elements the largest tensor made under it has."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def test_similarities_of_one_block_at_a_time_are_held():
    z = projections(512, 8)
    with LargestTensor() as largest:
        nt_xent(z, 0.1, block=32).backward()
    assert largest.elements == 32 * 512
    with LargestTensor() as largest:  # the measure does see what the plain way holds
        (z @ z.T).logsumexp(1).sum().backward()
    assert largest.elements == 512 * 512


@pytest.mark.parametrize(
    ("n", "temperature", "message"),
    [(2, 0.1, "a batch of one has no negatives"), (0, 0.1, "no negatives"), (5, 0.1, "even number of rows, not 5"),
     (8, 0.0, "temperature must be positive, not 0"), (8, -1.0, "positive"), (8, math.nan, "positive")],
)  # fmt: skip
def test_says_what_is_wrong(n, temperature, message):
    with pytest.raises(UserError, match=message):
        nt_xent(projections(n), temperature)


def two_views(rank: int, n: int = 5) -> Tensor:
    return projections(2 * n, 6, seed=rank).detach()


def linear() -> nn.Linear:
    layer = nn.Linear(6, 4, dtype=torch.float64)
    layer.load_state_dict({"weight": projections(4, 6, seed=9).detach(), "bias": torch.ones(4, dtype=torch.float64)})
    return layer


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    model = DistributedDataParallel(linear())
    views = two_views(rank).requires_grad_()
    loss = nt_xent(model(views), 0.1, block=4)
    loss.backward()
    found = {"loss": loss.detach(), "views": views.grad, "weight": model.module.weight.grad}
    found["alone"] = nt_xent(views.detach(), 0.1, gather=False)
    found["pair"] = nt_xent(two_views(rank, n=1), 0.1)  # one clip a rank: its negatives are the other's
    try:
        nt_xent(two_views(rank, n=3 + rank), 0.1)
    except UserError as error:
        found["error"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    os._exit(0)  # without the teardown of the process group, in which gloo now and then waits for itself for ever


def joint(n: int) -> Tensor:
    """The batch that two ranks share: first views of both, then second views of both."""
    (first_0, second_0), (first_1, second_1) = (two_views(rank, n).chunk(2) for rank in (0, 1))
    return torch.cat([first_0, first_1, second_0, second_1])


@pytest.mark.slow
def test_two_processes_are_one_with_the_joint_batch(tmp_path):
    torch.multiprocessing.spawn(one_rank, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    model, views = linear(), joint(5).requires_grad_()
    loss = nt_xent(model(views), 0.1)
    loss.backward()

    close = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, loss.detach(), **close)
    firsts, seconds = zip(*(rank["views"].chunk(2) for rank in ranks), strict=True)
    torch.testing.assert_close(torch.cat(firsts + seconds) / 2, views.grad, **close)  # DDP would halve it
    for rank, found in enumerate(ranks):
        torch.testing.assert_close(found["weight"], model.weight.grad, **close)
        torch.testing.assert_close(found["alone"], literal(two_views(rank), 0.1), **close)
        assert found["error"] == "nt_xent: ranks have batches of [6, 8] rows; make them equal (drop_last: true)"
    torch.testing.assert_close((ranks[0]["pair"] + ranks[1]["pair"]) / 2, literal(joint(1), 0.1), **close)
