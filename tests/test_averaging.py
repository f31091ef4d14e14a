"""Weight averaging by Lightning's callback: the average is what is validated, chosen, tested and handed on."""

import pytest
import torch
import yaml
from conftest import stage_config

from cry_lightning import cli

AVERAGED = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}}


@pytest.mark.slow
def test_a_run_of_averaged_weights_is_resumed_and_tested_like_any_other(tones, tmp_path, recwarn):
    config = stage_config(tones, tmp_path, "averaged")
    config["trainer"] |= {"callbacks": [AVERAGED], "max_epochs": 4}
    path = tmp_path / "averaged.yaml"
    path.write_text(yaml.safe_dump(config))
    whole = cli.main(["fit", "--config", str(path), "--checkpoint.monitor=null"]).run_folder
    kept = torch.load(whole.best, weights_only=True)
    assert any(not torch.equal(kept["state_dict"][name], value) for name, value in kept["current_model_state"].items())
    cli.main(["test", "--config", str(whole.path / "config.yaml")])
    table = (whole.path / "predictions.csv").read_text()
    half = ["fit", "--config", str(path), "--checkpoint.monitor=null", "--name=halves"]
    cli.main([*half, "--trainer.max_epochs=2"])
    resumed = cli.main([*half, f"--ckpt_path={tmp_path / 'runs/tones/halves/last.ckpt'}"]).run_folder
    again = torch.load(resumed.best, weights_only=True)
    for name, value in kept["state_dict"].items():
        torch.testing.assert_close(again["state_dict"][name], value, rtol=0, atol=0)
    cli.main(["test", "--config", str(resumed.path / "config.yaml")])
    assert (resumed.path / "predictions.csv").read_text() == table
    assert not [one for one in recwarn if "WeightAveraging" in str(one.message)]
