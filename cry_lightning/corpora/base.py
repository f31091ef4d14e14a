"""What a corpus is: clips of recordings, each with its subject and label; and several corpora as one."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from cry_lightning import audio
from cry_lightning.audio import warn_once
from cry_lightning.console import UserError, counted, progress_bar
from cry_lightning.corpora.clips import Clip, Clips
from cry_lightning.corpora.levels import LevelIndex
from cry_lightning.files import nfc

SHORTEST_S = 0.001  # of a window, and from one to the next
N_HASHES = 2**27
MOST_WINDOWS = 1_000_000  # of one recording: eleven days of it, a window each second


def warn_of_unknown_subjects(root: Path, way_out: str) -> None:
    """Say, once for a corpus, that splits cannot keep its subjects apart."""
    warn_once(
        f"{root}: a recording without a known subject counts as a subject of its own, so that one infant on both sides "
        f"of a split would not be seen; {way_out}"
    )


def check_cutting(window_s: float | None, hop_s: float | None) -> None:
    """Refuse windows that are none, or more of them than anybody means: a slip of the unit would never come to an end.

    Raises:
        UserError: a length is not above 0 s, or below a millisecond.
    """
    for seconds in (window_s, hop_s):
        if seconds is not None and not 0 < seconds < math.inf:  # nor NaN
            raise UserError(f"window_s ({window_s}) and hop_s ({hop_s}) are lengths of time above 0 s")
        if seconds is not None and seconds < SHORTEST_S:
            raise UserError(f"window_s ({window_s}) and hop_s ({hop_s}) are at least {SHORTEST_S} s")


def part_by_hash(name: str, val: float, test: float) -> str:
    """The part of a name by its hash: "val" in the first share of hashes, "test" in the next, else "train".

    It is the same whichever other names there are.
    Source: the division of Speech Commands by speaker; Warden 2018, arXiv:1804.03209, section 7.
    """
    percentage = int(hashlib.sha1(name.encode()).hexdigest(), 16) % N_HASHES * 100 / (N_HASHES - 1)
    return "val" if percentage < 100 * val else "test" if percentage < 100 * (val + test) else "train"


def to_microseconds(seconds: np.ndarray) -> np.ndarray:
    """Times (n,) to the nearest microsecond, as `round` gives them."""
    exact = seconds * 1e6
    nearest = np.rint(exact)
    rounded = nearest / 1e6
    doubtful = abs(abs(exact - nearest) - 0.5) < 0.01  # near halves the product, rounded itself, may mislead
    rounded[doubtful] = [round(each, 6) for each in seconds[doubtful].tolist()]
    return rounded


def labels_of(clips: Iterable[Clip]) -> set[str]:
    """The labels that clips have."""
    return {clip.label for clip in clips if clip.label is not None}


def named_subjects(clips: Clips) -> set[str]:
    """The subjects that are more than the name of their recording."""
    return {clip.subject for clip in clips.used if clip.subject_source != "unknown"}


class Corpus(ABC):
    """Where clips come from.

    Args:
        root: folder (or manifest file) that holds the recordings.
        name: names the run folder and the cache; the collection's name by default.
        classes: new class -> the corpus's own labels that belong to it. Clips with other labels are left out,
            unlabelled clips stay.
        window_s: cut every clip longer than this into whole windows of this many seconds; what is left over at the
            end of it is dropped. Shorter clips stay whole.
        hop_s: from window to window; the window's length by default.
        min_active_db: leave out windows whose level (dB relative to full scale, RMS) is below this.
    """

    collection: str  # the id space of the subjects

    def __init__(
        self,
        root: str | Path,
        name: str | None = None,
        classes: dict[str, list[str]] | None = None,
        window_s: float | None = None,
        hop_s: float | None = None,
        min_active_db: float | None = None,
    ) -> None:
        if window_s is None and (hop_s is not None or min_active_db is not None):
            raise UserError("hop_s and min_active_db say how to cut windows: give window_s too, or set both to null")
        check_cutting(window_s, hop_s)
        self.root = Path(root).expanduser()
        self.name = name or self.collection
        self.classes = classes and {nfc(new): labels for new, labels in classes.items()}
        self.window_s = window_s
        self.hop_s = hop_s
        self.min_active_db = min_active_db
        self.left_out: Counter[str] = Counter()  # of the last listing by `clips`: what and why -> how many
        self._labels: set[str] | None = None  # of the same, before they are mapped

    @abstractmethod
    def recordings(self) -> list[Clip]:
        """Every clip as the collection lists it, with its own labels, in a fixed order."""

    def prepare(self) -> None:  # noqa: B027  most collections are found, not made
        """Make the recordings if they are made, not found; called once, before anything is listed."""

    def path_of(self, clip: Clip) -> Path:
        """The file that holds a clip."""
        return self.root / clip.path

    def files(self, clips: Iterable[Clip]) -> dict[str, Path]:
        """The file of each path that some clips have: those of one path lie in one file."""
        return {path: self.path_of(clip) for path, clip in {clip.path: clip for clip in clips}.items()}

    def class_names(self) -> list[str]:
        """The classes in the order of the mapping, else the labels, sorted, as `clips` last listed them."""
        if self.classes:
            return list(self.classes)
        return sorted(labels_of(self.recordings()) if self._labels is None else self._labels)

    def clips(self, levels_folder: Path = Path("cache")) -> Clips:
        """The clips to work on: classes mapped, long recordings cut into windows.

        Args:
            levels_folder: where the levels of windows are remembered.
        """
        self.left_out.clear()
        listed = self.recordings()
        self._labels = labels_of(listed)
        clips = self._with_mapped_labels(listed)
        self.left_out["clips to which `classes` gives no class"] = len(listed) - len(clips)
        return Clips.of(clips) if self.window_s is None else self._windows(clips, levels_folder)

    def _with_mapped_labels(self, clips: list[Clip]) -> list[Clip]:
        if not self.classes:
            return clips
        known = labels_of(clips)
        class_of: dict[str | None, str | None] = {None: None}
        for name, labels in self.classes.items():
            for label in map(nfc, labels):
                if label not in known:
                    raise UserError(f"classes: {self.name} has no label {label!r}, only {', '.join(sorted(known))}")
                if label in class_of:
                    raise UserError(f"classes: label {label!r} is in two classes, {class_of[label]!r} and {name!r}")
                class_of[label] = name
        return [replace(clip, label=class_of[clip.label]) for clip in clips if clip.label in class_of]

    def _windows(self, clips: list[Clip], levels_folder: Path) -> Clips:
        with LevelIndex(levels_folder / f"{self.name}-levels.json") as levels:
            cut = [self._cut(clip, levels) for clip in progress_bar(clips, "windows")]
        quiet = [clip for clip, windows in zip(clips, cut, strict=True) if not len(windows)]
        if quiet:
            self.left_out["clips, all of whose windows are that quiet"] = len(quiet)
            are_whole = all(clip.start_s == 0 and clip.duration_s is None for clip in clips)
            names = [clip.path if are_whole else clip.name for clip in quiet[:5]]
            shown = f"{', '.join(names)}{' ...' * (len(quiet) > 5)}"
            called = "recording" if are_whole else "clip"
            which = f"{counted(len(quiet), f'{called} is', f'{called}s are')} left out, being nowhere above"
            warn_once(f"{self.name}: {which} {self.min_active_db:g} dB (`min_active_db`): {shown}")
        return Clips.joined(cut)

    def _cut(self, clip: Clip, levels: LevelIndex) -> Clips:
        """A clip's windows that are loud enough; a file that cannot be read stays one clip, for the cache to report."""
        path = self.path_of(clip)
        try:
            length_s = audio.info(path).duration_s - clip.start_s
            if clip.duration_s is not None:
                length_s = min(length_s, clip.duration_s)
            if length_s < audio.SHORTEST_S:  # a failed recorder's, say, and no quiet one
                return Clips.of([clip])
            windows = self._grid(clip, length_s)
            if self.min_active_db is None:
                return windows
            durations = [duration_s or length_s for duration_s in windows.durations]
            spans = [*zip(windows.start_s.tolist(), durations, strict=True)]
        except audio.AudioError:
            return Clips.of([clip])
        try:
            loud = np.array(levels.of(path, spans)) >= self.min_active_db
        except audio.AudioError:  # damaged somewhere: every window is listed, and the cache tells which are bad
            return windows
        self.left_out[f"windows below {self.min_active_db:g} dB (`min_active_db`)"] += int((~loud).sum())
        return windows[loud]

    def _grid(self, clip: Clip, length_s: float) -> Clips:
        window_s = self.window_s or length_s
        hop_s = self.hop_s or window_s
        if length_s < window_s:
            return Clips.of([clip])
        n_windows = 1 + math.floor((length_s - window_s) / hop_s + 1e-6)
        if n_windows > MOST_WINDOWS:
            raise UserError(
                f"{clip.path}: {length_s:g} s are {n_windows} windows, and more than {MOST_WINDOWS}: raise hop_s"
            )
        return Clips.windows(clip, to_microseconds(clip.start_s + np.arange(n_windows) * hop_s), window_s)


class Union(Corpus):
    """Several corpora as one, for instance words, noise and raw cries to pretrain on.

    Classes and windows are those of each member; a subject that is in several members stays one subject.

    Args:
        corpora: the members; every one needs a name of its own, which begins the paths of its clips.
        name: names the run folder and the cache.
        labels: keep the members' labels; without them, all clips are unlabelled.
    """

    collection = "union"

    def __init__(self, corpora: list[Corpus], name: str = "union", labels: bool = True) -> None:
        super().__init__(" + ".join(str(corpus.root) for corpus in corpora), name=name)  # no path, but it tells where
        self.members = {corpus.name: corpus for corpus in corpora}
        self.labels = labels
        if len(self.members) < max(1, len(corpora)):
            names = ", ".join(corpus.name for corpus in corpora) or "there is none"
            raise UserError(f"corpus {name}: each of its corpora needs a name of its own ({names}): set `name`")

    def prepare(self) -> None:
        """Make the recordings of members that are made."""
        for corpus in self.members.values():
            corpus.prepare()

    def recordings(self) -> list[Clip]:
        """Every member's clips, in the order of the members."""
        each = [self._renamed(corpus, Clips.of(corpus.recordings())) for corpus in self.members.values()]
        return list(Clips.joined(each))

    def clips(self, levels_folder: Path = Path("cache")) -> Clips:
        """The clips to work on, mapped and cut as each member says."""
        self.left_out.clear()
        each = [self._renamed(corpus, Clips.of(corpus.clips(levels_folder))) for corpus in self.members.values()]
        return Clips.joined(each)

    def path_of(self, clip: Clip) -> Path:
        """The file that holds a clip."""
        name, _, path = clip.path.partition("/")
        return self.members[name].path_of(replace(clip, path=path))

    def class_names(self) -> list[str]:
        """The members' classes in their order, each once; none without labels."""
        if not self.labels:
            return []
        return list(dict.fromkeys(name for corpus in self.members.values() for name in corpus.class_names()))

    def _renamed(self, corpus: Corpus, clips: Clips) -> Clips:
        """A member's clips as they are called here, without their labels where none are kept."""
        for what, n in corpus.left_out.items():
            self.left_out[f"{what}, of {corpus.name}"] = n
        return clips.replaced(
            lambda clip: replace(clip, path=f"{corpus.name}/{clip.path}", label=clip.label if self.labels else None)
        )
