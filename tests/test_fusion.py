"""`fuse`: fused scores recomputed by hand, what the fused run's lineage tells, and which runs are no members of one."""

import csv
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.fuse import fuse
from cry_lightning.evaluation.fusion import FUSION
from cry_lightning.evaluation.run import read_run
from cry_lightning.lineage import (
    NO_FILE,
    check,
    parse,
    read,
    sound_fingerprint,
    subject_fingerprint,
    write as write_lineage,
)
from cry_lightning.lineage.records import OTHER_TABLE

main = partial(command, "fuse")


CLASSES = ["a", "b", "c"]
SUBJECTS = 12


def rows(n_folds: int = 2, val: bool = True) -> pd.DataFrame:
    """Four clips of each of 12 subjects, tested once each; fold f validates on a third of who it does not test."""
    made = []
    for fold in range(n_folds):
        for subject in range(SUBJECTS):
            split = "test" if subject % n_folds == fold else "val" if val and subject % 3 == 0 else None
            for take in range(4 if split else 0):
                clip = f"{subject}-{take}.wav"
                made.append((clip, clip, f"made:{subject}", "0", str(fold), split, CLASSES[(subject + take) % 3]))
    return pd.DataFrame(made, columns=predictions.KEYS)


def scored(table: pd.DataFrame, seed: int, skill: float = 1.0, classes: list[str] = CLASSES) -> pd.DataFrame:
    """The rows with made scores: the higher the skill, the likelier the truth."""
    rng = np.random.default_rng(seed)
    truth = table["label"].to_numpy()[:, None] == np.array(classes)
    scores = softmax(rng.normal(size=truth.shape) + skill * truth, axis=1)
    return table.assign(**{f"score_{name}": column for name, column in zip(classes, scores.T, strict=True)})


def stage(name: str, subjects: list[str], validation: tuple[str, ...] = ()) -> dict:
    hashed = {"subjects": subjects, "validation_subjects": validation}
    own = {"stage": name, "corpus": "made", "clips": [], "subject_sources": {"given": len(subjects)}}
    return own | {key: [subject_fingerprint(one, "given") for one in whose] for key, whose in hashed.items()}


def lineage_of(table: pd.DataFrame, *stages: dict, **more) -> dict:
    contents = {clip: sound_fingerprint(f"sound of {clip}#0.000-end", "") for clip in table["clip"]}
    return {"complete": True, "stages": list(stages), "test_clips": contents} | more


def write(folder: Path, table: pd.DataFrame, lineage: dict | None = None) -> str:
    predictions.write(table, folder / "predictions.csv")
    if lineage is not None:
        write_lineage(parse(lineage), folder / "lineage.json")
    return str(folder)


def read_by_hand(folder: str) -> dict[tuple, dict[str, float]]:
    """Row -> class -> score, by the csv module alone."""
    with (Path(folder) / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    key = ("clip", "repeat", "fold", "split")
    return {tuple(row[k] for k in key): {name: float(row[f"score_{name}"]) for name in CLASSES} for row in table}


def in_order(folder: str, of: pd.DataFrame) -> np.ndarray:
    """Scores (N, K) of a run, in the order of other rows and of CLASSES."""
    scores = read_by_hand(folder)
    return np.array(
        [[*scores[row].values()] for row in of[["clip", "repeat", "fold", "split"]].itertuples(index=False)]
    )


@pytest.fixture
def pair(tmp_path) -> list[str]:
    """Two runs of the same two folds, the second with other orders of rows and classes."""
    first = scored(rows(), 1, skill=2.0)
    second = scored(rows(), 2, skill=0.5, classes=["c", "a", "b"]).sample(frac=1, random_state=0)
    net = write(tmp_path / "net", first, lineage_of(first, stage("net", ["other"])))
    svm = write(tmp_path / "svm", second, lineage_of(second, stage("svm", ["else"])))
    return [net, svm]


def test_mean_of_members_whose_rows_and_classes_are_in_other_orders(pair, tmp_path, capsys) -> None:
    out = tmp_path / "mean"
    main([*pair, "--out", str(out)])
    assert "predictions.csv: CLEAN" in capsys.readouterr().out
    net, svm, fused = (read_by_hand(run) for run in (*pair, str(out)))
    assert set(fused) == set(net) and len(fused) == len(rows())
    for row, scores in fused.items():
        for name in CLASSES:
            assert scores[name] == pytest.approx((net[row][name] + svm[row][name]) / 2, abs=1e-8)


def test_fused_run_is_evaluated_as_any_other(pair, no_figures, tmp_path, capsys) -> None:
    fuse(pair, tmp_path / "mean")
    command("evaluate", [str(tmp_path / "mean"), pair[0], "--out", str(tmp_path / "both")])
    told = capsys.readouterr().out
    assert "CLEAN" in told and "not paired" not in told and "minus" in told
    fuse([str(tmp_path / "mean"), *pair], tmp_path / "again")  # and is a member as any other


def test_weighted_mean_by_weights_of_least_log_loss_on_validation(pair, tmp_path) -> None:
    told = fuse(pair, tmp_path / "out", "weighted")
    learned = json.loads((tmp_path / "out" / FUSION).read_text())["learned"]
    table = rows()
    net, svm, fused = (in_order(run, table) for run in (*pair, str(tmp_path / "out")))
    truth = table["label"].map(CLASSES.index).to_numpy()
    assert [fold["fold"] for fold in learned] == ["0", "1"]
    for fold in learned:
        of_fold = (table["fold"] == fold["fold"]).to_numpy()
        val = of_fold & (table["split"] == "val").to_numpy()
        w = fold["weight"]
        np.testing.assert_allclose(fused[of_fold], w[0] * net[of_fold] + w[1] * svm[of_fold], atol=1e-8)
        grid = np.linspace(0, 1, 1001)
        mixed = np.multiply.outer(grid, net[val, truth[val]]) + np.multiply.outer(1 - grid, svm[val, truth[val]])
        best = grid[np.log(mixed).sum(axis=1).argmax()]
        assert w == pytest.approx([best, 1 - best], abs=2e-3)
    first, second = ([fold["weight"][member] for fold in learned] for member in (0, 1))
    assert f"{np.mean(first):.3f} ({min(first):.3f} to {max(first):.3f})" in told
    assert f"{np.mean(second):.3f} ({min(second):.3f} to {max(second):.3f})" in told


@pytest.mark.parametrize("method", ["weighted", "stacking"])
def test_no_label_of_the_test_is_learned_from_where_there_is_validation(pair, tmp_path, method) -> None:
    fuse(pair, tmp_path / "out", method)
    swapped = {"a": "b", "b": "a", "c": "c"}
    for run in pair:
        table = predictions.read(Path(run) / "predictions.csv")
        labels = table["label"].where(table["split"] == "val", table["label"].map(swapped))
        other = table.assign(label=labels, clip=table["split"] + table["clip"])
        predictions.write(other, tmp_path / f"{Path(run).name}-swapped" / "predictions.csv")
    fuse([str(tmp_path / f"{name}-swapped") for name in ("net", "svm")], tmp_path / "again", method)
    before, after = (predictions.read(tmp_path / out / "predictions.csv") for out in ("out", "again"))
    assert (before["label"] != after["label"]).any()
    columns = predictions.score_columns(before)
    np.testing.assert_array_equal(before[columns], after[columns])


def test_votes_and_their_ties(tmp_path) -> None:
    table = rows(n_folds=1, val=False).head(4)
    of_members = [
        [[0.9, 0.1, 0.0], [0.4, 0.3, 0.3], [0.5, 0.1, 0.4], [1.0, 0.0, 0.0]],
        [[0.6, 0.4, 0.0], [0.4, 0.3, 0.3], [0.1, 0.6, 0.3], [0.0, 1.0, 0.0]],
        [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.2, 0.1, 0.7], [0.0, 1.0, 0.0]],
        [[0.0, 0.0, 1.0], [0.0, 0.9, 0.1], [0.2, 0.1, 0.7], [0.0, 1.0, 0.0]],
    ]
    runs = []
    for number, scores in enumerate(of_members):
        columns = {f"score_{name}": column for name, column in zip(CLASSES, np.transpose(scores), strict=True)}
        runs.append(write(tmp_path / str(number), table.assign(**columns)))
    fuse(runs, tmp_path / "vote", "vote")
    shares = in_order(str(tmp_path / "vote"), table)
    # 2:2 for a and c, the mean says c; 2:2 for a and b, the mean says b; c has 2 of 4; b has 3 of 4
    assert [CLASSES[k] for k in shares.argmax(axis=1)] == ["c", "b", "c", "b"]
    assert shares[2] == pytest.approx([0.25, 0.25, 0.5]) and shares[3] == pytest.approx([0.25, 0.75, 0])
    assert shares[:2] == pytest.approx(np.array([[0.5, 0, 0.5], [0.5, 0.5, 0]]), abs=2e-3)
    assert shares.sum(axis=1) == pytest.approx(np.ones(4))
    assert np.isin(shares[2:], [0, 0.25, 0.5, 0.75]).all()  # nothing is moved where nothing is tied


def test_stacking_is_a_regression_on_log_probabilities_of_the_validation_rows(pair, tmp_path) -> None:
    told = fuse(pair, tmp_path / "out", "stacking")
    assert "fitted to its own validation rows" in told
    table = rows()
    net, svm, fused = (in_order(run, table) for run in (*pair, str(tmp_path / "out")))
    for fold in ("0", "1"):
        of_fold = (table["fold"] == fold).to_numpy()
        val = of_fold & (table["split"] == "val").to_numpy()
        features = np.log(np.hstack([net, svm]))
        regression = LogisticRegression(max_iter=1000).fit(features[val], table["label"][val])
        assert [*regression.classes_] == CLASSES
        np.testing.assert_allclose(fused[of_fold], regression.predict_proba(features[of_fold]), atol=1e-6)


def test_stacking_without_validation_learns_from_other_folds_and_tells(tmp_path) -> None:
    """The literal loop, with one subject that is tested in two folds and another that is tested in the next repeat."""
    table = rows(n_folds=3, val=False)
    table.loc[table["clip"] == "0-3.wav", "fold"] = "1"
    table = pd.concat([table, table.assign(repeat="1")], ignore_index=True)
    tables = [scored(table, seed, skill=1.0) for seed in (1, 2)]
    trained = {f: [*table["subject"][table["fold"] != f].unique()] for f in "012"}
    folds = [{"repeat": r, "fold": f} | lineage_of(table, stage(f"fold{f}", trained[f])) for r in "01" for f in "012"]
    runs = [write(tmp_path / str(n), one, {"folds": folds}) for n, one in enumerate(tables)]
    told = fuse(runs, tmp_path / "out", "stacking")
    assert "learned from the tests of the other folds" in told and "predictions.csv: LEAKY" in told

    fused = in_order(str(tmp_path / "out"), table)
    features = np.log(np.hstack([in_order(run, table) for run in runs]))
    lineages = {(one["repeat"], one["fold"]): one for one in read(tmp_path / "out/lineage.json").as_dict()["folds"]}
    for repeat in "01":
        for fold in "012":
            here = (table["repeat"] == repeat) & (table["fold"] == fold)
            mine = set(table["subject"][here])
            fitted_to = [i for i, row in table.iterrows() if row["repeat"] == repeat and row["subject"] not in mine]
            assert ("made:0" in mine) == (fold in "01")
            regression = LogisticRegression(max_iter=1000).fit(features[fitted_to], table["label"][fitted_to])
            np.testing.assert_allclose(fused[here], regression.predict_proba(features[here]), atol=1e-6)
            *members, own = lineages[repeat, fold]["stages"]
            assert {one["stage"] for one in members} == {"fold0", "fold1", "fold2"}
            assert own["stage"] == "fuse-stacking"
            assert own["subjects"] == sorted({subject_fingerprint(s, "given") for s in table["subject"][fitted_to]})
            assert not set(own["subjects"]) & {subject_fingerprint(s, "given") for s in mine}
            assert own["clips"] == sorted(
                {sound_fingerprint(f"sound of {c}#0.000-end", "") for c in table["clip"][fitted_to]}
            )


@pytest.mark.slow
def test_why_stacking_across_folds_is_stamped_leaky(tmp_path) -> None:
    """Members that know only how frequent the classes are in training: what is learned from other folds is the test.

    Leave one subject out: the share of a class in training is lower by one where that class is tested.
    """
    labels = np.array(list("abbabaabab"))
    n = len(labels)
    keys = [(f"{i}.wav", f"{i}.wav", f"made:{i}", "0", str(i), "test", labels[i]) for i in range(n)]
    share = np.array([[(np.delete(labels, i) == name).mean() for name in "ab"] for i in range(n)])
    steep = softmax(300 * share, axis=1)  # so that the regression's penalty does not matter
    table = pd.DataFrame(keys, columns=predictions.KEYS).assign(score_a=steep[:, 0], score_b=steep[:, 1])
    folds = [
        {"repeat": "0", "fold": str(i)}
        | lineage_of(table, stage(f"fold{i}", [f"made:{j}" for j in range(n) if j != i]))
        for i in range(n)
    ]
    runs = [write(tmp_path / name, table, {"folds": folds}) for name in ("one", "two")]
    assert check(table, parse({"folds": folds})).status == "CLEAN"
    fuse(runs, tmp_path / "out", "stacking")
    fused = predictions.read(tmp_path / "out/predictions.csv")
    assert roc_auc_score(labels == "a", table["score_a"]) == 0
    assert roc_auc_score(labels == "a", fused["score_a"]) == 1  # from nothing
    assert check(fused, read(tmp_path / "out/lineage.json")).status == "LEAKY"


def test_class_that_stacking_has_not_met_gets_nothing(tmp_path) -> None:
    table = rows(n_folds=1, val=False)
    table["split"] = np.where(table["subject"].isin(["made:0", "made:3"]) & (table["label"] != "c"), "val", "test")
    runs = [write(tmp_path / str(seed), scored(table, seed)) for seed in (1, 2)]
    fuse(runs, tmp_path / "out", "stacking")
    scores = in_order(str(tmp_path / "out"), table)
    assert (scores[:, 2] == 0).all() and (scores[:, :2] > 0).all()


@pytest.mark.slow
def test_calibration_scales_each_member_on_its_validation_rows(tmp_path) -> None:
    """Scores that are drawn from, then made three times too steep: the temperature of 3 is found again."""
    rng = np.random.default_rng(0)
    n = 2000
    runs, logits = [], rng.normal(size=(n, 2))
    labels = np.where(rng.uniform(size=n) < softmax(logits, axis=1)[:, 0], "a", "b")
    clips = [f"{i}.wav" for i in range(n)]
    keys = dict(
        clip=clips, recording=clips, subject=[f"made:s{i}" for i in range(n)], repeat="0", fold="0", label=labels
    )
    keys["split"] = np.where(np.arange(n) < n - 100, "val", "test")
    for steepness in (3.0, 1.0):
        scores = softmax(steepness * logits, axis=1)
        table = pd.DataFrame(keys).assign(score_a=scores[:, 0], score_b=scores[:, 1])
        runs.append(write(tmp_path / str(steepness), table, lineage_of(table, stage("hinge", []), uncalibrated=True)))
    told = fuse(runs, tmp_path / "out", calibrate=True)
    first, second = json.loads((tmp_path / "out" / FUSION).read_text())["learned"][0]["temperature"]
    assert first == pytest.approx(3 * second, rel=0.01) and second == pytest.approx(1, abs=0.1)
    assert f"{first:.3f}" in told and "larger data.split.val" not in told
    fused = predictions.read(tmp_path / "out/predictions.csv")
    by_hand = (softmax(3 * logits / first, axis=1) + softmax(logits / second, axis=1)) / 2
    np.testing.assert_allclose(fused[["score_a", "score_b"]], by_hand, atol=1e-4)

    lineage = read(tmp_path / "out/lineage.json").as_dict()
    assert not lineage["uncalibrated"]
    assert lineage["stages"][-1]["validation_subjects"] == sorted(
        subject_fingerprint(subject, "given") for subject in keys["subject"][: n - 100]
    )
    fuse(runs, tmp_path / "plain")
    assert read(tmp_path / "plain/lineage.json").uncalibrated


def test_what_too_few_validation_subjects_chose_is_told(tmp_path) -> None:
    table = rows()  # of two validation subjects in each fold
    runs = [write(tmp_path / str(seed), scored(table, seed)) for seed in (1, 2)]
    told = fuse(runs, tmp_path / "out", method="weighted")
    assert f"repeat 0, fold 0 of {runs[0]}: what was chosen is hardly better than none; it takes 3 validation" in told
    assert "larger data.split.val" not in fuse(runs, tmp_path / "mean")  # which chooses nothing


def test_lineage_is_the_union_of_the_members(tmp_path) -> None:
    table = rows(n_folds=1)
    pretrained, net, svm = stage("simclr", ["p"]), stage("net", ["q"], ("v",)), stage("svm", ["r"])
    runs = [
        write(tmp_path / "net", scored(table, 1), lineage_of(table, pretrained, net)),
        write(tmp_path / "svm", scored(table, 2), lineage_of(table, pretrained, svm)),
    ]
    fuse(runs, tmp_path / "out")
    lineage = replace(read(tmp_path / "out/lineage.json"), table="")
    assert lineage == parse(lineage_of(table, pretrained, net, svm))  # the mean learns nothing more


@pytest.mark.parametrize("leaky", [0, 1])
def test_leaky_member_makes_the_fusion_leaky_in_its_own_fold(tmp_path, leaky) -> None:
    """A subject of fold 1 that one member's fold 1 was trained on; trained on in fold 0, it is no leak."""
    table = rows(val=False)
    runs = []
    for number in (0, 1):
        subjects = {"0": ["made:1"], "1": ["made:1"] if number == leaky else ["made:0"]}
        folds = [{"repeat": "0", "fold": f} | lineage_of(table, stage(f"fold{f}", subjects[f])) for f in "01"]
        runs.append(write(tmp_path / str(number), scored(table, number), {"folds": folds}))
    assert "LEAKY, 1 of 6 tested subjects trained on: stage fold1" in fuse(runs, tmp_path / "out")
    assert "CLEAN" in fuse([runs[1 - leaky], write_clean_copy(tmp_path, table)], tmp_path / "clean")


def write_clean_copy(tmp_path, table: pd.DataFrame) -> str:
    return write(tmp_path / "other", scored(table, 3), lineage_of(table, stage("other", ["x"])))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("spoil", ["no file", "incomplete", "fold missing"])
def test_member_of_unknown_lineage_makes_the_fusion_unknown(pair, tmp_path, spoil) -> None:
    path = Path(pair[1]) / "lineage.json"
    lineage = json.loads(path.read_text())
    path.unlink()
    if spoil == "incomplete":
        path.write_text(json.dumps(lineage | {"complete": False}))
    if spoil == "fold missing":
        path.write_text(json.dumps({"folds": [{"repeat": "0", "fold": "0"} | lineage]}))
    *_, member, fused = fuse(pair, tmp_path / "out").splitlines()
    assert "UNKNOWN LINEAGE" in fused and member.startswith(f"{pair[1]}: UNKNOWN LINEAGE, ")
    leaky = json.loads((Path(pair[0]) / "lineage.json").read_text())
    leaky["stages"][0]["subjects"] = [subject_fingerprint("made:1", "given")]
    (Path(pair[0]) / "lineage.json").write_text(json.dumps(leaky))
    assert "LEAKY" in fuse(pair, tmp_path / "out")  # what is known to leak outweighs what is not known


@pytest.mark.parametrize(("method", "key"), [("stacking", "subjects"), ("weighted", "validation_subjects")])
def test_subject_that_fusion_learned_from_is_a_leak_where_it_is_tested(tmp_path, method, key) -> None:
    """A division by clips: subjects of the validation rows are tested too."""
    table = rows(n_folds=1, val=False)
    table["split"] = np.where(table["clip"].str.contains("-0|-1"), "val", "test")
    runs = [write(tmp_path / str(n), scored(table, n), lineage_of(table, stage(str(n), ["x"]))) for n in (1, 2)]
    assert "CLEAN" in fuse(runs, tmp_path / "mean")
    assert f"LEAKY, {SUBJECTS} of {SUBJECTS} tested subjects" in fuse(runs, tmp_path / "out", method)
    own = read(tmp_path / "out/lineage.json").as_dict()["stages"][-1]
    assert own["corpus"] == "made" and len(own[key]) == SUBJECTS
    assert bool(own["clips"]) == (method == "stacking")


def change(how: str, table: pd.DataFrame) -> pd.DataFrame:
    """A table that is no member beside the unchanged one."""
    last = table.index[-1]
    if how == "fold":
        return table[table["fold"] != "1"]
    if how == "clip":
        return table.drop(last)
    if how == "split":
        return table[table["split"] == "test"]
    if how == "classes":
        return table.rename(columns={"score_c": "score_d"}).replace({"label": {"c": "d"}})
    if how == "sum":
        return table.assign(score_a=table["score_a"] / 2)
    column = "label" if how == "label" else "subject"
    return table.assign(**{column: table[column].mask(table["clip"] == "1-0.wav", "c" if how == "label" else "made:x")})


REFUSED = {
    "fold": r"second lacks repeat 0, fold 1, which .*first has; fuse runs that were tested on the same split",
    "clip": r"second lacks 1 rows that .*first has, first clip 11-3.wav \(repeat 0, fold 1, test\)",
    "split": r"second lacks 16 rows that .*first has, first clip 3-0.wav \(repeat 0, fold 0, val\)",
    "classes": r"second has the classes a, b, d, .*first a, b, c",
    "label": r"clip 1-0.wav \(repeat 0, fold 1, test\) has label 'c' in .*second and 'b' in .*first",
    "subject": r"clip 1-0.wav .* has subject 'made:x' in .*second and 'made:1' in .*first",
    "sum": r"second.predictions.csv, line 2 .*: the scores do not sum to 1",
}


@pytest.mark.parametrize("how", REFUSED)
def test_runs_that_are_not_alike_are_refused_by_their_difference(tmp_path, how) -> None:
    whole = scored(rows(), 1)
    first = write(tmp_path / "first", whole)
    (tmp_path / "second").mkdir()
    change(how, scored(rows(), 2)).to_csv(tmp_path / "second/predictions.csv", index=False)
    with pytest.raises(UserError, match=REFUSED[how]) as refusal:
        main([first, str(tmp_path / "second"), "--out", str(tmp_path / "out")])
    assert "\n" not in str(refusal.value) and not (tmp_path / "out").exists()


def test_what_the_first_lacks_is_named_too(tmp_path) -> None:
    runs = [write(tmp_path / "first", change("clip", scored(rows(), 1))), write(tmp_path / "second", scored(rows(), 2))]
    with pytest.raises(UserError, match=r"first lacks 1 rows that .*second has, first clip 11-3.wav"):
        fuse(runs, tmp_path / "out")


def test_other_sound_under_the_same_name_is_refused(pair, tmp_path) -> None:
    path = Path(pair[1]) / "lineage.json"
    lineage = json.loads(path.read_text())
    lineage["test_clips"]["3-0.wav"] = sound_fingerprint("another#0.000-end", "")
    path.write_text(json.dumps(lineage))
    with pytest.raises(UserError, match=r"clip 3-0.wav is one sound in .*svm and another in .*net, by their lineage"):
        fuse(pair, tmp_path / "out")


def test_a_member_of_unknown_lineage_is_named_with_its_reason(tmp_path) -> None:
    table = rows(n_folds=1)
    known = lineage_of(table, stage("svm", []))
    net, svm, bare = (
        write(tmp_path / name, scored(table, seed), known if seed < 3 else None)
        for seed, name in enumerate(("net", "svm", "bare"), 1)
    )
    predictions.write(scored(table, 9), Path(svm) / "predictions.csv")  # another than lineage.json is of
    fuse([net, svm, bare], tmp_path / "out")
    reason = read_run(str(tmp_path / "out"), "test").leakage.reason
    assert reason == f"{svm}: {OTHER_TABLE}; {bare}: {NO_FILE}"


def test_commands_that_make_no_sense(pair, tmp_path) -> None:
    net, svm = pair
    out = str(tmp_path / "out")
    with pytest.raises(UserError, match="a fusion needs two runs or more"):
        main([net, "--out", out])
    with pytest.raises(UserError, match="a run is named twice"):
        main([net, svm, f"{net}/predictions.csv", "--out", out])
    with pytest.raises(UserError, match=r"absent: no such run; "):
        main([net, str(tmp_path / "absent"), "--out", out])
    (tmp_path / "not tested").mkdir()
    (tmp_path / "not tested/config.yaml").touch()
    with pytest.raises(UserError, match=r"`python -m cry_lightning test --config '.*not tested/config.yaml'` makes it"):
        main([net, str(tmp_path / "not tested"), "--out", out])
    with pytest.raises(UserError, match="invalid choice: 'median'"):
        main([net, svm, "--out", out, "--method", "median"])
    with pytest.raises(UserError, match=r"--out: .*predictions.csv is a file; name a folder"):
        main([net, svm, "--out", f"{net}/predictions.csv"])
    with pytest.raises(UserError, match="net is the folder of a member; name a new one"):
        main([net, svm, "--out", net])


@pytest.mark.parametrize("asked", [["--method", "weighted"], ["--calibrate"], ["--method", "stacking"]])
def test_learning_without_validation_rows_is_refused(tmp_path, asked) -> None:
    runs = [write(tmp_path / str(seed), scored(rows(n_folds=1, val=False), seed)) for seed in (1, 2)]
    with pytest.raises(UserError, match=f"{' '.join(asked)}: repeat 0, fold 0 of .* no val rows.*--method mean"):
        main([*runs, "--out", str(tmp_path / "out"), *asked])
    assert not (tmp_path / "out").exists()


def test_folder_that_holds_something_else_is_left_alone(pair, tmp_path) -> None:
    out = tmp_path / "out"
    fuse(pair, out)
    before = (out / "predictions.csv").read_bytes()
    fuse(pair, out)  # the same again is no harm
    with pytest.raises(UserError, match=r"out holds another fusion, see its fusion.json; name a new folder"):
        fuse(pair, out, "vote")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/best.ckpt").touch()
    with pytest.raises(UserError, match=r"run holds something else \(best.ckpt\); name a new folder"):
        fuse(pair, tmp_path / "run")
    assert (out / "predictions.csv").read_bytes() == before


def test_killed_while_writing_leaves_no_half_table(pair, tmp_path, monkeypatch) -> None:
    def killed(self, path, **_) -> None:
        path.write_text("clip,rec")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pd.DataFrame, "to_csv", killed)
        with pytest.raises(KeyboardInterrupt):
            fuse(pair, tmp_path / "out")
    assert not (tmp_path / "out/predictions.csv").exists()
    fuse(pair, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.part"))
