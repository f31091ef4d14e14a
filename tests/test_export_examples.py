"""The examples of docs/export.md: without this package, a model's file gives what `predict` gives."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from exported import NETWORKS, named, write_checkpoint
from made import REPO

import cry_lightning as cry
from cry_lightning.export.check import LIMIT, TorchOutputs, differences, sounds
from cry_lightning.export.graph import WaveformModel

WITHOUT = """
import sys

refused = sys.argv[1:]

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ImportError(name)

sys.meta_path.insert(0, Refused())
"""


MANUAL = (REPO / "docs/export.md").read_text()
CUT = {"corpus": named("x", window_s=0.5, hop_s=0.25, min_active_db=-30.0), "clip_s": 0.5}


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> SimpleNamespace:
    """A model whose windows overlap and are never quiet, as a file, with a recording that is quiet in between."""
    place = tmp_path_factory.mktemp("cut")
    ckpt = write_checkpoint(place / "best.ckpt", data=CUT)
    cry.export(ckpt)
    sound = sounds(8000, 20_000)[0]
    sound[5_000:10_000] *= 0.01
    soundfile.write(place / "cry.wav", sound, 8000, subtype="FLOAT")
    scores = cry.load(ckpt)(place / "cry.wav").filter(like="score_").to_numpy()
    return SimpleNamespace(place=place, sound=sound, scores=scores)


@pytest.mark.slow
def test_the_example_of_the_manual_needs_neither_torch_nor_this_package(cut):
    example = next(block for block in re.findall(r"```python\n(.*?)```", MANUAL, re.DOTALL) if "soundfile" in block)
    (cut.place / "example.py").write_text(WITHOUT + example)
    refused = ("torch", "cry_lightning", "onnx", "scipy", "pandas")
    done = subprocess.run([sys.executable, "-I", "example.py", *refused], cwd=cut.place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    numbers = np.array(re.findall(r"\d\.\d+", done.stdout), float)
    assert len(cut.scores) == 8  # of 9, one is quiet
    assert np.abs(numbers.reshape(cut.scores.shape) - cut.scores).max() < 1e-3


@pytest.mark.slow
def test_a_pt2_file_needs_torch_alone(cut):
    cry.export(cut.place / "best.ckpt", format="pt2")
    example = next(block for block in re.findall(r"```python\n(.*?)```", MANUAL, re.DOTALL) if "pt2" in block)
    sound = sounds(8000, 4000)[0]
    sound.tofile(cut.place / "window.f32")
    ours = 'print(about["classes"], *model(torch.from_file("window.f32", size=4000)[None])[0][0].tolist())'
    (cut.place / "pt2.py").write_text(f"{WITHOUT}{example}{ours}")
    refused = ("cry_lightning", "lightning", "torchaudio", "timm")
    done = subprocess.run([sys.executable, "-I", "pt2.py", *refused], cwd=cut.place, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("['calm', 'cry']"), done.stderr
    found = np.array(done.stdout.split("] ")[1].split(), float)
    assert np.abs(found - cry.load(cut.place / "best.ckpt")(sound).filter(like="score_").to_numpy()[0]).max() < LIMIT


IN_NODE = """
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const ort = createRequire(process.argv[2])("onnxruntime-web");
const load = () => ort.InferenceSession.create("best.onnx", { executionProviders: ["wasm"] });
const sound = new Float32Array(readFileSync("sound.f32").buffer);
"""
EXAMPLE = """
const about = JSON.parse(readFileSync("best.json"));
load().then((session) => probabilities(session, about, sound)).then((rows) => console.log(JSON.stringify(rows)));
"""
WINDOWS = """
const waveform = new ort.Tensor("float32", sound, [4, sound.length / 4]);
load().then((session) => session.run({ waveform })).then((found) => console.log(JSON.stringify(
  Object.fromEntries(Object.entries(found).map(([name, { data, dims }]) => [name, [dims, [...data]]])))));
"""


@pytest.fixture
def in_node():
    """Runs a script on best.onnx and a waveform in WebAssembly; what it prints as JSON."""
    modules = os.environ.get("CRY_LIGHTNING_NODE_MODULES")
    if not modules or shutil.which("node") is None:
        pytest.skip("no node, or CRY_LIGHTNING_NODE_MODULES does not name the folder of `npm install onnxruntime-web`")

    def run(script: str, place: Path, sound: np.ndarray):
        sound.tofile(place / "sound.f32")
        (place / "run.cjs").write_text(IN_NODE + script)
        done = subprocess.run(["node", "run.cjs", f"{modules}/"], cwd=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.slow
def test_the_example_for_browsers_gives_what_predict_gives(cut, in_node):
    metadata_first = next(block for block in re.findall(r"```python\n(.*?)```", MANUAL, re.DOTALL) if "dump" in block)
    subprocess.run([sys.executable, "-c", metadata_first], cwd=cut.place, check=True)
    (functions,) = re.findall(r"```js\n(.*?)```", MANUAL, re.DOTALL)
    rows = in_node(functions + EXAMPLE, cut.place, cut.sound)
    assert list(rows[0]) == ["calm", "cry"] and len(rows) == len(cut.scores)
    assert np.abs(np.array([list(row.values()) for row in rows]) - cut.scores).max() < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_runs_in_web_assembly(name, in_node, tmp_path):
    encoder, feature, others = NETWORKS[name]
    ckpt = write_checkpoint(tmp_path / "best.ckpt", encoder, feature, **others)
    cry.export(ckpt)
    trained = cry.load(ckpt).trained
    model = WaveformModel(trained)
    windows = sounds(trained.feature.sample_rate, model.window)
    found = {key: np.reshape(data, dims) for key, (dims, data) in in_node(WINDOWS, tmp_path, windows).items()}
    off = differences(TorchOutputs(trained, model), lambda _: found, [windows])
    print(name, {key: f"{value:.1e}" for key, value in off.items()})
    assert found.keys() == set(model.outputs) and max(off.values()) < LIMIT
