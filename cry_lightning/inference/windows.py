"""Recordings cut as the training corpus was, or at events that are found, run through a model: the table of windows."""

import json
import logging
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import compress, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Unpack

import h5py
import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_numeric_dtype
from torch import Tensor

from cry_lightning import audio
from cry_lightning.acquire.segmentation import BLOCK_S, units
from cry_lightning.acquire.settings import SAMPLE_RATE, Settings
from cry_lightning.annotations.spans import Span
from cry_lightning.audio import fit_to_length
from cry_lightning.console import UserError, counted, first_few, printable, progress_bar
from cry_lightning.corpora import Clip, Corpus
from cry_lightning.corpora.clips import further_columns
from cry_lightning.corpora.levels import LevelIndex, measure
from cry_lightning.corpora.listing import recordings_named
from cry_lightning.data.building import ClipBatches
from cry_lightning.data.datamodule import MOST_NUMBERS, numbers_of
from cry_lightning.evaluation.verification import EMBEDDINGS
from cry_lightning.files import replacing
from cry_lightning.inference.model import Cutting, TrainedStage
from cry_lightning.lineage import Leakage, Lineage, check, sound_fingerprint
from cry_lightning.tasks import Detector
from cry_lightning.tasks.checkpoints import sha256
from cry_lightning.trust.names import Trust

log = logging.getLogger(__name__)
CONTEXT_S = 1.0  # before and after the frames of a window that count
MAX_LISTED = 100  # recordings that could not be used
MAX_TOLD = 3  # of them, in one line
NO_UNIT = "no cry was found"  # in a recording that could be read
UNIT = "unit"  # column of a clip: which of its recording's units it is, or is a window of
CHUNK = 4096  # clips whose results are gathered at once
Find = Callable[[Path], list[Span]]
COLUMNS = ("clip", "recording", "subject", "subject_source", "label", "start_s", "duration_s")  # of every corpus


def by_thresholds(recording: Path) -> list[Span]:
    """The cry units in a recording, by the thresholds of `acquire`, in seconds and in constant memory.

    Raises:
        AudioError: it cannot be decoded.
    """
    found = units(audio.blocks(recording, SAMPLE_RATE, BLOCK_S), Settings())
    return [(unit.start_s, unit.start_s + unit.duration_s) for unit in found]


class Finder:
    """Finds events in recordings; processes that it is sent to read the checkpoint again.

    Args:
        path: checkpoint of a `Detector`.
        trust: as of `Predictor`.

    Raises:
        UserError: it is another task's, or as of `TrainedStage`.
    """

    def __init__(self, path: Path, trust: Sequence[str] = ()) -> None:
        self.path = path
        self.trust = tuple(trust)
        self.trained = TrainedStage(path, trust=Trust(self.trust))
        if not isinstance(self.trained.stage, Detector):
            raise UserError(
                f"{path}: a {type(self.trained.stage).__name__} finds no events; train a Detector by fit --config"
                " configs/detect.yaml, and give its best.ckpt"
            )
        self.detector = self.trained.stage
        self.digest = sha256(path)
        feature = self.trained.feature
        self.sample_rate, self.hop = feature.sample_rate, feature.hop_length
        self.window = round(self.trained.clip_s * self.sample_rate) // self.hop  # in frames, as is the context
        self.context = min(round(CONTEXT_S * self.sample_rate / self.hop), self.window // 4)

    def __reduce__(self) -> tuple[type["Finder"], tuple[Path, tuple[str, ...]]]:
        return type(self), (self.path, self.trust)

    def __call__(self, recording: Path) -> tuple[list[Span], float]:
        """The events in a recording, and its length, in seconds.

        Raises:
            AudioError: it cannot be decoded.
        """
        pieces, self.n_samples = [], 0
        with torch.inference_mode():
            for waveform, first, last in self._windows(recording):
                fitted = fit_to_length(waveform, self.window * self.hop, "pad")
                padding = round((self.window * self.hop - waveform.size) / 2 / self.hop)
                probabilities = self.detector.probabilities(self.trained.front_end(fitted[None]))[0].cpu().numpy()
                pieces.append(probabilities[padding + first : padding + last])
        if not pieces:
            raise audio.AudioError(f"{recording}: holds no samples")
        hop_s, duration_s = self.hop / self.sample_rate, self.n_samples / self.sample_rate
        spans = self.detector.chosen.spans(np.concatenate(pieces))
        ends = [(max(0.0, (begin - 0.5) * hop_s), min(duration_s, (end - 0.5) * hop_s)) for begin, end in spans]
        return ends, duration_s

    def spans(self, recording: Path) -> list[Span]:
        """The events in a recording, in seconds.

        Raises:
            AudioError: it cannot be decoded.
        """
        return self(recording)[0]

    def _windows(self, recording: Path) -> Iterator[tuple[np.ndarray, int, int]]:
        """Windows (N,) of a recording, and which of their frames count: each of its frames once."""
        step, first = self.window - 2 * self.context, 0
        sound = np.zeros(0, np.float32)
        for block in audio.blocks(recording, self.sample_rate, step * self.hop / self.sample_rate):
            self.n_samples += block.size
            sound = np.concatenate([sound, block])
            if sound.size > self.window * self.hop:
                yield sound[: self.window * self.hop], first, self.window - self.context
                sound, first = sound[step * self.hop :], self.context
        if sound.size:
            yield sound, first, -(-sound.size // self.hop)


class Recordings(Corpus):
    """Recordings that were named one by one, or by their folders; nothing is known of them.

    Args:
        paths: files of any container, and folders of them.
        find: finds the units in a recording, begin and end of each in seconds, which are cut in place of the whole.
        in_context: a unit that is shorter than a window is cut as one, with what is before and behind it.
        folder: where files of just these names lie.
        **cutting: see `Corpus`.

    Raises:
        UserError: there is no path, or one does not exist, or is a folder without recordings.
    """

    collection = "recordings"

    def __init__(
        self,
        paths: Sequence[str],
        find: Find | None = None,
        in_context: bool = False,
        folder: Path | None = None,
        **cutting: Unpack[Cutting],
    ) -> None:
        super().__init__(folder or ".", **cutting)
        self.find = find
        self.in_context = in_context
        self.units: dict[str, list[Span]] = {}  # of each recording, where they are sought
        self.faults: dict[str, str] = {}  # recordings in which they could not be sought -> the reason
        self.paths = list(paths) if folder else recordings_named(paths)

    def recordings(self) -> list[Clip]:
        """One clip per recording, which is its own subject."""
        return [Clip(path, path, subject_source="unknown") for path in self.paths]

    def stream(self) -> Iterator[Clip]:
        """The clips of one recording after the other, cut as it is reached."""
        with TemporaryDirectory() as folder, LevelIndex(Path(folder, "levels.json")) as levels:  # of no use later
            for clip in self.recordings():
                for part in [clip] if self.find is None else self._units(clip, self.find):
                    yield from self._cut(part, levels)

    def _units(self, clip: Clip, find: Find) -> list[Clip]:
        path = self.path_of(clip)
        try:
            if (length_s := audio.info(path).duration_s) < audio.SHORTEST_S:
                raise audio.AudioError(f"{path}: of {length_s:g} s, too short for a clip")
            found = find(path)
        except (UserError, OSError) as error:
            self.faults[clip.path] = str(error).removeprefix(f"{path}: ")
            return []
        self.units[clip.path] = found
        shortest_s = (self.window_s or 0.0) if self.in_context else 0.0
        spans = [stretched(span, shortest_s, length_s) for span in found]
        return [
            replace(clip, start_s=round(begin, 6), duration_s=round(end - begin, 6), columns={UNIT: str(number)})
            for number, (begin, end) in enumerate(spans)
        ]


def stretched(span: Span, shortest_s: float, length_s: float) -> Span:
    """A span, or one so long around it, moved to where it lies within a recording of this length."""
    begin, end = span
    length_s = max(length_s, end)  # which a header may not know well
    if (missing := min(shortest_s, length_s) - (end - begin)) <= 0:
        return span
    begin = min(max(0.0, begin - missing / 2), max(0.0, length_s - shortest_s))
    return begin, min(begin + shortest_s, length_s)


@dataclass(frozen=True)
class ModelOutputs:
    """What a stage made of the clips that could be used."""

    clips: list[Clip]
    values: np.ndarray  # float32 (n, D), a row per clip
    bad: dict[str, list[str]]  # path of a recording -> why clips of it were left out
    landmarks: Sequence[str] = ()  # of each clip, where they were wanted


def run_through(
    trained: TrainedStage,
    recordings: Recordings,
    network: Callable[[Tensor], Tensor],
    batch_size: int,
    quiet: bool = False,
) -> Iterator[ModelOutputs]:
    """See `run_model`: the values of some thousand clips after the other, in memory that does not grow with them."""
    bar = progress_bar(recordings.stream(), trained.path.name, unit="window", hidden=quiet)
    clips, reader = iter(bar), None
    while chunk := list(islice(clips, CHUNK)):
        before, reader = reader, ClipBatches(recordings, chunk, **trained.fitting)
        if before is not None:
            reader.recording = before.recording  # goes on where it is
        yield run_model(trained, recordings, chunk, network, batch_size, reader=reader)
    if reader is not None:
        reader.close()


def run_model(
    trained: TrainedStage,
    corpus: Corpus,
    clips: Sequence[Clip],
    network: Callable[[Tensor], Tensor],
    batch_size: int,
    landmarks: bool = False,
    reader: ClipBatches | None = None,
) -> ModelOutputs:
    """The values (B, D) that `network` gives for each batch of clips, in constant memory but for the values.

    Args:
        trained: says how clips are cut out and turned into features.
        corpus: where the clips lie.
        clips: which, one at least.
        network: a part of `trained.stage`, from features to values.
        batch_size: clips at once.
        landmarks: find those of each clip too.
        reader: of these clips, without landmarks; a new one, and a bar that shows its progress, where left out.

    Raises:
        UserError: the network gives NaN or inf.
    """
    batch_size = min(batch_size, max(1, MOST_NUMBERS // numbers_of(trained.feature, trained.fitting["clip_s"])))
    values: list[np.ndarray] = []
    faults: list[str] = []
    sounds: list[str] = []
    bar = progress_bar(range(len(clips)), trained.path.name, unit="clip", hidden=reader is not None)
    dataset = reader or ClipBatches(corpus, list(clips), **trained.fitting, landmarks=landmarks)
    with torch.inference_mode(), bar:
        for first in range(0, len(clips), batch_size):
            rows, features, reasons, found = dataset[range(first, min(first + batch_size, len(clips)))]
            values.append(network(trained.seen(features)).float().cpu().numpy())
            faults += reasons
            sounds += found
            bar.update(len(rows))
    good = [not fault for fault in faults]
    bad: dict[str, list[str]] = {}
    for clip, fault in zip(clips, faults, strict=True):
        if fault:
            bad.setdefault(clip.path, []).append(fault)
    outputs, of_good = list(compress(clips, good)), np.concatenate(values)[good]
    if len(wrong := np.flatnonzero(~np.isfinite(of_good).all(1))):
        raise UserError(f"{trained.path}: its network gives NaN or inf, first for {outputs[wrong[0]].name}")
    return ModelOutputs(outputs, of_good, bad, list(compress(sounds, good)))


def report_left_out(bad: Mapping[str, Sequence[str]], nothing_else: bool) -> None:
    """List the recordings that could not be used, or not whole, each with the reasons why.

    Raises:
        UserError: there was nothing else to be had.
    """
    faults = [
        f"{printable(path)}: {first}" + (f" (and {counted(len(others), 'more window')})" if others else "")
        for path, (first, *others) in bad.items()
    ]
    if nothing_else:
        raise UserError(f"no recording could be used: {first_few(faults, MAX_TOLD, '; ', '; and')}")
    if faults:
        log.warning("left out:\n  %s", first_few(faults, MAX_LISTED, "\n  ", "\n  and"))


def failures(bad: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Recordings that are at fault themselves, not merely silent, of all that were left out; and why."""
    reasons = {path: [one for one in each if not one.startswith(audio.SILENT)] for path, each in bad.items()}
    return {path: each[0] for path, each in reasons.items() if each}


def left_out(
    recordings: Recordings, bad: Mapping[str, Sequence[str]], used: Container[str], quiet: bool = False
) -> dict[str, dict[str, str]]:
    """List what was left out; returned are the `attrs` of a table: recordings that `failed`, or are `empty`, and why.

    Empty are those that could be read, and have nothing to judge: silent, or without a cry.

    Args:
        recordings: all of them.
        bad: path of a recording -> why clips of it were left out.
        used: paths of recordings with a clip that was not.
        quiet: list nothing.

    Raises:
        UserError: all failed.
    """
    failed = failures(bad)
    all_failed = all(path in failed and path not in used for path in recordings.paths)
    if bad and (all_failed or not quiet):
        report_left_out(bad, all_failed)
    nothing = f"nowhere above {recordings.min_active_db} dB, as the model's windows were"
    reasons = [nothing if recordings.find is None else NO_UNIT]
    empty = [path for path in recordings.paths if path not in used and path not in failed]
    return {"failed": failed, "empty": {path: bad.get(path, reasons)[0] for path in empty}}


def too_quiet(path: Path, spans: Sequence[Span], min_active_db: float | None) -> list[bool]:
    """Whether each span of a recording is quieter than all that a stage was trained on; of a damaged one, unknown."""
    if spans and min_active_db is not None:
        with suppress(audio.AudioError):
            levels = measure(path, [(begin, end - begin) for begin, end in spans])
            return [level < min_active_db for level in levels]
    return [False] * len(spans)


def duration_s(corpus: Corpus, clip: Clip) -> float:
    """Seconds of a clip; those of one that goes to the end of its file are read from there."""
    if clip.duration_s is not None:
        return clip.duration_s
    return audio.info(corpus.path_of(clip)).duration_s - clip.start_s


def clip_table(corpus: Corpus, clips: Sequence[Clip]) -> pd.DataFrame:
    """A row for each clip: `COLUMNS`, then the corpus's further columns.

    All but the times are texts, blank where nothing is known.
    """
    rows = [
        (c.name, c.path, c.subject, c.subject_source, c.label or "", c.start_s, duration_s(corpus, c)) for c in clips
    ]
    own = pd.DataFrame(rows, columns=COLUMNS)
    return own.join(further_columns(clips).drop(columns=[*COLUMNS, EMBEDDINGS], errors="ignore"))


def verdict(table: pd.DataFrame, content: Mapping[str, str], landmarks: Sequence[str], lineage: Lineage) -> Leakage:
    """Whether the stage has learned from these clips or their subjects.

    Args:
        table: as from `clip_table`.
        content: name of a clip -> what it holds, as in a cache.
        landmarks: of each clip.
        lineage: of the stage.
    """
    clips = {name: sound_fingerprint(content[name], of) for name, of in zip(table["clip"], landmarks, strict=True)}
    return check(table.assign(split="test"), replace(lineage, test_clips=clips))


def write(embeddings: np.ndarray, table: pd.DataFrame, trained: TrainedStage, leakage: Leakage, path: Path) -> None:
    """Write an HDF5 file whole or not at all.

    Datasets are `embeddings` (n, D) in float32 and one for each column of the table; attributes tell where the
    embeddings come from: checkpoint, checkpoint_sha256, stage and front_end (JSON), lineage and lineage_reason.
    """
    front_end = trained.fitting | {"feature": trained.feature.identity(), "clip_s": trained.clip_s}
    buffer = BytesIO()  # HDF5 crashes where a disk fills up under it
    with h5py.File(buffer, "w") as file:
        file[EMBEDDINGS] = embeddings
        for name, values in table.items():
            place = printable(str(name).replace("/", "_"))
            if is_numeric_dtype(values):
                file.create_dataset(place, data=values.to_numpy())
                continue
            texts = [str(text).encode(errors="surrogateescape") for text in values]  # names of files may be no UTF-8
            file.create_dataset(place, data=np.array(texts, object), dtype=h5py.string_dtype())
        file.attrs["checkpoint"] = printable(str(trained.path))
        file.attrs["checkpoint_sha256"] = sha256(trained.path)
        file.attrs["stage"] = json.dumps(trained.hyper_parameters)
        file.attrs["front_end"] = json.dumps(front_end)
        file.attrs["lineage"] = leakage.status
        file.attrs["lineage_reason"] = printable(leakage.reason)
    with replacing(path) as part:
        part.write_bytes(buffer.getbuffer())
