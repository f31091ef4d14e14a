"""By which settings the models of a run were trained, and what it fuses, as files of its folder and others tell."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from cry_lightning.commands.configs import OF_RUN
from cry_lightning.files import Json, sha256
from cry_lightning.files.former_names import as_now
from cry_lightning.lineage import Lineage

CROSS_VALIDATION = "cross_validation.json"  # what is cross-validated in a folder


def config_in(folder: Path) -> Mapping[str, object]:
    """The config.yaml of a run folder; empty where it has none that can be read."""
    try:
        found = yaml.safe_load((folder / OF_RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return as_now(found) if isinstance(found, dict) else {}


def of_folds(cross_validation: Json) -> Mapping[str, object]:
    """The config of the last stage of a cross-validation, its division that into folds; empty where there is none."""
    stages, scheme = cross_validation.get("stages"), cross_validation.get("scheme")
    last = list(stages.values())[-1] if isinstance(stages, dict) and stages else None
    if not isinstance(last, dict) or not isinstance(scheme, dict):
        return {}
    config = dict(as_now(last))
    data = config.get("data")
    split = data.get("split") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(split, dict):
        return config
    kept = {key: split.get(key) for key in ("val", "shares_of") if key == "val" or key in split}
    kept = split if set(scheme) == {"seeds"} else kept  # seeds alone train one division again
    return config | {"data": data | {"split": kept | scheme}}


def of_checkpoint(folder: Path, model: Lineage) -> Mapping[str, object]:
    """The config beside the checkpoint that was tested, where that is among the runs beside this one; else empty."""
    if not (model.stages and model.checkpoint):
        return {}
    trained_in = folder.resolve().parent.parent / model.stages[-1].corpus / model.stages[-1].stage
    try:
        found = any(path.is_file() and sha256(path) == model.checkpoint for path in trained_in.glob("*.ckpt"))
    except (OSError, ValueError):  # a lineage may come from anybody, and name any folder
        return {}
    return config_in(trained_in) if found else {}
