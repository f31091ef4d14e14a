"""What a fused run was trained on: what all its members were, and what was used to fuse them."""

from dataclasses import replace

import numpy as np
import pandas as pd

from cry_lightning.evaluation.fusion import Fused
from cry_lightning.evaluation.members import FOLD, Members
from cry_lightning.lineage import UNKNOWN, Lineage, StageRecord, fingerprint, union


def fused_lineage(members: Members, here: np.ndarray, fused: Fused, stage: str) -> Lineage:
    """The lineage of one fused fold, whose rows are `here` (N,).

    What stacking was fitted to is training data. Where that is other folds' tests, the models of those folds, which
    scored them, are ancestors too.
    """
    rows = members.rows
    folds = rows.loc[fused.taught | here, FOLD].drop_duplicates().itertuples(index=False)
    lineage = union((one or UNKNOWN).of_fold(repeat, fold) for repeat, fold in folds for one in members.lineages)
    content = lineage.test_clips
    stages = lineage.stages
    if fused.taught.any() or fused.chose.any():
        own = StageRecord(
            stage=stage,
            corpus=stages[-1].corpus if stages else "unknown",
            subjects=subjects(rows[fused.taught]),
            clips=sounds(rows[fused.taught], content),
            validation_subjects=subjects(rows[fused.chose]),
            validation_clips=sounds(rows[fused.chose], content),
        )
        stages = [*stages, own]
    calibrates = fused.taught.any() or fused.temperatures is not None  # either makes probabilities of mere scores
    return replace(
        lineage,
        stages=stages,
        uncalibrated=lineage.uncalibrated and not calibrates,
        test_clips={clip: content[clip] for clip in rows["clip"][here] if clip in content},
    )


def subjects(rows: pd.DataFrame) -> list[str]:
    """Fingerprints of the subjects of some rows, sorted."""
    return sorted(fingerprint(subject) for subject in rows["subject"].unique())


def sounds(rows: pd.DataFrame, content: dict[str, str]) -> list[str]:
    """Fingerprints of the clips of some rows, sorted; `content` is that of each clip, where it is known."""
    return sorted({content[clip] for clip in rows["clip"] if clip in content})
