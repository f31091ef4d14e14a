"""Recordings in which stretches were marked: windows of them, labelled by what was marked, or these stretches."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cry_lightning import annotations, audio
from cry_lightning.annotations.spans import COLUMN, as_column, marked_in
from cry_lightning.audio import warn_once
from cry_lightning.console import UserError, counted
from cry_lightning.corpora.base import Corpus
from cry_lightning.corpora.clips import Clip, Clips
from cry_lightning.files import nfc

OTHER = "other"
HALF = 0.5
UNLABELLED, ACROSS = "intervals without a label", "intervals across an end of a row"


class Intervals(Corpus):
    """The recordings of another corpus, labelled by what is marked in them.

    A clip has the label where at least half of it is marked, and else the label `other`; the column `intervals` holds
    what is marked, for a `Detector`. Without a label, each interval is a clip, and what it is called its label.
    Subjects and columns are those of the corpus.

    Args:
        corpus: the recordings.
        annotations: folder of TextGrids, Audacity labels or Raven tables, called like the recordings or their paths;
            recordings without one are left out. Left out: nothing is marked in any, as in recordings of noise.
        label: of the intervals that count; None: all do.
        tier: of TextGrids with several.
        name: names the run folder and the cache; that of the corpus by default.
        classes: see `Corpus`; for intervals that are clips.
        window_s: see `Corpus`.
        hop_s: see `Corpus`.
        min_active_db: see `Corpus`.
    """

    def __init__(
        self,
        corpus: Corpus,
        annotations: str | Path | None = None,
        label: str | None = "cry",
        tier: str | None = None,
        name: str | None = None,
        classes: dict[str, list[str]] | None = None,
        window_s: float | None = None,
        hop_s: float | None = None,
        min_active_db: float | None = None,
    ) -> None:
        self.collection = corpus.collection
        super().__init__(corpus.root, name or corpus.name, classes, window_s, hop_s, min_active_db)
        if label is None and annotations is None:
            raise UserError("corpus: the labels of intervals are the classes, so `annotations` is needed")
        self.corpus = corpus
        self.annotations = annotations
        self.label = label and nfc(label)
        self.tier = tier

    def prepare(self) -> None:
        """Write the recordings of the corpus if they are synthetic."""
        self.corpus.prepare()

    def path_of(self, clip: Clip) -> Path:
        """The file that holds a clip."""
        return self.corpus.path_of(clip)

    def class_names(self) -> list[str]:
        """The label, then `other`; without a label those of the intervals, as `Corpus` has them."""
        return super().class_names() if self.label is None else [self.label, OTHER]

    def recordings(self) -> list[Clip]:
        """The recordings that have a file of intervals, or these, in the order of the corpus.

        Raises:
            UserError: none has, a file is at fault, or none of its intervals has the label.
        """
        clips = self.corpus.recordings()
        if self.annotations is None:
            return [self._labelled(clip, []) for clip in clips]
        files = annotations.find(self.annotations)
        own = annotations.matched(files, [clip.path for clip in clips])
        if without := [clip.path for clip in clips if clip.path not in own]:
            self.left_out["recordings without a file of intervals"] = len(without)
            of = f"of {len(clips)} recordings"
            which = counted(len(without), f"{of} has no file there and is", f"{of} have no file there and are")
            warn_once(f"{self.annotations}: {which} left out, first {without[0]}")
        self.left_out[UNLABELLED] = self.left_out[ACROSS] = 0
        marked = [one for clip in clips if clip.path in own for one in self._marked(clip, own[clip.path])]
        if self.label is None:
            self._refuse_duplicates(marked)
        if not any(self.label is None or clip.columns[COLUMN] for clip in marked):
            sought = "anything" if self.label is None else repr(self.label)
            raise UserError(
                f"{self.annotations}: none of its {len(files)} files marks {sought} in a recording of"
                f" {self.root}; files are called like recordings, and `label` is that of the intervals that count"
            )
        return marked

    def clips(self, levels_folder: Path = Path("cache")) -> Clips:
        """See `Corpus`.

        Raises:
            UserError: a stretch is marked twice, which would be two clips of one name.
        """
        found = super().clips(levels_folder)
        if self.label is None and (twice := [name for name, n in Counter(found.names).items() if n > 1]):
            one, other, *_ = (clip for clip in found if clip.name == twice[0])
            path = annotations.matched(annotations.find(str(self.annotations)), found.paths)[one.path]
            raise UserError(
                f"{path}: two clips, {one.label!r} and {other.label!r}, go from {one.start_s:g} to"
                f" {one.start_s + (one.duration_s or 0):g} s; remove one interval, or leave its label out by `classes`"
            )
        return found

    def _marked(self, clip: Clip, path: Path) -> list[Clip]:
        """A recording with the intervals of its file, or these; one that cannot be read is for the cache to report."""
        try:
            length_s = audio.info(self.path_of(clip)).duration_s
        except audio.AudioError:
            length_s = None
        found = annotations.read(path, self.tier, length_s, unlabelled=True)
        if self.label is not None:
            ours = annotations.of_label(self.label, found, path)
            return [self._labelled(clip, [(one.start_s, one.end_s) for one in ours])]
        end_s = math.inf if clip.duration_s is None else clip.start_s + clip.duration_s
        there = [one for one in found if one.start_s < end_s and one.end_s > clip.start_s]
        labelled = [one for one in there if one.label]
        inside = [one for one in labelled if clip.start_s <= one.start_s and one.end_s <= end_s]
        self.left_out[UNLABELLED] += len(there) - len(labelled)
        self.left_out[ACROSS] += len(labelled) - len(inside)
        return [replace(clip.cut(one.start_s, round(one.end_s - one.start_s, 6)), label=one.label) for one in inside]

    def _refuse_duplicates(self, marked: list[Clip]) -> None:
        """Refuse rows of the corpus that overlap in an interval, which would be a clip of each."""
        if twice := [one for one, n in Counter((clip.label, clip.name) for clip in marked).items() if n > 1]:
            which = counted(len(twice), "interval is", "intervals are")
            first = "{!r}, {}".format(*twice[0])
            raise UserError(f"{self.root}: {which} in more than one row, first {first}; let no rows overlap there")

    def _labelled(self, clip: Clip, spans: Sequence[tuple[float, float]]) -> Clip:
        """A clip with its label, and with the spans, in seconds of its recording, as a column."""
        length_s = clip.duration_s
        if length_s is None:
            try:
                length_s = audio.info(self.path_of(clip)).duration_s - clip.start_s
            except audio.AudioError:
                length_s = 0.0
        end_s = clip.start_s + length_s
        inside_s = sum(max(0.0, min(end, end_s) - max(begin, clip.start_s)) for begin, end in spans)
        label = self.label if inside_s > 0 and inside_s >= HALF * length_s else OTHER
        return replace(
            clip, label=label, duration_s=length_s or None, columns={**clip.columns, COLUMN: as_column(spans)}
        )

    def _grid(self, clip: Clip, length_s: float) -> Clips:
        if self.label is None:
            return super()._grid(clip, length_s)
        marked = marked_in(clip.path, clip.columns)
        return Clips.of([self._labelled(window, marked) for window in super()._grid(clip, length_s)])
