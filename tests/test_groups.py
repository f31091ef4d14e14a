"""What older releases wrote before arguments were grouped: read where a run wrote it, refused in a YAML."""

import json
from importlib.util import find_spec
from pathlib import Path
from textwrap import indent

import pytest
import torch
import yaml
from exported import write_checkpoint
from made import stage_config

from cry_lightning import __main__ as command_line
from cry_lightning.cli.runfolder import RunFolder
from cry_lightning.cli.stage import ReadCLI
from cry_lightning.commands.messages import as_yaml
from cry_lightning.commands.stage import check_overrides
from cry_lightning.console import UserError
from cry_lightning.data.subset import Caching, Sampling, Subset
from cry_lightning.export.hub import public
from cry_lightning.files.former_names import FORMER_FILES, OF_DATA, OF_MODEL, as_now, renamed
from cry_lightning.inference.model import TrainedStage
from cry_lightning.studies.engine import MARK, is_finished
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.checkpoints import read_checkpoint
from cry_lightning.tasks.optimisation import Optimisation

REPO = Path(__file__).parents[1]
NOW = {
    "clip_s": 0.5,
    "subset": {"unlabelled": False, "label_fraction": 1.0, "per_class": 4, "exclude_subjects": None},
    "sampling": {"batch_size": 8, "drop_last": True, "balanced": False, "by_subject": True, "class_weights": False},
    "cache": {"folder": "elsewhere/secret", "dtype": "float16", "workers": 2},
}
BEFORE = {"clip_s": 0.5} | {old: NOW[new.split(".")[0]][new.split(".")[1]] for old, new in OF_DATA.items()}
OPTIMISED = """\
optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1, momentum: 0.9}}
scheduler: null
scheduler_interval: step
warmup_epochs: 0.5
scale_lr: true
encoder_lr_scale: 0.1
layer_decay: 0.5
head_first: 0.4
exclude_from_decay: true
"""
MODEL = """\
class_path: cry_lightning.tasks.Classifier
init_args:
  encoder: {class_path: cry_lightning.encoders.Res8, init_args: {n_maps: 3}}
  weights: null
"""
MODEL_BEFORE = MODEL + indent(OPTIMISED, "  ")
MODEL_NOW = MODEL + "  optimisation:\n" + indent(OPTIMISED, "    ")
OPTIMISED_BEFORE = yaml.safe_load(OPTIMISED)


def test_every_field_of_a_group_has_its_former_key():
    groups = {"subset": Subset, "sampling": Sampling, "cache": Caching}
    fields = {f"{group}.{name}" for group, kind in groups.items() for name in kind.__annotations__}
    assert sorted([*OF_DATA.values(), "sampling.min_batches"]) == sorted(fields)  # younger than the groups
    assert {f"optimisation.{name}" for name in Optimisation.__annotations__} == {*OF_MODEL.values()}


@pytest.mark.parametrize(
    ("key", "now"),
    [
        ("data.batch_size", "data.sampling.batch_size"),
        ("data.batch_by_subject", "data.sampling.by_subject"),
        ("data.cache_dir", "data.cache.folder"),
        ("data.probe.init_args.per_class", "data.probe.subset.per_class"),
    ],
)
def test_a_former_key_is_refused_by_the_name_of_the_new_one(tmp_path, monkeypatch, capsys, key, now):
    monkeypatch.chdir(REPO)
    assert command_line.main(["fit", "--config", "configs/simclr.yaml", f"--{key}=4"]) == 2
    assert capsys.readouterr().err.splitlines()[0].endswith(f"; it is {now} now")
    if not key.startswith("data.probe"):
        data = yaml.safe_load((REPO / "configs/data/unlabelled.yaml").read_text())
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(data | {key.removeprefix("data."): 4, "feature": None}))
        assert command_line.main(["fit", "--config", "configs/simclr.yaml", f"--data={tmp_path / 'own.yaml'}"]) == 2
        assert capsys.readouterr().err == f"cry_lightning: error: {key}: no such key; it is {now} now\n"


@pytest.mark.parametrize("typed", ["model.optimizer.init_args.lr", "model.init_args.head_first"])
def test_a_former_key_of_a_stage_is_refused_by_the_whole_of_the_new_one(stage, monkeypatch, capsys, typed):
    monkeypatch.chdir(REPO)
    key = typed.removeprefix("model.").removeprefix("init_args.")
    complaint = f"it is model.optimisation.{key} now"
    assert command_line.main(["fit", "--config", "configs/simclr.yaml", f"--{typed}=0.5"]) == 2
    assert capsys.readouterr().err == f"cry_lightning: error: model.{key}: no such key; {complaint}\n"
    with pytest.raises(UserError, match=complaint):  # of studies
        ReadCLI(["fit", f"--config={stage()}", f"--{typed}=0.5"])


@pytest.mark.parametrize("key", ["model.lr", "model.optimisation.lr", "model.init_args.learning_rate"])
def test_a_setting_of_the_optimizer_is_answered_with_where_it_is(key, capsys):
    assert command_line.main(["fit", "--config", str(REPO / "configs/pretrain.yaml"), f"--{key}=0.1"]) == 2
    assert capsys.readouterr().err.endswith(
        "; the optimizer's are at model.init_args.optimisation.optimizer.init_args, such as its lr\n"
    )


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("simclr", "model.init_args.optimisation.optimizer.init_args.momentum"),  # which AdamW has not
        ("svm", "model.lr"),  # which has no optimizer
        ("pretrain", "model.init_args.encoder.init_args.momentum"),
    ],
)
def test_no_other_setting_is_sent_to_the_optimizer(stage, key, capsys):
    assert command_line.main(["fit", "--config", str(REPO / f"configs/{stage}.yaml"), f"--{key}=0.1"]) == 2
    assert "the optimizer's are at" not in capsys.readouterr().err


def test_a_stage_yaml_of_before_is_refused_by_the_name_of_the_new_key(tones, tmp_path):
    config = stage_config(tones, tmp_path)
    config["model"] = yaml.safe_load(MODEL_BEFORE)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"^model\.(\w+): no such key; it is model\.optimisation\.\1 now$"):
        check_overrides(tmp_path / "own.yaml", [])
    with pytest.raises(UserError, match=r"^model\.([\w.]+): no such key; it is model\.optimisation\.\1 now$"):
        ReadCLI(["fit", f"--config={tmp_path}/own.yaml"])


def test_a_checkpoint_of_before_is_read_and_exported(tmp_path):
    now = write_checkpoint(tmp_path / "now.ckpt", data={"shift_s": 0.05, "cache": NOW["cache"]})
    checkpoint = torch.load(now, weights_only=True)
    del checkpoint["datamodule_hyper_parameters"]["cache"]
    checkpoint["datamodule_hyper_parameters"] |= BEFORE
    del checkpoint["hyper_parameters"]["optimisation"]
    checkpoint["hyper_parameters"] |= OPTIMISED_BEFORE
    torch.save(checkpoint, tmp_path / "before.ckpt")
    ours, theirs = (TrainedStage(tmp_path / f"{name}.ckpt").fitting for name in ("now", "before"))
    assert {**ours, "feature": None} == {**theirs, "feature": None} and theirs["dtype"] == "float16"
    assert isinstance(Classifier.load_from_checkpoint(tmp_path / "before.ckpt"), Classifier)
    exported = public(read_checkpoint(tmp_path / "before.ckpt"))
    assert exported["hyper_parameters"]["optimisation"] == {"optimizer": {"class_path": "torch.optim.SGD"}}
    assert not exported["hyper_parameters"].keys() & OF_MODEL.keys()
    kept = exported["datamodule_hyper_parameters"]
    assert kept["cache"] == {"dtype": "float16"} and "secret" not in json.dumps(kept)


def test_a_run_and_a_study_of_before_are_the_same(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.last.touch()
    probe = {"class_path": "cry_lightning.data.datamodule.CryDataModule"}
    before = {"data": BEFORE | {"probe": probe | {"init_args": BEFORE}}, "model": yaml.safe_load(MODEL_BEFORE)}
    now = {"data": NOW | {"probe": probe | {"init_args": NOW}}, "model": yaml.safe_load(MODEL_NOW)}
    folder.config.write_text(yaml.safe_dump(before))
    assert folder.changed_keys(yaml.safe_dump(now)) == []
    other = now | {"data": now["data"] | {"sampling": NOW["sampling"] | {"batch_size": 4}}}
    assert folder.changed_keys(yaml.safe_dump(other)) == ["data.sampling.batch_size"]
    faster = {"model": yaml.safe_load(MODEL_NOW.replace("lr: 0.1", "lr: 0.2"))}
    assert folder.changed_keys(yaml.safe_dump(now | faster)) == ["model.init_args.optimisation.optimizer.init_args.lr"]

    point = ["--data.per_class=4", "--model.init_args.optimizer.init_args.lr=0.2"]
    (folder.path / MARK).write_text(json.dumps({"stages": {"0": before}, "point": point}))
    point = ["--data.subset.per_class=4", "--model.init_args.optimisation.optimizer.init_args.lr=0.2"]
    assert is_finished(folder.path, {"stages": {"0": now}, "point": point}, ())
    assert not is_finished(folder.path, {"stages": {"0": other}, "point": point}, ())
    assert not is_finished(folder.path, {"stages": {"0": now}, "point": point[:1]}, ())


def test_the_config_of_a_run_of_before_is_read_as_it_is(tones, tmp_path):
    config = stage_config(tones, tmp_path, "pretrain")
    config["data"] |= {"batch_size": 4, "cache_dir": str(tmp_path / "cache"), "class_weights": True}
    del config["data"]["sampling"], config["data"]["cache"]
    config["model"] = yaml.safe_load(MODEL_BEFORE)
    for name in ("config.yaml", "own.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump(config))
    for checked in (
        check_overrides(tmp_path / "config.yaml", []),
        ReadCLI(["fit", f"--config={tmp_path}/config.yaml"]),
    ):
        read = checked if isinstance(checked, dict) else yaml.safe_load(checked.dump())
        optimisation, data = read["model"]["init_args"]["optimisation"], read["data"]
        assert optimisation["head_first"] == 0.4 and optimisation["optimizer"]["init_args"]["lr"] == 0.1
        assert data["sampling"]["batch_size"] == 4 and data["sampling"]["class_weights"]
        assert data["cache"]["folder"] == str(tmp_path / "cache") and "batch_size" not in data
    config["model"] = yaml.safe_load(MODEL_NOW)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"data\.batch_size: no such key; it is data\.sampling\.batch_size now"):
        check_overrides(tmp_path / "own.yaml", [])
    with pytest.raises(UserError, match=r"batch_size"):
        ReadCLI(["fit", f"--config={tmp_path}/own.yaml"])


@pytest.mark.parametrize(
    "key",
    [
        "data.split.per_class",
        "data.corpus.init_args.workers",
        "model.encoder.scheduler",
        "model.head.init_args.optimizer",
    ],
)
def test_a_key_that_was_never_there_is_not_said_to_have_moved(key):
    assert renamed(key) == "" and renamed(f"{key.partition('.')[0]}.{key.rpartition('.')[2]}")


def test_a_run_from_before_an_argument_was_added_is_the_same_run(tmp_path, stage):
    """Every argument of a stage that runs of before lack has a value that means what was before."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    now = yaml.safe_load(ReadCLI(["fit", "--config", str(stage("pretrain"))]).dump())
    init_args = dict(now["model"]["init_args"])
    before = {**now, "model": {**now["model"], "init_args": init_args.pop("optimisation") | init_args}}
    for key in ("layer_decay", "head_first"):
        del before["model"]["init_args"][key]
    folder.config.write_text(yaml.safe_dump(before))
    folder.last.touch()
    assert folder.changed_keys(yaml.safe_dump(now)) == []
    now["model"]["init_args"]["optimisation"]["head_first"] = 0.5
    assert folder.changed_keys(yaml.safe_dump(now)) == ["model.init_args.optimisation.head_first"]


def test_a_part_of_a_group_is_added_to_the_rest_of_it(stage):
    """On the command line as in a second YAML; null is nothing there too, and no text."""
    step = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}
    path = stage("parts", optimisation={"scheduler": step})
    given = ["--model.optimisation.scheduler=null", "--model.optimisation.optimizer.init_args.foreach=null"]
    given += ["--model.optimisation={warmup_epochs: 1}", "--model.init_args.optimisation.optimizer.init_args.lr=0.5"]
    check_overrides(path, given)
    read = yaml.safe_load(ReadCLI(["fit", f"--config={path}", *given]).dump())["model"]["init_args"]["optimisation"]
    assert (read["scheduler"], read["warmup_epochs"]) == (None, 1.0)
    optimizer = read["optimizer"]["init_args"]
    assert (optimizer["lr"], optimizer["momentum"], optimizer["foreach"]) == (0.5, 0.9, None)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("None", None),
        ("{'a': ['x', None]}", {"a": ["x", None]}),
        ("{'a': ['\\bx', 'C:\\new']}", {"a": ["\\bx", "C:\\new"]}),  # YAML knows no escapes between single quotes
        (r"/(\d{8})_NO_", r"/(\d{8})_NO_"),
        ("[a, b]", ["a", "b"]),
    ],
)
def test_what_python_wrote_is_read_as_it_was_and_what_a_user_wrote_stays(typed, read):
    key, _, value = as_yaml(f"--key={typed}").partition("=")
    assert key == "--key" and yaml.safe_load(value) == read


def test_arguments_of_a_stage_of_ones_own_keep_their_names():
    config = {"model": {"class_path": "mine.Stage", "init_args": {"optimizer": 1}}, "data": {"batch_size": 4}}
    assert as_now(config) == {"model": config["model"], "data": {"sampling": {"batch_size": 4}}}
    ours = config | {"model": config["model"] | {"class_path": "cry_lightning.tasks.Classifier"}}
    assert as_now(ours)["model"]["init_args"] == {"optimisation": {"optimizer": 1}}


def test_a_class_that_a_run_names_by_its_former_file_is_found() -> None:
    given: dict[str, object] = {"feature": {"class_path": "cry_lightning.features.mfcc.MFCC"}, "folds": [1, "a.b.C"]}
    given["itself"] = given
    now = as_now({"data": given})["data"]
    assert now["feature"] == {"class_path": "cry_lightning.features.mel.MFCC"} and now["folds"] == [1, "a.b.C"]
    for file, module in FORMER_FILES.items():
        assert find_spec(module) and not find_spec(file)
