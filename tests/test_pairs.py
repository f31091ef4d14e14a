"""Paired differences: what is subtracted over which subjects, how it is tested, and which runs are no pair."""

import json
import re
from functools import partial
from itertools import combinations, product
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
from made import bind, write_run
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.compare import Exchange, corrected_p, p_text, p_values, pair, pairs
from cry_lightning.evaluation.intervals import PRIOR, Jackknife, rate_interval
from cry_lightning.evaluation.metrics import units_at
from cry_lightning.evaluation.run import Run, evaluate_run, read_run
from cry_lightning.lineage import sound_fingerprint

main = partial(command, "evaluate")


pytestmark = pytest.mark.usefixtures("no_figures")


def make_run(folder: Path, n_subjects: int = 12, skill: float = 1.0, seed: int = 0, trained_on: str = "other") -> Path:
    """A run whose subjects have recordings of both classes, two clips each, scored by a classifier of some skill."""
    rng = np.random.default_rng(seed)
    rows = []
    for subject in range(n_subjects):
        for number, label in enumerate("ab" if subject % 3 else "aab"):
            for second in range(2):
                clip = f"{subject}-{number}.wav#{second}.000-1.000"
                score = 1 / (1 + np.exp(rng.normal() - skill * (1 if label == "a" else -1)))
                rows.append((clip, clip[:-12], f"made:{subject}", 0, 0, "test", label, score, 1 - score))
    table = pd.DataFrame(rows, columns=[*predictions.KEYS, "score_a", "score_b"])
    return write_run(folder, table, trained_on)


def change(folder: Path, change) -> Path:
    """Rewrite a run's predictions as a function of them."""
    predictions.write(change(predictions.read(folder / "predictions.csv")), folder / "predictions.csv")
    bind(folder)
    return folder


def scored(folder: Path) -> Run:
    return evaluate_run(read_run(str(folder), "test"), "test", None)


def by_scikit_learn(table: pd.DataFrame) -> dict[str, float]:
    truth, said = table["label"], np.where(table["score_a"] >= 0.5, "a", "b")
    return {
        "accuracy": accuracy_score(truth, said),
        "uar": balanced_accuracy_score(truth, said),
        "macro_f1": f1_score(truth, said, average="macro"),
        "macro_auc": roc_auc_score(truth == "a", table["score_a"]),
    }


def test_runs_of_two_computers_that_spell_names_in_other_forms_of_unicode_are_a_pair(tmp_path):
    """A Mac's copy of the recordings has decomposed names."""
    runs = []
    for form in ("NFC", "NFD"):
        folder = make_run(tmp_path / form, skill=2.0)
        table = predictions.read(folder / "predictions.csv")
        for column, prefix in (("clip", "ä"), ("recording", "ä"), ("subject", "made:ä")):
            table[column] = [normalize(form, prefix + name.removeprefix("made:")) for name in table[column]]
        runs.append(scored(write_run(folder, table, "other")))
    (pair,) = pairs(runs)
    assert not pair.unlike and (pair.differences["value"] == 0).all()
    assert all(run.leakage.status == "CLEAN" for run in runs)


@pytest.mark.slow
def test_differences_are_those_of_whole_subjects_left_out_of_both_at_once(tmp_path):
    """Against the literal way: score both runs without the clips of one subject, subtract."""
    tuned, scratch = make_run(tmp_path / "tuned", skill=2.0), make_run(tmp_path / "scratch", seed=1)
    (pair,) = pairs([scored(tuned), scored(scratch)])
    tables = [predictions.read(folder / "predictions.csv") for folder in (scratch, tuned)]
    without = ["", *sorted(set(tables[0]["subject"]))]
    own, others = (
        pd.DataFrame([by_scikit_learn(table[table["subject"] != left_out]) for left_out in without]) for table in tables
    )
    at_clips = pair.differences.query("level == 'clip'").set_index("metric")
    assert len(at_clips) == 4 and set(pair.differences["level"]) == {"clip", "recording"}
    for metric, row in at_clips.iterrows():
        each = np.array([own[metric], others[metric]])
        n = pair.run.jackknives["clip"].subjects(metric)
        covariance = 11 * np.cov(each[:, 1:], ddof=0)
        shared = covariance[0, 1] / np.sqrt(np.prod(covariance.diagonal() + PRIOR / n**2))
        (a, b), (low, high) = each[:, 0], rate_interval(each[:, 0], covariance.diagonal(), n)
        reaches = np.array([[a - low[0], high[1] - b], [high[0] - a, b - low[1]]])
        below, above = np.sqrt((reaches**2).sum(axis=1) - 2 * shared * reaches.prod(axis=1))
        assert row[["value", "low", "high"]].tolist() == pytest.approx([a - b, a - b - below, a - b + above])
        assert (row["n_units"], row["n_subjects"]) == (len(tables[0]), 12)


def test_a_small_difference_that_every_subject_shows_is_found(tmp_path):
    """Subjects differ far more from each other than the two runs do: only pairing tells them apart."""

    def hard_subjects(table):
        hard = table["subject"].str[5:].astype(int) % 2 == 0
        right = np.where(hard, 0.4, 0.6)
        score_a = np.where(table["label"] == "a", right, 1 - right)
        return table.assign(score_a=score_a, score_b=1 - score_a)

    def one_more_right(table):
        first = (table["clip"] == table.groupby("subject")["clip"].transform("first")).to_numpy()
        score_a = np.where(first, np.where(table["label"] == "a", 0.9, 0.1), table["score_a"])
        return table.assign(score_a=score_a, score_b=1 - score_a)

    worse = change(make_run(tmp_path / "worse"), hard_subjects)
    better = change(change(make_run(tmp_path / "better"), hard_subjects), one_more_right)
    first, other = (evaluate_run(read_run(str(run), "test"), "test", None) for run in (worse, better))
    assert first.result("clip", "accuracy")["high"] > other.result("clip", "accuracy")["low"]
    (pair,) = pairs([first, other])
    found = pair.differences.query("level == 'clip' and metric == 'accuracy'").iloc[0]
    assert 0 < found["low"] < found["value"] < found["high"] < 0.25


@pytest.mark.slow
def test_terminal_report_and_csv_tell_the_same(tmp_path, capsys):
    tuned, scratch, same = (
        str(make_run(tmp_path / name, seed=seed)) for name, seed in (("tuned", 0), ("scratch", 1), ("same", 0))
    )
    main([tuned, scratch, same, "--out", str(tmp_path / "out")])
    printed, written = capsys.readouterr().out, (tmp_path / "out/report.md").read_text()
    table = pd.read_csv(tmp_path / "out/differences.csv")
    assert set(table["run"]) == {scratch, same} and set(table["minus"]) == {tuned}
    uar = table.query("run == @scratch and level == 'recording' and metric == 'uar'").iloc[0]
    told = f"{uar['value']:.3f} [{uar['low']:.3f}, {uar['high']:.3f}]"
    for text in (printed, written):
        assert f"scratch minus tuned: UAR {told} at recording level: " in text
        nothing = r"same minus tuned: UAR 0\.000 \[-(0\.0\d\d), \1\] at recording level: p = 1\.000, no evidence"
        assert re.search(nothing, text)
        assert "minus tuned" in text and "not paired" not in text


def test_one_run_has_no_differences(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    (run / "differences.csv").write_text("of other runs")
    main([str(run)])
    assert "minus" not in capsys.readouterr().out and not (run / "differences.csv").exists()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("other_test", "told"),
    [
        (
            lambda table: table[table["subject"] != "made:1"],
            "4 clips are tested only by {first}, first 1-0.wav, 0.0 to 1.0 s;"
            " 11 of 12 tested subjects are the same: give both one split, see docs/stages.md.",
        ),
        (
            lambda table: table.assign(clip="x" + table["clip"]),
            "56 clips are tested only by {run}, first x0-0.wav, 0.0 to 1.0 s;"
            " 56 clips are tested only by {first}, first 0-0.wav, 0.0 to 1.0 s; 12 of 12 tested subjects are the same.",
        ),
        (
            lambda table: table.assign(label=table["label"].mask(table["recording"] == "1-0.wav", "b")),
            "2 labels differ, first of 1-0.wav, 0.0 to 1.0 s.",
        ),
        (
            lambda table: table.assign(subject=table["subject"].mask(table["recording"] == "2-1.wav", "made:1")),
            "2 subjects differ, first of 2-1.wav, 0.0 to 1.0 s.",
        ),
        (
            lambda table: pd.concat([table, table.assign(repeat="1")]),
            "56 clips are tested only by {run}, first 0-0.wav, 0.0 to 1.0 s in repeat 1; 12 of 12 tested subjects are"
            " the same.",
        ),
    ],
)
def test_runs_with_other_tests_are_no_pair_and_the_difference_is_named(tmp_path, capsys, other_test, told):
    first, run, third = (
        str(make_run(tmp_path / name, seed=seed)) for seed, name in enumerate(("first", "run", "third"))
    )
    change(tmp_path / "run", other_test)
    main([first, run, third, "--out", str(tmp_path / "out")])
    printed, written = capsys.readouterr().out, (tmp_path / "out/report.md").read_text()
    for text in (printed, written):
        assert f"- run: not paired with first: {told.format(run='run', first='first')}\n" in text
        assert "third minus first: UAR" in text
    assert "run: UAR" in printed  # its own figures are there
    assert "do not set their figures side by side" in written
    assert set(pd.read_csv(tmp_path / "out/differences.csv")["run"]) == {third}


def test_clips_of_one_name_that_are_other_sounds_are_no_pair(tmp_path, capsys):
    first, run = (str(make_run(tmp_path / name)) for name in ("first", "run"))
    lineage = json.loads((tmp_path / "run/lineage.json").read_text())
    lineage["test_clips"]["1-0.wav#0.000-1.000"] = sound_fingerprint("recorded again#0.000-1.000", "")
    (tmp_path / "run/lineage.json").write_text(json.dumps(lineage))
    main([first, run, "--out", str(tmp_path / "out")])
    told = "not paired with first: clip 1-0.wav, 0.0 to 1.0 s is one sound in run and another in first"
    assert told in capsys.readouterr().out


def test_few_subjects_have_a_difference_without_interval(tmp_path, capsys):
    names = [str(make_run(tmp_path / name, n_subjects=4, seed=seed)) for seed, name in enumerate(("first", "run"))]
    main([*names, "--out", str(tmp_path / "out")])
    assert "there is no interval, so this says nothing about other subjects." in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out/differences.csv")
    assert table["value"].notna().all() and table[["low", "high", "p"]].isna().all(axis=None)


def test_what_has_no_interval_has_no_p_and_is_no_comparison(tmp_path, capsys):
    """Four subjects of a class, and all answers to them better: UAR would have the p of all the others."""
    folders = [make_run(tmp_path / name, 30, skill=skill) for name, skill in (("first", 0.0), ("better", 3.0))]
    few = tuple(f"made:{number}" for number in range(4))
    for folder in folders:
        change(folder, lambda table: table[(table["label"] == "a") | table["subject"].isin(few)])
    main([*map(str, folders), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "there is no interval, so this says nothing about other subjects." in printed and "explains" not in printed
    table = pd.read_csv(tmp_path / "out/differences.csv").query("level == 'recording'").set_index("metric")
    assert table["p"].notna().to_dict() == table["low"].notna().to_dict()
    first, better = map(scored, folders)
    alone = p_values([pair(better, first).exchange], ["accuracy"])[0, 0]
    assert table["p"].dropna().to_dict() == {"accuracy": pytest.approx(alone)}


def test_a_leaky_run_is_said_in_its_pair(tmp_path, capsys):
    clean, leaky = str(make_run(tmp_path / "clean")), str(make_run(tmp_path / "leaky", seed=1, trained_on="made:3"))
    with pytest.raises(UserError, match="LEAKY, 1 of 12 tested subjects"):
        main([clean, leaky])
    main([clean, leaky, "--allow-leaky", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "LEAKY minus CLEAN" in printed
    assert "leaky LEAKY, so this says nothing about other subjects." in printed
    assert set(pd.read_csv(tmp_path / "out/differences.csv")["lineage"]) == {"LEAKY minus CLEAN"}


def folds_of(tmp_path: Path, name: str, n_folds: int, seed: int) -> list[str]:
    """The folds of a cross-validation, each a run."""
    folds = [make_run(tmp_path / f"{name}{fold}", seed=seed) for fold in range(n_folds)]
    for fold, folder in enumerate(folds):
        change(folder, lambda t, fold=fold: t[t["subject"].str[5:].astype(int) % n_folds == fold].assign(fold=fold))
    return [str(folder) for folder in folds]


def test_pooled_runs_are_paired_whatever_their_folds(tmp_path, capsys):
    three, four = folds_of(tmp_path, "three", 3, seed=0), folds_of(tmp_path, "four", 4, seed=1)
    main(["--pool", *three, "--pool", *four, "--out", str(tmp_path / "pooled")])
    assert "four0 and 3 more, pooled minus three0 and 2 more, pooled: UAR" in capsys.readouterr().out
    whole = [str(make_run(tmp_path / f"whole{seed}", seed=seed)) for seed in (0, 1)]
    main([*whole, "--out", str(tmp_path / "whole")])
    pooled, single = (pd.read_csv(tmp_path / name / "differences.csv") for name in ("pooled", "whole"))
    wider = ["low", "high", "p"]
    pd.testing.assert_frame_equal(*(table.drop(columns=["run", "minus", *wider]) for table in (pooled, single)))
    widths = [(table["high"] - table["low"]).dropna() for table in (pooled, single)]
    assert (widths[0] / widths[1]).iloc[:4].between(1.1, 1.75**0.5 + 0.05).all()  # of four folds, and of three
    assert pooled["p"].sum() > single["p"].sum()


def test_no_run_named():
    with pytest.raises(UserError, match="the following arguments are required: RUN"):
        main([])


def test_p_is_that_of_every_exchange_of_whole_subjects(tmp_path):
    """Against the literal way: exchange both runs' rows for every set of 4 subjects."""
    one, other = (make_run(tmp_path / name, 4, seed=seed) for seed, name in enumerate(("one", "other")))
    tables = [predictions.read(folder / "predictions.csv") for folder in (one, other)]
    names = sorted(set(tables[0]["subject"]))

    def difference(exchanged: tuple[str, ...]) -> dict[str, float]:
        moved = tables[0]["subject"].isin(exchanged)
        first, second = tables[0].where(~moved, tables[1]), tables[1].where(~moved, tables[0])
        ours, theirs = by_scikit_learn(first), by_scikit_learn(second)
        return {metric: ours[metric] - theirs[metric] for metric in ours}

    every = pd.DataFrame([difference(chosen) for size in range(5) for chosen in combinations(names, size)])
    wanted = (every.abs() >= every.iloc[0].abs() - 1e-12).mean() / 2 + (
        every.abs() > every.iloc[0].abs() + 1e-12
    ).mean() / 2
    clips = [units_at("clip", table) for table in tables]
    exchange = Exchange.of(*clips, *map(Jackknife.of, clips))
    for place, metric in enumerate(("accuracy", "uar", "macro_f1")):  # the AUC by what each subject adds, see below
        assert p_values([exchange], [metric]) == pytest.approx(np.array([[wanted[metric]]]))
        assert exchange.differences(np.ones((1, 4)))[0, place] == pytest.approx(every[metric][0])
    assert exchange.differences(np.ones((1, 4)))[0, 3] == pytest.approx(every["macro_auc"][0])


def halved(table: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
    """The scores of another class, which takes half of those of b where these are beaten."""
    other = (table["score_b"] / 2).where(where, 0.0)
    return table.assign(score_b=table["score_b"] - other, score_c=other)


def test_a_run_that_knows_a_class_more_is_tested_by_the_same_answers(tmp_path):
    first, rival, wider = (make_run(tmp_path / name, 8, seed=seed) for seed, name in ((0, "one"), (1, "b"), (1, "c")))
    change(wider, lambda table: halved(table, table["score_b"] < 0.5))
    runs = [scored(run) for run in (rival, wider)]
    assert runs[0].main_level.predicted.tolist() == runs[1].main_level.predicted.tolist()
    exchanges = [pair(run, scored(first)).exchange for run in runs]
    for metric in ("accuracy", "uar", "macro_f1"):
        assert p_values(exchanges[:1], [metric]) == pytest.approx(p_values(exchanges[1:], [metric]))


def test_what_subjects_add_to_a_mean_is_their_share_of_it(tmp_path):
    """Of accuracy, with as many clips of each subject, exactly; and of any metric they sum up to it."""
    table = predictions.read(make_run(tmp_path / "run", 9) / "predictions.csv")
    units = units_at("clip", table[table["recording"].str[2:] != "2.wav"])
    model = Jackknife.of(units)
    right = (units.predicted == units.table["label"]).groupby(units.table["subject"]).mean()
    added = model.contributions(model.measures["accuracy", ""])
    assert added - added.mean() == pytest.approx((right - right.mean()).to_numpy() / 9)
    assert model.contributions(model.measures["macro_auc", ""]).sum() == pytest.approx(
        model.measures["macro_auc", ""][0]
    )


def test_p_is_corrected_for_the_number_of_comparisons(tmp_path):
    """Between the p of a comparison alone and Bonferroni's; of the largest, that of the largest under each exchange."""
    first, *others = (scored(make_run(tmp_path / str(seed), 9, seed=seed, skill=seed)) for seed in range(4))
    made = [pair(other, first) for other in others]
    alone = np.array([p_values([each.exchange], ["uar"])[0, 0] for each in made])
    together = p_values([each.exchange for each in made], ["uar"])[:, 0]
    assert (together >= alone - 1e-12).all() and together.min() <= 3 * alone.min() + 1e-12
    signs = np.array([*product((1.0, -1.0), repeat=9)])
    every = np.stack([each.exchange.differences(signs)[:, 1] for each in made], axis=1)
    largest = np.abs(every / np.sqrt((every**2).mean(axis=0))).max(axis=1)
    ties = np.abs(largest - largest[0]) < 1e-12
    assert together.min() == pytest.approx(np.mean(largest > largest[0] + 1e-12) + ties.mean() / 2)
    shown = pd.concat([each.differences for each in pairs([first, *others])]).query("level == 'recording'")
    assert (shown["p"].min() >= together.min() - 1e-12) and shown["p"].notna().sum() == 3 * 4


def test_equal_comparisons_cost_nothing():
    values = np.random.default_rng(0).normal(0, 1, (500, 1))
    assert corrected_p(np.repeat(values, 5, axis=1)) == pytest.approx(np.repeat(corrected_p(values), 5))
    assert np.isnan(corrected_p(np.hstack([values, values * np.nan]))).tolist() == [False, True]


def test_equal_runs_have_a_p_of_one():
    assert corrected_p(np.zeros((500, 2))).tolist() == [1, 1]
    values = np.array([[0.0], [1.0], [-1.0], [2.0]])  # nothing found, where others would be
    assert corrected_p(values).tolist() == [1]


def test_a_small_p_is_not_printed_as_none():
    assert [p_text(p) for p in (0.0001, 0.0123, float("nan"))] == ["< 0.001", "0.012", ""]


def test_pooled_folds_need_a_larger_difference():
    values = np.random.default_rng(0).normal(0, 1, (500, 2))
    values[0] = 1.5
    one, pooled = corrected_p(values), corrected_p(values, np.array([1.8, 1.8]))
    assert (pooled > one).all()
    assert corrected_p(values * [1, 9], 1.8) == pytest.approx(pooled)  # scale alone says nothing


def test_a_difference_counts_only_if_it_survives_the_correction(tmp_path, capsys):
    first, better = str(make_run(tmp_path / "first", 30, skill=0.0)), str(make_run(tmp_path / "better", 30, skill=3.0))
    main([first, better, "--out", str(tmp_path / "out")])
    assert "p < 0.001, more than chance in the choice of subjects explains." in capsys.readouterr().out
    p = pd.read_csv(tmp_path / "out/differences.csv").set_index(["level", "metric"])["p"]
    assert p.dropna().index.tolist() == [
        ("recording", metric) for metric in ("accuracy", "uar", "macro_f1", "macro_auc")
    ]
    assert (p.dropna() < 0.01).all()


def test_one_class_tested_has_no_difference_in_uar(tmp_path, capsys):
    runs = [make_run(tmp_path / name, seed=seed) for seed, name in enumerate(("first", "run"))]
    for run in runs:
        change(run, lambda table: table[table["label"] == "a"])
    main([*map(str, runs), "--out", str(tmp_path / "out")])
    assert "UAR n/a at recording level: there is none, since one class only was tested." in capsys.readouterr().out
