"""A trained stage as a folder for the Hugging Face hub: what it needs to predict, and a model card."""

import json
from pathlib import Path
from typing import cast

from cry_lightning.console import as_markdown_text
from cry_lightning.export.check import About, Run, TorchOutputs
from cry_lightning.export.graph import WaveformModel
from cry_lightning.files import Checkpoint
from cry_lightning.files.former_names import OF_DATA, regrouped, stage_as_now
from cry_lightning.inference.model import Cutting, Data, TrainedStage
from cry_lightning.tasks.checkpoints import read_checkpoint, write_folder
from cry_lightning.tasks.making import UNTRAINED
from cry_lightning.trust.names import WEIGHTS_OF_TIMM

CARD = "README.md"
OF_RUN = "card.md"  # what `report` says of the test of a run
OF_TRAINING = UNTRAINED | {"weights": None}
PAGE = """---
license: {licence}
library_name: cry_lightning
pipeline_tag: {task}
tags: [audio]
---

# {name}

{what}. It takes sound at {sample_rate} Hz in windows of {window_s:g} s. It is a research tool, not a medical device.
{synthetic}
```python
import cry_lightning as cry

model = cry.load("path/to/this/folder")
{call}
```

- Lineage: {lineage} (`lineage.json` has what each stage was trained on, in hashes: evaluation on any of it is refused)
- Licence of the weights: {stated}
- Trained by {producer}; `config.json` has the network, the front end and the hash of each file
{decision}{tested}"""


def write(trained: TrainedStage, about: About, folder: Path) -> Run:
    """Fill a folder that is there, and empty; returns what runs the model in it."""
    write_folder(folder, public(read_checkpoint(trained.path)), about)
    (folder / CARD).write_text(card(about, trained), encoding="utf-8")
    if trained.reference:
        trained.reference.export(folder)
    again = TrainedStage(folder, trust=trained.trust)
    return TorchOutputs(again, WaveformModel(again))


def public(checkpoint: Checkpoint) -> Checkpoint:
    """What predicting needs of a checkpoint: no optimiser, and no name of a file or folder of this machine."""
    own = stage_as_now(checkpoint["hyper_parameters"].get("_class_path"), checkpoint["hyper_parameters"])
    data = regrouped(checkpoint["datamodule_hyper_parameters"], OF_DATA)
    corpus = data["corpus"].get("init_args", {})
    names = ("classes", "front_end", "CryDataModule", "lineage")
    kept = {name: checkpoint.get(name) for name in names if name in checkpoint}
    needed = {
        "state_dict": checkpoint["state_dict"],
        "hyper_parameters": _without_files({name: OF_TRAINING.get(name, value) for name, value in own.items()}),
        "datamodule_hyper_parameters": {
            **{name: data[name] for name in Data.__annotations__},
            "cache": {"dtype": data["cache"]["dtype"]},
            "corpus": {"init_args": {name: corpus.get(name) for name in Cutting.__annotations__}},
        },
    }
    return cast(Checkpoint, kept | needed)


def _without_files(value: object) -> object:
    """The same table; its networks look for weights nowhere, as `trust` has it."""
    if isinstance(value, list | tuple):
        return [_without_files(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: WEIGHTS_OF_TIMM.get(name, _without_files(one)) for name, one in value.items()}


def card(about: About, trained: TrainedStage) -> str:
    """The model card."""
    classes, encoder = about.get("classes"), type(trained.stage.encoder).__name__
    named = " and ".join(as_markdown_text(name) for name in classes or ())
    licence, results = about["licence"], tested(trained.path, about["checkpoint_sha256"])
    warning = about.get("synthetic", "")
    return PAGE.format(
        licence=json.dumps(licence.lower()) if licence != "not stated" else "unknown",
        task="audio-classification" if classes else "feature-extraction",
        name=f"{encoder} that distinguishes {named}" if classes else f"{encoder}, an encoder of sound",
        what=f"A classifier of {named}" if classes else "An encoder without classes, for embeddings",
        sample_rate=about["sample_rate"],
        window_s=about["window_samples"] / about["sample_rate"],
        call='table = model("recording.wav")  # a row for each window' if classes else 'model.embed("recording.wav")',
        synthetic=f"\n{warning}\n" if warning and warning not in results else "",
        lineage=about["lineage"],
        stated=as_markdown_text(licence),
        producer=about["producer"],
        decision=f"- Chosen on validation windows: `{json.dumps(about['decision'])}`\n"
        if about.get("decision")
        else "",
        tested=results,
    )


def tested(ckpt: Path, digest: str) -> str:
    """Results, subjects and limits, as the card beside a checkpoint has them; empty where it is of another one."""
    place = ckpt.with_name(OF_RUN)
    text = place.read_text(encoding="utf-8", errors="replace") if place.is_file() else ""
    _, _, below_title = text.partition("\n")
    return below_title if digest in text else ""
