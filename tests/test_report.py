"""`evaluate` from the command line: the table, the report, the figures, and what is refused."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made import bind, write_run
from matplotlib.image import imread

from cry_lightning import lineage
from cry_lightning.__main__ import run as command
from cry_lightning.cli.runfolder import RunFolder
from cry_lightning.console import UserError
from cry_lightning.evaluation import figures, predictions
from cry_lightning.evaluation.drawing import PAPER, SCREEN, in_lines
from cry_lightning.evaluation.run import Run, evaluate_run, named_apart, read_run
from cry_lightning.files import sha256
from cry_lightning.report.command import CSV_COLUMNS, OPTIONAL
from cry_lightning.report.words import verdict

main = partial(command, "evaluate")


PNG = b"\x89PNG"


def make_run(
    folder: Path,
    classes: Sequence[str] = "ab",
    n_subjects: int = 12,
    n_clips: int = 2,
    trained_on: str = "other",
    seed: int = 0,
) -> Path:
    """A run whose subjects have one class each, two recordings of `n_clips` clips, and a fair classifier."""
    rng = np.random.default_rng(seed)
    rows = []
    for subject in range(n_subjects):
        label = 0 if subject % 4 else 1 + subject // 4 % (len(classes) - 1)
        for recording in (f"{subject}-{number}.wav" for number in range(2)):
            for clip in (f"{recording}#{second}.000-1.000" for second in range(n_clips)):
                scores = np.exp(rng.normal(size=len(classes)) + 2 * (np.arange(len(classes)) == label))
                row = (clip, recording, f"made:{subject}", 0, 0, "test", classes[label], *scores / scores.sum())
                rows.append(row)
    columns = [*predictions.KEYS, *(f"score_{name}" for name in classes)]
    table = pd.DataFrame(rows, columns=columns)
    return write_run(folder, table, trained_on)


def rewrite(folder: Path, **columns) -> None:
    predictions.write(predictions.read(folder / "predictions.csv").assign(**columns), folder / "predictions.csv")


@pytest.fixture(scope="module")
def made_run(tmp_path_factory) -> Run:
    """A run that was scored."""
    return evaluate_run(read_run(str(make_run(tmp_path_factory.mktemp("made") / "run")), "test"), "test", None)


def test_one_run_reports_into_its_own_folder(tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    main([str(run)])
    printed = capsys.readouterr().out
    assert printed.rstrip().endswith(f"Report: {run / 'report.html'}")
    table = [line.split() for line in printed.splitlines()]
    assert [row[1] for row in table if row[:1] == [str(run)]] == ["clip", "recording", "subject"]
    assert [row[2] for row in table if row[:1] == [str(run)]] == ["48/24/12"] * 3
    assert printed.count("always a") == 3
    assert "sensitivity (b)" in printed  # the rarer class

    written = (run / "report.md").read_text()
    for words in ("CLEAN", "Positive class: **b**", "95 % intervals over subjects", "majority baseline", "subjects"):
        assert words in written
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", written)
    assert len(pictures) == 2
    assert all((run / picture).read_bytes().startswith(PNG) for picture in pictures)
    assert not list(run.rglob("*.part"))


def test_confusion_matrix_in_percent_of_each_true_class(tmp_path) -> None:
    """Recordings, whose scores are the mean of their clips'; class c is never said nor true."""
    run = make_run(tmp_path / "run", "abc", n_subjects=8)
    table = predictions.read(run / "predictions.csv")
    b = np.where(table["recording"].isin(["1-0.wav", "2-0.wav", "0-0.wav"]), 0.7, 0.2)
    rewrite(run, label=table["label"].replace("c", "b"), score_a=1 - b, score_b=b, score_c=0.0)
    axes = figures.confusion(evaluate_run(read_run(str(run), "test"), "test", None), SCREEN).axes[0]
    cells = np.array([text.get_text() for text in axes.texts]).reshape(3, 3)
    assert cells.tolist()[:2] == [
        ["83.3 %\n(10)", "16.7 %\n(2)", "0.0 %\n(0)"],
        ["75.0 %\n(3)", "25.0 %\n(1)", "0.0 %\n(0)"],
    ]
    assert cells[2].tolist() == ["-", "-", "-"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a (n=12)", "b (n=4)", "c (n=0)"]
    np.testing.assert_allclose(axes.images[0].get_array().sum(axis=1), [100, 100, 0])


LONG = ["pathological_cry_of_perinatal_asphyxia", "healthy cry of a newborn, of any reason"]


@pytest.mark.parametrize("style", [SCREEN, PAPER])
@pytest.mark.parametrize("n_others", [0, 10])
def test_long_names_of_classes_stay_in_the_figure_and_out_of_the_cells(tmp_path, style, n_others) -> None:
    names = [*LONG, *(f"reason {number}" for number in range(n_others))]
    run = evaluate_run(read_run(str(make_run(tmp_path / "run", names, n_subjects=48)), "test"), "test", None)
    with style.applied():
        matrix, curves = figures.confusion(run, style), figures.curves(run, style)
        for figure in (matrix, curves):
            figure.draw_without_rendering()
    axes = matrix.axes[0]
    cell = axes.get_window_extent().width / len(names)
    assert all(text.get_window_extent().width < cell for text in axes.texts) and bool(axes.texts) == (not n_others)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert "".join(label.get_text().replace("\n", "") for label in labels).count("perinatal_asphyxia") == 1
        extents = [label.get_window_extent() for label in labels]
        assert all(matrix.bbox.x0 <= one.x0 and one.x1 <= matrix.bbox.x1 and one.y0 >= 0 for one in extents)
    assert all(lower.y1 <= upper.y0 for upper, lower in pairwise(extents))
    legend = curves.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= curves.bbox.x1 and legend.y0 >= 0


def test_names_are_broken_where_a_reader_would() -> None:
    assert in_lines(LONG[0], 24).splitlines() == ["pathological_cry_of_", "perinatal_asphyxia"]
    assert in_lines(LONG[1], 24).splitlines() == ["healthy cry of a", "newborn, of any reason"]
    assert in_lines("x" * 30, 24).splitlines() == ["x" * 24, "x" * 6] and in_lines("a b", 24) == "a b"


def test_numbers_in_table_report_and_csv_agree(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run", n_subjects=20)
    main([str(run)])
    printed, written = capsys.readouterr().out, (run / "report.md").read_text()
    numbers = pd.read_csv(run / "metrics.csv")
    assert list(numbers)[:9] == [*CSV_COLUMNS]
    uar = numbers.query("level == 'recording' and metric == 'uar' and predictor == 'model'").iloc[0]
    cell = f"{uar['value']:.3f} [{uar['low']:.3f}, {uar['high']:.3f}]"
    assert cell in printed and cell in written
    assert uar["low"] <= uar["value"] <= uar["high"]
    assert (uar["n_units"], uar["n_subjects"]) == (40, 20)
    sensitivity = numbers.query("level == 'clip' and metric == 'sensitivity' and predictor == 'model'").iloc[0]
    assert (sensitivity["class"], sensitivity["n_units"], sensitivity["n_subjects"]) == ("b", 20, 5)


def test_positive_class_can_be_named(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    main([str(run), "--positive", "a"])
    assert "sensitivity (a)" in capsys.readouterr().out
    with pytest.raises(UserError, match="--positive c must be one of exactly two classes, here a, b"):
        main([str(run), "--positive", "c"])


def test_positive_class_is_the_same_for_both_splits(no_figures, tmp_path, capsys) -> None:
    """Class b is the rarer of all rows, though not of the validation rows."""
    run = make_run(tmp_path / "run")
    table = predictions.read(run / "predictions.csv")
    shown = (table["label"] == "b") | table["subject"].isin(["made:1", "made:2"])
    rewrite(run, split=np.where(shown, "val", "test"))
    of_split = table[shown]["label"].value_counts()
    assert of_split["b"] > of_split["a"]
    for split in ("val", "test"):
        main([str(run), "--split", split])
        assert "sensitivity (b)" in capsys.readouterr().out
    assert "the rarer one in all of predictions.csv, val and test" in (run / "report.md").read_text()


def test_model_that_always_answers_the_same_is_told(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run", n_clips=1)
    main([str(run)])
    assert "to every case" not in capsys.readouterr().out
    rewrite(run, score_a=0.6, score_b=0.4)
    main([str(run)])
    printed, written = capsys.readouterr().out, (run / "report.md").read_text()
    assert "0.500 [0.500, 0.500]" not in printed
    told = "levels: the model answered a to every case."
    assert told in printed and told in written


def test_leaky_run_is_refused_and_then_stamped(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run", trained_on="made:3")
    with pytest.raises(UserError, match=r"LEAKY, 1 of 12 tested subjects trained on.*--allow-leaky"):
        main([str(run)])
    assert not (run / "report.md").exists()
    refused = pd.read_csv(run / "leaks.csv")
    main([str(run), "--allow-leaky"])
    leaks = pd.read_csv(run / "leaks.csv")
    pd.testing.assert_frame_equal(leaks, refused)
    assert leaks["clip"].str.match("3-[01].wav#").all() and len(leaks) == 4
    assert set(leaks["found_by"]) == {"subject"} and set(leaks["run"]) == {str(run)}
    printed, written = capsys.readouterr().out, (run / "report.md").read_text()
    assert len(re.findall(r"(clip|recording|subject) .* LEAKY$", printed, re.MULTILINE)) == 3
    assert written.splitlines()[2].startswith("> **LEAKY**")
    assert "the test leaks, so this says nothing about other subjects" in written
    assert set(pd.read_csv(run / "metrics.csv")["lineage"]) == {"LEAKY"}
    assert "leaks.csv names every such clip" in printed and "leaks.csv names every such clip" in written
    rewrite(run, subject=predictions.read(run / "predictions.csv")["subject"].replace("made:3", "made:x"))
    bind(run)
    main([str(run)])
    assert not (run / "leaks.csv").exists()


def test_a_checkpoint_that_was_exchanged_after_the_test_is_remarked(tmp_path) -> None:
    run = make_run(tmp_path / "run")
    (run / "best.ckpt").write_bytes(b"weights")
    known = replace(lineage.read(run / "lineage.json"), checkpoint=sha256(run / "best.ckpt"))
    lineage.write(known, run / "lineage.json")
    assert not read_run(str(run), "test").doubts
    (run / "best.ckpt").write_bytes(b"others")
    (remark,) = read_run(str(run), "test").doubts
    assert remark.startswith("The best.ckpt beside these predictions is not the checkpoint that made them")
    (run / "last.ckpt").write_bytes(b"weights")  # which may be tested, too
    assert not read_run(str(run), "test").doubts


def test_a_new_test_leaves_nothing_of_the_report_of_another(tmp_path) -> None:
    for name in OPTIONAL:
        (tmp_path / name).touch()
    RunFolder(tmp_path).forget_evaluation()
    assert not [*tmp_path.iterdir()]


def test_unknown_subjects_are_stamped_and_intervals_are_over_recordings(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    table = predictions.read(run / "predictions.csv")
    rewrite(run, subject="made:" + table["recording"], subject_source="unknown")
    bind(run)
    main([str(run)])
    printed, written = capsys.readouterr().out, (run / "report.md").read_text()
    assert len(re.findall(r"(clip|recording) +48/24/\? .* SUBJECTS UNKNOWN$", printed, re.MULTILINE)) == 2
    for text in (printed, written):
        assert "the subjects of 48 of 48 tested clips are not known" in text.replace("\\", "")
        assert (
            "interval" in text
            and "over recordings" in text.replace("*", "")
            and "subject_pattern" in text.replace("\\", "")
        )
        assert "No subject level: the subjects are not known." in text
        assert "as subjects are not known it says nothing about other infants" in text
    assert written.splitlines()[2].startswith("> **SUBJECTS UNKNOWN**")
    assert set(pd.read_csv(run / "metrics.csv")["lineage"]) == {"SUBJECTS UNKNOWN"}


def test_where_some_subjects_are_unknown_intervals_are_over_both_and_called_so(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    table = predictions.read(run / "predictions.csv")
    unknown = table["subject"] == "made:3"
    rewrite(
        run,
        subject=table["subject"].mask(unknown, "made:" + table["recording"]),
        subject_source=table["subject_source"].mask(unknown, "unknown"),
    )
    bind(run)
    main([str(run)])
    printed, card = capsys.readouterr().out, (run / "card.md").read_text().replace("\\", "")
    for text in (printed, card):
        assert "over subjects, and over recordings where the subject is not known (4 of 48 tested clips)" in text
        assert "Nothing is known of how the model does" not in text
        assert "and as some subjects are not known it may not hold for other infants" in text
    assert "95 % interval over subjects and recordings." in printed
    assert "All intervals are over subjects and recordings;" in card
    assert "11 subjects, subjects of 4 clips not known" in card
    assert "a: 18 recordings of 10 subjects; b: 6 recordings of 3 subjects. A recording whose subject is" in card


def test_of_few_recordings_of_unknown_subjects_recordings_are_said_to_be_too_few(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run", n_subjects=2)
    recordings = predictions.read(run / "predictions.csv")["recording"]
    rewrite(run, subject="made:" + recordings, subject_source="unknown")
    bind(run)
    main([str(run)])
    assert "no intervals, since they need 5 recordings and 4 were tested." in capsys.readouterr().out


def test_an_older_table_counts_subjects_named_after_their_recordings_as_unknown(tmp_path) -> None:
    run = make_run(tmp_path / "run")
    table = predictions.read(run / "predictions.csv")
    assert set(table["subject_source"]) == {""}
    older = table.drop(columns="subject_source").assign(subject="made:" + table["recording"])
    older.to_csv(run / "predictions.csv", index=False)
    assert set(predictions.read(run / "predictions.csv")["subject_source"]) == {"unknown"}


def test_stand_ins_are_named(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    rewrite(run, subject_source="stand-in")
    bind(run)
    main([str(run)])
    printed = capsys.readouterr().out
    assert "12 of 12 tested subjects are stand-ins for infants" in printed and "CLEAN" in printed


def test_missing_lineage_is_stamped(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    (run / "lineage.json").unlink()
    main([str(run)])
    assert "UNKNOWN LINEAGE, no lineage.json" in capsys.readouterr().out
    assert "> **UNKNOWN LINEAGE**" in (run / "report.md").read_text()


def test_uncalibrated_scores_are_named(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    lineage = json.loads((run / "lineage.json").read_text())
    (run / "lineage.json").write_text(json.dumps(lineage | {"uncalibrated": True}))
    main([str(run)])
    assert "not calibrated probabilities" in capsys.readouterr().out
    assert "not calibrated probabilities" in (run / "report.md").read_text()


def test_several_runs_in_one_table(no_figures, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    names = [str(make_run(Path(f"runs/made/{name}"), seed=seed)) for seed, name in enumerate(("tuned", "scratch"))]
    main([*names])
    printed, folder = capsys.readouterr().out, Path("runs/comparison")
    assert [line.split()[0] for line in printed.splitlines() if " recording  48/" in line and "CLEAN" in line] == [
        "tuned",
        "scratch",
    ]
    assert printed.rstrip().endswith("Report: runs/comparison/report.html")
    pictures = re.findall(r"\((figures/.*?)\)", (folder / "report.md").read_text())
    assert pictures == [f"figures/{run}-{name}.png" for run in (1, 2) for name in ("confusion", "curves")]
    assert set(pd.read_csv(folder / "metrics.csv")["run"]) == set(names)
    report = (folder / "report.md").read_text()
    assert "not tested on the same clips" not in report and "| tuned | clip |" in report and "| minus tuned |" in report
    assert all(report.count(name) == 1 for name in names), "the whole path, once"

    other = str(make_run(Path("runs/made/other"), "abc", n_subjects=9))
    main([names[0], f"{other}/predictions.csv", "--out", "both"])
    assert "not tested on the same clips" in Path("both/report.md").read_text()
    with pytest.raises(UserError, match="named twice"):
        main([names[0], f"{names[0]}/"])


def test_no_comparison_takes_the_place_of_one_of_other_runs(no_figures, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    a, b, c = (str(make_run(Path(f"runs/made/{name}"), seed=seed)) for seed, name in enumerate("abc"))

    def compared() -> dict[str, list[str]]:
        tables = Path("runs").glob("comparison*/metrics.csv")
        return {str(path.parent): list(pd.read_csv(path)["run"].unique()) for path in tables}

    main([a, b])
    assert compared() == {"runs/comparison": [a, b]}
    assert '<p class="faint">a, b</p>' in Path("runs/comparison/report.html").read_text()
    main([a, c])
    found = compared()
    assert found.pop("runs/comparison") == [a, b] and list(found.values()) == [[a, c]]
    main([a, f"{c}/"])
    main([a, b])
    assert compared() == {"runs/comparison": [a, b], **found}, "each replaces its own"


@pytest.mark.parametrize(
    ("names", "labels", "title"),
    [
        (["runs/a/x/best", "runs/b/x/best"], ["a/x/best", "b/x/best"], "best, x, a"),
        (["runs/a/x", "runs/a/x/deeper"], ["x", "x/deeper"], "x"),
        (["./x", "y"], ["./x", "y"], "x"),
        (["a/folds/0", "b/folds/0"], ["a/folds/0", "b/folds/0"], "0, folds, a"),
        (["a/y and 4 more, pooled", "a/z"], ["y and 4 more, pooled", "z"], ""),
        (["runs/a/x"], ["runs/a/x"], "x, a"),
    ],
)
def test_beside_each_other_runs_are_called_by_what_differs(made_run, names, labels, title) -> None:
    runs = named_apart([replace(made_run, name=name, folder=Path(name)) for name in names])
    assert [run.label for run in runs] == labels and [run.name for run in runs] == names
    assert runs[0].title.startswith(title) and len({run.title for run in runs}) == len(runs)


def test_few_subjects_have_no_interval_and_the_report_says_so(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run", n_subjects=4)
    main([str(run)])
    printed, written = capsys.readouterr().out, (run / "report.md").read_text()
    said = "no intervals, since they need 5 subjects and 4 were tested"
    assert said in printed and said in written
    assert not re.search(r"\d \[\d", printed + written)
    assert "there is no interval, so this says nothing about other subjects" in printed
    assert pd.read_csv(run / "metrics.csv")["low"].isna().all()


@pytest.mark.parametrize(("n_subjects", "said"), [(16, "have b (4): too few for intervals of the figures"), (20, "")])
def test_averages_over_classes_need_enough_subjects_of_each(no_figures, tmp_path, capsys, n_subjects, said) -> None:
    run = make_run(tmp_path / "run", n_subjects=n_subjects)
    main([str(run)])
    for text in (capsys.readouterr().out, (run / "report.md").read_text().partition(f"## {run}")[2]):
        assert text.count("too few for intervals") == bool(said) and said in text
    of_model = pd.read_csv(run / "metrics.csv").query("predictor == 'model' and metric in ('uar', 'macro_auc')")
    assert of_model["low"].isna().eq(bool(said)).all()


def test_who_is_tested_and_chose_too_is_remarked_and_a_clip_is_refused(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    table = predictions.read(run / "predictions.csv")
    chose = table.assign(split="val", clip="v" + table["clip"])
    predictions.write(pd.concat([table, chose[chose["subject"].isin(["made:1", "made:2"])]]), run / "predictions.csv")
    bind(run)
    main([str(run)])
    of = f"2 of {table['subject'].nunique()} tested subjects are among the validation rows of the same fold"
    assert of in capsys.readouterr().out
    with pytest.raises(UserError, match="this clip is val and test of one repeat and fold"):
        predictions.write(pd.concat([table, table.assign(split="val")]), run / "predictions.csv")


def test_one_class_tested_has_a_recall_and_no_uar(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    rewrite(run, label="a")
    main([str(run)])
    assert "no case of b was tested; so there is no UAR, macro-F1, AUC or average precision" in capsys.readouterr().out
    at_clips = pd.read_csv(run / "metrics.csv").query("level == 'clip' and predictor == 'model'")
    values = at_clips.set_index(["metric", "class"])[["value", "low", "high"]]
    assert values.loc[["uar", "macro_f1", "macro_auc", "average_precision"]].isna().all(axis=None)
    assert values.loc["recall", "a"].notna().all()


def test_levels_that_add_nothing_are_left_out(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run", n_clips=1)
    labels = np.array(["a", "b"] * 12)  # every subject has both
    rewrite(run, label=labels)
    main([str(run)])
    printed = capsys.readouterr().out
    assert "No recording level: every recording has just one clip" in printed
    assert "No subject level: every subject has clips of several labels" in printed
    assert set(pd.read_csv(run / "metrics.csv")["level"]) == {"clip"}


def test_subjects_of_several_labels_are_left_out_and_counted(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    table = predictions.read(run / "predictions.csv")
    table.loc[table["recording"] == "1-0.wav", "label"] = "b"
    rewrite(run, label=table["label"])
    main([str(run)])
    printed = capsys.readouterr().out
    assert "At subject level: 1 subject with several labels or subjects is left out" in printed
    assert "44/22/11" in printed


def test_absent_and_rare_classes_are_named(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run", "abcd", n_subjects=10)
    main([str(run)])
    printed = capsys.readouterr().out
    assert "At clip, recording and subject levels: fewer than 5 tested subjects have b (1), c (1), d (1)" in printed
    table = predictions.read(run / "predictions.csv")
    rewrite(run, label=table["label"].replace("d", "c"))
    main([str(run)])
    assert "no case of d was tested; averages over classes leave them out" in capsys.readouterr().out


def test_folds_are_pooled_and_repeats_averaged(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    table = predictions.read(run / "predictions.csv")
    fold = (table["subject"].str[5:].astype(int) % 3).astype(str)
    repeats = pd.concat([table.assign(fold=fold, repeat=repeat) for repeat in "01"], ignore_index=True)
    predictions.write(repeats, run / "predictions.csv")
    main([str(run)])
    printed = capsys.readouterr().out
    assert "3 folds are pooled" in printed and "mean over 2 repeats" in printed
    assert "UAR at recording level ± 0.000 (SD) over 2 training seeds; the intervals, over subjects, do not" in printed
    assert "1.29 times as wide" in printed
    assert pd.read_csv(run / "metrics.csv").query("level == 'clip' and metric == 'uar'")["n_units"].eq(48).all()
    predictions.write(repeats.assign(fold=repeats["repeat"], repeat="0"), run / "predictions.csv")
    with pytest.raises(UserError, match="is in several folds of repeat 0"):
        main([str(run)])


def test_validation_rows_are_reported_apart_and_called_so(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run")
    rewrite(run, split="val")
    with pytest.raises(UserError, match="no test rows; try --split val"):
        main([str(run)])
    main([str(run), "--split", "val"])
    assert "they chose the checkpoint" in capsys.readouterr().out
    assert (run / "validation" / "report.md").exists() and not (run / "report.md").exists()


def test_runs_that_cannot_be_evaluated(tmp_path) -> None:
    with pytest.raises(UserError, match="no such run"):
        main([str(tmp_path / "absent")])
    with pytest.raises(UserError, match=r"no predictions.csv; name the folder of a run, or a predictions.csv"):
        main([str(tmp_path)])
    make_run(tmp_path / "corpus/tuned")
    with pytest.raises(UserError, match=r"no predictions.csv; name a run, such as .*corpus/tuned"):
        main([str(tmp_path)])
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match=r"no predictions.csv; `python -m cry_lightning test --config .*config.yaml`"):
        main([str(tmp_path)])
    (tmp_path / "config.yaml").write_text("model: {class_path: cry_lightning.tasks.SimCLR}")
    with pytest.raises(UserError, match=r"no predictions.csv; it is a pretraining, of which there is nothing"):
        main([str(tmp_path)])
    with pytest.raises(UserError, match=r"--out: .*config.yaml is a file; name a folder"):
        main([str(tmp_path / "corpus/tuned"), "--out", str(tmp_path / "config.yaml/report")])


@pytest.mark.slow
def test_verdict_tells_signal_from_none(no_figures, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run", n_subjects=40)
    main([str(run)])
    assert "is more than chance in the choice of subjects explains" in capsys.readouterr().out
    rewrite(run, score_a=0.6, score_b=0.4)
    main([str(run)])
    assert "is no evidence that the model does better" in capsys.readouterr().out


def test_a_model_that_is_worse_than_the_baseline_is_called_so(tmp_path) -> None:
    run = make_run(tmp_path / "run", n_subjects=40)
    turned = predictions.read(run / "predictions.csv").rename(columns={"score_a": "score_b", "score_b": "score_a"})
    predictions.write(turned, run / "predictions.csv")
    bind(run)
    told = verdict(evaluate_run(read_run(str(run), "test"), "test", None))
    assert re.search(r"by a gain of -0\.\d+ .* worse than always saying a on these subjects .look at labels", told), (
        told
    )


def fold_of(tmp_path, fold: int, trained_on: str) -> Path:
    """One fold of a cross-validation: its own third of the subjects, trained on `trained_on`."""
    folder = make_run(tmp_path / f"cv/fold{fold}", trained_on=trained_on)
    table = predictions.read(folder / "predictions.csv")
    own = table["subject"].str.removeprefix("made:").astype(int) % 3 == fold
    predictions.write(table[own].assign(fold=fold), folder / "predictions.csv")
    bind(folder)
    return folder


def test_pooled_folds_are_one_run_and_each_is_judged_by_its_own_lineage(no_figures, tmp_path, capsys) -> None:
    """A subject tested in fold 0 and trained on in fold 1 is no leak; one tested and trained on in fold 1 is."""
    folds = [str(fold_of(tmp_path, fold, trained_on=f"made:{fold + 1}")) for fold in range(3)]
    main(["--pool", *folds])
    printed = capsys.readouterr().out
    assert "48/24/12" in printed and "CLEAN" in printed
    assert (tmp_path / "cv/pooled/report.md").exists()
    whole = make_run(tmp_path / "whole")
    main([str(whole)])
    scores = [re.search(r"clip +48/24/12 +(\S+) \[(\S+), (\S+)\]", text) for text in (printed, capsys.readouterr().out)]
    (pooled, low, high), (alone, *inner) = (tuple(map(float, found.groups())) for found in scores)
    assert pooled == alone and low < inner[0] < inner[1] < high  # folds share training clips

    fold_of(tmp_path, 1, trained_on="made:1")
    with pytest.raises(UserError, match="LEAKY, 1 of 4 tested subjects"):
        main(["--pool", *folds])


def test_pooling_the_same_test_twice_is_refused(no_figures, tmp_path) -> None:
    folds = [str(make_run(tmp_path / f"cv/fold{fold}")) for fold in range(2)]
    with pytest.raises(UserError, match="in several folds"):
        main(["--pool", *folds])


@pytest.mark.slow
def test_hundreds_of_classes_stay_readable_and_small(tmp_path):
    n_classes, n_rows = 60, 600
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(n_classes), n_rows)
    label = rng.permutation(np.arange(n_rows) % n_classes)
    names = np.array([f"word{k:03}" for k in range(n_classes)])
    subject = rng.integers(0, 30, n_rows)
    rows = {"clip": [f"c{i}" for i in range(n_rows)], "recording": [f"c{i}" for i in range(n_rows)]}
    rows |= {"subject": [f"s{i}" for i in subject], "repeat": "0", "fold": "0", "split": "test", "label": names[label]}
    table = pd.DataFrame(rows).join(pd.DataFrame(scores, columns=[f"score_{name}" for name in names]))
    run = write_run(tmp_path / "run", table, trained_on="else")
    main([str(run)])
    assert set(names) <= set(pd.read_csv(run / "metrics.csv")["class"])
    text = (run / "report.md").read_text()
    assert "The 20 commonest of 60 classes (metrics.csv has all)" in text
    assert text.count("\n| word") == 20
    height, width, _ = imread(run / "figures/confusion.png").shape
    assert height < 4000 and width < 4000
