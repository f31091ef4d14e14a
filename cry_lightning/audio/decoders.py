"""The two decoders behind one interface: libsndfile, and FFmpeg for all that it cannot read or seek in."""

import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import cast

import av
import numpy as np
import soundfile

from cry_lightning.audio.containers import (
    SLACK_S,
    AudioError,
    bytes_of_sound_from,
    check_form,
    mp3_tells_length,
    warn_once,
)
from cry_lightning.files import Stamp, stamp

SAMPLES_AT_A_TIME = 1 << 18  # samples read at a time
UNKNOWN_LENGTH = 1 << 62  # of a stream, and above
PROMISED_BY_PIPES = 0x7FFFF000  # bytes; programs that write to a pipe promise the largest size there is
# How libsndfile's log tells of less sound than the header promises, which it reads as a shorter recording:
# WAV, AIFF, AU, SVX, and, for the whole file alone, RF64 and Wave64.
SHORT = re.compile(r"^ *(?:data|SSND|Data Size|BODY|Riff size|riff) +: (\d+) \(should be (\d+)\)", re.MULTILINE)
SHORT_VOC = "Seems to be a truncated file."
SAMPLES_JOINED = 1 << 13  # samples joined
PREROLL_S = 4.0  # decoded and dropped after a seek
PADDING = 1 << 12  # samples that a codec adds at both ends, and a decoder takes away
UNKNOWN_LENGTH_OF_FFMPEG = 1 << 50  # samples, and above
MP3_FRAME = b"\xff"  # begins each; what begins otherwise are zeros and tags at the end
REMEMBERED = 1 << 12  # lengths of files
# What FFmpeg may open: formats that hold sound themselves, none that names other files or addresses.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,caf,aac,amr,matroska,webm,aiff,wav,ogg,flac,mp3,ac3,eac3,dts,dtshd,g722,gsm,au,w64,avi,"
    "asf,xwma,flv,mpegts,mpeg,loas,wv,tta,ape,mpc,mpc8,tak,nistsphere,voc,rm,dsf,iff,ircam,sox,avr,pvf,qcp,dss"
)
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
# Formats whose length is estimated or added up from what is there: nothing is declared.
UNDECLARED = {"aac", "ac3", "eac3", "dts", "amr", "loas", "mpegts", "mpeg", "g722", "gsm", "ogg", "mp3", "rm", "voc"}
OF_WHOLE_FILES = {"matroska,webm", "asf", "flv", "xwma"}  # they declare the length of the longest track
# Decoding from the middle gives the samples of the whole only where little is remembered from frame to frame.
EXACT_AFTER_SEEK = ("pcm_", "flac", "alac", "mp3", "wavpack", "tta")
SELF_DELIMITING = {"mp3", "aac"}  # frames follow each other, and what else stands between them is passed over


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
            reason = f"the header promises {promised} bytes of sound and {found} are there"
            raise AudioError(f"{self.path}: truncated, {reason}")

    def chunks(self, begin: int, end: int | None) -> Iterator[np.ndarray]:
        """Float32 (N, C) of the samples from `begin` to `end`; where nothing can be sought, to be called once."""
        skipped = 0
        if self.random_access:
            self.file.seek(min(begin, self.n_samples))
            skipped = begin
        while end is None or skipped < end:
            wanted = SAMPLES_AT_A_TIME // self.n_channels
            wanted = wanted if end is None else min(wanted, end - skipped)
            chunk = self.file.read(wanted, dtype="float32", always_2d=True)
            if len(kept := chunk[max(0, begin - skipped) :]):
                yield kept
            if len(chunk) < wanted:
                return
            skipped += wanted


class FFmpegReader:
    """A recording that FFmpeg reads: its default audio track.

    Args:
        path: the file.
        ignore_length: of a WAV whose header is wrong.
    """

    random_access = False  # each search costs an opening and a decoder that has to settle

    def __init__(self, path: Path, ignore_length: bool = False) -> None:
        self.path = path
        options = OPTIONS | ({"ignore_length": "1"} if ignore_length else {})
        self.container_file = av.open(str(path.absolute()), options=options)
        try:
            self.stream = self._track()
            context = self.stream.codec_context
            self.sample_rate, self.n_channels = context.sample_rate, context.layout.nb_channels
            check_form(path, self.sample_rate, self.n_channels)
        except BaseException:
            self.close()
            raise
        self.format = self.container_file.format.name
        names, ending = self.format.split(","), path.suffix.lower().removeprefix(".")
        self.container = ending if ending in names else names[0]  # FFmpeg has one name for MP4, MOV, M4A and 3GP
        self.codec = context.codec.canonical_name
        self.samples_per_tick = Fraction(self.stream.time_base or 0) * self.sample_rate  # of its time stamps
        self.ignore_length = ignore_length
        has_stamps = self.format != "ogg" and 0 < self.samples_per_tick <= 1  # in chained Ogg they begin anew
        self.seeks_exactly = has_stamps and self.codec.startswith(EXACT_AFTER_SEEK)

    def _track(self) -> av.AudioStream:
        streams = self.container_file.streams
        default = streams.best("audio")
        stream = next((one for one in streams.audio if default is None or one.index == default.index), None)
        if stream is None:
            raise AudioError(f"{self.path}: has no audio track")
        if stream.codec_context is None:
            raise AudioError(f"{self.path}: its audio is in a codec that is not known here")
        return stream

    def close(self) -> None:
        """Let go of the file."""
        self.container_file.close()

    @cached_property
    def declared(self) -> int | None:
        """Samples that the header promises; None where it promises nothing."""
        if self.ignore_length:
            return None
        if self.format in OF_WHOLE_FILES:
            whole_s = (self.container_file.duration or 0) / av.time_base
            is_whole = whole_s <= 0 or self._held.ends_s >= whole_s - SLACK_S  # only its longest track is as declared
            return None if is_whole else round(whole_s * self.sample_rate)
        if self.format in UNDECLARED and not (self.format == "mp3" and mp3_tells_length(self.path)):
            return None
        frames, ticks = self.stream.frames, self.stream.duration or 0
        # The durations of AVI are those of pictures, and that of CAF is as long as the bytes that are there.
        if self.format == "avi" or (self.format == "caf" and frames > ticks + PADDING):
            ticks = frames
        n_samples = round(ticks * self.samples_per_tick)
        return n_samples if 0 < n_samples < UNKNOWN_LENGTH_OF_FFMPEG else None

    @cached_property
    def n_samples(self) -> int:
        """Its length: as the header says, where it does not say less than there is, else what decodes."""
        found = self._held.n_samples
        if found and self.declared is not None and self.declared >= found - SLACK_S * self.sample_rate - PADDING:
            return self.declared
        if self.format == "mp3" and self.declared is None:  # nothing is cut away where no header tells of padding
            return found
        return _counted(self.path, self.ignore_length, stamp(self.path))

    @cached_property
    def _held(self) -> "Held":
        return _held(self.path, self.ignore_length, stamp(self.path))

    def chunks(self, begin: int, end: int | None) -> Iterator[np.ndarray]:
        """Float32 (N, C), decoded from the start or from some time before `begin`; to be called once."""
        sought = self._seek(begin)
        frames = self._frames()
        if (first := next(frames, None)) is None:
            return
        # Counted from the first frame on: some containers stamp only the first frame of a packet.
        position = self._position(first) if sought else 0
        for samples in self._joined(chain([first], frames)):
            if len(kept := samples[max(0, begin - position) : None if end is None else max(0, end - position)]):
                yield kept
            position += len(samples)
            if end is not None and position >= end:
                return

    def _seek(self, begin: int) -> bool:
        """Move to some time before `begin`; False where only decoding from the start can find the exact samples."""
        ahead = begin - round(PREROLL_S * self.sample_rate)
        if ahead <= 0 or not self.seeks_exactly:
            return False
        target = int(ahead / self.samples_per_tick) + (self.stream.start_time or 0)
        try:
            self.container_file.seek(target, stream=self.stream)
        except av.FFmpegError:
            return False
        return True

    def _position(self, frame: av.AudioFrame) -> int:
        """Number of a frame's first sample."""
        if frame.pts is None:
            raise ValueError("no time stamp after a seek")
        return round((frame.pts - (self.stream.start_time or 0)) * self.samples_per_tick)

    def _frames(self) -> Iterator[av.AudioFrame]:
        """What decodes; that which does not is an error if sound follows it, or is missing then."""
        error: av.FFmpegError | None = None
        n_samples = read_until = 0
        for packet in self.packets(self.stream):
            if packet.is_corrupt and self.format == "caf":
                raise AudioError(f"{self.path}: truncated, a packet after {self._at(n_samples)} is not whole")
            try:
                frames = cast("list[av.AudioFrame]", packet.decode())  # the stream is one of sound
            except av.InvalidDataError as failure:
                error = error or failure
                continue
            if frames and error:
                raise error
            if packet.size and packet.pos is not None:
                read_until = packet.pos + packet.size
            for frame in frames:
                self._refuse_another_form(frame)
                n_samples += frame.samples
                yield frame
        if self.declared is None:
            self._refuse_rest(n_samples, read_until, error)

    def packets(self, *streams: av.AudioStream) -> Iterator["av.Packet[av.stream.Stream]"]:
        """What lies in the file, undecoded, of these tracks or of all; to be called once."""
        try:
            yield from self.container_file.demux(*streams)
        except av.PatchWelcomeError as error:
            if self.format != "ogg":
                raise
            reason = "sample rate changes, or its number of channels, from link to link: cut it there"
            raise AudioError(f"{self.path}: its {reason}") from error

    def _refuse_rest(self, n_samples: int, read_until: int, error: av.FFmpegError | None) -> None:
        """Refuse what is left at the end of a file of no declared length, if it is more than a tag or zeros."""
        if self.format not in SELF_DELIMITING:
            if error:
                raise error
            return
        rest = bytes_of_sound_from(self.path, read_until)
        if n_samples and rest > read_until / n_samples * SLACK_S * self.sample_rate:
            raise AudioError(f"{self.path}: damaged, {rest} bytes after {self._at(n_samples)} are no sound")
        if rest and self.format == "aac":
            raise AudioError(f"{self.path}: truncated, its last frame after {self._at(n_samples)} is not whole")
        if rest:
            warn_once(f"{self.path}: its last {rest} bytes are no whole frame; it may have been longer")

    def _refuse_another_form(self, frame: av.AudioFrame) -> None:
        for what, first, found in (
            ("sample rate", self.sample_rate, frame.sample_rate),
            ("number of channels", self.n_channels, frame.layout.nb_channels),
        ):
            if first != found:
                raise AudioError(
                    f"{self.path}: its {what} changes from {first} to {found}: convert it, or cut it there"
                )

    def _at(self, n_samples: int) -> str:
        return f"{n_samples / self.sample_rate:.2f} s"

    @staticmethod
    def _joined(frames: Iterable[av.AudioFrame]) -> Iterator[np.ndarray]:
        """Frames, which may hold as few as 64 samples, as longer chunks (N, C)."""
        fifo, to_planar_float = av.AudioFifo(), av.AudioResampler(format="fltp")
        for frame in chain(frames, [None]):
            if frame is not None:
                frame.pts = None
                fifo.write(frame)
            if fifo.samples and (frame is None or fifo.samples >= SAMPLES_JOINED):
                for plain in to_planar_float.resample(fifo.read()):
                    yield plain.to_ndarray().T


@dataclass(frozen=True)
class Held:
    """What the packets of a file hold, undecoded."""

    n_samples: int  # of the audio track, padding included; 0 where packets do not tell
    ends_s: float  # of the track that ends last


@lru_cache(REMEMBERED)
def _held(path: Path, ignore_length: bool, state: Stamp) -> Held:
    """Every packet read once, and not again while the file is as it was."""
    with closing(FFmpegReader(path, ignore_length)) as reader:
        ticks, ends_s, is_mp3 = 0, 0.0, reader.format == "mp3"
        for packet in reader.packets():
            duration = packet.duration or 0
            if packet.stream_index == reader.stream.index and not (is_mp3 and bytes(packet)[:1] != MP3_FRAME):
                ticks += duration
            if packet.size and packet.pts is not None and packet.time_base:
                ends_s = max(ends_s, float((packet.pts + duration) * packet.time_base))
        return Held(round(ticks * reader.samples_per_tick), ends_s)


@lru_cache(REMEMBERED)
def _counted(path: Path, ignore_length: bool, state: Stamp) -> int:
    """Every sample decoded once, and not again while the file is as it was."""
    with closing(FFmpegReader(path, ignore_length)) as reader:
        return sum(map(len, reader.chunks(0, None)))


def fault_of_system(error: BaseException | None) -> OSError | None:
    """What the system said when a file could not be read, of an error or its causes; a decoder's say what is in it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, av.FFmpegError):
            return error
        error = error.__cause__
    return None
