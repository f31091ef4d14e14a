"""A trained classifier that answers for one sound at a time, and keeps none; and what an answer depends on."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePath
from shutil import copyfileobj
from typing import BinaryIO
from urllib.parse import unquote

import numpy as np
import pandas as pd
import torch

import cry_lightning
from cry_lightning import audio
from cry_lightning.annotations.spans import Span
from cry_lightning.audio import fit_to_length
from cry_lightning.console import UserError, on_one_line, printable
from cry_lightning.export.check import decision_of, status_of
from cry_lightning.files import Json
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.output import Row, as_records
from cry_lightning.inference.predict import Predicted, predicted, recordings_at, scores_of
from cry_lightning.inference.predictor import BATCH, Predictor
from cry_lightning.inference.windows import Finder, by_thresholds, stretched, too_quiet
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.checkpoints import sha256

SHOWN_S = 60.0  # of a recording, in its picture
BLOCK_S = 1.0  # decoded at once
LONGEST_NAME = 100  # characters of the name of a file
ENCODED = re.compile("%22|%0D|%0A")  # in names of files in forms, by the HTML standard, where a % itself is not
USE = "a research tool, not a medical device"
WINDOWS_AT_ONCE = 16


@dataclass(frozen=True)
class Answer:
    """What is predicted for one recording.

    Args:
        rows: as `predict` writes them, by window or by cry.
        recording: the same of the whole.
        of_cries: whether cries were found, and each row is one.
        waveform: its first minute (N,), at the model's rate.
        quiet: which rows are quieter than all that the model was trained on, as a cry that was found may be.
        cut: whether the recording goes on after that minute.
        depends: how the class of the highest score does on each sample (N,); None where that is not known.
    """

    rows: pd.DataFrame
    recording: Row
    of_cries: bool
    quiet: list[bool]
    waveform: np.ndarray
    cut: bool
    depends: np.ndarray | None = None

    @property
    def spans(self) -> list[Span]:
        """Begin and end of each row, s."""
        return spans_of(self.rows)


class Service:
    """A trained classifier that answers for one sound at a time.

    Args:
        ckpt: its checkpoint.
        device: see `Predictor`.
        trust: see `Predictor`.
        detector: checkpoint of a Detector that finds cries; without one, the thresholds of `acquire` find them.
        max_seconds: the longest recording.
        folder: for the one that is processed, which is removed in every case.

    Raises:
        UserError: as `predict`.
    """

    def __init__(
        self, ckpt: Path, device: str, trust: Sequence[str], detector: Path | None, max_seconds: float, folder: Path
    ) -> None:
        self.predictor = Predictor(ckpt, device, trust)
        self.trained = self.predictor.trained
        scores_of(self.trained)
        self.find = Finder(detector, trust).spans if detector else by_thresholds
        self.max_seconds = max_seconds
        self.place = folder / "sound"  # of every recording: of names from outside, at most a known ending is used

    @property
    def rate(self) -> int:
        """Of the waveforms of answers, Hz."""
        return self.predictor.sample_rate

    def about(self) -> Json:
        """What a user must know of the model."""
        decision = decision_of(self.trained)
        cutting = self.trained.cutting
        return {
            "producer": f"cry_lightning {cry_lightning.__version__}",
            "use": USE,
            "classes": self.trained.classes,
            "sample_rate": self.rate,
            "window_s": cutting["window_s"],
            "hop_s": cutting["hop_s"] or cutting["window_s"],
            "lineage": status_of(self.trained),
            "synthetic": self.trained.synthetic or None,
            "thresholds": decision["thresholds"] if decision else None,
            "validation_subjects": decision["subjects"] if decision else None,
            "checkpoint_sha256": sha256(self.trained.path),
        }

    def answer(self, sound: BinaryIO, name: str, detect: bool | None, picture: bool = False) -> Answer:
        """What the classifier says of a recording.

        Args:
            sound: the bytes of a file of any container.
            name: how messages and rows call it.
            detect: find cries first; None: and take windows where there are none.
            picture: find out, too, what the answer depends on.

        Raises:
            UserError: it cannot be used, or is too long.
        """
        with self._received(sound, name) as path:
            waveform, cut = self._decoded(path)
            found, of_cries = self._predicted(path, detect)
            recording = as_records(found.recordings.assign(path=name))[0]
            quiet = self._quiet(path, spans_of(found.rows)) if of_cries else [False] * len(found.rows)
            answer = Answer(found.rows.assign(path=name), recording, of_cries, quiet, waveform, cut)
            best = answer.recording["predicted"]
            if not picture or not best:
                return answer
            index = (self.trained.classes or []).index(str(best))
            return replace(answer, depends=saliency(self.trained, waveform, answer.spans, index))

    def _quiet(self, path: Path, spans: Sequence[Span]) -> list[bool]:
        """Whether each cry is quieter, with the sound around it, than all windows that the model was trained on."""
        length_s = audio.info(path).duration_s
        windows = [windows_of(self.trained, span, length_s) for span in spans]
        found = iter(too_quiet(path, [*chain.from_iterable(windows)], self.trained.cutting["min_active_db"]))
        return [all([next(found) for _ in of_span]) for of_span in windows]

    @contextmanager
    def _received(self, sound: BinaryIO, name: str) -> Iterator[Path]:
        """Where the bytes lie for a while; what is raised there gets the name of the recording; nothing is logged."""
        ending = PurePath(name).suffix.lower()  # by which alone some containers are known
        place = self.place.with_suffix(ending if ending in audio.EXTENSIONS else "")
        with self.trained.lock, unremarked(place):  # the lock is for the place, too
            try:
                with place.open("wb") as file:
                    copyfileobj(sound, file)
                yield place
            except UserError as error:
                reason = str(error).removeprefix("no recording could be used: ")
                raise UserError(on_one_line(printable(reason.replace(str(place), name)))) from error
            finally:
                place.unlink(missing_ok=True)

    def _decoded(self, path: Path) -> tuple[np.ndarray, bool]:
        """The waveform of the first minute (N,), or of what can be read of it, and whether there is more.

        Raises:
            UserError: the recording is too long, in fact, which a header need not tell, or by its header where it is
                damaged, since its windows would follow that.
        """
        pieces, n_samples = [np.zeros(0, np.float32)], 0
        try:
            for block in audio.blocks(path, self.rate, BLOCK_S):
                n_samples += block.size
                self._check_length(path, n_samples / self.rate)
                if n_samples <= SHOWN_S * self.rate:
                    pieces.append(block)
        except audio.AudioError:  # `predict` says what is at fault
            with suppress(audio.AudioError):
                self._check_length(path, audio.info(path).duration_s)
        waveform = np.concatenate(pieces)
        return waveform, n_samples > waveform.size

    def _check_length(self, path: Path, seconds: float) -> None:
        if seconds > self.max_seconds:
            raise UserError(f"{path}: longer than {self.max_seconds:g} s, the most that this server takes; cut it")

    def _predicted(self, path: Path, detect: bool | None) -> tuple[Predicted, bool]:
        """What `predict` finds, and whether it did so by cries."""
        for find in {None: (self.find, None), True: (self.find,), False: (None,)}[detect]:
            recordings = recordings_at(self.trained, [str(path)], find=find)
            found = predicted(self.trained, recordings, BATCH, quiet=True)
            if len(found.rows):
                break
        return found, find is not None


@contextmanager
def unremarked(place: Path) -> Iterator[None]:
    """Leave what is odd about a file out of the log: its place tells nobody anything, and its name is kept nowhere."""

    def is_of_another(record: logging.LogRecord) -> bool:
        return str(place) not in record.getMessage()

    remarking = logging.getLogger(audio.warn_once.__module__)
    remarking.addFilter(is_of_another)
    try:
        yield
    finally:
        remarking.removeFilter(is_of_another)


def spans_of(rows: pd.DataFrame) -> list[Span]:
    """Begin and end of each row, s."""
    return list(zip(rows["start_s"], rows["start_s"] + rows["duration_s"], strict=True))


def shown_name(name: str | None) -> str:
    """How the file that a browser names is called: without folders, on one line, and not for ever."""
    whole = ENCODED.sub(lambda found: unquote(found[0]), name or "")
    last = whole.replace("\\", "/").rpartition("/")[2]
    shown = on_one_line(printable(last)).strip() or "sound"
    half = LONGEST_NAME // 2
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: half - 3]}...{shown[-half:]}"


def windows_of(trained: TrainedStage, span: Span, length_s: float) -> list[Span]:
    """What a stage is given of a cry or a window in a recording of this length, s: windows, with the sound around."""
    window_s = trained.cutting["window_s"] or trained.clip_s
    begin, end = stretched(span, window_s if trained.of_windows else 0.0, length_s)
    starts = np.arange(begin, max(begin, end - window_s) + 1e-6, window_s).tolist()
    return [(start, min(start + window_s, end)) for start in starts]


def saliency(trained: TrainedStage, waveform: np.ndarray, spans: Sequence[Span], index: int) -> np.ndarray | None:
    """The gradient of the log-odds of a class with respect to each sample of a waveform (N,), summed over windows.

    It is taken through the front end, which need not be a spectrogram of any kind. It shows what a small change would
    change, and not why the class was chosen. Times the waveform it sums to gradient x input, which a spectrogram of
    both divides among times and frequencies (Parseval's theorem).

    Source: Simonyan et al. 2014, "Deep inside convolutional networks: visualising image classification models and
    saliency maps", section 3.

    Args:
        trained: a classifier.
        waveform: at its rate.
        spans: begin and end of its windows or cries in it, s; what lies behind its end is passed over.
        index: of the class.

    Returns: None where there is no gradient, as in pictures by a table of colours; where no span lies in the waveform;
    or where the front end wants recordings at their own rates.
    """
    rate, fitting, stage = trained.feature.sample_rate, trained.fitting, trained.stage
    assert isinstance(stage, Classifier)
    length_s = waveform.size / rate
    pieces = [
        (round(begin * rate), min(round(end * rate), waveform.size))
        for span in spans
        if span[0] < length_s
        for begin, end in windows_of(trained, span, length_s)
        if begin * rate < waveform.size
    ]
    n_samples = round(fitting["clip_s"] * rate)
    if not pieces or trained.feature.own_rate:
        return None
    # Which sample of the waveform comes where in a clip; 0: what a short one is filled up with.
    places = np.stack([fit_to_length(np.arange(begin, end) + 1, n_samples, fitting["fit"]) for begin, end in pieces])
    samples = torch.from_numpy(np.append(np.float32(0), waveform))
    gradient = np.zeros(waveform.size + 1, np.float32)
    for some in np.array_split(places, -(-len(places) // WINDOWS_AT_ONCE)):
        clips = samples[some].requires_grad_()
        logits = stage(trained.seen(trained.feature(clips))).float()
        others = torch.cat([logits[:, :index], logits[:, index + 1 :]], 1)
        odds = logits[:, index] - others.logsumexp(1) if others.shape[1] else logits[:, index]
        (of_clips,) = torch.autograd.grad(odds.sum(), clips, allow_unused=True) if odds.requires_grad else (None,)
        if of_clips is None:
            return None
        np.add.at(gradient, some, of_clips.numpy())
    return gradient[1:]
