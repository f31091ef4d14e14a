"""Gorin et al. 2023: which cells there are, on whose encoders, and on whom each stage is trained."""

import re
import shutil

import pandas as pd
import pytest
import yaml
from made import REPO

from cry_lightning.__main__ import main
from cry_lightning.commands.stage import check_overrides
from cry_lightning.lineage import fingerprint, read
from cry_lightning.studies.paper_tables import of_works
from cry_lightning.studies.papers import Order, by_stage, can_run
from cry_lightning.studies.recipe import read_recipe

PATH = REPO / "configs/papers/gorin2023/paper.yaml"


def cells(corpus: str, *given: str) -> dict[tuple[str, str], dict[str, dict]]:
    """Target and system -> stage -> its config."""
    recipe = can_run(read_recipe(PATH), corpus)
    order = Order(PATH, recipe, recipe.corpora[corpus], by_stage(recipe, given))
    return {
        (protocol, name): {
            stage: check_overrides(config.path, config.changes)
            for stage, config in zip(recipe.systems[name].stages, stages, strict=True)
        }
        for protocol, name, stages in order.chains()
    }


STARTS = {"scratch": [], "supervised": ["supervised"], "SimCLR": ["simclr"], "SimCLR + adaptation": ["simclr", "adapt"]}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("corpus", ["cries", "synthetic"])
def test_every_cell_has_its_own_chain(corpus, monkeypatch):
    monkeypatch.chdir(REPO)
    found = cells(corpus)
    wanted = {
        (target, f"{start}, {way}"): [*stages, stage]
        for target in ("injury", "trigger")
        for start, stages in STARTS.items()
        for way, stage in (("probe", "probe"), ("fine-tuned", "finetune"))
    }
    assert {cell: list(stages) for cell, stages in found.items()} == wanted
    for (target, name), stages in found.items():
        last = list(stages.values())[-1]
        tested = last["data"]["corpus"]["init_args"]
        asked = tested["label"] if corpus == "cries" else "injury" if "injury" in tested["classes"] else "trigger"
        assert asked == target
        assert (last["model"]["init_args"]["weights"] is None) == name.startswith("scratch")
        for stage in {"simclr", "adapt"} & set(stages):
            assert stages[stage]["data"]["subset"]["unlabelled"] and stages[stage]["model"]["class_path"].endswith(
                "SimCLR"
            )
    configs = [config for stages in found.values() for config in stages.values()]
    assert len({str(config["model"]["init_args"]["encoder"]) for config in configs}) == 1


def test_published_weights_are_rows_where_they_are_there_and_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(PATH)
    assert len(can_run(recipe, "cries").systems) == 8
    for name in ("simclr", "supervised"):
        path = tmp_path / f"runs/weights/ubenwa-{name}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    added = can_run(recipe, "cries").systems.keys() - can_run(recipe, "synthetic").systems.keys()
    start = ("supervised", "SimCLR")
    assert added == {f"{one}, published weights, {way}" for one in start for way in ("probe", "fine-tuned")}


def test_what_is_public_of_figures_and_data_is_printed():
    shown = str(of_works(read_recipe(PATH)))
    for figure in ("0.745", "0.925", "sensitivity 0.887 at a specificity of 0.80", "1,150", "900 newborns"):
        assert figure in shown


def test_auc_chooses_and_is_reported():
    recipe = read_recipe(PATH)
    assert recipe.metrics[0] == recipe.differences == "macro_auc"
    for stage in ("probe", "finetune"):
        config = yaml.safe_load(PATH.with_name(f"{stage}.yaml").read_text())
        assert config["checkpoint"] == {"monitor": "val/auc", "mode": "max"}


@pytest.mark.slow
def test_recordings_may_lie_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["paper", str(PATH), "--supervised.data.corpus.init_args.root=sounds"]) == 2
    assert "data/vggsound is not there: a folder of VGGSound clips" in capsys.readouterr().err
    roots = [
        f"--{stage}.data.corpus.init_args.{key}=sounds"
        for stage in ("supervised", "simclr")
        for key in ("root", "clip_list")
    ]
    assert main(["paper", str(PATH), *roots]) == 2
    error = capsys.readouterr().err
    assert "data/cries/manifest.csv is not there: your recordings" in error and "vggsound" not in error


@pytest.mark.slow
def test_rehearsal_ends_in_a_clean_table(tmp_path, monkeypatch, capsys):
    """Whole, two epochs a stage, two cells at a time: an adaptation that two cells share is trained once."""
    shutil.copytree(REPO / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    command = [
        "paper",
        "configs/papers/gorin2023",
        "--corpus",
        "synthetic",
        "--every.trainer.max_epochs=2",
        "--jobs",
        "2",
    ]
    assert main(command) == 0
    out = tmp_path / "runs/gorin2023/synthetic"
    table = pd.read_csv(out / "table.csv").query("metric == 'macro_auc'")
    assert len(table) == 16 and set(table["lineage"]) == {"CLEAN"}
    printed = capsys.readouterr().out
    assert re.search(
        r"^SimCLR \+ adaptation, fine-tuned +published for triggers, as cited +0\.745", printed, re.MULTILINE
    )
    for target in ("injury", "trigger"):  # the third claim, by the same command
        labels = pd.read_csv(out / f"{target}-fewer-labels/label_efficiency.csv")
        assert labels["encoder"].tolist() == ["scratch", "supervised", "simclr", "adapted"] * 2
        assert set(labels["lineage"]) == {"CLEAN"} and "macro_auc" in labels
    adapted = [path for path in out.glob("*/adapted/*/*/*/best.ckpt") if "labels" not in str(path)]
    assert sorted(path.relative_to(out).parts[0] for path in adapted) == ["injury", "trigger"]
    for target in ("injury", "trigger"):
        own = out / target / "simclr-adaptation-probe"
        tested = pd.read_csv(own / "predictions.csv").query("split == 'test'")["subject"]
        (fold,) = read(own / "lineage.json").folds.values()
        assert len(fold.stages) == 3 and fold.stages[1].subjects
        assert not set(map(fingerprint, tested)) & {*fold.stages[1].subjects, *fold.stages[1].validation_subjects}
