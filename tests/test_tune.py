"""Search for settings: what is refused, that stopping changes nothing, and that no test subject is heard."""

import json
import math
import os
import shlex
import subprocess
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from made import REPO
from matplotlib import pyplot
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cry_lightning.__main__ import run as command
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.data.building import CachedFeatures
from cry_lightning.lineage import read, subject_fingerprint
from cry_lightning.studies import tune_report
from cry_lightning.studies.engine import StageConfig, open_study
from cry_lightning.studies.tune import Goal, check_space, corners, finished, open_search, propose, read_space

main = partial(command, "tune")


LR = "model.init_args.optimisation.optimizer.init_args.lr"
SPACE = {LR: {"low": 1.0e-3, "high": 0.3, "log": True}, "data.sampling.batch_size": {"low": 8, "high": 16, "step": 8}}
UAR = Goal("val/uar", "max")
ENDS = (slice(10), slice(-10, None))


@pytest.fixture
def space(tmp_path):
    """Writes a space YAML and returns its path."""

    def write(content, name="space.yaml") -> str:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return str(path)

    return write


@pytest.fixture
def fits(monkeypatch) -> list[str]:
    """Names of the run folders that are fitted."""
    fitted = []
    really = cli.main

    def counted(args, **kwargs):
        assert args[0] == "fit"
        run = really(args, **kwargs)
        fitted.append(run.run_folder.path.name)
        return run

    monkeypatch.setattr(cli, "main", counted)
    return fitted


# the space


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty; give dotted keys"),
        ("{}", "empty; give dotted keys"),
        ("a: {b", "not YAML"),
        ("lr: 3", r"lr: expected \{low, high\} with log or step by choice, or \{choices\}, not 3"),
        ("lr: {low: 3, high: 1}", r"lr: `low <= high` must hold, but got \(low=3, high=1\)"),
        ("lr: {low: 0.0, high: 1.0, log: true}", "lr: `low > 0` must hold for `log=True`"),
        ("lr: {low: 0.1, high: 1.0, log: true, step: 0.1}", "lr: The parameter `step` is not supported when `log`"),
        ("lr: {low: 1}", "lr: high missing"),
        ("lr: {low: small, high: 1}", "lr: expected a number, not small"),
        ("lr: {low: true, high: 1}", "lr: expected a number, not True"),
        ("lr: {low: 1, hihg: 2}", r"lr: no such setting: hihg; did you mean high\?"),
        ("lr: {low: 1, high: 9, step: 0}", "lr: .*step.*0"),
        ("lr: {choices: []}", "lr: The `choices` must contain one or more elements"),
        ("lr: {choices: [1], low: 0}", "lr: expected {low, high}"),
    ],
)
def test_space_that_makes_no_sense_is_refused(space, content, message):
    path = space(content)
    with pytest.raises(UserError, match=rf"^--space .*space\.yaml: {message}") as told:
        read_space(path)
    assert "\n" not in str(told.value)


def test_missing_space():
    with pytest.raises(UserError, match=r"--space nowhere\.yaml: no such file"):
        read_space("nowhere.yaml")


def test_whole_numbers_floats_and_choices_are_told_apart(space):
    encoder = {"class_path": "cry_lightning.encoders.Res8", "init_args": {"n_maps": 4}}
    found = read_space(
        space("a: {low: 1, high: 9}\nb: {low: 1, high: 2.5}\nc: {low: 1e-4, high: 1e-2, log: true}\n")
    ) | read_space(space({"d": {"choices": [None, True, "x.yaml", encoder]}}))
    assert found["a"] == IntDistribution(1, 9) and found["b"] == FloatDistribution(1, 2.5)
    assert found["c"] == FloatDistribution(1e-4, 1e-2, log=True)
    assert found["d"] == CategoricalDistribution([None, True, "x.yaml", json.dumps(encoder)])
    tried = corners(found)
    assert {values["d"] for values in tried} == set(found["d"].choices) and {values["a"] for values in tried} == {1, 9}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("content", "args", "message"),
    [
        ({LR + "r": SPACE[LR]}, (), r"--space .*: model\.optimisation\.optimizer\.lrr: no such key; did you mean lr\?"),
        (
            {"dta.batch_size": {"low": 1, "high": 2}},
            (),
            r"--space .*dta\.batch_size.*did you mean --data\.sampling\.batch_size\?",
        ),
        (
            {LR.replace("optimisation.", ""): SPACE[LR]},
            (),
            r"--space .*--optimizer\.init_args\.lr=\S+; it is model\.optimisation\.optimizer\.init_args\.lr now$",
        ),
        (
            {"data.sampling.batch_size": {"low": 1.5, "high": 2.5}},
            (),
            r"--space .*: data\.sampling\.batch_size: expected int, not 1\.5",
        ),
        ({"data.split.seed": {"low": 0, "high": 9}}, (), r"must share their validation and test subjects"),
        ({"checkpoint.mode": {"choices": ["min", "max"]}}, (), r"checkpoint\.mode is the same for all trials"),
        (SPACE, ("--trials", "0"), r"--trials: 0: 1 or more trials are needed"),
        (SPACE, ("--checkpoint.monitor", "train/loss"), r"checkpoint\.monitor: train/loss is no validation metric"),
        (SPACE, ("--data.split.group", "clip"), r"subject \S+baby\d+ is both in train and in \w+: "),
        (SPACE, ("--data.no_such_key=1",), r"no_such_key"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(stage, space, fits, content, args, message):
    with pytest.raises(UserError, match=message) as told:
        main(["--config", str(stage()), "--space", space(content), "--trials", "1", *args])
    assert fits == [] and "\n" not in str(told.value)


# what is proposed


def searched(space, score, n_trials, seed=0):
    """The trials of a search with a known score in place of fits."""
    trials = []
    for _ in range(n_trials):
        values = propose(space, trials, UAR, seed)
        trials.append(finished(space, values, score(values), 0, ""))
    return trials


def outcomes(trials):
    return [(trial.params, trial.value) for trial in trials]


def nearness(values) -> float:
    return -abs(math.log10(values[LR] / 0.03))


def test_proposals_follow_from_the_seed_and_the_trials_so_far(space):
    drawn = read_space(space(SPACE))
    trials = searched(drawn, nearness, 12)
    assert outcomes(trials) == outcomes(searched(drawn, nearness, 12))
    assert outcomes(trials[:1]) != outcomes(searched(drawn, nearness, 1, seed=1))
    assert outcomes(trials[:11]) == outcomes(searched(drawn, nearness, 11))
    assert all(
        propose(drawn, trials[: n // 2], UAR, 0, n) == trials[n].params for n in range(10)
    )  # so at the same time
    other = [*trials[:11], finished(drawn, trials[11].params, 1.0, 0, "")]
    assert propose(drawn, trials, UAR, 0) != propose(drawn, other, UAR, 0)
    assert {trial.params["data.sampling.batch_size"] for trial in trials} == {8, 16}


@pytest.mark.slow
def test_proposals_close_in_on_the_best_and_avoid_what_failed(space):
    """Above 0.1 every fit fails, and 0.03 is best; the first ten proposals are at random."""
    drawn = read_space(space(SPACE))
    found = [searched(drawn, lambda v: None if v[LR] > 0.1 else nearness(v), 30, seed) for seed in range(4)]
    first, last = (np.array([[nearness(t.params) for t in trials[part]] for trials in found]) for part in ENDS)
    assert last.mean() > first.mean() / 1.5
    first, last = (np.array([[t.value is None for t in trials[part]] for trials in found]) for part in ENDS)
    assert last.mean() < first.mean() / 1.5


def test_best_first_by_mode():
    trials = [finished({}, {}, score, 0, "") for score in (0.5, None, 0.9, 0.9, 0.1)]
    assert [trials.index(trial) for trial in UAR.best_first(trials)] == [2, 3, 0, 4]
    assert [trials.index(trial) for trial in Goal("val/loss", "min").best_first(trials)] == [4, 0, 2, 3]


@pytest.mark.slow
def test_optuna_and_matplotlib_are_left_as_they_were(space, tmp_path):
    """A command in a process changes neither what Optuna tells afterwards nor how figures look."""
    drawn, style, verbosity = read_space(space(SPACE)), dict(matplotlib.rcParams), optuna.logging.get_verbosity()
    search = open_search(tmp_path / "trials", UAR)
    for trial in searched(drawn, nearness, 3):
        search.add_trial(trial)
    tune_report.write(search, UAR, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"trials.png", "history.png", "importances.png"}
    assert optuna.logging.get_verbosity() == verbosity and dict(matplotlib.rcParams) == style
    assert not pyplot.get_fignums()


# the search


@pytest.mark.slow
def test_a_killed_search_ends_as_an_unkilled_one_and_hears_no_test_subject(
    stage, space, tmp_path, monkeypatch, fits, capsys
):
    config, at = str(stage()), ["--space", space(SPACE)]
    heard = set()
    gather = CachedFeatures.gather

    def listen(self, rows):
        heard.update(rows.tolist())
        return gather(self, rows)

    monkeypatch.setattr(CachedFeatures, "gather", listen)
    whole = tmp_path / "whole"
    main(["--config", config, *at, "--trials", "3", "--out", str(whole)])
    assert fits == ["rehearsal", "0000", "0001", "0002"]
    told = capsys.readouterr().out
    assert "optimistic" in told and "Only the test tells" in told and f"fit --config {whole / 'best.yaml'}" in told
    table = pd.read_csv(whole / "trials.csv")
    assert table["val/uar"].between(0, 1).all() and table[LR].nunique() == 3
    assert (whole / "trials.png").read_bytes().startswith(b"\x89PNG")

    data = open_study(StageConfig(config)).data
    tested = {subject_fingerprint(subject, "given") for subject in data.subjects("test")}
    assert tested and heard and not heard & set(data.rows("test").tolist())
    for number in range(3):
        folder = whole / f"trials/tones/{number:04}"
        (own,) = read(folder / "lineage.json").as_dict()["stages"]
        assert not tested & {*own["subjects"], *own["validation_subjects"]}
        assert own["validation_subjects"] == sorted(subject_fingerprint(s, "given") for s in data.subjects("val"))
        assert not list(folder.glob("*.ckpt")) and not (folder / "predictions.csv").exists()

    fits.clear()
    counted, killed = cli.main, tmp_path / "killed"

    def kill(args, **kwargs):
        if "0001" in " ".join(args):
            raise KeyboardInterrupt
        return counted(args, **kwargs)

    command = ["--config", config, *at, "--out", str(killed)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cli, "main", kill)
        main([*command, "--trials", "2"])
    assert fits == ["rehearsal", "0000"] and not (killed / "trials.csv").exists()
    main([*command, "--trials", "3", f"--data.cache.folder={tmp_path / 'cache'}"])  # of no consequence
    assert fits == ["rehearsal", "0000", "0001", "0002"]
    assert (killed / "trials.csv").read_bytes() == (whole / "trials.csv").read_bytes()

    other = space(SPACE | {LR: {"low": 0.01, "high": 0.1}}, "other.yaml")
    with pytest.raises(UserError, match=rf"killed holds a study with other settings \(space\.{LR}\.low, .*seed\)"):
        main([*command, "--trials", "3", "--space", other, "--seed", "1"])
    with pytest.raises(UserError, match=r"other settings \(stages\.0\.data\.subset\.per_class, data\)"):
        main([*command, "--trials", "3", "--data.subset.per_class", "4"])

    best = table.loc[table["val/uar"].idxmax()]
    run = cli.main(shlex.split(told.splitlines()[-1])[3:])
    assert run.run_folder.path == tmp_path / "runs/tones/pretrain-tuned"
    curve = pd.read_csv(run.run_folder.path / "fit/metrics.csv")["val/uar"]
    assert curve.max() == best["val/uar"] and curve.idxmax() >= 0
    assert run.config.fit.data.sampling.batch_size == best["data.sampling.batch_size"]


@pytest.mark.slow
def test_trials_at_a_time_give_what_they_give_one_by_one(stage, space, tmp_path):
    command = ["--config", str(stage()), "--space", space(SPACE), "--trials", "2", "--trainer.max_epochs=1"]
    for jobs in ("1", "2"):
        main([*command, "--jobs", jobs, "--out", str(tmp_path / jobs)])
    assert (tmp_path / "1/trials.csv").read_bytes() == (tmp_path / "2/trials.csv").read_bytes()


@pytest.mark.slow
def test_trials_that_cannot_be_fitted_fail_alone(stage, space, tmp_path, capsys):
    """Under a step size of 1e30 the loss is soon not a number; two encoders are no encoder."""
    out = tmp_path / "out"
    command = ["--config", str(stage()), "--out", str(out), "--space", space({LR: {"choices": [1e30, 0.05]}})]
    main([*command, "--trials", "3", "--trainer.max_epochs=1"])
    table = pd.read_csv(out / "trials.csv")
    bad = table[LR] == 1e30
    assert 0 < bad.sum() < 3 and (table["val/uar"].isna() == bad).all()
    assert table.loc[bad, "failure"].str.contains("the loss is nan at step").all()
    assert f"{bad.sum()} of 3 trials failed" in capsys.readouterr().out
    trials = open_search(out / "trials/tones", UAR).trials
    assert [trial.value is None for trial in trials] == bad.tolist()  # these are not fitted again either

    hopeless = [*command[:3], str(tmp_path / "hopeless"), "--space", space({LR: {"choices": [1e30]}}, "bad.yaml")]
    with pytest.raises(UserError, match="all of 1 trials failed, the last: the loss is nan"):
        main([*hopeless, "--trials", "1", "--trainer.max_epochs=1"])


@pytest.mark.slow
def test_a_metric_that_is_not_logged_is_told_by_the_rehearsal_and_binds_to_nothing(stage, space, tmp_path, fits):
    command = ["--config", str(stage()), "--space", space(SPACE), "--trials", "1", "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"val/no_such.*could not find the monitored key.*'val/uar'"):
        main([*command, "--checkpoint.monitor=val/no_such"])
    assert fits == [] and not (tmp_path / "out/tune.json").exists()


@pytest.mark.slow
def test_an_encoder_that_has_heard_test_subjects_is_refused(stage, space, pretrained):
    """Another seed of the split tests subjects that the pretraining was trained on."""
    config = str(stage("tuned", weights=str(pretrained)))
    with pytest.raises(UserError, match=r"LEAKY, 2 of 4 tested subjects trained on, .* stage pretrain on tones"):
        main(["--config", config, "--space", space(SPACE), "--trials", "1", "--data.split.seed=1"])


# what is shipped


def as_sweep(drawn) -> dict:
    """A distribution in the words of a W&B sweep; whole numbers in steps are spelt out, or W&B would give floats."""
    if isinstance(drawn, CategoricalDistribution):
        return {"values": list(drawn.choices)}
    if isinstance(drawn, IntDistribution):
        return {"values": list(range(drawn.low, drawn.high + 1, drawn.step))}
    ends = {"min": drawn.low, "max": drawn.high}
    if drawn.step:
        return {"distribution": "q_uniform", **ends, "q": drawn.step}
    return {"distribution": "log_uniform_values" if drawn.log else "uniform", **ends}


def test_the_sweep_is_the_very_same_search(tmp_path):
    sweep = yaml.safe_load((REPO / "configs/sweep.yaml").read_text())
    shipped = read_space(str(REPO / "configs/spaces/finetune.yaml"))
    assert sweep["parameters"] == {key: as_sweep(drawn) for key, drawn in shipped.items()}
    chosen_by = yaml.safe_load((REPO / "configs/finetune.yaml").read_text())["checkpoint"]
    assert sweep["metric"] == {"name": chosen_by["monitor"], "goal": f"{chosen_by['mode']}imize"}

    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_RUN_ID": "x1"}
    command = [word for word in sweep["command"] if not word.startswith("${")]
    called = subprocess.run([*command, f"--{LR}=0.1"], env=environment, capture_output=True, text=True, check=True)
    assert shlex.split(called.stdout) == [
        *("-m", "cry_lightning", "fit", "--config", "configs/finetune.yaml", "--name", "sweep-x1", f"--{LR}=0.1")
    ]


@pytest.mark.slow
def test_the_shipped_space_fits_its_stage(tones, tmp_path):
    path = REPO / "configs/spaces/finetune.yaml"
    config, space = (REPO / word for word in path.read_text().splitlines()[1].split() if word.endswith(".yaml"))
    assert space == path and Path(config).name == "finetune.yaml"
    args = ["--data.corpus=cry_lightning.corpora.Manifest", f"--data.corpus.init_args.root={tones}"]
    args += [f"--data.cache.folder={tmp_path}", f"--runs={tmp_path}", "--model.init_args.weights=null"]
    check_space(open_study(StageConfig(str(config), tuple(args))), read_space(str(path)), str(path))
