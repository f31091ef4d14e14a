"""Small checkpoints for the tests of `export`, without training."""

from pathlib import Path
from typing import Any

import torch

from cry_lightning.export.check import sounds
from cry_lightning.lineage import Lineage, StageRecord
from cry_lightning.tasks.making import maker_of
from cry_lightning.trust.names import Trust

FEATURES = "cry_lightning.features"
ENCODERS = "cry_lightning.encoders"
OWN = Lineage(True, [StageRecord("synthetic", "synthetic", ["0123456789abcdef/01234567"], [], [])])


def named(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


MFCC = named(f"{FEATURES}.MFCC")
RES8 = named(f"{ENCODERS}.Res8", n_maps=3)


def write_checkpoint(
    path: Path,
    encoder: dict[str, Any] = RES8,
    feature: dict[str, Any] = MFCC,
    task: str = "Classifier",
    classes: tuple[str, ...] | None = ("calm", "cry"),
    data: dict[str, Any] | None = None,
    fill=None,
    **model: Any,
) -> Path:
    """A checkpoint of a stage, with the statistics of its normalisation layers as if it was trained on some sounds."""
    torch.manual_seed(0)
    clip = {"clip_s": 0.5, "shift_s": 0.0, "fit": "pad", "cache": {"dtype": "float32"}} | (data or {})
    checkpoint: dict[str, Any] = {
        "hyper_parameters": {"_class_path": f"cry_lightning.tasks.{task}", "encoder": encoder, **model},
        "datamodule_hyper_parameters": {"feature": feature, "corpus": named("x", root="elsewhere/secret"), **clip},
        "lineage": OWN.as_dict(),
    }
    if task != "SVM":
        checkpoint["hyper_parameters"] |= {
            "optimisation": {"optimizer": named("torch.optim.SGD", lr=0.1)},
            "weights": "elsewhere/secret",
        }
    if classes is not None:
        checkpoint["classes"] = list(classes)
    stage = maker_of(checkpoint, Trust())()
    front_end = Trust().made(torch.nn.Module, feature, "feature")
    if fill is not None:
        fill(stage)
    waveforms = torch.from_numpy(sounds(front_end.sample_rate, round(clip["clip_s"] * front_end.sample_rate)))
    with torch.no_grad():
        for _ in range(10):
            stage.train().embed(front_end(waveforms))
    checkpoint["state_dict"] = stage.state_dict()
    torch.save(checkpoint, path)
    return path
