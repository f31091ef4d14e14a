"""Beside each figure of a model of synthetic sound stands that it is of no infant; beside others it does not."""

from dataclasses import replace
from functools import partial

import pytest
from exported import OWN, named, write_checkpoint
from fastapi.testclient import TestClient
from test_report import make_run, rewrite

import cry_lightning as cry
from cry_lightning.corpora import synthetic as corpora
from cry_lightning.evaluation import predictions
from cry_lightning.export import hub
from cry_lightning.export.check import describe
from cry_lightning.export.graph import WaveformModel
from cry_lightning.lineage.check import (
    SYNTHETIC,
    SYNTHETIC_COLLECTIONS,
    SYNTHETIC_CORPORA,
    is_synthetic,
    synthetic_warning,
)
from cry_lightning.serving.app import app_of
from cry_lightning.serving.guard import Limits
from cry_lightning.serving.service import Service
from cry_lightning.serving.words import WORDS

MADE = named("cry_lightning.corpora.SyntheticCries", name="ward")


def test_every_corpus_that_is_made_is_known() -> None:
    made = corpora.SyntheticCorpus.__subclasses__()
    assert sorted(one.__name__ for one in made) == sorted(SYNTHETIC_CORPORA)
    assert sorted(one().collection for one in made) == sorted(SYNTHETIC_COLLECTIONS)


def test_what_is_synthetic() -> None:
    stage = partial(replace, OWN.stages[0])
    assert (
        synthetic_warning([stage(corpus="synthetic-cries")])
        == synthetic_warning([], ["synthetic-words:seed0-a"])
        == SYNTHETIC
    )
    assert synthetic_warning([], corpus=MADE) == synthetic_warning([stage(corpus="ward")], corpus=MADE) == SYNTHETIC
    assert is_synthetic(named("cry_lightning.corpora.Union", corpora=[named("ward.Ward"), MADE]))
    assert (
        synthetic_warning([stage(corpus="ward")], ["ward:1", "unknown"], named("ward.Ward", root="synthetic-cries"))
        == ""
    )


@pytest.mark.parametrize("by", ["stage", "subjects", "neither"])
def test_reports_and_cards_say_so(by: str, tmp_path, no_figures) -> None:
    run = make_run(tmp_path / "run")
    if by == "stage":
        path = run / "lineage.json"
        path.write_text(path.read_text().replace('"corpus": "made"', '"corpus": "synthetic-cries"'))
    if by == "subjects":
        subjects = predictions.read(run / "predictions.csv")["subject"]
        rewrite(run, subject=subjects.str.replace("made:", "synthetic-cries:"))
    cry.evaluate(run)
    for name in ("report.html", "report.md", "card.md"):
        assert (SYNTHETIC in (run / name).read_text()) == (by != "neither"), name


@pytest.mark.parametrize("corpus", [MADE, named("ward.Ward")], ids=["made", "recorded"])
def test_exports_and_the_page_say_so(corpus: dict, tmp_path) -> None:
    trained = cry.load(write_checkpoint(tmp_path / "best.ckpt", data={"corpus": corpus})).trained
    told = {"made": SYNTHETIC}.get("made" if corpus is MADE else "", "")
    about = describe(trained, WaveformModel(trained), None)
    assert about.get("synthetic", "") == told and (SYNTHETIC in hub.card(about, trained)) == bool(told)
    service = Service(tmp_path / "best.ckpt", "cpu", (), None, 20.0, tmp_path)
    client = TestClient(app_of(service, Limits(1, 1, 100), ["testserver"], "en"))
    assert (client.get("/api/model").json()["synthetic"] or "") == told
    for language, words in WORDS.items():
        page = client.get("/", params={"language": language}).text
        assert (str(words["synthetic"]) in page) == bool(told)
