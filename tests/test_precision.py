"""The precision of a training: by the hardware, kept for as long as a run goes on, and full in tests."""

import copy
import signal
from functools import partial

import pytest
import torch
import yaml
from made import stage_config

from cry_lightning.callbacks.dashboard import Figures
from cry_lightning.cli import stage as cli
from cry_lightning.cli.precision import AUTO, FULL, MIXED, automatic, check_stated, of_test
from cry_lightning.cli.runfolder import RunFolder, differences
from cry_lightning.console import Interrupted, UserError
from cry_lightning.encoders import EfficientAT, Res8
from cry_lightning.studies import engine
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.optimisation import Optimisation


@pytest.fixture
def processor(monkeypatch):
    """Lets torch find these instructions in the processor, and no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    def has(*instructions: str) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))

    return has


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [((), FULL), (("avx2", "avx512_f"), FULL), (("amx_bf16",), MIXED), (("avx512_bf16",), MIXED)],
)
def test_processor_chooses(processor, instructions, expected):
    processor(*instructions)
    assert automatic("auto")[0] == automatic("cpu")[0] == expected


@pytest.mark.parametrize("has", [True, False])
def test_gpu_chooses(processor, monkeypatch, has):
    processor(*(() if has else ("amx_bf16",)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has and not including_emulation)
    assert automatic("auto")[0] == automatic("gpu")[0] == (MIXED if has else FULL)
    assert automatic("cpu")[0] == (FULL if has else MIXED)  # whatever GPU there is
    assert automatic("tpu")[0] == FULL


@pytest.mark.parametrize(("frozen", "expected"), [(False, FULL), (True, MIXED)])
def test_trained_depthwise_convolutions_are_in_full_precision_on_a_processor(processor, frozen, expected):
    processor("amx_bf16")
    stage = Classifier(EfficientAT(0.1), Optimisation(partial(torch.optim.SGD, lr=0.1)), frozen=frozen)
    assert automatic("cpu", stage)[0] == expected
    assert automatic("cpu", Classifier(Res8(4), Optimisation(partial(torch.optim.SGD, lr=0.1))))[0] == MIXED


def test_apple_gpu_is_left_in_full_precision(processor, monkeypatch):
    processor("amx_bf16")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert automatic("auto")[0] == FULL


def test_precisions_that_nothing_would_be_trained_in_are_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for accelerator in ("cpu", "auto"):
        for precision in (16, "16-mixed"):
            with pytest.raises(UserError, match=f"{precision} is for GPUs; here give bf16-mixed"):
                check_stated(precision, accelerator, by_gradients=True)
    check_stated("16-mixed", "gpu", by_gradients=True)
    for precision in ("64-true", "bf16-true"):
        check_stated(precision, "cpu", by_gradients=True)
        with pytest.raises(UserError, match=f"not trained by gradients has its own; leave {precision} out"):
            check_stated(precision, "cpu", by_gradients=False)
    check_stated("32", "cpu", by_gradients=False)


def test_a_test_is_in_full_precision_unless_its_command_states_another():
    for precision in (AUTO, "32", FULL, MIXED, "bf16-true", "64-true"):
        assert of_test(precision, by_command=False) == FULL
    assert [of_test(one, by_command=True) for one in (AUTO, MIXED, "64-true")] == [FULL, MIXED, "64-true"]


def test_runs_from_before_there_was_auto_are_the_same_runs():
    def of(precision):
        return {"trainer": {"precision": precision}}

    assert not differences(of(None), of(FULL)) and not differences(of(32), of("32"))
    assert not differences({"stages": {"0": of(None)}}, {"stages": {"0": of(FULL)}})
    assert differences(of(None), of(MIXED)) == ["trainer.precision"]


@pytest.mark.slow
def test_a_run_keeps_the_precision_that_it_began_in(tones, tmp_path, processor, caplog):
    """Begun on a processor with bfloat16, gone on with and tested on one without."""
    config = stage_config(tones, tmp_path)
    path, folder = tmp_path / "pretrain.yaml", tmp_path / "runs/tones/pretrain"
    config["trainer"]["max_epochs"] = 1
    path.write_text(yaml.safe_dump(config))
    processor("amx_bf16")
    caplog.set_level("INFO")
    begun = cli.main(["fit", "--config", str(path)])
    assert "precision: bf16-mixed, the processor has bfloat16; --trainer.precision sets another" in caplog.messages
    assert begun.trainer.precision == stated(folder) == MIXED
    assert torch.load(folder / "last.ckpt", weights_only=True)["precision"] == MIXED
    assert begun.model.encoder(torch.zeros(1, 1, 40, 41)).dtype == torch.float32  # weights are

    processor()
    longer = ["--trainer.max_epochs=2", "--ckpt_path", str(folder / "last.ckpt")]
    assert cli.main(["fit", "--config", str(path), *longer]).trainer.precision == stated(folder) == MIXED
    assert "precision: bf16-mixed, as the run began; --trainer.precision sets another" in caplog.messages
    with pytest.raises(UserError, match=r"holds a run with another config \(trainer.precision\)"):
        cli.main(["fit", "--config", str(path), *longer, "--trainer.precision=32"])
    run = ["test", "--config", str(folder / "config.yaml")]
    assert cli.main(run).trainer.precision == FULL
    assert cli.main([*run, "--trainer.precision=bf16-mixed"]).trainer.precision == MIXED


def test_a_fit_that_overwrites_keeps_the_precision_that_it_began_in(tones, tmp_path, processor, monkeypatch, caplog):
    """Stopped on a processor with bfloat16, queued again on one without."""
    path, folder = tmp_path / "pretrain.yaml", tmp_path / "runs/tones/pretrain"
    path.write_text(yaml.safe_dump(stage_config(tones, tmp_path)))
    args = ["fit", "--config", str(path), "--overwrite=true", "--trainer.max_epochs=1"]
    processor("amx_bf16")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(Figures, "on_train_batch_end", lambda *_: signal.raise_signal(signal.SIGTERM), raising=False)
        cli.main(args)
    processor()
    assert RunFolder(folder).precision((folder / "config.yaml").read_text()) == MIXED
    assert RunFolder(folder).precision((folder / "config.yaml").read_text() + "other: 1\n") is None
    caplog.set_level("INFO")
    assert cli.main(args).trainer.precision == stated(folder) == MIXED
    assert f"{folder}: goes on from its last.ckpt" in caplog.text


def test_a_finished_run_from_before_is_the_same_run(pretrained, tmp_path, processor):
    config = pretrained.with_name("config.yaml")
    before = yaml.safe_load(config.read_text())
    assert before["trainer"]["precision"] == FULL  # on this processor, or stated so by the test
    before["trainer"]["precision"] = None
    config.write_text("# python -m cry_lightning fit\n" + yaml.safe_dump(before))
    given = tmp_path / "given.yaml"
    given.write_text(yaml.safe_dump(copy.deepcopy(before)))
    processor("amx_bf16")
    with pytest.raises(UserError, match="holds a finished run of this very config"):
        cli.main(["fit", "--config", str(given)])
    with pytest.raises(UserError, match=r"another config \(trainer.precision\)"):
        cli.main(["fit", "--config", str(given), "--trainer.precision=bf16-mixed"])


@pytest.mark.slow
def test_a_checkpoint_is_gone_on_with_in_its_own_precision(pretrained, tmp_path, processor):
    processor("amx_bf16")
    given = yaml.safe_load(pretrained.with_name("config.yaml").read_text())
    given["trainer"] |= {"precision": "auto", "max_epochs": given["trainer"]["max_epochs"] + 1}
    path = tmp_path / "given.yaml"
    path.write_text(yaml.safe_dump(given | {"runs": str(tmp_path / "elsewhere"), "data": given["data"]}))
    ckpt = ["--ckpt_path", str(pretrained.with_name("last.ckpt"))]
    assert cli.main(["fit", "--config", str(path), *ckpt]).trainer.precision == FULL


def test_a_study_trains_in_the_precision_that_it_records(pretrained, tmp_path, processor, monkeypatch):
    given = yaml.safe_load(pretrained.with_name("config.yaml").read_text())
    given["trainer"]["precision"] = "auto"
    path = tmp_path / "given.yaml"
    path.write_text(yaml.safe_dump(given))
    processor("amx_bf16")  # the finished run in the folder of this name is of 32 bits
    study = engine.read_study(engine.StageConfig(str(path)))
    assert study.config["trainer"]["precision"] == MIXED
    processor()  # a fold is trained on another machine
    asked = []
    monkeypatch.setattr(engine.cli, "main", lambda arguments, **_: asked.append(arguments))
    engine.train(study, {}, tmp_path / "runs/tones/fold", {})
    assert f"--trainer.precision={MIXED}" in asked[0]


def stated(folder) -> str:
    return yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["precision"]
