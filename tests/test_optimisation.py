"""Learning-rate rules and parameter groups."""

import math

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CyclicLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
)

from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.encoders import CNN6
from cry_lightning.encoders.timm_network import TimmNetwork
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.optimisation import Optimisation, layers, parameter_groups, scale_learning_rate, warmup_cosine


def sgd(lr: float = 1.0) -> torch.optim.Optimizer:
    return SGD([nn.Parameter(torch.zeros(2, 2))], lr=lr)


def test_warm_up_is_linear_and_the_rest_half_a_cosine():
    optimizer = sgd()
    schedule = warmup_cosine(optimizer, 4, 12)
    rates = []
    for _ in range(13):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[4:] == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(9)])


def test_learning_rate_scales_with_the_clips_of_a_step():
    optimizer = sgd(0.03)
    scale_learning_rate(optimizer, 128)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.015)


def test_biases_and_normalisation_are_spared_decay():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    decayed, spared = parameter_groups([*module.parameters()], exclude_from_decay=True)
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3)]
    assert len(spared["params"]) == 3
    assert spared["weight_decay"] == 0.0
    (everything,) = parameter_groups([*module.parameters()], exclude_from_decay=False)
    assert len(everything["params"]) == 4


def test_the_encoder_learns_at_a_share_of_the_heads_rate(stage):
    path = stage("slow", optimisation={"encoder_lr_scale": 0.1})
    run = cli.main(["fit", "--config", str(path), "--trainer.max_steps=1", "--trainer.val_check_interval=1"])
    encoder, head = run.trainer.optimizers[0].param_groups
    assert {id(p) for p in encoder["params"]} == {id(p) for p in run.model.encoder.parameters()}
    assert {id(p) for p in head["params"]} == {id(p) for p in run.model.head.parameters()}
    assert (encoder["lr"], head["lr"]) == pytest.approx((0.005, 0.05))


def test_the_layers_of_an_encoder_are_in_the_order_of_its_forward_pass():
    """A part that is a list of parts is several layers; BatchNorm before the blocks is the first."""
    encoder = CNN6(n_mels=40, width=2)
    assert [len(layer) for layer in layers(encoder)] == [2, 3, 3, 3, 3]
    assert layers(encoder)[0][0] is encoder.norm.weight
    assert sum(map(len, layers(encoder))) == len(list(encoder.parameters()))


def test_a_network_within_a_network_has_that_ones_layers():
    assert len(layers(TimmNetwork("resnet18"))) > 5


def test_earlier_layers_learn_more_slowly_and_the_head_learns_first(stage):
    """Five steps an epoch: of ten, the encoder waits for four, and then has a warm-up and a cosine of its own."""
    gentle = {"layer_decay": 0.5, "encoder_lr_scale": 0.1, "head_first": 0.4, "warmup_epochs": 0.4}
    path = stage("gently", optimisation=gentle)
    run = cli.main(["fit", "--config", str(path), "--trainer.max_epochs=2"])
    *encoder, head = run.trainer.optimizers[0].param_groups
    n_layers = len(layers(run.model.encoder))
    assert [group["initial_lr"] for group in encoder] == pytest.approx([0.005 * 0.5**n for n in range(n_layers)])
    assert head["initial_lr"] == 0.05
    *of_encoder, of_head = run.trainer.lr_scheduler_configs[0].scheduler.lr_lambdas
    assert [of_head(step) for step in range(3)] == pytest.approx([0.5, 1, 1])
    assert all([share(step) for step in range(7)] == pytest.approx([0, 0, 0, 0, 0.5, 1, 1]) for share in of_encoder)


def test_while_the_head_learns_alone_nothing_of_the_encoder_moves(stage, monkeypatch):
    """Of five steps three: neither its weights move, nor what its BatchNorm has counted; after that, both do."""
    seen = []

    def remember(self, *_):
        seen.append({name: value.clone() for name, value in self.encoder.state_dict().items()})

    monkeypatch.setattr(Classifier, "on_train_batch_end", remember)
    path = stage("first", optimisation={"head_first": 0.6, "warmup_epochs": 0.2})
    unvalidated = ["--trainer.limit_val_batches=0", "--checkpoint.monitor=null"]
    cli.main(["fit", "--config", str(path), "--trainer.max_epochs=1", *unvalidated])
    first, _, third, fourth, _ = seen
    assert all(torch.equal(first[name], third[name]) for name in first)
    assert not any(torch.equal(third[name], fourth[name]) for name in first if "num_batches" not in name)


def two_rates(scheduler) -> tuple[torch.optim.Optimizer, Optimisation]:
    """An encoder at a tenth of the head's rate, which is 1, and how its schedule is made."""
    groups = [{"params": [nn.Parameter(torch.zeros(2))], "lr": lr} for lr in (0.1, 1.0)]
    return SGD(groups, lr=1.0), Optimisation(SGD, scheduler=scheduler)


@pytest.mark.parametrize(
    ("scheduler", "head"),
    [
        (lambda optimizer: OneCycleLR(optimizer, max_lr=2.0, total_steps=9, cycle_momentum=False), 2.0),
        (lambda optimizer: CyclicLR(optimizer, base_lr=0.5, max_lr=2.0, step_size_up=3, cycle_momentum=False), 2.0),
        (lambda optimizer: CosineAnnealingLR(optimizer, 9), 1.0),
    ],
    ids=["one cycle", "cycles", "cosine"],
)
def test_a_schedule_with_rates_of_its_own_keeps_the_share_of_each_group(scheduler, head):
    optimizer, how = two_rates(scheduler)
    schedule = how.scheduled(optimizer, [1.0, 1.0], None)["scheduler"]
    seen = []
    for _ in range(8):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert [slow for slow, _ in seen] == pytest.approx([0.1 * fast for _, fast in seen])
    assert max(fast for _, fast in seen) == pytest.approx(head, rel=0.01)


def test_a_cycle_in_a_stage_has_the_encoder_at_its_share(stage):
    cycle = {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 0.2, "total_steps": 20}}
    path = stage(
        "cycle",
        optimisation={"scheduler": cycle, "scheduler_interval": "step", "encoder_lr_scale": 0.1, "scale_lr": True},
    )
    run = cli.main(["fit", "--config", str(path), "--trainer.max_epochs=1"])
    encoder, head = run.trainer.optimizers[0].param_groups
    assert (encoder["max_lr"], head["max_lr"]) == pytest.approx((0.02 * 8 / 256, 0.2 * 8 / 256))
    assert encoder["lr"] == pytest.approx(0.1 * head["lr"])


class Always(LRScheduler):
    """A schedule at a rate of its own."""

    def __init__(self, optimizer):
        for group in optimizer.param_groups:
            group["lr"] = 0.3
        super().__init__(optimizer)

    def get_lr(self):
        return self.base_lrs


def test_a_schedule_that_would_undo_the_shares_is_refused():
    optimizer, how = two_rates(Always)
    with pytest.raises(UserError, match=r"^model\.optimisation\.scheduler: Always sets .* undoes encoder_lr_scale"):
        how.scheduled(optimizer, [1.0, 1.0], None)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert how.scheduled(optimizer, rates, None)["interval"] == "epoch"  # nothing was scaled


def test_a_schedule_that_does_not_take_its_arguments_is_refused():
    optimizer, how = two_rates(lambda optimizer: OneCycleLR(optimizer, max_lr=1.0))
    with pytest.raises(UserError, match=r"^model\.optimisation\.scheduler: You must define either total_steps"):
        how.scheduled(optimizer, [1.0, 1.0], None)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau", "init_args": {"mode": "max", "patience": 0}},
        {"class_path": "lightning.pytorch.cli.ReduceLROnPlateau", "init_args": {"monitor": "val/loss"}},
    ],
)
def test_a_plateau_is_that_of_its_metric_or_of_the_checkpoints(stage, scheduler):
    path = stage("plateau", optimisation={"scheduler": scheduler})
    run = cli.main(["fit", "--config", str(path), "--trainer.max_epochs=1"])
    (config,) = run.trainer.lr_scheduler_configs
    assert config.monitor == scheduler["init_args"].get("monitor", "val/uar")
    assert config.scheduler.best == run.trainer.callback_metrics[config.monitor]
    cli.main(["test", "--config", str(path.parent / "runs/tones/plateau/config.yaml")])


@pytest.mark.parametrize(
    ("checkpoint", "named"),
    [
        (None, "needs a metric: set checkpoint.monitor"),
        (ModelCheckpoint(monitor="val/uar", mode="max"), "has the mode min, but val/uar chooses .* by the mode max"),
    ],
)
def test_a_plateau_of_nothing_or_of_what_is_to_rise_is_refused(checkpoint, named):
    optimizer, how = two_rates(ReduceLROnPlateau)
    with pytest.raises(UserError, match=named):
        how.scheduled(optimizer, [0.1, 1.0], checkpoint)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"layer_decay": 0.0}, r"^model\.optimisation\.layer_decay must be above 0"),
        ({"encoder_lr_scale": 1.5}, r"^model\.optimisation\.encoder_lr_scale must be above 0 .*not 1\.5"),
        ({"warmup_epochs": -1}, r"^model\.optimisation\.warmup_epochs must be 0 or more"),
        ({"head_first": 1.0, "warmup_epochs": 0}, r"^model\.optimisation\.head_first must be at least 0"),
        ({"head_first": 0.5}, r"^model\.optimisation\.head_first needs model\.optimisation\.warmup_epochs"),
        ({"scheduler": ConstantLR, "warmup_epochs": 1}, r"^model\.optimisation\.scheduler and .* are two schedules"),
    ],
)
def test_rates_that_make_no_sense_are_refused(wrong, named):
    with pytest.raises(UserError, match=named):
        Optimisation(SGD, **wrong)


def test_a_frozen_encoder_cannot_wait_for_the_head():
    gentle = Optimisation(SGD, head_first=0.5, warmup_epochs=0)
    with pytest.raises(UserError, match=r"head_first needs an encoder that learns: set model\.frozen to false"):
        Classifier(CNN6(n_mels=40, width=2), gentle, frozen=True)


@pytest.mark.slow
def test_a_frozen_encoder_leaves_the_head_alone_to_train(stage):
    path = stage("probe", frozen=True, optimisation={"encoder_lr_scale": 0.1, "exclude_from_decay": True})
    run = cli.main(["fit", "--config", str(path), "--trainer.max_steps=1", "--trainer.val_check_interval=1"])
    assert [group["lr"] for group in run.trainer.optimizers[0].param_groups] == [0.05, 0.05]


@pytest.mark.slow
def test_a_schedule_counted_in_steps_ends_with_them(stage):
    """Five steps an epoch, so one of warm-up is a fifth of an epoch."""
    path = stage("steps", optimisation={"warmup_epochs": 0.2})
    run = cli.main(["fit", "--config", str(path), "--trainer.max_epochs=-1", "--trainer.max_steps=7"])
    assert run.trainer.global_step == 7
    schedule = run.trainer.lr_scheduler_configs[0].scheduler
    assert schedule.lr_lambdas[0](0) == 1.0
    assert schedule.lr_lambdas[0](1) == 1.0
    assert run.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
def test_a_stage_scales_and_schedules_by_its_own_batches(stage):
    """40 training clips in batches of 8, two of them a step: 3 steps an epoch of 16 clips."""
    lars = {"class_path": "timm.optim.Lars", "init_args": {"lr": 0.8, "momentum": 0.9, "weight_decay": 0.1}}
    optimisation = {"optimizer": lars, "warmup_epochs": 1, "scale_lr": True, "exclude_from_decay": True}
    path = stage("lars", optimisation=optimisation)
    run = cli.main(["fit", "--config", str(path), "--trainer.accumulate_grad_batches=2"])
    groups = run.trainer.optimizers[0].param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert groups[0]["initial_lr"] == pytest.approx(0.8 * 16 / 256)
    assert groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)
    assert run.trainer.global_step == 6
