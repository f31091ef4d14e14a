"""Our BatchNorm: torch's numbers, and one thread where more would hinder each other."""

import copy

import pytest
import torch
from torch import nn

from cry_lightning.encoders.batch_norm import BatchNorm2d


def maps_and_gradient(channels: int, layout: torch.memory_format, dtype: torch.dtype = torch.float32):
    maps = (3 + torch.randn(6, channels, 10, 12)).to(dtype).contiguous(memory_format=layout)
    return maps.requires_grad_(), torch.randn_like(maps)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 8, 16, 45])
@pytest.mark.parametrize("affine", [True, False])
def test_numbers_are_those_of_torch(two_threads, channels, dtype, affine):
    maps, gradient = maps_and_gradient(channels, torch.channels_last, dtype)
    theirs = nn.BatchNorm2d(channels, affine=affine)
    found = []
    for norm in (theirs, BatchNorm2d(channels, affine=affine)):
        # In place, as in our networks: it must not lose sight of the normalisation.
        normalised = nn.functional.relu(norm(maps), inplace=True)
        gradients = torch.autograd.grad(normalised, [maps, *norm.parameters()], gradient)
        found.append([normalised, *gradients, *norm.buffers()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-4)
    assert theirs.state_dict().keys() == BatchNorm2d(channels, affine=affine).state_dict().keys()


@pytest.mark.parametrize(
    ("channels", "layout", "threads"),
    [(8, torch.channels_last, 1), (16, torch.channels_last, 2), (8, torch.contiguous_format, 2)],
)
def test_gradient_takes_one_thread_where_threads_would_share_a_cache_line(two_threads, channels, layout, threads):
    seen = []
    maps, gradient = maps_and_gradient(channels, layout)
    normalised = BatchNorm2d(channels)(maps)
    normalised.grad_fn.register_prehook(lambda _: seen.append(torch.get_num_threads()))
    for _ in range(2):
        normalised.backward(gradient, retain_graph=True)
        assert torch.get_num_threads() == 2
    assert seen == [threads] * 2


def test_a_copy_and_a_pass_without_gradients_are_as_ever():
    maps, _ = maps_and_gradient(8, torch.channels_last)
    norm = copy.deepcopy(BatchNorm2d(8)).eval()
    with torch.no_grad():
        torch.testing.assert_close(norm(maps), nn.functional.batch_norm(maps, torch.zeros(8), torch.ones(8)))
