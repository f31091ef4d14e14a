"""The most confident mistakes of a run, each to be looked at and listened to."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.image import imsave

from cry_lightning import audio
from cry_lightning.console import clip_in_words
from cry_lightning.data.cachefile import UNREADABLE, CacheFile
from cry_lightning.data.inventory import recordings_of
from cry_lightning.evaluation.drawing import thumbnails
from cry_lightning.evaluation.predictions import score_columns
from cry_lightning.evaluation.run import Run
from cry_lightning.lineage import sound_fingerprint, without_landmarks
from cry_lightning.report.provenance import Provenance

MOST_BYTES = 700_000  # of sound in all, so that the page stays small enough to be sent
MOST = 20


@dataclass(frozen=True)
class Cached:
    """What a cache holds of some clips.

    Args:
        feature: class of the front end.
        features: (F, T) of each clip.
        content: of each clip, the hash of its recording, and the stretch of it.
        folder: of the cache.
    """

    feature: str
    features: Mapping[str, np.ndarray]
    content: Mapping[str, str]
    folder: Path


def search(tested: Mapping[str, str], data: Mapping[str, object]) -> Cached | None:
    """The cache that holds most of some clips, of the run's own front end if there is one; None if none holds any.

    Args:
        tested: clip -> its sound, as of `sound_fingerprint`: a clip of this name but of another sound does not count.
        data: settings of the run's data.
    """
    cache = data.get("cache")
    folder = cache.get("folder") if isinstance(cache, dict) else None
    if not folder:
        return None
    own = data.get("feature")
    own_class = str(own.get("class_path") if isinstance(own, dict) else own).rpartition(".")[2]
    found = [_held(path, tested) for path in sorted(Path(str(folder)).glob("*.h5"))]
    usable = [one for one in found if one is not None]
    return max(usable, key=lambda one: (len(one.features), one.feature == own_class), default=None)


def _held(path: Path, tested: Mapping[str, str]) -> Cached | None:
    try:
        file = CacheFile(path)
        if min(file.shape[2:]) < 2:  # the front end is the waveform itself, or a vector
            return None
        names, contents, features = (file.column(name) for name in ("clip", "content", "features"))
        wanted = {clip.encode(errors="surrogateescape"): clip for clip in tested}
        rows = np.flatnonzero(np.isin(names, np.array(list(wanted))))
        content = {wanted[names[row]]: contents[row].decode(errors="surrogateescape") for row in rows}
        same = {clip for clip, text in content.items() if sound_fingerprint(text) == without_landmarks(tested[clip])}
        held = {wanted[names[row]]: np.array(features[row, 0], float) for row in rows}
        feature = str(json.loads(str(file.attributes["feature"]))["class_path"]).rpartition(".")[2]
    except UNREADABLE:
        return None
    kept = {clip: values for clip, values in held.items() if clip in same and np.isfinite(values).all()}
    return Cached(feature, kept, content, path.parent) if kept else None


def pictures(found: Cached) -> dict[str, str]:
    """Each feature as PNG."""
    drawn = {}
    for clip, picture in zip(found.features, thumbnails(np.stack([*found.features.values()])), strict=True):
        written = io.BytesIO()
        imsave(written, picture, format="png")
        drawn[clip] = _data_uri("image/png", written.getvalue())
    return drawn


def playable(found: Cached) -> dict[str, str]:
    """The first ten seconds of each clip as MP3, up to 0.7 megabytes in all, of those whose recording is found."""
    files = recordings_of({text.partition("#")[0] for text in found.content.values()}, found.folder)
    sounds: dict[str, str] = {}
    n_bytes = 0
    for clip in found.features:
        name, _, stretch = found.content[clip].partition("#")
        start, _, duration = stretch.partition("-")
        try:
            sound = audio.as_mp3(files[name], float(start), None if duration == "end" else float(duration))
        except (KeyError, ValueError):  # no such file today, or no sound in it
            continue
        n_bytes += len(sound)
        if n_bytes > MOST_BYTES:
            break
        sounds[clip] = _data_uri("audio/mpeg", sound)
    return sounds


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class Mistake:
    """A clip that was taken for another class.

    Args:
        score: of the predicted class.
        true_score: of the class that would have been right.
        picture: of its feature, low frequencies at the bottom, as a data URI; empty where none was found.
        sound: likewise.
    """

    clip: str
    subject: str
    label: str
    predicted: str
    score: float
    true_score: float
    picture: str = ""
    sound: str = ""

    @property
    def place(self) -> str:
        """Where to listen: the file, and from when to when."""
        return clip_in_words(self.clip)


@dataclass(frozen=True)
class Mistakes:
    """How many of the tested rows are mistaken, and the worst of them."""

    n_wrong: int
    n_rows: int
    worst: Sequence[Mistake]
    feature: str = ""  # that the pictures show


def find(run: Run, most: int = MOST, with_audio: bool = False) -> Mistakes:
    """The mistakes whose predicted class has the highest scores, each clip once, with pictures where there are any."""
    table, classes = run.table, pd.Index(run.classes)
    scores = table[score_columns(table)].to_numpy()
    predicted, truth = scores.argmax(axis=1), classes.get_indexer(pd.Index(table["label"]))
    highest = scores.max(axis=1)
    wrong = (predicted != truth).nonzero()[0]
    wrong = wrong[(-highest[wrong]).argsort(kind="stable")]
    first: dict[str, Mistake] = {}
    for row in wrong[: most * table["repeat"].nunique()]:
        clip, subject, label = map(str, table.loc[row, ["clip", "subject", "label"]])
        scores_of = float(highest[row]), float(scores[row, truth[row]])
        first.setdefault(clip, Mistake(clip, subject, label, classes[predicted[row]], *scores_of))
    worst = list(first.values())[:most]
    return _illustrated(Mistakes(len(wrong), len(table), worst), run, with_audio)


def _illustrated(mistakes: Mistakes, run: Run, with_audio: bool) -> Mistakes:
    """The same with what the feature caches of the run hold of these very sounds."""
    known, data = run.lineage.test_clips if run.lineage else {}, Provenance(run).config.get("data")
    wanted = {one.clip: known[one.clip] for one in mistakes.worst if one.clip in known}
    found = search(wanted, data) if wanted and isinstance(data, dict) else None
    if found is None:
        return mistakes
    shown, sounds = pictures(found), playable(found) if with_audio else {}
    worst = [replace(one, picture=shown.get(one.clip, ""), sound=sounds.get(one.clip, "")) for one in mistakes.worst]
    return replace(mistakes, worst=worst, feature=found.feature)
