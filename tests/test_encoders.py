"""The encoders: sizes and contract; that they give the published numbers is told in the tests of import-weights."""

import pytest
import torch

from cry_lightning.console import UserError
from cry_lightning.encoders import CNN6, CNN10, CNN14, Res8


@pytest.mark.parametrize(("n_maps", "num_classes", "expected"), [(45, 12, 110_307), (45, 2, 109_847), (19, 12, 19_905)])
def test_number_of_parameters(n_maps: int, num_classes: int, expected: int) -> None:
    model = torch.nn.Sequential(Res8(n_maps), torch.nn.Linear(n_maps, num_classes))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize(
    ("network", "num_features", "published", "head"),
    [(CNN14, 2048, 80_753_615, 2048), (CNN10, 512, 5_219_279, 512), (CNN6, 512, 4_837_455, 512)],
)
def test_number_of_parameters_of_panns(network: type, num_features: int, published: int, head: int) -> None:
    """The published numbers count the two layers that classify, too: head to head, and head to 527 classes."""
    with torch.device("meta"):
        encoder = network()
    classifier = (head + 1) * head + (head + 1) * 527
    assert encoder.num_features == num_features
    assert sum(parameter.numel() for parameter in encoder.parameters()) == published - classifier


def test_trunk_of_cnn14_has_75_million_parameters() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in CNN14().parameters()) == 75_477_440


@pytest.mark.parametrize(
    ("encoder", "lengths"),
    [
        (Res8(n_maps=19), (4, 101, 700)),
        (CNN6(n_mels=40, width=4), (16, 101, 300)),
        (CNN10(n_mels=40, width=4), (16, 101, 300)),
        (CNN14(n_mels=40, width=4), (32, 101, 300)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_embeds_any_length_and_every_parameter_learns(encoder: torch.nn.Module, lengths: tuple[int, ...]) -> None:
    for n_frames in lengths:
        assert encoder(torch.randn(3, 1, 40, n_frames)).shape == (3, encoder.num_features)
    encoder(torch.randn(4, 1, 40, 101)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


@pytest.mark.parametrize("shape", [(2, 3, 40, 101), (2, 40, 101), (2, 1, 2, 101), (2, 1, 40, 3)])
def test_refuses_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="Res8"):
        Res8()(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 3, 40, 101), (2, 40, 101), (2, 1, 64, 101), (2, 1, 40, 31)])
def test_cnn14_refuses_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"CNN14: .*\(B, 1, 40, T\) with T of at least 32"):
        CNN14(n_mels=40, width=2)(torch.zeros(shape))


@pytest.mark.parametrize(("network", "too_few"), [(CNN14, 31), (CNN10, 15), (CNN6, 15)])
def test_panns_refuse_fewer_bands_than_their_poolings_leave(network: type, too_few: int) -> None:
    with pytest.raises(UserError, match=f"n_mels must be at least {too_few + 1}"):
        network(n_mels=too_few)


def test_panns_do_not_hear_when_but_at_which_pitch() -> None:
    """Time is pooled by maximum and mean, so that a sound moved by whole poolings away from the ends is the same."""
    encoder = CNN6(n_mels=40, width=4).eval()
    sound = torch.zeros(1, 1, 40, 320)
    sound[..., 96:160] = torch.randn(1, 1, 40, 64)
    moved = sound.roll(16 * 4, dims=3)
    with torch.no_grad():
        torch.testing.assert_close(encoder(sound), encoder(moved))
        assert not torch.allclose(encoder(sound), encoder(sound.roll(8, dims=2)))
