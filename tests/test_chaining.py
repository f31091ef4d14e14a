"""Stages chained through checkpoints: what is carried over, what is refused, what is recorded."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from copy import deepcopy
from functools import reduce
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from cry_lightning.cli import runfolder, stage as cli
from cry_lightning.cli.checkpoint_io import WholeCheckpointIO
from cry_lightning.cli.process import quiet
from cry_lightning.cli.runfolder import RunFolder
from cry_lightning.cli.stage import ReadCLI
from cry_lightning.commands.arguments import check_name
from cry_lightning.console import UserError
from cry_lightning.data.subset import Sampling
from cry_lightning.features import MFCC, LogMel
from cry_lightning.files import locked
from cry_lightning.lineage import subject_fingerprint
from cry_lightning.tasks.checkpoints import compare_front_ends, identity_of, load_encoder, read_checkpoint


def fit(config, *args):
    return cli.main(["fit", "--config", str(config), *args])


def test_what_the_test_shares_with_the_training_is_told_before_it(stage, pretrained, tones, tmp_path, caplog):
    fit(stage("elsewhere", weights=str(pretrained)), "--trainer.max_epochs=0", "--data.split.seed=1")
    assert "2 of 4 tested subjects trained on, 16 of 32 tested clips trained on (found by content)" in caplog.text
    caplog.clear()
    header, *rows = tones.read_text().split()
    for n in range(12):
        shutil.copy(tones.parent / f"low_{n:02}_0.wav", tmp_path / f"{n}.wav")
    copies = [header, *(f"{tones.parent}/{row}" for row in rows), *(f"{n}.wav,low,twin{n},north" for n in range(12))]
    (tmp_path / "copies.csv").write_text("\n".join(copies))
    fit(stage("copies"), "--trainer.max_epochs=0", f"--data.corpus.init_args.root={tmp_path / 'copies.csv'}")
    (told,) = [text for text in caplog.messages if "LEAKY" in text]
    assert "tested clips trained on (found by content)" in told and "stage copies on tones" in told


def test_what_is_divided_so_on_purpose_is_told_by_a_fit_and_not_by_a_study(stage, caplog):
    given = (stage(), "--trainer.max_epochs=0", "--data.split.group=clip")
    with caplog.at_level(logging.INFO):
        fit(*given)
        assert "the test will be LEAKY" in caplog.text
        caplog.clear()
        with quiet():
            fit(*given, "--overwrite=true")
    assert "LEAKY" not in caplog.text


def encoder_weights(state):
    return {name: value for name, value in state.items() if name.startswith("encoder.")}


def test_weights_start_the_next_stage_from_the_upstream_encoder(stage, pretrained, caplog):
    run = fit(stage("finetune", weights=str(pretrained)), "--trainer.max_epochs=0")
    assert "LEAKY" not in caplog.text
    upstream = torch.load(pretrained, weights_only=True)["state_dict"]
    own = run.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in encoder_weights(upstream).items())
    assert not torch.equal(own["head.weight"], upstream["head.weight"])


@pytest.mark.slow
def test_testing_never_needs_the_upstream_file(stage, pretrained, tmp_path):
    config = stage("finetune", weights=str(pretrained))
    fit(config)
    pretrained.unlink()
    cli.main(["test", "--config", str(config)])
    assert (tmp_path / "runs/tones/finetune/predictions.csv").exists()


def test_weights_of_another_shape_are_refused_with_both_shapes(stage, pretrained):
    wide = {"class_path": "cry_lightning.encoders.Res8", "init_args": {"n_maps": 6}}
    with pytest.raises(UserError, match=r"\(4, 1, 3, 3\) there and \(6, 1, 3, 3\) here"):
        fit(stage("finetune", weights=str(pretrained), encoder=wide))


@pytest.mark.slow
def test_the_same_front_end_behind_cached_waveforms_is_no_other(stage, pretrained, caplog):
    config = stage("finetune", weights=str(pretrained), front_end={"class_path": "cry_lightning.features.MFCC"})
    fit(config, "--data.feature=cry_lightning.features.Waveform", "--trainer.max_epochs=0")
    assert "was trained on" not in caplog.text


@pytest.mark.parametrize(
    ("trained_on", "fed", "told"),
    [
        (MFCC(n_mfcc=13), LogMel(), "a.ckpt was trained on MFCC(n_mfcc=13), this stage feeds LogMel()"),
        (MFCC(n_fft=256), MFCC(), "a.ckpt was trained on MFCC(n_fft=256), this stage feeds MFCC(n_fft=240)"),
        (torch.nn.Identity(), MFCC(), None),  # it does not tell its arguments
    ],
)
def test_front_ends_are_told_by_what_they_differ_in(trained_on, fed, told, caplog):
    compare_front_ends.cache_clear()
    for _ in range(2):  # but not twice
        compare_front_ends("a.ckpt", identity_of(trained_on), identity_of(fed))
    assert caplog.messages == ([f"weights: {told}"] if told else [])


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--save_every_n_steps=0", "save_every_n_steps"),
        ("--map_every_n_epochs=-1", "map_every_n_epochs"),
        ("--data.cache.workers=-1", r"data\.cache\.workers must be 0 or more, not -1"),
        ("--model.init_args.compile=true", "torch compiles by no-such-compiler, which is not here"),
    ],
)
def test_numbers_and_tools_that_cannot_be_are_refused_before_the_training(stage, monkeypatch, argument, told):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=told):
        fit(stage("pretrain"), argument)


def test_fewer_batches_than_none_are_refused():
    with pytest.raises(UserError, match=r"data\.sampling\.min_batches must be 0 or more, not -1"):
        Sampling(min_batches=-1)


def test_a_run_that_was_copied_is_not_tested_in_the_place_of_another(pretrained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "backup"
    shutil.copytree(pretrained.parent, copy)
    with pytest.raises(UserError, match=r"backup/config\.yaml: .*pretrain/best\.ckpt would be tested, and not"):
        cli.main(["test", "--config", str(copy / "config.yaml")])
    moved = tmp_path / "other/tones/pretrain"
    shutil.copytree(copy, moved)
    cli.main(["test", "--config", str(moved / "config.yaml"), "--runs", str(tmp_path / "other")])
    assert (moved / "predictions.csv").exists() and not (copy / "predictions.csv").exists()


def test_missing_weights_are_named(stage):
    with pytest.raises(UserError, match=r"nowhere\.ckpt: no such checkpoint"):
        fit(stage("finetune", weights="nowhere.ckpt"))


@pytest.mark.slow
def test_fit_that_failed_before_training_is_no_run(stage, pretrained, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.ckpt"):
        fit(stage("finetune", weights="nowhere.ckpt"))
    assert not (tmp_path / "runs/tones/finetune").exists()
    fit(stage("finetune", weights=str(pretrained)))  # another config now, and nothing to --overwrite


def test_ckpt_path_of_another_stage_is_refused(stage, pretrained):
    with pytest.raises(UserError, match="ckpt_path resumes the same stage"):
        fit(stage("finetune"), "--ckpt_path", str(pretrained))


def test_only_the_last_checkpoint_holds_the_optimizer_and_resumes(stage, pretrained):
    best, last = (torch.load(pretrained.with_name(name), weights_only=True) for name in ("best.ckpt", "last.ckpt"))
    assert last.keys() - best.keys() == {"optimizer_states", "lr_schedulers"}
    assert last["optimizer_states"][0]["state"]
    before = {path: path.read_bytes() for path in pretrained.parent.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"best\.ckpt is for testing .*: resume from .*/tones/pretrain/last\.ckpt$"):
        fit(stage("pretrain"), "--ckpt_path", str(pretrained))
    assert {path: path.read_bytes() for path in pretrained.parent.rglob("*") if path.is_file()} == before


def test_ckpt_path_does_not_beat_the_config_on_hyper_parameters(stage, pretrained, tmp_path):
    """Lightning would take the learning rate of the checkpoint, silently."""
    rate = "--model.init_args.optimisation.optimizer.init_args.lr=0.5"
    longer = ["--overwrite=true", "--trainer.max_epochs=3"]
    run = fit(stage("pretrain"), "--ckpt_path", str(pretrained.with_name("last.ckpt")), rate, *longer)
    saved = yaml.safe_load((tmp_path / "runs/tones/pretrain/config.yaml").read_text())
    assert saved["model"]["init_args"]["optimisation"]["optimizer"]["init_args"]["lr"] == 0.5
    assert run.model.hparams["optimisation"]["optimizer"]["init_args"]["lr"] == 0.5


@pytest.mark.slow
def test_a_second_fit_replaces_best_and_never_numbers_it(stage, pretrained, tmp_path):
    before = torch.load(pretrained, weights_only=True)["state_dict"]
    fit(stage("pretrain"), "--seed_everything=8", "--overwrite=true")
    after = torch.load(pretrained, weights_only=True)["state_dict"]
    assert not torch.equal(before["head.weight"], after["head.weight"])
    assert sorted(p.name for p in pretrained.parent.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]


def test_another_config_in_the_same_folder_is_refused_without_overwrite(stage, pretrained):
    with pytest.raises(UserError, match=r"another config .*batch_size.*--overwrite"):
        fit(stage("pretrain"), "--data.sampling.batch_size=4")


def test_finished_run_is_not_replaced_without_being_asked(stage, pretrained):
    before = pretrained.read_bytes()
    with pytest.raises(UserError, match=r"finished run of this very config.*--overwrite"):
        fit(stage("pretrain"))
    assert pretrained.read_bytes() == before


def test_test_under_another_config_is_refused(stage, pretrained):
    with pytest.raises(UserError, match=r"trained with another config .*clip_s"):
        cli.main(["test", "--config", str(stage("pretrain")), "--data.clip_s=0.3"])


@pytest.mark.slow
def test_test_leaves_the_fit_config_and_metrics_alone(stage, pretrained, tmp_path):
    run = pretrained.parent
    config, metrics = (run / "config.yaml").read_bytes(), (run / "fit/metrics.csv").read_bytes()
    cli.main(["test", "--config", str(run / "config.yaml")])
    assert (run / "config.yaml").read_bytes() == config
    assert (run / "fit/metrics.csv").read_bytes() == metrics


@pytest.mark.slow
def test_saved_config_is_one_file_that_refits_to_the_same_weights(stage, pretrained, tmp_path):
    first = torch.load(pretrained, weights_only=True)["state_dict"]
    fit(pretrained.parent / "config.yaml", "--runs", str(tmp_path / "again"))
    again = torch.load(tmp_path / "again/tones/pretrain/best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_predictions_table(stage, pretrained, capsys):
    cli.main(["test", "--config", str(stage("pretrain"))])
    run = pretrained.parent
    told = f"{run / 'predictions.csv'}; metrics: python -m cry_lightning evaluate {run}"
    assert capsys.readouterr().out.splitlines()[-1] == told
    table = pd.read_csv(pretrained.parent / "predictions.csv")
    assert list(table.columns) == [
        *("clip", "recording", "subject", "repeat", "fold", "split", "label", "subject_source"),
        *("score_high", "score_low"),
    ]
    assert set(table["split"]) == {"val", "test"}
    assert (table["score_high"] + table["score_low"] - 1).abs().max() < 1e-6
    assert table["clip"].str.fullmatch(r"(low|high)_\d\d_\d\.wav#0\.000-end").all()
    assert not set(table[table["split"] == "test"]["subject"]) & set(table[table["split"] == "val"]["subject"])


@pytest.mark.slow
def test_another_test_removes_the_report_of_the_one_before(pretrained):
    folder = pretrained.parent
    (folder / "figures").mkdir(exist_ok=True)
    for name in ("report.md", "metrics.csv", "figures/confusion.png"):
        (folder / name).write_text("of another test")
    cli.main(["test", "--config", str(folder / "config.yaml"), "--ckpt_path", str(folder / "last.ckpt")])
    assert (folder / "predictions.csv").exists() and (folder / "fit/metrics.csv").exists()
    assert not any((folder / name).exists() for name in ("report.md", "metrics.csv", "figures"))


@pytest.mark.slow
def test_lineage_lists_every_stage(stage, pretrained, tmp_path):
    config = stage("finetune", weights=str(pretrained))
    run = fit(config)
    cli.main(["test", "--config", str(config)])
    lineage = json.loads((tmp_path / "runs/tones/finetune/lineage.json").read_text())
    assert lineage["complete"]
    assert [stage["stage"] for stage in lineage["stages"]] == ["pretrain", "finetune"]
    trained_on = {subject_fingerprint(subject, "given") for subject in run.datamodule.subjects("train")}
    tested_on = {subject_fingerprint(subject, "given") for subject in run.datamodule.subjects("test")}
    assert all(set(stage["subjects"]) == trained_on and not tested_on & trained_on for stage in lineage["stages"])
    table = pd.read_csv(tmp_path / "runs/tones/finetune/predictions.csv")
    assert set(lineage["test_clips"]) == set(table["clip"])


@pytest.mark.slow
def test_weights_without_lineage_make_it_incomplete(stage, pretrained, tmp_path):
    """As those of other programs, which tell no front end to compare with, either."""
    checkpoint = torch.load(pretrained, weights_only=True)
    del checkpoint["lineage"], checkpoint["front_end"]
    torch.save(checkpoint, tmp_path / "foreign.ckpt")
    config = stage("finetune", weights=str(tmp_path / "foreign.ckpt"))
    fit(config)
    cli.main(["test", "--config", str(config)])
    assert not json.loads((tmp_path / "runs/tones/finetune/lineage.json").read_text())["complete"]


def test_checkpoint_holds_what_predicting_needs_and_loads_weights_only(pretrained):
    checkpoint = torch.load(pretrained, weights_only=True)
    data = checkpoint["datamodule_hyper_parameters"]
    assert data["feature"]["class_path"] == "cry_lightning.features.MFCC"
    assert checkpoint["hyper_parameters"]["_class_path"] == "cry_lightning.tasks.Classifier"
    assert checkpoint["classes"] == ["high", "low"]


def test_half_a_checkpoint_is_refused(pretrained, tmp_path):
    half = pretrained.read_bytes()[: pretrained.stat().st_size // 2]
    (tmp_path / "half.ckpt").write_bytes(half)
    with pytest.raises(UserError, match=r"half\.ckpt: not a whole checkpoint"):
        load_encoder(torch.nn.Identity(), tmp_path / "half.ckpt")


@pytest.mark.slow
def test_trained_model_is_tested_on_another_corpus(stage, pretrained, tones, tmp_path):
    """All of it, with the model's classes, though this corpus has one of them only."""
    lines = tones.read_text().splitlines()
    other = tones.parent / "other.csv"
    other.write_text("\n".join([lines[0], *(line for line in lines if ",low,baby00," in line)]) + "\n")
    args = ["test", "--config", str(pretrained.parent / "config.yaml"), "--ckpt_path", str(pretrained)]
    args += [f"--data.corpus.init_args.root={other}", "--data.corpus.init_args.name=other"]
    cli.main([*args, "--data.split.scheme=external"])
    table = pd.read_csv(tmp_path / "runs/other/pretrain/predictions.csv")
    assert len(table) == 4 and set(table["split"]) == {"test"} and set(table["label"]) == {"low"}
    assert {"score_high", "score_low"} < set(table.columns)


@pytest.mark.slow
def test_corpus_with_classes_that_the_model_does_not_know_is_refused(stage, pretrained, tones):
    other = tones.parent / "more.csv"
    other.write_text(tones.read_text().replace("low,baby00", "middle,baby00"))
    args = ["test", "--config", str(pretrained.parent / "config.yaml"), "--ckpt_path", str(pretrained)]
    args += [f"--data.corpus.init_args.root={other}", "--data.corpus.init_args.name=more"]
    with pytest.raises(UserError, match="has middle, but the model has high, low: map"):
        cli.main([*args, "--data.split.scheme=external"])


def test_crash_while_a_checkpoint_is_written_leaves_the_old_one(pretrained, monkeypatch, tmp_path):
    before = pretrained.read_bytes()

    def half(path, content):
        with path.open("wb") as file:
            file.write(before[:1000])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="no space left"):
        WholeCheckpointIO().save_checkpoint({}, pretrained)
    assert pretrained.read_bytes() == before and not list(pretrained.parent.glob("*.part"))


def test_a_checkpoint_goes_through_no_other_folder_and_is_on_the_disk_before_it_gets_its_name(monkeypatch, tmp_path):
    """A full /tmp is no reason to lose a training, nor is a power cut."""
    on_disk, sync, rename = set(), os.fsync, Path.replace
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    monkeypatch.setattr(os, "fsync", lambda file: [sync(file), on_disk.add(os.fstat(file).st_ino)])

    def checked(part, path):
        assert part.stat().st_ino in on_disk
        return rename(part, path)

    monkeypatch.setattr(Path, "replace", checked)
    WholeCheckpointIO().save_checkpoint({"epoch": 3}, tmp_path / "run/last.ckpt")
    assert torch.load(tmp_path / "run/last.ckpt", weights_only=True) == {"epoch": 3}


@pytest.mark.parametrize("name", ["../../precious.ckpt", "config.yaml", "best.ckpt"])
def test_only_checkpoints_of_the_run_itself_are_removed(pretrained, name):
    """A resumed fit is told by a checkpoint which one it replaces."""
    folder = pretrained.parent
    (folder / name).touch()
    WholeCheckpointIO(folder).remove_checkpoint(folder / name)
    assert (folder / name).exists() == (name != "best.ckpt")


@pytest.mark.slow
def test_other_ways_of_reading_the_same_data_are_the_same_run(stage, pretrained, tmp_path):
    cli.main(
        ["test", "--config", str(stage("pretrain")), "--data.cache.workers=1", f"--data.cache.folder={tmp_path / 'c2'}"]
    )
    assert (pretrained.parent / "predictions.csv").exists()


def test_unfinished_fit_is_not_tested_as_if_it_were_whole(pretrained):
    (pretrained.parent / "fit/finished").unlink()
    with pytest.raises(UserError, match=r"its fit was interrupted; go on with .*last\.ckpt"):
        cli.main(["test", "--config", str(pretrained.parent / "config.yaml")])


@pytest.mark.parametrize("beside", [None, "notes.txt"])
def test_a_refused_fit_leaves_no_run_folder(stage, tmp_path, beside):
    folder = tmp_path / "runs/tones/pretrain"
    if beside:  # of the user's, beside an older fit that failed
        folder.mkdir(parents=True)
        (folder / ".lock").touch()
        (folder / beside).touch()
    with pytest.raises(UserError, match="num_classes is 17, but the corpus has 2"):
        cli.main(["fit", "--config", str(stage(num_classes=17))])
    assert sorted((tmp_path / "runs").rglob("*") if beside else tmp_path.glob("runs")) == (
        [folder.parent, folder, folder / ".lock", folder / beside] if beside else []
    )


def test_a_run_that_is_to_be_replaced_is_as_it_was_where_the_new_fit_is_refused(stage, own_tested):
    folder = own_tested.parent
    (folder / "made_from.json").write_text("{}")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(UserError, match="num_classes is 17, but the corpus has 2"):
        fit(stage(num_classes=17), "--overwrite=true")
    with pytest.raises(UserError, match="nothing was trained, so that the run there is not"):
        fit(stage(), "--overwrite=true", "--trainer.max_epochs=0")
    with pytest.raises(UserError, match="optimizer: Invalid learning rate: -1"):
        fit(stage(), "--overwrite=true", "--model.init_args.optimisation.optimizer.init_args.lr=-1")
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before
    fit(stage(), "--overwrite=true", "--trainer.max_epochs=1")
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "best.ckpt", "config.yaml", "fit", "last.ckpt"]


@pytest.mark.parametrize("killed", ["while it was put aside", "before a checkpoint", "while it was brought back"])
def test_a_run_that_was_to_be_replaced_comes_back_whenever_the_fit_was_killed(tmp_path, monkeypatch, killed):
    folder = RunFolder(tmp_path)
    (tmp_path / ".lock").touch()
    things = {"config.yaml": "name: old\n", "best.ckpt": "best", "fit/finished": "", "predictions.csv": "table"}
    for name, text in things.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    moves = Path.rename

    def rename(path, to):
        if path.name in ("best.ckpt", "fit") and killed != "before a checkpoint":
            raise KeyboardInterrupt
        return moves(path, to)

    if killed == "while it was put aside":
        monkeypatch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            folder.begin("name: new", overwrite=True)
    else:
        folder.begin("name: new", overwrite=True)
        (tmp_path / "fit").mkdir()
        assert not folder.best.exists() and folder.config.read_text() == "name: new"
        monkeypatch.setattr(Path, "rename", rename)
        if killed == "while it was brought back":
            with pytest.raises(KeyboardInterrupt):
                folder.forsake([])
    monkeypatch.undo()
    with folder.held():
        assert {name: (tmp_path / name).read_text() for name in things} == things
        assert not [*tmp_path.glob(".replaced*")]
        folder.begin("name: new", overwrite=True)
        folder.best.touch()
    with folder.held():
        assert folder.config.read_text() == "name: new"
        folder.finish(1)
    assert not [*tmp_path.glob(".replaced*")]


def test_misspelt_monitor_is_one_line(stage):
    with pytest.raises(UserError, match="val/ura"):
        fit(stage("pretrain"), "--checkpoint.monitor=val/ura")


FOREIGN = ("figures/a.png", "test/b", "fit/c", "validation/d", "metrics.csv", "predictions.csv", "report.md")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


ELSEWHERE = ["../..", "..", ".", "a/b", "/tmp/x", "-x", "a\\b"]
NOT_IN_YAML = ["", "a\nb", "a\0b"]  # an empty name of a corpus is the collection's own


@pytest.mark.parametrize("name", ELSEWHERE + NOT_IN_YAML)
def test_what_leads_elsewhere_is_no_name_of_a_folder(name):
    with pytest.raises(UserError, match=r"^name: .* is no name of a folder"):
        check_name("name", name)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("key", "name"),
    [
        *(("--name", name) for name in ELSEWHERE + NOT_IN_YAML),
        *(("--data.corpus.init_args.name", name) for name in ELSEWHERE),
    ],
)
def test_names_that_lead_elsewhere_are_refused(stage, tmp_path, name, key):
    config = stage("pretrain")
    for path in (tmp_path / name for name in FOREIGN):
        path.parent.mkdir(exist_ok=True)
        path.write_text("the user's")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="is no name of a folder"):
        fit(config, f"{key}={name}", "--overwrite=true")
    assert contents(tmp_path) == before


HELD = [*FOREIGN, "config.yaml", "lineage.json", "thesis.txt"]


@pytest.mark.parametrize("held", HELD)
def test_what_another_thing_holds_is_no_run_folder(tmp_path, held):
    (tmp_path / held).parent.mkdir(exist_ok=True)
    (tmp_path / held).write_text("[]")
    before = contents(tmp_path)
    told = rf"is no run folder, it holds {held.split('/')[0]}; give"
    with pytest.raises(UserError, match=told), RunFolder(tmp_path).held():
        pass
    assert contents(tmp_path) == before


@pytest.mark.sampled(1)
@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_folder_that_is_no_run_is_left_alone(stage, pretrained, tmp_path, held, command):
    folder = tmp_path / "runs/other/pretrain"
    (folder / held).parent.mkdir(parents=True)
    (folder / held).write_text("[]")
    before = contents(folder)
    args = ["--config", str(stage("pretrain")), "--data.corpus.init_args.name=other", "--overwrite=true"]
    checkpoint = ["--ckpt_path", str(pretrained)] if command == "test" else []
    with pytest.raises(UserError, match=rf"other/pretrain is no run folder, it holds {held.split('/')[0]}; give"):
        cli.main([command, *args, *checkpoint])
    assert contents(folder) == before


@pytest.mark.slow
def test_links_out_of_a_run_are_removed_and_not_followed(stage, pretrained, tmp_path):
    outside = tmp_path / "outside"
    (outside / "test").mkdir(parents=True)
    for name in ("figures.png", "metrics.csv", "test/metrics.csv", "finished"):
        (outside / name).write_text("the user's")
    run, before = pretrained.parent, contents(outside)
    for name in ("figures", "test", "validation"):
        (run / name).symlink_to(outside)
    (run / "report.md").symlink_to(outside / "metrics.csv")
    shutil.rmtree(run / "fit")
    (run / "fit").symlink_to(outside)
    cli.main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "last.ckpt")])
    assert contents(outside) == before
    fit(stage("pretrain"), "--overwrite=true")
    assert contents(outside) == before and not (run / "fit").is_symlink()


@pytest.mark.slow
def test_the_second_of_two_commands_in_a_folder_is_refused(stage, pretrained):
    run = pretrained.parent
    script = (
        f"from cry_lightning.files import locked; from pathlib import Path\nwith locked(Path({str(run)!r})): input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as other:
        while not (run / ".lock").exists() or not (run / ".lock").read_text():
            time.sleep(0.05)
        before = contents(run)
        told = rf"pretrain: process {other.pid} on .+ is at work there"
        for args in (["fit", "--overwrite=true"], ["fit", "--ckpt_path", str(run / "last.ckpt")], ["test"]):
            more = ["--trainer.max_epochs=3"] if "--ckpt_path" in args else []
            with pytest.raises(UserError, match=told):
                cli.main([args[0], "--config", str(run / "config.yaml"), *args[1:], *more])
        assert contents(run) == before
        other.kill()
    cli.main(["test", "--config", str(run / "config.yaml")])  # a lock goes with its process
    assert (run / "predictions.csv").exists() and (run / ".lock").read_text() == ""


def test_who_holds_a_folder_is_told_with_the_options_of_any_command(tmp_path):
    told = rf"process {os.getpid()} on .+ is at work there; .+ another --name, or a study another --out"
    with locked(tmp_path), pytest.raises(UserError, match=told), locked(tmp_path):
        pass


def test_a_lock_goes_with_its_process_though_a_child_lives_on(tmp_path):
    reading, writing = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            os.write(writing, b"-")  # by now it has let go
            time.sleep(20)
            os._exit(0)
        os.read(reading, 1)
    try:
        with locked(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()} on"), locked(tmp_path):
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


DAMAGES = {
    "config.yaml": (b"# python -m cry_lightning fit\n\xff: [", "config.yaml: damaged, so that nobody can tell"),
    "last.ckpt": (b"", "last.ckpt: an empty file, and not a checkpoint"),
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_of_a_run_are_one_line(stage, pretrained, name):
    run, (content, told) = pretrained.parent, DAMAGES[name]
    (run / name).write_bytes(content)
    args = ["--ckpt_path", str(run / "last.ckpt"), "--trainer.max_epochs=3"]
    with pytest.raises(UserError, match=told) as error:
        fit(stage("pretrain"), *args)
    assert "\n" not in str(error.value)
    if name == "config.yaml":
        fit(stage("pretrain"), "--overwrite=true", "--trainer.max_epochs=1")
        assert yaml.safe_load((run / name).read_text())["name"] == "pretrain"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_a_checkpoint_with_a_flipped_byte_is_refused(pretrained, name):
    path = pretrained.with_name(name)
    content = bytearray(path.read_bytes())
    weights = torch.load(path, weights_only=True)["state_dict"]["encoder.conv0.weight"].numpy().tobytes()
    content[content.index(weights) + 5] ^= 16
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: not a whole checkpoint \(damaged: archive/data/"):
        cli.main(["test", "--config", str(path.parent / "config.yaml"), "--ckpt_path", str(path)])
    with pytest.raises(UserError, match="has another checksum"):
        read_checkpoint(path)  # as predict, embed and export do


FULL_DISK = """
import resource, sys
from cry_lightning.__main__ import main
import lightning.pytorch, pandas, matplotlib.pyplot
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_full_disk_is_one_line_and_leaves_nothing_half_written(stage, pretrained, tmp_path):
    """A limit on the size of files stands for it."""
    last = pretrained.with_name("last.ckpt")
    script = FULL_DISK.format(limit=last.stat().st_size - 2000)
    args = ["fit", "--config", str(stage("pretrain")), "--runs", str(tmp_path / "full")]
    done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    told = done.stderr.splitlines()[-1]
    assert "full/tones/pretrain: nothing more can be written" in told and "(ulimit -f), then go on with" in told
    run = tmp_path / "full/tones/pretrain"
    assert not (run / "fit/finished").exists() and not (run / "last.ckpt").exists() and not list(run.rglob("*.part"))
    fit(stage("pretrain"), "--runs", str(tmp_path / "full"))
    assert (run / "fit/finished").exists()


@pytest.mark.slow
def test_full_disk_in_test_is_one_line(pretrained):
    run = pretrained.parent
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK.format(limit=1000), "test", "--config", str(run / "config.yaml")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(f"{re.escape(str(run))}.*: (nothing more can|cannot) be written", done.stderr.splitlines()[-1])
    assert not (run / "predictions.csv").exists() and not (run / "lineage.json").exists()


def test_a_run_of_before_a_key_existed_is_the_same_run_while_the_key_has_its_old_meaning():
    before = {"data": {"split": {"val": 0.2}}}
    now = {"data": {"split": {"val": 0.2, "trainings": 1, "val_in_train": False}}}
    assert runfolder.differences(before, now) == []
    now["data"]["split"]["trainings"] = 3
    assert runfolder.differences(before, now) == ["data.split.trainings"]


FIRST = {  # the keys of a run's config in the first release
    "data.split": "scheme group column val test folds fold repeat seed",
    "data.subset": "unlabelled label_fraction per_class exclude_subjects",
    "data.sampling": "batch_size drop_last balanced by_subject class_weights",
    "model.init_args.optimisation": "optimizer scheduler scheduler_interval warmup_epochs scale_lr encoder_lr_scale"
    " exclude_from_decay",
}


def test_a_run_of_before_is_that_of_a_config_with_the_keys_that_came_since(stage):
    config = yaml.safe_load(ReadCLI(["fit", "--config", str(stage("later"))]).body)
    before = deepcopy(config)
    for path, first in FIRST.items():
        section = reduce(dict.__getitem__, path.split("."), before)
        for key in set(section) - set(first.split()):
            del section[key]
    assert before != config and runfolder.differences(before, config) == []
