"""The encoders: sizes, contract, and for Res8 honk's own numbers from honk's own weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, relu

from cry_lightning.encoders import CNN6, CNN10, CNN14, Res8
from cry_lightning.errors import UserError

WEIGHTS = Path(__file__).parents[1] / ".." / "shared" / "weights" / "honk" / "res8.pt"


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


def honk_logits(features: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Logits (B, 12) of features (B, T, F), layer by layer as honk's published network has them."""

    def normalised(x: Tensor, layer: int) -> Tensor:
        return batch_norm(x, weights[f"bn{layer}.running_mean"], weights[f"bn{layer}.running_var"])

    def layer_of(x: Tensor, layer: int) -> Tensor:
        return relu(conv2d(x, weights[f"conv{layer}.weight"], padding=1))

    def scaled(x: Tensor, layer: int) -> Tensor:
        return x * weights[f"scale{layer}.scale"][:, None, None]

    pooled = avg_pool2d(layer_of(features[:, None], 0), (4, 3))
    first = layer_of(scaled(normalised(layer_of(pooled, 1), 1), 1), 2) + pooled
    second = layer_of(scaled(normalised(layer_of(normalised(first, 2), 3), 3), 3), 4) + first
    third = layer_of(scaled(normalised(layer_of(normalised(second, 4), 5), 5), 5), 6) + second
    return normalised(third, 6).mean((2, 3)) @ weights["output.weight"].T + weights["output.bias"]


def in_our_axes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Honk's weights as a state dict of Res8: axes swapped, scales multiplied into the convolutions that follow."""
    kernels = {i: weights[f"conv{i}.weight"].transpose(2, 3) for i in range(7)}
    for i in (1, 3, 5):
        kernels[i + 1] = kernels[i + 1] * weights[f"scale{i}.scale"][:, None, None]
    ours = {"conv0.weight": kernels[0]} | {f"convs.{i - 1}.weight": kernels[i] for i in range(1, 7)}
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        ours |= {f"norms.{i - 1}.{name}": weights[f"bn{i}.{name}"] for i in range(1, 7)}
    return ours


def random_weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    weights = {"conv0.weight": uniform(45, 1, 3, 3) - 0.5, "output.weight": uniform(12, 45), "output.bias": uniform(12)}
    for i in range(1, 7):
        weights |= {f"conv{i}.weight": (uniform(45, 45, 3, 3) - 0.5) / 10, f"bn{i}.running_mean": uniform(45)}
        weights |= {f"bn{i}.running_var": uniform(45) + 0.5, f"bn{i}.num_batches_tracked": torch.tensor(1)}
    return weights | {f"scale{i}.scale": uniform(45) + 0.5 for i in (1, 3, 5)}


@pytest.mark.parametrize("source", ["random", "honk"])
def test_equals_the_literal_network(source: str) -> None:
    if source == "honk" and not WEIGHTS.exists():
        pytest.skip(f"no weights at {WEIGHTS}")
    weights = torch.load(WEIGHTS, weights_only=True) if source == "honk" else random_weights()
    encoder = Res8().eval()
    encoder.load_state_dict(in_our_axes(weights))
    features = torch.randn(4, 101, 40, generator=torch.Generator().manual_seed(1)) * 5
    with torch.no_grad():
        ours = encoder(features.transpose(1, 2)[:, None]) @ weights["output.weight"].T + weights["output.bias"]
        torch.testing.assert_close(ours, honk_logits(features, weights), rtol=1e-5, atol=1e-4)
