"""`evaluate --clinical` and `--by`: what is chosen on validation rows, what is reported of the test."""

import re
from functools import partial
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.evaluation import calibration, clinical, figures, predictions
from cry_lightning.evaluation.drawing import SCREEN
from cry_lightning.evaluation.figures import bands
from cry_lightning.evaluation.run import evaluate_run, read_run
from cry_lightning.evaluation.subgroups import subgroups

evaluate = partial(command, "evaluate")


def a_table(n_subjects: int = 60, seed: int = 0, overconfidence: float = 2.5) -> pd.DataFrame:
    """Two classes, five recordings a subject, every fourth subject for validation; the scores are too sure."""
    rng, rows = np.random.default_rng(seed), []
    for subject in range(n_subjects):
        sick, part = subject % 3 == 0, "val" if subject % 4 == 1 else "test"
        own = rng.normal(0, 0.7)
        for take in range(5):
            score = expit(overconfidence * (1.6 * (sick - 0.4) + own + rng.normal(0, 0.8)))
            name = f"{subject}-{take}"
            rows.append((name, f"{name}.wav", f"ward:{subject}", 0, 0, part, ["well", "sick"][sick], 1 - score, score))
    return pd.DataFrame(rows, columns=[*predictions.KEYS, "score_well", "score_sick"])


@pytest.fixture
def written(tmp_path):
    """Writes a table as a run and returns its folder."""

    def write(table: pd.DataFrame) -> Path:
        predictions.write(table, tmp_path / "predictions.csv")
        return tmp_path

    return write


def readout(folder: Path, prevalences=(0.05,)) -> clinical.Readout:
    return clinical.read_out(evaluate_run(read_run(str(folder), "test"), "test", "sick"), prevalences)


def figure(found: clinical.Readout, quantity: str, at: str) -> pd.Series:
    return found.figures.set_index(["quantity", "at"]).loc[(quantity, at)]


def test_figures_are_those_of_their_definitions(written) -> None:
    table = a_table()
    found = readout(written(table))
    tested, validation = (table[table["split"] == part] for part in ("test", "val"))
    truth, score = (tested["label"] == "sick").to_numpy(), tested["score_sick"].to_numpy()
    assert figure(found, "Brier score", "as predicted")["value"] == pytest.approx(brier_score_loss(truth, score))
    plain = LogisticRegression(C=np.inf, tol=1e-9).fit(logit(score)[:, None], truth)
    assert figure(found, "calibration slope", "as predicted")["value"] == pytest.approx(plain.coef_[0, 0], abs=1e-4)
    shifted = expit(logit(score) + figure(found, "calibration in the large", "as predicted")["value"])
    assert shifted.mean() == pytest.approx(truth.mean())

    sick = np.sort(expit(logit(validation["score_sick"][validation["label"] == "sick"])))
    threshold = sick[int(np.floor(0.1 * len(sick)))]  # nine in ten reach it
    at = "sensitivity 0.9 on validation"
    sensitivity, specificity = (score[truth] >= threshold).mean(), (score[~truth] < threshold).mean()
    assert figure(found, "sensitivity", at)["value"] == pytest.approx(sensitivity)
    assert figure(found, "specificity", at)["value"] == pytest.approx(specificity)
    positive = sensitivity * 0.05 / (sensitivity * 0.05 + (1 - specificity) * 0.95)
    rates = [figure(found, rate, at)[["value", "low", "high"]] for rate in ("sensitivity", "specificity")]
    for place, name in enumerate(clinical.PREDICTIVE):
        row = figure(found, name, f"{at}, prevalence 0.05")
        for which in ("value", "low", "high"):
            expected = clinical.predictive_values(*(rate[which] for rate in rates), 0.05)[place]
            assert row[which] == pytest.approx(expected)
        assert row["low"] < row["value"] < row["high"]
    assert figure(found, "positive predictive value", f"{at}, prevalence 0.05")["value"] == pytest.approx(positive)
    well = validation["score_sick"][validation["label"] == "well"].to_numpy()
    chosen = found.chosen.iloc[0]
    below = (
        expit(chosen["intercept"] + chosen["slope"] * logit(well)) < chosen["threshold_specificity"] + 1e-7
    )  # digits in the file
    assert 0.9 <= below.mean() < 0.9 + 1 / len(well)

    recalibrated, odds = found.cases["calibrated"].to_numpy(), 0.3
    above = recalibrated >= odds
    benefit = ((above & truth).sum() - (above & ~truth).sum() * odds / (1 - odds)) / len(truth)
    curve = found.curves.set_index(found.curves["threshold"].round(2)).loc[odds]
    assert curve["model"] == pytest.approx(benefit) and curve["low"] < benefit < curve["high"]
    assert curve["all"] == pytest.approx(truth.mean() - (1 - truth.mean()) * odds / (1 - odds))


def test_net_benefit_is_no_more_than_the_share_of_cases_where_that_is_given(written) -> None:
    table = a_table(40)
    right = np.where(table["label"] == "sick", 0.9, 0.1)
    table["score_sick"] = np.where(table["clip"].eq("0-0"), 0.1, right)
    table["score_well"] = 1 - table["score_sick"]
    curves = readout(written(table)).curves
    share = (table["label"][table["split"] == "test"] == "sick").mean()
    assert curves["high"].max() == pytest.approx(share) and (curves["low"] <= curves["model"]).all()
    unequal = table[~table["clip"].isin(["3-1", "3-2", "3-3", "6-0", "2-0", "2-1"])]
    share = (unequal["label"][unequal["split"] == "test"] == "sick").mean()
    assert readout(written(unequal)).curves["high"].max() > share  # which is an estimate there


def test_nothing_is_chosen_on_the_test(written) -> None:
    table = a_table()
    before = readout(written(table)).chosen
    tested = table["split"] == "test"
    table.loc[tested, ["score_well", "score_sick"]] = table.loc[tested, ["score_sick", "score_well"]].to_numpy()
    pd.testing.assert_frame_equal(readout(written(table)).chosen, before)


def test_recalibration_mends_scores_that_are_too_sure(written) -> None:
    found = readout(written(a_table(600, overconfidence=4)))
    raw, mended = (figure(found, "calibration slope", name) for name in clinical.SCORES)
    assert raw["high"] < 0.6 and mended["low"] < 1 < mended["high"]
    for quantity in ("Brier score", "expected calibration error"):
        assert figure(found, quantity, "recalibrated")["value"] < figure(found, quantity, "as predicted")["value"]


def test_who_is_not_answered_would_have_been_answered_worse(written) -> None:
    found = readout(written(a_table(600)))
    shares = found.figures[found.figures["quantity"] == "answered"]["value"].to_numpy()
    accuracies = found.figures[found.figures["quantity"] == "accuracy of answers"]["value"].to_numpy()
    assert (np.diff(shares) < 0).all() and np.abs(shares - clinical.COVERAGES).max() < 0.06
    assert (np.diff(accuracies) > 0).all()


def test_each_fold_has_thresholds_of_its_own(written) -> None:
    one, other = a_table(seed=1), a_table(seed=2, overconfidence=0.5)
    two = pd.concat([one, other.assign(fold=1, clip="x" + other["clip"], recording="x" + other["recording"])])
    chosen = readout(written(two)).chosen
    assert list(chosen["fold"]) == ["0", "1"]
    slopes = [readout(written(each)).chosen["slope"].iloc[0] for each in (one, other)]
    np.testing.assert_allclose(chosen["slope"], slopes)


def test_scores_that_are_all_equal_are_no_error(written) -> None:
    found = readout(written(a_table().assign(score_well=0.5, score_sick=0.5)))
    assert np.isnan(figure(found, "calibration slope", "as predicted")["value"])
    assert figure(found, "sensitivity", "sensitivity 0.9 on validation")["value"] == 1


@pytest.mark.parametrize("in_order", ["yes first", "no first", "mixed"])
def test_reliability_of_equal_scores_is_that_of_any_order_of_rows(in_order) -> None:
    truth = np.repeat([True, False], [40, 60])
    truth = {"yes first": truth, "no first": truth[::-1], "mixed": np.random.default_rng(0).permutation(truth)}[
        in_order
    ]
    same = calibration.reliability(truth, np.full(100, 0.4))
    assert same["observed"].to_numpy() == pytest.approx(0.4) and same["n"].tolist() == [10] * 10
    assert calibration.expected_calibration_error(truth, np.full(100, 0.4)) == pytest.approx(0)


@pytest.mark.parametrize("first", ["sick", "well"])
def test_equal_scores_are_answered_by_the_first_class_as_everywhere_else(written, first) -> None:
    """The answers of all cases, and their interval, are then those of the accuracy."""
    table = a_table().round({"score_sick": 1})
    table["score_well"] = 1 - table["score_sick"]
    other = {"sick": "well", "well": "sick"}[first]
    validation = table["split"] == "val"  # of too few subjects, so that the scores stay as they are
    few = table[~validation | table["subject"].isin(table[validation]["subject"].unique()[:3])]
    columns = [*predictions.KEYS, f"score_{first}", f"score_{other}"]
    run = evaluate_run(read_run(str(written(few[columns].reset_index(drop=True))), "test"), "test", "sick")
    assert (run.table["score_sick"] == 0.5).any()
    answers = figure(clinical.read_out(run, [0.05]), "accuracy of answers", "coverage 1 on validation")
    expected = run.result("clip", "accuracy")
    assert answers[["value", "low", "high"]].tolist() == pytest.approx(expected[["value", "low", "high"]].tolist())


@pytest.mark.parametrize("n_wrong", [0, 1, 8])
def test_where_scores_nearly_separate_the_classes_there_is_no_slope_and_the_report_says_so(written, n_wrong) -> None:
    table = a_table(36)
    rng, sick = np.random.default_rng(0), table["label"] == "sick"
    score = expit(np.where(sick, 2, -2) + rng.normal(0, 0.3, len(table)))
    wrong = table["subject"].isin(table[(table["split"] == "test") & sick]["subject"].unique()[:n_wrong])
    score = np.where(wrong, 1 - score, score)
    found = readout(written(table.assign(score_sick=score, score_well=1 - score)))
    slope, told = (
        figure(found, "calibration slope", "as predicted"),
        "There is no calibration slope of scores as predicted",
    )
    assert np.isnan(slope["value"]) == (n_wrong < 8) == (told in " ".join(found.remarks))


def test_a_slope_that_a_hairs_breadth_of_overlap_keeps_finite_is_none(written) -> None:
    table = a_table(36)
    sick, tested = table["label"] == "sick", table["split"] == "test"
    logits = np.where(sick, 2.0, -2.0)
    for label, near in (("sick", 0.0), ("well", 1e-4)):  # a clip of each of four subjects
        whose = table[tested & (table["label"] == label)].groupby("subject").head(1).index[:4]
        logits[whose] = near
    run = written(table.assign(score_sick=expit(logits), score_well=1 - expit(logits)))
    assert np.isnan(figure(readout(run), "calibration slope", "as predicted")["value"])


def turned(table: pd.DataFrame) -> pd.DataFrame:
    """The same, but its validation scores are those of the other class."""
    whose = table["split"] == "val"
    table.loc[whose, ["score_well", "score_sick"]] = table.loc[whose, ["score_sick", "score_well"]].to_numpy()
    return table


def of_few(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """The same with so many validation subjects of sick."""
    sick = table[(table["split"] == "val") & (table["label"] == "sick")]
    return table.drop(sick.index[~sick["subject"].isin(sick["subject"].unique()[:n])]).reset_index(drop=True)


@pytest.mark.parametrize(
    ("table", "reason"), [(turned(a_table()), clinical.WRONG_WAY), (of_few(a_table(), 2), "here 2 of sick")]
)
def test_scores_stay_as_they_are_where_a_recalibration_would_mislead(written, table, reason) -> None:
    found = readout(written(table))
    assert found.chosen[["intercept", "slope"]].to_numpy().tolist() == [[0, 1]]
    np.testing.assert_allclose(found.cases["calibrated"], found.cases["score"])
    assert set(found.figures.query("quantity == 'Brier score'")["at"]) == {"as predicted"}
    assert found.remarks[0].startswith("The scores are not recalibrated") and reason in found.remarks[0]


def test_few_validation_subjects_calibrate_and_what_their_thresholds_rest_on_is_told(written) -> None:
    found = readout(written(of_few(a_table(120), 3)))
    assert found.chosen["slope"].item() not in (0, 1) and len(found.remarks) == 1
    assert "few validation subjects (3 of sick; a larger data.split.val has more); below 9" in found.remarks[0]
    assert not readout(written(a_table(120))).remarks


def test_of_several_folds_those_are_counted_whose_scores_stay(written) -> None:
    one, other = a_table(120), turned(a_table(120, seed=2))
    two = pd.concat([one, other.assign(fold=1, clip="x" + other["clip"], recording="x" + other["recording"])])
    found = readout(written(two))
    assert found.remarks[0].startswith("The scores of 1 of 2 folds are not recalibrated")
    assert found.chosen["slope"].ne(1).tolist() == [True, False]
    assert set(found.figures.query("quantity == 'Brier score'")["at"]) == set(clinical.SCORES)


def test_two_subjects_of_a_class_rank_the_wrong_way_more_often_than_three() -> None:
    """Of a model that is right, whose scores differ by infant as much as by clip."""
    rng = np.random.default_rng(0)
    shares = {}
    for n in (2, 3):
        truth = np.repeat(np.arange(2 * n) % 2 == 1, 8)
        scores = [
            1.5 * (truth - 0.5) + rng.normal(0, 1.2, 2 * n).repeat(8) + rng.normal(size=16 * n) for _ in range(300)
        ]
        shares[n] = np.mean([calibration.platt(expit(each), truth)[1] <= 0 for each in scores])
    assert shares[2] > 0.1 and shares[clinical.FEWEST] < 0.08


def test_every_form_of_the_report_tells_why_nothing_was_recalibrated(written, no_figures, capsys) -> None:
    folder = written(turned(a_table()))
    evaluate([str(folder), "--clinical"])
    for text in (
        capsys.readouterr().out,
        *((folder / name).read_text() for name in ("report.md", "report.html", "card.md")),
    ):
        assert "The scores are not recalibrated, but as they are" in text


def test_figures_are_drawn_one_below_the_other(written) -> None:
    run = evaluate_run(read_run(str(written(a_table())), "test"), "test", "sick")
    with SCREEN.applied():
        drawn = figures.clinical(run, clinical.read_out(run, [0.1]), SCREEN)
    assert [axes.get_title() for axes in drawn.axes] == ["reliability", "net benefit", "abstention"]
    assert drawn.get_figwidth() == 4.5 and not drawn.get_suptitle().startswith("/")


def test_report_has_the_figures_and_the_subgroups(written, no_figures, capsys) -> None:
    table = a_table()
    folder = written(table)
    sexes = table[["recording"]].assign(sex=["m" if "1" in name else "f" for name in table["recording"]])
    sexes.rename(columns={"recording": "path"}).to_csv(folder / "manifest.csv", index=False)
    evaluate([str(folder), "--clinical", "--prevalences", "0.1", "--by", str(folder / "manifest.csv")])
    printed, report = capsys.readouterr().out, (folder / "report.md").read_text()
    assert "specificity 0.9 on validation, prevalence 0.1" in printed
    of_women = next(line.split() for line in printed.splitlines() if line.startswith("sex") and " f " in line)
    tested = table[(table["split"] == "test") & (sexes["sex"] == "f")]
    assert of_women[2:4] == [str(len(tested)), str(tested["subject"].nunique())]
    for text in ("| sex | f |", "calibration slope", "figures/clinical.png"):
        assert text in report
    page = (folder / "report.html").read_text()
    assert "Calibration and thresholds" in page and "Subgroups" in page
    table = pd.read_csv(folder / "clinical.csv").set_index(["quantity", "at"])
    assert [*table] == ["value", "low", "high", "run"]
    curves = readout(folder).curves
    at = curves[curves["threshold"].round(2) == 0.3].iloc[0]
    assert table.loc[("net benefit", "threshold 0.3")].tolist()[:3] == pytest.approx([*at[["model", "low", "high"]]])
    assert table.loc[("net benefit of calling all sick", "threshold 0.3"), "value"] == pytest.approx(at["all"])
    assert len(table.loc["net benefit"]) == 10
    evaluate([str(folder)])
    assert not (folder / "clinical.csv").exists() and "calibration slope" not in (folder / "report.md").read_text()


def test_subjects_are_found_with_and_without_their_collection(written, no_figures, tmp_path, capsys) -> None:
    table = a_table()
    folder = written(table)
    for subjects in (table["subject"], table["subject"].str.removeprefix("ward:")):
        for index in (False, True):  # pandas writes it by default, without a name
            pd.DataFrame({"subject": subjects, "site": "north"}).to_csv(tmp_path / "sites.csv", index=index)
            evaluate([str(folder), "--by", str(tmp_path / "sites.csv")])
            assert "site  north" in capsys.readouterr().out


def test_numbers_are_in_order_and_many_make_ranges_of_as_many_subjects(written, no_figures, tmp_path, capsys) -> None:
    table = a_table(80)
    folder, subjects = written(table), table["subject"].drop_duplicates()
    number = subjects.str.removeprefix("ward:").astype(int)
    columns = {
        "age_days": number.where(number != 2, "NA"),
        "weight_kg": (2.5 + number**2 / 3000).round(3),
        "parity": number % 3 + 9,
        "born": "2024-" + number.astype(str),
    }
    pd.DataFrame({"subject": subjects, **columns}).to_csv(tmp_path / "wards.csv", index=False)
    evaluate([str(folder), "--by", str(tmp_path / "wards.csv")])
    printed = capsys.readouterr().out
    printed = re.split(r"\n +value ", printed)[1].split("\n\n")[0]
    rows = [re.split(" {2,}", line) for line in printed.splitlines() if re.match(r"\w", line)]
    found = {column: {row[1]: int(row[3]) for row in rows if row[0] == column} for column in [*columns]}
    assert found["age_days"] == {"0 to 20": 15, "22 to 40": 15, "42 to 59": 14, "60 to 79": 15, "NA": 1}
    assert list(found["weight_kg"].values()) == [15] * 4
    assert [*found["weight_kg"]] == ["2.5 to 2.62", "2.633 to 3.007", "3.033 to 3.66", "3.7 to 4.58"]
    assert [*found["parity"]] == ["9", "10", "11"] and not found["born"]


@pytest.mark.parametrize(
    ("value_of", "ranges"),
    [
        (
            lambda n: 1234567 + n / 20,
            ["1234567.0 to 1234567.75", "1234567.8 to 1234568.5", "1234568.55 to 1234569.2", "1234569.3 to 1234569.95"],
        ),
        (lambda n: 2017 + n / 20, ["2017.0 to 2017.75", "2017.8 to 2018.5", "2018.55 to 2019.2", "2019.3 to 2019.95"]),
        (lambda n: max(0, n - 48), ["0", "2", "3", "4", "6", "7", "8", "10", "11"]),  # most are one value
        (lambda n: max(0, n - 30), ["0 to 14", "16 to 29"]),
    ],
)
def test_ranges_are_named_by_their_true_ends_and_never_merge(written, tmp_path, value_of, ranges) -> None:
    run = evaluate_run(read_run(str(written(a_table())), "test"), "test", "sick")
    values = "\n".join(f"{n},{value_of(n)}" for n in range(60))
    (tmp_path / "by.csv").write_text(f"subject,value\n{values}\n")
    rows = subgroups(run, tmp_path / "by.csv")[1][1:]
    assert [row[1] for row in rows] == ranges and sum(int(row[3]) for row in rows) == 45


def test_blanks_make_no_subgroups_and_case_is_remarked(written, tmp_path) -> None:
    table = a_table()
    sites = ["North", "north ", " North"]
    named = pd.DataFrame({"subject": table["subject"].unique()}).assign(site=lambda one: (sites * 20)[: len(one)])
    named.to_csv(tmp_path / "sites.csv", index=False)
    title, rows = subgroups(evaluate_run(read_run(str(written(table)), "test"), "test", "sick"), tmp_path / "sites.csv")
    assert [row[1] for row in rows[1:]] == ["North", "north"]
    assert "the values 'North' and 'north' of site differ in case alone" in title


def test_a_manifest_in_capitals_makes_subgroups(written, tmp_path) -> None:
    run = evaluate_run(read_run(str(written(a_table())), "test"), "test", None)
    (tmp_path / "by.csv").write_text("Path;Label;Subject;Klinik\n0-0.wav;sick;0;Nord\n2-0.wav;well;2;Nord\n")
    assert ["Klinik", "Nord", "2"] in [row[:3] for row in subgroups(run, tmp_path / "by.csv")[1]]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_subgroups_lose_no_recording_to_the_spelling_of_its_name(written, tmp_path, form) -> None:
    table = a_table()
    umlauts = {column: [normalize(form, f"ä/{name}") for name in table[column]] for column in ("clip", "recording")}
    sick = {"label": table["label"].replace("sick", "über"), "score_über": table["score_sick"]}
    folder = written(table.assign(**umlauts, **sick).drop(columns="score_sick"))
    run = evaluate_run(read_run(str(folder), "test"), "test", normalize(form, "über"))
    assert run.positive == "über"
    paths = [normalize("NFC", name).replace("/", "\\") for name in umlauts["recording"]]
    rows = [
        f"{path},{subject},{sex}" for path, subject, sex in zip(paths, table["subject"], table["label"], strict=True)
    ]
    (tmp_path / "by.csv").write_text("\n".join(["path,subject,sex", *rows]), encoding="utf-8")
    title, found = subgroups(run, tmp_path / "by.csv")
    assert {row[1] for row in found[1:]} == {"sick", "well"} and "tested" not in title
    (tmp_path / "by.csv").write_text("\n".join(["path,subject,sex", *rows[5:]]), encoding="utf-8")
    title, found = subgroups(run, tmp_path / "by.csv")
    assert "; 5 of 225 tested recordings are not in " in title
    assert {row[1]: row[2] for row in found[1:]}["(not given)"] == "5"


def test_subgroups_find_subjects_as_lineages_do(written, tmp_path) -> None:
    table = a_table()
    run = evaluate_run(
        read_run(str(written(table.assign(subject="ward:Baby " + table["subject"].str[5:]))), "test"), "test", None
    )
    rows = [
        f"{spelled},{'mf'[number % 2]}" for number in range(1, 60) for spelled in (f"baby{number:03}", f"BABY {number}")
    ]
    (tmp_path / "by.csv").write_text("\n".join(["subject,sex", *rows]))
    title, found = subgroups(run, tmp_path / "by.csv")
    assert "; 1 of 45 tested subjects is not in " in title
    assert {row[1]: row[3] for row in found[1:]} == {"(not given)": "1", "f": "15", "m": "29"}
    (tmp_path / "by.csv").write_text("subject,sex\nbaby1,m\nBaby 01,f\n")
    with pytest.raises(UserError, match="subject 'baby1' has different values of sex"):
        subgroups(run, tmp_path / "by.csv")


def test_a_table_of_subgroups_is_read_as_spreadsheets_save_it(written, no_figures, tmp_path, capsys) -> None:
    folder = written(a_table())
    each = enumerate(dict.fromkeys(a_table()["subject"]))
    rows = [f"{subject};{'north, old' if n % 2 else 'south'};{n % 3},5" for n, subject in each]
    (tmp_path / "sites.csv").write_text("\n".join(["subject;site;kg", *rows]), encoding="utf-16")
    evaluate([str(folder), "--by", str(tmp_path / "sites.csv")])
    printed = capsys.readouterr().out
    assert "north, old" in printed and re.findall(r"kg +(\S+)", printed) == ["0.5", "1.5", "2.5"]


@pytest.mark.parametrize(
    ("change", "args", "message"),
    [
        (lambda table: table[table["split"] == "test"], ["--clinical"], "no val rows, on which thresholds are chosen"),
        (
            lambda table: table[(table["split"] == "test") | (table["label"] == "sick")],
            ["--clinical"],
            "val rows of one class alone",
        ),
        (lambda table: table.assign(score_other=0.0), ["--clinical"], "has 3 classes; it is for two"),
        (lambda table: table, ["--clinical", "--prevalences", "5"], "--prevalences 5: .* between 0 and 1"),
        (lambda table: table, ["--prevalences", "0.1"], "--prevalences: are for the predictive values of --clinical"),
        (lambda table: table, ["--by", "nowhere.csv"], "nowhere.csv: cannot be read"),
    ],
)
def test_what_cannot_be_is_one_line(written, change, args, message) -> None:
    with pytest.raises(UserError, match=message):
        evaluate([str(written(change(a_table()))), *args])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("name,sex\na,f\n", "needs a column recording, path or subject"),
        ("recording\n0-0.wav\n", "and a column such as sex or site"),
        (",recording\n0,0-0.wav\n", "and a column such as sex or site"),
        ("recording,sex\n", "the table is empty"),
        ("recording,sex\nelsewhere.wav,f\n", "none of its recordings was tested"),
        ("subject,sex\n0,f\n0,m\n", "subject '0' has different values of sex"),
        ('recording,sex\n"0-0.wav,f\n', "line 2 is not CSV"),
        ("Subject,sex,sex\n0,f,m\n", "more than one column sex; keep one of each name"),
        ("Subject,subject,sex\n0,0,f\n", "more than one column subject; keep one of each name"),
    ],
)
def test_tables_of_subgroups_that_cannot_be_used(written, tmp_path, rows, message) -> None:
    (tmp_path / "by.csv").write_text(rows)
    with pytest.raises(UserError, match=message):
        evaluate([str(written(a_table())), "--by", str(tmp_path / "by.csv")])


def test_a_band_at_the_models_own_threshold_is_the_reports_interval(written) -> None:
    run = evaluate_run(read_run(str(written(a_table())), "test"), "test", "sick")
    (row,) = bands(run.main_level, "sick", np.array([0.5])).to_dict("records")
    for name in ("sensitivity", "precision"):
        expected = run.result(run.main_level.level, name, "sick")
        assert [row[name], row[f"{name}_low"], row[f"{name}_high"]] == pytest.approx(
            list(expected[["value", "low", "high"]])
        )
    assert 1 - row["alarms"] == pytest.approx(run.result(run.main_level.level, "specificity", "well")["value"])


def test_bands_are_around_the_curve_from_one_end_to_the_other_and_drawn(written) -> None:
    run = evaluate_run(read_run(str(written(a_table())), "test"), "test", "sick")
    found = bands(run.main_level, "sick")
    assert found["sensitivity"].is_monotonic_increasing and found["alarms"].is_monotonic_increasing
    assert (found["sensitivity"].iloc[-1], found["alarms"].iloc[-1]) == (1, 1) and len(found) > 50
    there = found.dropna()  # the first threshold is one subject's, without whom nothing is called positive
    assert len(there) > len(found) - 3
    for name in ("sensitivity", "precision"):
        assert (there[f"{name}_low"] <= there[name]).all() and (there[name] <= there[f"{name}_high"]).all()
        assert ((there[f"{name}_high"] - there[f"{name}_low"]) > 0.01).all()
    drawn = figures.curves(run, SCREEN)
    assert [len(axes.collections) > 0 for axes in drawn.axes] == [True, True]


def test_of_four_subjects_of_a_class_there_is_a_curve_and_no_band(written) -> None:
    table = a_table(14)
    run = evaluate_run(read_run(str(written(table[table["split"] == "test"])), "test"), "test", "sick")
    found = bands(run.main_level, "sick")
    assert found["sensitivity"].notna().all() and found["sensitivity_low"].isna().all()
