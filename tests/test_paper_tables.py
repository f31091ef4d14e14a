"""The tables of a publication: every metric that papers print, in their form, by scikit-learn's numbers."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from made import REPO, write_run
from sklearn.metrics import classification_report, confusion_matrix, precision_recall_fscore_support

from cry_lightning.corpora import Clip
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.run import evaluate_run, read_run
from cry_lightning.studies import paper_tables
from cry_lightning.studies.paper_tables import FORMS, counts, differences, figures, long_form, reading, result
from cry_lightning.studies.recipe import PublishedFigure, Recipe, System

CLASSES = ["hunger", "normal", "pain"]
PROTOCOL = "by infant"


def made(folder, classes, seeds=1, folds=2, skill=0.4):
    """A run of twelve infants, each with clips of all classes, the rarer the later, and scores of some skill."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        for subject in range(12):
            for place, label in enumerate(classes):
                for take in range(4 - place):
                    scores = rng.dirichlet(np.ones(len(classes))) + skill * (np.array(classes) == label)
                    clip = f"{subject}-{label}-{take}.wav"
                    fold = 0 if seeds > 1 else subject % folds
                    rows.append((clip, clip, f"made:{subject}", seed, fold, "test", label, *scores / scores.sum()))
    columns = [*predictions.KEYS, *(f"score_{name}" for name in classes)]
    return write_run(folder, pd.DataFrame(rows, columns=columns), "other")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two classes from three seeds, and three classes in two folds."""
    folder = tmp_path_factory.mktemp("runs")
    two, three = made(folder / "two", CLASSES[1:], seeds=3), made(folder / "three", CLASSES)
    return (
        evaluate_run(read_run(str(two), "test"), "test", "pain"),
        evaluate_run(read_run(str(three), "test"), "test", None),
    )


def recipe(**fields):
    return Recipe(title="", corpora={}, **{"systems": {"net": System(["net"])}} | fields)


def shipped(paper):
    """The counts of a paper's corpus, as its recipe has them."""
    return yaml.safe_load((REPO / f"configs/papers/{paper}/paper.yaml").read_text())["published_corpus"]


def answers(run):
    return run.main_level.table["label"].to_numpy(), run.main_level.predicted


def test_figures_of_the_positive_class_are_those_of_scikit_learn(runs):
    table, seeds = runs[0].main_level.table, range(3)
    of_seeds = []
    for seed in seeds:
        rows = (table["repeat"] == str(seed)).to_numpy()
        truth, predicted = table["label"].to_numpy()[rows], runs[0].main_level.predicted[rows]
        precision, recall, f1, _ = precision_recall_fscore_support(truth, predicted, labels=["pain", "normal"])
        of_seeds.append([recall[0], recall[1], precision[0], f1[0]])
    metrics = ["sensitivity", "specificity", "precision", "f1"]
    assert [result(runs[0], metric)["value"] for metric in metrics] == pytest.approx(np.mean(of_seeds, axis=0))
    rows = long_form(recipe(metrics=metrics), {PROTOCOL: {"net": runs[0]}})
    assert rows["sd"].tolist() == pytest.approx(np.std(of_seeds, axis=0, ddof=1))
    assert rows["se"].tolist() == pytest.approx(np.std(of_seeds, axis=0, ddof=1) / np.sqrt(3))


def test_the_main_table_has_a_row_for_each_version_above_ours_in_the_unit_of_the_publication(runs):
    theirs = {"first": {"f1": "0.790"}, "later": {"f1": "0.706 ± 0.012", "uar": "0.842 (derived)"}}
    asked = recipe(
        metrics=["uar", "f1"],
        versions=["first", "later"],
        systems={"net": System(["net"], published=theirs)},
        references=[PublishedFigure("a random forest", {"uar": "0.936"})],
        deviation="standard error",
    )
    header, *rows = figures(asked, {PROTOCOL: {"net": runs[0]}})
    assert header == ["system", "figures", "UAR", "F1", "lineage"]
    assert rows[:2] == [["net", "first", "", "0.790", ""], ["net", "later", "0.842 (derived)", "0.706 ± 0.012", ""]]
    found = long_form(asked, {PROTOCOL: {"net": runs[0]}}).set_index("metric")
    for cell, metric in zip(rows[2][2:4], ("uar", "f1"), strict=True):
        assert cell.startswith(f"{found['value'][metric]:.3f} ± {found['se'][metric]:.3f} [")
    assert rows[3][:2] == ["majority", PROTOCOL] and rows[3][3] == "0.000"  # of F1: pain is not what it says
    assert rows[4] == ["a random forest", "", "0.936", "", ""]
    text = reading(asked, {PROTOCOL: {"net": runs[0]}})
    assert "standard error of the mean" in text and "(derived): not printed there" in text and "are of pain" in text


def test_the_differences_that_onu_et_al_print_are_those_of_the_figures_that_they_print():
    onu = yaml.safe_load((REPO / "configs/papers/onu2019/paper.yaml").read_text())
    systems = [
        onu["systems"][name]["published"]["published, first version"] for name in onu["systems"] if "hinge" in name
    ]
    (printed,) = (one["figures"] for one in onu["references"] if one["name"].startswith("transfer minus"))
    before, after = ({metric: float(theirs[metric]) for metric in printed} for theirs in systems)
    assert {metric: f"{after[metric] - before[metric]:+.3f}" for metric in printed} == printed and len(printed) == 4


def test_classes_and_their_averages_are_those_of_scikit_learn(runs):
    theirs = {"tiredness": {"precision": "0.935"}, "pain": {"precision": "0.956", "recall": "0.925", "f1": "0.940"}}
    asked = recipe(systems={"net": System(["net"], published_classes=theirs)})
    (table,) = FORMS["classes"](asked, {PROTOCOL: {"net": runs[1]}}, {})
    assert table[0][:4] == ["system", f"class, {PROTOCOL}", "precision, published", "precision"]
    truth, predicted = answers(runs[1])
    report = classification_report(truth, predicted, output_dict=True)
    rows = {row[1]: row[2:] for row in table[1:]}
    names = {"macro avg": "macro average", "weighted avg": "weighted average"} | {name: name for name in CLASSES}
    for theirs_name, name in names.items():
        ours = [float(text.split()[0]) for text in rows[name][1::2]]
        of_report = report[theirs_name]
        assert ours == pytest.approx([of_report[k] for k in ("precision", "recall", "f1-score")], abs=5e-4)
    assert rows["pain"][::2] == ["0.956", "0.925", "0.940"]
    assert rows["tiredness"] == ["0.935", "", "", "", "", ""]  # which this corpus lacks


def test_rows_of_the_confusion_are_shares_of_the_true_class(runs):
    (table,) = FORMS["confusion"](recipe(), {PROTOCOL: {"net": runs[1]}}, {})
    wanted = 100 * confusion_matrix(*answers(runs[1]), normalize="true")
    assert np.array(table[1:])[:, 2:5].astype(float) == pytest.approx(wanted, abs=0.051)
    assert [row[1] for row in table[1:]] == CLASSES and [row[-1] for row in table[1:]] == ["48", "36", "24"]


def test_folds_stand_below_the_published_ones_with_their_mean(runs):
    theirs = System(["net"], published_folds=["0.965", "0.954", "0.960", "0.960"])
    (table,) = FORMS["folds"](recipe(systems={"net": theirs}), {PROTOCOL: {"net": runs[1]}}, {})
    assert table[0][1:] == ["1", "2", "3", "mean"] and table[1][1:] == theirs.published_folds
    truth, predicted = answers(runs[1])
    fold = runs[1].table.set_index("clip")["fold"][runs[1].main_level.table["unit"]].to_numpy()
    accuracies = [(truth == predicted)[fold == each].mean() for each in ("0", "1")]
    assert table[2] == ["net", *(f"{each:.3f}" for each in accuracies), "", f"{np.mean(accuracies):.3f}"]
    assert not FORMS["folds"](recipe(), {PROTOCOL: {"net": runs[0]}}, {})  # one division from several seeds


def test_the_corpus_is_counted_by_infant_and_class_as_published_and_here():
    zhao = recipe(published_corpus=shipped("zhao2020"))
    clips = [Clip(f"{n}.wav", "ward:b" if n < 3 else "ward:a", label=("pain", "hunger")[n % 2]) for n in range(4)]
    windows = [Clip("0.wav", "ward:b", label="pain", start_s=1.0, duration_s=1.0)]
    data = SimpleNamespace(clips=[*clips, *windows, Clip("5.wav", "ward:c")])
    plans = {PROTOCOL: {"both": None, "net": SimpleNamespace(chain=SimpleNamespace(last=SimpleNamespace(data=data)))}}
    theirs, ours = FORMS["corpus"](zhao, {}, plans)
    assert ours[0] == ["recordings, here", "hunger", "pain", "total"]
    assert ours[1:4] == [["infant 1", "1", "0", "1"], ["infant 2", "1", "2", "3"], ["total", "2", "2", "4"]]
    assert [row[-1] for row in ours[4:]] == ["0.500", "0.750"]
    assert theirs[0] == ["clips, as published", "hunger", "boredom", "tiredness", "discomfort", "total"]
    assert theirs[-3] == ["total", "205", "312", "152", "183", "852"]
    assert [row[-1] for row in theirs[-2:]] == ["0.366", "0.581"] and all("(derived)" in row[0] for row in theirs[-2:])
    le = recipe(published_corpus=shipped("le2020"))
    theirs, ours = FORMS["corpus"](le, {}, plans)
    assert theirs[1] == ["Baby Chillanto", "340", "879", "350", "507", "192", "2268"]
    assert ours[1] == ["2 infants", "2", "2", "4"]  # as there, whoever they are


def test_classes_stand_in_order_and_infants_by_number_in_the_table_of_the_corpus():
    clips = [Clip(f"{n}.wav", f"ward:{n % 12:02}", label=f"class {n % 7}") for n in range(84)]
    plan = SimpleNamespace(chain=SimpleNamespace(last=SimpleNamespace(data=SimpleNamespace(clips=clips[::-1]))))
    (ours,) = FORMS["corpus"](recipe(), {}, {PROTOCOL: {"net": plan}})
    assert ours[0][1:-1] == [f"class {n}" for n in range(7)]  # which a set has in an order of its own each time
    assert [row[0] for row in ours[1:13]] == [f"infant {n}" for n in range(1, 13)]


def test_a_class_that_is_never_predicted_has_no_precision_and_counts_as_none():
    values, cases = {"a": 0.8, "b": np.nan, "c": 0.9}, {"a": 6, "b": 2}
    assert paper_tables.averaged("macro_precision", values, cases) == pytest.approx(0.4)
    assert paper_tables.averaged("weighted_precision", values, cases) == pytest.approx(0.6)


def test_one_infant_has_no_identity_to_go_by():
    rows = counts("x", pd.DataFrame({"a": 1, "b": 3}, ["all"]))
    assert [row[0] for row in rows] == ["x", "all", "commonest class (derived)"]


def test_systems_that_cannot_be_run_here_have_their_published_figures(runs):
    theirs = System(
        ["net"],
        published={"published": {"accuracy": "0.963"}},
        published_folds=["0.97", "0.95", "0.96"],
        published_classes={"pain": {"recall": "0.976"}},
    )
    asked = recipe(metrics=["accuracy"], systems={"theirs": theirs, "net": System(["net"])})
    ours = {PROTOCOL: {"net": runs[1]}}
    assert figures(asked, ours)[1] == ["theirs", "published", "0.963", ""]
    assert FORMS["folds"](asked, ours, {})[0][1] == ["theirs, published", "0.97", "0.95", "0.96"]
    assert FORMS["classes"](asked, ours, {})[0][1] == ["theirs", "pain", "", "", "0.976", "", "", ""]


def test_differences_are_of_the_metric_that_the_recipe_names(runs, tmp_path):
    better = evaluate_run(read_run(str(made(tmp_path / "better", CLASSES, skill=0.8)), "test"), "test", None)
    asked = recipe(systems={"net": System(["net"]), "better": System(["net"])}, differences="macro_auc")
    ((header, row),) = differences(asked, {PROTOCOL: {"net": runs[1], "better": better}})
    gain = result(better, "macro_auc")["value"] - result(runs[1], "macro_auc")["value"]
    assert header[0] == "paired difference of AUC"
    assert row[0] == f"{PROTOCOL}: better minus net"
    assert row[1].startswith(f"{gain:.3f} [") and float(row[2].removeprefix("< ")) <= 1
    ((header, row),) = differences(replace(asked, differences="uar"), {PROTOCOL: {"net": runs[1], "better": better}})
    assert header[0] == "paired difference of UAR" and not row[1].startswith(f"{gain:.3f} [")
