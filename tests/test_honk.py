"""import-weights honk: released files of honk's res8 give honk's own numbers, and no other file passes for one."""

from functools import partial
from pathlib import Path

import pytest
import torch
from made import DATA
from torch import Tensor
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, relu

from cry_lightning import audio
from cry_lightning.__main__ import run as command
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.encoders import Res8
from cry_lightning.features import MFCC
from cry_lightning.tasks.checkpoints import load_encoder

main = partial(command, "import-weights")


RES8 = DATA / ".." / "weights" / "honk" / "res8.pt"
SCALED = (1, 3, 5)


def honk_weights(n_maps: int = 45, scaled: bool = False, n_layers: int = 6) -> dict[str, Tensor]:
    """Random tensors under honk's names; with more layers, those of its deeper networks."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    weights = {"conv0.weight": uniform(n_maps, 1, 3, 3) - 0.5}
    for i in range(1, n_layers + 1):
        weights |= {f"bn{i}.running_mean": uniform(n_maps), f"bn{i}.running_var": uniform(n_maps) + 0.5}
        weights[f"bn{i}.num_batches_tracked"] = torch.tensor(7)
        if scaled and i in SCALED:
            weights[f"scale{i}.scale"] = uniform(n_maps) + 0.5
        weights[f"conv{i}.weight"] = (uniform(n_maps, n_maps, 3, 3) - 0.5) * (4.5 / n_maps)
    return weights | {"output.weight": uniform(12, n_maps), "output.bias": uniform(12)}


def honk_logits(features: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Logits (B, 12) of features (B, T, F), layer by layer as honk's published network has them."""

    def normalised(x: Tensor, layer: int) -> Tensor:
        return batch_norm(x, weights[f"bn{layer}.running_mean"], weights[f"bn{layer}.running_var"])

    def layer_of(x: Tensor, layer: int) -> Tensor:
        return relu(conv2d(x, weights[f"conv{layer}.weight"], padding=1))

    def scaled(x: Tensor, layer: int) -> Tensor:
        scale = weights.get(f"scale{layer}.scale")
        return x if scale is None else x * scale[:, None, None]

    pooled = avg_pool2d(layer_of(features[:, None], 0), (4, 3))
    first = layer_of(scaled(normalised(layer_of(pooled, 1), 1), 1), 2) + pooled
    second = layer_of(scaled(normalised(layer_of(normalised(first, 2), 3), 3), 3), 4) + first
    third = layer_of(scaled(normalised(layer_of(normalised(second, 4), 5), 5), 5), 6) + second
    return normalised(third, 6).mean((2, 3)) @ weights["output.weight"].T + weights["output.bias"]


def our_logits(features: Tensor, file: Path, folder: Path) -> Tensor:
    """Logits (B, 12) of features (B, 1, F, T): the imported encoder, and the file's own last layer."""
    main(["honk", str(file), "--to", str(folder / "ours.ckpt")])
    weights = torch.load(file, weights_only=True)
    encoder = Res8(len(weights["conv0.weight"])).eval()
    load_encoder(encoder, folder / "ours.ckpt")
    return encoder(features) @ weights["output.weight"].T + weights["output.bias"]


@pytest.mark.parametrize("n_maps", [45, 19], ids=["wide", "narrow"])
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "pruning"])
def test_imported_encoder_gives_honks_numbers(n_maps: int, scaled: bool, tmp_path: Path) -> None:
    weights = honk_weights(n_maps, scaled)
    torch.save(weights, tmp_path / "res8.pt")
    features = torch.randn(4, 101, 40, generator=torch.Generator().manual_seed(1)) * 5
    with torch.no_grad():
        ours = our_logits(features.transpose(1, 2)[:, None], tmp_path / "res8.pt", tmp_path)
        theirs = honk_logits(features, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    assert theirs.std(0).min() > 0.01


@pytest.mark.skipif(not RES8.exists(), reason=f"no weights at {RES8}")
def test_the_released_file_hears_digits_as_honk_does(tmp_path: Path) -> None:
    recordings = sorted((DATA / "fsdd").rglob("*.wav"))[::300]
    if not recordings:
        pytest.skip(f"no digits at {DATA / 'fsdd'}")
    waveforms = torch.stack([torch.from_numpy(audio.load_fitted(path, 16000, 1.0, "pad")) for path in recordings])
    features = MFCC(sample_rate=16000, n_fft=480, hop_length=160)(waveforms)
    with torch.no_grad():
        ours = our_logits(features, RES8, tmp_path)
        theirs = honk_logits(features[:, 0].transpose(1, 2), torch.load(RES8, weights_only=True))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert len({tuple(row) for row in theirs.tolist()}) == len(recordings)


def test_table_tells_where_the_scales_go_and_that_the_head_is_left_out(tmp_path: Path, capsys) -> None:
    weights = honk_weights(19, scaled=True)
    torch.save(weights, tmp_path / "res8.pt")
    main(["honk", str(tmp_path / "res8.pt"), "--to", str(tmp_path / "ours.ckpt")])
    *lines, last = capsys.readouterr().out.splitlines()
    into = dict(line.split(maxsplit=1) for line in lines)
    assert list(into) == list(weights)
    assert into["conv2.weight"].split(maxsplit=1) == ["convs.1.weight", "(19, 19, 3, 3)"]
    assert into["scale1.scale"].split() == ["convs.1.weight", "(19,)"]
    assert into["bn6.running_var"].split() == ["norms.5.running_var", "(19,)"]
    assert [name for name in into if into[name].startswith("(left out)")] == ["output.weight", "output.bias"]
    assert last.endswith("Res8 with n_maps 19")


@pytest.mark.slow
def test_a_stage_at_another_sample_rate_is_told_so(stage, tmp_path: Path, caplog) -> None:
    torch.save(honk_weights(19), tmp_path / "res8.pt")
    main(["honk", str(tmp_path / "res8.pt"), "--to", str(tmp_path / "honk.ckpt")])
    encoder = {"class_path": "cry_lightning.encoders.Res8", "init_args": {"n_maps": 19}}
    config = stage("finetune", encoder=encoder, weights=str(tmp_path / "honk.ckpt"))
    cli.main(["fit", "--config", str(config), "--trainer.max_epochs=0"])
    assert [message for message in caplog.messages if message.startswith("weights")] == [
        f"weights: {tmp_path / 'honk.ckpt'} was trained on MFCC(sample_rate=16000, n_fft=480, hop_length=160),"
        " this stage feeds MFCC(sample_rate=8000, n_fft=240, hop_length=80)"
    ]


def test_reads_files_from_before_batchnorm_counted(tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in honk_weights(19).items() if "num_batches" not in name}
    torch.save(weights, tmp_path / "res8.pt", _use_new_zipfile_serialization=False)
    features = torch.randn(2, 101, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = our_logits(features.transpose(1, 2)[:, None], tmp_path / "res8.pt", tmp_path)
    torch.testing.assert_close(ours, honk_logits(features, weights), rtol=1e-5, atol=1e-4)


def trad_weights() -> dict[str, Tensor]:
    """Under the names of honk's networks of one or two convolutions and dense layers."""
    sizes = {"conv1": (64, 1, 20, 8), "conv2": (64, 64, 10, 4), "output": (12, 26624)}
    return {f"{name}.weight": torch.zeros(shape) for name, shape in sizes.items()}


class Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (honk_weights(n_layers=13), "does not fit --encoder res8: bn7.running_mean is left over; .* and 24 more"),
        (trad_weights(), "holds no 'conv0.weight'"),
        (honk_weights(19, scaled=True) | {"scale3.scale": torch.ones(45)}, r"scale3.scale is \(45,\) there"),
        (honk_weights(19) | {"scale1.scale": torch.ones(19)}, "scale3.scale is missing; scale5.scale is missing"),
        (honk_weights(19) | {"conv4.weight": torch.ones(19, 19, 5, 5)}, r"conv4.weight is \(19, 19, 5, 5\) there"),
        ({"model": honk_weights(19)}, "not a table of tensors in the layout of honk"),
        ([torch.zeros(1)], "not a table of tensors in the layout of honk"),
    ],
    ids=["res15", "cnn-trad", "scale", "scales missing", "kernel", "nested", "list"],
)
def test_refuses_other_networks_by_what_does_not_fit(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(UserError, match=message) as refused:
        main(["honk", str(tmp_path / "file.pt"), "--to", str(tmp_path / "ours.ckpt")])
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file.pt"]


def test_refuses_a_file_with_code_in_it_and_runs_none(tmp_path: Path) -> None:
    torch.save(honk_weights(19) | {"extra": Code(tmp_path / "ran")}, tmp_path / "res8.pt")
    with pytest.raises(UserError, match="holds more than data"):
        main(["honk", str(tmp_path / "res8.pt"), "--to", str(tmp_path / "ours.ckpt")])
    assert [path.name for path in tmp_path.iterdir()] == ["res8.pt"]
    torch.load(tmp_path / "res8.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # it would have


def test_refuses_the_encoder_of_another_publisher(tmp_path: Path) -> None:
    torch.save(honk_weights(19), tmp_path / "res8.pt")
    with pytest.raises(UserError, match="--encoder cnn14: not among the networks of honk"):
        main(["honk", str(tmp_path / "res8.pt"), "--encoder", "cnn14", "--to", str(tmp_path / "ours.ckpt")])
