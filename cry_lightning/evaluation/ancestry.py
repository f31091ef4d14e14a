"""Whose sound a fused run has learned from: that of all its members, and what was learned to fuse them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from cry_lightning.evaluation.fingerprints import fingerprint
from cry_lightning.evaluation.fusion import Fused
from cry_lightning.evaluation.members import FOLD, Members

Lineage = dict[str, Any]
NOTHING_KNOWN: Lineage = {"complete": False, "stages": [], "test_clips": {}}


def of_fold(lineage: Lineage | None, repeat: str, fold: str) -> Lineage:
    """What a run's lineage tells of the model of one fold."""
    if lineage is None or "folds" not in lineage:
        return lineage or NOTHING_KNOWN
    return next((one for one in lineage["folds"] if (one["repeat"], one["fold"]) == (repeat, fold)), NOTHING_KNOWN)


def union(lineages: Iterable[Lineage]) -> Lineage:
    """All stages and tested clips of several lineages, as complete as the least complete of them."""
    lineages = list(lineages)
    stages: list[dict[str, Any]] = []
    for lineage in lineages:
        stages += [stage for stage in lineage["stages"] if stage not in stages]  # members may share a pretraining
    return {
        "complete": all(lineage["complete"] for lineage in lineages),
        "stages": stages,
        "uncalibrated": any(lineage.get("uncalibrated", False) for lineage in lineages),
        "test_clips": {clip: content for lineage in lineages for clip, content in lineage["test_clips"].items()},
    }


def fused_lineage(members: Members, here: np.ndarray, fused: Fused, stage: str) -> Lineage:
    """The lineage of one fused fold, whose rows are `here` (N,).

    What stacking was fitted to is training data. Where that is other folds' tests, the models of those folds, which
    scored them, are ancestors too.
    """
    rows = members.rows
    folds = rows.loc[fused.taught | here, FOLD].drop_duplicates().itertuples(index=False)
    lineage = union(of_fold(one, repeat, fold) for repeat, fold in folds for one in members.lineages)
    content = lineage["test_clips"]
    if fused.taught.any() or fused.chose.any():
        corpus = lineage["stages"][-1]["corpus"] if lineage["stages"] else "unknown"
        own = {
            "stage": stage,
            "corpus": corpus,
            "subjects": subjects(rows[fused.taught]),
            "clips": sounds(rows[fused.taught], content),
            "validation_subjects": subjects(rows[fused.chose]),
            "validation_clips": sounds(rows[fused.chose], content),
        }
        lineage["stages"].append(own)
    if fused.taught.any() or fused.temperatures is not None:
        lineage["uncalibrated"] = False  # either makes probabilities of mere scores
    lineage["test_clips"] = {clip: content[clip] for clip in rows["clip"][here] if clip in content}
    return lineage


def subjects(rows: pd.DataFrame) -> list[str]:
    """Fingerprints of the subjects of some rows, sorted."""
    return sorted(fingerprint(subject) for subject in rows["subject"].unique())


def sounds(rows: pd.DataFrame, content: dict[str, str]) -> list[str]:
    """Fingerprints of the clips of some rows, sorted; `content` is that of each clip, where it is known."""
    return sorted({content[clip] for clip in rows["clip"] if clip in content})
