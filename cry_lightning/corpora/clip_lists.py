"""Corpora that are lists of clips of online videos: AudioSet and VGGSound."""

import csv
import io
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from cry_lightning.audio import warn_once
from cry_lightning.console import UserError
from cry_lightning.corpora.base import Corpus
from cry_lightning.corpora.clips import Clip
from cry_lightning.corpora.listing import find_recordings
from cry_lightning.files import read_text

# A file's name without its extension, as the downloaders in use give it: the 11 characters of the video, by choice
# after a Y (a leading dash would be an option to many a program), then by choice the clip's start in s or ms, and end.
STEM = re.compile(r"Y?(?P<video>[\w-]{11})(?:[_-](?P<start>\d+(?:\.\d+)?)(?:[_-]\d+(?:\.\d+)?)?)?", re.ASCII)


class Row(NamedTuple):
    """One line of a list."""

    video: str
    start_s: float
    label: str | None
    columns: dict[str, str]


class ClipList(Corpus):
    """Listed clips, each in a file of its own, already cut, of any container, at any depth of a folder.

    A file is named by its video, or by the video and the clip's start (`ID_30.wav`, `ID_000030.mp4`, `ID_30000.flac`,
    `YID.wav`, `ID_30.000_40.000.wav`); without the start it serves only where the list has one clip of that video.
    Of several files for one clip the first in the order of their paths is taken; clips without a file are left out.
    The subject is the video, in one id space for all such lists.

    Args:
        root: folder with the clips.
        clip_list: the CSV file.
        name: names the run folder and the cache.
    """

    collection = "youtube"
    form: str  # of a line, in words

    def __init__(self, root: str | Path, clip_list: str | Path, name: str, **kwargs: Any) -> None:
        super().__init__(root, name=name, **kwargs)
        self.clip_list = Path(clip_list)

    @abstractmethod
    def row_of(self, fields: list[str]) -> Row:
        """What a line's fields say.

        Raises:
            ValueError: they are not of this form.
        """

    def recordings(self) -> list[Clip]:
        """One clip for each line whose file is there, in the order of the list.

        Raises:
            UserError: the list or the folder cannot be read, or none of the files is there.
        """
        rows = list({(row.video, row.start_s): row for row in self._rows()}.values())
        if not rows:
            raise UserError(f"{self.clip_list}: lists no clip; its lines are `{self.form}`")
        of_video = Counter(row.video for row in rows)
        paths = self._paths()
        clips = []
        for video, start_s, label, columns in rows:
            whole = None if of_video[video] > 1 else paths.get((video, None))
            path = paths.get((video, start_s)) or paths.get((video, round(1000 * start_s))) or whole
            if path:
                subject = f"{self.collection}:{video}"
                clips.append(Clip(path, subject, label, columns=columns, subject_source="stand-in"))
        if not clips:
            expected = f"{rows[0].video}_{rows[0].start_s:g}.wav"
            raise UserError(f"{self.root}: holds none of the clips of {self.clip_list}; the first is e.g. {expected}")
        if missing := len(rows) - len(clips):
            self.left_out[f"clips of {self.clip_list} without a file"] = missing
            warn_once(f"{self.clip_list}: {missing} of {len(rows)} clips are not in {self.root} and left out")
        return clips

    def _rows(self) -> Iterator[Row]:
        reader = csv.reader(io.StringIO(read_text(self.clip_list), newline=""), skipinitialspace=True, strict=True)
        try:
            for fields in reader:
                if fields and not fields[0].startswith("#"):
                    yield self.row_of(fields)
        except (ValueError, csv.Error) as error:
            raise UserError(f"{self.clip_list}: line {reader.line_num} is not of the form `{self.form}`") from error

    def _paths(self) -> dict[tuple[str, float | None], str]:
        """Path of each file by its video and start: one walk of the folder, nothing is opened."""
        paths: dict[tuple[str, float | None], str] = {}
        for path in find_recordings(self.root):
            if name := STEM.fullmatch(path.rpartition("/")[2].rpartition(".")[0]):
                paths.setdefault((name["video"], float(name["start"]) if name["start"] else None), path)
        return paths


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


class VGGSound(ClipList):
    """VGGSound by its list, vggsound.csv; the column `split` is the list's own, train or test.

    Args:
        root: folder with the clips.
        clip_list: vggsound.csv.
        name: names the run folder and the cache.

    Source: Chen et al. 2020, VGGSound: a large-scale audio-visual dataset, ICASSP.
    """

    form = "YouTube id, start in seconds, label, split"

    def __init__(self, root: str | Path, clip_list: str | Path, name: str = "vggsound", **kwargs: Any) -> None:
        super().__init__(root, clip_list, name, **kwargs)

    def row_of(self, fields: list[str]) -> Row:
        """A clip."""
        video, start_s, label, split = fields
        return Row(video, float(start_s), label, {"split": split})
