"""Weight averaging by Lightning's callback: the average is what is validated, chosen, tested and handed on."""

import pytest
import torch
import yaml
from made import stage_config

from cry_lightning.cli import stage as cli
from cry_lightning.console import UserError

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


@pytest.mark.slow
def test_averages_that_begin_late_begin_with_the_upstream_encoder_and_any_head(tones, tmp_path, pretrained_once):
    upstream = pretrained_once / "tones/pretrain/best.ckpt"
    head = {"class_path": "cry_lightning.tasks.heads.ProbeHead"}
    config = stage_config(tones, tmp_path, "late", weights=str(upstream), frozen=True, head=head)
    late = {**AVERAGED, "init_args": {"decay": 0.9, "update_starting_at_epoch": 1}}
    config["trainer"] |= {"callbacks": [late], "max_epochs": 1}
    config["data"]["sampling"] = {"batch_size": 8, "class_weights": True}
    path = tmp_path / "late.yaml"
    path.write_text(yaml.safe_dump(config))
    kept = torch.load(cli.main(["fit", "--config", str(path)]).run_folder.best, weights_only=True)
    given = torch.load(upstream, weights_only=True)["state_dict"]
    for name in given:
        if name.startswith("encoder."):
            torch.testing.assert_close(kept["state_dict"][name], given[name])


def test_averages_without_the_head_are_refused(tones, tmp_path):
    config = stage_config(tones, tmp_path, "swa")
    swa = {"class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging", "init_args": {"swa_lrs": 0.01}}
    config["trainer"] |= {"callbacks": [swa]}
    path = tmp_path / "swa.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"take lightning\.pytorch\.callbacks\.EMAWeightAveraging"):
        cli.main(["fit", "--config", str(path)])
