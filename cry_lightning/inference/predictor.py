"""A trained stage in the hands of Python: recordings or waveforms in, tables and embeddings out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import soundfile
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cry_lightning.audio import fit_to_length
from cry_lightning.console import UserError
from cry_lightning.corpora import Clip
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.predict import predicted, recordings_at
from cry_lightning.inference.windows import Find, Finder, by_thresholds, failures, report_left_out, run_through
from cry_lightning.trust.names import Trust

BATCH = 64  # clips at once
Sound = str | Path | Sequence[str | Path] | np.ndarray | Tensor  # recordings, folders of them, or one waveform (N,)


class Predictor:
    """A trained stage applied to recordings and waveforms, in windows as `predict` and `embed` cut them.

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

        Recordings that could not be used are logged, and in `attrs["failed"]`.

        Args:
            sound: a recording of any container, a folder, several of them, or a waveform (N,).
            sample_rate: of a waveform, Hz; the model's own where left out.
            detect: find cries first, by the thresholds of `acquire`, or by the Detector in this checkpoint.

        Raises:
            UserError: the stage is no classifier, or nothing could be used.
        """
        find: Find | None = by_thresholds if detect else None
        if isinstance(detect, str | Path):
            find = Finder(Path(detect)).spans
        with _as_paths(sound, self.sample_rate if sample_rate is None else sample_rate) as paths:
            table = predicted(self.trained, recordings_at(self.trained, paths, find=find), BATCH).rows
        return table.assign(path="waveform") if isinstance(sound, np.ndarray | Tensor) else table

    def embed(self, sound: Sound, sample_rate: int | None = None) -> pd.DataFrame:
        """Embeddings (n, D), a row for each window, by its path and times; arguments as of a call."""
        clips: list[Clip] = []
        values: list[np.ndarray] = []
        bad: dict[str, list[str]] = {}
        with _as_paths(sound, self.sample_rate if sample_rate is None else sample_rate) as paths:
            for outputs in run_through(
                self.trained, recordings_at(self.trained, paths), self.trained.stage.embed, BATCH
            ):
                clips += outputs.clips
                values.append(outputs.values)
                bad |= outputs.bad
        if bad or not clips:
            report_left_out(bad, nothing_else=not clips)
        names = [clip.name for clip in clips]
        if isinstance(sound, np.ndarray | Tensor):
            names = [f"waveform{name.removeprefix(clip.path)}" for name, clip in zip(names, clips, strict=True)]
        found = pd.DataFrame(np.concatenate(values), index=pd.Index(names, name="clip"))
        found.attrs["failed"] = failures(bad)
        return found

    def get_scene_embeddings(self, audio: ArrayLike | Tensor) -> Tensor:
        """Embeddings (n, D) of waveforms (n, N) at the model's rate: the mean over their windows, quiet ones too."""
        cutting = self.trained.cutting
        window = round((cutting["window_s"] or self.trained.clip_s) * self.sample_rate)
        hop = round((cutting["hop_s"] or window / self.sample_rate) * self.sample_rate)
        rows = []
        for waveform in _waveforms(audio):
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
        if not hop_ms > 0:
            raise UserError(f"hop_ms {hop_ms:g}: the time from embedding to embedding is above 0 ms")
        length = round(self.trained.fitting["clip_s"] * self.sample_rate)
        rows, waveforms = [], _waveforms(audio)
        times = np.arange(0, 1000 * waveforms.shape[1] / self.sample_rate, hop_ms)
        for waveform in waveforms:
            padded = np.pad(waveform, (length // 2, length - length // 2))
            starts = (times * self.sample_rate / 1000).round().astype(int)
            rows.append(self._embedded([padded[start : start + length] for start in starts]))
        return torch.stack(rows), torch.from_numpy(times).float().repeat(len(rows), 1)

    def _embedded(self, windows: Sequence[np.ndarray]) -> Tensor:
        """Embeddings (n, D) of so many windows."""
        fitting, found = self.trained.fitting, []
        n_samples = round(fitting["clip_s"] * self.sample_rate)
        with torch.no_grad():
            for first in range(0, len(windows), BATCH):
                fitted = [fit_to_length(one, n_samples, fitting["fit"]) for one in windows[first : first + BATCH]]
                found.append(self.trained.stage.embed(self.trained.front_end(np.stack(fitted))).float())
        return torch.cat(found)


@contextmanager
def _as_paths(sound: Sound, sample_rate: float) -> Iterator[list[str]]:
    """Paths of recordings; a waveform becomes one, so that it is processed just as a file of it would be."""
    if not isinstance(sound, np.ndarray | Tensor):
        paths = [sound] if isinstance(sound, str | Path) else list(sound)
        if odd := [one for one in paths if not isinstance(one, str | Path)]:
            raise UserError(f"give paths of recordings, or one waveform (N,) at a time as an array, not {type(odd[0])}")
        yield [str(one) for one in paths]
        return
    with TemporaryDirectory() as folder:
        path, waveforms = Path(folder, "waveform.wav"), _waveforms(sound)
        if len(waveforms) > 1:
            raise UserError(f"give one waveform (N,) at a time, not {len(waveforms)}")
        if not (sample_rate > 0 and sample_rate % 1 == 0):
            raise UserError(f"sample_rate {sample_rate}: is a whole number of Hz, above 0")
        soundfile.write(path, waveforms[0], int(sample_rate), subtype="FLOAT")
        yield [str(path)]


def _waveforms(audio: ArrayLike | Tensor) -> np.ndarray:
    """Waveforms (n, N) as float32.

    Raises:
        UserError: they are of another shape, or hold no samples, or whole numbers, or NaN.
    """
    array = audio.detach().cpu().numpy() if isinstance(audio, Tensor) else np.asarray(audio)
    if array.dtype.kind in "iu":  # which are never between -1 and 1 as sound is here
        raise UserError(f"a waveform has samples between -1 and 1, not {array.dtype}; divide those of int16 by 32768")
    if array.dtype.kind != "f":
        raise UserError(f"a waveform has samples between -1 and 1, not {array.dtype}")
    array = np.atleast_2d(array).astype(np.float32)
    if array.ndim != 2 or not array.size:
        raise UserError(f"a waveform has the shape (N,), several have (n, N), not {array.shape}")
    if not np.isfinite(array).all():
        raise UserError("a waveform holds NaN or infinite samples")
    return array
