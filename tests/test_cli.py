"""The command line: its table, its help, and one line for every mistake."""

import json
import os
import re
import subprocess
import sys
from functools import reduce
from importlib import import_module
from inspect import isclass
from operator import getitem
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import TQDMProgressBar
from made import REPO

from cry_lightning import __main__ as command_line, __version__
from cry_lightning.api.evaluation import KINDS
from cry_lightning.api.models import NETWORKS
from cry_lightning.cli import stage as cli
from cry_lightning.cli.stage import ReadCLI
from cry_lightning.commands.arguments import arguments_of, find_shipped
from cry_lightning.commands.signatures import ROOMS
from cry_lightning.console import UserError, first_few, one_line, progress_bar
from cry_lightning.dashboard.runs import is_online
from cry_lightning.encoders.importers import PUBLISHERS
from cry_lightning.inference import embed
from cry_lightning.studies import disturbances


def shell(*args, **kwargs):
    return subprocess.run([sys.executable, "-m", "cry_lightning", *args], capture_output=True, text=True, **kwargs)


FUNCTIONS = [command_line.function_of(command) for command in command_line.COMMANDS]
HEAVY = {"torch", "torchaudio", "lightning", "pandas", "sklearn", "scipy", "av", "matplotlib", "timm"}


def imported_after(commands: list[list[str]]) -> list[set[str]]:
    """Which of the heavy libraries are imported after each of these commands, run one after another in a process."""
    script = (
        "import json, sys\n"
        "from cry_lightning.__main__ import main\n"
        "for args in json.loads(sys.argv[1]):\n"
        "    try:\n"
        "        main(args)\n"
        "    except SystemExit:\n"
        "        pass\n"
        "    print('imported', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, json.dumps(commands)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [HEAVY & set(line.split()) for line in done.stdout.splitlines() if line.startswith("imported ")]
    assert len(told) == len(commands)
    return told


@pytest.mark.slow
def test_a_stage_imports_no_library_of_networks_that_it_does_not_name():
    (imported,) = imported_after([["fit", "--config", "configs/finetune.yaml", "--print_config"]])
    assert "timm" not in imported


MISTAKES = [
    "acquire nowhere out",
    "describe --data nowhere",
    "describe --data configs/data/cries.yaml --data.corpuss=x",
    "fit",
    "fit --config nowhere.yaml",
    "fit --config configs/finetune.yaml --trainer.max_epoch=3",
    "fit --config configs/finetune.yaml --trainer.max_epochs=many",
    "fit --config configs/finetune.yaml --model.init_args.encoder=nothing.yaml",
    "fit --config configs/finetune.yaml --model.init_args.encoder.class_path=cry_lightning.encoders.Res9",
    "fit --config configs/finetune.yaml --name=../..",
    "test --config configs/finetune.yaml --nme=x",
    "evaluate nowhere",
    "predict --ckpt nowhere.ckpt nothing.wav",
    "predict",
    "embed --ckpt nowhere.ckpt nothing",
    "embed --ckpt nowhere.ckpt nothing --out x.csv",
    "cross-validate --config configs/simclr.yaml configs/finetune.yaml --folds 3 --loso",
    "cross-validate --config configs/simclr.yaml configs/finetune.yaml --data.split.vall=0.2",
    "tune --config configs/finetune.yaml --space nowhere.yaml --trials 3",
    "tune --config configs/finetune.yaml --space configs/spaces/finetune.yaml --trials 0",
    "robustness --ckpt nowhere.ckpt --out x",
    "fuse nowhere nothing --out x",
    "paper configs/papers/nobody2000",
    "architectures --config nowhere.yaml",
    "picture --config nowhere.yaml --out x y.wav",
    "label-efficiency --config nowhere.yaml --per-class 5",
    "import-weights honk nowhere.pt --to x.ckpt",
    "prepare --config nowhere.yaml",
    "download nothing",
    "list nothing",
    "nothing",
]


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_told_in_one_line(mistake, monkeypatch, line):
    monkeypatch.chdir(REPO)
    told = mistake(*line.split())
    assert "nowhere.yaml" not in line or "nowhere.yaml" in told or "y.wav" in told


def test_what_is_helped_listed_or_refused_imports_nothing_that_takes_seconds(monkeypatch, tmp_path):
    """Neither help nor a mistake in arguments any of it; neither listing caches nor what cannot be predicted torch."""
    monkeypatch.chdir(REPO)
    (tmp_path / "best.ckpt").touch()
    helped = [[], ["--version"], *([command, "--help"] for command in command_line.COMMANDS)]
    listing = ["prepare", "--list", "--folder", str(tmp_path)]
    line = ["predict", "--ckpt", str(tmp_path / "best.ckpt"), "--out", str(tmp_path / "out.csv"), str(tmp_path)]
    commands = [*helped, *(line.split() for line in MISTAKES), listing, line, [*line, "--hop-s=-1"]]
    *_, told, listed, _, refused = imported_after(commands)
    assert not told
    assert listed <= {"pandas", "av"} and not refused & {"torch", "torchaudio", "lightning"}


def test_the_version_is_told(capsys):
    assert command_line.main(["--version"]) == 0
    assert capsys.readouterr().out == f"cry_lightning {__version__}\n"


def test_help_of_a_stage_fits_two_screens_and_shows_the_arguments_of_its_task(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["fit", "--config", str(REPO / "configs/simclr.yaml"), "--help"])
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 80 and "of SimCLR" in shown and "temperature" in shown and ":param" not in shown


@pytest.mark.slow
def test_shipped_configs_are_found_where_the_current_folder_has_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        command_line.main(["fit", "--config=configs/simclr.yaml", "--print_config"])
    assert stop.value.code == 0 and yaml.safe_load(capsys.readouterr().out)["name"] == "simclr"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/simclr.yaml").write_text("name: own\n")
    assert find_shipped(["--config", "configs/simclr.yaml"]) == ["--config", "configs/simclr.yaml"]


def test_a_torchaudio_that_does_not_load_is_one_line(mistake, stage, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    told = mistake("fit", "--config", stage())
    assert told.startswith("torchaudio does not load with the torch that is installed")


def test_names_known_before_the_import_are_those_known_after():
    networks = {whose: publisher.networks for whose, publisher in PUBLISHERS.items()}
    networks = {whose: tuple(network.__name__.lower() for network in of) for whose, of in networks.items()}
    assert networks == NETWORKS
    choices = {(of.__name__, one.name): one.taken.choices for of in FUNCTIONS for one in arguments_of(of)}
    assert choices["import_weights", "encoder"] == tuple(sorted({one for of in networks.values() for one in of}))
    assert tuple(disturbances.KINDS) == KINDS == choices["robustness", "kinds"]
    assert get_args(embed.Method) == choices["embed", "method"]


@pytest.fixture
def mistake(capsys):
    """Runs a command that must fail as a user's mistake, and returns its message."""

    def run(*args) -> str:
        assert command_line.main([str(arg) for arg in args]) == 2
        *_, line = capsys.readouterr().err.splitlines()  # after the progress bars
        assert line.startswith("cry_lightning: error: ")
        return line.removeprefix("cry_lightning: error: ")

    return run


def changed(path: Path, change) -> Path:
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(("given", "used"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_environment_says_otherwise(given, used):
    code = (
        "import os, sys; from cry_lightning.__main__ import main; main(['list', 'losses']);"
        " print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"  # it is read when torch is imported
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"False {used}"


def test_unknown_command(mistake):
    assert mistake("evalute").endswith("unknown command 'evalute'; did you mean evaluate?")
    assert "unknown command 'xx'; the commands are " in mistake("xx")


ON_THE_COMMAND_LINE = {
    "--model.init_args.wieghts=x": "model.wieghts: no such key; did you mean weights?",
    "--model.wieghts=x": "model.wieghts: no such key; did you mean weights?",
    "--data.split.vall=0.2": "data.split.vall: no such key; did you mean val?",
    "--data.split.val=much": "data.split.val: expected float, not much",
    "--data.sampling.batch_size=many": "data.sampling.batch_size: expected int, not many",
    "--data.fit=padd": "data.fit: expected 'pad', 'repeat', 'crop', not padd",
    "--seed_everything=x": "seed_everything: expected bool or int, not x",
    "--model.init_args.encoder.init_args.n_map=3": "model.encoder.n_map: no such key; did you mean n_maps?",
    "--model.init_args.encoder=nothing.yaml": "model.encoder: nothing.yaml: no such file, or not YAML with keys in it",
    "--data=nothing.yaml": "data: nothing.yaml: no such file, or not YAML with keys in it",
    "--data.corpus=Manifst": (
        "data.corpus: expected a whole class path, package.module.Class, not Manifst;"
        " did you mean cry_lightning.corpora.Manifest?"
    ),
    "--model.init_args.encoder=ResNet": (
        "model.encoder: expected a whole class path, package.module.Class, not ResNet;"
        " did you mean cry_lightning.encoders.Res8?"
    ),
    "--model.init_args.encoder=cry_lightning.encoder.Res8": (
        "model.encoder: cry_lightning.encoder.Res8: no such class; did you mean cry_lightning.encoders.Res8?"
    ),
    "--model.optimisation.optimizer=torch.optim.AdmaW": (
        "model.optimisation.optimizer: module 'torch.optim' has no attribute 'AdmaW'; did you mean AdamW?"
    ),
    "--trainer.max_epoch=3": "unrecognized arguments: --trainer.max_epoch=3; did you mean --trainer.max_epochs?",
    "--modle.x=1 --nme=x": "unrecognized arguments: --modle.x=1 --nme=x; did you mean --model, --name?",
    "--model.init_args.wieghts=x --data.split.vall=0.2": "model.wieghts: no such key; did you mean weights?",
    "--runs=pretrain.yaml": "runs: pretrain.yaml is a file; name a folder",
    "--data.cache.folder=pretrain.yaml/cache": "data.cache.folder: pretrain.yaml is a file; name a folder",
}


@pytest.mark.parametrize("given", ON_THE_COMMAND_LINE)
def test_mistake_on_the_command_line(mistake, stage, monkeypatch, given):
    monkeypatch.chdir(stage().parent)
    assert mistake("fit", "--config", "pretrain.yaml", *given.split()) == ON_THE_COMMAND_LINE[given]


LR = "optimisation.optimizer.init_args.lr"
IN_THE_YAML = [
    ("model.init_args.wieghts", "x", "model.wieghts: no such key; did you mean weights?"),
    ("model.init_args.encoder.init_args.n_map", 3, "model.encoder.n_map: no such key; did you mean n_maps?"),
    ("model.init_args.encoder.init_args.n_maps", "x", "model.encoder.n_maps: expected int, not x"),
    (f"model.init_args.{LR}", "x", "model.optimisation.optimizer.lr: expected float, not x"),
    ("model.init_args.frozen", 3, "model.frozen: expected bool or list, not 3"),
    (
        "model.init_args.head",
        {"class_path": "torch.nn.Lin"},
        "model.head: module 'torch.nn' has no attribute 'Lin'; did you mean Linear?",
    ),
    ("model.init_arg", {}, "model: give class_path and init_args, and no key beside them"),
    ("model.init_args.encoder", None, "model: the following arguments are required: encoder"),
    ("model.class_path", "torch.nn.Linear", "torch.nn.Linear does not correspond to a subclass of Stage"),
    (
        "data.feature.class_path",
        "cry_lightning.features.MFC",
        "'cry_lightning.features' has no attribute 'MFC'; did you mean cry_lightning.features.MFCC?",
    ),
    ("data.split.vall", 0.2, "data.split.vall: no such key; did you mean val?"),
    ("data.clip_seconds", 1, "data.clip_seconds: no such key; did you mean data.clip_s?"),
    ("data.corpus.init_args.roott", "x", "data.corpus.roott: no such key; did you mean root?"),
    ("checkpoint", {"moniter": "x"}, "checkpoint.moniter: no such key; did you mean checkpoint.monitor?"),
    ("name", None, "the following arguments are required: name"),
]


@pytest.mark.parametrize("named", ["small.SmallCNN", "cry_lightning.encoders.Res9"])
def test_a_wrong_class_names_the_nearest_wherever_it_is_noticed(stage, named):
    near = {"small.SmallCNN": r"SmallCNN"}.get(named, "Res8")
    with pytest.raises(UserError, match=rf"model\.encoder: .*; did you mean cry_lightning\.encoders\.{near}\?$"):
        cli.main(["fit", "--config", str(stage()), f"--model.init_args.encoder={named}"])


def test_a_logger_that_cannot_be_made_is_refused_with_its_own_reason(stage, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    logger = {"class_path": "lightning.pytorch.loggers.MLFlowLogger"}
    with pytest.raises(UserError, match="mlflow"):
        cli.main(["fit", "--config", str(stage()), f"--trainer.logger={json.dumps([logger])}"])


LISTED = {
    "encoders": {"cry_lightning.encoders.Res8", "cry_lightning.encoders.SmallCNN"},
    "features": {"cry_lightning.features.MFCC", "cry_lightning.features.Spectrogram"},
    "corpora": {"cry_lightning.corpora.Manifest", "cry_lightning.corpora.corpus_at"},
    "augmentations": {"cry_lightning.tasks.augment.SpecAugment"},
    "losses": {"torch.nn.CrossEntropyLoss"},
    "tasks": {"cry_lightning.tasks.SimCLR", "cry_lightning.tasks.Classifier"},
}


@pytest.mark.parametrize("kind", ROOMS)
def test_what_is_listed_is_there_with_a_sentence_and_an_example(capsys, kind):
    assert command_line.main(["list", kind]) == 0
    blocks = [block.splitlines() for block in capsys.readouterr().out.strip().split("\n\n")]
    for path, about, example in blocks:
        module, _, name = path.rpartition(".")
        assert callable(getattr(import_module(module), name)) and len(about) > 20
        given = yaml.safe_load(example.replace("...", "x"))
        found = getattr(import_module(module), name)
        parser = ArgumentParser()  # as it reads a YAML
        add = parser.add_class_arguments if isclass(found) else parser.add_function_arguments
        add(found, "it", fail_untyped=False)
        assert given.pop("class_path") == path
        assert set(given.get("init_args", ())) == {one.dest.split(".")[1] for one in parser._actions if one.required}
        if not given:
            with torch.device("meta"):
                found()
    paths = {path for path, _, _ in blocks}
    assert paths >= LISTED[kind] and not {path for path in paths if path.endswith((".PANN", ".Feature", ".Corpus"))}


@pytest.mark.parametrize(("key", "value", "message"), IN_THE_YAML)
def test_mistake_in_the_yaml(mistake, stage, key, value, message):
    *above, last = key.split(".")
    config = changed(stage(), lambda c: reduce(getitem, above, c).update({last: value}))
    assert mistake("fit", "--config", config).endswith(message)


SUB_CONFIGS = {
    "model.encoder.n_map: no such key; did you mean n_maps?": (
        "{class_path: cry_lightning.encoders.Res8, init_args: {n_map: 4}}"
    ),
    "model.encoder: encoder.yaml: no such file, or not YAML with keys in it": "class_path: cry_lightning: Res8",
    "model.encoder: give class_path and init_args, and no key beside them": "- 3",
}


@pytest.mark.parametrize("message", SUB_CONFIGS)
def test_mistake_in_a_sub_config(mistake, stage, tmp_path, message):
    (tmp_path / "encoder.yaml").write_text(SUB_CONFIGS[message])
    assert mistake("fit", "--config", stage("pretrain", encoder="encoder.yaml")) == message


NO_CONFIGS = {
    b"name: a: b": "FILE: not YAML: mapping values are not allowed in this context line 1, column 8",
    b"name: [a, b": "FILE: not YAML: while parsing a flow sequence",
    b"": "config: FILE: an empty file, and not YAML with keys in it",
    b"- name": "config: FILE: not YAML with keys in it",
    b"\x89PNG\r\n\x1a\n\xff": "config: FILE: a picture, and not YAML",
    b"\xff\x00\x81": "config: FILE: not text, and not YAML",
}


@pytest.mark.parametrize("content", NO_CONFIGS)
def test_config_that_is_none(mistake, tmp_path, content):
    (tmp_path / "stage.yaml").write_bytes(content)
    message = mistake("fit", "--config", tmp_path / "stage.yaml")
    assert message.replace(str(tmp_path / "stage.yaml"), "FILE").startswith(NO_CONFIGS[content])


@pytest.mark.parametrize("nested", [False, True])
def test_a_key_that_stands_twice_is_refused_and_not_forgotten(mistake, stage, tmp_path, nested):
    (tmp_path / "twice.yaml").write_text("class_path: x\ninit_args: {}\nclass_path: y\n")
    config = stage("pretrain", encoder="twice.yaml") if nested else tmp_path / "twice.yaml"
    message = mistake("fit", "--config", config)
    assert message == f"{tmp_path / 'twice.yaml'}, line 3: the key class_path stands there twice"


LOOPS = {"itself by name": "{a: config.yaml}", "itself": "&a {b: *a}", "many times the same": None}


@pytest.mark.parametrize("kind", LOOPS)
def test_a_config_that_holds_itself_ends_in_one_line(mistake, tmp_path, kind):
    doubled = "".join(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 40))
    (tmp_path / "config.yaml").write_text(f"a0: &a0 {{}}\n{doubled}" if LOOPS[kind] is None else f"data: {LOOPS[kind]}")
    assert mistake("fit", "--config", tmp_path / "config.yaml")


@pytest.mark.parametrize("recipe", ["configs/studies/speech.yaml", "configs/papers/onu2019/paper.yaml"])
def test_a_recipe_is_no_stage(mistake, recipe):
    told = mistake("fit", "--config", REPO / recipe)
    assert told == f"--config: {REPO / recipe}: a recipe, for `paper`, where a stage's YAML belongs"


def test_missing_config(mistake):
    assert mistake("fit") == "fit: which stage? Give its YAML: --config configs/finetune.yaml"


def test_message_that_goes_on_and_on_is_cut():
    assert one_line("a  b\nc") == "a b c"
    assert len(one_line("word " * 1000)) < 300


def test_what_is_left_of_a_long_list_is_counted():
    assert [first_few("abc", n) for n in (2, 3, 4)] == ["a, b and 1 more", "a, b, c", "a, b, c"]
    assert first_few("abc", 1, "; ", "; and") == "a; and 2 more"


PLAIN_COMMANDS = {
    "evaluate": "the following arguments are required: RUN; see python -m cry_lightning evaluate --help",
    "evaluate --foo x": "unrecognized arguments: --foo; see python -m cry_lightning evaluate --help",
    "evaluate x --split foo": "argument --split: invalid choice: 'foo'",
    "evaluate x --resample 100": "unrecognized arguments: --resample 100;",
    "export --ckpt x": "x: no such checkpoint; name a run's best.ckpt",
    "export --format onnx --ckpt=x": "x: no such checkpoint; name a run's best.ckpt",
    "export --ckpt x --ckpt y": "x: no such checkpoint; name a run's best.ckpt",
    "list --kind nothing": "argument kind: invalid choice: 'nothing'",
    "export --ckpt": "the following arguments are required: CKPT; see python -m cry_lightning export --help",
    "download": "the following arguments are required: corpus; see python -m cry_lightning download --help",
    "download nothing": "argument corpus: invalid choice: 'nothing'",
    "prepare": "give --config STAGE.yaml, --list or --remove NAME; see python -m cry_lightning prepare --help",
    "prepare --lst": "unrecognized arguments: --lst; see python -m cry_lightning prepare --help",
    "prepare --remove": "argument --remove: expected at least one argument;",
}


@pytest.mark.parametrize("line", PLAIN_COMMANDS)
def test_mistake_in_a_command_without_yaml(mistake, line):
    assert mistake(*line.split()).startswith(PLAIN_COMMANDS[line])


def test_pretraining_is_not_tested(mistake, stage):
    config = changed(stage(), lambda c: c["model"].update(class_path="cry_lightning.tasks.base.Stage"))
    message = "this stage has nothing to test: it is a pretraining; probe or fine-tune it"
    assert mistake("test", "--config", config) == message


def test_missing_corpus(mistake, stage):
    config = changed(stage(), lambda c: c["data"]["corpus"]["init_args"].update(root="nowhere/manifest.csv"))
    assert "nowhere/manifest.csv" in mistake("fit", "--config", config)


def test_missing_checkpoint(mistake, stage):
    assert "best.ckpt: no such checkpoint" in mistake("test", "--config", stage())


def test_clip_too_short_for_the_network(mistake, stage):
    config = changed(stage(), lambda c: c["data"].update(clip_s=0.016, shift_s=0.0))
    assert "Res8" in mistake("fit", "--config", config)


def test_a_mistake_is_one_line_and_exit_code_2():
    done = shell("fit", "--config", "nowhere.yaml")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "nowhere.yaml" in done.stderr


def test_ctrl_c_promises_nothing_of_commands_that_begin_anew(monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "run", stop)
    assert command_line.main(["predict"]) == 130
    assert capsys.readouterr().err == "cry_lightning: stopped; give the same command again\n"


@pytest.mark.parametrize("written", ["~/pretrain.yaml", "file://{}/pretrain.yaml"])
def test_a_config_may_be_given_by_home_or_address(stage, monkeypatch, capsys, written):
    folder = stage().parent
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(SystemExit) as stop:
        command_line.main(["fit", f"--config={written.format(folder)}", "--print_config"])
    assert stop.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["name"] == "pretrain"


def test_debug_shows_the_traceback():
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        command_line.main(["fit", "--config", "nowhere.yaml", "--debug"])


@pytest.mark.slow
def test_sub_configs_resolve_from_the_file_that_names_them_two_levels_deep(stage, tmp_path, monkeypatch):
    config = yaml.safe_load(stage().read_text())
    for folder in ("configs/data", "configs/feature", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "configs/feature/mfcc.yaml").write_text(yaml.safe_dump(config["data"]["feature"]))
    (tmp_path / "configs/data/tones.yaml").write_text(
        yaml.safe_dump(config["data"] | {"feature": "../feature/mfcc.yaml"})
    )
    (tmp_path / "configs/stage.yaml").write_text(yaml.safe_dump(config | {"data": "data/tones.yaml"}))
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = cli.main(
        ["fit", "--config", "../configs/stage.yaml", "--data.sampling.batch_size=4", "--trainer.max_epochs=1"]
    )
    assert run.datamodule.sampling.batch_size == 4 and run.datamodule.feature.n_mfcc == 40


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_for_terminals(stage, monkeypatch, capsys, terminal):
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
    assert list(progress_bar("ab", "spelling")) == ["a", "b"]
    assert ("spelling" in capsys.readouterr().err) == terminal
    for given in (True, False, None):
        read = ReadCLI(["fit", "--config", str(stage()), f"--trainer.enable_progress_bar={json.dumps(given)}"])
        assert (read.trainer.progress_bar_callback is not None) == (terminal if given is None else given)
        assert yaml.safe_load(read.dump())["trainer"]["enable_progress_bar"] is given  # and not as it turned out
    own = ["--trainer.enable_progress_bar=null", "--trainer.callbacks+=TQDMProgressBar"]
    assert type(ReadCLI(["fit", "--config", str(stage()), *own]).trainer.progress_bar_callback) is TQDMProgressBar


@pytest.mark.slow
def test_the_bar_shows_epoch_loss_and_the_metric_that_chooses(stage, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "140")
    cli.main(["fit", "--config", str(stage()), "--trainer.enable_progress_bar=true"])
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch 2/2")]
    assert re.search(r"train/loss: [\d.]+ val/uar: [\d.]+ best: [\d.]+ *$", shown[-1]) and "v_num" not in shown[-1]


def test_prepare_builds_lists_and_removes(stage, tmp_path, capsys):
    config = changed(stage(), lambda c: c["data"].update(cache={"folder": str(tmp_path / "cache")}))
    assert command_line.main(["prepare", "--config", str(config)]) == 0
    assert "96 clips, 0 left out" in capsys.readouterr().out
    assert command_line.main(["prepare", "--list", "--folder", str(tmp_path / "cache")]) == 0
    listed = capsys.readouterr().out
    assert "tones" in listed and "MFCC" in listed
    assert command_line.main(["prepare", "--config", str(config), "--verify"]) == 0
    capsys.readouterr()
    (cache,) = (tmp_path / "cache").glob("*.h5")
    assert command_line.main(["prepare", "--remove", cache.stem, "--folder", str(tmp_path / "cache")]) == 0
    assert not cache.exists()


@pytest.mark.parametrize(
    ("key", "mode", "online"),
    [("", None, False), ("k" * 40, None, True), ("k" * 40, "offline", False), ("k" * 40, "disabled", False)],
)
def test_wandb_goes_online_only_with_a_key_and_leave(monkeypatch, tmp_path, key, mode, online):
    monkeypatch.setenv("HOME", str(tmp_path))  # no netrc there
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.delenv("WANDB_MODE") if mode is None else monkeypatch.setenv("WANDB_MODE", mode)
    assert is_online() is online


def test_a_whole_number_of_batches_is_so_many_and_a_fraction_a_share(stage):
    config = str(stage())
    given = {"train": ("1", int), "val": ("1.0", float), "test": ("0.5", float)}
    args = [f"--trainer.limit_{part}_batches={number}" for part, (number, _) in given.items()]
    parsed = ReadCLI(["fit", "--config", config, *args]).config.fit.trainer
    for part, (number, read) in given.items():
        limit = parsed[f"limit_{part}_batches"]
        assert type(limit) is read and limit == float(number)


def test_a_log_has_one_line_for_each_epoch(stage, caplog):
    caplog.set_level("INFO", "cry_lightning")
    cli.main(["fit", "--config", str(changed(stage(), lambda c: c["trainer"].pop("enable_progress_bar")))])
    lines = [record.message for record in caplog.records if "epoch" in record.message]
    assert len(lines) == 2
    assert re.fullmatch(
        r"epoch 2/2  [\d.]+ s  train/loss [\d.]+  val/loss [\d.]+  val/uar [\d.]+ \(best [\d.]+\)", lines[1]
    )
    assert any(re.fullmatch(r"Res8: [\d,]+ parameters, [\d,]+ of them trained", r.message) for r in caplog.records)


REFUSED = {
    "another config": ["--data.sampling.batch_size=4"],
    "missing weights": ["--name=other", "--model.init_args.weights=nowhere.ckpt"],
    "too short": ["--name=other", "--data.clip_s=0.016", "--data.shift_s=0"],
    "another stage's checkpoint": ["--name=other", "--ckpt_path={last}"],
    "no subject left": ["--name=other", "--data.split={{val: 0.0, test: 0.0, column: site}}"],
}


@pytest.mark.slow
@pytest.mark.parametrize("why", REFUSED)
def test_a_refused_fit_leaves_no_wandb_run(stage, pretrained, tmp_path, mistake, monkeypatch, why):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"project": "cries"}}
    config = changed(stage(), lambda c: c["trainer"].update(logger=[logger]))
    last = pretrained.with_name("last.ckpt")
    assert mistake("fit", "--config", config, *(given.format(last=last) for given in REFUSED[why]))
    assert not (tmp_path / "runs/wandb").exists()


def test_recordings_are_no_data_yaml(mistake, stage, tones):
    told = mistake("fit", "--config", stage(), "--data", tones)
    assert told.startswith(f"data: {tones} is not a YAML; for recordings that lie there: --data configs/data/own.yaml")


def test_a_data_file_replaces_the_data_of_the_stage(stage, tones, tmp_path):
    own = yaml.safe_load(stage().read_text())["data"]
    del own["shift_s"]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own | {"sampling": {"batch_size": 8}}))
    config = changed(stage(), lambda c: c["data"].update(shift_s=0.1))
    changed(config, lambda c: c["data"]["corpus"]["init_args"].update(name="other", window_s=0.5))
    args = ["--data", str(tmp_path / "own.yaml"), "--data.clip_s=0.5", "--trainer.max_epochs=1"]
    data = cli.main(["fit", "--config", str(config), *args]).datamodule
    assert (data.shift_s, data.clip_s, data.sampling.batch_size) == (0, 0.5, 8)
    assert data.corpus.name != "other" and data.corpus.window_s is None


def test_a_fit_that_ends_before_any_validation_says_how_it_goes_on(stage, tmp_path):
    args = ["fit", "--config", str(stage()), "--data.split.val=0.2"]
    without = r"ended after 2 steps without a validation, .* best\.ckpt .*; with --ckpt_path .*last\.ckpt it goes on"
    with pytest.raises(UserError, match=without):
        cli.main([*args, "--trainer.max_steps=2"])
    (last,) = tmp_path.rglob("last.ckpt")
    assert cli.main([*args, "--trainer.max_epochs=2", f"--ckpt_path={last}"]).run_folder.best.exists()
    cli.main([*args, "--trainer.max_steps=2", "--checkpoint.save_top_k=0", "--name=none"])  # as it was told
