"""import-weights: files in the published layouts become checkpoints of the same numbers, or are refused."""

import hashlib
import io
import json
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, relu

from cry_lightning.__main__ import run as command
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.download.import_weights import PANNS_STFT, front_end
from cry_lightning.encoders import CNN6, CNN10, CNN14
from cry_lightning.encoders.audioset import PANN
from cry_lightning.encoders.importers import PUBLISHERS
from cry_lightning.features import LogMel
from cry_lightning.lineage import UNKNOWN, of_checkpoint
from cry_lightning.tasks.checkpoints import load_encoder

main = partial(command, "import-weights")
NORMS = {"panns": "bn", "speechbrain": "norm"}
SHAPES = {"cnn14": (CNN14, 6, (3, 3)), "cnn10": (CNN10, 4, (3, 3)), "cnn6": (CNN6, 4, (5,))}
N_MELS, WIDTH = 40, 4


def published_weights(norm: str, network: str = "cnn14", n_mels: int = N_MELS, width: int = WIDTH) -> dict[str, Tensor]:
    """Random tensors under the names and in the shapes that the publishers' modules have."""
    _, n_blocks, kernels = SHAPES[network]
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}

    def add_norm(name: str, size: int) -> None:
        weights[f"{name}.weight"] = torch.rand(size, generator=generator) + 0.5
        weights[f"{name}.bias"] = torch.randn(size, generator=generator) / 10
        weights[f"{name}.running_mean"] = torch.randn(size, generator=generator) / 10
        weights[f"{name}.running_var"] = torch.rand(size, generator=generator) + 0.5
        weights[f"{name}.num_batches_tracked"] = torch.tensor(9)

    add_norm(f"{norm}0", n_mels)
    before = 1
    for block in range(1, n_blocks + 1):
        after = width * 2 ** (block - 1)
        for i, kernel in enumerate(kernels, start=1):
            scale = (2 / (before * kernel**2)) ** 0.5
            kernels_of_layer = torch.randn(after, before, kernel, kernel, generator=generator) * scale
            weights[f"conv_block{block}.conv{i}.weight"] = kernels_of_layer
            add_norm(f"conv_block{block}.{norm}{i}", after)
            before = after
    return weights


def panns_checkpoint(network: str = "cnn14") -> dict:
    """With the front end and the classifier that PANNs' files hold, too."""
    weights = published_weights("bn", network)
    front_end = {
        "spectrogram_extractor.stft.conv_real.weight": torch.zeros(257, 1, 512),
        "spectrogram_extractor.stft.conv_imag.weight": torch.zeros(257, 1, 512),
        "logmel_extractor.melW": torch.zeros(257, N_MELS),
    }
    classifier = {"fc1.weight": torch.zeros(8, 8), "fc1.bias": torch.zeros(8)}
    classifier |= {"fc_audioset.weight": torch.zeros(527, 8), "fc_audioset.bias": torch.zeros(527)}
    return {"iteration": 600_000, "model": front_end | weights | classifier}


def published_forward(x: Tensor, weights: dict[str, Tensor], norm: str, network: str) -> Tensor:
    """Embeddings (B, D) of log-mels (B, 1, T, F), layer by layer as Kong et al. draw the network, in their axes."""
    _, n_blocks, kernels = SHAPES[network]

    def normalised(x: Tensor, name: str) -> Tensor:
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return batch_norm(x, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = normalised(x.transpose(1, 3), f"{norm}0").transpose(1, 3)
    for block in range(1, n_blocks + 1):
        for i, kernel in enumerate(kernels, start=1):
            x = conv2d(x, weights[f"conv_block{block}.conv{i}.weight"], padding=kernel // 2)
            x = relu(normalised(x, f"conv_block{block}.{norm}{i}"))
        if not (network == "cnn14" and block == 6):
            x = avg_pool2d(x, 2)
    x = x.mean(3)
    return x.max(2).values + x.mean(2)


@pytest.mark.parametrize(
    ("publisher", "network"), [("panns", "cnn14"), ("panns", "cnn10"), ("panns", "cnn6"), ("speechbrain", "cnn14")]
)
def test_imported_encoder_gives_the_published_numbers(publisher: str, network: str, tmp_path: Path) -> None:
    norm = NORMS[publisher]
    weights = published_weights(norm, network)
    torch.save({"model": weights} if publisher == "panns" else weights, tmp_path / "published.pth")
    main([publisher, str(tmp_path / "published.pth"), "--to", str(tmp_path / "ours.ckpt"), "--encoder", network])
    encoder = SHAPES[network][0](N_MELS, WIDTH).eval()
    load_encoder(encoder, tmp_path / "ours.ckpt")
    log_mels = torch.randn(3, 1, 70, N_MELS, generator=torch.Generator().manual_seed(1)) * 3  # (B, 1, T, F)
    with torch.no_grad():
        ours, theirs = encoder(log_mels.transpose(2, 3)), published_forward(log_mels, weights, norm, network)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())
    assert theirs.std() > 0.01


def test_names_of_the_full_network_are_the_published_ones() -> None:
    with torch.device("meta"):
        names = CNN14().state_dict()
    for publisher, norm in NORMS.items():
        assert {PUBLISHERS[publisher].published_name(name) for name in names} == published_weights(norm).keys()


def test_table_lists_every_tensor_and_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint = panns_checkpoint()
    torch.save(checkpoint, tmp_path / "Cnn14.pth")
    main(["panns", str(tmp_path / "Cnn14.pth"), "--to", str(tmp_path / "new" / "cnn14.ckpt")])
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(checkpoint["model"])
    assert "blocks.5.conv2.weight" in next(line for line in lines if line.startswith("conv_block6.conv2.weight"))
    assert lines[0].endswith("(left out)                          (257, 1, 512)")
    assert sum("(left out)" in line for line in lines) == 7
    assert last.endswith("CNN14 with n_mels 40 and width 4")


def test_checkpoint_says_where_it_comes_from_and_that_its_lineage_is_unknown(tmp_path: Path) -> None:
    torch.save(panns_checkpoint(), tmp_path / "Cnn14.pth")
    main(["panns", str(tmp_path / "Cnn14.pth"), "--to", str(tmp_path / "cnn14.ckpt")])
    checkpoint = torch.load(tmp_path / "cnn14.ckpt", weights_only=True)
    assert of_checkpoint(checkpoint) == UNKNOWN
    sha256 = hashlib.sha256((tmp_path / "Cnn14.pth").read_bytes()).hexdigest()
    assert json.loads(checkpoint["front_end"]) == LogMel(16000, 512, 160, N_MELS, 50.0, 8000.0).identity()
    assert checkpoint["source"] == {"publisher": "panns", "file": "Cnn14.pth", "sha256": sha256}
    assert all(name.startswith("encoder.") for name in checkpoint["state_dict"])
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("n_fft", "expected"),
    [
        (256, LogMel(8000, 256, 80, N_MELS, 50.0, 4000.0)),
        (1024, LogMel(32000, 1024, 320, N_MELS, 50.0, 14000.0)),
        (768, None),
    ],
)
def test_front_end_of_panns_goes_by_the_frame_in_the_file(n_fft: int, expected: LogMel | None) -> None:
    told = front_end("panns", published_weights("bn") | {PANNS_STFT: torch.zeros(n_fft // 2 + 1, 1, n_fft)})
    assert (told and told.identity()) == (expected and expected.identity())


def test_reads_the_integer_arrays_beside_panns_weights(tmp_path: Path) -> None:
    """As NumPy 1 and the PyTorch of 2020 wrote them."""
    checkpoint = panns_checkpoint() | {"sampler": {"indexes": np.arange(5)}}
    written = io.BytesIO()
    torch.save(checkpoint, written, _use_new_zipfile_serialization=False)
    assert b"numpy._core.multiarray" in written.getvalue()
    old = written.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "Cnn14.pth").write_bytes(old)
    main(["panns", str(tmp_path / "Cnn14.pth"), "--to", str(tmp_path / "cnn14.ckpt")])
    assert (tmp_path / "cnn14.ckpt").exists()


class Code:
    def __reduce__(self):
        return Path, ("would run",)


def refusal(content: object, tmp_path: Path, *args: str) -> str:
    """The message with which a file of this content is refused."""
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(UserError) as refused:
        main([*(args or ("panns",)), str(tmp_path / "file.pth"), "--to", str(tmp_path / "ours.ckpt")])
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("ours*"))
    return str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_block2.conv1.weight": None}, "conv_block2.conv1.weight is missing"),
        ({"bn0.num_batches_tracked": None}, "bn0.num_batches_tracked is missing"),
        ({"conv_block7.conv1.weight": torch.zeros(1)}, "conv_block7.conv1.weight is left over"),
        ({"fc2.weight": torch.zeros(1)}, "fc2.weight is left over"),
        (
            {"conv_block2.conv1.weight": torch.zeros(9, 4, 3, 3)},
            r"conv_block2.conv1.weight is (9, 4, 3, 3) there and (8, 4, 3, 3) here",
        ),
    ],
)
def test_refuses_what_does_not_fit_tensor_for_tensor(change: dict, message: str, tmp_path: Path) -> None:
    weights = panns_checkpoint()["model"] | change
    checkpoint = {"model": {name: tensor for name, tensor in weights.items() if tensor is not None}}
    assert message in refusal(checkpoint, tmp_path)


@pytest.mark.filterwarnings("ignore")  # torch's, of these kinds
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("conv_block2.conv1.weight", lambda tensor: tensor * torch.nan, "holds NaN or infinity"),
        ("bn0.bias", lambda tensor: tensor / 0, "holds NaN or infinity"),
        ("bn0.running_var", torch.neg, "holds a negative number, which no variance is"),
        ("bn0.weight", lambda tensor: tensor.to(torch.complex64), "has numbers of the type complex64"),
        ("bn0.weight", lambda tensor: tensor.to(torch.int64), "has numbers of the type int64"),
        ("bn0.weight", lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "is quantized"),
        ("conv_block2.conv1.weight", Tensor.to_sparse, "is sparse"),
        ("bn0.weight", lambda tensor: tensor.to("meta"), "has a shape and no numbers"),
    ],
)
def test_refuses_tensors_that_are_no_weights(name: str, change: Callable, message: str, tmp_path: Path) -> None:
    weights = published_weights("bn", "cnn6")
    content = {"model": weights | {name: change(weights[name])}}
    told = refusal(content, tmp_path, "panns", "--encoder", "cnn6")
    assert told == f"{tmp_path / 'file.pth'}: damaged, or no weights: {name} {message}"


def test_refuses_zeros_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    weights = published_weights("bn", "cnn6")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in weights.items() if "running" not in name}
    cnn6 = ["panns", "--encoder", "cnn6"]
    assert refusal({"model": weights | zeros}, tmp_path, *cnn6).endswith("no weights: every weight is zero")
    torch.save({"model": weights | zeros | {"bn0.weight": weights["bn0.weight"]}}, tmp_path / "one.pth")
    main([*cnn6, str(tmp_path / "one.pth"), "--to", str(tmp_path / "one.ckpt")])


def test_refuses_the_weights_of_another_network(tmp_path: Path) -> None:
    message = refusal(panns_checkpoint("cnn14"), tmp_path, "panns", "--encoder", "cnn6")
    assert "does not fit --encoder cnn6" in message
    assert "conv_block1.conv2.weight is left over" in message
    assert "more" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}}, "not a table of tensors in the layout of panns"),
        ({"model": {"bn0.weight": "text"}}, "not a table of tensors in the layout of panns"),
        ({"model": {7: torch.zeros(1)}}, "file.pth: a tensor is called 7, and that is no text"),
        ({"model": published_weights("bn") | {"bn0.weight": torch.ones(())}}, "of no network (len() of a 0-d tensor)"),
        ({"model": published_weights("bn") | {"a\nb": torch.ones(1)}}, "a b is left over"),
        ({"model": published_weights("norm")}, "holds no 'bn0.weight'"),
        ({"model": Code()}, "holds more than data"),
    ],
)
def test_refuses_files_of_another_kind(content: object, message: str, tmp_path: Path) -> None:
    assert message in refusal(content, tmp_path)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("asked", "owner"), permutations(PUBLISHERS, 2))
def test_names_the_importer_of_another_publishers_file(asked: str, owner: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        names = PUBLISHERS[owner].networks[0]().state_dict()
    weights = {PUBLISHERS[owner].published_name(name): torch.zeros(1) for name in names}
    message = refusal({"model": weights} if owner == "panns" else weights, tmp_path, asked)
    assert message.endswith(f"a file of {owner}, not of {asked}: import-weights {owner} {tmp_path / 'file.pth'}")


def test_refuses_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    to = ["--to", str(tmp_path / "ours.ckpt")]
    with pytest.raises(UserError, match="no such file"):
        main(["panns", str(tmp_path / "none.pth"), *to])
    torch.save(panns_checkpoint(), tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:20_000])
    with pytest.raises(UserError, match="not a whole file of weights"):
        main(["panns", str(tmp_path / "half.pth"), *to])
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(UserError, match="not a file of weights"):
        main(["panns", str(tmp_path / "page.pth"), *to])


def test_does_not_overwrite(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        main(["panns", str(tmp_path / "Cnn14.pth"), "--to", str(tmp_path / "best.ckpt")])
    assert (tmp_path / "best.ckpt").read_text() == "precious"


@pytest.mark.slow
def test_a_stage_starts_from_it_and_its_lineage_is_unknown(stage, tmp_path: Path) -> None:
    torch.save(panns_checkpoint("cnn6"), tmp_path / "Cnn6.pth")
    main(["panns", str(tmp_path / "Cnn6.pth"), "--to", str(tmp_path / "cnn6.ckpt"), "--encoder", "cnn6"])
    encoder = {"class_path": "cry_lightning.encoders.CNN6", "init_args": {"n_mels": N_MELS, "width": WIDTH}}
    config = stage("finetune", encoder=encoder, weights=str(tmp_path / "cnn6.ckpt"), frozen=True)
    run = cli.main(["fit", "--config", str(config), "--trainer.max_epochs=1"])
    fitted: PANN = run.model.encoder
    expected = panns_checkpoint("cnn6")["model"]["conv_block4.conv1.weight"].transpose(2, 3)
    assert torch.equal(fitted.state_dict()["blocks.3.conv1.weight"], expected)
    cli.main(["test", "--config", str(run.run_folder.config)])
    lineage = json.loads((run.run_folder.path / "lineage.json").read_text())
    assert lineage["complete"] is False
    assert [stage["stage"] for stage in lineage["stages"]] == ["finetune"]
