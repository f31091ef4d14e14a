"""Checklists and cards of runs that were not trained in their own folder, and what counts as answered."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from made import bind, stage_config, write_run
from test_clinical import a_table

from cry_lightning import lineage
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.fuse import fuse
from cry_lightning.evaluation.run import evaluate_run, read_run
from cry_lightning.files import sha256
from cry_lightning.report.checklist import Item, fill
from cry_lightning.report.facts import Facts
from cry_lightning.report.markdown import card
from cry_lightning.report.words import Extras


def made_run(folder: Path, table: pd.DataFrame | None = None) -> Path:
    """A run of 60 subjects, or of a table, whose model was trained on the corpus `made` by the stage `finetune`."""
    return write_run(folder, a_table() if table is None else table, "other")


def facts_of(folder: Path) -> Facts:
    return Facts(evaluate_run(read_run(str(folder), "test"), "test", "sick"), Extras())


def items(facts: Facts, name: str = "tripod-ai") -> dict[str, Item]:
    return {item.number: item for item in fill(name, facts).items}


def config(folder: Path) -> dict:
    return stage_config(folder / "manifest.csv", folder, "finetune")


def test_a_test_on_another_corpus_has_the_settings_of_its_training_and_its_own_name(tmp_path) -> None:
    run, trained = made_run(tmp_path / "runs/siteB/finetune"), tmp_path / "runs/made/finetune"
    trained.mkdir(parents=True)
    (trained / "config.yaml").write_text(yaml.safe_dump(config(tmp_path)))
    (trained / "best.ckpt").write_bytes(b"another training")
    known = replace(lineage.read(run / "lineage.json"), checkpoint=sha256(trained / "best.ckpt"))
    lineage.write(known, run / "lineage.json")
    told = items(facts_of(run))
    assert (
        "Tested on siteB, another corpus." in told["5a"].shows and "tested on another corpus, siteB" in told["16"].shows
    )
    assert told["12a"].shows.startswith(
        "Tested on another corpus, siteB. That of training: Division: test=0.4, val=0.2."
    )
    assert "Res8(n_maps=4)" in card(facts_of(run)).replace("\\", "") and told["12b"].shows.startswith("Front end: MFCC")
    (trained / "best.ckpt").write_bytes(b"trained anew")  # by whatever config is there now
    assert (
        "Res8" not in card(facts_of(run)) and "the model, and how it was trained" in items(facts_of(run))["12c"].authors
    )


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        ({"group": "subject", "folds": 3, "repeats": 2}, "Division: val=0.2, group=subject, folds=3, repeats=2."),
        ({"seeds": [1, 2]}, "Division: val=0.2, test=0.4, seeds=[1, 2]."),
    ],
)
def test_a_cross_validation_is_of_one_corpus_and_tells_its_division(tmp_path, scheme, told) -> None:
    run = made_run(tmp_path / "elsewhere")
    assert items(facts_of(run))["12a"].authors == "how the data were divided"
    (run / "cross_validation.json").write_text(json.dumps({"stages": {"0": config(tmp_path)}, "scheme": scheme}))
    found = items(facts_of(run))
    assert found["12a"].shows.startswith(told) and not found["12a"].authors
    assert found["16"].shows == "Trained and tested on parts of one corpus, made."
    assert "Res8(n_maps=4)" in found["12c"].shows
    (run / "cross_validation.json").write_text('{"stages": {"0": 3}, "scheme": []}')  # of whatever program
    assert items(facts_of(run))["12a"].authors == "how the data were divided"


@pytest.mark.parametrize("method", ["mean", "weighted", "stacking"])
def test_a_fusion_tells_of_its_members_and_of_what_it_learned(tmp_path, method) -> None:
    net, svm = (made_run(tmp_path / "runs/made" / name, a_table(seed=n)) for n, name in enumerate(("net", "svm")))
    bind(svm)
    fuse([str(net), str(svm)], tmp_path / "fused", method, calibrate=True)
    facts = facts_of(tmp_path / "fused")
    assert f"A fusion of 2 runs by {method}, their temperatures scaled: made/net, made/svm." in facts.model
    assert facts.model in card(facts).replace("\\", "") and items(facts)["12c"].authors.startswith("the members; ")
    assert "recalibrated by a temperature" in facts.updating and "without recalibration" not in facts.updating
    assert ("weights of the members were fitted to" in facts.updating) == (method == "weighted")
    assert ("regression on the members', fitted to the validation rows" in facts.updating) == (method == "stacking")
    assert "weights or temperatures of the members chosen on" in facts.size and items(facts)["12g"].authors
    fuse([str(net), str(svm)], tmp_path / "mean")
    assert "without recalibration" in facts_of(tmp_path / "mean").updating


def test_what_is_not_known_is_left_to_the_authors(tmp_path) -> None:
    found = items(facts_of(made_run(tmp_path / "run")))
    assert (
        found["12g"].shows.startswith("By the model, to predictions.csv") and found["12g"].authors == "the checkpoint"
    )
    assert "sick: " in found["21"].shows and found["21"].authors == "outcomes in training and validation"
    assert not items(facts_of(tmp_path / "run"), "stard-ai")["31"].authors


def test_where_there_is_no_interval_none_is_spoken_of(tmp_path) -> None:
    table = a_table()
    few = table[
        (table["split"] == "val") | table["subject"].isin(table.query("split == 'test'")["subject"].unique()[:4])
    ]
    facts = facts_of(made_run(tmp_path / "run", few.reset_index(drop=True)))
    found = items(facts, "stard-ai")
    assert found["31"].authors == "the precision of accuracy, UAR, macro-F1, AUC, of too few subjects"
    assert found["18"].shows.endswith("No 95 % intervals: too few subjects were tested.")
    assert "There are no intervals" in found["21"].shows and "All intervals are over" not in card(facts)


def test_mistakes_are_said_to_be_listed_where_there_are_any(tmp_path) -> None:
    table = a_table()
    assert "are listed" in items(facts_of(made_run(tmp_path / "run", table)), "stard-ai")["23"].shows
    right = (table["label"] == "sick").astype(float)
    facts = facts_of(made_run(tmp_path / "right", table.assign(score_sick=right, score_well=1 - right)))
    assert items(facts, "stard-ai")["23"].shows == "No tested clip was mistaken."


def test_repeats_that_are_pooled_in_a_table_of_answers_are_told(tmp_path) -> None:
    table = a_table()
    twice = pd.concat([table, table.assign(repeat=1)], ignore_index=True)
    facts = facts_of(made_run(tmp_path / "run", twice))
    assert "by label and answer, 2 repeats pooled, so that each counts 2 times: " in facts.crosstab
    assert sum(map(int, np.array([one.rpartition(": ")[2] for one in facts.crosstab[:-1].split(";")]))) == 2 * 225
    assert "pooled" not in facts_of(made_run(tmp_path / "once", table)).crosstab
    assert predictions.read(tmp_path / "once/predictions.csv")["split"].eq("test").sum() == 225
