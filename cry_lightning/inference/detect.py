"""Events in recordings of any length, by a trained `Detector`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from cry_lightning import audio
from cry_lightning.acquire.segmentation import BLOCK_S, units
from cry_lightning.acquire.settings import SAMPLE_RATE, Settings
from cry_lightning.annotations.spans import Span
from cry_lightning.audio import fit_to_length
from cry_lightning.console import UserError
from cry_lightning.inference.model import TrainedStage
from cry_lightning.tasks import Detector
from cry_lightning.tasks.checkpoints import sha256
from cry_lightning.trust.names import Trust

CONTEXT_S = 1.0  # before and after the frames of a window that count


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
