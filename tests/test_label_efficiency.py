"""Label efficiency: which points there are, that none is trained twice or on other labels, and how curves are read."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cry_lightning.__main__ import run as command
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.evaluation.run import Tested as Predicted, evaluate_run, pool
from cry_lightning.lineage import Leakage, read
from cry_lightning.studies import label_curves
from cry_lightning.studies.engine import StageConfig, is_finished
from cry_lightning.studies.label_curves import curves, labels_needed, scored
from cry_lightning.studies.label_efficiency import LabelCount, Trial, made_by, open_study, points, run_point, subset

main = partial(command, "label-efficiency")


SHORT = ("--trainer.max_epochs=-1", "--trainer.max_steps=2")


def point(encoder="scratch", amount=5, seed=0, fold=None, weights=None):
    return Trial(encoder, weights, "per_class", amount, seed, fold)


# which points there are


def test_small_amounts_come_first_with_every_encoder_and_fold(tmp_path):
    for fold in (0, 1):
        (tmp_path / f"{fold}.ckpt").touch()
    planned = points(["scratch", f"simclr={tmp_path}/{{fold}}.ckpt"], "label_fraction", [1.0, 0.1], [3], [0, 1])
    assert [(p.amount, p.fold, p.encoder, p.weights) for p in planned[:4]] == [
        (0.1, 0, "scratch", None),
        (0.1, 0, "simclr", f"{tmp_path}/0.ckpt"),
        (0.1, 1, "scratch", None),
        (0.1, 1, "simclr", f"{tmp_path}/1.ckpt"),
    ]
    assert len(planned) == len({p.name for p in planned}) == 8
    assert {p.amount for p in planned[4:]} == {1.0}


def test_a_point_overrides_whatever_limits_the_labels_in_the_yaml():
    own = point(amount=5, seed=2, fold=1).changes
    assert own[:2] == ["--data.subset.label_fraction=1.0", "--data.subset.per_class=5"]
    assert {"--data.seed=2", "--seed_everything=2", "--data.split.fold=1", "--model.init_args.weights=null"} < set(own)


def test_an_encoder_may_have_arguments_of_its_own(tmp_path):
    (tmp_path / "a.ckpt").touch()
    own = ["probe --model.init_args.frozen=true --trainer.max_steps=9"]
    scratch, probe = points(["scratch", f"probe={tmp_path}/a.ckpt"], "per_class", [5], [0], [None], own)
    assert probe.changes[-2:] == ["--model.init_args.frozen=true", "--trainer.max_steps=9"]
    assert not any("frozen" in argument or "max_steps" in argument for argument in scratch.changes)
    for given, message in [
        ("simclr", r"--arguments simclr: no such encoder; they are scratch"),
        ("scratch --model.init_args.weights=a.ckpt", r"--encoders states what an encoder starts from"),
        ("scratch --data.subset.per_class=500", r"--data\.subset\.per_class=500: only --model"),
        ("scratch --seed_everything=1", r"--seed_everything=1: only --model"),
    ]:
        with pytest.raises(UserError, match=message):
            points(["scratch"], "per_class", [5], [0], [None], [given])


@pytest.mark.parametrize(
    ("encoders", "amounts", "message"),
    [
        (["simclr"], [0.5], r"--encoders simclr: say scratch, or NAME=CHECKPOINT"),
        (["scratch=a.ckpt"], [0.5], r"--encoders scratch=a\.ckpt: say"),
        (["a/b=a.ckpt"], [0.5], r"--encoders a/b=a\.ckpt: say"),
        (["scratch", "scratch"], [0.5], r"--encoders: scratch is named twice"),
        (["scratch"], [0.5, 0.5], r"--fractions: 0\.5 is named twice"),
        (["scratch"], [1.5], r"--fractions 1\.5: shares lie above 0 and up to 1"),
        (["simclr=nowhere.ckpt"], [0.5], r"--encoders simclr: nowhere\.ckpt: no such checkpoint"),
        (["simclr={fold}.ckpt"], [0.5], r"\{fold\} stands for a fold, so name the --folds"),
    ],
)
def test_what_makes_no_sense_is_refused(encoders, amounts, message):
    with pytest.raises(UserError, match=message):
        points(encoders, "label_fraction", amounts, [0], [None])


# how curves are read


def test_labels_needed_on_a_curve_that_is_linear_in_the_logarithm():
    labels = np.array([10, 100, 1000])
    scores = np.array([0.5, 0.7, 0.9])
    bound, number = labels_needed(labels, scores, 0.6)
    assert bound == "about" and number == pytest.approx(10**1.5)
    assert labels_needed(labels, scores, 0.7) == ("about", pytest.approx(100))
    assert labels_needed(labels, scores, 0.91) == ("more than", 1000)
    assert labels_needed(labels, scores, 0.4) == ("at most", 10)


def test_a_curve_that_falls_again_is_read_where_it_first_reaches_the_score():
    bound, number = labels_needed(np.array([1, 10, 100, 1000]), np.array([0.5, 0.8, 0.6, 0.9]), 0.7)
    assert bound == "about" and 1 < number < 10


def predicted(right: np.ndarray, fold=0) -> Predicted:
    """Predictions for subjects with two clips of each of two classes; right (S, 4) tells which are right."""
    rows = [(subject, take, ok) for subject, takes in enumerate(right) for take, ok in enumerate(takes)]
    label = np.array(["ab"[take % 2] for _, take, _ in rows])
    score_a = np.where((label == "a") == np.array([bool(ok) for *_, ok in rows]), 0.9, 0.1)
    names = [f"{fold}-{subject}-{take}" for subject, take, _ in rows]
    subjects = [f"c:{fold}-{subject}" for subject, *_ in rows]
    table = pd.DataFrame({"clip": names, "recording": names, "subject": subjects, "label": label})
    table = table.assign(
        repeat="0", fold=str(fold), split="test", subject_source="given", score_a=score_a, score_b=1 - score_a
    )
    return Predicted("run", Path("runs/run"), table, table.iloc[:0], table["label"], Leakage("CLEAN", []), lineage=None)


def subsets_of(runs):
    return {p.subset: LabelCount({"a": p.amount, "b": p.amount}, {"a": 3, "b": 4}, 5, "") for p in runs}


@pytest.fixture
def runs():
    """Scratch and another encoder on two amounts, with two seeds and two folds of four subjects."""
    rng = np.random.default_rng(0)
    share_right = {("scratch", 5): 0.5, ("scratch", 25): 0.7, ("simclr", 5): 0.6, ("simclr", 25): 0.9}
    return {
        point(encoder, amount, seed, fold): predicted(rng.random((4, 4)) < share, fold)
        for (encoder, amount), share in share_right.items()
        for seed in (0, 1)
        for fold in (0, 1)
    }


def test_scores_and_intervals_are_those_of_evaluate(runs):
    found = curves(runs, subsets_of(runs)).set_index(["encoder", "per_class"]).loc[("simclr", 25)]
    members = [p for p in runs if (p.encoder, p.amount) == ("simclr", 25)]
    repeats = [replace(runs[p], table=runs[p].table.assign(repeat=str(p.seed))) for p in members]
    run = evaluate_run(pool(repeats), "test", None)
    for metric in ("uar", "macro_auc"):
        wanted = run.result("clip", metric)[["value", "low", "high"]].tolist()
        assert found[[metric, f"{metric}_low", f"{metric}_high"]].tolist() == pytest.approx(wanted)
    assert found["test_subjects"] == 8 and found["labels"] == 50 and found["labels_a"] == 25


def test_seeds_are_repeats_of_which_the_mean_is_taken():
    all_right, all_wrong = predicted(np.ones((5, 4))), predicted(np.zeros((5, 4)))
    run = scored([all_right, all_wrong], [0, 1])
    assert run.result("clip", "uar")["value"] == 0.5


def test_gain_is_paired_over_the_same_subjects():
    """Five subjects are easy for both encoders: that lies in both curves, and not in their difference."""
    hard = np.repeat([[0]] * 5 + [[1]] * 5, 4, axis=1)
    better = hard.copy()
    better[:, 0] = better[:, 1] = 1  # each subject has two clips more right: 0.5 more in the hard, 0 in the easy
    same = {point("scratch"): predicted(hard), point("same"): predicted(hard)}
    row = curves(same, subsets_of(same)).set_index("encoder").loc["same"]
    assert row["uar_high"] - row["uar_low"] > 0.5
    assert row["uar_gain"] == 0 and 0 < row["uar_gain_high"] == -row["uar_gain_low"] < 0.25
    other = {point("scratch"): predicted(hard), point("better"): predicted(better)}
    row = curves(other, subsets_of(other)).set_index("encoder").loc["better"]
    assert row["uar_gain"] == pytest.approx(0.25) and 0 < row["uar_gain_low"] < 0.25 < row["uar_gain_high"] < 0.5


def test_no_interval_below_five_subjects():
    few = {point(): predicted(np.ones((4, 4)))}
    found = curves(few, subsets_of(few)).iloc[0]
    assert found["uar"] == 1 and np.isnan(found["uar_low"]) and np.isnan(found["uar_high"])


def test_table_tells_labels_saved_and_the_worst_lineage(runs):
    leaky = dict(runs)
    last = list(runs)[-1]
    leaky[last] = replace(runs[last], leakage=Leakage("LEAKY", []))
    found = curves(leaky, subsets_of(runs))
    rows = [dict(zip(label_curves.table(found)[0], row, strict=True)) for row in label_curves.table(found)[1:]]
    of = {(row["encoder"], row["per class"]): row for row in rows}
    assert of["simclr", "25"]["scratch needs"] == "more than 50" and of["simclr", "25"]["ratio"] == "> 1.0"
    assert of["simclr", "25"]["lineage"] == "LEAKY" and of["simclr", "5"]["lineage"] == "CLEAN"
    assert of["scratch", "5"]["scratch needs"] == of["scratch", "5"]["UAR gain"] == ""
    assert of["scratch", "5"]["labels"] == "10" and of["scratch", "5"]["subjects"] == "5"
    title = label_curves.draw(found, 2).get_suptitle()
    assert title.startswith("LEAKY")


def test_without_scratch_there_is_nothing_to_save(runs):
    for name in ("simclr", "scratch"):
        alone = {p: run for p, run in runs.items() if p.encoder == name}
        found = curves(alone, subsets_of(alone))
        assert label_curves.table(found)[0] == ["encoder", "per class", "labels", "subjects", "UAR", "AUC", "lineage"]
        assert "ratio" not in label_curves.legend(found) and "ratio" in label_curves.legend(
            curves(runs, subsets_of(runs))
        )


def test_figure_has_a_curve_for_each_encoder_over_the_logarithm_of_the_labels(runs):
    axes = label_curves.draw(curves(runs, subsets_of(runs)), 2).axes
    assert [a.get_ylabel() for a in axes] == ["UAR", "AUC"]
    for a in axes:
        assert a.get_xscale() == "log" and [tick.get_text() for tick in a.get_xticklabels()] == ["10", "50"]
        assert [container.get_label() for container in a.containers] == ["scratch", "simclr"]


# the whole of it


@pytest.fixture
def calls(monkeypatch):
    """Names of the runs fitted and tested through the command line, as they are called."""
    called = []
    really = cli.main

    def counted(args, **kwargs):
        run = really(args, **kwargs)
        called.append((args[0], run.run_folder.path.name))
        return run

    monkeypatch.setattr(cli, "main", counted)
    return called


@pytest.mark.slow
def test_a_killed_study_goes_on_and_every_encoder_sees_the_same_labels(
    stage, pretrained, tmp_path, monkeypatch, calls, capsys
):
    config = stage("few")
    args = [
        "--config",
        str(config),
        "--per-class",
        "2",
        "4",
        "--encoders",
        "scratch",
        f"pre={pretrained}",
        "--seeds",
        "0",
        *SHORT,
    ]
    counted = cli.main

    def killed(arguments, **kwargs):
        if arguments[0] == "test" and len(calls) == 3:
            raise KeyboardInterrupt  # between fit and test of the second point
        return counted(arguments, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cli, "main", killed)
        main(args)
    assert calls == [
        ("fit", "scratch-per_class2-seed0"),
        ("test", "scratch-per_class2-seed0"),
        ("fit", "pre-per_class2-seed0"),
    ]
    out = tmp_path / "runs/tones/label-efficiency"
    assert not (out / "label_efficiency.csv").exists()

    calls.clear()
    main(args)
    names = ["pre-per_class2-seed0", "scratch-per_class4-seed0", "pre-per_class4-seed0"]
    assert calls == [(command, name) for name in names for command in ("fit", "test")]
    told, shown = capsys.readouterr()
    assert "nothing is validated" in told
    assert re.findall(r"(\S+): training begins", shown)[-3:] == [str(out / "points/tones" / name) for name in names]
    assert "label-efficiency: point 1 of 4 done, 0 s since the start" in shown
    assert "test/uar" not in told and "predictions.csv" not in told
    table = pd.read_csv(out / "label_efficiency.csv")
    assert table["labels"].tolist() == [4, 4, 8, 8] and set(table["lineage"]) == {"CLEAN"}
    assert (out / "label_efficiency.png").read_bytes().startswith(b"\x89PNG")
    assert "python -m cry_lightning label-efficiency" in (out / "report.html").read_text()

    calls.clear()
    main(args)
    assert calls == []
    assert pd.read_csv(out / "label_efficiency.csv").equals(table)

    points_at = out / "points/tones"
    trained_on = {
        (encoder, n): set(read(points_at / f"{encoder}-per_class{n}-seed0/lineage.json").stages[-1].clips)
        for encoder in ("scratch", "pre")
        for n in (2, 4)
    }
    assert all(trained_on["scratch", n] == trained_on["pre", n] and len(trained_on["pre", n]) == 2 * n for n in (2, 4))
    assert trained_on["scratch", 2] < trained_on["scratch", 4]
    metrics = (points_at / "pre-per_class4-seed0/fit/metrics.csv").read_text()
    assert "train/loss" in metrics and "val/" not in metrics
    assert not list(points_at.rglob("*.ckpt"))

    study = open_study(StageConfig(str(config), SHORT))
    of_pre = point("pre", 4, weights=str(pretrained))
    folder, labels = points_at / of_pre.name, subset(study, of_pre)
    assert is_finished(folder, made_by(study, of_pre, labels))
    assert not is_finished(folder, made_by(study, of_pre, subset(study, point(seed=1, amount=4))))
    for key, value, same in (("sampling", {"batch_size": 4}, False), ("cache", {"workers": 1}, True)):
        changed = study.config | {"data": study.config["data"] | {key: study.config["data"][key] | value}}
        assert is_finished(folder, made_by(study, of_pre, labels) | changed) == same
    shutil.copy(config, pretrained)  # other weights under the same name
    assert not is_finished(folder, made_by(study, of_pre, labels))

    def killed_at_once(arguments, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", killed_at_once)
    with pytest.raises(KeyboardInterrupt):
        run_point(study, {of_pre.subset: labels}, out / "points", of_pre)
    assert not (folder / "made_of.json").exists()  # or it would pass for the mark of what the next fit leaves here
    (folder / "made_of.json").write_text(json.dumps(made_by(study, of_pre, labels))[:100])
    assert not is_finished(folder, made_by(study, of_pre, labels))


@pytest.mark.slow
def test_points_at_a_time_give_what_they_give_one_by_one(stage, tmp_path):
    args = ["--config", str(stage("few")), "--per-class", "2", "--seeds", "0", "1", *SHORT]
    for jobs in ("1", "2"):
        main([*args, "--jobs", jobs, "--out", str(tmp_path / jobs)])
    one, two = (pd.read_csv(tmp_path / jobs / "label_efficiency.csv") for jobs in ("1", "2"))
    pd.testing.assert_frame_equal(one, two, atol=1e-5)


@pytest.mark.slow
def test_an_encoder_that_heard_test_subjects_is_refused_unless_allowed(stage, pretrained, tmp_path, calls, capsys):
    args = [
        "--config",
        str(stage("few")),
        "--per-class",
        "2",
        "--encoders",
        f"pre={pretrained}",
        "--seeds",
        "0",
        *SHORT,
    ]
    args += ["--data.split.seed=1", "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"pre-per_class2-seed0: LEAKY, .*stage pretrain on tones.*--allow-leaky"):
        main(args)
    assert not (tmp_path / "out/label_efficiency.csv").exists()
    calls.clear()
    main([*args, "--allow-leaky"])
    assert calls == [] and "LEAKY" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "out/label_efficiency.csv")["lineage"].tolist() == ["LEAKY"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), r"one of the arguments --fractions --per-class is required"),
        (("--per-class", "5", "--fractions", "0.5"), r"not allowed with argument"),
        (("--per-class", "2", "500"), r"per_class: there are not 500 training clips of"),
        (("--per-class", "2", "--folds", "0"), r"--folds: holdout has none"),
        (("--per-class", "2", "--folds", "7", "--data.split.scheme=kfold"), r"fold 7 must lie between"),
        (("--per-class", "2", "--data.no_such_key=1"), r"no_such_key"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(stage, calls, args, message):
    with pytest.raises(UserError, match=message) as told:
        main(["--config", str(stage("few")), *args])
    assert calls == [] and "\n" not in str(told.value)


def test_a_pretraining_is_refused(stage, calls):
    path = stage("simclr", temperature=0.5)
    path.write_text(path.read_text().replace("tasks.Classifier", "tasks.SimCLR"))
    with pytest.raises(UserError, match="this stage is a pretraining"):
        main(["--config", str(path), "--per-class", "2"])
    assert calls == []
