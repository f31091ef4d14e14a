"""A trained stage in the hands of Python: recordings or waveforms in, tables and embeddings out."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import IOBase
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import soundfile
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cry_lightning.audio import SAMPLE_RATES, SHORTEST_S, fault_of, fit_to_length
from cry_lightning.console import UserError
from cry_lightning.corpora import Clip
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.predict import predicted, recordings_at
from cry_lightning.inference.windows import Find, Finder, Recordings, by_thresholds, left_out, run_through
from cry_lightning.trust.names import Trust

BATCH = 64  # clips at once
WAVEFORM = "waveform"  # the name of one
NUMBER = int | float | np.integer | np.floating
Sound = str | Path | Iterable[str | Path] | np.ndarray | Tensor  # recordings, folders of them, or one waveform (N,)


class Predictor:
    """A trained stage applied to recordings and waveforms, in windows as `predict` and `embed` cut them.

    Several threads may use one; it computes for one at a time.
    The embeddings of `get_scene_embeddings` and `get_timestamp_embeddings` are those of HEAR's interface.
    Source: Turian et al. 2022, "HEAR: Holistic evaluation of audio representations".

    Args:
        path: checkpoint, RUN/best.ckpt.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        trust: packages whose classes the checkpoint may name.

    Raises:
        UserError: as of `TrainedStage`.
    """

    def __init__(self, path: str | Path, device: str = "cpu", trust: Sequence[str] = ()) -> None:
        self.trained = TrainedStage(Path(path), device, Trust(tuple(trust)))
        self.sample_rate = self.trained.feature.sample_rate  # Hz
        self.classes = self.trained.classes
        self.scene_embedding_size = self.timestamp_embedding_size = self.trained.stage.num_features

    def __call__(self, sound: Sound, sample_rate: int | None = None, detect: bool | str | Path = False) -> pd.DataFrame:
        """A row for each window or cry, with the columns of `predict`: path, times, scores, decision and so on.

        Recordings that could not be used, or not whole, are logged; they are in `attrs["failed"]`, each with the
        reason. `attrs["empty"]` has those that could be read, and are silent, or without a cry.

        Args:
            sound: a recording of any container, a folder, several of them, or a waveform (N,).
            sample_rate: of a waveform alone, Hz; the model's own where left out.
            detect: find cries first, by the thresholds of `acquire`, or by the Detector in this checkpoint.

        Raises:
            UserError: the stage is no classifier, an argument makes no sense, or all recordings failed.
        """
        find: Find | None = by_thresholds if detect else None
        if isinstance(detect, str | Path):
            find = Finder(Path(detect)).spans
        with self._recordings(sound, sample_rate, find) as recordings:
            return predicted(self.trained, recordings, BATCH).rows

    def embed(self, sound: Sound, sample_rate: int | None = None) -> pd.DataFrame:
        """Embeddings (n, D), a row for each window, by its path and times; arguments and `attrs` as of a call."""
        clips: list[Clip] = []
        values = [np.zeros((0, self.scene_embedding_size), np.float32)]
        bad: dict[str, list[str]] = {}
        with self._recordings(sound, sample_rate) as recordings:
            for outputs in run_through(self.trained, recordings, self.trained.stage.embed, BATCH):
                clips += outputs.clips
                values.append(outputs.values)
                for path, reasons in outputs.bad.items():
                    bad.setdefault(path, []).extend(reasons)
        found = pd.DataFrame(np.concatenate(values), index=pd.Index([clip.name for clip in clips], name="clip"))
        found.attrs.update(left_out(recordings, bad, {clip.path for clip in clips}))
        return found

    def get_scene_embeddings(self, audio: ArrayLike | Tensor) -> Tensor:
        """Embeddings (n, D) of waveforms (n, N) at the model's rate: the mean over their windows, quiet ones too."""
        cutting = self.trained.cutting
        window = round((cutting["window_s"] or self.trained.clip_s) * self.sample_rate)
        hop = round((cutting["hop_s"] or window / self.sample_rate) * self.sample_rate)
        rows = []
        for waveform in self._long_enough(audio):
            starts = range(0, max(waveform.size - window, 0) + 1, hop)
            rows.append(self._embedded([waveform[start : start + window] for start in starts]).mean(0))
        return torch.stack(rows)

    def get_timestamp_embeddings(self, audio: ArrayLike | Tensor, hop_ms: float = 50.0) -> tuple[Tensor, Tensor]:
        """Embeddings (n, T, D) of waveforms (n, N) at the model's rate, and the times (n, T) they are of, ms.

        Each is of a clip with this time in its middle; zeros stand before the beginning and after the end.

        Args:
            audio: the waveforms.
            hop_ms: from time to time.
        """
        if not (isinstance(hop_ms, NUMBER) and hop_ms * self.sample_rate >= 1000):
            raise UserError(
                f"hop_ms {hop_ms!r}: the time from embedding to embedding is {1000 / self.sample_rate:g} ms or more, a"
                " sample"
            )
        length = round(self.trained.fitting["clip_s"] * self.sample_rate)
        rows, waveforms = [], self._long_enough(audio)
        times = np.arange(0, 1000 * waveforms.shape[1] / self.sample_rate, hop_ms)
        for waveform in waveforms:
            padded = np.pad(waveform, (length // 2, length - length // 2))
            starts = (times * self.sample_rate / 1000).round().astype(int)
            rows.append(self._embedded([padded[start : start + length] for start in starts]))
        return torch.stack(rows), torch.from_numpy(times).float().repeat(len(rows), 1)

    def _long_enough(self, audio: ArrayLike | Tensor) -> np.ndarray:
        """Waveforms (n, N) that hold sound for a clip.

        Raises:
            UserError: as of `_waveforms`; or they are shorter.
        """
        waveforms, shortest = _waveforms(audio), math.ceil(SHORTEST_S * self.sample_rate)
        if (length := waveforms.shape[1]) < shortest:
            raise UserError(
                f"{WAVEFORM}: {length} samples are too short for a clip, which has {shortest} or more; several"
                f" waveforms have the shape (n, N), and these {waveforms.shape}"
            )
        return waveforms

    def _embedded(self, windows: Sequence[np.ndarray]) -> Tensor:
        """Embeddings (n, D) of so many windows."""
        fitting, found = self.trained.fitting, []
        n_samples = round(fitting["clip_s"] * self.sample_rate)
        with self.trained.lock, torch.no_grad():
            for first in range(0, len(windows), BATCH):
                fitted = [fit_to_length(one, n_samples, fitting["fit"]) for one in windows[first : first + BATCH]]
                found.append(self.trained.stage.embed(self.trained.front_end(np.stack(fitted))).float())
        return torch.cat(found)

    @contextmanager
    def _recordings(self, sound: Sound, sample_rate: float | None, find: Find | None = None) -> Iterator[Recordings]:
        """Recordings for this thread; a waveform becomes one, so that it is processed just as a file of it would be."""
        if not isinstance(sound, np.ndarray | Tensor):
            if sample_rate is not None:
                raise UserError("sample_rate: is of a waveform; recordings say their own")
            paths = _paths(sound)  # which may itself ask the model
            with self.trained.lock:
                yield recordings_at(self.trained, paths, find=find)
            return
        rate, waveforms = _rate(sample_rate, self.sample_rate), _waveforms(sound)
        if len(waveforms) > 1:
            raise UserError(f"give one waveform (N,) at a time, not {len(waveforms)}")
        with TemporaryDirectory() as folder, self.trained.lock:
            place = Path(folder)
            soundfile.write(place / WAVEFORM, waveforms[0], rate, subtype="FLOAT", format="WAV")
            yield recordings_at(self.trained, [WAVEFORM], find=find, folder=place)


def _paths(sound: object) -> list[str]:
    """Of one recording, or several.

    Raises:
        UserError: they are no paths.
    """
    given = [sound]
    if isinstance(sound, Iterable) and not isinstance(sound, str | bytes | Path | IOBase):
        given = list(sound)
    if odd := [one for one in given if not isinstance(one, str | Path)]:
        kind = type(odd[0]).__name__
        raise UserError(f"give paths of recordings, or one waveform (N,) at a time as an array, not {kind}")
    return [str(one) for one in given]


def _rate(given: object, own: int) -> int:
    """Of a waveform, Hz; the model's own where none is given.

    Raises:
        UserError: it is none.
    """
    rate, (low, high) = own if given is None else given, SAMPLE_RATES
    if not (isinstance(rate, NUMBER) and low <= rate <= high and int(rate) == rate):
        raise UserError(f"sample_rate {rate!r}: is a whole number of Hz, {low:,} to {high:,}")
    return int(rate)


def _waveforms(audio: ArrayLike | Tensor) -> np.ndarray:
    """Waveforms (n, N) as float32.

    Raises:
        UserError: they are of another shape, or hold no samples, or what is no sample.
    """
    if isinstance(audio, Tensor):
        audio = audio.detach().cpu()
        audio = audio.float() if audio.is_floating_point() else audio  # NumPy knows no bfloat16
    try:
        array = np.asarray(audio)
    except ValueError as error:
        raise UserError("several waveforms (n, N) are of one length; give them one at a time") from error
    if array.dtype.kind != "f":
        raise UserError(f"a waveform has samples between -1 and 1, not {array.dtype}; divide those of int16 by 32768")
    if array.ndim not in (1, 2) or not array.size:
        raise UserError(f"a waveform has the shape (N,), several have (n, N), not {array.shape}")
    if fault := fault_of(array):
        raise UserError(f"{WAVEFORM}: {fault}")
    return np.atleast_2d(array).astype(np.float32)
