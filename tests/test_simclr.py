"""Contrastive stages: what they learn, log, refuse and hand on; and two processes that are one."""

import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch
import yaml
from made import REPO, stage_config
from torch import nn

from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.lineage import check, of_checkpoint, read, subject_fingerprint
from cry_lightning.report.provenance import _of_stage

CURVES = {"train/loss", "val/loss", "val/alignment", "val/uniformity", "val/effective_rank", "val/probe_uar"}
CROP = {"class_path": "cry_lightning.tasks.augment.RandomCrop", "init_args": {"length": 30}}
LOGMEL = {"class_path": "cry_lightning.features.LogMel"}
PROJECTOR = {"class_path": "cry_lightning.tasks.heads.Projector", "init_args": {"hidden": [16], "out_features": 8}}


@pytest.fixture
def simclr(tones, tmp_path):
    """Writes a contrastive stage on the tones, probed on the same split, and returns its path."""

    def write(name: str = "simclr", data: dict | None = None, probe: bool = True, **model):
        model = {"projector": PROJECTOR, "augment": [CROP], "temperature": 0.2} | model
        config = stage_config(tones, tmp_path, name, **model)
        config["model"]["class_path"] = "cry_lightning.tasks.SimCLR"
        sampling = {"drop_last": True, "batch_size": 16} | (data or {}).get("sampling", {})
        config["data"] |= {"subset": {"unlabelled": True}} | (data or {}) | {"sampling": sampling}
        if probe:
            shared = ("corpus", "feature", "split", "clip_s", "shift_s", "cache")
            config["data"]["probe"] = {
                "class_path": "cry_lightning.data.datamodule.CryDataModule",
                "init_args": {key: config["data"][key] for key in shared},
            }
        config["checkpoint"] = {"monitor": "val/loss", "mode": "min"}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return write


def fit(path, *args):
    return cli.main(["fit", "--config", str(path), *args])


def curves(run) -> pd.DataFrame:
    return pd.read_csv(run.run_folder.path / "fit/metrics.csv").groupby("epoch").first()


@pytest.mark.slow
def test_logs_whether_it_learns_and_hands_its_encoder_on(simclr, stage):
    run = fit(simclr(probe_every_n_epochs=2), "--trainer.max_epochs=4")
    logged = curves(run)
    assert set(logged.columns) >= CURVES
    assert logged.notna().all(axis=None)
    assert logged["val/loss"].iloc[-1] < logged["val/loss"].iloc[0]
    assert (logged["val/effective_rank"] <= run.model.num_features).all()
    assert logged["val/probe_uar"].iloc[1] == logged["val/probe_uar"].iloc[0]  # fitted in epochs 0, 2 and the last
    best = run.run_folder.best
    tuned = fit(stage("finetune", weights=str(best)), "--trainer.max_epochs=1", "--trainer.limit_train_batches=0")
    for name, given in torch.load(best, weights_only=True)["state_dict"].items():
        if name.startswith("encoder."):
            torch.testing.assert_close(tuned.model.state_dict()[name], given)


@pytest.mark.slow
def test_probe_may_choose_the_checkpoint(simclr):
    run = fit(simclr(), "--checkpoint.monitor=val/probe_uar", "--checkpoint.mode=max")
    assert float(run._get(run.config_init, "checkpoint").best_model_score) == pytest.approx(
        curves(run)["val/probe_uar"].max()
    )


@pytest.mark.sampled(2)
@pytest.mark.parametrize("monitor", ["val/probe_uar", "null", "val/loss"])
def test_the_lineage_tells_what_chose_the_checkpoint(simclr, monitor):
    short = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
    mode = "max" if "probe" in monitor else "min"
    data = {"split": {"val": 0.3, "test": 0.3}}
    run = fit(simclr(data=data), f"--checkpoint.monitor={monitor}", f"--checkpoint.mode={mode}", *short)
    stage = of_checkpoint(torch.load(run.run_folder.best, weights_only=True)).stages[-1]
    (line,) = _of_stage([stage])[1][1:]
    own = run.datamodule if monitor == "val/loss" else run.datamodule.probe
    counts = f"{len(own.clips_of('val'))} clips of {len(own.subjects('val'))} subjects"
    assert (
        line
        == {
            "val/loss": f"checkpoint chosen on {counts}",
            "val/probe_uar": f"checkpoint chosen on {counts} of tones, by a probe",
            "null": "no checkpoint chosen: the last weights",
        }[monitor]
    )
    before = replace(stage, chosen_on=None)  # as an older release wrote it
    assert _of_stage([before])[1][1].startswith("checkpoint chosen on ")


@pytest.mark.slow
def test_probe_subjects_stand_in_the_lineage_as_choosers(simclr):
    run = fit(simclr(), "--trainer.max_epochs=1")
    stage = torch.load(run.run_folder.best, weights_only=True)["lineage"]["stages"][-1]
    probe = run.datamodule.probe
    chose = {subject_fingerprint(subject, "given") for part in ("train", "val") for subject in probe.subjects(part)}
    assert chose <= set(stage["validation_subjects"])
    tested = {subject_fingerprint(subject, "given") for subject in probe.subjects("test")}
    assert not tested & {*stage["validation_subjects"], *stage["subjects"]}


@pytest.mark.slow
def test_waveform_mode_computes_the_feature_behind_the_views(simclr):
    augment = [
        {"class_path": "cry_lightning.tasks.augment.RandomCrop", "init_args": {"length": 2400}},
        {"class_path": "cry_lightning.tasks.augment.WaveformGain", "init_args": {"max_db": 6.0}},
    ]
    path = simclr(
        "waveform",
        data={"feature": {"class_path": "cry_lightning.features.Waveform", "init_args": {"sample_rate": 8000}}},
        front_end={"class_path": "cry_lightning.features.MFCC"},
        augment_waveform=augment,
        augment=None,
    )
    run = fit(path, "--trainer.max_epochs=1")
    assert set(curves(run).columns) >= CURVES
    views = run.model.view(torch.randn(6, 1, 1, 3200), augmented=True)
    assert views.shape == (6, 1, 40, 31)


@pytest.mark.slow
def test_a_classifier_is_not_given_clips_without_labels(simclr, stage):
    config = yaml.safe_load(stage("finetune").read_text())
    config["data"] = yaml.safe_load(simclr().read_text())["data"]
    path = simclr().with_name("finetune.yaml")
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"set data\.probe to null"):
        fit(path)


@pytest.mark.slow
def test_adaptation_goes_on_from_a_contrastive_stage(simclr):
    first = fit(simclr(probe=False), "--trainer.max_epochs=1")
    adapted = fit(
        simclr("adapt", weights=str(first.run_folder.best), adaptation=True, probe=False), "--trainer.max_epochs=1"
    )
    stages = torch.load(adapted.run_folder.best, weights_only=True)["lineage"]["stages"]
    assert [stage["stage"] for stage in stages] == ["simclr", "adapt"]


@pytest.mark.slow
def test_windows_of_the_tested_recordings_are_found_under_other_names(simclr, stage, tones):
    init_args = {"root": str(tones.parent), "name": "everything", "window_s": 0.2}
    everything = {"class_path": "cry_lightning.corpora.UnlabelledTree", "init_args": init_args}
    first = fit(simclr(probe=False, data={"corpus": everything}), "--trainer.max_epochs=1")
    run = fit(stage("finetune", weights=str(first.run_folder.best)), "--trainer.max_epochs=1")
    cli.main(["test", "--config", str(run.run_folder.path / "config.yaml")])
    table = pd.read_csv(run.run_folder.path / "predictions.csv").query("split == 'test'")
    found = check(table, read(run.run_folder.path / "lineage.json"))
    assert found.status == "LEAKY"
    assert [(one.stage, one.subjects) for one in found.overlaps] == [("simclr", 0)]
    heard = {clip.path for clip in first.datamodule.clips_of("train")}
    assert found.overlaps[0].clips == table["recording"].isin(heard).sum() > 0


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ({"temperature": 0.0}, {}, "temperature must be above 0"),
        ({"adaptation": True}, {}, "model.init_args.weights"),
        ({}, {"sampling": {"batch_size": 1}}, "two or more in a batch"),
        pytest.param({"augment": [{**CROP, "init_args": {"length": 500}}]}, {}, "clip_s", marks=pytest.mark.slow),
        pytest.param(
            {"optimisation": {"warmup_epochs": 1, "scheduler": {"class_path": "torch.optim.lr_scheduler.ConstantLR"}}},
            {},
            "warmup_epochs",
            marks=pytest.mark.slow,
        ),
        ({"weights": "nowhere.ckpt"}, {}, "nowhere.ckpt: no such checkpoint"),
        pytest.param({"probe_every_n_epochs": 0}, {}, "at least 1", marks=pytest.mark.slow),
        pytest.param({"temperature": float("nan")}, {}, "temperature must be above 0", marks=pytest.mark.slow),
        ({}, {"sampling": {"batch_size": 13, "drop_last": False}}, r"the last is alone.*data\.sampling\.drop_last"),
        ({"front_end": LOGMEL}, {}, r"LogMel takes waveforms, but data\.feature is MFCC"),
        (
            {"front_end": {**LOGMEL, "init_args": {"sample_rate": 16000}}},
            {"feature": {"class_path": "cry_lightning.features.Waveform"}},
            "LogMel is set to 16000 Hz, but the data's waveforms have 8000 Hz",
        ),
    ],
)
def test_mistakes_are_one_line(simclr, model, data, message):
    path = simclr(data=data, **model)
    with pytest.raises(UserError, match=message) as error:
        fit(path)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_encoder_of_another_shape_is_refused(simclr, pretrained):
    path = simclr("adapt", weights=str(pretrained))
    with pytest.raises(UserError, match="does not fit this encoder"):
        fit(path, "--model.init_args.encoder.init_args.n_maps=5")


def test_a_loss_that_is_no_number_names_the_clips(simclr, monkeypatch):
    monkeypatch.setattr(nn.Sequential, "forward", lambda self, x: x * float("nan") if x.ndim == 2 else x)
    with pytest.raises(UserError, match=r"the loss is nan at step 0: .*\.wav#0.000-end"):
        fit(simclr(probe=False))


def test_weights_that_are_no_numbers_after_the_last_step_name_the_clips(simclr):
    wild = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e30}}
    path = simclr(probe=False, data={"sampling": {"batch_size": 40}}, optimisation={"optimizer": wild})
    with pytest.raises(UserError, match=r"the loss is nan at step 1: "):
        fit(path)


@pytest.mark.slow
def test_a_probe_of_one_class_is_refused_before_it_learns(simclr):
    path = simclr()
    config = yaml.safe_load(path.read_text())
    config["data"]["probe"]["init_args"]["corpus"]["init_args"]["classes"] = {"one": ["low"]}
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"data\.probe: its training part is all of one class, one"):
        fit(path)


@pytest.mark.slow
def test_the_probe_is_fitted_where_validations_are_rare(simclr):
    run = fit(simclr(probe_every_n_epochs=2), "--trainer.max_epochs=5", "--trainer.check_val_every_n_epoch=2")
    assert curves(run)["val/probe_uar"].notna().any()


@pytest.mark.slow
def test_accumulation_is_said_to_add_no_negatives(simclr, caplog):
    fit(simclr(probe=False), "--trainer.accumulate_grad_batches=2", "--trainer.max_epochs=1")
    assert "adds no negatives: each loss still compares the 32 views" in caplog.text


@pytest.mark.slow
def test_fewer_clips_than_a_batch_are_told(simclr, caplog):
    fit(simclr(data={"sampling": {"batch_size": 64}}, probe=False), "--trainer.max_epochs=1")
    assert "training clips for batches of 64" in caplog.text


def test_collapse_is_warned_of(simclr):
    flat = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.0}}
    path = simclr(probe=False, optimisation={"optimizer": flat}, encoder={"class_path": "test_simclr.Constant"})
    with pytest.warns(UserWarning, match="collapsed"):
        fit(path, "--trainer.max_epochs=1")


class Constant(nn.Module):
    """An encoder that tells nothing apart."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(4))

    def forward(self, features):
        return self.bias.expand(len(features), 4)


class Plain(nn.Module):
    """An encoder without BatchNorm, whose statistics torch cannot share between processes on a CPU."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 5, stride=2)

    def forward(self, features):
        return self.conv(features).relu().mean((2, 3))


class Slide(nn.Module):
    """A second view without chance, so that it is the same however the clips are dealt to processes."""

    def forward(self, batch):
        first, second = batch.chunk(2)
        return torch.cat([first, second.roll(3, dims=-1) + 0.1 * second])


@pytest.mark.slow
def test_two_processes_learn_as_one_with_the_joint_batch(simclr, tmp_path):
    """Curves equal to 1e-4: the negatives, and their gradients, are those of both processes."""
    losses = {}
    for name, batch_size, args in (("one", 16, []), ("two", 8, ["--trainer.devices=2", "--trainer.strategy=ddp"])):
        path = simclr(
            name,
            data={"sampling": {"batch_size": batch_size}, "shift_s": 0.0},
            probe=False,
            encoder={"class_path": "test_simclr.Plain"},
            projector={"class_path": "torch.nn.Linear", "init_args": {"out_features": 8}},
            augment=[{"class_path": "test_simclr.Slide"}],
        )
        call = [sys.executable, "-m", "cry_lightning", "fit", "--config", str(path), "--trainer.max_epochs=4", *args]
        done = subprocess.run(call, cwd=REPO / "tests", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        losses[name] = pd.read_csv(tmp_path / f"runs/tones/{name}/fit/metrics.csv")["train/loss"].dropna().to_numpy()
    assert len(losses["one"]) == 4
    assert losses["one"][-1] < losses["one"][0]
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-4)


def test_shared_batchnorm_is_refused_where_torch_has_none(simclr):
    with pytest.raises(UserError, match="sync_batchnorm: torch has it for GPUs alone"):
        fit(simclr(probe=False), "--trainer.sync_batchnorm=true")
