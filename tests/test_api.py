"""The commands as functions, and a trained stage in the hands of Python."""

import ast
import inspect
import io
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from lightning import Trainer
from made import RATE, write_run
from test_evaluation import by_hand
from test_predict import changed
from torch.utils.data import DataLoader

import cry_lightning as cry
from cry_lightning.commands.arguments import arguments_of, first_sentence, parse, section
from cry_lightning.console import UserError
from cry_lightning.evaluation import predictions
from cry_lightning.inference.predictor import Predictor
from cry_lightning.tasks import Classifier, SimCLR

PACKAGE = Path(cry.__file__).parent
FUNCTIONS = [getattr(cry, name) for name in cry.COMMANDS]


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(round(seconds * RATE)) / 10).astype(np.float32)


@pytest.fixture
def recording(tmp_path) -> Path:
    soundfile.write(tmp_path / "own.wav", sound(1.7), RATE, subtype="FLOAT")
    return tmp_path / "own.wav"


@pytest.fixture
def model(pretrained) -> Predictor:
    return cry.load(pretrained)


def in_a_process(script: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_function_tells_what_it_does_and_each_argument(function):
    told = [argument for argument in arguments_of(function) if argument.about]
    assert first_sentence(function.__doc__) and section(function, "Example")[0].startswith("python -m cry_lightning ")
    assert len(told) == len(arguments_of(function))


def test_functions_are_found_whatever_rooms_of_their_names_were_imported():
    import cry_lightning.describe.command
    import cry_lightning.studies.tune_report  # noqa: F401

    assert all(inspect.isfunction(getattr(cry, name)) for name in cry.__all__)
    assert {*cry.__all__} <= {*dir(cry)}
    assert not hasattr(cry, "nothing")


def test_importing_the_package_takes_no_library_that_takes_seconds():
    heavy = "{'torch', 'lightning', 'pandas', 'matplotlib', 'scipy', 'sklearn', 'yaml', 'numpy'}"
    script = f"import sys, cry_lightning as cry; cry.evaluate; cry.fit; print(sorted({heavy} & set(sys.modules)))"
    assert in_a_process(script) == ["[]"]


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_import(child)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_calls_at_import_what_changes_global_state(path):
    nodes = list(at_import(ast.parse(path.read_text(encoding="utf-8"))))
    called = {ast.unparse(node.func).rpartition(".")[2] for node in nodes if isinstance(node, ast.Call)}
    assert not called & {"filterwarnings", "simplefilter", "setLevel", "basicConfig", "set_verbosity", "setdefault"}
    assert not called & {"disable", "seterr", "putenv", "manual_seed", "set_num_threads", "use", "update"}
    targets = [ast.unparse(one) for node in nodes if isinstance(node, ast.Assign) for one in node.targets]
    assert not [target for target in targets if "environ" in target]


@pytest.mark.slow
def test_importing_all_of_it_changes_no_global_state():
    script = """
import json, logging, os, pkgutil, warnings
import h5py, lightning.pytorch.cli, matplotlib.figure, optuna, pooch, scipy.signal, sklearn.pipeline, timm, torchaudio
from importlib import import_module

def state():
    loggers = {name: one.level for name, one in logging.root.manager.loggerDict.items() if hasattr(one, "level")}
    return [list(map(str, warnings.filters)), loggers, logging.root.level, len(logging.root.handlers),
            dict(os.environ), optuna.logging.get_verbosity()]

before = state()
import cry_lightning
names = [one.name for one in pkgutil.walk_packages(cry_lightning.__path__, "cry_lightning.")]
names = [name for name in names if not name.startswith("cry_lightning.configs")]
for name in names:
    import_module(name)
after = state()
after[1] = {name: level for name, level in after[1].items() if name in before[1]}
print(json.dumps([len(names), [a == b for a, b in zip(before, after)]]))
"""
    count, same = json.loads(in_a_process(script)[-1])
    assert count > 100 and same == [True] * 6


def test_onnxruntime_calls_nobody_however_it_is_loaded():
    """It reads the variable when it is imported, which no function of the package precedes."""
    script = """
import os, sys
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
import cry_lightning as cry
cry.load
print("onnxruntime" in sys.modules, os.environ["ORT_DISABLE_TELEMETRY"])
"""
    assert in_a_process(script)[-1] == "False 1"


def test_mistakes_are_the_same_as_those_of_the_commands(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such run; name the folder of a run"):
        cry.evaluate("nowhere")
    with pytest.raises(UserError, match=r"--split: invalid choice: 'train' \(choose from test, val\)"):
        cry.evaluate(str(tmp_path), split="train")
    with pytest.raises(UserError, match=r"--jobs: 0: 1 or more folds are needed"):
        cry.cross_validate("configs/finetune.yaml", jobs=0)
    with pytest.raises(UserError, match=r"trainer\.max_epoch"):
        cry.fit("configs/finetune.yaml", {"trainer.max_epoch": 3})
    with pytest.raises(UserError, match="give a list of arguments"):
        cry.cross_validate("configs/finetune.yaml", overrides="--data.clip_s=1")
    with pytest.raises(UserError, match="give a list of arguments, or a table of keys and values, not '3'"):
        cry.fit("configs/finetune.yaml", 3)
    for call, name in ((cry.fit, "config"), (cry.test, "config"), (cry.load, "path"), (cry.predict, "paths")):
        with pytest.raises(UserError, match=f"^{name}: a value is wanted, not None"):
            call(None, *["x.ckpt"] * (call is cry.predict))
    (tmp_path / "best.ckpt").touch()
    for device in ("tpu", "cpuu", "cuda:x"):
        with pytest.raises(UserError, match=f"--device {device}: is none of auto, cpu, cuda and cuda:NUMBER"):
            cry.load(tmp_path / "best.ckpt", device=device)
    with pytest.raises(UserError, match="--device cuda:99: torch finds no such GPU here"):
        cry.load(tmp_path / "best.ckpt", device="cuda:99")
    with pytest.raises(UserError, match="--detect: True or False is wanted, not 'no'"):
        cry.predict(tmp_path, tmp_path / "best.ckpt", detect="no")
    with pytest.raises(TypeError, match="wieghts"):
        cry.fuse(["a", "b"], out="c", wieghts=1)


@pytest.mark.parametrize("many", [[f"{n}.wav" for n in range(999)], np.zeros(999), (Path(f"{n}") for n in range(999))])
def test_many_values_for_one_are_told_in_a_short_line(many, tmp_path):
    (tmp_path / "best.ckpt").touch()
    with pytest.raises(UserError, match=r"--ckpt: one value is wanted, not several \((list|ndarray|generator)\)$"):
        cry.predict(tmp_path / "best.ckpt", many)
    with pytest.raises(UserError, match="--device: one value is wanted"):
        cry.predict(tmp_path, tmp_path / "best.ckpt", device=many)


@pytest.mark.slow
def test_fit_test_and_evaluate(stage, capsys):
    run = cry.fit(stage("own"), {"trainer.max_epochs": 1, "data.split": {"val": 0.25, "test": 0.25}})
    assert run.parts[-2:] == ("tones", "own") and cry.test(run / "config.yaml") == run
    metrics = cry.evaluate(run)
    kept = pd.read_csv(run / "metrics.csv").fillna({"class": ""})
    pd.testing.assert_frame_equal(metrics, kept, check_dtype=False)
    assert "Report:" in capsys.readouterr().out


@pytest.mark.slow
def test_evaluate_returns_what_metrics_csv_holds(tmp_path):
    table = by_hand()
    run = write_run(tmp_path / "run", table, trained_on="nobody")
    metrics = cry.evaluate([run], out=tmp_path / "out")
    kept = pd.read_csv(tmp_path / "out/metrics.csv")
    assert list(metrics.columns) == list(kept.columns) and len(metrics) == len(kept)
    assert np.allclose(metrics["value"], kept["value"], equal_nan=True)
    assert predictions.read(run / "predictions.csv")["clip"].nunique() == len(table)


def test_predictions_of_a_path_a_folder_and_a_waveform_are_those_of_the_command(model, pretrained, recording, tmp_path):
    table = cry.predict(recording, ckpt=pretrained, out=tmp_path / "out.csv")
    assert len(table) > 1 and list(pd.read_csv(tmp_path / "out.csv")["predicted"]) == list(table["predicted"])
    numbers = ["start_s", "duration_s", *(f"score_{name}" for name in model.classes)]
    for given in (recording, [str(recording)], sound(1.7), torch.from_numpy(sound(1.7))):
        found = model(given)
        assert np.abs(found[numbers].to_numpy() - table[numbers].to_numpy()).max() < 1e-6
    assert set(model(sound(1.7))["path"]) == {"waveform"}


def test_nothing_is_written_that_is_not_named(pretrained, recording, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder = {"data.cache.folder": str(tmp_path / "cache")}
    for _ in range(2):  # as a cell of a notebook that is run again
        assert len(cry.predict(recording, pretrained)) > 1
        assert len(cry.embed(recording.parent, pretrained, overrides=folder)) > 1
    assert not list(Path().iterdir()) and not capsys.readouterr().out
    assert parse(cry.predict, ["a.wav", "--ckpt", str(pretrained)])["out"] == Path("predictions.csv")
    assert parse(cry.embed, ["a", "--ckpt", str(pretrained)])["out"] == Path("embeddings.h5")


def test_a_waveform_at_another_rate_is_heard_as_its_file(model, tmp_path):
    twice = np.repeat(sound(1.0), 2)
    soundfile.write(tmp_path / "twice.wav", twice, 2 * RATE, subtype="FLOAT")
    scores = [f"score_{name}" for name in model.classes]
    ours, its = model(twice, sample_rate=2 * RATE), model(tmp_path / "twice.wav")
    assert np.abs(ours[scores].to_numpy() - its[scores].to_numpy()).max() < 1e-6


def test_threads_that_share_a_model_get_what_each_would_alone(tested, tmp_path):
    model = cry.load(tested)
    numbers = ["start_s", "novelty", *(f"score_{name}" for name in model.classes)]
    sounds = [sound(0.5 + 0.4 * (number % 4), number) for number in range(9)]
    calls = [lambda sound: model(sound)[numbers], model.embed, lambda sound: model.get_scene_embeddings(sound)]
    jobs = [(calls[number % 3], one) for number, one in enumerate(sounds)]
    alone = [np.asarray(call(one)) for call, one in jobs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: np.asarray(job[0](job[1])), 2 * jobs))
    assert all(np.array_equal(one, other) for one, other in zip(found, 2 * alone, strict=True))
    path = tmp_path / "asked.wav"
    soundfile.write(path, sounds[0], RATE)
    asking = (one for one in [path] if len(model(one)))  # whoever lists the recordings may ask the model, too
    assert model(asking)[numbers].equals(model(path)[numbers])
    again = pickle.loads(pickle.dumps(model))  # as other processes are sent it
    assert np.array_equal(again(sounds[0])[numbers], alone[0])


def test_silence_is_an_empty_table_that_says_so(pretrained, tmp_path):
    def cut(checkpoint: dict) -> None:
        windows = {"window_s": 0.5, "hop_s": 0.5, "min_active_db": -50.0}
        checkpoint["datamodule_hyper_parameters"]["corpus"]["init_args"].update(windows)

    model = cry.load(changed(pretrained, tmp_path / "cut.ckpt", cut))
    silence = np.zeros(RATE, np.float32)
    soundfile.write(tmp_path / "silence.wav", silence, RATE)
    for found, width in ((model(silence), len(model(sound(1.0)).columns)), (model.embed(silence), 4)):
        assert found.shape == (0, width)
        assert found.attrs["empty"] == {"waveform": "nowhere above -50.0 dB, as the model's windows were"}
        assert not found.attrs["failed"]
    assert model(silence, detect=True).attrs["empty"] == {"waveform": "no cry was found"}
    whole = cry.load(pretrained).embed([tmp_path / "silence.wav"])
    assert whole.attrs["empty"] == {str(tmp_path / "silence.wav"): "silent, every sample at 0 s is zero"}
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(UserError, match=r"no recording could be used: .*text\.wav: cannot be decoded"):
        model.embed(tmp_path / "text.wav")
    some = model.embed([tmp_path / "text.wav", tmp_path / "silence.wav"])
    assert list(some.attrs["failed"]) == [str(tmp_path / "text.wav")] and len(some.attrs["empty"]) == 1


@pytest.mark.parametrize(
    "given", [None, 3, np.float32(0.1), io.BytesIO(b"RIFF"), b"a.wav"], ids=lambda one: str(type(one))
)
def test_what_is_no_sound_is_named(model, given):
    kind = type(given).__name__
    with pytest.raises(
        UserError, match=f"give paths of recordings, or one waveform .N,. at a time as an array, not {kind}"
    ):
        model(given)


def test_what_is_no_waveform_is_refused(model):
    with pytest.raises(UserError, match="one waveform"):
        model(np.zeros((2, RATE)))
    with pytest.raises(UserError, match=r"a waveform has the shape"):
        model(np.zeros((1, 2, RATE)))
    assert model(np.zeros(RATE)).empty  # a silent one is a waveform
    for odd in ([np.zeros(RATE)], [0.1, 0.2]):
        with pytest.raises(UserError, match="give paths of recordings, or one waveform"):
            model(odd)
    for value in (np.nan, np.inf):
        with pytest.raises(UserError, match="NaN or infinite"):
            model.get_scene_embeddings(np.full((1, RATE), value, np.float32))
    for call in (model, model.embed, model.get_scene_embeddings):
        with pytest.raises(UserError, match=r"waveform: its samples reach .*divide those of 16 bits by 32768"):
            call(32768 * sound(1.0))
    assert len(model(3 * sound(1.0) / np.abs(sound(1.0)).max())) > 0  # a recorder of floats may go beyond 1
    with pytest.raises(UserError, match=r"no recording could be used: waveform: 10 samples"):
        model(sound(1.0)[:10])
    with pytest.raises(UserError, match="are of one length"):
        model.get_scene_embeddings([[0.1] * RATE, [0.1]])
    with pytest.raises(UserError, match="hop_ms '50'"):
        model.get_timestamp_embeddings(sound(1.0), "50")
    bfloat = torch.from_numpy(sound(1.0)).bfloat16()
    assert torch.equal(model.get_scene_embeddings(bfloat), model.get_scene_embeddings(bfloat.float()))
    for dtype in (bool, complex, object):
        with pytest.raises(UserError, match="a waveform has samples between -1 and 1, not"):
            model.get_scene_embeddings(np.zeros((1, RATE), dtype))
    with pytest.raises(UserError, match=r"nowhere\.ckpt: no such checkpoint"):
        cry.load("nowhere.ckpt")


def test_a_sample_rate_is_of_a_waveform_and_plausible(model, recording):
    for rate in (1, 2**31, 8000.5, np.nan, "8000", True):
        with pytest.raises(UserError, match=f"sample_rate {rate!r}: is a whole number of Hz, 2,000 to 768,000"):
            model(sound(1.0), rate)
    assert len(model(sound(1.0), np.int64(RATE))) == len(model(sound(1.0), float(RATE))) == len(model(sound(1.0)))
    with pytest.raises(UserError, match="sample_rate: is of a waveform"):
        model(recording, 44100)


def test_embeddings_are_those_of_the_command(model, pretrained, recording, tmp_path):
    folder = tmp_path / "strangers"
    folder.mkdir()
    recording.rename(folder / "own.wav")
    table = cry.embed(
        folder, ckpt=pretrained, out=tmp_path / "e.h5", overrides={"data.cache.folder": tmp_path / "cache"}
    )
    assert list((tmp_path / "cache").glob("*.json"))  # a path is taken as it is
    with h5py.File(tmp_path / "e.h5") as file:
        assert np.abs(file["embeddings"][()] - table.to_numpy()).max() == 0
    ours = model.embed(folder / "own.wav")
    assert ours.shape == table.shape and np.abs(ours.to_numpy() - table.to_numpy()).max() < 1e-6
    assert np.abs(model.embed(sound(1.7)).to_numpy() - table.to_numpy()).max() < 1e-6
    assert model.embed(sound(1.7)).index[0].startswith("waveform#0.000")


def test_scene_embeddings_are_the_mean_of_the_windows(model):
    audio = torch.stack([torch.from_numpy(sound(1.7, seed)) for seed in range(3)])
    scenes = model.get_scene_embeddings(audio)
    assert scenes.shape == (3, model.scene_embedding_size) and scenes.dtype == torch.float32
    for waveform, scene in zip(audio, scenes, strict=True):
        assert np.abs(model.embed(waveform).to_numpy().mean(0) - scene.numpy()).max() < 1e-5
    assert model.get_scene_embeddings(audio[:, :100]).shape == scenes.shape  # shorter than a window


def test_timestamp_embeddings_are_of_clips_around_their_times(model):
    audio = torch.from_numpy(sound(2.0)).unsqueeze(0)
    embeddings, times = model.get_timestamp_embeddings(audio)
    assert embeddings.shape == (1, 40, model.timestamp_embedding_size)
    assert times.shape == (1, 40) and np.allclose(times[0].numpy(), np.arange(40) * 50.0)
    length_s = model.trained.fitting["clip_s"]
    first = round((1.0 - length_s / 2) * RATE)
    clip = audio[:, first : first + round(length_s * RATE)]
    with torch.inference_mode():
        expected = model.trained.stage.embed(model.trained.front_end(clip.numpy()))[0]
    assert (expected - embeddings[0, 20]).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(10,), (1, 10), (RATE, 2)])
@pytest.mark.parametrize("call", ["get_scene_embeddings", "get_timestamp_embeddings"])
def test_waveforms_that_are_too_short_have_no_embedding(model, call, shape):
    """Samples before channels would be so many waveforms of two samples."""
    with pytest.raises(UserError, match=r"samples are too short for a clip, which has 80 or more; .* shape \(n, N\)"):
        getattr(model, call)(np.full(shape, 0.1, np.float32))


def test_embeddings_are_a_sample_apart_at_least(model):
    with pytest.raises(UserError, match=r"^hop_ms 0\.001: .* is 0\.125 ms or more"):
        model.get_timestamp_embeddings(sound(0.5), hop_ms=0.001)


@pytest.fixture
def doubles():
    yield partial(torch.set_default_dtype, torch.float64)
    torch.set_default_dtype(torch.float32)


def test_other_numbers_than_those_of_the_training_are_refused(model, pretrained, doubles):
    doubles()
    config = pretrained.with_name("config.yaml")
    for call in (
        lambda: model(sound(1.0)),
        lambda: model.get_scene_embeddings(sound(1.0)),
        lambda: cry.load(pretrained),
        lambda: Classifier.load_from_checkpoint(pretrained),
        lambda: cry.fit([config], {"overwrite": True}),
    ):
        with pytest.raises(UserError, match=r"torch\.set_default_dtype\(torch\.float64\) is in force"):
            call()


@pytest.mark.parametrize("given", [{"num_classes": 5}, {"strict": False}, {"map_locatoin": "cpu"}])
def test_arguments_that_would_change_nothing_are_refused(pretrained, given):
    with pytest.raises(UserError, match=f"load_from_checkpoint: {next(iter(given))} would change nothing"):
        Classifier.load_from_checkpoint(pretrained, **given)
    Classifier.load_from_checkpoint(pretrained, strict=True, weights_only=True)  # which is so anyway


def test_a_loaded_classifier_predicts_any_batches_in_a_trainer_but_learns_from_data(model, pretrained):
    stage = Classifier.load_from_checkpoint(pretrained)
    features = model.trained.front_end(np.stack([sound(model.trained.fitting["clip_s"], seed) for seed in range(4)]))
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    for rows in ([*features], [{"features": row} for row in features]):
        with torch.no_grad():
            found = torch.cat(trainer.predict(stage, DataLoader(rows, 2)))
            assert torch.allclose(found, stage(features).softmax(-1), atol=1e-6)
    with pytest.raises(UserError, match="Classifier: learns from a CryDataModule; give the Trainer one as datamodule"):
        trainer.fit(stage, DataLoader([*features], 2))


def test_a_forked_process_waits_for_no_thread_of_its_parent(model):
    """Which may be computing as it is forked, and is not there to let go of the lock."""
    with model.trained.lock:
        child = get_context("fork").Process(target=model.get_scene_embeddings, args=(sound(0.5),))
        child.start()
        child.join(20)
    hangs = child.is_alive()
    child.kill()
    assert not hangs and child.exitcode == 0


def test_a_fit_leaves_what_a_notebook_draws_to_its_own_seed(stage):
    config = stage("drawn")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    short = {"trainer.max_epochs": 1, "trainer.limit_train_batches": 1}
    cry.fit([config], short)
    assert torch.equal(torch.rand(2), expected)
    torch.manual_seed(3)
    cry.fit([config], {**short, "seed_everything": False, "overwrite": True})
    assert not torch.equal(torch.rand(2), expected)  # the next fit without a seed begins with other weights


def test_a_classifier_loads_from_its_checkpoint_alone(model, pretrained):
    stage = Classifier.load_from_checkpoint(pretrained)
    assert isinstance(stage, Classifier) and not stage.training and stage.num_classes == len(model.classes)
    state = torch.load(pretrained, weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in stage.state_dict().items())
    with pytest.raises(UserError, match="of a Classifier, not of a SimCLR"):
        SimCLR.load_from_checkpoint(pretrained)


def test_a_checkpoint_that_names_other_code_is_not_loaded(pretrained, tmp_path):
    content = torch.load(pretrained, weights_only=True)
    for field in ("encoder", "_class_path", "_instantiator"):
        hostile = content | {"hyper_parameters": dict(content["hyper_parameters"])}
        named = (
            "os.system" if field.startswith("_") else {"class_path": "os.system", "init_args": {"command": "touch x"}}
        )
        hostile["hyper_parameters"][field] = named
        torch.save(hostile, tmp_path / "hostile.ckpt")
        if field == "_instantiator":  # never looked at
            Classifier.load_from_checkpoint(tmp_path / "hostile.ckpt")
            continue
        with pytest.raises(UserError, match=r"os\.system is not imported unless you trust who wrote it"):
            Classifier.load_from_checkpoint(tmp_path / "hostile.ckpt")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("how", ["trace", "export"])
def test_a_loaded_classifier_is_traced_and_exported(model, pretrained, how):
    stage = Classifier.load_from_checkpoint(pretrained)
    features = model.trained.front_end(np.stack([sound(model.trained.fitting["clip_s"], seed) for seed in range(4)]))
    with torch.no_grad():
        expected = stage(features)
        traced = how == "trace"
        made = torch.jit.trace(stage, features) if traced else torch.export.export(stage, (features,)).module()
        assert (made(features) - expected).abs().max() < 1e-6
