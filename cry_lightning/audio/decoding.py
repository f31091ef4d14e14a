"""The two decoders behind one face: libsndfile where it reads the file well, FFmpeg for everything else."""

import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import soundfile

from cry_lightning.errors import UserError

CHUNK = 1 << 18  # samples read at a time
FFMPEG_CHUNK = 1 << 13
PREROLL_S = 4.0  # decoded and dropped after a seek: AMR needs as much before its output is the same to 1e-5
# What FFmpeg may open: formats that hold sound themselves, none that names other files or addresses.
FFMPEG_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,caf,aac,amr,matroska,webm,aiff,wav,ogg,flac,mp3"


class AudioError(UserError):
    """A file, or a part of one, that cannot be used as sound; the message begins with its path."""


class Reader(Protocol):
    """An open recording."""

    sample_rate: int  # Hz
    n_channels: int
    n_samples: int | None  # None: the container does not tell

    def chunks(self, begin: int, end: int | None) -> Iterator[np.ndarray]:
        """Mono float32 (N,) of the samples from `begin` to `end`, the mean of the channels; to be called once."""

    def close(self) -> None:
        """Let go of the file."""


@contextmanager
def opened(path: str | Path) -> Iterator[Reader]:
    """The reader for a file, chosen by its content; whatever fails inside is told as an AudioError."""
    try:
        if not Path(path).stat().st_size:
            raise AudioError(f"{path}: the file is empty")
        with closing(_reader(Path(path))) as reader:
            yield reader
    except UserError:
        raise
    except (OSError, ValueError, av.FFmpegError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", None) or error
        raise AudioError(f"{path}: cannot be decoded as sound ({reason})") from error


def _reader(path: Path) -> Reader:
    try:
        reader = SoundFileReader(path)
    except soundfile.LibsndfileError:
        return FFmpegReader(path)
    if reader.file.format != "MP3":
        return reader
    # soundfile seeks after every read, and libsndfile's seek in MP3 of variable bit rate spoils the next 0.1 s.
    reader.close()
    return FFmpegReader(path, reader.n_samples)


class SoundFileReader:
    """WAV, FLAC and OGG by libsndfile, whatever the file is called."""

    def __init__(self, path: Path) -> None:
        self.file = soundfile.SoundFile(path)
        self.sample_rate, self.n_channels = self.file.samplerate, self.file.channels
        self.n_samples: int | None = self.file.frames if self.file.frames < 1 << 62 else None  # unknown in a stream
        # libsndfile reads a truncated WAV as a shorter one and only its log tells; programs that
        # write to a pipe promise the largest size there is.
        log = re.search(r"^data : (\d+) \(should be (\d+)\)", self.file.extra_info, re.MULTILINE)
        if log and int(log[1]) < 0x7FFFF000:
            self.close()
            raise AudioError(f"{path}: truncated, the header promises {log[1]} bytes of sound and {log[2]} are there")

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()

    def chunks(self, begin: int, end: int | None) -> Iterator[np.ndarray]:
        """Mono float32 (N,), read from `begin` on after a seek."""
        self.file.seek(min(begin, self.file.frames))
        while end is None or begin < end:
            wanted = CHUNK if end is None else min(CHUNK, end - begin)
            chunk = self.file.read(wanted, dtype="float32", always_2d=True)
            yield chunk[:, 0] if self.n_channels == 1 else chunk.mean(axis=1)
            if len(chunk) < wanted:
                return
            begin += wanted


class FFmpegReader:
    """MP3, MP4, MOV, M4A, 3GP, CAF and what else FFmpeg decodes."""

    def __init__(self, path: Path, n_samples: int | None = None) -> None:
        self.container = av.open(str(path.absolute()), options={"format_whitelist": FFMPEG_FORMATS})
        if not self.container.streams.audio:
            self.close()
            raise AudioError(f"{path}: has no audio track")
        self.stream = self.container.streams.audio[0]
        self.sample_rate, self.n_channels = self.stream.rate, self.stream.channels
        self.samples_per_tick = Fraction(self.stream.time_base or 0) * self.sample_rate  # of its time stamps
        self.n_samples = n_samples
        if n_samples is None and self.stream.frames and self.stream.duration:  # without a frame count it is a guess
            self.n_samples = round(self.stream.duration * self.samples_per_tick)

    def close(self) -> None:
        """Let go of the file."""
        self.container.close()

    def chunks(self, begin: int, end: int | None) -> Iterator[np.ndarray]:
        """Mono float32 (N,), decoded from some time before `begin` on after a seek, the time before dropped."""
        sought = self._seek(begin)
        frames = self.container.decode(self.stream)
        if (first := next(frames, None)) is None:
            return
        # Counted from the first frame on: some containers stamp only the first frame of a packet.
        position = self._position(first) if sought else 0
        for samples in self._joined(chain([first], frames)):
            yield samples[max(0, begin - position) : None if end is None else end - position]
            position += samples.size
            if end is not None and position >= end:
                return

    def _seek(self, begin: int) -> bool:
        """Move to some time before `begin`; False where only decoding from the start can find the exact sample."""
        ahead = begin - round(PREROLL_S * self.sample_rate)
        if ahead <= 0 or not 0 < self.samples_per_tick <= 1:
            return False
        target = int(ahead / self.samples_per_tick) + (self.stream.start_time or 0)
        try:
            self.container.seek(target, stream=self.stream)
        except av.FFmpegError:
            return False
        return True

    def _position(self, frame: av.AudioFrame) -> int:
        """Number of a frame's first sample."""
        if frame.pts is None:
            raise ValueError("no time stamp after a seek")
        return round((frame.pts - (self.stream.start_time or 0)) * self.samples_per_tick)

    @staticmethod
    def _joined(frames: Iterable[av.AudioFrame]) -> Iterator[np.ndarray]:
        """Frames, which may hold as few as 64 samples, as longer mono chunks."""
        fifo, to_planar_float = av.AudioFifo(), av.AudioResampler(format="fltp")
        for frame in chain(frames, [None]):
            if frame is not None:
                frame.pts = None
                fifo.write(frame)
            if fifo.samples and (frame is None or fifo.samples >= FFMPEG_CHUNK):
                for plain in to_planar_float.resample(fifo.read()):
                    yield plain.to_ndarray().mean(axis=0)
