"""What a model was trained on, stage by stage, and whether it was tested on any of it. No torch."""

from cry_lightning.lineage.check import Leakage, Overlap, Status, check, count_shared, refuse_leaky, worst
from cry_lightning.lineage.recorded import Recorded, fingerprint, sound_fingerprint
from cry_lightning.lineage.records import (
    FILE,
    UNKNOWN,
    AnyLineage,
    FoldedLineage,
    Lineage,
    Sounds,
    StageRecord,
    of_checkpoint,
    of_table,
    other_sound,
    parse,
    read,
    subject_fingerprint,
    union,
    without_training,
    write,
)
from cry_lightning.lineage.sketch import Sketch, sketched

__all__ = [
    "FILE",
    "UNKNOWN",
    "AnyLineage",
    "FoldedLineage",
    "Leakage",
    "Lineage",
    "Overlap",
    "Recorded",
    "Sketch",
    "Sounds",
    "StageRecord",
    "Status",
    "check",
    "count_shared",
    "fingerprint",
    "of_checkpoint",
    "of_table",
    "other_sound",
    "parse",
    "read",
    "refuse_leaky",
    "sketched",
    "sound_fingerprint",
    "subject_fingerprint",
    "union",
    "without_training",
    "worst",
    "write",
]
