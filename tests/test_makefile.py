"""The chain of stages in make: what is made, where, and what makes it out of date. The stages are stand-ins."""

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made import REPO

from cry_lightning.cli.runfolder import RunFolder
from cry_lightning.corpora import corpus_at
from cry_lightning.data import inventory
from cry_lightning.download.published import WEIGHTS
from cry_lightning.files import locked
from cry_lightning.make import chain, command as pipeline
from cry_lightning.make.digests import of_recordings


class StandIn:
    """Makes the files that the real commands make, and keeps what they were asked to do."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.fails = ""  # the command that does
        self.killed = False  # a fit, before its end

    def __call__(self, *command: str, capture: bool = False, record: pipeline.Record | None = None) -> str:
        self.commands.append(command)
        self.record = record
        if command[0] == self.fails:
            raise pipeline.Stopped(2)
        getattr(self, command[0].replace("-", "_"))(*command[1:])
        return f"table of {command[1]} with {command[2:]}\n"

    def fit(self, *args: str) -> None:
        given = dict(chain.pairs(args))
        corpus = (
            "synthetic-cries"
            if args[1].endswith(("adapt.yaml", "finetune.yaml", "finetune_audioset.yaml"))
            else "synthetic-words"
        )
        folder = Path("runs", given.get("data.corpus.init_args.name", corpus), given["name"])
        (folder / "fit").mkdir(parents=True, exist_ok=True)
        if "overwrite" in given:
            (folder / "fit/finished").unlink(missing_ok=True)
            (folder / "best.ckpt").unlink(missing_ok=True)
            pipeline.write_record(folder, self.record)
        (folder / "config.yaml").write_text(shlex.join(args))
        (folder / "last.ckpt").write_text("half")
        for made in ("predictions.csv", "report.md", "report.txt"):
            (folder / made).unlink(missing_ok=True)
        if self.killed:
            raise pipeline.Stopped(130)
        (folder / "best.ckpt").write_text(shlex.join(arg for arg in args if "ckpt_path" not in arg))
        (folder / "fit/finished").touch()

    def import_weights(self, *args: str) -> None:
        Path(args[-1]).parent.mkdir(parents=True)
        Path(args[-1]).write_bytes(Path(args[1]).read_bytes())

    def test(self, *args: str) -> None:
        folder = Path(args[1]).parent
        (folder / "predictions.csv").write_text("predictions of " + (folder / "best.ckpt").read_text())
        for made in ("report.md", "report.txt"):
            (folder / made).unlink(missing_ok=True)

    def evaluate(self, *args: str) -> None:
        Path(args[0], "report.md").write_text(f"report {args[1:]}")


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A folder with the configs."""
    shutil.copytree(REPO / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stand_in(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setattr(pipeline, "run", stand_in)
    return stand_in


@pytest.fixture
def make(house, stand_in, capsys):
    def run(
        *goals: str,
        METHOD: str = "",
        DATA: str = "",
        ARGS: str = "",
        EVALUATE: str = "",
        OVERWRITE: bool = False,
        WEIGHTS: str = "",
    ):
        """The commands that these goals ran, in order: command and run folder."""
        stand_in.commands.clear()
        method = METHOD or ("adapt" if "adapt" in goals else "simclr")
        args = [*goals, f"--method={method}", f"--data={DATA}", f"--arguments={ARGS}", f"--evaluate={EVALUATE}"]
        args += [f"--weights={WEIGHTS}"] if WEIGHTS else []
        run.code = pipeline.main([*args, *(["--overwrite"] if OVERWRITE else [])])
        run.output, run.error = capsys.readouterr()
        return [name_of(command) for command in stand_in.commands]

    return run


def name_of(command: tuple[str, ...]) -> str:
    given = dict(chain.pairs(command))
    if command[0] in ("evaluate", "import-weights"):
        return f"{command[0]} {command[1]}"
    return f"fit {given['name']}" if command[0] == "fit" else f"test {Path(given['config']).parent}"


CHAIN = ["pretrain", "finetune", "evaluate"]
LONG = ["simclr", "adapt", "finetune", "evaluate"]
MAIN = "runs/synthetic-cries/finetune"


def tail(folder: str = MAIN) -> list[str]:
    return [f"test {folder}", f"evaluate {folder}"]


def own_corpus(house: Path, name: str = "my cries") -> Path:
    folder = house / name
    (folder / "hungry").mkdir(parents=True)
    (folder / "hungry" / "a.wav").write_bytes(b"sound")
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_default_chain_runs_once(make):
    assert make(*CHAIN) == ["fit simclr", "fit finetune", *tail()]
    assert f"table of {MAIN}" in make.output
    assert make(*CHAIN) == []
    assert f"table of {MAIN}" in make.output
    assert make("evaluate") == []


def test_finetune_alone_fits_what_it_starts_from(make):
    assert make("finetune") == ["fit simclr", "fit finetune"]


VARIANTS = [
    (CHAIN, {"METHOD": "supervised"}, "finetune-supervised"),
    (LONG, {}, "finetune-adapt"),
    (CHAIN, {"ARGS": "--trainer.max_epochs=1"}, r"finetune-\w{6}"),
    (CHAIN, {"METHOD": "supervised", "ARGS": "--trainer.max_epochs=1"}, r"finetune-supervised-\w{6}"),
    (CHAIN, {"ARGS": "--trainer.max_epochs 2"}, r"finetune-\w{6}"),
]


def test_what_differs_has_a_folder_of_its_own_in_whatever_order(make, house):
    make(*CHAIN)
    before = contents(house / MAIN)
    names = {"finetune"}
    for goals, variables, name in VARIANTS:
        fitted = [command[4:] for command in make(*goals, **variables) if command.startswith("fit fine")]
        assert len(fitted) == 1 and re.fullmatch(name, fitted[0]) and fitted[0] not in names
        names.add(fitted[0])
        method = {} if goals is CHAIN else {"METHOD": "adapt"}
        assert make("evaluate", **variables, **method) == []
        assert f"table of runs/synthetic-cries/{fitted[0]}" in make.output
    assert make(*CHAIN) == [] and f"table of {MAIN} " in make.output
    assert contents(house / MAIN) == before


def test_evaluate_fits_nothing(make, house):
    assert make("evaluate") == [] and make.code == 2
    assert make.error.startswith(f"cry_lightning: error: {MAIN}: no such run; `make finetune evaluate`")
    make(*CHAIN, ARGS="--trainer.max_epochs=1")
    before = contents(house / "runs")
    assert make("evaluate") == [] and make.code == 2
    assert "finished are runs/synthetic-cries/finetune-" in make.error and make.error.count("\n") == 1
    assert contents(house / "runs") == before


def test_evaluate_does_without_what_the_run_started_from(make, house):
    make(*CHAIN)
    shutil.rmtree(house / "runs/synthetic-words")
    assert make("evaluate", EVALUATE="--positive asphyxia") == [f"evaluate {MAIN}"]


def test_other_arguments_of_evaluate_make_another_report(make, house):
    make(*CHAIN, EVALUATE="--positive asphyxia")
    assert make("evaluate", EVALUATE="--positive normal") == [f"evaluate {MAIN}"]
    assert "normal" in (house / MAIN / "report.md").read_text() and "normal" in make.output
    assert make("evaluate", EVALUATE="--positive normal") == []


@pytest.mark.parametrize("made", ["report.md", "predictions.csv"])
def test_a_report_of_something_else_is_made_again(make, house, made):
    make(*CHAIN)
    (house / MAIN / made).write_text("of another command")
    assert make("evaluate") == (tail() if made == "predictions.csv" else tail()[1:])
    assert make("evaluate") == []


def test_the_long_chain_hands_on_the_adapted_encoder(make, house, stand_in):
    data = own_corpus(house)
    assert make(*LONG) == ["fit simclr", "fit adapt", "fit finetune-adapt", *tail(f"{MAIN}-adapt")]
    assert "--model.init_args.weights=runs/synthetic-cries/adapt/best.ckpt" in stand_in.commands[2]
    assert make(*LONG) == []
    assert make(*LONG, DATA=str(data))[:2] == ["fit adapt", "fit finetune-adapt"]
    assert "--model.init_args.weights=runs/my-cries/adapt/best.ckpt" in stand_in.commands[1]
    assert (
        "--data.subset.unlabelled=true" in stand_in.commands[0]
        and "--data.subset.unlabelled=true" not in stand_in.commands[1]
    )


@pytest.mark.parametrize(
    "given", ["--data.split.seed=3", "--data.split.seed 3", "--data.split='{val: 0.1, test: 0.5}'"]
)
def test_who_is_tested_is_told_to_the_adaptation_too(make, stand_in, given):
    make(*LONG)
    assert len(make(*LONG, ARGS=f"--trainer.max_epochs=3 {given}")) == 4
    adapted, finetuned = map(chain.pairs, stand_in.commands[:2])
    (split,) = chain.pairs(shlex.split(given))
    assert split in adapted and split in finetuned
    assert "trainer.max_epochs" not in dict(adapted) and dict(adapted)["name"] != "adapt"


def test_weights_of_the_users_own_need_no_pretraining(make, house, stand_in):
    (house / "mine.ckpt").write_text("weights")
    assert len(make("finetune", ARGS="--model.init_args.weights=mine.ckpt")) == 1
    assert not make("finetune", ARGS="--model.init_args.weights=mine.ckpt")
    (house / "mine.ckpt").write_text("other weights")
    assert make("finetune", ARGS="--model.init_args.weights=mine.ckpt")[0].endswith("-2")


AUDIOSET = "runs/audioset/mn04_as_mAP_432/best.ckpt"


def publish(house: Path, monkeypatch, content: str) -> None:
    """A stand-in for the published file, and for its hash."""
    (house / "mn04_as_mAP_432.pt").write_text(content)
    monkeypatch.setattr(pipeline, "PUBLISHED_SHA256", hashlib.sha256(content.encode()).hexdigest())


def test_published_weights_are_imported_once_and_then_fine_tuned(make, house, stand_in, monkeypatch):
    publish(house, monkeypatch, "weights")
    folder = f"{MAIN}-audioset"
    assert make(*CHAIN, METHOD="audioset") == ["import-weights efficientat", "fit finetune-audioset", *tail(folder)]
    assert f"--model.init_args.weights={AUDIOSET}" in stand_in.commands[1]
    (house / "mn04_as_mAP_432.pt").unlink()
    assert make(*CHAIN, METHOD="audioset") == []
    assert make(*CHAIN, METHOD="audioset", DATA=str(own_corpus(house)))[0] == "fit finetune-audioset"
    assert {"--data=configs/data/own_32k.yaml", "--data.feature=configs/feature/efficientat_32k.yaml"} <= set(
        stand_in.commands[0]
    )


def test_a_damaged_copy_of_the_published_weights_is_refused_by_its_hash(make, house):
    (house / "mn04_as_mAP_432.pt").write_text("half")
    assert make("pretrain", METHOD="audioset") == [] and make.code == 2
    assert "sha256 is not 899a8c6217063f69" in make.error and make.error.count("\n") == 1


def test_published_weights_of_another_file_are_no_mistake_unnoticed(make, house, monkeypatch):
    publish(house, monkeypatch, "weights")
    make("pretrain", METHOD="audioset")
    publish(house, monkeypatch, "others")
    assert make("finetune", METHOD="audioset") == [] and make.code == 2
    assert "imported from another file than mn04_as_mAP_432.pt" in make.error
    (house / "mn10.pt").write_text("wider")
    assert make("finetune", METHOD="audioset", WEIGHTS="mn10.pt")[0] == "import-weights efficientat"


def test_where_published_weights_are_is_told_in_one_line(make):
    assert make("pretrain", METHOD="audioset", WEIGHTS="copies/mn04.pt") == [] and make.code == 2
    assert make.error.startswith("cry_lightning: error: METHOD=audioset: copies/mn04.pt: no such file of weights; get")
    assert "github.com/fschmid56/EfficientAT" in make.error and make.error.count("\n") == 1
    assert "weights get" not in make.error, "which knows nothing of other files"
    assert make("pretrain", METHOD="audioset") == [] and make.error.count("\n") == 1
    assert f"`python -m cry_lightning weights get efficientat-mn04 --to {AUDIOSET}`" in make.error
    assert chain.PUBLISHED in WEIGHTS["efficientat-mn04"].url
    assert make("simclr", METHOD="audioset") == [] and "there is no simclr; leave it out" in make.error


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"METHOD": "magic"}, "METHOD=magic: it is simclr, supervised, adapt or audioset"),
        ({"DATA": "my cries"}, "DATA=my cries: no such file or folder"),
        ({"ARGS": "--name=x"}, "ARGS: --name: make gives that itself, by DATA, METHOD, ARGS and OVERWRITE"),
        ({"ARGS": "--data configs/data/own.yaml"}, "ARGS: --data: make gives that itself"),
        ({"ARGS": "--overwrite=true"}, "ARGS: --overwrite: make gives that itself"),
        ({"ARGS": "--a='b"}, "ARGS=--a='b: no closing quotation"),
        ({"EVALUATE": '"'}, 'EVALUATE_ARGS=": no closing quotation'),
    ],
)
def test_what_make_cannot_use_is_told_before_anything_runs(make, variables, told):
    goal = "evaluate" if "EVALUATE" in variables else "pretrain"
    assert make(goal, **variables) == [] and make.code == 2
    assert make.error.startswith(f"cry_lightning: error: {told}") and make.error.count("\n") == 1


CHANGED = [
    ("configs/simclr.yaml", ["fit simclr-2", "fit finetune-2"]),
    ("configs/data/unlabelled.yaml", ["fit simclr-2", "fit finetune-2"]),
    ("configs/data/probe.yaml", ["fit simclr-2", "fit finetune-2"]),
    ("configs/feature/logmel_8k.yaml", ["fit simclr-2", "fit finetune-2"]),
    ("configs/encoder/cnn6_small.yaml", ["fit simclr-2", "fit finetune-2"]),
    ("configs/finetune.yaml", ["fit finetune-2"]),
    ("configs/data/cries.yaml", ["fit finetune-2"]),
    ("configs/data/own.yaml", []),
    ("configs/pretrain.yaml", []),
    ("configs/encoder/resnet18.yaml", []),
]
REAL_CHANGES = {  # classes that are looked at before anything is fitted
    "configs/feature/logmel_8k.yaml": lambda text: text.replace("f_min: 20.0", "f_min: 30.0"),
    "configs/encoder/cnn6_small.yaml": lambda text: text.replace("dropout: 0.0", "dropout: 0.1"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("config", "fits"), CHANGED)
def test_a_changed_config_makes_new_runs_beside_the_old(make, house, config, fits):
    make(*CHAIN)
    before = contents(house / "runs")
    text = (house / config).read_text()
    (house / config).write_text(f"# a comment is no change\n{text}")
    assert make(*CHAIN) == []
    (house / config).write_text(REAL_CHANGES[config](text) if config in REAL_CHANGES else f"{text}\nadded: 1\n")
    assert make("evaluate") == [] and make.code == (2 if fits else 0)
    assert make(*CHAIN) == [*fits, *(tail(f"{MAIN}-2") if fits else [])]
    if fits:
        assert "is kept, and" in make.output and ("weights" in make.output or config in make.output)
    assert contents(house / "runs").items() >= before.items()
    assert make(*CHAIN) == []
    (house / config).write_text(text)
    assert make(*CHAIN) == [] and f"table of {MAIN} " in make.output


def test_what_a_fit_leaves_in_its_cache_is_no_recording(make, house):
    (house / "kept").mkdir()
    with (house / "configs/data/cries.yaml").open("a") as file:
        file.write("cache: {folder: kept}\n")
    make(*CHAIN)
    (house / "kept/features.h5").write_bytes(b"features")
    assert make(*CHAIN) == []


def test_a_run_is_replaced_where_that_is_asked_for(make, house):
    make(*CHAIN)
    (house / "configs/finetune.yaml").write_text((house / "configs/finetune.yaml").read_text() + "added: 1\n")
    assert make(*CHAIN, OVERWRITE=True) == ["fit finetune", *tail()]
    assert "--overwrite=true" in (house / MAIN / "config.yaml").read_text()
    assert make(*CHAIN) == []
    assert not (house / f"{MAIN}-2").exists()


def test_what_make_did_not_make_is_kept(make, house):
    by_hand = house / "runs/synthetic-words/simclr"
    (by_hand / "fit").mkdir(parents=True)
    (by_hand / "best.ckpt").write_text("by hand")
    (by_hand / "config.yaml").write_text("# python -m cry_lightning fit")
    before = contents(by_hand)
    assert make("pretrain") == ["fit simclr-2"] and contents(by_hand) == before
    told = "was not made by make but by `fit`, which writes no made_from.json of what it was made from; it is kept"
    assert told in make.output
    (house / "runs/synthetic-words/simclr-2/best.ckpt").write_text("fitted by hand, longer")
    assert make("pretrain") == ["fit simclr-3"]


def test_an_interrupted_fit_goes_on(make, house, stand_in):
    stand_in.killed = True
    assert make(*CHAIN) == ["fit simclr"] and make.code == 130
    stand_in.killed = False
    assert make("evaluate") == [] and make.code == 2
    assert make(*CHAIN)[:2] == ["fit simclr", "fit finetune"]
    assert "--ckpt_path=runs/synthetic-words/simclr/last.ckpt" in stand_in.commands[0]
    assert make(*CHAIN) == []


@pytest.mark.parametrize("goals", [["finetune"], ["pretrain", "finetune"], LONG])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ARGS": "--trainer.max_epoch=1"}, "unrecognized arguments: --trainer.max_epoch=1"),
        ({"ARGS": "--trainer.max_epochs=many"}, "trainer.max_epochs"),
        ({"EVALUATE": "--positiv=pain"}, "unrecognized arguments: --positiv=pain"),
    ],
)
def test_a_mistake_in_what_comes_last_is_told_before_the_first_fit(make, house, goals, given, told):
    assert make(*goals, *["evaluate"] * ("evaluate" not in goals), **given) == []
    assert make.code == 2 and told in make.error and make.error.count("\n") == 1 and not [*house.glob("runs/*/*")]


def test_a_mistake_in_the_config_of_what_comes_last_is_told_before_the_first_fit(make, house):
    config = house / "configs/finetune.yaml"
    config.write_text(config.read_text() + "traner: {max_epochs: 1}\n")
    assert make(*CHAIN) == [] and make.code == 2 and "traner: no such key" in make.error


@pytest.mark.parametrize("again", [True, False])
def test_an_interrupted_fit_that_replaces_a_run_goes_on(make, house, stand_in, again):
    make(*CHAIN)
    (house / "configs/finetune.yaml").write_text((house / "configs/finetune.yaml").read_text() + "added: 1\n")
    stand_in.killed = True
    assert make(*CHAIN, OVERWRITE=True) == ["fit finetune"] and make.code == 130
    stand_in.killed = False
    assert make(*CHAIN, OVERWRITE=again) == ["fit finetune", *tail()]
    assert f"--ckpt_path={MAIN}/last.ckpt" in stand_in.commands[0]
    assert "--overwrite=true" not in stand_in.commands[0] and make(*CHAIN) == []


def test_a_run_that_will_come_back_is_known_by_its_own_record(make, house, stand_in):
    """A fit that was to replace it was killed before its first checkpoint."""
    make("pretrain")
    folder = house / "runs/synthetic-words/simclr"
    things = [*folder.iterdir()]
    (folder / ".replaced").mkdir()
    for thing in things:
        thing.rename(folder / ".replaced" / thing.name)
    (folder / "made_from.json").write_text("of the killed one")
    (house / "configs/simclr.yaml").write_text((house / "configs/simclr.yaml").read_text() + "added: 1\n")
    assert make("pretrain") == ["fit simclr-2"] and "simclr differs in configs/simclr.yaml" in make.output


@pytest.mark.parametrize("place", [".replaced", ".replaced.part"])
def test_a_finished_run_is_brought_back_that_a_killed_fit_was_to_replace(make, house, place):
    make(*CHAIN)
    folder = house / MAIN
    before, things = contents(folder), [*folder.iterdir()]
    (folder / place).mkdir()
    for thing in things:
        thing.rename(folder / place / thing.name)
    for name in (".lock", "made_from.json", "config.yaml"):
        (folder / name).write_text("")
    assert make("evaluate") == [] and make.code == 0 and f"table of {MAIN} " in make.output
    assert contents(folder).items() >= before.items() and not (folder / place).exists()


def test_a_fit_writes_what_it_is_made_from_once_the_older_run_is_aside(house, monkeypatch):
    run, record = RunFolder(house / "runs/corpus/stage"), {"fit": {"inputs": {"weights": "new"}, "best.ckpt": None}}
    run.path.mkdir(parents=True)
    for name in ("best.ckpt", "made_from.json"):
        (run.path / name).write_text("old")
    monkeypatch.setattr(pipeline.runpy, "run_module", lambda *_, **__: run.begin("name: stage", overwrite=True))
    pipeline.run("fit", record=record)
    assert (run.path / ".replaced/made_from.json").read_text() == "old"
    assert pipeline.read_record(run.path) is None  # the older one comes back, since there is no checkpoint
    run.last.touch()
    assert pipeline.read_record(run.path) == record
    run.last.unlink()
    run.forsake([])
    assert (run.path / "made_from.json").read_text() == "old"


def test_a_fit_that_failed_in_its_set_up_is_no_run(make, house, stand_in):
    stand_in.fails = "fit"
    assert make(*CHAIN) == ["fit simclr"] and make.code == 2
    stand_in.fails = ""
    (house / "configs/simclr.yaml").write_text((house / "configs/simclr.yaml").read_text() + "mended: 1\n")
    assert make(*CHAIN)[:2] == ["fit simclr", "fit finetune"]


def test_a_make_that_ends_before_its_first_checkpoint_leaves_no_folder(make, house, stand_in, monkeypatch):
    def lock_and_end(*args):
        with locked(house / "runs/synthetic-words/simclr"):
            raise pipeline.Stopped(143)

    monkeypatch.setattr(stand_in, "fit", lock_and_end)
    assert make("pretrain") == ["fit simclr"] and make.code == 143
    assert [*(house / "runs/synthetic-words").iterdir()] == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_make_that_is_refused_a_folder_takes_nothing_from_the_one_at_work_there(make, house, stand_in, overwrite):
    stand_in.killed = True
    assert make("pretrain") == ["fit simclr"]
    stand_in.killed, stand_in.fails = False, "fit"
    folder = house / "runs/synthetic-words/simclr"
    (folder / "last.ckpt").unlink()  # the first one has no checkpoint yet
    with locked(folder):
        config = house / "configs/simclr.yaml"
        config.write_text(config.read_text() + "other: 1\n" * overwrite)
        before = contents(folder)
        assert make("pretrain", OVERWRITE=overwrite) == ["fit simclr"] and make.code == 2
        assert contents(folder) == before and (folder / "made_from.json") in before


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"fit": 3}', '{"fit": {"inputs": {}}}'])
def test_a_damaged_record_is_told_and_nothing_is_lost(make, house, damaged):
    make("pretrain")
    (house / "runs/synthetic-words/simclr/made_from.json").write_text(damaged)
    assert make("pretrain") == ["fit simclr-2"] and "made_from.json is damaged" in make.output


NAMES = {
    "my cries": "my-cries",
    "Übungen": r"Ubungen-\w{6}",
    "日本語": r"corpus-\w{6}",
    "(old) cries": "old-cries",
    "-dash": "dash",
    "it's": "it-s",
    'say "hi"': "say-hi",
    "$HOME `x` $(x)": "HOME-x-x",
    "a;b&c|d": "a-b-c-d",
    "((": "corpus",
    "synthetic-cries": r"synthetic-cries-\w{6}",
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_name(make, house, stand_in, name):
    own_corpus(house, name)
    make(*CHAIN, DATA=name)
    assert make.code == 0
    (corpus,) = {path.parent.name for path in (house / "runs").glob("*/finetune")}
    assert re.fullmatch(NAMES[name], corpus)
    assert corpus == corpus_at(name).name or name == "synthetic-cries"  # as other commands call it
    given = dict(chain.pairs(stand_in.commands[1]))
    assert given["data"] == "configs/data/own.yaml" and given["data.corpus.init_args.path"] == f"./{name}"
    assert make(*CHAIN, DATA=name) == []


def test_what_was_just_fitted_is_not_said_to_be_up_to_date_and_the_rest_once(make, house):
    data = str(own_corpus(house))
    make(*CHAIN, DATA=data)
    assert "up to date" not in make.output
    make(*CHAIN, DATA=data)
    assert [line for line in make.output.splitlines() if "up to date" in line] == [
        "runs/synthetic-words/simclr: up to date",
        "runs/my-cries/finetune: up to date",
    ]


def test_the_last_line_names_the_model_card_and_what_can_be_done_next(make):
    make(*CHAIN)
    last = make.output.splitlines()[-1]
    assert last.startswith(f"Model card: {MAIN}/card.md. Next: ")
    assert f"evaluate {MAIN} --clinical" in last and f"predict RECORDINGS --ckpt {MAIN}/best.ckpt" in last
    make("evaluate", EVALUATE="--clinical")
    last = make.output.splitlines()[-1]
    assert "--clinical" not in last and f"predict RECORDINGS --ckpt {MAIN}/best.ckpt" in last


def test_other_folders_of_the_same_name_take_nothing_away(make, house):
    places = [own_corpus(house, name) for name in ("cries", "elsewhere/cries", "(cries)", "once more/cries")]
    for data in places:
        make(*CHAIN, DATA=str(data))
    assert len(list((house / "runs").glob("*/finetune/report.txt"))) == 4
    assert all(make(*CHAIN, DATA=str(data)) == [] for data in places)
    assert make(*CHAIN)[0] == "fit finetune"


def test_a_folder_that_holds_a_description_alone_is_free(make, house):
    data = own_corpus(house)
    (house / "runs/my-cries/describe").mkdir(parents=True)
    assert make(*CHAIN, DATA=str(data))[-1] == "evaluate runs/my-cries/finetune"
    other = own_corpus(house, "elsewhere/other-cries")
    (house / "runs/other-cries/by_hand").mkdir(parents=True)
    assert re.fullmatch(r"evaluate runs/other-cries-\w{6}/finetune", make(*CHAIN, DATA=str(other))[-1])


def test_manifest_is_named_by_its_folder(make, house):
    folder = own_corpus(house, "ward 7")
    (folder / "manifest.csv").write_text("path,label,subject\n")
    assert make(*CHAIN, DATA=str(folder / "manifest.csv"))[-1] == "evaluate runs/ward-7/finetune"


def test_changed_recordings_are_fitted_anew(make, house):
    data = own_corpus(house)
    make(*CHAIN, DATA=str(data))
    (data / "hungry" / "b.wav").write_bytes(b"more sound")
    assert make(*CHAIN, DATA=str(data)) == ["fit finetune-2", *tail("runs/my-cries/finetune-2")]
    assert "runs/my-cries/finetune differs in recordings; it is kept, and finetune-2 is fitted beside it" in make.output


def test_what_was_never_fitted_is_not_evaluated_and_leaves_nothing(make, house):
    own_corpus(house, "own")
    assert make("evaluate", DATA="own") == [] and make.code == 2 and "own/finetune: no such run" in make.error
    assert make("evaluate", DATA="nowhere") == [] and "DATA=nowhere: no such file or folder" in make.error
    assert not (house / "runs").exists()


@pytest.mark.parametrize("method", ["simclr", "adapt"])
def test_the_same_recordings_spelt_otherwise_are_the_same_run(make, house, method, monkeypatch):
    own_corpus(house, "own")
    (house / "link").symlink_to("own")
    monkeypatch.setenv("HOME", str(house))
    make(*CHAIN, DATA="own", METHOD=method)
    for spelt in (f"{house}/own", "./own/", "../" + house.name + "/own", "configs/../own", "~/own", "link"):
        assert make(*CHAIN, DATA=spelt, METHOD=method) == [], spelt


@pytest.mark.parametrize("spelt", ["{house}/own", "./configs/../own", "{house}/configs/ward.yaml"])
def test_a_run_of_before_is_known_by_the_spelling_that_it_recorded(make, house, stand_in, monkeypatch, spelt):
    own_corpus(house, "own")
    (house / "configs/ward.yaml").write_text("corpus: {init_args: {path: own}}\n")
    monkeypatch.setattr(chain, "as_it_is_called", Path)
    stand_in.killed = True
    make("finetune", DATA=spelt.format(house=house), METHOD="adapt")
    stand_in.killed = False
    assert make("adapt", DATA=spelt.format(house=house), METHOD="adapt") == ["fit simclr", "fit adapt"]
    stand_in.killed = True
    assert make("finetune", DATA=spelt.format(house=house), METHOD="adapt") == ["fit finetune-adapt"]
    given = stand_in.commands[0]
    stand_in.killed = False
    monkeypatch.undo()
    monkeypatch.chdir(house)
    monkeypatch.setattr(pipeline, "run", stand_in)
    other = "configs/ward.yaml" if spelt.endswith("yaml") else "own"
    assert make("finetune", DATA=other, METHOD="adapt") == ["fit finetune-adapt"]
    (last,) = {*stand_in.commands[0]} - {*given}
    assert last.startswith("--ckpt_path=")  # it goes on with the very arguments that it began with
    assert make("finetune", DATA=other, METHOD="adapt") == []


def replace_sound(path: Path) -> None:
    """By another of the same size and time, as `cp -p` and `rsync -t` do."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.with_name("another").write_bytes(path.read_bytes()[::-1])
    os.utime(path.with_name("another"), ns=times)
    path.with_name("another").replace(path)


@pytest.mark.parametrize("method", ["simclr", "adapt"])
def test_a_recording_that_was_replaced_by_one_of_the_same_size_and_time_is_fitted_anew(make, house, method):
    data = own_corpus(house)
    make(*CHAIN, DATA=str(data), METHOD=method)
    (data / "hungry/a.wav").chmod(0o600)  # which leaves the sound as it was
    assert make(*CHAIN, DATA=str(data), METHOD=method) == []
    replace_sound(data / "hungry/a.wav")
    fits = ["fit adapt-2"] * (method == "adapt")
    assert make("finetune", DATA=str(data), METHOD=method)[:-1] == fits
    assert "differs in sounds" in make.output


def test_what_is_in_files_beside_the_recordings_is_not_read(make, house):
    data = own_corpus(house)
    (data / "notes.txt").write_text("of the ward")
    (data / "gone.wav").symlink_to("nowhere.wav")
    make("adapt", DATA=str(data))
    assert {Path(path).name for path in json.loads((house / "cache/content-index.json").read_text())} == {"a.wav"}
    replace_sound(data / "notes.txt")
    assert make("adapt", DATA=str(data)) == []


@pytest.mark.parametrize("changed", ["manifest.csv", "sounds/a.dat"])
def test_tables_and_what_they_name_count_by_their_content(make, house, changed):
    """Whatever the ending of a file that a manifest names, and also where DATA is the folder of the manifest."""
    data = own_corpus(house)
    (data / "sounds").mkdir()
    (data / "sounds/a.dat").write_bytes(b"sound")
    (data / "manifest.csv").write_text("path,label\nsounds/a.dat,sick\n")
    for given in (data, data / "manifest.csv"):
        make("adapt", DATA=str(given))
        assert make("adapt", DATA=str(given)) == []
    replace_sound(data / changed)
    assert make("adapt", DATA=str(data / "manifest.csv")) and make("adapt", DATA=str(data))


def test_a_recording_that_cannot_be_read_for_a_moment_is_told_and_nothing_is_fitted(make, house, monkeypatch):
    data = own_corpus(house)
    make("adapt", DATA=str(data))
    os.utime(data / "hungry/a.wav")  # read anew

    def fail(path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patched:
        patched.setattr(inventory, "sha256", fail)
        assert make("adapt", DATA=str(data)) == [] and make.code == 2
    assert make.error.count("\n") == 1 and "hungry/a.wav: cannot be read (Stale" in make.error


def without_sounds(inputs: dict) -> dict:
    return {k: without_sounds(v) if isinstance(v, dict) else v for k, v in inputs.items() if k != "sounds"}


def test_runs_of_before_are_known_though_their_records_have_no_sounds(make, house):
    data = own_corpus(house)
    make(*CHAIN, DATA=str(data), METHOD="adapt")
    for path in house.rglob("made_from.json"):
        path.write_text(json.dumps(without_sounds(json.loads(path.read_text()))))
    assert make(*CHAIN, DATA=str(data), METHOD="adapt") == []
    (data / "hungry/a.wav").write_bytes(b"more sound")
    assert make("finetune", DATA=str(data), METHOD="adapt") == ["fit adapt-2", "fit finetune-adapt-2"]


@pytest.mark.parametrize("separator", [",", ";"])
def test_changed_recordings_of_a_manifest_are_fitted_anew(make, house, separator):
    recordings = own_corpus(house)
    rows = f"path,label,subject,note\nhungry/a.wav,hungry,1,{'quiet ' * 60}\n".replace(",", separator)
    (recordings / "manifest.csv").write_text(rows)
    (house / "configs/data/ward.yaml").write_text(f"corpus: {{init_args: {{path: '{recordings}/manifest.csv'}}}}\n")
    for data in (str(recordings / "manifest.csv"), "configs/data/ward.yaml"):
        make(*CHAIN, DATA=data)
        assert make(*CHAIN, DATA=data) == []
        with (recordings / "hungry/a.wav").open("a") as sound:
            sound.write("more of it")
        assert make(*CHAIN, DATA=data)
        with (recordings / "manifest.csv").open("a") as manifest:
            manifest.write(rows)
        assert make(*CHAIN, DATA=data)


@pytest.mark.parametrize(
    "text",
    [
        "hungry/a.wav,hungry,1\n",  # without a header
        "1,1\nhungry/a.wav,2\n",
        'path,label\nhungry/a.wav,hungry,more\n"',
        "path;label\n hungry/a.wav;'hungry;1;2;3\n",
    ],
)
def test_changed_recordings_are_seen_whatever_the_table_is_like(house, text):
    recordings = own_corpus(house)
    (recordings / "list.csv").write_text(text)
    before = of_recordings([recordings / "list.csv"])
    assert before == of_recordings([recordings / "list.csv"])
    (recordings / "hungry/a.wav").write_bytes(b"another sound")
    assert before != of_recordings([recordings / "list.csv"])


def test_links_in_circles_end(make, house):
    data = own_corpus(house)
    (data / "again").symlink_to(data)
    (data / "nowhere").symlink_to(data / "missing")
    make(*CHAIN, DATA=str(data))
    assert make(*CHAIN, DATA=str(data)) == []


def test_own_data_depends_on_its_own_config(make, house):
    data = own_corpus(house)
    make(*CHAIN, DATA=str(data))
    own = house / "configs/data/own.yaml"
    own.write_text(own.read_text() + "added: 1\n")
    assert make(*CHAIN, DATA=str(data))[0] == "fit finetune-2"


def test_data_may_be_a_yaml(make, house):
    (house / "configs/data/ward.yaml").write_text((house / "configs/data/own.yaml").read_text())
    stages = ["fit simclr", "fit finetune", *tail("runs/ward/finetune")]
    assert make(*CHAIN, DATA="configs/data/ward.yaml") == stages
    assert make(*CHAIN, DATA="configs/data/ward.yaml") == []


OWN_DATA = "corpus: {class_path: my_ward.files.Ward, init_args: {root: recordings}}\nfeature: own.yaml\n"
OWN_FEATURE = "class_path: my_sounds.Bands\ninit_args: {inner: {class_path: cry_lightning.features.LogMel}}\n"


def trusted_in_the_test(stand_in: StandIn) -> list[str]:
    (of_test,) = [command for command in stand_in.commands if command[0] == "test"]
    return list(of_test[3:])


def test_classes_of_the_users_own_yamls_may_stand_in_the_run(make, house, stand_in):
    """What `fit` imports as the user's code is what `test` may find in the config that this fit has left."""
    (house / "own.yaml").write_text(OWN_FEATURE)
    (house / "ward.yaml").write_text(OWN_DATA)
    make("finetune", "evaluate", DATA="ward.yaml")
    assert trusted_in_the_test(stand_in) == ["--trust=my_sounds", "--trust=my_ward"]


def test_a_received_runs_yaml_is_not_the_users_own(make, house, stand_in):
    (house / "data.yaml").write_text(OWN_DATA.replace("feature: own.yaml\n", ""))
    (house / "best.ckpt").touch()  # beside it: the YAML is of this run
    make("finetune", "evaluate", DATA="data.yaml")
    assert trusted_in_the_test(stand_in) == []
    make("finetune", "evaluate", DATA="data.yaml", ARGS="--trust=my_ward")
    assert trusted_in_the_test(stand_in) == ["--trust=my_ward"]


def test_changed_intervals_are_fitted_anew(make, house):
    annotations = own_corpus(house).with_name("intervals")
    annotations.mkdir()
    (annotations / "a.TextGrid").write_text("pain")
    (house / "configs/data/ward.yaml").write_text(f"corpus: {{init_args: {{annotations: '{annotations}'}}}}\n")
    make(*CHAIN, DATA="configs/data/ward.yaml")
    assert make(*CHAIN, DATA="configs/data/ward.yaml") == []
    (annotations / "a.TextGrid").write_text("hunger")
    assert make(*CHAIN, DATA="configs/data/ward.yaml")


SAY = f"""#!/bin/bash
exec {sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
"""


@pytest.fixture
def shell(house):
    """Runs the real Makefile, with a Python that prints its arguments."""
    shutil.copy(REPO / "Makefile", house)
    for name in ("pyproject.toml", "constraints.txt"):
        (house / name).touch()
    python = house / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(SAY)
    python.chmod(0o755)
    (house / ".venv/installed").touch()

    def run(*args: str, code: int = 0) -> list[list[str]]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        done = subprocess.run(["make", "-s", *args], cwd=house, capture_output=True, text=True, env=environment)
        run.output, run.error = done.stdout, done.stderr
        assert done.returncode == code, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]

    return run


@pytest.mark.sampled(4)
@pytest.mark.parametrize("given", [*NAMES, "", "--a='b c' --d=\"e\"", "a\\b", "tab\there", "#x"])
def test_what_is_given_to_make_arrives_as_it_was_given(shell, given):
    (called,) = shell("finetune", f"DATA={given}", f"ARGS={given}")
    assert called[:3] == ["-m", "cry_lightning.make.command", "finetune"]
    assert f"--data={given}" in called and f"--arguments={given}" in called and "--overwrite" not in called


@pytest.mark.parametrize("given", ["it's", "a'b; touch here"])
def test_a_method_and_a_corpus_arrive_as_they_were_given(shell, house, given):
    assert f"--method={given}" in shell("finetune", f"METHOD={given}")[0]
    for paper in ("onu2019", "gorin2023"):
        assert shell(paper, f"ON={given}")[0][4:6] == ["--corpus", given]
    assert not (house / "here").exists()


def test_the_readmes_pattern_arrives_and_finds_the_subject(shell):
    file, example = re.findall(r"`(class/\w+\.wav)`.*?`(ARGS=.*?)`", (REPO / "README.md").read_text())[0]
    (called,) = shell("finetune", *shlex.split(example))
    (arguments,) = (word.partition("=")[2] for word in called if word.startswith("--arguments="))
    ((key, pattern),) = chain.pairs(shlex.split(arguments))
    assert key == "data.corpus.init_args.subject_pattern" and re.findall(pattern, file) == ["baby03"]


@pytest.mark.parametrize("given", ["data/sounds", "it's here", "a b"])
def test_recordings_of_a_grid_arrive_at_their_stages(shell, given):
    (called,) = shell("gorin2023", f"SOUNDS={given}", f"CRIES={given}.csv", "ARGS=--trainer.max_epochs=2")
    assert (
        called[:5] == ["-m", "cry_lightning", "paper", "configs/papers/gorin2023", "--corpus"] and called[5] == "cries"
    )
    roots = {f"--{stage}.data.corpus.init_args.root={given}" for stage in ("supervised", "simclr")}
    roots |= {f"--{stage}.data.corpus.init_args.clip_list={given}/vggsound.csv" for stage in ("supervised", "simclr")}
    roots |= {f"--{stage}.data.corpus.init_args.root={given}.csv" for stage in ("adapt", "probe", "finetune")}
    assert {*called[6:]} == roots | {"--trainer.max_epochs=2"}
    assert shell("gorin2023") == [[*called[:5], "synthetic"]]
    assert shell("onu2019", "ON=synthetic")[0][2:] == ["paper", "configs/papers/onu2019", "--corpus", "synthetic"]


def test_goals_arrive_in_order_in_one_process_even_in_parallel(shell):
    (call,) = shell("-j4", *LONG, "OVERWRITE=1", "EVALUATE_ARGS=--positive 'a b'")
    assert call[2:6] == LONG
    assert {"--method=adapt", "--overwrite", "--evaluate=--positive 'a b'"} <= {*call[6:]}


@pytest.mark.parametrize(
    ("given", "overwrites"),
    [("1", True), ("yes", True), ("true", True), ("0", False), ("no", False), ("false", False), ("", False)],
)
def test_what_is_to_be_overwritten_is_said_in_words_too(shell, given, overwrites):
    (call,) = shell("finetune", f"OVERWRITE={given}")
    assert ("--overwrite" in call) == overwrites


@pytest.mark.parametrize("given", ["maybe", "of", "1 0x", "NO"])
def test_whether_to_overwrite_is_not_guessed(shell, given):
    assert shell("finetune", f"OVERWRITE={given}", code=2) == []
    assert f"OVERWRITE={given}: it is 1, yes or true, or else 0, no or false" in shell.error


@pytest.mark.parametrize(
    ("goals", "calls"),
    [
        ("install pretrain evaluate", [["pretrain", "evaluate"]]),
        ("pretrain finetune help", [["pretrain", "finetune"]]),
        ("pretrain onu2019 finetune evaluate", [["pretrain"], ["paper"], ["finetune"], ["evaluate"]]),
    ],
)
def test_goals_among_other_targets_keep_their_order(shell, goals, calls):
    called = [[word for word in call[2:] if re.fullmatch(r"paper|[a-z]+", word)] for call in shell(*goals.split())]
    assert called == calls


@pytest.mark.parametrize("given", ["METHODE=simclr", "data=x", "EVALUATE_ARG=--positive x"])
def test_a_variable_that_make_does_not_know_is_refused_with_those_that_it_knows(shell, given):
    assert shell("finetune", "METHOD=simclr", given, code=2) == []
    assert f" {given.partition('=')[0]}: no such variable; there are ARGS " in shell.error
    listed = re.search(r"there are ([A-Z_ ]+),", shell.error)[1].split()
    shell("help")
    assert {*listed} >= {*re.findall(r"\b([A-Z_]+)=", shell.output)}


def test_an_installation_says_how_long_it_takes_and_one_that_is_there_nothing(shell):
    assert "-m" in shell("install", "CONSTRAINTS=")[0] and "2 to 9 minutes" in shell.output
    assert shell("install") == [] and "minutes" not in shell.output


def test_made_cries_are_evaluated_for_asphyxia_and_others_are_not(shell):
    assert "--evaluate=--positive asphyxia --clinical" in shell("evaluate")[0]
    assert "--evaluate=" in shell("evaluate", "DATA=x")[0]


def test_clean_keeps_the_runs(shell, house):
    for folder in ("runs/a", "cache"):
        (house / folder).mkdir(parents=True)
        (house / folder / "file").touch()
    shell("clean")
    assert (house / "runs/a/file").exists() and not (house / "cache/file").exists()
    shell("clean-runs")
    assert not (house / "runs").exists()


def test_help_lists_every_target(shell):
    shell("help")
    targets = re.findall(r"^([a-z][a-z-]*):", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert len(targets) > 8
    assert all(f"make {target}" in shell.output for target in targets)


def test_nothing_to_do_is_found_without_torch(make, house):
    make(*CHAIN)
    script = (
        f"import sys; from cry_lightning.make import command; code = command.main({CHAIN});"
        "sys.exit(code or bool({'torch', 'lightning', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    done = subprocess.run([sys.executable, "-c", script], cwd=house, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and f"\ntable of {MAIN} with ()\nModel card: " in done.stdout, done


def test_make_calls_a_command_that_reads_its_arguments():
    done = subprocess.run(
        [sys.executable, "-m", "cry_lightning.make.command", "nonsense"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "invalid choice: 'nonsense'" in done.stderr
    assert "see python -m cry_lightning.make.command --help" in done.stderr
