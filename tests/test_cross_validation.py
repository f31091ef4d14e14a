"""Cross-validation: who is heard in each fold, going on after a kill, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from made import RATE, REPO, stage_config

from cry_lightning.__main__ import run as command
from cry_lightning.cli import stage as cli
from cry_lightning.cli.runfolder import TESTED
from cry_lightning.console import UserError
from cry_lightning.data.splits import Split
from cry_lightning.evaluation.run import read_run
from cry_lightning.files import write_json
from cry_lightning.lineage import read, subject_fingerprint
from cry_lightning.studies import engine
from cry_lightning.studies.cross_validation import CrossValidation, exclude_test_subjects, open_chain, planned
from cry_lightning.studies.division import CrossValidationPlan
from cry_lightning.studies.engine import StageConfig
from cry_lightning.studies.rounds import Fold, divided, plan

main = partial(command, "cross-validate")


@pytest.fixture
def noises(tmp_path):
    """manifest.csv of another corpus, other subjects and other sounds."""
    folder, rng = tmp_path / "noises", np.random.default_rng(1)
    folder.mkdir()
    lines = ["path,label,subject"]
    for clip in range(16):
        soundfile.write(folder / f"{clip}.wav", 0.1 * rng.standard_normal(RATE // 2), RATE)
        lines.append(f"{clip}.wav,noise,adult{clip % 8}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


@pytest.fixture
def write(tmp_path):
    """Writes a stage YAML of a corpus; a contrastive one where it learns without labels."""

    def path(corpus, name, contrastive=False, **data):
        config = stage_config(corpus, tmp_path, name)
        config["trainer"] |= {"max_epochs": 1, "logger": False}
        config["data"] |= data
        config["data"]["corpus"]["init_args"]["name"] = corpus.parent.name
        if contrastive:
            config["data"]["subset"] = {"unlabelled": True}
            config["model"]["class_path"] = "cry_lightning.tasks.SimCLR"
            config["model"]["init_args"]["temperature"] = 0.5
            config["checkpoint"] = {"monitor": "val/loss", "mode": "min"}
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        return str(file)

    return path


@pytest.fixture
def fits(monkeypatch):
    """Names of the runs fitted, as they are; after `stop_after` of them the process is killed."""
    called, really = [], cli.main

    def counted(args, **kwargs):
        if args[0] == "fit" and len(called) == called_before_kill[0]:
            raise KeyboardInterrupt
        run = really(args, **kwargs)
        if args[0] == "fit":
            called.append(run.run_folder.path.name)
        return run

    called_before_kill = [np.inf]
    monkeypatch.setattr(cli, "main", counted)
    return called, called_before_kill


@pytest.mark.slow
def test_a_chain_hears_no_test_subject_and_goes_on_where_it_was_killed(tones, noises, write, tmp_path, fits, capsys):
    called, called_before_kill = fits
    simclr = write(noises, "simclr", contrastive=True, split={"val": 0.25, "test": 0.0})
    adapt = write(tones, "adapt", contrastive=True)
    args = ["--config", simclr, adapt, write(tones, "finetune"), "--folds", "2"]
    called_before_kill[0] = 4  # simclr, then adapt and finetune of the first fold, then adapt of the second
    with pytest.raises(KeyboardInterrupt):
        main([*args, "--out", str(tmp_path / "killed")])
    called_before_kill[0] = np.inf
    assert called == ["simclr", "repeat0-fold0-adapt", "repeat0-fold0", "repeat0-fold1-adapt"]
    called.clear()
    main([*args, "--out", str(tmp_path / "killed")])
    assert called == ["repeat0-fold1"]
    called.clear()
    main([*args, "--out", str(tmp_path / "killed")])
    assert called == []
    assert "2 folds are pooled" in capsys.readouterr().out

    main([*args, "--out", str(tmp_path / "whole"), "--keep"])
    pooled = (tmp_path / "killed/predictions.csv").read_bytes()
    assert pooled == (tmp_path / "whole/predictions.csv").read_bytes()
    assert {path.parent.name for path in (tmp_path / "killed").rglob("*.ckpt")} == {"simclr"}
    kept = tmp_path / "whole/folds" / tones.parent.name
    assert (kept / "repeat0-fold0/best.ckpt").exists() and (kept / "repeat0-fold0-adapt/best.ckpt").exists()

    table = pd.read_csv(tmp_path / "killed/predictions.csv")
    tested = table[table["split"] == "test"]
    assert len(tested) == tested["clip"].nunique() == 96
    for fold in read(tmp_path / "killed/lineage.json").as_dict()["folds"]:
        own = {subject_fingerprint(s, "given") for s in tested["subject"][tested["fold"] == int(fold["fold"])]}
        name = f"repeat0-fold{fold['fold']}"
        assert [stage["stage"] for stage in fold["stages"]] == ["simclr", f"{name}-adapt", name]
        for stage in fold["stages"]:
            assert stage["subjects"] and not own & {*stage["subjects"], *stage["validation_subjects"]}
    assert read_run(str(tmp_path / "killed"), "test").leakage.status == "CLEAN"
    folds = pd.read_csv(tmp_path / "killed/folds.csv")
    assert folds["clips"].sum() == 96 and folds["subjects"].sum() == 12


@pytest.mark.slow
def test_a_division_by_clip_is_stamped_leaky(tones, write, tmp_path, capsys):
    adapt, finetune = write(tones, "adapt", contrastive=True), write(tones, "finetune")
    main(["--config", adapt, finetune, "--folds", "2", "--group", "clip"])
    assert "LEAKY" in capsys.readouterr().out
    out = tmp_path / f"runs/{tones.parent.name}/finetune-2x1-clip"
    assert "**LEAKY**" in (out / "report.md").read_text()
    lineage = read(out / "lineage.json").as_dict()
    lineage["folds"].pop()
    (out / "lineage.json").write_text(json.dumps(lineage))
    assert read_run(str(out), "test").leakage.unknown == "lineage.json has no such fold"


@pytest.mark.slow
def test_seeds_train_one_division_again(tones, write, tmp_path, capsys):
    main(["--config", write(tones, "finetune"), "--seeds", "3", "4", "--out", str(tmp_path / "out")])
    assert "Each figure is the mean over 2 repeats" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out/predictions.csv")
    first, second = (table[table["repeat"] == repeat].set_index("clip") for repeat in (0, 1))
    assert first["split"].equals(second["split"]) and not np.allclose(first["score_low"], second["score_low"])
    configs = [yaml.safe_load(path.read_text()) for path in sorted(tmp_path.glob("out/folds/*/repeat*/config.yaml"))]
    assert [config["seed_everything"] for config in configs] == [3, 4] == [c["data"]["seed"] for c in configs]


@pytest.mark.slow
def test_adaptation_is_told_of_every_subject_of_a_tested_group(tones, write, tmp_path):
    lines = tones.read_text().splitlines()
    manifest = shutil.copytree(tones.parent, tmp_path / "wards") / "manifest.csv"
    named = [line.replace("baby", "ward#baby") for line in lines]  # in a .txt, what follows a # would be a comment
    unlabelled = [line.replace(",low,", ",,") if "#baby00" in line else line for line in named if "high_00" not in line]
    manifest.write_text("\n".join(unlabelled) + "\n")
    study = engine.open_study(StageConfig(write(manifest, "adapt", contrastive=True)))
    tested = divided(study.data, Split(scheme="leave_one_out", group="site", fold=0, val=0.0))
    changes = exclude_test_subjects(study, tested, tmp_path / "adapt")
    heard = engine.open_study(study.stage.changed(changes)).data
    assert set(heard.subjects("train") + heard.subjects("val")) == {
        f"{heard.corpus.collection}:ward#baby{n:02}" for n in range(12) if n % 3
    }


@pytest.mark.slow
def test_leave_one_site_out_has_a_fold_for_each(tones, write, tmp_path):
    main(["--config", write(tones, "finetune"), "--loso", "--group", "site", "--out", str(tmp_path / "out")])
    table = pd.read_csv(tmp_path / "out/predictions.csv").query("split == 'test'")
    assert table.groupby("fold")["subject"].nunique().tolist() == [4, 4, 4]
    sites = table["subject"].str[-2:].astype(int) % 3
    assert (sites == table["fold"]).all()


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--folds", "13"],
            r"--folds 13: more than there are subjects of high \(12 subjects, 48 clips\), low .*12 or fewer",
        ),
        (["--folds", "0"], r"--folds must be at least 2 and --repeats at least 1, not 0 and 1"),
        (["--folds", "3", "--loso"], r"--folds and --loso contradict each other"),
        (["--group", "hospital"], r"no column 'hospital'; the columns are .*site"),
        (["--jobs", "0"], r"--jobs: 0: 1 or more folds are needed"),
        (["--seeds", "1", "1"], r"--seeds 1 1: the same seed twice is the same training twice"),
        (["--seeds", "1", "--data.split.scheme=kfold"], r"with data\.split\.scheme=kfold use --repeats"),
        (
            ["--data.split.val_in_train=true"],
            r"val_in_train: folds have no validation part where data\.split\.val is 0",
        ),
        (["--data.split.vall=1"], r"data\.split\.vall: no such key"),
        (["--model.init_args.weights=nowhere.ckpt"], r"nowhere\.ckpt: cannot be read .*fit the stage that makes it"),
    ],
)
def test_what_makes_no_sense_is_refused(tones, write, args, message):
    with pytest.raises(UserError, match=message):
        main(["--config", write(tones, "finetune"), *args])


def test_a_pretraining_is_refused(tones, write):
    with pytest.raises(UserError, match="pretrain: a pretraining, which has no test"):
        main(["--config", write(tones, "pretrain", contrastive=True)])


def test_another_seed_of_the_split_makes_other_folds(tones, write):
    data = engine.open_study(StageConfig(write(tones, "finetune"))).data
    scheme = plan(data, CrossValidationPlan(folds=3))
    tested = [divided(data, scheme.rounds(0.2, seed)[0].split).subjects("test") for seed in (0, 0, 5)]
    assert tested[0] == tested[1] != tested[2]


def test_seeds_and_divisions_are_crossed(tones, write):
    data = engine.open_study(StageConfig(write(tones, "finetune"))).data
    rounds = plan(data, CrossValidationPlan(folds=3, repeats=2, seeds=[7, 9])).rounds(0.2, seed=0)
    assert [(this.name, this.seed) for this in rounds if this.split.fold == 0] == [
        ("repeat0-fold0", 7),
        ("repeat1-fold0", 9),
        ("repeat2-fold0", 7),
        ("repeat3-fold0", 9),
    ]
    parts = [divided(data, this.split).parts.tolist() for this in rounds if this.split.fold == 0]
    assert parts[0] == parts[1] != parts[2] == parts[3]
    scheme = planned([StageConfig(write(tones, "finetune"))], CrossValidationPlan(folds=3, seeds=[7, 9])).scheme
    assert scheme == json.loads(json.dumps(scheme))  # as it is read again, so that the study goes on


@pytest.mark.slow
def test_a_fold_is_trained_again_where_what_it_adapted_to_has_changed(tones, write, tmp_path, monkeypatch):
    trained = []

    def train(study, own, folder, provenance, tested=None):
        trained.append(study.config["name"])
        folder.mkdir(parents=True, exist_ok=True)
        for name in TESTED:
            (folder / name).touch()
        write_json(provenance, folder / engine.MARK)

    def run_again():
        trained.clear()
        chain = open_chain([StageConfig(adapt), StageConfig(finetune)])
        rounds = CrossValidation(chain, [], {}, tmp_path / "out", tmp_path / "out/stages")
        rounds.train_round(Fold(Split(scheme="kfold", folds=2, fold=0)), None, keep=True)
        return trained

    monkeypatch.setattr(engine, "train", train)
    unlabelled = shutil.copytree(tones.parent, tmp_path / "unlabelled") / "manifest.csv"
    adapt, finetune = write(unlabelled, "adapt", contrastive=True), write(tones, "finetune")
    assert run_again() == ["adapt", "finetune"]
    assert run_again() == []
    shutil.copy(unlabelled.parent / "low_00_0.wav", unlabelled.parent / "low_00_2.wav")
    assert run_again() == ["adapt", "finetune"]


def test_few_groups_are_warned_of(tones, write, monkeypatch, caplog):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cry_lightning.studies.cross_validation.train_once", stop)
    with pytest.raises(KeyboardInterrupt):
        main(["--config", write(tones, "finetune"), "--folds", "7"])
    assert "few subjects for 7 folds: high (12 subjects, 48 clips)" in caplog.text


@pytest.mark.slow
def test_a_fold_without_a_class_to_learn_from_is_refused(tones, write, tmp_path):
    lines = tones.read_text().splitlines()
    rows = [line for line in lines[1:] if ",low," in line or "site0" in line]
    manifest = shutil.copytree(tones.parent, tmp_path / "lopsided") / "manifest.csv"
    manifest.write_text("\n".join([lines[0], *rows]) + "\n")
    with pytest.raises(UserError, match="fold 0 of repeat 0: no training clip of high"):
        main(["--config", write(manifest, "finetune"), "--loso", "--group", "site"])


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused(tones, write, tmp_path):
    args = ["--config", write(tones, "finetune"), "--folds", "2", "--out", str(tmp_path / "out")]
    main(args)
    with pytest.raises(UserError, match=r"other settings \(stages\.0\.data\.sampling\.batch_size\)"):
        main([*args, "--data.sampling.batch_size=4"])
    with pytest.raises(UserError, match=r"other settings \(scheme\.repeats\)"):
        main([*args, "--repeats", "2"])
    main(
        [
            *args,
            "--data.cache.workers=1",
            "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
            "--trainer.logger.save_dir=.",
        ]
    )


@pytest.mark.slow
def test_a_probe_on_tested_subjects_is_left_out_or_refused(tones, noises, write, tmp_path):
    simclr = write(noises, "simclr", contrastive=True, split={"val": 0.25, "test": 0.0})
    config = yaml.safe_load((tmp_path / "simclr.yaml").read_text())
    config["data"]["probe"] = stage_config(tones, tmp_path)["data"] | {"shift_s": 0.05}
    (tmp_path / "simclr.yaml").write_text(yaml.safe_dump(config))
    args = ["--config", simclr, write(tones, "finetune"), "--folds", "2", "--out", str(tmp_path / "out")]
    main(args)
    assert read_run(str(tmp_path / "out"), "test").leakage.status == "CLEAN"
    config["checkpoint"] = {"monitor": "val/probe_uar", "mode": "max"}
    (tmp_path / "simclr.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="simclr: val/probe_uar chooses its checkpoint by tested subjects"):
        main(args)


@pytest.mark.slow
def test_folds_at_a_time_give_what_they_give_one_by_one(tones, write, tmp_path):
    args = ["--config", write(tones, "adapt", contrastive=True), write(tones, "finetune"), "--folds", "2"]
    for jobs in ("1", "2"):
        main([*args, "--jobs", jobs, "--out", str(tmp_path / jobs)])
    one, two = (pd.read_csv(tmp_path / jobs / "predictions.csv") for jobs in ("1", "2"))
    pd.testing.assert_frame_equal(one, two, atol=1e-5)


@pytest.mark.slow
def test_every_fold_is_a_run_of_one_group_on_the_dashboard(tones, write, tmp_path):
    config = yaml.safe_load((tmp_path / write(tones, "finetune")).read_text())
    config["trainer"]["logger"] = {"class_path": "lightning.pytorch.loggers.WandbLogger"}
    (tmp_path / "finetune.yaml").write_text(yaml.safe_dump(config))
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-m", "cry_lightning", "cross-validate", "--config", "finetune.yaml", "--folds", "2"]
    done = subprocess.run(
        [*command, "--out", "out"], env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    logs = [path.read_bytes() for path in (tmp_path / "out/folds/wandb").glob("offline-run-*/*.wandb")]
    for fold in (b"repeat0-fold0", b"repeat0-fold1"):
        assert sum(fold in log for log in logs) == 2  # fit and test
        config = tmp_path / "out/folds" / tones.parent.name / fold.decode() / "config.yaml"
        assert yaml.safe_load(config.read_text())["pipeline"] == "out"


@pytest.mark.slow
def test_folds_of_two_processes_each_are_written_by_one(tones, write, tmp_path):
    args = ["--config", write(tones, "finetune"), "--folds", "2", "--out", "out"]
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    command, env = [sys.executable, "-m", "cry_lightning", "cross-validate"], os.environ | {"PYTHONPATH": str(REPO)}
    done = subprocess.run([*command, *args, *two], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Report: ") == 1 and "SD of folds" in done.stdout
    assert len(pd.read_csv(tmp_path / "out/folds.csv")) == 2
    refused = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", *command[1:], *args],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert "a study starts the processes of its trainings itself" in refused.stderr
