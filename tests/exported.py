"""Small checkpoints for the tests of `export`, without training."""

from pathlib import Path
from typing import Any

import numpy as np
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


def fill_svm(stage) -> None:
    """Machines of 20 support vectors."""
    rng = np.random.default_rng(0)
    d, m, s = stage.num_features, 3, 20
    sizes = {"vectors": (s, d), "dual": (m, s), "intercept": (m,), "slope": (m,), "offset": (m,)}
    numbers = {name: rng.standard_normal(size) for name, size in sizes.items()}
    stage.head.take({"mean": np.zeros(d), "scale": np.ones(d), "gamma": 1 / d, "calibrated": 1.0, **numbers})


NETWORKS = {  # encoder, feature, and what else of the stage: each network behind its own front end, and others
    "res8-mfcc": (named(f"{ENCODERS}.Res8"), named(f"{FEATURES}.MFCC"), {"data": {"clip_s": 1.0}}),
    "cnn6-logmel-relative": (
        named(f"{ENCODERS}.CNN6", n_mels=40, width=8),
        named(f"{FEATURES}.LogMel"),
        {"normalize": named("cry_lightning.tasks.RelativeLevel"), "data": {"shift_s": 0.1, "fit": "repeat"}},
    ),
    "cnn14-fbank-mean": (
        named(f"{ENCODERS}.CNN14", n_mels=80),
        named(f"{FEATURES}.Fbank"),
        {"normalize": named("cry_lightning.tasks.MeanSubtraction")},
    ),
    "vggish": (named(f"{ENCODERS}.VGGish"), named(f"{FEATURES}.VGGishLogMel"), {"data": {"clip_s": 0.975}}),
    "statistics-vggish-z": (
        named(f"{ENCODERS}.Statistics", n_bands=64),
        named(f"{FEATURES}.VGGishLogMel", pre_emphasis=0.97, z_score=True),
        {"data": {"shift_s": 0.1, "fit": "crop"}},
    ),
    "efficientat-probe": (
        named(f"{ENCODERS}.EfficientAT", width_mult=0.4),
        named(f"{FEATURES}.EfficientATLogMel"),
        {"head": {"class_path": "cry_lightning.tasks.heads.ProbeHead"}, "data": {"clip_s": 1.0}},
    ),
    "resnet50-picture": (
        named(f"{ENCODERS}.timm_network.TimmNetwork", model_name="resnet50"),
        named(f"{FEATURES}.spectrogram.Spectrogram"),
        {"normalize": named("cry_lightning.tasks.picture.ColourMap"), "data": {"clip_s": 1.0}},
    ),
    "resnet18-mfcc": (
        {"class_path": "timm.create_model", "init_args": {"model_name": "resnet18", "num_classes": 0, "in_chans": 1}},
        named(f"{FEATURES}.MFCC"),
        {"loss": named("torch.nn.MultiMarginLoss")},
    ),
    "small-cnn-waveform": (
        named(f"{ENCODERS}.CNN6", n_mels=40, width=4),
        named(f"{FEATURES}.Waveform"),
        {"front_end": named(f"{FEATURES}.LogMel"), "data": {"shift_s": 0.1, "cache": {"dtype": "float16"}}},
    ),
    "svm-flatten": (
        named(f"{ENCODERS}.Flatten", num_features=40 * 51),
        named(f"{FEATURES}.MFCC"),
        {"task": "SVM", "classes": ("a", "b", "c"), "fill": fill_svm},
    ),
    "simclr-res8": (
        named(f"{ENCODERS}.Res8", n_maps=5),
        named(f"{FEATURES}.MFCC"),
        {"task": "SimCLR", "classes": None},
    ),
}
