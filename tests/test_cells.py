"""Names of files, classes and people in tables: no spreadsheet runs them, and no Markdown breaks of them."""

import csv

import numpy as np
import pandas as pd
import pytest

from cry_lightning.__main__ import run as command
from cry_lightning.console import as_cell, as_markdown_text, counted, for_spreadsheets, from_cell
from cry_lightning.describe.command import Section, as_page
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.compare import as_markdown, as_text
from cry_lightning.inference.output import write_table

RUN = ["=1+1", "+cmd|'/c calc'!A0", "-dash/a.wav", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-x", "\uff1d1"]
NAMES = ["high|low", "<script>alert(1)</script>", "a\nb", "`x", "[click](http://evil)", "*b*", "\x1b[2J"]


@pytest.mark.parametrize("text", [*RUN, "", "'", "'quoted'", "-1.5", "+3e4", "a=b", "007", "NA", " =1"])
def test_every_text_comes_back_as_it_was(text):
    assert from_cell(as_cell(text)) == text
    assert as_cell(text) == (f"'{text}" if text in RUN else text)


def test_numbers_stay_numbers():
    table = pd.DataFrame({"=column": [-1.5, 2.0], "text": ["-1.5", "=2"]})
    safe = for_spreadsheets(table)
    assert list(safe.columns) == ["'=column", "text"] and safe["'=column"].tolist() == [-1.5, 2.0]
    assert safe["text"].tolist() == ["-1.5", "'=2"] and list(table.columns) == ["=column", "text"]


def named(names: list[str]) -> pd.DataFrame:
    """Predictions for classes, clips and subjects of these names."""
    rows = [
        {"clip": f"{name}{i}", "recording": f"{name}{i}", "subject": f"{name}{i}", "label": name}
        for name in names
        for i in range(3)
    ]
    table = pd.DataFrame(rows).assign(repeat="0", fold="0", split="test")
    scores = np.random.default_rng(0).dirichlet(np.ones(len(names)), len(table))
    return table.join(pd.DataFrame(scores, columns=[predictions.SCORE + name for name in names]))


def test_predictions_come_back_exactly_and_no_cell_is_run(tmp_path):
    table = named([name for name in RUN if name.strip() == name])
    predictions.write(table, tmp_path / "predictions.csv")
    read = predictions.read(tmp_path / "predictions.csv")
    keys = [*predictions.KEYS]
    pd.testing.assert_frame_equal(read[keys], table[keys])
    assert predictions.classes_of(read) == predictions.classes_of(table)
    for row in csv.reader((tmp_path / "predictions.csv").open(newline="")):
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_tables_of_predict_name_the_files_that_are_there(tmp_path):
    table = pd.DataFrame({"path": ["-dash/a.wav", "=b.wav", "/c.wav"], "predicted": ["=1", "b", "-1"]})
    write_table(table, tmp_path / "p.csv", "csv")
    written = pd.read_csv(tmp_path / "p.csv", dtype=str)
    assert written["path"].tolist() == ["./-dash/a.wav", "./=b.wav", "/c.wav"]
    assert written["predicted"].tolist() == ["'=1", "b", "-1"]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_a_table(name):
    rows = [["class", "n"], [name, "3"], ["other", "4"]]
    lines = as_markdown(rows).splitlines()
    assert len(lines) == 4 and all(line.replace("\\|", "").count("|") == 3 for line in lines)
    assert "<script" not in as_markdown(rows) and "](" not in as_markdown(rows) and "\x1b" not in as_text(rows)
    assert len(as_text(rows).splitlines()) == 4
    page = as_page(name, [Section(name, [rows], [f"`file`: {name}"])])
    assert "<script" not in page and "](" not in page and len(page.splitlines()) == 1 + 2 + 1 + 5 + 1


def test_the_report_shows_every_name_and_breaks_of_none(tmp_path, no_figures, capsys):
    names = [name for name in NAMES if "\x1b" not in name]
    predictions.write(named(names), tmp_path / "predictions.csv")
    command("evaluate", [str(tmp_path)])
    text = (tmp_path / "report.md").read_text()
    assert "<script" not in text and "(http" not in text.replace("\\(http", "") and "&lt;script&gt;" in text
    of_classes = text.partition("Each class,")[2].partition("![")[0].strip().splitlines()[2:]
    assert len(of_classes) == 2 + len(names)
    assert all(line.replace("\\|", "").count("|") == 8 for line in of_classes if not line.startswith("| ---"))


def test_code_in_a_remark_stays_code():
    assert (
        as_markdown_text("`min_active_db` of a|b") == "`min_active_db` of a\\|b" and as_markdown_text("a`b") == "a\\`b"
    )


def test_what_is_counted_agrees_with_its_number():
    assert [counted(n, "clip") for n in (0, 1, 2000)] == ["0 clips", "1 clip", "2,000 clips"]
    assert [counted(n, "class is", "classes are") for n in (1, 2)] == ["1 class is", "2 classes are"]
