"""What a checkpoint or a run's config.yaml names is never run: fields that name classes, by hostile names."""

import shutil
import sys
import zipfile
from copy import deepcopy
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from jsonargparse import Namespace
from made import RATE

from cry_lightning import features
from cry_lightning.__main__ import main
from cry_lightning.cli.stage import ReadCLI
from cry_lightning.console import UserError
from cry_lightning.encoders import Res8
from cry_lightning.inference.model import TrainedStage
from cry_lightning.tasks.checkpoints import read_checkpoint
from cry_lightning.trust.configs import refuse_places
from cry_lightning.trust.names import Trust

TOUCH = ["touch", "CANARY"]
PAYLOADS = {  # class path -> arguments
    "os.system": {"command": "touch CANARY"},
    "posix.system": {"command": "touch CANARY"},
    "subprocess.Popen": {"args": TOUCH},
    "subprocess.run": {"args": TOUCH},
    "subprocess.check_output": {"args": TOUCH},
    "builtins.eval": {"source": "open('CANARY', 'w')"},
    "builtins.exec": {"source": "open('CANARY', 'w')"},
    "builtins.open": {"file": "CANARY", "mode": "w"},
    "runpy.run_path": {"path_name": "evil.py"},
    "importlib.import_module": {"name": "evil"},
    "functools.partial": {"func": "os.system"},
    "pickle.load": {"file": "evil.pkl"},
    "shutil.rmtree": {"path": "precious"},
    "torch.load": {"f": "evil.pkl", "weights_only": False},
    "torch.hub.load": {"repo_or_dir": ".", "model": "evil", "source": "local"},
    "evil.Net": {},
    "evil": {},
    "cry_lightning.cli.stage.sys.exit": {},
    "cry_lightning.cli.runfolder.shutil.rmtree": {"path": "precious"},
    "cry_lightning.cli.runfolder.RunFolder": {"path": "precious"},
    "cry_lightning.__main__.main": {"args": ["prepare"]},
    "torch.nn.modules.module.torch.load": {"f": "evil.pkl", "weights_only": False},
    "torch.nn.Module.load_state_dict": {},
    "timm.models._helpers.load_state_dict": {"checkpoint_path": "evil.pkl", "weights_only": False},
    "timm.models._hub.torch.hub.load": {"repo_or_dir": ".", "model": "evil", "source": "local"},
}
MADE = ["hyper_parameters.encoder", "hyper_parameters.head", "hyper_parameters.loss", "hyper_parameters.normalize"]
MADE += ["hyper_parameters.front_end", "hyper_parameters._class_path", "datamodule_hyper_parameters.feature"]
UNMADE = ["optimisation", "augment", "augment_waveform", "_instantiator", "projector"]
IN_A_CONFIG = [f"model.init_args.{name}" for name in ("encoder", "head", "loss", "normalize", "front_end", "augment")]
IN_A_CONFIG += [f"model.init_args.optimisation{name}" for name in ("", ".optimizer", ".scheduler")]
IN_A_CONFIG += ["model.init_args.scheduler", "model.init_args.augment_waveform", "model"]
IN_A_CONFIG += ["data.corpus", "data.feature", "data.split", "data.probe", "trainer.callbacks", "trainer.logger"]
IN_A_CONFIG += ["trainer.strategy", "trainer.plugins", "trainer.profiler", "checkpoint"]
LISTS = ("augment", "augment_waveform", "callbacks", "logger", "plugins")


@pytest.fixture
def trap(tmp_path, monkeypatch, pretrained):
    """A folder full of what must not run, and a check that nothing did."""
    here = tmp_path / "here"
    (here / "precious").mkdir(parents=True)
    (here / "evil.py").write_text(
        "open('CANARY', 'w')\nfrom torch import nn\nclass Net(nn.Identity): num_features = 4\n"
    )
    (here / "hubconf.py").write_text("open('CANARY', 'w')\n")
    torch.save(Runs(), here / "evil.pkl")
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))

    def untouched() -> bool:
        return not (here / "CANARY").exists() and "evil" not in sys.modules and (here / "precious").exists()

    yield untouched
    sys.modules.pop("evil", None)


class Runs:
    """Pickled code."""

    def __reduce__(self):
        return (exec, ("open('CANARY', 'w')",))


def specified(payload: str) -> dict:
    return {"class_path": payload, "init_args": PAYLOADS[payload]}


def set_in(tree: dict, field: str, value) -> None:
    *above, last = field.split(".")
    for name in above:
        tree = tree[name]
    tree[last] = value


@pytest.fixture
def sound(tmp_path) -> Path:
    soundfile.write(tmp_path / "sound.wav", torch.randn(RATE).numpy() / 10, RATE)
    return tmp_path / "sound.wav"


some_or_all = pytest.mark.parametrize("every", [19, pytest.param(1, marks=pytest.mark.slow)])


@some_or_all
def test_nothing_that_a_checkpoint_names_is_run(trap, pretrained, sound, tmp_path, capsys, every):
    whole, hostile, pairs = torch.load(pretrained, weights_only=True), tmp_path / "runs/tones/hostile/x.ckpt", 0
    shutil.copytree(pretrained.parent, hostile.parent)
    opened = ["--ckpt", str(hostile)]
    commands = [["predict", str(sound), *opened, "--out=p.csv"], ["embed", str(sound.parent), *opened, "--out=e.h5"]]
    commands += [["robustness", *opened, "--out=r", "--kinds=gain"]]
    for number, payload in enumerate(PAYLOADS):
        for place, field in enumerate(MADE):
            if (2 * number + place) % every:
                continue
            content = deepcopy(whole)
            set_in(content, field, payload if field.endswith("_class_path") else specified(payload))
            torch.save(content, hostile)
            assert main(commands[(number + place) % len(commands)]) == 2, (field, payload)
            assert trap(), (field, payload)
            told = capsys.readouterr().err
            assert told.count("\n") == 1 and "Traceback" not in told and payload in told, told
            pairs += 1
        content = deepcopy(whole)
        content["hyper_parameters"] |= {
            name: [specified(payload)] if name in LISTS else specified(payload) for name in UNMADE
        }
        content["hyper_parameters"].pop("projector")
        torch.save(content, hostile)
        TrainedStage(hostile)
        assert trap(), payload
        pairs += len(UNMADE) - 1
    print(f"{pairs} pairs of a field and a payload, 0 ran")
    assert pairs >= (250 if every == 1 else 35)


@some_or_all
def test_nothing_that_the_config_of_a_run_names_is_run(trap, pretrained, tmp_path, capsys, every):
    whole, config, pairs = (
        yaml.safe_load(pretrained.with_name("config.yaml").read_text()),
        tmp_path / "run/config.yaml",
        0,
    )
    config.parent.mkdir()
    payloads = list(PAYLOADS)
    commands = [["test"], ["fit"], ["prepare"], ["picture", str(tmp_path), "--out=pictures"], ["tune", "--trials=1"]]
    commands += [["cross-validate", "--folds=3", "--out=folds"], ["label-efficiency", "--per-class", "2"]]
    for place, field in enumerate(IN_A_CONFIG):
        for number in range(2):
            if (2 * number + place) % every:
                continue
            payload = payloads[(5 * place + number * 3) % len(payloads)]
            content = deepcopy(whole)
            value = payload if (place + number) % 4 == 3 else specified(payload)
            set_in(content, field, [value] if field.rpartition(".")[2] in LISTS else value)
            config.write_text(yaml.safe_dump(content))
            command, *options = commands[(place + number) % len(commands)]
            if command == "tune":
                Path("space.yaml").write_text("data.sampling.batch_size: {low: 1, high: 2}\n")
                options += ["--space=space.yaml"]
            code = main([command, "--config", str(config), *options])
            assert trap(), (command, field, payload)
            told = capsys.readouterr().err
            assert code == 2 and told.count("\n") == 1 and "Traceback" not in told, (command, field, payload, told)
            pairs += 1
    assert pairs >= 2 * len(IN_A_CONFIG) // every


def changed(ckpt: Path, to: Path, **values) -> Path:
    """A copy of a checkpoint with other values at dotted places, `__` between them."""
    content = torch.load(ckpt, weights_only=True)
    for field, value in values.items():
        set_in(content, field.replace("__", "."), value)
    torch.save(content, to)
    return to


TIMM = {"class_path": "timm.create_model", "init_args": {"model_name": "resnet18"}, "dict_kwargs": {"num_classes": 0}}
RES8, MFCC = "cry_lightning.encoders.Res8", "cry_lightning.features.MFCC"
NONSENSE = {
    "window": ({"datamodule_hyper_parameters__corpus__init_args__window_s": 1e-4}, "at least 0.001 s"),
    "clip": ({"datamodule_hyper_parameters__clip_s": 1e9}, "600 s at most"),
    "negative": ({"datamodule_hyper_parameters__clip_s": -1.0}, "clip_s must be above 0"),
    "text": ({"datamodule_hyper_parameters__clip_s": "1"}, "data.clip_s: expected float, not '1'"),
    "nan": ({"datamodule_hyper_parameters__shift_s": float("nan")}, "shift_s: nan is no finite number"),
    "fit": ({"datamodule_hyper_parameters__fit": "padd"}, "data.fit: expected one of pad, repeat, crop"),
    "n_fft": ({"datamodule_hyper_parameters__feature__init_args__n_fft": 10**9}, "n_fft must be at least 1 and"),
    "feature": ({"datamodule_hyper_parameters__feature": [MFCC]}, "data.feature: expected class_path and init_args"),
    "corpus": ({"datamodule_hyper_parameters__corpus": ["x"]}, "data.corpus: expected class_path"),
    "data": ({"datamodule_hyper_parameters": ["feature"]}, "not a checkpoint of a stage"),
    "encoder": ({"hyper_parameters__encoder": [RES8]}, "model.encoder: expected class_path and init_args"),
    "huge": ({"hyper_parameters__encoder__init_args__n_maps": 10**9}, "n_maps: a number larger than"),
    "large": ({"hyper_parameters__encoder__init_args__n_maps": 10**6}, "more numbers than the checkpoint has bytes"),
    "deep": ({"hyper_parameters__head": specified("os.system") | {"class_path": "cry_lightning.tasks.heads.MLPHead",
              "init_args": {"hidden": [1] * 2_000}}}, "parts, which its checkpoint"),
    "picture": ({"hyper_parameters__normalize": {"class_path": "torch.nn.Upsample",
                 "init_args": {"scale_factor": 9e3}}},
                "its network makes"),
    "noise": ({"hyper_parameters__normalize": {"class_path": "cry_lightning.tasks.augment.BackgroundNoise",
               "init_args": {"folder": "/"}}}, "for training alone"),
    "tensor": ({"hyper_parameters__frozen": torch.zeros(2)}, "frozen: a Tensor, where only"),
    "classes": ({"classes": ["a", 1]}, "classes: expected a list of different names"),
    "lineage": ({"lineage": []}, "the lineage is not a table"),
    "weights": ({"state_dict": [1]}, "state_dict"),
    "front_end": ({"CryDataModule": []}, None),
    "hub": ({"hyper_parameters__encoder": TIMM | {"init_args": {"model_name": "hf-hub:a/b"}}}, "from elsewhere"),
    "folder": ({"hyper_parameters__encoder": TIMM | {"init_args": {"model_name": "local-dir:."}}}, "from elsewhere"),
    "overlay": ({"hyper_parameters__encoder": TIMM | {"dict_kwargs": {"pretrained_cfg_overlay": {"file": "evil.pkl"}}}},
                "from elsewhere"),
}  # fmt: skip


@pytest.mark.sampled(6)
@pytest.mark.parametrize("what", NONSENSE)
def test_what_a_checkpoint_tells_is_checked_like_a_yaml(trap, pretrained, sound, tmp_path, capsys, what):
    values, told = NONSENSE[what]
    hostile = changed(pretrained, tmp_path / "hostile.ckpt", **values)
    code = main(["predict", str(sound), "--ckpt", str(hostile), "--out=p.csv"])
    error = capsys.readouterr().err
    if told is None:
        assert code == 0
    else:
        assert code == 2 and error.count("\n") == 1 and told in error, error
    assert trap()


def test_tables_that_hold_each_other_a_billion_times_are_refused_at_once(pretrained, tmp_path):
    table: dict = {"a": 1}
    for _ in range(30):
        table = {"a": table, "b": table}
    with pytest.raises(UserError, match="more than 100000 values"):
        TrainedStage(changed(pretrained, tmp_path / "x.ckpt", hyper_parameters__frozen=table))


def test_weights_of_timm_are_those_of_the_checkpoint(pretrained, tmp_path, monkeypatch):
    """Whatever says to look for them elsewhere."""
    elsewhere = {"pretrained": True, "checkpoint_path": "evil.pkl", "in_chans": 1, "num_classes": 0}
    encoder = TIMM | {"dict_kwargs": elsewhere}
    with pytest.raises(UserError, match="Missing key"):  # so it was made; its weights are not in this checkpoint
        TrainedStage(changed(pretrained, tmp_path / "x.ckpt", hyper_parameters__encoder=encoder))


def test_own_classes_are_trusted_by_name(trap, pretrained, sound, tmp_path, capsys):
    own = "from cry_lightning.encoders import Res8\nclass Net(Res8): ...\n"
    Path("my_package.py").write_text(own)
    ckpt = changed(pretrained, tmp_path / "own.ckpt", hyper_parameters__encoder__class_path="my_package.Net")
    command = ["predict", str(sound), "--ckpt", str(ckpt), "--out=p.csv"]
    try:
        assert main(command) == 2 and "my_package" not in sys.modules
        told = capsys.readouterr().err
        ways = "--trust my_package, or in Python trust=['my_package'])\n"
        assert "model.encoder: my_package.Net" in told and told.endswith(ways)
        assert main([*command, "--trust", "my_package"]) == 0 and Path("p.csv").exists()
        config = pretrained.with_name("config.yaml")
        config.write_text(config.read_text().replace(RES8, "my_package.Net"))
        sys.modules.pop("my_package")
        assert main(["test", "--config", str(config)]) == 2 and "my_package" not in sys.modules
        assert main(["test", "--config", str(config), "--trust=my_package", f"--ckpt_path={ckpt}"]) == 0
    finally:
        sys.modules.pop("my_package", None)


def test_a_class_is_found_though_an_older_checkpoint_names_the_file_that_it_stood_in(pretrained, tmp_path):
    old = {
        "hyper_parameters__encoder__class_path": "cry_lightning.encoders.res8.Res8",
        "datamodule_hyper_parameters__feature__class_path": "cry_lightning.features.mfcc.MFCC",
    }
    trained = TrainedStage(changed(pretrained, tmp_path / "old.ckpt", **old))
    assert isinstance(trained.stage.encoder, Res8) and isinstance(trained.feature, features.MFCC)


def test_a_sub_config_that_the_config_of_a_run_names_is_trusted_no_more(trap, pretrained, capsys):
    config = pretrained.with_name("config.yaml")
    content = yaml.safe_load(config.read_text())
    content["model"]["init_args"]["encoder"] = "../encoder.yaml"
    config.with_name("renamed.yaml").write_text(yaml.safe_dump(content))
    (config.parent.parent / "encoder.yaml").write_text("class_path: evil.Net")
    assert main(["fit", "--config", str(config.with_name("renamed.yaml"))]) == 2 and trap()
    assert "model.encoder: evil.Net is not imported" in capsys.readouterr().err


@pytest.mark.parametrize("payload", ["os.system", "subprocess.Popen", "runpy.run_path", "timm.models.load_checkpoint"])
def test_a_head_is_a_class_in_a_stage_yaml_too(trap, stage, tmp_path, payload, capsys):
    arguments = PAYLOADS.get(payload, {"checkpoint_path": "evil.pkl"})
    assert main(["fit", "--config", str(stage(head={"class_path": payload, "init_args": arguments}))]) == 2 and trap()
    assert capsys.readouterr().err.startswith("cry_lightning: error: model.head: ")


def test_files_that_hold_code_are_refused(trap, stage, pretrained, sound, tmp_path, capsys):
    torch.save({"state_dict": {}, "code": Runs()}, "code.ckpt")
    Path("tags.yaml").write_text("name: !!python/object/apply:os.system [touch CANARY]\n")
    commands = [["predict", str(sound), "--ckpt=code.ckpt"], ["fit", f"--config={stage()}", "--ckpt_path=code.ckpt"]]
    commands += [["fit", f"--config={stage()}", "--model.init_args.weights=code.ckpt"], ["fit", "--config=tags.yaml"]]
    commands += [["import-weights", "panns", "code.ckpt", "--to=x.ckpt"], ["paper", "tags.yaml"]]
    commands += [["tune", f"--config={stage()}", "--space=tags.yaml", "--trials=1"], ["describe", "--data=tags.yaml"]]
    for command in commands:
        assert main(command) == 2 and trap(), command
        told = capsys.readouterr().err
        assert "Traceback" not in told and ("tags.yaml" in told or "tags.yaml" not in " ".join(command)), told


def test_a_checkpoint_that_unpacks_to_more_than_its_size_is_refused(pretrained, tmp_path):
    with zipfile.ZipFile(pretrained) as whole, zipfile.ZipFile(tmp_path / "x.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name) if "data.pkl" in name else bytes(10**6))
    with pytest.raises(UserError, match="unpacks to more than its own size"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize("name", ["my package", "a/b", "jsonargparse", ""])
def test_what_is_no_package_cannot_be_trusted(name):
    with pytest.raises(UserError, match="give the name of a package"):
        Trust((name,))


LOGGERS = "lightning.pytorch.loggers"
LEADING = {  # what the loggers of a received config name -> what is said
    "WandbLogger": [
        ({"dict_kwargs": {"settings": {"base_url": "http://127.0.0.1:9"}}}, "settings"),
        ({"init_args": {"settings": {"base_url": "http://127.0.0.1:9"}}}, "settings"),
        ({"init_args": {"entity": "theirs"}}, "entity"),
        ({"init_args": {"log_model": "all"}}, "log_model"),
    ],
    "CSVLogger": [
        ({"init_args": {"save_dir": "victim", "name": "", "version": ""}}, "version and save_dir"),
        ({"init_args": {"save_dir": "{runs}", "name": "../victim"}}, "save_dir"),
        ({"init_args": {"save_dir": "{runs}", "version": "../victim"}}, "version"),
        ({"init_args": {"save_dir": "{runs}/s3://theirs"}}, "save_dir"),
    ],
    "TensorBoardLogger": [({"init_args": {"save_dir": "~/victim"}}, "save_dir")],
    "MLFlowLogger": [({"init_args": {"tracking_uri": "http://127.0.0.1:9"}}, "MLFlowLogger is not")],
}


@pytest.mark.parametrize(("name", "place"), [(name, n) for name, all_ in LEADING.items() for n in range(len(all_))])
def test_the_loggers_of_a_received_config_lead_nowhere(pretrained, tmp_path, monkeypatch, capsys, name, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = pretrained.with_name("config.yaml")
    content = yaml.safe_load(config.read_text())
    arguments, told = deepcopy(LEADING[name][place])
    given = arguments.get("init_args", {})
    if "save_dir" in given:
        given["save_dir"] = given["save_dir"].format(runs=content["runs"])
    logger = {"class_path": f"{LOGGERS}.{name}", **arguments}
    content["trainer"]["logger"] = [logger]
    config.write_text(yaml.safe_dump(content))
    assert main(["test", "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and told in error and "trainer.logger" in error, error
    assert not (tmp_path / "victim").exists() and not pretrained.with_name("predictions.csv").exists()


def test_the_loggers_of_a_run_log_below_all_runs_and_elsewhere_where_they_are_trusted(pretrained, tmp_path):
    config = pretrained.with_name("config.yaml")
    content = yaml.safe_load(config.read_text())
    for place, trust in (("runs", []), ("elsewhere", ["--trust", LOGGERS])):
        logger = {"class_path": f"{LOGGERS}.CSVLogger", "init_args": {"save_dir": str(tmp_path / place / "csv")}}
        content["trainer"]["logger"] = [logger]
        config.write_text(yaml.safe_dump(content))
        assert main(["prepare", "--config", str(config), *trust]) == 0
    assert main(["prepare", "--config", str(config)]) == 2


def test_a_received_config_neither_replaces_a_run_nor_leads_to_others(pretrained, tmp_path, monkeypatch, capsys):
    (tmp_path / "home").mkdir()
    received = tmp_path / "received/config.yaml"
    received.parent.mkdir()
    content = yaml.safe_load(pretrained.with_name("config.yaml").read_text())
    before = pretrained.read_bytes()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path))
    for changes, told in (({"overwrite": True}, "overwrite: "), ({"runs": "~/runs", "name": "new"}, "runs: ")):
        received.write_text(yaml.safe_dump(content | changes))
        assert main(["fit", "--config", str(received)]) == 2
        assert capsys.readouterr().err.startswith(f"cry_lightning: error: {told}")
    assert pretrained.read_bytes() == before and not (tmp_path / "runs/tones/new").exists()
    said = ["--runs=~/runs", "--overwrite=true"]
    refuse_places(Namespace(runs="~/runs", overwrite=True), received, said)


@pytest.mark.parametrize("beside", ["best.ckpt", "predictions.csv", "tune.json"])
def test_a_stage_yaml_beside_files_of_a_run_may_name_yamls(stage, tmp_path, beside):
    (tmp_path / "mfcc.yaml").write_text("class_path: cry_lightning.features.MFCC\n")
    (tmp_path / beside).touch()
    config = stage()
    content = yaml.safe_load(config.read_text())
    content["data"]["feature"] = "mfcc.yaml"
    config.write_text(yaml.safe_dump(content))
    assert isinstance(ReadCLI(["fit", "--config", str(config)]).datamodule.feature, features.MFCC)
