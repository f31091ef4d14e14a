"""VGGish: the network against the published one, its published weights, what it refuses."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear, max_pool2d, relu

from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.encoders import VGGish
from cry_lightning.tasks.checkpoints import load_encoder

main = partial(command, "import-weights")


CHANNELS = {0: (1, 1), 3: (1, 2), 6: (2, 4), 8: (4, 4), 11: (4, 8), 13: (8, 8)}  # of each convolution, times the width


def test_number_of_parameters() -> None:
    with torch.device("meta"):
        encoder = VGGish()
    assert encoder.num_features == 128
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 72_141_184


def published_weights(width: int) -> dict[str, Tensor]:
    """Random tensors under the names and in the shapes of the published module, whose axes are (T, F)."""
    generator = torch.Generator().manual_seed(0)
    sizes = {
        f"features.{i}": (after * width, before * width if i else 1, 3, 3) for i, (before, after) in CHANNELS.items()
    }
    sizes |= {"embeddings.0": (64 * width, 6 * 4 * 8 * width), "embeddings.2": (64 * width, 64 * width)}
    sizes["embeddings.4"] = (2 * width, 64 * width)
    weights = {}
    for name, size in sizes.items():
        fan_in = torch.Size(size[1:]).numel()
        weights[f"{name}.weight"] = torch.randn(size, generator=generator) * (2 / fan_in) ** 0.5
        weights[f"{name}.bias"] = torch.randn(size[0], generator=generator) / 10
    return weights


def published_forward(patches: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Embeddings (B, D) of patches (B, 1, T, F), as Hershey et al. and their code have it: maps last when flattened."""
    x = patches
    for layer in CHANNELS:
        x = relu(conv2d(x, weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"], padding=1))
        if layer in (0, 3, 8, 13):
            x = max_pool2d(x, 2)
    x = torch.stack([maps.movedim(0, -1).reshape(-1) for maps in x])
    for layer in (0, 2, 4):
        x = relu(linear(x, weights[f"embeddings.{layer}.weight"], weights[f"embeddings.{layer}.bias"]))
    return x


def imported(weights: object, folder: Path) -> Path:
    torch.save(weights, folder / "vggish.pth")
    main(["vggish", str(folder / "vggish.pth"), "--to", str(folder / "ours.ckpt")])
    return folder / "ours.ckpt"


@pytest.mark.parametrize("width", [4, pytest.param(64, marks=pytest.mark.slow)])
def test_imported_encoder_gives_the_published_numbers(width: int, tmp_path: Path, capsys) -> None:
    weights = published_weights(width)
    pca = {"pproc.pca_eigen_vectors": torch.zeros(128, 128), "pproc.pca_means": torch.zeros(128, 1)}
    encoder = VGGish(width).eval()
    load_encoder(encoder, imported(weights | pca, tmp_path))
    patches = torch.randn(3, 1, 96, 64, generator=torch.Generator().manual_seed(1)) * 2  # (B, 1, T, F)
    with torch.no_grad():
        ours, theirs = encoder(patches.transpose(2, 3)), published_forward(patches, weights)
        in_channels_last = encoder(patches.transpose(2, 3).contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())
    torch.testing.assert_close(in_channels_last, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())
    assert theirs.std() > 0.01
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "(left out)" in line] == list(pca)
    assert last.endswith(f"VGGish with width {width}")


def test_names_and_shapes_of_the_full_network_are_the_published_ones() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in VGGish().state_dict().items()}
    narrow = published_weights(width=1)
    assert shapes.keys() == narrow.keys()
    assert shapes["embeddings.0.weight"] == (4096, 12_288)
    assert shapes["embeddings.4.weight"] == (128, 4096)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.8.bias": None}, "features.8.bias is missing"),
        ({"embeddings.6.weight": torch.zeros(1)}, "embeddings.6.weight is left over"),
        ({"embeddings.0.weight": torch.zeros(64, 96)}, r"embeddings.0.weight is \(64, 96\) there and \(64, 192\) here"),
        ({"features.0.weight": None}, "holds no 'features.0.weight'"),
    ],
)
def test_refuses_weights_that_do_not_fit(change: dict, message: str, tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in (published_weights(1) | change).items() if tensor is not None}
    with pytest.raises(UserError, match=message):
        imported(weights, tmp_path)
    assert not (tmp_path / "ours.ckpt").exists()


@pytest.mark.parametrize("shape", [(2, 1, 64, 98), (2, 1, 96, 64), (2, 3, 64, 96), (64, 96)])
def test_network_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"VGGish: wants .*\(B, 1, 64, 96\), not \(" + ", ".join(map(str, shape))):
        VGGish(width=1)(torch.zeros(shape))


def test_a_new_network_tells_sounds_apart_and_every_layer_learns() -> None:
    """PyTorch's own initial weights shrink what goes through nine layers a thousandfold."""
    torch.manual_seed(0)
    encoder = VGGish(width=8)
    embeddings = encoder(torch.randn(8, 1, 64, 96))
    assert 0.03 < embeddings.std(0).mean() < 30
    embeddings.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())
