"""What a model was trained on, stage by stage, and whether it was tested on any of it. No torch."""

from cry_lightning.lineage.check import (
    Leakage as Leakage,
    Overlap as Overlap,
    Status as Status,
    check as check,
    count_shared as count_shared,
    refuse_leaky as refuse_leaky,
    worst as worst,
)
from cry_lightning.lineage.recorded import (
    Recorded as Recorded,
    fingerprint as fingerprint,
    sound_fingerprint as sound_fingerprint,
)
from cry_lightning.lineage.records import (
    FILE as FILE,
    NO_FILE as NO_FILE,
    UNKNOWN as UNKNOWN,
    AnyLineage as AnyLineage,
    FoldedLineage as FoldedLineage,
    Lineage as Lineage,
    Sounds as Sounds,
    StageRecord as StageRecord,
    of_checkpoint as of_checkpoint,
    of_table as of_table,
    other_sound as other_sound,
    parse as parse,
    read as read,
    subject_fingerprint as subject_fingerprint,
    union as union,
    without_landmarks as without_landmarks,
    without_training as without_training,
    write as write,
)
from cry_lightning.lineage.sketch import Sketch as Sketch, sketched as sketched
