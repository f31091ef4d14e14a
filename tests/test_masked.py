"""Masked prediction: what is hidden stays hidden, what it learns, refuses and hands on."""

import pandas as pd
import pytest
import torch
import yaml
from made import stage_config
from torch import Tensor, nn

from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
from cry_lightning.tasks import MaskedPrediction
from cry_lightning.tasks.optimisation import Optimisation


class Remembers(nn.Module):
    """An encoder that keeps what it was given."""

    num_features = 4

    def forward(self, features: Tensor) -> Tensor:
        self.given = features
        return features.mean((1, 2, 3))[:, None].expand(-1, 4)


class Says(nn.Module):
    """A decoder that has its answer ready."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.answer


def task(**arguments) -> MaskedPrediction:
    torch.manual_seed(0)
    return MaskedPrediction(Remembers(), Optimisation(torch.optim.SGD), bands=5, frames=4, **arguments)


def test_a_view_has_its_share_of_cells_hidden_each_row_its_own():
    stage = task(masked=0.4)
    hidden = stage.draw(torch.zeros(64, 1, 10, 8))
    assert hidden.sum(1).tolist() == [8] * 64
    assert len(hidden.unique(dim=0)) > 60


def test_hidden_cells_are_the_views_mean_and_the_others_are_as_they_were():
    stage, features = task(), torch.randn(6, 1, 10, 8)
    torch.manual_seed(1)
    hidden = stage.draw(features)
    torch.manual_seed(1)
    stage.loss_of(features)
    where = hidden.view(6, 1, 5, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    given = stage.encoder.given
    means = features.mean((1, 2, 3), keepdim=True).expand_as(features)
    torch.testing.assert_close(given[where], means[where])
    torch.testing.assert_close(given[~where], features[~where])


@pytest.mark.parametrize("shape", [(13, 98), (40, 15), (64, 101)])
def test_nothing_of_a_hidden_cell_is_left_where_cells_are_unequal(shape):
    """What is put into a hidden cell, its mean taken off, is nowhere in the levels of the cells that are left."""
    stage = task()
    rows, columns = stage._places(torch.zeros(1, 1, *shape))
    for cell in (0, 7, 19):
        own = (rows[:, None] * 4 + columns == cell).float()[None, None]
        level = stage.levels(own)[0]
        assert level.argmax() == cell and (level < level[cell]).sum() == 19 and len(level.unique()) == 2


def test_the_loss_of_knowing_nothing_is_that_of_the_cells_own_spread_and_of_knowing_all_is_zero():
    stage, features = task(), torch.randn(400, 1, 10, 8)
    levels = stage.levels(features)
    assert levels.mean(1).abs().max() < 1e-5 and (levels.std(1, correction=0) - 1).abs().max() < 1e-5
    for answer, expected in ((torch.zeros_like(levels), 1.0), (levels, 0.0)):
        stage.decoder = Says(answer)
        assert float(stage.loss_of(features)) == pytest.approx(expected, abs=0.03)


def test_silence_has_no_levels_and_no_infinite_loss():
    assert torch.equal(task().levels(torch.zeros(2, 1, 10, 8)), torch.zeros(2, 20))


@pytest.mark.parametrize("wrong", [{"bands": 0}, {"masked": 0.0}, {"masked": 1.0}, {"masked": float("nan")}])
def test_cells_that_cannot_be_hidden_are_refused(wrong):
    with pytest.raises(UserError, match="cannot be hidden"):
        MaskedPrediction(Remembers(), Optimisation(torch.optim.SGD), **wrong)


def test_a_view_of_too_few_frames_is_refused():
    with pytest.raises(UserError, match="10 bands and 3 frames"):
        task().loss_of(torch.zeros(2, 1, 10, 3))


@pytest.mark.slow
def test_it_learns_and_hands_its_encoder_on(tones, tmp_path, stage):
    config = stage_config(tones, tmp_path, "masked", bands=5, frames=4)
    config["model"]["class_path"] = "cry_lightning.tasks.MaskedPrediction"
    config["data"]["subset"] = {"unlabelled": True}
    config["checkpoint"] = {"monitor": "val/loss", "mode": "min"}
    path = tmp_path / "masked.yaml"
    path.write_text(yaml.safe_dump(config))
    run = cli.main(["fit", "--config", str(path), "--trainer.max_epochs=15"])
    logged = pd.read_csv(run.run_folder.path / "fit/metrics.csv").groupby("epoch").first()
    assert logged["val/loss"].iloc[-1] < 0.8 * logged["val/loss"].iloc[0] < 0.8
    assert (logged["val/effective_rank"] > 1).all()
    best = run.run_folder.best
    again = stage("finetune", weights=str(best))
    tuned = cli.main(["fit", "--config", str(again), "--trainer.max_epochs=1", "--trainer.limit_train_batches=0"])
    for name, given in torch.load(best, weights_only=True)["state_dict"].items():
        if name.startswith("encoder."):
            torch.testing.assert_close(tuned.model.state_dict()[name], given)
