"""Pictures of sound: levels, colours, the networks that see them, the PNGs that show them, and what is refused."""

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
import timm
import torch
import yaml
from made import RATE, stage_config
from matplotlib import colormaps
from matplotlib.image import imread
from PIL import Image
from torch import Tensor

import cry_lightning as cry
from cry_lightning.__main__ import main, run as command
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.corpora import Manifest
from cry_lightning.data.building import ClipBatches
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.encoders.small import SmallCNN
from cry_lightning.encoders.timm_network import TimmNetwork
from cry_lightning.evaluation.run import read_run
from cry_lightning.features import Waveform
from cry_lightning.features.spectrogram import OwnRateSpectrogram, Spectrogram
from cry_lightning.inference.model import TrainedStage
from cry_lightning.studies.robustness import ModelUnderTest
from cry_lightning.tasks.picture import ColourMap
from cry_lightning.trust.names import Trust

picture = partial(command, "picture")


COLOURS = {"class_path": "cry_lightning.tasks.picture.ColourMap"}
PICTURE = {"class_path": "cry_lightning.features.spectrogram.Spectrogram", "init_args": {"size": [60, 90]}}

OWN_RATE = "cry_lightning.features.spectrogram.OwnRateSpectrogram"


def timm_encoder(name: str = "test_resnet", **arguments) -> dict:
    path = "cry_lightning.encoders.timm_network.TimmNetwork"
    return {"class_path": path, "init_args": {"model_name": name, **arguments}}


@pytest.fixture
def stage(tones, tmp_path):
    """Writes the YAML of a stage on pictures of the tones; returns its path."""

    def write(encoder: dict | None = None, **model) -> str:
        model = {"encoder": encoder or timm_encoder(), "normalize": COLOURS, **model}
        config = stage_config(tones, tmp_path, "seen", **model)
        config["data"] |= {"feature": PICTURE, "shift_s": 0.0}
        config["trainer"] |= {"max_epochs": 1, "logger": False}
        path = tmp_path / "seen.yaml"
        path.write_text(yaml.safe_dump(config))
        return str(path)

    return write


def made_batch() -> Tensor:
    """A gliding tone, noise, and quiet noise, 1 s each."""
    rng, time = np.random.default_rng(0), np.arange(RATE) / RATE
    glide = 0.5 * np.sin(2 * np.pi * (500 * time + 400 * time**2)) + 1e-3 * rng.standard_normal(RATE)
    noise = rng.standard_normal(RATE) * 0.1
    return torch.from_numpy(np.stack([glide, noise, noise * 1e-3]).astype(np.float32))


def literal_levels(waveform: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Levels (F, T) in dB, frame by frame in float64."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.concatenate([np.zeros(n_fft // 2), waveform.astype(np.float64), np.zeros(n_fft // 2)])
    frames = [padded[start : start + n_fft] * window for start in range(0, len(padded) - n_fft + 1, hop)]
    amplitude = np.abs(np.fft.rfft(frames)).T * 2 / window.sum()
    return np.clip(20 * np.log10(np.maximum(amplitude, 1e-30)), -120, 0)


def test_levels_are_those_of_the_formula_and_rows_are_independent():
    waveforms = made_batch()
    unshrunk = Spectrogram(size=(129, 126))  # as many bins and frames as there are
    got = unshrunk(waveforms)
    assert got.shape == (3, 1, 129, 126)
    for row, waveform in zip(got[:, 0].numpy(), waveforms.numpy(), strict=True):
        np.testing.assert_allclose(row, literal_levels(waveform, 256, 64), atol=0.1)  # at -100 dB, in float32
    torch.testing.assert_close(torch.cat([unshrunk(row[None]) for row in waveforms]), got)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(unshrunk(waveforms), got)


def test_a_sine_of_full_scale_is_0_db_and_silence_is_at_the_floor():
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)[None]
    level = Spectrogram(size=(129, 126))(sine)[0, 0, :, 10:-10]
    assert level.amax(0).min() > -0.01 and (level.argmax(0) == 32).all()
    torch.testing.assert_close(Spectrogram()(torch.zeros(1, RATE)), torch.full((1, 1, 60, 90), -120.0))


@pytest.mark.parametrize(("height", "width"), [(60, 90), (224, 224), (20, 400)])
def test_resizing_is_that_of_a_picture(height, width):
    waveform = made_batch()[:1]
    levels = Image.fromarray(Spectrogram(size=(129, 126))(waveform)[0, 0].numpy())
    wanted = np.array(levels.resize((width, height), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(Spectrogram(size=(height, width))(waveform)[0, 0].numpy(), wanted, atol=0.01)


def test_every_length_gives_the_same_size_so_a_shift_by_crops_is_refused(tones):
    feature = Spectrogram()
    assert {feature.n_frames(seconds) for seconds in (0.1, 1, 7)} == {90}
    assert feature.identity()["size"] == (60, 90)
    corpus = Manifest(str(tones))
    with pytest.raises(UserError, match=r"shift_s 0.1 changes nothing: Spectrogram has as many frames"):
        CryDataModule(corpus, feature, shift_s=0.1)
    CryDataModule(corpus, feature)
    CryDataModule(corpus, Waveform(), shift_s=0.1)


@pytest.mark.parametrize("arguments", [{"size": (0, 90)}, {"n_fft": 1}, {"hop_length": 0}])
def test_a_spectrogram_of_nothing_is_refused(arguments):
    with pytest.raises(UserError, match=r"Spectrogram: .* must be at least 1"):
        Spectrogram(**arguments)


def test_colours_go_from_the_floor_to_full_scale_with_high_frequencies_on_top():
    levels = torch.linspace(-130, 10, 15)[None, None, :, None].expand(1, 1, 15, 2)  # rising with frequency
    seen = ColourMap()(levels)
    assert seen.shape == (1, 3, 15, 2)
    assert seen[0, :, -1, 0].tolist() == [0, 0, 0] and seen[0, :, 0, 0].min() > 0.95
    lightness = seen[0, :, :, 0].T @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (lightness.diff() <= 0).all()
    inferno = colormaps["inferno"](np.clip(1 + levels[0, 0, :, 0].flip(0).numpy() / 80, 0, 1))[:, :3]
    np.testing.assert_allclose(ColourMap("inferno", range_db=80)(levels)[0, :, :, 0].T.numpy(), inferno, atol=0.02)
    assert not ColourMap().state_dict()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: ColourMap("soxx"), "no colour map 'soxx'"),
        (lambda: ColourMap(range_db=0), "range_db must be above 0"),
        (lambda: ColourMap()(torch.zeros(1, 3, 60, 90)), r"\(B, 1, F, T\), not \(1, 3, 60, 90\)"),
        (lambda: SmallCNN()(torch.zeros(1, 1, 60, 90)), r"SmallCNN.*\(B, 3, F, T\)"),
        (lambda: SmallCNN()(torch.zeros(1, 3, 7, 90)), "at least 8"),
    ],
)
def test_what_is_no_picture_is_refused(wrong, named):
    with pytest.raises(UserError, match=named):
        wrong()


@pytest.mark.skipif(not shutil.which("sox"), reason="no sox to compare with: apt install sox")
def test_looks_like_the_picture_of_sox(tmp_path):
    soundfile.write(tmp_path / "glide.wav", made_batch()[0].numpy(), RATE)
    sox = ["sox", "glide.wav", "-n", "spectrogram", "-r", "-x", "800", "-y", "129", "-o", "sox.png"]
    subprocess.run(sox, cwd=tmp_path, check=True)
    theirs = Image.open(tmp_path / "sox.png").convert("RGB").resize((90, 60), Image.Resampling.BILINEAR)
    ours = ColourMap()(Spectrogram()(made_batch()[:1]))[0].movedim(0, -1).numpy()
    assert np.abs(ours - np.asarray(theirs) / 255).mean() < 0.05


def test_the_small_cnn_learns_with_every_parameter():
    encoder = SmallCNN()
    pictures = torch.rand(4, 3, 60, 90)
    embeddings = encoder(pictures)
    torch.testing.assert_close(embeddings, encoder.layers[:9](pictures).flatten(1))  # nothing is averaged at this size
    for size in ((8, 8), (224, 224)):
        assert encoder(torch.rand(2, 3, *size)).shape == (2, encoder.num_features)
    embeddings.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "mobilenetv3_small_050"])
def test_a_network_of_timm_sees_what_its_data_config_asks_for(name):
    encoder = TimmNetwork(name, img_size=(64, 96)).eval()
    pictures = torch.rand(2, 3, 64, 96)
    data = timm.data.resolve_model_data_config(encoder.network)
    mean, std = (torch.tensor(data[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        got = encoder(pictures)
        torch.testing.assert_close(got, encoder.network((pictures - mean) / std))
    assert got.shape == (2, encoder.num_features)
    assert not [key for key in encoder.state_dict() if not key.startswith("network.")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of weights as timm publishes them, with the classifier: name -> path."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("test_resnet", "test_vit", "test_vit2"):
        torch.save(timm.create_model(name).state_dict(), folder / f"{name}.pth")
    torch.save({"state_dict": Path("/")}, folder / "code.pth")
    (folder / "text.pth").write_text("no weights")
    return lambda name: str(folder / f"{name}.pth")


def test_weights_from_a_file_are_those_of_the_file(weights):
    published = timm.create_model("test_resnet").eval()
    published.load_state_dict(torch.load(weights("test_resnet")))
    encoder = TimmNetwork("test_resnet", checkpoint_path=weights("test_resnet")).eval()
    pictures = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        head = published.forward_head(published.forward_features((pictures - encoder.mean) / encoder.std), True)
        torch.testing.assert_close(encoder(pictures), head)
        grey = TimmNetwork("test_resnet", in_chans=1, checkpoint_path=weights("test_resnet")).eval()
        colourless = pictures[:, :1]
        of_three = encoder.network(colourless.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey(colourless), of_three, rtol=1e-4, atol=1e-4)


def test_positions_of_a_transformer_are_adapted_to_its_size(weights):
    encoder = TimmNetwork("test_vit", img_size=(64, 96), checkpoint_path=weights("test_vit"))
    given = torch.load(weights("test_vit"))
    assert encoder.network.pos_embed.shape != given["pos_embed"].shape
    assert torch.equal(encoder.network.blocks[0].mlp.fc1.weight, given["blocks.0.mlp.fc1.weight"])


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_name": "test_resnt"}, "timm has no network test_resnt; did you mean test_resnet"),
        ({"img_size": [60, 90], "model_name": "test_vit"}, "patches of 16x16; img_size .* not 60x90"),
        ({"img_size": [64, 96], "model_name": "test_vit"}, r"built for pictures of 64x96, not 60x90; .*\[60, 90\]"),
        ({"model_name": "resnet18", "size": [16, 90]}, "resnet18: .*32 times smaller.* 16x90 is too small"),
        (
            {"normalize": None},
            r"wants pictures of shape \(B, 3, F, T\), not \(1, 1, 60, 90\); set model.init_args.norm",
        ),
        ({"checkpoint_path": "test_vit"}, "is not of test_resnet: .*conv1.* is missing.* and [0-9]+ more"),
        ({"checkpoint_path": "test_vit2", "model_name": "test_vit"}, "is not of test_vit: "),
        ({"checkpoint_path": "code"}, "cannot be read as weights"),
        ({"checkpoint_path": "text"}, "cannot be read as weights"),
        ({"checkpoint_path": "absent"}, "absent.pth: no such file of weights"),
    ],
)
def test_mistakes_are_one_line(stage, weights, capsys, arguments, message):
    path = arguments.pop("checkpoint_path", None)
    size, model = arguments.pop("size", [60, 90]), {k: arguments.pop(k) for k in ("normalize",) if k in arguments}
    encoder = timm_encoder(**{"name": arguments.pop("model_name", "test_resnet"), **arguments})
    encoder["init_args"] |= {"checkpoint_path": weights(path)} if path else {}
    assert main(["fit", "--config", stage(encoder, **model), f"--data.feature.init_args.size={size}"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert re.search(message, line), line


def tone(folder: Path, name: str, pitch: float, seconds: float = 0.4) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(RATE * seconds)) / RATE
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * pitch * time), RATE)
    return path


def test_a_png_is_upright_and_what_the_network_sees(stage, tmp_path, capsys):
    high = tone(tmp_path, "heard/one/high.wav", 3500)
    low = tone(tmp_path, "heard/two/high.wav", 500)
    (tmp_path / "heard/broken.wav").write_text("no sound")
    config = stage()
    picture([str(tmp_path / "heard"), "--config", config, "--out", str(tmp_path / "out")])
    assert "2 pictures of 60x90" in capsys.readouterr().out
    rows = {}
    for path in (high, low):
        png = imread(tmp_path / "out" / f"{path.relative_to(tmp_path / 'heard')}.png")
        waveform = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
        seen = ColourMap()(Spectrogram()(waveform))[0].movedim(0, -1)
        np.testing.assert_array_equal((png[:, :, :3] * 255).round(), (seen * 255).round())
        rows[path] = png[:, 45, :3].sum(-1).argmax()
    assert rows[high] == 60 - 1 - round(3500 / 4000 * 60 - 0.5) and rows[low] == 60 - 1 - round(500 / 4000 * 60 - 0.5)


def test_windows_of_a_recording_have_a_picture_each(stage, tmp_path):
    tone(tmp_path, "long.wav", 1000, seconds=1.3)
    args = [str(tmp_path / "long.wav"), "--config", stage(), "--out", str(tmp_path / "out")]
    picture([*args, "--data.corpus.init_args.window_s=0.4", "--data.corpus.init_args.hop_s=0.4"])
    names = ["long.wav@0.000.png", "long.wav@0.400.png", "long.wav@0.800.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["one.wav", "--out=out", "--model.init_args.normalize=null"], r"shape \(1, 60, 90\), no .*resnet50\.yaml$"),
        (["nowhere.wav", "--out=out"], "nowhere.wav: no such file or folder"),
        (["broken.wav", "--out=out"], "no recording could be used: broken.wav"),
        (["one.wav", "--out=seen.yaml"], "seen.yaml is a file; name a folder"),
    ],
)
def test_no_picture_is_one_line(stage, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    tone(tmp_path, "one.wav", 1000)
    Path("broken.wav").write_text("no sound")
    with pytest.raises(UserError, match=message):
        picture([*args, "--config", stage()])


@pytest.fixture(scope="module")
def of_two_rates(tones, tmp_path_factory) -> Path:
    """The tones, of which every other subject was recorded at twice the rate."""
    folder = tmp_path_factory.mktemp("rates")
    for path in tones.parent.glob("*.wav"):
        sound, _ = soundfile.read(path, dtype="float32")
        twice = int(path.stem.split("_")[1]) % 2
        soundfile.write(folder / path.name, soxr.resample(sound, 1, 2) if twice else sound, (1 + twice) * RATE)
    shutil.copy(tones, folder)
    return folder / "manifest.csv"


def test_pictures_at_the_recordings_own_rates(of_two_rates):
    corpus = Manifest(of_two_rates)
    clips = [clip for clip in corpus.recordings() if clip.path.startswith("low")][:13]
    batch, resampled = (
        ClipBatches(corpus, clips, feature, 0.4, "pad", "float32", landmarks=True)[range(len(clips))]
        for feature in (OwnRateSpectrogram(), Spectrogram())
    )
    rates = set()
    for clip, picture, other in zip(clips, batch[1], resampled[1], strict=True):
        sound, rate = soundfile.read(of_two_rates.parent / clip.path, dtype="float32")
        centre = sound[round(0.05 * rate) : round(0.05 * rate) + round(0.4 * rate)]
        np.testing.assert_array_equal(picture, Spectrogram()(torch.from_numpy(centre)[None])[0])
        assert (picture == other).all() == (rate == RATE)
        rates.add(rate)
    assert rates == {RATE, 2 * RATE} and not any(batch[2])
    for own, at_one_rate in zip(batch[3], resampled[3], strict=True):  # sounds are found again, whatever their rate
        assert own and own == at_one_rate


def test_a_model_of_own_rates_predicts_as_it_was_tested(stage, of_two_rates, tmp_path):
    config = yaml.safe_load(Path(stage(normalize=None, encoder=timm_encoder(in_chans=1))).read_text())
    config["data"]["corpus"]["init_args"]["root"] = str(of_two_rates)
    config["data"]["feature"]["class_path"], config["data"]["clip_s"] = OWN_RATE, 0.5  # whole recordings
    config["trainer"] |= {"max_epochs": 1, "limit_train_batches": 2}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    run = cli.main(["fit", "--config", str(tmp_path / "own.yaml")]).run_folder
    cli.main(["test", "--config", str(run.config)])
    tested = pd.read_csv(run.path / "predictions.csv").set_index("clip")
    recordings = [str(of_two_rates.parent / name.partition("#")[0]) for name in tested.index]
    predicted = cry.predict(recordings, run.best, out=tmp_path / "predicted.csv")
    for name in ("low", "high"):
        np.testing.assert_allclose(predicted[f"score_{name}"], tested[f"score_{name}"], atol=1e-5)
    one_rate = r"best.ckpt: OwnRateSpectrogram takes each recording at its own sample rate, and (a graph|robustness) is"
    with pytest.raises(UserError, match=one_rate):
        cry.export(run.best)
    with pytest.raises(UserError, match=one_rate):
        ModelUnderTest(run.best, "own", "cpu", Trust())
    of_waveforms = ["--data.feature=Waveform", f"--model.init_args.front_end={OWN_RATE}", "--name=waveforms"]
    with pytest.raises(UserError, match=r"which waveforms no longer have; make it data\.feature"):
        cli.main(["fit", "--config", str(tmp_path / "own.yaml"), *of_waveforms])


@pytest.mark.slow
def test_a_stage_on_pictures_is_fitted_tested_and_made_again_without_the_file_of_weights(stage, weights, tmp_path):
    file = shutil.copy(weights("test_resnet"), tmp_path / "published.pth")
    head = {"class_path": "cry_lightning.tasks.heads.MLPHead", "init_args": {"hidden": [8]}}
    folder = cli.main(["fit", "--config", stage(timm_encoder(checkpoint_path=str(file)), head=head)]).run_folder
    data = cli.main(["test", "--config", str(folder.config)]).datamodule
    file.unlink()
    rows = data.rows("test")
    with torch.no_grad():
        scores = TrainedStage(folder.best).stage(data.features.gather(rows)).softmax(-1)
    assert read_run(str(folder.path), "test").leakage.status == "UNKNOWN LINEAGE"  # whose the file's sounds were
    table = pd.read_csv(folder.path / "predictions.csv").set_index("clip")
    wanted = table.loc[[data.clips[row].name for row in rows], ["score_high", "score_low"]]
    np.testing.assert_allclose(scores.numpy(), wanted, atol=1e-5)


@pytest.mark.slow
def test_architectures_by_sizes_are_one_table_and_not_run_again(stage, tmp_path, capsys, monkeypatch):
    config = stage()
    data = tmp_path / "data.yaml"
    data.write_text(yaml.safe_dump(yaml.safe_load(Path(config).read_text())["data"] | {"sampling": {"batch_size": 16}}))
    args = ["--config", config, "--models", "test_resnet", "test_vit", "--sizes", "32x48", "64x64", "--folds", "2"]
    args += ["--out", str(tmp_path / "out"), "--data", str(data)]
    command("architectures", args)
    told = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in told.splitlines() if line.startswith("test_")}
    assert set(rows) == {"test_resnet", "test_vit"} and all(row[-1] == "CLEAN" for row in rows.values())
    metrics = pd.read_csv(tmp_path / "out/metrics.csv").query(
        "level == 'clip' and metric == 'uar' and predictor == 'model'"
    )
    found = {Path(run).name: f"{value:.3f}" for run, value in zip(metrics["run"], metrics["value"], strict=True)}
    for model, row in rows.items():
        assert [row[3], row[6]] == [found[f"{model}-32x48"], found[f"{model}-64x64"]]
    monkeypatch.setattr("cry_lightning.studies.engine.train", lambda *_: pytest.fail("trained again"))
    command("architectures", args)
    assert told.splitlines()[-6:] == capsys.readouterr().out.splitlines()[-6:]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--models", "test_vit", "--sizes", "60x90"], "test_vit: cuts pictures into patches of 16x16"),
        (["--models", "resnet18", "--sizes", "64x96", "16x16"], "resnet18: .* so 16x16 is too small"),
        (["--models", "resnt18"], "^--models: timm has no network resnt18; did you mean resnet18"),
        (["--models", "nosuch"], r"^--models: timm has no network nosuch; timm\.list_models\(\) names all"),
        (["--sizes", "60"], "60: say height x width in pixels, such as 60x90"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(stage, args, message):
    with pytest.raises(UserError, match=message):
        command("architectures", ["--config", stage(), *args])


@pytest.mark.parametrize(("on_pictures", "key"), [(False, "data.feature.size"), (True, "model.encoder.model_name")])
def test_networks_are_compared_on_a_stage_that_has_pictures_and_one_of_timm(tones, tmp_path, on_pictures, key):
    config = stage_config(tones, tmp_path)
    config["data"] |= {"feature": PICTURE} if on_pictures else {}
    (tmp_path / "stage.yaml").write_text(yaml.safe_dump(config))
    message = rf"stage\.yaml: {key}: no such key; give a stage on pictures .*configs/papers/le2020/resnet50\.yaml"
    with pytest.raises(UserError, match=message):
        command(
            "architectures", ["--config", str(tmp_path / "stage.yaml"), "--models", "test_resnet", "--sizes", "32x48"]
        )
