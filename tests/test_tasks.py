"""What a classifier does to its network: freezing, precision, losses, augmentation, any encoder."""

import json
import os
import subprocess
import sys
from collections import Counter

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.tasks import Classifier


def fit(config, *args):
    return cli.main(["fit", "--config", str(config), *args])


def encoder_state(model):
    return {name: value.clone() for name, value in model.encoder.state_dict().items()}


def test_frozen_encoder_stays_bit_for_bit(stage, pretrained):
    """BatchNorm statistics too, through validation passes."""
    before = torch.load(pretrained, weights_only=True)["state_dict"]
    run = fit(stage("probe", weights=str(pretrained), frozen=True), "--trainer.max_epochs=1")
    after = run.model.encoder.state_dict()
    assert all(torch.equal(value, before[f"encoder.{name}"]) for name, value in after.items())
    assert any("running_mean" in name for name in after)


def test_partly_frozen_encoder_moves_elsewhere(stage, pretrained):
    before = torch.load(pretrained, weights_only=True)["state_dict"]
    run = fit(stage("partly", weights=str(pretrained), frozen=["conv0", "norms.0"]), "--trainer.max_epochs=1")
    after = run.model.encoder.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[f"encoder.{name}"])}
    assert not any(name.startswith(("conv0.", "norms.0.")) for name in moved)
    assert {"convs.0.weight", "convs.5.weight", "norms.1.running_mean"} <= moved


def test_freezing_a_part_that_is_not_there_names_those_that_are(stage):
    with pytest.raises(UserError, match=r"frozen: .*this encoder's parts are conv0, "):
        fit(stage("pretrain", frozen=["layer1"]))


@pytest.mark.slow
def test_every_parameter_of_a_free_encoder_moves(stage):
    config = stage("pretrain")
    start = encoder_state(fit(config, "--trainer.max_epochs=0").model)
    end = encoder_state(fit(config, "--overwrite=true").model)
    assert not [name for name in start if torch.equal(start[name], end[name])]


@pytest.mark.parametrize("precision", ["32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)])
def test_learns_the_tones_in_any_precision(stage, precision):
    run = fit(stage("pretrain"), "--trainer.max_epochs=6", f"--trainer.precision={precision}")
    assert run.trainer.checkpoint_callback.best_model_score > 0.9


@pytest.mark.slow
def test_channels_last_gives_the_same_numbers(stage):
    run = fit(stage("pretrain"), "--trainer.max_epochs=1")
    other = fit(stage("plain", channels_last=False), "--trainer.max_epochs=1")
    for (name, value), same in zip(run.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        torch.testing.assert_close(value, same, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_hinge_loss_balanced_batches_and_their_stamp(stage, tmp_path):
    hinge = {"class_path": "torch.nn.MultiMarginLoss"}
    config = stage("hinge", loss=hinge)
    fit(config, "--data.sampling.balanced=true", "--trainer.max_epochs=1")
    cli.main(["test", "--config", str(tmp_path / "runs/tones/hinge/config.yaml")])
    assert json.loads((tmp_path / "runs/tones/hinge/lineage.json").read_text())["uncalibrated"] is True


@pytest.mark.slow
def test_class_weights_reach_the_loss_and_not_the_checkpoint(stage, tmp_path):
    run = fit(stage("weighted"), "--data.sampling.class_weights=true", "--trainer.max_epochs=1")
    assert run.model.loss.weight.shape == (2,)
    cli.main(["test", "--config", str(tmp_path / "runs/tones/weighted/config.yaml")])


@pytest.mark.slow
def test_wrong_num_classes_is_told_before_training(stage):
    with pytest.raises(UserError, match=r"num_classes is 3, but the corpus has 2 classes \(high, low\)"):
        fit(stage("pretrain", num_classes=3))


def test_one_class_is_refused_before_training(stage):
    with pytest.raises(UserError, match=r"wants two classes, and the labelled clips have 1 \(tone\)"):
        fit(stage("pretrain"), '--data.corpus.init_args.classes={"tone": ["high", "low"]}')


@pytest.mark.slow
def test_any_timm_network_is_an_encoder(stage):
    timm = {
        "class_path": "timm.create_model",
        "init_args": {"model_name": "resnet10t"},
        "dict_kwargs": {"num_classes": 0, "in_chans": 1},
    }
    run = fit(stage("timm", encoder=timm), "--trainer.max_epochs=1")
    assert run.model.head.in_features == run.model.encoder.num_features == 512


def test_encoder_without_num_features_is_refused(stage):
    with pytest.raises(UserError, match="Identity has no attribute num_features"):
        fit(stage("pretrain", encoder={"class_path": "torch.nn.Identity"}))


@pytest.mark.slow
def test_noise_is_mixed_into_waveforms_before_the_front_end(stage, tones, tmp_path):
    """The waveform path gives the same scores as cached features; noise changes training alone."""
    config = yaml.safe_load(
        stage(
            "noisy",
            front_end={"class_path": "cry_lightning.features.MFCC"},
            augment_waveform=[
                {
                    "class_path": "cry_lightning.tasks.augment.WaveformNoise",
                    "init_args": {"folder": str(tones.parent), "sample_rate": 8000, "snr_db": [0.0, 5.0]},
                }
            ],
        ).read_text()
    )
    config["data"]["feature"] = {"class_path": "cry_lightning.features.Waveform", "init_args": {"sample_rate": 8000}}
    path = tmp_path / "noisy.yaml"
    path.write_text(yaml.safe_dump(config))
    run = fit(path, "--trainer.max_epochs=1")
    waveforms = torch.randn(4, 1, 1, 3200)
    run.model.eval()
    clean = run.model.front_end(waveforms.flatten(1))
    assert torch.equal(run.model.embed(waveforms), run.model.encoder(clean))
    run.model.train()
    assert not torch.allclose(run.model.augment_waveform(waveforms.flatten(1)), waveforms.flatten(1))


def test_waveform_augmentation_without_front_end_is_refused(stage):
    noise = {"class_path": "torch.nn.Identity"}
    with pytest.raises(UserError, match="front_end"):
        fit(stage("pretrain", augment_waveform=[noise]))


@pytest.mark.slow
def test_optimizer_has_no_default_that_leaks_into_another(stage, tmp_path):
    """An injected SGD gets SGD's own weight decay, none."""
    run = fit(stage("pretrain"), "--trainer.max_epochs=1")
    assert run.trainer.optimizers[0].param_groups[0]["weight_decay"] == 0
    config = yaml.safe_load(stage("none").read_text())
    del config["model"]["init_args"]["optimisation"]["optimizer"]
    (tmp_path / "none.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"optimisation\.optimizer"):
        fit(tmp_path / "none.yaml")


@pytest.mark.slow
def test_compiled_encoder_gives_the_same_weights_file(stage, tmp_path):
    run = fit(stage("compiled", compile=True), "--trainer.max_epochs=1")
    plain = fit(stage("plain"), "--trainer.max_epochs=1")
    compiled, eager = run.model.state_dict(), plain.model.state_dict()
    assert compiled.keys() == eager.keys()
    for name in eager:
        torch.testing.assert_close(compiled[name], eager[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_two_processes_share_a_fit_and_write_one_table(stage, tmp_path):
    """With 2 gloo processes: same rows in predictions.csv, same scores as one process testing the same checkpoint."""
    config, table = stage("shared"), tmp_path / "runs/tones/shared/predictions.csv"
    content = yaml.safe_load(config.read_text())
    content["trainer"]["logger"] = {"class_path": "lightning.pytorch.loggers.WandbLogger"}
    config.write_text(yaml.safe_dump(content))
    offline = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")} | {"HOME": str(tmp_path)}
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    for command, args in (("fit", two), ("test", two)):
        call = [sys.executable, "-m", "cry_lightning", command, "--config", str(config), *args]
        done = subprocess.run(call, capture_output=True, text=True, env=offline, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
    clips = {path.parent.name: json.loads(path.read_text())["data"] for path in tmp_path.rglob("clips_*.table.json")}
    assert len(clips["test"]) == (pd.read_csv(table)["split"] == "test").sum()  # of both processes, by one
    shared = pd.read_csv(table)
    cli.main(["test", "--config", str(config)])
    alone = pd.read_csv(table)
    pd.testing.assert_frame_equal(shared, alone, rtol=0, atol=1e-6)


def test_lightning_is_told_of_each_figure_once_an_epoch(stage, monkeypatch, tmp_path):
    """Which takes it a millisecond; yet every epoch has the figures of all its steps."""
    told, seen, log, step = [], [], L.LightningModule.log, Classifier.training_step

    def logging(self, name, *args, **more):
        told.append(name)
        log(self, name, *args, **more)

    def stepping(self, batch, number):
        seen.append((step(self, batch, number), len(batch["label"])))
        return seen[-1][0]

    monkeypatch.setattr(L.LightningModule, "log", logging)
    monkeypatch.setattr(Classifier, "training_step", stepping)
    fit(stage("told"), "--data.sampling.batch_size=7")  # the last one is smaller
    of_steps = [name for name in told if name.startswith("train/")]
    assert len(seen) > 8 and Counter(of_steps) == dict.fromkeys(
        ("train/loss", "train/accuracy", "train/uar", "train/f1", "train/lr", "train/grad_norm"), 2
    )
    logged = pd.read_csv(tmp_path / "runs/tones/told/fit/metrics.csv")["train/loss"].dropna()
    n = len(seen) // 2
    for epoch, value in enumerate(logged):
        losses, sizes = zip(*seen[n * epoch : n * epoch + n], strict=True)
        assert value == pytest.approx(np.average([loss.item() for loss in losses], weights=sizes), rel=1e-5)
