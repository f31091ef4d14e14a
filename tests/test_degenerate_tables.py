"""`evaluate` of tables without one of the classes, without a test, or whose scores tie: what is not there is told."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from test_clinical import a_table

from cry_lightning.console import UserError
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.clinical import Readout, chosen_rows, read_out
from cry_lightning.evaluation.run import Run, evaluate_run, read_run
from cry_lightning.report import words

pytestmark = pytest.mark.filterwarnings("error")


def evaluated(folder: Path, table: pd.DataFrame, split: str = "test") -> Run:
    predictions.write(table, folder / "predictions.csv")
    return evaluate_run(read_run(str(folder), split), split, "sick")


def only_tested(kept: pd.Series, table: pd.DataFrame) -> pd.DataFrame:
    return table[kept | (table["split"] == "val")]


@pytest.mark.parametrize(("tested", "rate"), [("sick", "specificity"), ("well", "sensitivity")])
@pytest.mark.parametrize("n_subjects", [None, 1])
def test_where_one_class_was_tested_the_rest_of_the_figures_is_as_usual(tmp_path, tested, rate, n_subjects) -> None:
    table = a_table(36)
    whose = table[(table["label"] == tested) & (table["split"] == "test")]["subject"].unique()[:n_subjects]
    run = evaluated(tmp_path, only_tested(table["subject"].isin(whose), table))
    found = read_out(run, [0.05])
    absent = {"sick": "well", "well": "sick"}[tested]
    assert f"No case of {absent} was tested: there is no {rate}, nor" in " ".join(found.remarks)
    values = found.figures.groupby("quantity")["value"]
    assert values.get_group(rate).isna().all() and values.get_group("calibration slope").isna().all()
    of_tested = "sensitivity" if tested == "sick" else "specificity"
    assert values.get_group(of_tested).notna().all() and values.get_group("Brier score").notna().all()
    assert found.curves["model"].notna().all()
    told = words.verdict(run)
    assert told.endswith(f"no case of {absent} was tested.") and "nan" not in told and "n/a" not in told


def test_val_rows_that_are_tested_choose_no_thresholds(tmp_path) -> None:
    with pytest.raises(UserError, match=r"chosen on val rows, which are what is tested of .*--split test"):
        read_out(evaluated(tmp_path, a_table(36), "val"), [])


def with_ties(table: pd.DataFrame) -> pd.DataFrame:
    """The same, but half of the scores of each class are 0.5."""
    halves = np.arange(len(table)) % 2 == 0
    return table.assign(**{name: table[name].where(halves, 0.5) for name in ("score_sick", "score_well")})


def close_together(table: pd.DataFrame) -> pd.DataFrame:
    """The same, but of too few subjects to be recalibrated, and with scores that differ in the sixth decimal."""
    scores = {name: 0.5 + 1e-5 * (table[name] - 0.5) for name in ("score_sick", "score_well")}
    return table.assign(**scores)[table["subject"] != "ward:21"]


def at_printed_thresholds(found: Readout) -> tuple[np.ndarray, np.ndarray]:
    """The tested cases above either threshold, by what the table of them says alone."""
    _, row = chosen_rows(found)
    intercept, slope, at_least, above = map(float, row[2:])
    scores = expit(intercept + slope * logit(found.cases["score"].to_numpy()))
    return scores >= at_least, scores > above


@pytest.mark.parametrize(
    "change", [lambda table: table, with_ties, close_together], ids=["all differ", "ties", "close"]
)
def test_thresholds_as_printed_decide_all_cases_as_they_were_decided(tmp_path, change) -> None:
    found = read_out(evaluated(tmp_path, change(a_table(36, overconfidence=12.0))), [])
    for name, above in zip(("sensitivity", "specificity"), at_printed_thresholds(found), strict=True):
        assert above.tolist() == found.cases[f"above_{name}"].tolist() and 0 < above.sum() < len(above)


def test_scores_that_tie_at_a_threshold_are_told(tmp_path) -> None:
    assert not [remark for remark in read_out(evaluated(tmp_path, a_table(36)), []).remarks if "scores tie" in remark]
    found = read_out(evaluated(tmp_path, a_table(36).assign(score_well=0.5, score_sick=0.5)), [])
    header, row = chosen_rows(found)
    assert header[4:] == ["threshold of sensitivity: at least", "threshold of specificity: above"]
    assert row[4] == row[5]
    for name in ("sensitivity", "specificity"):
        told = f"A {name} of 0.9 cannot be chosen: validation scores tie at the threshold, and give 1.000."
        assert told in found.remarks
