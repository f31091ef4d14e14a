"""Windows of long recordings without decoding a recording anew for each of them."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from cry_lightning import audio
from cry_lightning.audio.decoding import FFmpegReader, opened
from cry_lightning.data.compute import ClipBatches

LONG_S = 60.0
BLOCK_S = 10.0


class DecodedOnce(ClipBatches):
    """Batches of clips, those of one recording after another.

    In MP3 and WebM, to find a window may mean to read all that is before it. A long recording that libsndfile does not
    read is therefore decoded once, from beginning to end, into a file of its own for the time it is needed.

    Args:
        folder: where that file lies.
        **kwargs: see `ClipBatches`.
    """

    def __init__(self, folder: Path, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = folder
        self.ends_s: dict[Path, float] = {}  # of the last clip of each recording; 0 where it goes to the file's end
        for path, (start_s, duration_s) in zip(self.paths, self.stretches, strict=True):
            self.ends_s[path] = start_s + (duration_s or 0.0)
        self.recording: Path | None = None
        self.source = Path()

    def waveform(self, row: int) -> np.ndarray:
        """The clip of one row, decoded and fitted (N,)."""
        path, (start_s, duration_s) = self.paths[row], self.stretches[row]
        if path != self.recording:
            self.recording, self.source = path, self.decoded(path)
        try:
            return audio.load_fitted(self.source, self.feature.sample_rate, self.clip_s, self.fit, start_s, duration_s)
        except audio.AudioError as error:
            raise audio.AudioError(str(error).replace(str(self.source), str(path))) from error

    def decoded(self, path: Path) -> Path:
        """A file that holds the recording and can be read from anywhere; itself where it is short, or damaged."""
        if self.ends_s[path] < LONG_S:
            return path
        copy, sample_rate = self.folder / "decoded.wav", self.feature.sample_rate
        try:
            with opened(path) as reader:
                if not isinstance(reader, FFmpegReader):
                    return path
            with soundfile.SoundFile(copy, "w", sample_rate, 1, subtype="FLOAT", format="RF64") as file:
                for block in audio.blocks(path, sample_rate, BLOCK_S):
                    file.write(block)
        except audio.AudioError:  # what is whole of it can be read piece by piece
            return path
        return copy
