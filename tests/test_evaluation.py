"""The predictions table, the metrics on it and their intervals."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from cry_lightning.console import UserError
from cry_lightning.evaluation import intervals, predictions
from cry_lightning.evaluation.figures import hits_and_alarms, precision_recall_steps, roc_corners
from cry_lightning.evaluation.intervals import MOST_GROUPS, Jackknife, evaluate, rate_interval
from cry_lightning.evaluation.metrics import majority, measure, units_at
from cry_lightning.evaluation.run import division_of, repeats_in_words, spread_of_repeats


def made(classes: list[str], truth: np.ndarray, scores: np.ndarray, subjects: np.ndarray) -> pd.DataFrame:
    """A predictions table of one clip a recording."""
    table = pd.DataFrame({"clip": [f"{n}.wav#0.000-1.000" for n in range(len(truth))]})
    table["recording"] = [f"{n}.wav" for n in range(len(truth))]
    table["subject"] = [f"made:{subject:03d}" for subject in subjects]
    table[["repeat", "fold", "split"]] = ["0", "0", "test"]
    table["label"] = np.array(classes)[truth]
    return table.assign(**{f"score_{name}": scores[:, k] for k, name in enumerate(classes)})


def random_table(n_classes: int, n: int = 200, n_subjects: int = 20, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=n - n_classes)])
    logits = rng.normal(size=(n, n_classes)).round(1) + (np.arange(n_classes) == truth[:, None])  # rounded: ties
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return made([f"c{k}" for k in range(n_classes)], truth, scores, rng.integers(n_subjects, size=n))


def by_hand() -> pd.DataFrame:
    """Truth a a a b b c; said a a b b a a."""
    scores = np.array([[8, 1, 1], [6, 2, 2], [3, 6, 1], [1, 7, 2], [5, 4, 1], [5, 2, 3]]) / 10
    return made(["a", "b", "c"], np.array([0, 0, 0, 1, 1, 2]), scores, np.arange(6))


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_metrics_equal_sklearn(n_classes: int) -> None:
    units = units_at("clip", random_table(n_classes, seed=n_classes))
    table, names = units.table, predictions.classes_of(units.table)
    group = np.where(np.arange(20) < 2, 0, np.where(np.arange(20) < 13, 1, 2))
    draws = np.vstack([np.ones(20, bool), np.arange(3)[:, None] != group])
    ours = measure(table, group, positive=names[0] if n_classes == 2 else None)
    of_subject = pd.factorize(table["subject"], sort=True)[0]
    scores = table[predictions.score_columns(table)].to_numpy()
    said = np.array(names)[scores.argmax(axis=1)]
    for row, draw in enumerate(draws):
        weight = draw[of_subject]
        one = {"sample_weight": weight}
        precision, recall, f1, _ = reference.precision_recall_fscore_support(table["label"], said, **one)
        auc = [reference.roc_auc_score(table["label"] == c, scores[:, k], **one) for k, c in enumerate(names)]
        expected = {
            ("accuracy", ""): reference.accuracy_score(table["label"], said, **one),
            ("uar", ""): reference.balanced_accuracy_score(table["label"], said, **one),
            ("macro_f1", ""): f1.mean(),
            ("macro_auc", ""): np.mean(auc),
        }
        for k, name in enumerate(names):
            is_class = table["label"] == name
            expected["precision", name], expected["recall", name] = precision[k], recall[k]
            expected["f1", name], expected["roc_auc", name] = f1[k], auc[k]
            expected["average_precision", name] = reference.average_precision_score(is_class, scores[:, k], **one)
        if n_classes == 2:
            expected["sensitivity", names[0]] = expected["recall", names[0]]
            expected["specificity", names[1]] = expected["recall", names[1]]
        assert {key: ours[key][row] for key in ours} == pytest.approx(expected, abs=1e-12)


def test_small_table_by_hand() -> None:
    results = measure(units_at("clip", by_hand()).table)
    expected = {
        ("accuracy", ""): 3 / 6,
        ("uar", ""): (2 / 3 + 1 / 2 + 0) / 3,
        ("macro_f1", ""): (4 / 7 + 1 / 2 + 0) / 3,
        ("recall", "a"): 2 / 3,
        ("precision", "a"): 2 / 4,
        ("roc_auc", "a"): (3 + 3 + 1) / 9,  # 0.8 and 0.6 above 0.1, 0.5, 0.5; 0.3 above 0.1 alone
        ("roc_auc", "c"): 1.0,
    }
    assert {key: results[key][0] for key in expected} == pytest.approx(expected)
    assert np.isnan(results["precision", "c"][0])  # never said


def test_absent_class_is_left_out_of_averages() -> None:
    table = by_hand().query("label != 'c'")
    results = measure(units_at("clip", table).table)
    assert results["uar", ""][0] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert np.isnan(results["recall", "c"][0]) and np.isnan(results["roc_auc", "c"][0])
    said_though_absent = measure(units_at("clip", by_hand().query("label != 'b'")).table)
    assert said_though_absent["macro_f1", ""][0] == pytest.approx((4 / 6 + 0) / 2)
    alone = measure(units_at("clip", by_hand().query("label == 'a'")).table)
    assert alone["recall", "a"][0] == pytest.approx(2 / 3)
    assert all(np.isnan(alone[metric, ""][0]) for metric in ("uar", "macro_f1", "macro_auc"))


def test_majority_baseline() -> None:
    results = measure(majority(units_at("clip", by_hand())))
    assert results["accuracy", ""][0] == pytest.approx(3 / 6)
    assert results["uar", ""][0] == pytest.approx(1 / 3)
    assert results["macro_auc", ""][0] == pytest.approx(0.5)
    assert results["average_precision", "b"][0] == pytest.approx(2 / 6)


def test_recordings_and_subjects_take_the_mean_score() -> None:
    table = by_hand()
    table["recording"] = ["x", "x", "x", "y", "y", "z"]
    table["subject"] = ["s", "s", "s", "s", "s", "t"]
    recordings = units_at("recording", table)
    assert recordings.table["score_a"].tolist() == pytest.approx([1.7 / 3, 0.3, 0.5])
    assert (recordings.n_clips, recordings.n_recordings, recordings.n_subjects) == (6, 3, 2)
    subjects = units_at("subject", table)  # subject s has labels a and b
    assert subjects.n_left_out == 1
    assert subjects.table["unit"].tolist() == ["t"]


def test_repeats_are_averaged() -> None:
    first, second = by_hand(), by_hand().assign(repeat="1")
    second[["score_a", "score_b"]] = second[["score_b", "score_a"]].to_numpy()
    both = units_at("clip", pd.concat([first, second], ignore_index=True))
    alone = [measure(units_at("clip", table).table)["macro_auc", ""][0] for table in (first, second)]
    assert measure(both.table)["macro_auc", ""][0] == pytest.approx(np.mean(alone))


def test_intervals_of_pooled_folds_are_wider() -> None:
    one = units_at("clip", random_table(2))
    pooled = units_at("clip", random_table(2).assign(fold=(np.arange(200) % 5).astype(str)))
    assert (one.n_folds, pooled.n_folds) == (1, 5)
    variances = [Jackknife.of(units).variance(Jackknife.of(units).measures["uar", ""]) for units in (one, pooled)]
    assert variances[1] / variances[0] == pytest.approx(1.8)
    narrow, wide = (evaluate(units)[["value", "low", "high"]] for units in (one, pooled))
    assert narrow["value"].equals(wide["value"])
    assert ((wide["low"] <= narrow["low"]) & (wide["high"] >= narrow["high"]))[narrow["low"].notna()].all()


def test_spread_over_seeds_is_apart_from_that_over_divisions() -> None:
    rng = np.random.default_rng(0)
    n_divisions, n_seeds = 400, 3
    of_division = rng.normal(0.7, 0.04, n_divisions)
    values = pd.Series((of_division[:, None] + rng.normal(0, 0.02, (n_divisions, n_seeds))).ravel())
    division = pd.Series(np.repeat(np.arange(n_divisions), n_seeds))
    assert spread_of_repeats(values, division) == pytest.approx((0.02, 0.04), rel=0.1)
    of_seeds, of_divisions = spread_of_repeats(pd.Series([0.5, 0.7]), pd.Series([0, 1]))
    assert np.isnan(of_seeds) and of_divisions == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert repeats_in_words(pd.Series([0.5, 0.7]), pd.Series([0, 0])) == "± 0.141 (SD) over 2 training seeds"
    crossed = repeats_in_words(pd.Series([0.5, 0.6, 0.8, 0.9]), pd.Series([0, 0, 1, 1]))
    assert crossed == (
        "± 0.071 (SD) over 2 training seeds of a division and"
        " ± 0.206 (SD) over 2 divisions into folds, beyond the seeds'"
    )


def test_repeats_with_the_same_folds_are_one_division() -> None:
    table = random_table(2)
    folds = [np.arange(200) % 5, np.arange(200) % 5, np.arange(200) // 40]
    repeats = [table.assign(fold=fold.astype(str), repeat=str(n)) for n, fold in enumerate(folds)]
    shuffled = pd.concat(repeats).sample(frac=1, random_state=0)
    assert division_of(shuffled)[["0", "1", "2"]].nunique() == 2
    assert division_of(shuffled)["0"] == division_of(shuffled)["1"]


def test_interval_knows_that_clips_of_a_subject_are_one_case() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(60) < 0.7, 9)  # all nine clips of a subject share one fate
    truth = np.arange(len(right)) % 2
    scores = np.eye(2)[np.where(right, truth, 1 - truth)]

    def width(subjects: np.ndarray) -> float:
        results = evaluate(units_at("clip", made(["a", "b"], truth, scores, subjects)))
        accuracy = results.query("metric == 'accuracy' and predictor == 'model'").iloc[0]
        return accuracy["high"] - accuracy["low"]

    # Design effect 1 + (9 - 1) * 1 on the variance, so 3 on the width.
    assert width(np.repeat(np.arange(60), 9)) / width(np.arange(540)) == pytest.approx(3, rel=0.12)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    n_subjects, clips, covered = 60, 10, []
    for _ in range(400):
        share = rng.binomial(clips, rng.beta(4, 2, n_subjects)) / clips  # subjects differ; the mean accuracy is 2/3
        variance = share.var(ddof=1) / n_subjects
        low, high = rate_interval(share.mean(), variance, n_subjects)
        covered.append(low <= 2 / 3 <= high)
    assert 0.93 <= np.mean(covered) <= 0.98


def test_no_interval_is_of_zero_width() -> None:
    """Nor does a perfect score on six infants mean that all infants would be told apart."""
    subjects = np.repeat(np.arange(12), 5)
    truth = np.repeat(np.arange(12) % 2, 5)
    results = evaluate(units_at("clip", made(["a", "b"], truth, np.eye(2)[truth], subjects)))
    of_model = results.query("predictor == 'model'")
    assert (of_model["value"] == 1).all() and (of_model["high"] == 1).all() and (of_model["low"] < 0.8).all()
    of_gain = results.query("predictor == 'gain'")
    assert (of_gain["low"] < of_gain["high"]).sum() == of_gain["value"].notna().sum()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_gain_over_a_baseline_that_does_not_vary_is_the_figure_less_a_number(n_classes) -> None:
    results = evaluate(units_at("clip", random_table(n_classes))).set_index(["metric", "class", "predictor"])
    for metric, chance in (("uar", 1 / n_classes), ("macro_auc", 0.5)):
        model, baseline, gain = (results.loc[metric, "", who] for who in ("model", "majority", "gain"))
        assert baseline[["value", "low", "high"]].tolist() == pytest.approx([chance] * 3)
        assert gain[["low", "high"]].tolist() == pytest.approx((model[["low", "high"]] - chance).tolist())
    accuracy = results.loc["accuracy", "", "majority"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]  # which labels are tested is a matter of chance


def test_variance_is_that_of_each_class_where_subjects_have_one() -> None:
    """Against the textbook: UAR's variance is a quarter of the sum of those of two means over subjects."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(18), 4)
    truth = (subjects < 6).astype(int)
    scores = np.eye(2)[np.where(rng.random(72) < 0.7, truth, 1 - truth)]
    table = units_at("clip", made(["a", "b"], truth, scores, subjects)).table
    right = pd.Series(scores[np.arange(72), truth]).groupby(subjects).mean()
    variance = right[:6].var() / 6, right[6:].var() / 12
    found = Jackknife(table)
    for metric, name, wanted in (("uar", "", sum(variance) / 4), ("recall", "b", variance[0])):
        assert found.variance(found.measures[metric, name]) == pytest.approx(wanted)
    assert found.subjects("recall", "b") == pytest.approx(6) and found.subjects("accuracy") == pytest.approx(18)
    assert found.subjects("uar") == pytest.approx(1 + (1 / 6 + 1 / 12) ** 2 / (1 / 36 / 5 + 1 / 144 / 11))


def test_a_subject_with_most_of_the_clips_counts_for_most() -> None:
    table = random_table(2, 200, 20)
    even = Jackknife(units_at("clip", table).table).subjects("accuracy")
    first = table["subject"].where(np.arange(200) > 120, "made:000")
    uneven = Jackknife(units_at("clip", table.assign(subject=first)).table).subjects("accuracy")
    assert uneven < 3 < 15 < even <= 20


def test_many_subjects_are_left_out_in_groups(monkeypatch) -> None:
    table = units_at("clip", random_table(2, 4000, 400)).table
    grouped = Jackknife(table)
    assert grouped.measures["uar", ""].shape == (1 + MOST_GROUPS,)
    monkeypatch.setattr(intervals, "MOST_GROUPS", 1000)
    single = Jackknife(table)
    assert single.measures["uar", ""].shape == (401,)
    for metric in ("uar", "macro_auc"):
        (value, low, high), (same, lower, higher) = grouped.score(metric), single.score(metric)
        assert value == same and high - low == pytest.approx(higher - lower, rel=0.15)


def test_no_interval_below_five_subjects() -> None:
    four, five = (evaluate(units_at("clip", random_table(2, 60, n))) for n in (4, 5))
    assert four["low"].isna().all() and four["value"].notna().any()
    assert five.query("metric == 'uar'")[["low", "high"]].notna().all(axis=None)


def without_interval(table: pd.DataFrame) -> set[tuple[str, str]]:
    results = evaluate(units_at("clip", table)).query("predictor == 'model'")
    return set(results[results["low"].isna()][["metric", "class"]].itertuples(index=False, name=None))


def test_no_interval_for_a_class_of_few_subjects() -> None:
    table = random_table(3, 120, 30)
    table = table[(table["label"] != "c2") | table["subject"].isin(["made:001", "made:002"])]
    of_a_class = ("recall", "precision", "f1", "roc_auc", "average_precision")
    averages = {("uar", ""), ("macro_f1", ""), ("macro_auc", "")}
    assert without_interval(table) == {(metric, "c2") for metric in of_a_class} | averages


def test_no_interval_for_a_ranking_against_few_subjects() -> None:
    table = random_table(2, 120, 30)
    table = table[(table["label"] != "c1") | table["subject"].isin(["made:001", "made:002"])]
    assert {("roc_auc", "c0"), ("average_precision", "c0")} < without_interval(table)
    assert ("recall", "c0") not in without_interval(table)


@pytest.mark.parametrize("decimals", [1, 9])  # with ties, and without
def test_drawn_curves_are_those_of_scikit_learn(decimals) -> None:
    table = random_table(2, 60)
    truth, score = (table["label"] == "c1").to_numpy(), table["score_c1"].round(decimals).to_numpy()
    hits, alarms = hits_and_alarms(truth, score)
    false_alarms, sensitivity, _ = reference.roc_curve(truth, score, drop_intermediate=False)
    np.testing.assert_array_equal(np.append(0, hits / hits[-1]), sensitivity)
    np.testing.assert_array_equal(np.append(0, alarms / alarms[-1]), false_alarms)
    corners = roc_corners(hits, alarms)
    at_corners = np.interp(np.unique(false_alarms), *corners)  # straight in between: of equal abscissae the last
    np.testing.assert_allclose(at_corners, pd.Series(sensitivity).groupby(false_alarms).max())
    recall, precision = precision_recall_steps(hits, alarms)
    assert (recall[0], recall[-1]) == (0, 1) and (np.diff(recall) > 0).all()  # no vertical stroke at either end
    area = (np.diff(recall) * precision[1:]).sum()
    assert area == pytest.approx(reference.average_precision_score(truth, score))


def test_gain_is_paired_with_the_baseline() -> None:
    results = evaluate(units_at("clip", random_table(2)))
    accuracy = results[results["metric"] == "accuracy"].set_index("predictor")
    assert accuracy.loc["gain", "value"] == pytest.approx(
        accuracy.loc["model", "value"] - accuracy.loc["majority", "value"]
    )
    table = majority(units_at("clip", random_table(2))).assign(clip=random_table(2)["clip"], fold="0")
    same = evaluate(units_at("clip", table.assign(recording=table["clip"]))).query("predictor == 'gain'")
    same = same.dropna(subset="low")
    assert (same["value"] == 0).all() and (same["low"] <= 0).all() and (same["high"] >= 0).all()


def test_intervals_repeat_exactly() -> None:
    units = units_at("clip", random_table(3))
    pd.testing.assert_frame_equal(evaluate(units), evaluate(units))


def test_table_survives_writing(tmp_path) -> None:
    table = random_table(3).replace({"label": {"c0": "NA"}}).rename(columns={"score_c0": "score_NA"})
    columns = predictions.score_columns(table)
    table[columns] = table[columns].astype(np.float32)
    predictions.write(table, tmp_path / "new" / "predictions.csv")
    again = predictions.read(tmp_path / "new" / "predictions.csv")
    assert (again[columns].astype(np.float32) == table[columns]).all(axis=None)
    assert again["label"].tolist() == table["label"].tolist()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["predictions.csv"]


def test_bad_table_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "predictions.csv"
    predictions.write(by_hand(), path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="sum to 1"):
        predictions.write(by_hand().assign(score_a=0.9), path)
    assert path.read_bytes() == before


SPOILED = {
    "no column subject, fold": lambda table: table.drop(columns=["subject", "fold"]),
    "at least two classes, found none": lambda table: table[list(predictions.KEYS)],
    "at least two classes, found score_a": lambda table: table[[*predictions.KEYS, "score_a"]],
    "no rows": lambda table: table.iloc[:0],
    "line 3: the scores do not sum to 1": lambda table: table.assign(score_a=[0.8, 0.9, 0.3, 0.1, 0.5, 0.5]),
    "line 4: score_a is not a probability": lambda table: table.assign(score_a=[0.8, 0.6, np.nan, 0.1, 0.5, 0.5]),
    "line 2: score_a is not a probability": lambda table: table.assign(score_a=["x", 0.6, 0.3, 0.1, 0.5, 0.5]),
    r"line 7: label 'd' is not a class \(a, b, c\)": lambda table: table.assign(label=list("aaabbd")),
    "line 7: label is empty": lambda table: table.assign(label=[*"aaabb", ""]),
    r"line 2 \(and 5 more lines\): split must be one of val, test": lambda table: table.assign(split="train"),
    "line 8: this clip, repeat, fold and split stands": lambda table: pd.concat([table, table.iloc[:1]]),
    r"line 2 .*another label": lambda table: pd.concat([table, table.iloc[:1].assign(label="b", repeat="1")]),
}


@pytest.mark.parametrize("message", SPOILED)
def test_refused_tables_say_where(tmp_path, message: str) -> None:
    path = tmp_path / "predictions.csv"
    SPOILED[message](by_hand()).to_csv(path, index=False)
    with pytest.raises(UserError, match=message) as refusal:
        predictions.read(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe\x00", "not a CSV table"),
        (b"clip,label\na,b\nc,d,e,f\n", "not a CSV table"),
        (
            b"\xef\xbb\xbfclip;recording;score_a;score_b\na;a;0,5;0,5\nb;b;0,25;0,75\n",
            "has semicolons between its columns",
        ),
        (b"clip\tlabel\tscore_a\tscore_b\na\ta\t0,5\t0,5\n", "has tabs between its columns"),
        (b'clip,label,score_a,score_b\na,a,"0,5","0,5"\n', "score_a has decimal commas, as a spreadsheet may save it"),
        ("clip,label\na,b\n".encode("utf-16"), r"not a CSV table in UTF-8 \((UTF-16|another encoding, as a spread)"),
        (b"clip,label\nf\xfcr,b\n", r"not a CSV table in UTF-8 \(another encoding, as a spreadsheet may save it\)"),
        (b"clip,score_a,score_b,score_b\na,0.5,0.5,0.5\n", "more than one column score_b; keep one of each name"),
    ],
)
def test_files_that_are_no_table(tmp_path, content: bytes, message: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        predictions.read(path)
    with pytest.raises(UserError, match="cannot be read"):
        predictions.read(tmp_path / "absent.csv")
