"""AudioSet: 10 s of YouTube videos, each with several of some 500 labels."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from cry_lightning.corpora.base import Clip
from cry_lightning.corpora.clip_list import ClipList, Row
from cry_lightning.corpora.csvfile import read_text
from cry_lightning.errors import UserError


class AudioSet(ClipList):
    """AudioSet by one of its segment lists; the column `labels` holds all label ids, with commas between them.

    Clips are unlabelled unless `classes` says which labels matter. Then a clip whose labels belong to exactly one class
    gets it, and all others are left out: no single label would be right.

    Args:
        root: folder with the clips.
        clip_list: balanced_train_segments.csv or another of that form.
        class_labels: class_labels_indices.csv, for display names ("Baby cry, infant cry") in `classes`.
        name: names the run folder and the cache.
        classes: new class -> ids ("/t/dd00002") or display names of the labels that belong to it.

    Source: Gemmeke et al. 2017, Audio Set: an ontology and human-labeled dataset for audio events, ICASSP.
    """

    form = "YTID, start_seconds, end_seconds, positive_labels"

    def __init__(
        self,
        root: str | Path,
        clip_list: str | Path,
        class_labels: str | Path | None = None,
        name: str = "audioset",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, clip_list, name, **kwargs)
        self.class_labels = None if class_labels is None else Path(class_labels)

    def row_of(self, fields: list[str]) -> Row:
        """A segment."""
        video, *times_s, labels = fields
        start_s, _ = map(float, times_s)
        return Row(video, start_s, None, {"labels": labels})

    def class_names(self) -> list[str]:
        """The classes in the order of the mapping; none without it."""
        return list(self.classes or [])

    def _with_mapped_labels(self, clips: list[Clip]) -> list[Clip]:
        if not self.classes:
            return clips
        labels_of = [clip.columns["labels"].split(",") for clip in clips]
        class_of = self._class_of_id({label for labels in labels_of for label in labels})
        labelled = []
        for clip, labels in zip(clips, labels_of, strict=True):
            classes = {class_of[label] for label in labels if label in class_of}
            if len(classes) == 1:
                labelled.append(replace(clip, label=classes.pop()))
        return labelled

    def _class_of_id(self, ids: set[str]) -> dict[str, str]:
        """The class of each label id that `classes` names; `ids` are those that the clips have."""
        id_of = self._id_of_display_name() | {label: label for label in ids}
        class_of: dict[str, str] = {}
        for name, labels in (self.classes or {}).items():
            for label in labels:
                if label not in id_of:
                    raise UserError(
                        f"classes: no clip of {self.name} has the label {label!r}; labels are ids, e.g. {min(ids)}, or,"
                        " with class_labels, display names"
                    )
                if class_of.setdefault(id_of[label], name) != name:
                    raise UserError(f"classes: label {label!r} is in two classes, {class_of[id_of[label]]!r}, {name!r}")
        return class_of

    def _id_of_display_name(self) -> dict[str, str]:
        if self.class_labels is None:
            return {}
        rows = csv.DictReader(io.StringIO(read_text(self.class_labels), newline=""))
        try:
            return {row["display_name"]: row["mid"] for row in rows}
        except KeyError as error:
            raise UserError(f"{self.class_labels}: no column {error}; give class_labels_indices.csv") from error
