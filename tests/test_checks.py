"""What a stage refuses before it trains: classes of the user's own that would fail later, or silently do nothing."""

import pytest
from torch import nn

from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError
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
