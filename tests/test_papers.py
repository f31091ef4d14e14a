"""A publication's table: every system under every protocol, figures from their runs, nothing run twice."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from made import RATE, REPO, stage_config

from cry_lightning.__main__ import main
from cry_lightning.api.studies import read_paper
from cry_lightning.cli import stage as cli
from cry_lightning.commands.stage import check_overrides
from cry_lightning.console import UserError
from cry_lightning.corpora import Clip, Clips
from cry_lightning.data.splits import Split
from cry_lightning.evaluation.predictions import classes_of, read, score_columns
from cry_lightning.studies.division import CrossValidationPlan
from cry_lightning.studies.paper_tables import of_works
from cry_lightning.studies.papers import Order, by_stage, check_classes, check_upstream
from cry_lightning.studies.recipe import Protocol, Recipe, Setting, System, read_recipe
from cry_lightning.studies.rounds import plan


@pytest.fixture
def paper(tones, tmp_path, monkeypatch):
    """Writes a paper of two small networks and their fusion, with these changes, and returns the command for it."""
    folder = tmp_path / "small2020"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    config = stage_config(tones, tmp_path, "net")
    config["trainer"] |= {"max_epochs": 1, "logger": False}
    (folder / "net.yaml").write_text(yaml.safe_dump(config))
    said = {
        "title": "Small 2020, Table 1",
        "metrics": ["uar", "sensitivity"],
        "versions": ["published", "later"],
        "systems": {
            "Res8": {"stages": ["net"], "published": {"later": {"uar": "0.911"}}},
            "fast Res8": {"stages": ["net"], "arguments": {"model.init_args.optimisation.optimizer.init_args.lr": 0.1}},
            "published weights": {"stages": ["net"], "needs": {"weights.pth": "from their authors"}},
            "both": {"fuses": ["Res8", "fast Res8"], "against": "fast Res8"},
        },
        "references": [{"name": "a random forest", "figures": {"uar": "0.936"}}],
        "compared": [{"name": "Other 2019", "corpus": "cries", "figure": "UAR 0.978", "protocol": "nothing, shuffled"}],
        "corpora": {
            "theirs": {
                "needs": {"data/theirs": "on request"},
                "protocols": {"as published": {"folds": 2, "group": "clip"}},
            },
            "tones": {
                "positive": "high",
                "protocols": {
                    "by subject": {"folds": 2},
                    "as published": {"seeds": [0], "arguments": {"data.split.group": "clip"}},
                },
                "stages": {"last": {"data.sampling.batch_size": 4}},
            },
        },
    }

    def command(**changes):
        (folder / "paper.yaml").write_text(yaml.safe_dump(said | changes, sort_keys=False))
        return ["paper", str(folder), "--corpus", "tones"]

    return command


@pytest.mark.slow
def test_the_table_holds_what_the_runs_say_and_nothing_is_run_twice(paper, tmp_path, monkeypatch, capsys, caplog):
    assert main(paper()) == 0
    printed, out = capsys.readouterr().out, tmp_path / "runs/small2020/tones"
    table = pd.read_csv(out / "table.csv").set_index(["protocol", "system", "metric"])
    assert set(table.index.get_level_values("system")) == {"Res8", "fast Res8", "both"}
    assert "published weights is left out: weights.pth is not there: from their authors" in caplog.text
    assert table.xs("by subject")["lineage"].unique() == ["CLEAN"]
    assert table.xs("as published")["lineage"].unique() == ["LEAKY"]

    tested = read(out / "by-subject/fast-res8/predictions.csv").query("split == 'test'")
    said = np.array(classes_of(tested))[tested[score_columns(tested)].to_numpy().argmax(1)]
    recalls = [(said[tested["label"] == name] == name).mean() for name in ("low", "high")]
    row = table.loc["by subject", "fast Res8", "uar"]
    assert row["value"] == pytest.approx(np.mean(recalls)) and row["low"] <= row["value"] <= row["high"]
    assert table.loc["by subject", "fast Res8", "sensitivity"]["value"] == pytest.approx(recalls[1])
    folds = pd.read_csv(out / "by-subject/fast-res8/folds.csv")
    assert row["sd"] == pytest.approx(folds["uar"].std())
    first, second, mean = (f"{accuracy:.3f}" for accuracy in [*folds["accuracy"], folds["accuracy"].mean()])
    assert re.search(rf"^fast Res8 +{first} +{second} +{mean}$", printed, re.MULTILINE)  # the accuracy of each fold
    members = [read(out / "by-subject" / name / "predictions.csv") for name in ("res8", "fast-res8")]
    fused = read(out / "by-subject/both/predictions.csv").set_index(["clip", "split", "fold"])
    mean = sum(m.set_index(["clip", "split", "fold"])[score_columns(fused)] for m in members) / 2
    pd.testing.assert_frame_equal(fused[score_columns(fused)], mean.loc[fused.index], atol=1e-6)

    assert f"{row['value']:.3f} ± {row['sd']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in printed
    for text in (
        "0.911",
        "a random forest",
        "0.936",
        "nothing, shuffled",
        "by subject: fast Res8 minus Res8",
        "by subject: both minus fast Res8",
        "Res8: as published minus",
    ):
        assert all(
            text in where for where in (printed, (out / "table.md").read_text(), (out / "report.html").read_text())
        )
    page = (out / "report.html").read_text()
    links = re.findall('href="([^"]+)"', page)
    assert links and all((out / link).exists() for link in links) and "python -m cry_lightning paper" in page
    assert np.isnan(table.loc["by subject", "Res8", "uar"]["published"])
    assert table.loc["by subject", "Res8", "uar"]["later"] == 0.911
    config = json.loads((out / "by-subject/res8/cross_validation.json").read_text())["stages"]["0"]
    assert config["data"]["sampling"]["batch_size"] == 4

    def never(args):
        raise AssertionError(args)

    monkeypatch.setattr(cli, "main", never)
    assert main(paper()) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.slow
def test_a_stage_that_comes_first_is_trained_once_and_tested(paper, tmp_path, monkeypatch, capsys):
    others, rng = tmp_path / "others", np.random.default_rng(1)
    others.mkdir()
    lines = ["path,label,subject"]
    for clip in range(24):
        soundfile.write(others / f"{clip}.wav", 0.1 * rng.standard_normal(RATE // 2), RATE)
        lines.append(f"{clip}.wav,{('hiss', 'rustle')[clip % 2]},adult{clip // 2}")
    (others / "manifest.csv").write_text("\n".join(lines) + "\n")
    config = yaml.safe_load((tmp_path / "small2020/net.yaml").read_text()) | {"name": "first"}
    config["data"]["corpus"]["init_args"] |= {"root": str(others / "manifest.csv"), "name": "others"}
    (tmp_path / "small2020/first.yaml").write_text(yaml.safe_dump(config))
    systems = {"Res8": {"stages": ["first", "net"]}, "again": {"stages": ["first", "net"]}}
    corpora = {"tones": {"protocols": {"by subject": {"seeds": [1], "arguments": {"data.split.test": 0.3}}}}}
    fitted, really = [], cli.main

    def counted(args, **kwargs):
        run = really(args, **kwargs)
        fitted.append((args[0], run.run_folder.path.name))
        return run

    monkeypatch.setattr(cli, "main", counted)
    command = paper(systems=systems, corpora=corpora, metrics=["uar"], upstream={"first": {"accuracy": "0.944"}})
    assert main([*command, "--seeds", "5"]) == 0
    provenance = json.loads((tmp_path / "runs/small2020/tones/by-subject/res8/cross_validation.json").read_text())
    assert provenance["scheme"] == {"seeds": [5]}
    assert fitted.count(("fit", "first")) == 1 and fitted.count(("test", "first")) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("first"))
    assert "0.944" in line and "CLEAN" in line


@pytest.mark.slow
def test_systems_may_be_compared_by_number_of_labels(paper, tones, tmp_path, capsys):
    """Encoders that adapt to the tested corpus alike do so once, without the test subjects."""
    config = yaml.safe_load((tmp_path / "small2020/net.yaml").read_text()) | {"name": "adapt"}
    config["data"]["subset"] = {"unlabelled": True}
    config["model"]["class_path"] = "cry_lightning.tasks.SimCLR"
    config["model"]["init_args"]["temperature"] = 0.5
    config["checkpoint"] = {"monitor": "val/loss", "mode": "min"}
    (tmp_path / "small2020/adapt.yaml").write_text(yaml.safe_dump(config))
    systems = {
        "scratch": {"stages": ["net"]},
        "adapted": {"stages": ["adapt", "net"], "arguments": {"model.init_args.frozen": True}},
        "tuned": {"stages": ["adapt", "net"]},
    }
    steps = {"net": {"trainer.max_epochs": -1, "trainer.max_steps": 2}}
    corpora = {"tones": {"labels": {"pitch": {"per_class": [2, 4], "seeds": [0, 1]}}, "stages": steps}}
    command = paper(systems=systems, corpora=corpora)
    assert main([*command, "--seeds", "3"]) == 0
    out = tmp_path / "runs/small2020/tones/pitch"
    table = pd.read_csv(out / "label_efficiency.csv")
    assert table["encoder"].tolist() == ["scratch", "adapted", "tuned"] * 2 and set(table["lineage"]) == {"CLEAN"}
    assert len(list(out.glob("adapted/tones/*/best.ckpt"))) == 1
    lineage = json.loads((out / "points/tones/adapted-per_class4-seed3/lineage.json").read_text())
    assert [stage["stage"] for stage in lineage["stages"]] == ["fold0-adapt", "adapted-per_class4-seed3"]
    assert "training begins" in "".join(capsys.readouterr())
    assert main([*command, "--seeds", "3"]) == 0
    assert "training begins" not in "".join(capsys.readouterr())


@pytest.mark.slow
def test_without_validation_the_last_epoch_is_tested_and_nobody_is_validated(paper, tmp_path):
    recipe = yaml.safe_load((REPO / "configs/papers/le2020/paper.yaml").read_text())
    last_epoch = recipe["corpora"]["chillanto"]["protocols"]["by fragment, last epoch"]["arguments"]
    protocols = {"as published": {"folds": 2, "group": "clip", "arguments": last_epoch}}
    systems = {"Res8": {"stages": ["net"], "arguments": {"trainer.max_epochs": 3, "trainer.logger": True}}}
    command = paper(systems=systems, corpora={"tones": {"protocols": protocols}}, metrics=["uar"])
    assert main(command) == 0
    fold = tmp_path / "runs/small2020/tones/as-published/res8/folds/tones/repeat0-fold0"
    assert set(pd.read_csv(fold / "predictions.csv")["split"]) == {"test"}
    config = yaml.safe_load((fold / "config.yaml").read_text())
    assert (config["checkpoint"]["monitor"], config["data"]["split"]["val"]) == (None, 0.0)
    lineage = json.loads((fold / "lineage.json").read_text())
    (stage,) = lineage["stages"]
    assert not stage["validation_clips"] and len(stage["clips"]) + len(lineage["test_clips"]) == 96
    metrics = pd.read_csv(fold / "fit/metrics.csv")
    assert metrics["epoch"].max() == 2 and "val/uar" not in metrics


def test_a_stage_without_a_test_cannot_be_reported():
    order = SimpleNamespace(
        path="paper.yaml",
        recipe=SimpleNamespace(systems={"net": SimpleNamespace(stages=["first", "net"])}, upstream={}),
    )
    check_upstream(order, "net", [SimpleNamespace(has_test=False)])
    order.recipe.upstream = {"first": {}}
    check_upstream(order, "net", [SimpleNamespace(has_test=True)])
    with pytest.raises(UserError, match=r"paper.yaml: upstream.first: a pretraining, which has no test to report"):
        check_upstream(order, "net", [SimpleNamespace(has_test=False)])


def test_a_corpus_of_one_speaker_leaves_nobody_to_train_on():
    clips = Clips.of([Clip(f"{label}.wav", "fsdd:george", label) for label in "ab"])
    corpus = SimpleNamespace(name="fsdd")
    data = SimpleNamespace(clips=clips, labelled_rows=np.arange(2), split=Split(), corpus=corpus)
    with pytest.raises(UserError, match="--loso: corpus fsdd has one subject alone, and nobody is left to train on"):
        plan(data, CrossValidationPlan(loso=True))


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "data.feature": {"class_path": "cry_lightning.features.Waveform"},
                "model.init_args.front_end": {"class_path": "cry_lightning.features.MFCC"},
                "model.init_args.augment_waveform": [
                    {
                        "class_path": "cry_lightning.tasks.augment.BackgroundNoise",
                        "init_args": {"folder": "data/noise", "sample_rate": 8000},
                    }
                ],
            },
            "stage net: data/noise: no noise to add; it must be a folder of",
        ),
        pytest.param(
            {"model.init_args.weights": "runs/first/best.ckpt"},
            "stage net: runs/first/best.ckpt: cannot be read",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"data.corpus.init_args.root": "data/cries.csv"},
            "stage net: corpus tones: data/cries.csv: no such file",
            marks=pytest.mark.slow,
        ),
        ({"data.corpus.init_args.classes": {"none": ["none"]}}, "stage net: classes: tones has no label 'none'"),
    ],
)
def test_an_input_that_the_last_system_lacks_is_noticed_before_the_first_is_trained(
    paper, tmp_path, changes, message, monkeypatch, capsys
):
    monkeypatch.setattr(cli, "main", lambda *_, **__: pytest.fail("trained"))
    systems = {"Res8": {"stages": ["net"]}, "other Res8": {"stages": ["net"], "arguments": changes}}
    command = paper(systems=systems)
    before = contents(tmp_path)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert contents(tmp_path) == before


def test_arguments_reach_the_stage_that_they_name():
    recipe = Recipe(
        title="",
        metrics=["uar"],
        systems={"a": System(["first", "net"], arguments={"x": "system"}), "b": System(["other"])},
        corpora={
            "c": Setting(
                {"p": Protocol(seeds=[0], arguments={"x": "protocol"})},
                stages={"every": {"x": "every"}, "last": {"x": "last"}, "first": {"x": "first"}},
            )
        },
    )
    given = by_stage(recipe, ["--x=1", "--first.x", "2", "--first.y.z=3", "--every.x=4", "--data.first.x=5"])
    assert given == {"last": ["--x=1", "--data.first.x=5"], "first": ["--x", "2", "--y.z=3"], "every": ["--x=4"]}
    with pytest.raises(UserError, match=r"--fist\.x=1; did you mean --first\?; the stages are first, net, other$"):
        by_stage(recipe, ["--fist.x=1"])
    setting = recipe.corpora["c"]
    stages = {name: stages for _, name, stages in Order(Path("paper.yaml"), recipe, setting, given).chains()}
    first, net = stages["a"]
    assert first.path == "first.yaml"
    assert first.changes == ("--x=every", "--x=first", "--x=4", "--x", "2", "--y.z=3")
    assert net.changes == ("--x=every", "--x=last", "--x=system", "--x=protocol", "--x=4", "--x=1", "--data.first.x=5")
    assert stages["b"][0].changes[:3] == ("--x=every", "--x=last", "--x=protocol")


RECIPES = [
    path
    for path in sorted((REPO / "configs").glob("[ps]*/**/*.yaml"))
    if re.search("^systems:", path.read_text(), re.M)
]


def key_of(argument):
    return argument.partition("=")[0]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(REPO / "configs")))
def test_every_stage_of_a_recipe_that_is_shipped_has_a_config_without_mistakes(path, monkeypatch):
    monkeypatch.chdir(REPO)
    recipe = read_recipe(path)
    for setting in recipe.corpora.values():
        chains = Order(path, recipe, setting, {}).every_chain()
        assert chains
        stages = {(stage.path, *map(key_of, stage.changes)): stage for stages in chains for stage in stages}
        for stage in stages.values():  # once where values alone differ
            check_overrides(stage.path, stage.changes)
    assert path.read_text().count(f"python -m cry_lightning paper {named_as(path)}") == 1


@pytest.mark.parametrize(
    ("metrics", "positive", "classes", "message"),
    [
        (["uar", "f1"], None, "abc", "'p': metrics: f1: there must be two classes, not 3 (a, b, c)"),
        (["uar"], "a", "abc", "'p': positive: a: there must be two classes, not 3 (a, b, c)"),
        (["f1"], "c", "ab", "'p': positive: c is none of the classes a, b"),
    ],
)
def test_a_positive_class_needs_to_be_one_of_two(metrics, positive, classes, message):
    setting = Setting({"p": Protocol(seeds=[0])}, positive=positive)
    order = Order(Path("paper.yaml"), Recipe("", {}, {}, metrics=metrics), setting, {})
    with pytest.raises(UserError, match=re.escape(message)):
        check_classes(order, "p", classes)


@pytest.fixture(params=["CONTRIBUTING.md", "docs/studies.md"])
def new_study(request, tmp_path, monkeypatch):
    """The recipe that a page shows, as its one file, beside the configs that are shipped."""
    shutil.copytree(REPO / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("papers", "studies"))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall("^```yaml\n(.*?)^```", (REPO / request.param).read_text(), re.DOTALL | re.MULTILINE)
    (shown,) = [block for block in blocks if "\nsystems:" in block]
    path = Path("configs/studies/words.yaml")
    path.parent.mkdir()
    path.write_text(shown)
    return path


def test_a_new_study_is_one_yaml(new_study):
    recipe = read_recipe(new_study)
    order = Order(new_study, recipe, recipe.corpora["synthetic"], {})
    *_, (_, system, (words, cries)) = order.chains()
    assert system == "words"
    assert (words.path, cries.path) == ("configs/pretrain.yaml", "configs/finetune.yaml")
    configs = [check_overrides(stage.path, stage.changes) for stages in order.every_chain() for stage in stages]
    assert {config["name"] for config in configs} == {"words", "cries"}


@pytest.mark.slow
def test_a_new_study_runs(new_study, capsys):
    few = ["--cries.data.corpus.init_args.n_infants=15", "--words.data.corpus.init_args.n_speakers=9"]
    assert main(["paper", str(new_study), "--every.trainer.max_epochs=1", *few]) == 0
    out = new_study.parents[2] / "runs/studies-words/synthetic"
    table = pd.read_csv(out / "table.csv").query("protocol == 'by infant'")
    assert table["system"].tolist() == ["scratch", "words"] and set(table["lineage"]) == {"CLEAN"}


def named_as(path):
    return (path.parent if path.name == "paper.yaml" else path).relative_to(REPO)


@pytest.mark.parametrize("name", ["gorin2023", "le2020", "onu2019", "zhao2020"])
def test_papers_that_are_shipped_can_be_read_and_what_they_cannot_run_on_is_told(name, tmp_path, monkeypatch, capsys):
    path = REPO / "configs/papers" / name
    monkeypatch.chdir(tmp_path)  # where no corpus lies
    assert main(["paper", str(path)]) == 2
    assert "What can run here as a stand-in: --corpus synthetic (ON= of make)" in capsys.readouterr().err


def test_other_works_stand_beside_what_they_kept_apart():
    header, *works = of_works(read_recipe(REPO / "configs/papers/zhao2020/paper.yaml"))[0]
    assert header == ["other works", "corpus", "feature", "classifier", "classes", "published", "kept apart"]
    assert works[0] == ["Banica et al. 2016", "DBL", "MFCC", "GMM", "5", "accuracy 0.700", "not stated"]
    assert ["Simeone 2026", "Donate-a-Cry", "", "", "5", "AUC 0.49 ± 0.11", "installs"] in works


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, ["--corpus", "theirs"], "data/theirs is not there: on request. What can run here as a stand-in: --corpus"),
        ({}, ["--corpus", "mine"], "--corpus mine (ON= of make): Small 2020, Table 1 runs on theirs, tones"),
        ({"systems": {"both": {"fuses": ["Res8"]}}}, [], "system 'both' names Res8, which must stand above it"),
        ({"systems": {"none": {}}}, [], "system 'none' needs either stages or fuses"),
        ({"systems": {"other": {"stages": ["res9"]}}}, [], "no res9.yaml beside it"),
        ({"corpora": {"tones": {}}}, [], "each of corpora needs protocols or labels"),
        ({"corpora": {"tones": {"labels": {"n": {"seeds": [1]}}}}}, [], "labels: give either per_class or fractions"),
        ({"corpora": {"tones": {"labels": {"n": {"per_class": [2]}}}}}, [], "labels: all systems must end in one"),
        ({"versions": ["2019"]}, [], "system 'Res8': published: later is none of versions"),
        ({"titel": "Small"}, [], "does not accept option 'titel'"),
        ({"differences": "f1"}, [], "differences: f1 is none of accuracy, uar, macro_f1, macro_auc"),
        ({"metrics": ["uarr"]}, [], "metrics: uarr is none of accuracy, uar, macro_f1, macro_auc, sensitivity"),
        (
            {"systems": {"Res8": {"stages": ["net"], "published": {"later": {"recal": "0.9"}}}}},
            [],
            "paper.yaml: systems.Res8.published.later: recal is none of accuracy, uar, macro_f1, macro_auc",
        ),
        ({"references": [{"name": "a", "figures": {"acc": "1"}}]}, [], "references.a: acc is none of accuracy, uar"),
        ({"upstream": {"net": {"auc": "1"}}}, [], "upstream.net: auc is none of accuracy, uar"),
        (
            {"systems": {"Res8": {"stages": ["net"], "published_classes": {"low": {"auc": "1"}}}}},
            [],
            "systems.Res8.published_classes.low: auc is none of precision, recall, f1",
        ),
        ({"systems": {"Res8": {"stages": ["net"], "only_on": ["mars"]}}}, [], "only_on: mars is none of corpora"),
        (
            {"corpora": {"tones": {"labels": {"n": {"per_class": [2], "encoders": {"a": "Res9"}}}}}},
            [],
            "labels: encoders: Res9 is none of systems",
        ),
        ({"tables": ["roc"]}, [], "'corpus', 'folds', 'recall', 'classes', 'confusion'"),
        ({"corpora": {"tones": {"protocols": {"p": "--folds 2"}}}}, [], "corpora.tones.protocols.p: give keys"),
        (
            {},
            ["--net.data.batch_sise=4"],
            "stage net: unrecognized arguments: --data.batch_sise=4; did you mean --data.sampling.batch_size?",
        ),
        (
            {},
            ["--net.model.init_args.optimizer.init_args.lr=0.5"],
            "model.optimizer.init_args.lr: no such key; it is model.optimisation.optimizer.init_args.lr now",
        ),
        (
            {"systems": {"Res8": {"stages": ["net"], "arguments": {"model.init_args.warmup_epochs": 1}}}},
            [],
            "model.warmup_epochs: no such key; it is model.optimisation.warmup_epochs now",
        ),
        ({}, ["--netz.data.batch_size=4"], "--netz.data.batch_size=4; did you mean --net?; the stages are net"),
        ({}, ["--jobs", "0"], "--jobs: 0: 1 or more folds are needed"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(paper, changes, arguments, message, capsys):
    assert main([*paper(**changes), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_a_publication_is_found_by_its_name_and_a_folder_of_the_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (read_paper("onu2019") / "paper.yaml").samefile(REPO / "configs/papers/onu2019/paper.yaml")
    assert read_paper("onu2020") == Path("onu2020") and read_paper("configs/papers/onu2019").is_dir()
    (tmp_path / "onu2019").mkdir()
    assert read_paper("onu2019") == Path("onu2019")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("configs/papers", "configs/papers/paper.yaml: cannot be read (No such file or directory); there are"),
        ("configs/finetune.yaml", "configs/finetune.yaml: is a stage, no paper.yaml; there are"),
        ("configs/finetune.yaml", "trained by `python -m cry_lightning fit --config configs/finetune.yaml`"),
        ("LICENSE", "LICENSE: is not YAML; there are"),
    ],
)
def test_what_is_no_paper_is_told_with_those_that_there_are(given, message, capsys, monkeypatch):
    monkeypatch.chdir(REPO)
    assert main(["paper", given]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert (
        "there are configs/papers/gorin2023, configs/papers/le2020, configs/papers/onu2019, configs/papers/zhao2020;"
        in error
    )
