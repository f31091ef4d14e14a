"""EfficientAT: network and front end against the published ones, its released weights, and what it hears untrained."""

import hashlib
from pathlib import Path

import pytest
import torch
from made import DATA, real
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import batch_norm, conv1d, conv2d, hardswish, linear, pad, relu
from torchaudio.compliance.kaldi import get_mel_banks

from cry_lightning import audio
from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.encoders import EfficientAT
from cry_lightning.encoders.audioset import AudioSetHead
from cry_lightning.features import EfficientATLogMel
from cry_lightning.tasks.checkpoints import identity_of, load_encoder

MN04 = DATA / ".." / "weights" / "efficientat" / "mn04_as_mAP_432.pt"
SHA256 = "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"
TENSORS = "a2ca91045c39fc98a853e3029cd2f9246a623fda6e1bea669fd686137aa8e060"  # of encoder and head, in their order
released = pytest.mark.skipif(not MN04.exists(), reason=f"no weights at {MN04}")
BABY_CRY = 23  # in AudioSet's class_labels_indices.csv
HALVING = (0, 2, 4, 7, 13)  # layers of stride 2


def published_names(encoder: EfficientAT, head: AudioSetHead) -> dict[str, Tensor]:
    """The tensors of both under the names that the released code has for them."""
    names = {name.replace(".fc", ".conc_se_layers.0.fc"): tensor for name, tensor in encoder.state_dict().items()}
    return names | {f"classifier.{name}": tensor for name, tensor in head.state_dict().items()}


def random_weights(width_mult: float) -> dict[str, Tensor]:
    """Of a network whose BatchNorms have heard noise."""
    torch.manual_seed(0)
    encoder = EfficientAT(width_mult)
    for module in encoder.modules():
        module.momentum = 1.0
    encoder(torch.randn(8, 1, 128, 100))
    return published_names(encoder, AudioSetHead(width_mult))


def published_forward(x: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Embeddings (B, D) and logits (B, 527) of features (B, 1, F, T), layer by layer as the released code has them."""

    def conv_norm(x: Tensor, name: str, stride: int) -> Tensor:
        kernel = weights[f"{name}.0.weight"]
        groups = x.shape[1] // kernel.shape[1]
        x = conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
        norm = [weights[f"{name}.1.{tensor}"] for tensor in ("running_mean", "running_var", "weight", "bias")]
        return batch_norm(x, *norm, eps=0.001)

    def excite(x: Tensor, name: str) -> Tensor:
        fc = [weights[f"{name}.conc_se_layers.0.{tensor}"] for tensor in ("fc1.weight", "fc1.bias")]
        fc += [weights[f"{name}.conc_se_layers.0.{tensor}"] for tensor in ("fc2.weight", "fc2.bias")]
        return x * torch.sigmoid(linear(relu(linear(x.mean((2, 3)), *fc[:2])), *fc[2:]))[..., None, None]

    x = hardswish(conv_norm(x, "features.0", 2))
    for layer in range(1, 16):
        activation, before = (relu if layer < 7 else hardswish), x
        parts = {name.split(".")[3] for name in weights if name.startswith(f"features.{layer}.block.")}
        for part in range(len(parts)):
            name = f"features.{layer}.block.{part}"
            if f"{name}.0.weight" not in weights:
                x = excite(x, name)
                continue
            is_depthwise = weights[f"{name}.0.weight"].shape[-1] > 1
            x = conv_norm(x, name, 2 if is_depthwise and layer in HALVING else 1)
            x = activation(x) if part < len(parts) - 1 else x
        x = x + before if x.shape == before.shape else x
    embeddings = hardswish(conv_norm(x, "features.16", 1)).mean((2, 3))
    hidden = hardswish(linear(embeddings, weights["classifier.2.weight"], weights["classifier.2.bias"]))
    return embeddings, linear(hidden, weights["classifier.5.weight"], weights["classifier.5.bias"])


def published_log_mel(waveform: Tensor) -> Tensor:
    """Features (B, 1, 128, T) of waveforms (B, N) at 32 kHz, step by step as the released code has them."""
    x = conv1d(waveform[:, None], torch.tensor([[[-0.97, 1.0]]]))[:, 0]
    window = torch.hann_window(800, periodic=False)
    x = torch.stft(x, 1024, hop_length=320, win_length=800, window=window, center=True, return_complex=True)
    power = torch.view_as_real(x).square().sum(-1)
    banks, _ = get_mel_banks(128, 1024, 32000.0, 0.0, 15000.0, 100.0, -500.0, 1.0)
    return (((pad(banks, (0, 1)) @ power + 0.00001).log() + 4.5) / 5)[:, None]


def imported(file: Path, folder: Path) -> tuple[EfficientAT, AudioSetHead]:
    """The encoder and the head of a published file, both by `import-weights` and strictly loaded."""
    command("import-weights", ["efficientat", str(file), "--to", str(folder / "ours.ckpt")])
    width_mult = len(torch.load(file, weights_only=True)["features.16.1.bias"]) / 960
    encoder, head = EfficientAT(width_mult).eval(), AudioSetHead(width_mult).eval()
    state = load_encoder(encoder, folder / "ours.ckpt")["state_dict"]
    head.load_state_dict({name[5:]: tensor for name, tensor in state.items() if name.startswith("head.")})
    return encoder, head


def recordings(folder: str, step: int = 1) -> list[Path]:
    return sorted(path for path in (DATA / folder).rglob("*") if path.suffix in (".wav", ".flac"))[::step]


def heard(path: Path, seconds: float) -> Tensor:
    """Waveform (1, N) at 32 kHz."""
    return torch.from_numpy(audio.load_fitted(path, 32000, seconds, "pad"))[None]


def test_has_as_many_numbers_as_the_released_file() -> None:
    with torch.device("meta"):
        encoder, head = EfficientAT(0.4), AudioSetHead(0.4)
        assert encoder.num_features == 384
        assert sum(tensor.numel() for tensor in published_names(encoder, head).values()) == 993_485
        assert EfficientAT().num_features == 960


def test_embeds_any_length_and_every_parameter_learns() -> None:
    encoder = EfficientAT(0.1)
    for n_bands, n_frames in ((128, 1), (40, 33), (128, 100)):
        assert encoder(torch.randn(3, 1, n_bands, n_frames)).shape == (3, encoder.num_features)
    encoder(torch.randn(4, 1, 128, 100)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(UserError, match=r"EfficientAT: wants features of shape \(B, 1, F, T\)"):
        EfficientAT(0.1)(torch.zeros(2, 3, 128, 100))
    with pytest.raises(UserError, match="width_mult must be above 0"):
        EfficientAT(0)
    with pytest.raises(UserError, match="samples are too few"):
        EfficientATLogMel()(torch.zeros(1, 500))


def test_imported_encoder_and_head_give_the_published_numbers(tmp_path: Path, capsys) -> None:
    weights = random_weights(0.1)
    torch.save(weights, tmp_path / "mn01.pt")
    encoder, head = imported(tmp_path / "mn01.pt", tmp_path)
    features = torch.randn(3, 1, 128, 70, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        embeddings, logits = published_forward(features, weights)
        torch.testing.assert_close(encoder(features), embeddings, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(head(encoder(features)), logits, rtol=1e-4, atol=1e-4)
    assert embeddings.std(0).max() > 0.01
    *lines, last = capsys.readouterr().out.splitlines()
    into = dict(line.split(maxsplit=1) for line in lines)
    assert list(into) == list(weights) and "left out" not in str(into)
    assert into["classifier.5.weight"].startswith("head.5.weight ")
    assert last.endswith("EfficientAT with width_mult 0.1")
    checkpoint = torch.load(tmp_path / "ours.ckpt", weights_only=True)
    assert checkpoint["front_end"] == identity_of(EfficientATLogMel())


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifier.5.weight": torch.zeros(50, 128)}, r"classifier.5.weight is \(50, 128\) there and \(527, 128\)"),
        ({"classifier.5.bias": None}, "classifier.5.bias is missing"),
        ({"features.15.block.2.conc_se_layers.0.fc1.bias": None}, "conc_se_layers.0.fc1.bias is missing"),
        ({"features.15.block.2.conc_se_layers.1.fc1.bias": torch.zeros(8)}, "conc_se_layers.1.fc1.bias is left over"),
        ({"features.16.1.weight": None}, "holds no 'features.16.1.weight'"),
    ],
)
def test_refuses_other_networks_by_what_does_not_fit(change: dict, message: str, tmp_path: Path) -> None:
    weights = random_weights(0.1) | change
    torch.save({name: tensor for name, tensor in weights.items() if tensor is not None}, tmp_path / "file.pt")
    with pytest.raises(UserError, match=message):
        command("import-weights", ["efficientat", str(tmp_path / "file.pt"), "--to", str(tmp_path / "ours.ckpt")])


def test_front_end_equals_the_published_one_on_made_sounds() -> None:
    time = torch.arange(32000) / 32000
    cry = sum(torch.sin(2 * torch.pi * 450 * k * time) / k for k in range(1, 8)) * 0.1
    noise = torch.randn(32000, generator=torch.Generator().manual_seed(0)) * 0.1
    waveform = torch.stack([cry + noise * 1e-3, noise, noise * 1e-4, torch.zeros(32000)])
    features = EfficientATLogMel()(waveform)
    assert features.shape == (4, 1, 128, 100)
    torch.testing.assert_close(features, published_log_mel(waveform), rtol=0, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(EfficientATLogMel()(waveform), features)


@real("donateacry")
@real("noise")
def test_front_end_equals_the_published_one_on_recordings() -> None:
    for path in [*recordings("donateacry", 40), *recordings("noise", 10)]:
        waveform = heard(path, 5.0)
        torch.testing.assert_close(EfficientATLogMel()(waveform), published_log_mel(waveform), rtol=0, atol=1e-4)


@released
def test_the_released_file_is_the_one_that_is_known(tmp_path: Path) -> None:
    assert hashlib.sha256(MN04.read_bytes()).hexdigest() == SHA256
    encoder, head = imported(MN04, tmp_path)
    digest = hashlib.sha256()
    for tensor in (*encoder.state_dict().values(), *head.state_dict().values()):
        digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest() == TENSORS


@released
@real("donateacry")
@real("noise")
def test_the_released_file_hears_recordings_as_published(tmp_path: Path) -> None:
    encoder, head = imported(MN04, tmp_path)
    weights = torch.load(MN04, weights_only=True)
    paths = [*recordings("donateacry", 100), *recordings("noise", 20)]
    waveforms = torch.cat([heard(path, 5.0) for path in paths])
    with torch.no_grad():
        ours = encoder(EfficientATLogMel()(waveforms))
        embeddings, logits = published_forward(published_log_mel(waveforms), weights)
        torch.testing.assert_close(ours, embeddings, rtol=0, atol=1e-4)
        torch.testing.assert_close(head(ours), logits, rtol=0, atol=1e-4)
    assert logits.std(0).min() > 0.01


@pytest.mark.slow
@released
@real("donateacry")
@real("noise")
def test_tells_cries_from_noise_without_any_training(tmp_path: Path) -> None:
    """The cries are 8 kHz, the noise 16 kHz: what is missing above 4 kHz may tell them apart, too."""
    encoder, head = imported(MN04, tmp_path)
    paths = {folder: recordings(folder) for folder in ("donateacry", "noise")}
    with torch.no_grad():
        scores = [
            head(encoder(EfficientATLogMel()(heard(path, 5.0))))[0, BABY_CRY]
            for folder in paths.values()
            for path in folder
        ]
    is_cry = [folder == "donateacry" for folder, files in paths.items() for _ in files]
    assert roc_auc_score(is_cry, torch.stack(scores)) == pytest.approx(0.9905, abs=1e-3)
