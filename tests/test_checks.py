"""What a stage refuses before it trains: classes of the user's own that would fail later, or silently do nothing."""

import pytest
import torch
from torch import nn

import cry_lightning as cry
from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.encoders import Res8
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.base import Stage
from cry_lightning.tasks.optimisation import Optimisation


def fit(config, *args):
    return cli.main(["fit", "--config", str(config), "--trainer.max_epochs=1", *args])


class Forgetful(Stage):
    """A stage that does not keep its arguments."""

    def __init__(self, encoder: nn.Module, optimisation: Optimisation) -> None:
        super().__init__(encoder, optimisation)

    def training_step(self, batch, batch_idx):
        return self.embed(batch["features"]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/uar", 0.5)


def test_a_stage_that_keeps_no_arguments_is_refused(stage, tmp_path):
    path = stage("forgetful")
    path.write_text(path.read_text().replace("cry_lightning.tasks.Classifier", "test_checks.Forgetful"))
    with pytest.raises(UserError, match=r"^Forgetful: its __init__ .* call self\.save_hyperparameters\(\) there"):
        fit(path)
    assert not (tmp_path / "runs/tones/forgetful/best.ckpt").exists()


class Odd(Res8):
    """A network whose embeddings are not what they should be."""

    def __init__(self, makes: str) -> None:
        super().__init__(n_maps=4)
        self.makes = makes

    def forward(self, features):
        found = super().forward(features)
        return {
            "dict": lambda: {"embeddings": found},
            "tuple": lambda: (found, found),
            "maps": lambda: found[..., None, None],
            "frames": lambda: found[:, None],
            "doubles": found.double,
            "wider": lambda: torch.cat([found, found], 1),
            "squeezed": lambda: found.squeeze(),
            "fewer": lambda: found[:, :3] @ found[:, :2],
        }[self.makes]()


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("makes", "told"),
    [
        ("squeezed", "makes (4,) of features (1, 1, 40, 41)"),
        ("fewer", "fails on (1, 1, 40, 41): mat1 and mat2 shapes cannot be multiplied (1x3 and 1x2)"),
        ("doubles", "makes float64 of torch.float32"),
        ("dict", "makes a dict of features (1, 1, 40, 41), where embeddings (B, num_features) are expected: (1, 4)"),
        ("tuple", "makes a tuple of features (1, 1, 40, 41)"),
        ("maps", "makes (1, 4, 1, 1) of features (1, 1, 40, 41)"),
        ("frames", "makes (1, 1, 4) of features (1, 1, 40, 41)"),
        ("wider", "makes (1, 8) of features (1, 1, 40, 41)"),
    ],
)
def test_a_network_without_embeddings_is_refused_before_there_is_a_run(stage, tmp_path, makes, told):
    encoder = {"class_path": "test_checks.Odd", "init_args": {"makes": makes}}
    with pytest.raises(UserError) as refused:
        fit(stage("odd", encoder=encoder))
    assert str(refused.value).startswith(f"model.encoder: Odd {told}")
    assert not (tmp_path / "runs/tones/odd").exists()


class Lazy(nn.Sequential):
    num_features = 4

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.LazyLinear(4))


class Unweighted(nn.Module):
    """A loss that knows no weights of classes."""

    def forward(self, logits, labels):
        return nn.functional.cross_entropy(logits, labels)


@pytest.mark.parametrize(
    ("model", "arguments", "told"),
    [
        ({"encoder": {"class_path": "test_checks.Lazy"}}, (), r"model: encoder\.1\.weight is of a lazy layer"),
        (
            {"loss": {"class_path": "torch.nn.CrossEntropyLoss", "init_args": {"reduction": "none"}}},
            (),
            r"model\.loss: CrossEntropyLoss makes \(3,\) of logits \(3, 2\) and labels \(3,\), where one number",
        ),
        (
            {"loss": {"class_path": "torch.nn.MSELoss"}},
            (),
            r"model\.loss: MSELoss fails on \(3, 2\) and \(3,\): The size of tensor",
        ),
        (
            {"loss": {"class_path": "test_checks.Unweighted"}},
            ("--data.sampling.class_weights=true",),
            "data.sampling.class_weights: Unweighted has no `weight` to be set",
        ),
    ],
)
def test_parts_that_cannot_be_trained_are_refused(stage, model, arguments, told):
    with pytest.raises(UserError, match=f"^{told}"):
        fit(stage("untrainable", **model), *arguments)


def test_a_loss_without_weights_is_one(stage):
    fit(stage("unweighted", loss={"class_path": "test_checks.Unweighted"}))


def test_a_fit_under_inference_mode_is_refused(stage):
    with torch.inference_mode(), pytest.raises(UserError, match=r"^torch\.inference_mode is in force"):
        cry.fit([stage("inferring")])


def test_the_trial_leaves_no_trace(stage, monkeypatch):
    """Neither in what is drawn, nor in what BatchNorm has counted, nor in what is in training."""
    weights, modes = [], []
    for name, on_start in (("tried", Classifier.on_fit_start), ("untried", lambda _: None)):
        monkeypatch.setattr(Classifier, "on_fit_start", on_start)
        run = fit(stage(name, frozen=["conv0"]))
        weights.append(run.model.state_dict())
        modes.append([module.training for module in run.model.modules()])
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert modes[0] == modes[1]
