"""`export`: what other programs get of a trained stage gives what PyTorch gives, front end included."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
import torch
from exported import NETWORKS, named, write_checkpoint
from made import REPO
from safetensors.torch import load_file, save_file

import cry_lightning as cry
from cry_lightning import audio
from cry_lightning.__main__ import main
from cry_lightning.console import UserError
from cry_lightning.export import hub as hub_folder
from cry_lightning.export.check import LIMIT, About, TorchOutputs, describe, differences, sounds
from cry_lightning.export.graph import Products, WaveformModel
from cry_lightning.features import MFCC as Mfcc, EfficientATLogMel, Fbank, LogMel, VGGishLogMel, Waveform
from cry_lightning.features.spectrogram import Spectrogram
from cry_lightning.tasks import Detector
from cry_lightning.tasks.checkpoints import CONFIG, LINEAGE, TENSORS, load_encoder, sha256

SHIFTED = {"shift_s": 0.05, "cache": {"dtype": "float16"}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "n_fft"), [(240, None), (241, None), (400, 512), (512, 400), (2, None), (1, None)])
def test_products_are_the_transform(n, n_fft, dtype):
    frames = torch.randn(3, 5, n, dtype=dtype, generator=torch.Generator().manual_seed(0))
    expected = torch.fft.rfft(frames, n_fft)
    with Products() as products:
        found = torch.fft.rfft(frames, n_fft)
        assert torch.equal(torch.fft.rfft(frames, n=n_fft, dim=1, norm="ortho"), found) is False  # left to torch
    assert len(products.bases) == 1 and found.dtype == expected.dtype
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize(
    "arguments",
    [
        {"hop_length": 64, "pad_mode": "constant", "window": torch.ones(256)},
        {"hop_length": 50, "win_length": 200, "window": torch.hann_window(200)},
        {"center": False, "window": torch.hamming_window(256)},
    ],
    ids=["constant", "window", "uncentred"],
)
def test_products_are_the_framed_transform(arguments):
    waveform = torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    expected = torch.stft(waveform, 256, return_complex=True, onesided=True, normalized=False, **arguments)
    with Products() as products:
        found = torch.stft(waveform, 256, return_complex=True, onesided=True, normalized=False, **arguments)
    assert len(products.bases) == 1 and found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "feature",
    [
        Mfcc(),
        LogMel(),
        Fbank(),
        VGGishLogMel(),
        VGGishLogMel(0.97, True),
        EfficientATLogMel(),
        Spectrogram(),
        Waveform(),
    ],
    ids=lambda feature: type(feature).__name__,
)
def test_every_front_end_is_the_same_by_products(feature):
    waveforms = torch.from_numpy(sounds(feature.sample_rate, feature.sample_rate))
    expected = feature(waveforms)
    with Products() as products:
        found = feature(waveforms)
    assert products.bases or isinstance(feature, Waveform)
    assert (found - expected).abs().max() <= LIMIT * expected.abs().max()


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory) -> Path:
    """Of a classifier with margins for shifts, a rounded cache and normalisation."""
    folder = tmp_path_factory.mktemp("exported")
    return write_checkpoint(folder / "best.ckpt", data=SHIFTED, normalize=named("cry_lightning.tasks.MeanSubtraction"))


@pytest.fixture(scope="module")
def exported(ckpt) -> Path:
    """Its ONNX file."""
    (path,) = cry.export(ckpt, licence="cc-by-4.0")
    return path


@pytest.fixture(scope="module")
def onnx_file():
    """Imported where it is used, since that takes a second."""
    from cry_lightning.export import onnx

    return onnx


@pytest.fixture
def model(ckpt):
    return cry.load(ckpt)


@pytest.mark.slow
def test_the_file_gives_what_predict_gives(exported, onnx_file, model):
    run = onnx_file.runner(exported)
    waveforms = sounds(8000, 4000)
    found = run(waveforms)
    for waveform, probabilities, embedding in zip(waveforms, found["probabilities"], found["embedding"], strict=True):
        expected = model(waveform).filter(like="score_").to_numpy()[0]
        assert np.abs(probabilities - expected).max() < LIMIT
        assert np.abs(embedding - model.embed(waveform).to_numpy()[0]).max() < LIMIT * max(1, np.abs(embedding).max())
        assert np.abs(run(waveform[None])["probabilities"][0] - probabilities).max() < 1e-6  # alone
    assert np.ptp(found["probabilities"][:, 0]) > 1e-3


@pytest.mark.slow
def test_the_file_takes_longer_waveforms(exported, onnx_file, model):
    module = WaveformModel(model.trained)
    run = onnx_file.runner(exported)
    for n_samples in (4001, 7321, 16000):
        found, expected = run(sounds(8000, n_samples)), module(torch.from_numpy(sounds(8000, n_samples)))
        assert np.abs(found["probabilities"] - expected[0].detach().numpy()).max() < LIMIT


def metadata(path: Path) -> dict:
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.slow
def test_the_file_tells_what_it_is_and_nothing_of_this_machine(exported, ckpt):
    about = metadata(exported)
    assert json.loads(about["classes"]) == ["calm", "cry"] and about["licence"] == "cc-by-4.0"
    assert (about["sample_rate"], about["window_samples"]) == ("8000", "4000")
    assert about["length"] == "window_samples or more" and about["checkpoint_sha256"] == sha256(ckpt)
    assert about["lineage"] == "NOT TESTED" and len(about["lineage_sha256"]) == 64 and "decision" not in about
    content = exported.read_bytes()
    assert b"secret" not in content and str(REPO).encode() not in content and b"site-packages" not in content


def test_an_app_is_told_all_that_predict_does_before_the_network(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", own := sounds(44_100, 44_100)[0], 44_100, subtype="FLOAT")
    assert np.abs(audio.load(tmp_path / "a.wav", 8000) - soxr.resample(own, 44_100, 8000, quality="HQ")).max() < 1e-6
    told = describe(model.trained, WaveformModel(model.trained), None)
    assert (told["fit"], told["resampling"], told["sample_rate"]) == ("pad", "soxr HQ", 8000)
    assert told["front_end"]["class_path"].endswith(".MFCC") and told["front_end"]["hop_length"]
    manual = (REPO / "docs/export.md").read_text().partition("What the file says of itself")[2]
    table = "".join(line.split("|")[1] for line in manual.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", table)) == About.__required_keys__ | About.__optional_keys__


def test_a_short_recording_is_fitted_as_the_metadata_say(tmp_path):
    """By the rules of the manual, for the counts of missing samples that are odd, too."""
    for fit in ("pad", "repeat"):
        trained = cry.load(write_checkpoint(tmp_path / f"{fit}.ckpt", data={"fit": fit}))
        graph = WaveformModel(trained.trained)
        sound = sounds(8000, 1501)[0]
        padded = np.pad(sound, ((4000 - 1501) // 2, (4000 - 1501) // 2 + 1))
        window = {"pad": padded, "repeat": np.tile(sound, 3)[:4000]}[fit]
        expected = trained(sound).filter(like="score_").to_numpy()
        with torch.inference_mode():
            found = graph(torch.from_numpy(window[None]))[0].numpy()
        assert np.abs(found - expected).max() < 1e-6


@pytest.mark.slow
def test_eight_bits_are_smaller_and_leave_the_front_end(exported, onnx_file, tmp_path, caplog):
    import onnx

    path = tmp_path / "int8.onnx"
    shutil.copy(exported, path)
    before, sound = onnx_file.runner(exported), sounds(8000, 4000)
    difference = differences(before, onnx_file.reduce_to_int8(path), [sound])
    assert 0 < difference["probabilities"] < 0.1 and not caplog.records
    nodes = onnx.load(path).graph.node
    front_end = [node for node in nodes if node.name.startswith(onnx_file.PREFIX)]
    assert {node.op_type for node in front_end} >= {"MatMul"} and not any("Integer" in n.op_type for n in front_end)
    assert any(node.op_type == "ConvInteger" for node in nodes)


@pytest.fixture(scope="module")
def folder(ckpt, tmp_path_factory) -> Path:
    """As a folder for the hub."""
    (path,) = cry.export(ckpt, format="hub", out=tmp_path_factory.mktemp("hub") / "model")
    return path


def test_a_folder_is_loaded_as_the_same_model(folder, model, tmp_path):
    again, sound = cry.load(folder), sounds(8000, 9000)[0]
    assert again.classes == model.classes and again.trained.lineage == model.trained.lineage
    assert np.array_equal(again(sound).filter(like="score_"), model(sound).filter(like="score_"))
    assert np.array_equal(again.embed(sound), model.embed(sound))
    soundfile.write(tmp_path / "cry.wav", sound, 8000, subtype="FLOAT")
    table = cry.predict(tmp_path / "cry.wav", ckpt=folder, out=tmp_path / "out.csv")
    assert np.abs(table.filter(like="score_").to_numpy() - again(sound).filter(like="score_").to_numpy()).max() < 1e-6
    load_encoder(again.trained.stage.encoder, folder)  # and as the weights of another stage


@pytest.fixture(scope="module")
def tested_folder(tested, tmp_path_factory) -> Path:
    """The folder of a tested run."""
    return cry.export(tested, format="hub", out=tmp_path_factory.mktemp("tested") / "model")[0]


def test_the_folder_of_a_tested_run_calibrates_decides_and_flags_as_the_run_does(tested, tested_folder, tmp_path):
    shutil.copytree(tested_folder, folder := tmp_path / "model")
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    soundfile.write(tmp_path / "tone.wav", sounds(8000, 9000)[0], 8000)
    assert len({path.stat().st_mode for path in tested_folder.iterdir()}) == 1, "who may read one may read all"
    files = [tmp_path / "noise.wav", tmp_path / "tone.wav"]
    expected, found = (cry.predict(files, ckpt=one, out=tmp_path / f"{one.stem}.csv") for one in (tested, folder))
    assert expected["novelty"].notna().all() and expected.filter(like="probability_").notna().all(axis=None)
    pd.testing.assert_frame_equal(found, expected)
    (folder / "reference.safetensors").write_bytes((folder / "reference.safetensors").read_bytes()[:-4])
    with pytest.raises(UserError, match=r"reference.safetensors: missing, damaged, or of another"):
        cry.predict(files, ckpt=folder, out=tmp_path / "out.csv")


def other_widths(tensors: dict, layers: list[str]) -> None:
    for name in ("mean", "scale", "directions"):
        tensors[f"<embedding>.{name}"] = tensors[f"<embedding>.{name}"][..., 1:].contiguous()


def other_layer(tensors: dict, layers: list[str]) -> None:
    """The encoder itself in the place of one of its layers."""
    for key in [key for key in tensors if key.startswith(f"{layers[1]}.")]:
        tensors[key.removeprefix(layers[1])] = tensors.pop(key)
    layers[1] = ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            other_widths,
            r"its reference has \d+ numbers of the layer <embedding>, where the network has \d+; test its run",
        ),
        (other_layer, r"its reference is of layers without maps \("),
    ],
)
def test_a_reference_that_was_made_by_hand_is_refused_in_one_line(tested_folder, tmp_path, change, reason):
    """Whole, with hashes that are right, and of another network."""
    shutil.copytree(tested_folder, folder := tmp_path / "model")
    tensors, content = load_file(folder / "reference.safetensors"), json.loads((folder / "reference.json").read_text())
    change(tensors, content["layers"])
    save_file(tensors, folder / "reference.safetensors")
    content["tensors"] = sha256(folder / "reference.safetensors")
    (folder / "reference.json").write_text(json.dumps(content))
    soundfile.write(tmp_path / "tone.wav", sounds(8000, 9000)[0], 8000)
    with pytest.raises(UserError, match=reason) as refused:
        cry.predict(tmp_path / "tone.wav", ckpt=folder, out=tmp_path / "out.csv")
    assert "\n" not in str(refused.value)


def test_a_folder_has_a_card_and_nothing_of_this_machine(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", CONFIG, LINEAGE, TENSORS]
    card, config = (folder / "README.md").read_text(), json.loads((folder / CONFIG).read_text())
    assert "license: unknown" in card and "calm and cry" in card and "NOT TESTED" in card
    assert config["classes"] == ["calm", "cry"] and config["sample_rate"] == 8000
    assert not any("secret" in path.read_text(errors="ignore") for path in folder.iterdir())
    assert not list(folder.parent.glob("*.part"))


def test_the_card_of_a_tested_run_has_its_results_if_they_are_of_this_checkpoint(own_tested, tested_folder, tmp_path):
    card = (tested_folder / "README.md").read_text()
    for title in ("## Data and subjects", "## Results", "## Limits", "UAR", "infant"):
        assert title in card
    assert card.startswith("---\n") and "tags: [audio]\n" in card and len(re.findall(r"^# ", card, re.MULTILINE)) == 1
    assert str(tmp_path.parent) not in card and "Corpus: Manifest(root=manifest.csv" in card
    of_run = own_tested.with_name("card.md")
    of_run.write_text(of_run.read_text().replace(sha256(own_tested), "0" * 64))
    (folder,) = cry.export(own_tested, format="hub", out=tmp_path / "other")
    assert "## Results" not in (folder / "README.md").read_text()


def rewritten(change):
    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        change(config)
        (folder / CONFIG).write_text(json.dumps(config))

    return damage


def other_tensors(folder: Path) -> None:
    """Whole safetensors, with their hash, of a network that is not the config's."""
    state = load_file(folder / TENSORS)
    save_file({name: tensor for name, tensor in state.items() if "norms" not in name}, folder / TENSORS)
    rewritten(lambda c: c["files"].update({TENSORS: sha256(folder / TENSORS)}))(folder)


def no_tensors(folder: Path) -> None:
    (folder / TENSORS).write_bytes(b"\xff" * 100)
    rewritten(lambda c: c["files"].update({TENSORS: sha256(folder / TENSORS)}))(folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / TENSORS).unlink(), "no model in it, it has no model.safetensors"),
        (lambda folder: (folder / TENSORS).write_bytes(b""), "model.safetensors: damaged, or of another model"),
        (lambda folder: (folder / LINEAGE).write_text("{}"), "lineage.json: damaged, or of another model"),
        (lambda folder: (folder / CONFIG).write_text("{"), "config.json: cannot be read as JSON"),
        (lambda folder: (folder / CONFIG).unlink(), "a folder; name the checkpoint in it"),
        (rewritten(lambda c: c.pop("checkpoint")), "has no tables named checkpoint and files"),
        (rewritten(lambda c: c.update(schema=2)), "schema is 2, where this version reads 1"),
        (rewritten(lambda c: c["checkpoint"].pop("hyper_parameters")), "not a checkpoint of a stage"),
        (rewritten(lambda c: c["checkpoint"].update(classes="ab")), "expected a list of different names"),
        (
            rewritten(lambda c: c["checkpoint"]["hyper_parameters"].update(encoder=named("os.system", command="x"))),
            "os.system is not imported unless you trust who wrote it",
        ),
        (
            rewritten(lambda c: c["checkpoint"]["hyper_parameters"]["encoder"]["init_args"].update(n_maps=100_000)),
            "a network of more numbers than the checkpoint has bytes",
        ),
        (no_tensors, "no safetensors"),
        (other_tensors, "cannot be made into a network .*norms"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_folder_that_was_damaged_is_refused_in_one_line(folder, tmp_path, damage, reason):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    damage(copy)
    with pytest.raises(UserError, match=reason) as refused:
        cry.load(copy)
    assert "\n" not in str(refused.value) and str(copy) in str(refused.value)


def test_what_differs_is_not_written(ckpt, tmp_path, monkeypatch):
    def off(trained, about, folder):
        (folder / "config.json").write_text("{}")
        reference = TorchOutputs(trained, WaveformModel(trained))
        return lambda waveforms: {name: values + 2e-4 for name, values in reference(waveforms).items()}

    monkeypatch.setattr(hub_folder, "write", off)
    with pytest.raises(UserError, match=r"model: not written, its (embedding|probabilities) is off by 0.000\d+"):
        cry.export(ckpt, format="hub", out=tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_mistakes_are_printed_in_one_line(ckpt, folder, tmp_path, capsys, monkeypatch):
    with pytest.raises(UserError, match="--out: names one place"):
        cry.export([ckpt, ckpt], out=tmp_path / "x")
    with pytest.raises(UserError, match="--int8: weights of 8 bits are for --format onnx, not pt2"):
        cry.export(ckpt, format="pt2", int8=True)
    with pytest.raises(UserError, match="model exists already"):
        cry.export(ckpt, format="hub", out=folder)
    with pytest.raises(UserError, match=r"nowhere\.ckpt: no such checkpoint"):
        cry.export("nowhere.ckpt")
    monkeypatch.setattr("cry_lightning.api.models.FOR_ONNX", ("onnx", "not_there"))
    assert main(["export", str(ckpt), "--out", str(tmp_path / "x.onnx")]) == 2
    assert "--format onnx: not_there not installed; pip install onnx not_there" in capsys.readouterr().err


def test_a_detector_is_refused(model):
    model.trained.stage = Detector.__new__(Detector)
    with pytest.raises(UserError, match=r"best\.ckpt: a Detector is not exported"):
        WaveformModel(model.trained)


FIXED = {"vggish", "svm-flatten"}  # networks of one length


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_and_front_end(name, form, tmp_path, capsys):
    encoder, feature, others = NETWORKS[name]
    ckpt = write_checkpoint(tmp_path / "best.ckpt", encoder, feature, **others)
    (path,) = cry.export(ckpt, format=form)  # compares, and refuses above LIMIT
    printed = capsys.readouterr().out
    print(printed)
    assert path == tmp_path / f"best.{form}" and ("N = " in printed) == (name in FIXED)
    assert ("probabilities" in printed.splitlines()[0]) == (name != "simclr-res8")
    if form == "onnx":
        about = metadata(path)
        assert ("classes" in about) == (name != "simclr-res8")
        assert about.get("calibrated") == {"simclr-res8": None, "resnet18-mfcc": "false"}.get(name, "true")


@pytest.mark.slow
def test_who_loads_a_file_of_torch_gets_plain_numbers(ckpt, tmp_path):
    (path,) = cry.export(ckpt, format="pt2", out=tmp_path / "cry.pt2")
    outputs = torch.export.load(path).module()(torch.from_numpy(sounds(8000, 4000)))
    assert not any(output.requires_grad for output in outputs) and outputs[0].numpy().shape[1] == 2


class InNumPy(torch.nn.Module):
    """What no graph holds: a network in NumPy."""

    num_features = 3

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.resize(one.numpy(), 3) for one in features]))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "pt2", "hub"])
def test_what_is_no_graph_is_refused_but_as_a_folder(form, tmp_path):
    ckpt = write_checkpoint(tmp_path / "best.ckpt")
    content = torch.load(ckpt, weights_only=True)
    content["hyper_parameters"]["encoder"] = {"class_path": "test_export.InNumPy"}
    content["state_dict"] = {"head.weight": torch.ones(2, 3), "head.bias": torch.zeros(2)}
    torch.save(content, ckpt)
    if form == "hub":
        assert cry.load(cry.export(ckpt, format=form, trust=["test_export"])[0], trust=["test_export"]).classes
        return
    with pytest.raises(UserError, match="MFCC and InNumPy cannot be traced as a graph"):
        cry.export(ckpt, format=form, trust=["test_export"])
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]
