"""The two decoders behind one face: libsndfile where it reads the file well, FFmpeg for everything else."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import soundfile

from cry_lightning.audio.containers import bytes_behind_wav, ogg_pages
from cry_lightning.audio.errors import AudioError, failures_told, warn_once
from cry_lightning.audio.ffmpeg import FFmpegReader
from cry_lightning.audio.libsndfile import UNKNOWN_LENGTH, SoundFileReader
from cry_lightning.audio.limits import SLACK_S, check_file

# The length of the file, bytes a second, and bytes of sound, as libsndfile's log of a WAV tells them.
WAV_SIZES = re.compile(r"^Length : (\d+)$.*^ *Bytes/sec +: (\d+)$.*^data : (\d+)", re.MULTILINE | re.DOTALL)
EMPTY = 1 << 12  # bytes: a file of this size may be a header without sound


class Reader(Protocol):
    """An open recording."""

    sample_rate: int  # Hz
    n_channels: int
    container: str
    codec: str
    random_access: bool  # `chunks` can be called again and again, at little cost
    seeks_exactly: bool  # it need not decode all that is before `begin`

    @property
    def n_samples(self) -> int:
        """Its length: the header's where it can be trusted, else what decodes."""

    @property
    def declared(self) -> int | None:
        """Samples that its header promises; None: nothing."""

    def chunks(self, begin: int, end: int | None) -> Iterator[np.ndarray]:
        """Float32 (N, C) of the samples from `begin` to `end`."""

    def close(self) -> None:
        """Let go of the file."""


@contextmanager
def opened(path: str | Path) -> Iterator[Reader]:
    """The reader for a file, chosen by its content; whatever fails inside is told as an AudioError."""
    with failures_told(path), closing(open_reader(Path(path))) as reader:
        yield reader


def open_reader(path: Path) -> Reader:
    """The reader for a file.

    Raises:
        AudioError: it is no file, truncated, or not plausible; a decoder may raise anything else.
    """
    check_file(path)
    with path.open("rb", buffering=0) as file:
        head = file.read(4)
    if head == b"OggS":
        return _ogg_reader(path)
    # MPEG audio: soundfile seeks after every read, and libsndfile's seek in MP3 of variable bit rate spoils the next
    # 0.1 s; without a Xing header it guesses the length. NIST Sphere: it passes over the length in the header.
    if head[:3] == b"ID3" or (head[0] == 0xFF and head[1:2] >= b"\xe0") or head == b"NIST":
        try:
            return FFmpegReader(path)
        except av.FFmpegError:
            return SoundFileReader(path)
    return _other_reader(path)


def _other_reader(path: Path) -> Reader:
    try:
        reader = SoundFileReader(path)
    except soundfile.LibsndfileError:
        return FFmpegReader(path)
    try:
        # It cannot seek where the length is not known, nor well in MP3, which may lie in a WAV.
        if reader.n_samples >= UNKNOWN_LENGTH or reader.codec.startswith("mpeg"):
            reader.close()
            return FFmpegReader(path)
        if reader.container in ("wav", "wavex") and (behind := _sound_behind_wav(path, reader)):
            reader.close()
            promised_s = reader.n_samples / reader.sample_rate
            told = f"its header promises {promised_s:.2f} s of sound, and {behind:,} bytes more are there"
            warn_once(f"{path}: {told}; the recorder never closed the file, and all of it is read")
            return FFmpegReader(path, ignore_length=True)
        reader.refuse_cut()
        if not reader.n_samples and path.stat().st_size > EMPTY:
            raise AudioError(f"{path}: its header promises no sound; the recorder never closed the file")
    except BaseException:
        reader.close()
        raise
    return reader


def _sound_behind_wav(path: Path, reader: SoundFileReader) -> int:
    """Bytes of sound of which the header does not tell; 0 if they are so few that it may have been rounded."""
    told = WAV_SIZES.search(reader.log)
    few = SLACK_S * int(told[2]) if told else 0
    if told and int(told[1]) - int(told[3]) <= few:  # as in nearly all: nothing need be looked at
        return 0
    behind = bytes_behind_wav(path)
    return behind if told and behind > few else 0


def _ogg_reader(path: Path) -> Reader:
    pages = ogg_pages(path)
    if pages.is_cut:
        raise AudioError(f"{path}: truncated, its last page is not whole")
    if not pages.is_closed:
        warn_once(f"{path}: does not say where it ends; the recorder never closed the file, and what is there is read")
    if pages.n_links > 1:  # libsndfile reads the first alone
        return FFmpegReader(path)
    try:
        return SoundFileReader(path)
    except soundfile.LibsndfileError:
        return FFmpegReader(path)
