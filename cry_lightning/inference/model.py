"""A trained stage, made again from its checkpoint alone."""

import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import instantiate_module

from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.data.front_end import check_front_end
from cry_lightning.errors import UserError
from cry_lightning.features import Feature
from cry_lightning.tasks.base import Stage
from cry_lightning.tasks.weights import read_checkpoint
from cry_lightning.wording import one_line

TASKS = "cry_lightning.tasks."
# What only training uses is not made again: the noise that was mixed in need not be on this machine.
UNTRAINED = {
    "optimizer": {"class_path": "torch.optim.SGD"},
    "scheduler": None,
    "warmup_epochs": None,
    "augment": None,
    "augment_waveform": None,
    "compile": False,
}
LOADED_BY_TIMM = {"pretrained": False, "checkpoint_path": None}
CUTTING = ("window_s", "hop_s", "min_active_db")


class TrainedStage:
    """A network with all that it needs to hear a recording as `test` lets it.

    Args:
        path: checkpoint of a stage.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.

    Raises:
        UserError: the checkpoint is damaged, no stage's, or cannot be made into a network.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        checkpoint = read_checkpoint(path)
        _refuse_foreign(path, checkpoint)
        self.path = path
        self.hyper_parameters: dict[str, Any] = checkpoint["hyper_parameters"]
        self.classes: list[str] | None = checkpoint.get("classes")  # in the order of the logits; None: it tells none
        self.lineage: dict[str, Any] = checkpoint.get("lineage", {"complete": False, "stages": []})
        data, kept = checkpoint["datamodule_hyper_parameters"], checkpoint.get(CryDataModule.__qualname__)
        try:
            self.clip_s: float = data["clip_s"]
            self.feature: Feature = _made(Feature, data["feature"]["class_path"], data["feature"].get("init_args", {}))
            self.fitting = {  # of a clip and its margins, as the cache has them
                "feature": self.feature,
                "clip_s": data["clip_s"] + 2 * data["shift_s"],
                "fit": data["fit"],
                "dtype": data["cache_dtype"],
            }
            self.cutting = _cutting(data["corpus"].get("init_args", {}), self.clip_s)
            self.stage = self._stage(checkpoint["state_dict"])
        except Exception as error:  # classes that are no longer there may fail in any way
            raise UserError(one_line(f"{path}: cannot be made into a network ({error})")) from error
        if kept:
            check_front_end(self.feature, kept["front_end"])
        self.device = _device(device)
        self.stage.to(self.device)

    def _stage(self, state: dict[str, torch.Tensor]) -> Stage:
        given = self.hyper_parameters
        untrained = {name: value for name, value in UNTRAINED.items() if name in given}  # an SVM has none of them
        arguments = given | untrained | _without_download(given["encoder"])
        if self.classes is not None:
            arguments["num_classes"] = len(self.classes)
        stage = _made(Stage, arguments.pop("_class_path"), arguments)
        stage.load_state_dict(state)
        stage.setup("predict")
        return stage.eval()


def _refuse_foreign(path: Path, checkpoint: dict[str, Any]) -> None:
    if "source" in checkpoint:
        raise UserError(
            f"{path}: published weights alone, which do not tell their network; fit a stage with"
            f" model.init_args.weights={path}, and give that stage's best.ckpt"
        )
    task = str(checkpoint.get("hyper_parameters", {}).get("_class_path"))
    if not task.startswith(TASKS) or "feature" not in checkpoint.get("datamodule_hyper_parameters", {}):
        made_by = "" if task == "None" else f" but of {task}"
        raise UserError(f"{path}: not a checkpoint of a stage of cry_lightning{made_by}; give a run's best.ckpt")


def _made(base: type, class_path: str, arguments: dict[str, Any]) -> Any:
    """An instance of a subclass of `base`; jsonargparse makes no other, so a checkpoint cannot name just any class."""
    own = {name: value for name, value in arguments.items() if name != "_instantiator"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is an instance of `nn.Module`.*")  # hyper-parameters that nobody saves
        return instantiate_module(base, {"_class_path": class_path, **own})


def _without_download(encoder: dict[str, Any]) -> dict[str, Any]:
    """The argument `encoder` of a stage; published weights that timm would load are replaced anyhow."""
    arguments = encoder.get("init_args", {})
    unloaded = {name: value for name, value in LOADED_BY_TIMM.items() if name in arguments}
    return {"encoder": {**encoder, "init_args": arguments | unloaded}}


def _cutting(corpus: dict[str, Any], clip_s: float) -> dict[str, float | None]:
    """How long recordings are cut: as the training corpus was, or else into clips."""
    if corpus.get("window_s") is None:
        return {"window_s": clip_s, "hop_s": None, "min_active_db": None}
    return {name: corpus.get(name) for name in CUTTING}


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU here; leave it out, or give cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
