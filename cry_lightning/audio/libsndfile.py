"""Recordings read by libsndfile: WAV, FLAC, Ogg, AIFF and their like."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from cry_lightning.audio.errors import AudioError
from cry_lightning.audio.limits import SLACK_S, check_form

CHUNK = 1 << 18  # samples read at a time
UNKNOWN_LENGTH = 1 << 62  # of a stream, and above
PROMISED_BY_PIPES = 0x7FFFF000  # bytes; programs that write to a pipe promise the largest size there is
# How libsndfile's log tells of less sound than the header promises, which it reads as a shorter recording:
# WAV, AIFF, AU, SVX, and, for the whole file alone, RF64 and Wave64.
SHORT = re.compile(r"^ *(?:data|SSND|Data Size|BODY|Riff size|riff) +: (\d+) \(should be (\d+)\)", re.MULTILINE)
SHORT_VOC = "Seems to be a truncated file."


class SoundFileReader:
    """A recording that libsndfile reads, whatever its file is called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = soundfile.SoundFile(path)
        self.log: str = self.file.extra_info  # of what libsndfile found in the header
        self.sample_rate, self.n_channels = self.file.samplerate, self.file.channels
        self.container, self.codec = self.file.format.lower(), self.file.subtype.lower()
        self.random_access = self.seeks_exactly = self.file.seekable()
        self.n_samples: int = self.file.frames
        self.declared: int | None = self.n_samples
        check_form(path, self.sample_rate, self.n_channels)

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()

    def refuse_cut(self) -> None:
        """Refuse a file that holds less than its header promises.

        Raises:
            AudioError: it is truncated.
        """
        found_short = SHORT.search(self.log)
        if not found_short:
            if SHORT_VOC in self.log:
                raise AudioError(f"{self.path}: truncated, the header promises more bytes of sound than are there")
            return
        promised, found = int(found_short[1]), int(found_short[2])
        missing_s = (promised - found) / max(found, 1) * self.n_samples / self.sample_rate
        if promised < PROMISED_BY_PIPES and (missing_s > SLACK_S or not self.n_samples):
            told = f"the header promises {promised} bytes of sound and {found} are there"
            raise AudioError(f"{self.path}: truncated, {told}")

    def chunks(self, begin: int, end: int | None) -> Iterator[np.ndarray]:
        """Float32 (N, C) of the samples from `begin` to `end`; where nothing can be sought, to be called once."""
        skipped = 0
        if self.random_access:
            self.file.seek(min(begin, self.n_samples))
            skipped = begin
        while end is None or skipped < end:
            wanted = CHUNK // self.n_channels
            wanted = wanted if end is None else min(wanted, end - skipped)
            chunk = self.file.read(wanted, dtype="float32", always_2d=True)
            if len(kept := chunk[max(0, begin - skipped) :]):
                yield kept
            if len(chunk) < wanted:
                return
            skipped += wanted
