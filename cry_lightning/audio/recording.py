"""A recording opened once: its form, and any segment of it as mono samples of a given rate and length."""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
import numpy as np
import soundfile
import soxr

from cry_lightning.audio.containers import (
    CANCELLED,
    LOUDEST,
    MOST_SAMPLES,
    SHORTEST_S,
    SILENT,
    SLACK_S,
    AudioError,
    WavReader,
    as_audio_errors,
    bytes_behind_wav,
    check_file,
    ogg_pages,
    plain_wav,
    warn_once,
)
from cry_lightning.audio.decoders import UNKNOWN_LENGTH, FFmpegReader, SoundFileReader
from cry_lightning.console import UserError

Fit = Literal["pad", "repeat", "crop"]
# An open recording. Where it has random access, `chunks` can be called again and again at little cost; where it seeks
# exactly, it need not decode all that is before `begin`. `declared` are the samples that its header promises.
Reader = SoundFileReader | FFmpegReader | WavReader
# The length of the file, bytes a second, and bytes of sound, as libsndfile's log of a WAV tells them.
WAV_SIZES = re.compile(r"^Length : (\d+)$.*^ *Bytes/sec +: (\d+)$.*^data : (\d+)", re.MULTILINE | re.DOTALL)
EMPTY = 1 << 12  # bytes: a file of this size may be a header without sound
MARGIN_S = 0.05  # read on both sides of a segment, so that resampling does not see its edges


def fit_to_length(waveform: np.ndarray, n_samples: int, fit: Fit) -> np.ndarray:
    """A waveform (N,) made `n_samples` long: the centre of a longer one, a shorter one as `fit` says.

    "pad" puts zeros on both sides, "repeat" tiles from the beginning, "crop" refuses.

    Raises:
        UserError: the waveform is shorter and may only be cropped.
    """
    missing = n_samples - waveform.size
    if missing <= 0:
        return waveform[-missing // 2 :][:n_samples]
    if fit == "pad":
        padded = np.zeros(n_samples, waveform.dtype)
        padded[missing // 2 :][: waveform.size] = waveform
        return padded
    if fit == "repeat":
        return np.resize(waveform, n_samples)
    raise UserError(f"{waveform.size} samples where {n_samples} are needed; use the fit `pad` or `repeat`")


@contextmanager
def opened(path: str | Path) -> Iterator[Reader]:
    """The reader for a file, chosen by its content; whatever fails inside is raised as an AudioError."""
    with as_audio_errors(path), closing(open_reader(Path(path))) as reader:
        yield reader


def open_reader(path: Path) -> Reader:
    """The reader for a file.

    Raises:
        AudioError: it is no file, truncated, or not plausible; a decoder may raise anything else.
    """
    check_file(path)
    with path.open("rb", buffering=0) as file:
        head = file.read(4)
        file.seek(0)
        if head == b"RIFF" and (plain := plain_wav(file)) is not None:
            return plain
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
            found = f"its header promises {promised_s:.2f} s of sound, and {behind:,} bytes more are there"
            warn_once(f"{path}: {found}; the recorder never closed the file, and all of it is read")
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
    sizes = WAV_SIZES.search(reader.log)
    few = SLACK_S * int(sizes[2]) if sizes else 0
    if sizes and int(sizes[1]) - int(sizes[3]) <= few:  # as in nearly all: nothing need be looked at
        return 0
    behind = bytes_behind_wav(path)
    return behind if sizes and behind > few else 0


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


class Recording:
    """A recording that is open; segments of it, best taken in the order of time.

    Where the decoder cannot go to any place at little cost, it goes on from one segment to the next, and begins anew
    only for what lies behind. Memory holds what was decoded since the beginning of the last segment, no more. The
    samples are those that would come of opening the recording for each segment anew.

    Args:
        path: a file of any container.

    Raises:
        AudioError: the file is no sound, or truncated.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._forward: Iterator[np.ndarray] | None = None  # chunks (N, C) yet to come of a decoder on its way
        self._held: list[np.ndarray] = []  # chunks of it that a later segment may begin in
        self._first = self._after = 0  # number of their first sample, and of the one behind them
        self._failure: Exception | None = None  # why decoding broke off,
        self._after_failure = 0  # and behind which sample
        with as_audio_errors(path):
            self._reader: Reader = open_reader(self.path)

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._forward, self._held = None, []
        self._reader.close()

    @property
    def duration_s(self) -> float:
        """Its length."""
        with as_audio_errors(self.path):
            return self._reader.n_samples / self._reader.sample_rate

    @property
    def sample_rate(self) -> int:
        """Its own, Hz."""
        return self._reader.sample_rate

    def fitted(
        self, sample_rate: int, duration_s: float, fit: Fit, start_s: float = 0.0, clip_duration_s: float | None = None
    ) -> np.ndarray:
        """See `loading.load_fitted`."""
        length_s = self.duration_s - start_s if clip_duration_s is None else clip_duration_s
        if length_s > duration_s:
            start_s, clip_duration_s = start_s + (length_s - duration_s) / 2, duration_s
        waveform = self.segment(sample_rate, start_s, clip_duration_s)
        if waveform.size < SHORTEST_S * sample_rate:
            raise AudioError(f"{self.path}: {waveform.size} samples at {start_s:g} s are too short for a clip")
        if not waveform.any():
            raise AudioError(f"{self.path}: {SILENT}, every sample at {start_s:g} s is zero")
        try:
            return fit_to_length(waveform, round(duration_s * sample_rate), fit)
        except UserError as error:
            raise AudioError(f"{self.path}: {error}") from error

    def segment(self, sample_rate: int, start_s: float = 0.0, duration_s: float | None = None) -> np.ndarray:
        """See `load`."""
        with as_audio_errors(self.path):
            return self._segment(sample_rate, start_s, duration_s)

    def _segment(self, sample_rate: int, start_s: float, duration_s: float | None) -> np.ndarray:
        own_rate = self._reader.sample_rate
        first = round(start_s * sample_rate)
        n_samples = None if duration_s is None else round(duration_s * sample_rate)
        # Begin on a sample that both rates share, so that the resampled grid is that of the whole recording.
        step = own_rate // math.gcd(own_rate, sample_rate)
        margin = 0 if own_rate == sample_rate else math.ceil(MARGIN_S * own_rate)
        begin = max(0, first * own_rate // sample_rate - margin) // step * step
        end = None
        if n_samples is not None:
            end = math.ceil((first + n_samples) * own_rate / sample_rate) + margin
        if (self._reader.n_samples if end is None else end) - begin > MOST_SAMPLES:
            raise AudioError(f"{self.path}: too long to be held in memory at once; cut it into windows (`window_s`)")
        pieces = mono(self.path, self._reader, self._between(begin, end), begin, end)
        waveform = np.concatenate([np.zeros(0, np.float32), *pieces])
        if own_rate != sample_rate:
            waveform = soxr.resample(waveform, own_rate, sample_rate, quality="HQ")
        waveform = waveform[first - begin * sample_rate // own_rate :]
        if not waveform.size:
            raise AudioError(f"{self.path}: holds no samples at {start_s:g} s")
        if n_samples is not None and waveform.size < n_samples - SLACK_S * sample_rate:
            wanted_s, ends_s = start_s + n_samples / sample_rate, start_s + waveform.size / sample_rate
            raise AudioError(
                f"{self.path}: ends at {ends_s:.2f} s, before the segment that should end at {wanted_s:.2f} s"
            )
        return waveform[:n_samples]

    def _between(self, begin: int, end: int | None) -> Iterator[np.ndarray]:
        """Chunks (N, C) of the samples from `begin` to `end`."""
        if self._reader.random_access:
            yield from self._reader.chunks(begin, end)
            return
        if self._failure and (end is None or end > self._after_failure):
            if not self._reader.seeks_exactly:
                raise self._failure
            with closing(open_reader(self.path)) as reader:  # what lies behind the damage may be whole
                yield from reader.chunks(begin, end)
            return
        if self._forward is None or begin < self._first:
            self._begin_anew(begin)
        while self._held and self._first + len(self._held[0]) <= begin:
            self._first += len(self._held.pop(0))
        position = self._first
        for chunk in self._held:
            yield chunk[max(0, begin - position) : None if end is None else max(0, end - position)]
            position += len(chunk)
        while end is None or self._after < end:
            position = self._after
            if (coming := self._next(begin)) is None:
                return
            yield coming[max(0, begin - position) : None if end is None else max(0, end - position)]

    def _begin_anew(self, begin: int) -> None:
        if self._forward is not None:
            self._reader.close()
            self._reader = open_reader(self.path)
        self._forward = self._reader.chunks(begin, None)
        self._held = []
        self._first = self._after = begin

    def _next(self, begin: int) -> np.ndarray | None:
        """The next chunk (N, C), kept where it reaches behind `begin`; None at the end."""
        assert self._forward is not None
        try:
            chunk = next(self._forward, None)
        except Exception as error:
            self._failure, self._after_failure = error, self._after
            raise
        if chunk is None:
            return None
        self._after += len(chunk)
        if self._after > begin:
            self._held.append(chunk)
        else:
            self._first = self._after
        return chunk


def fault_of(samples: np.ndarray) -> str:
    """What is wrong with samples of any shape, which are between -1 and 1 or a little beyond; empty if nothing is."""
    peak = float(np.abs(samples).max(initial=0))
    if peak <= LOUDEST:
        return ""
    if not math.isfinite(peak):
        return "holds NaN or infinite samples"
    return f"its samples reach {peak:,.6g}, where sound is between -1 and 1; divide those of 16 bits by 32768"


def mono(path: Path, reader: Reader, chunks: Iterable[np.ndarray], begin: int, end: int | None) -> Iterator[np.ndarray]:
    """The mean (N,) of the channels of chunks (N, C) from `begin` to `end`, refused where it cannot be trusted."""
    n_read, power, power_of_mean = 0, 0.0, 0.0
    for chunk in chunks:
        if fault := fault_of(chunk):
            raise AudioError(f"{path}: {fault}")
        n_read += len(chunk)
        if reader.n_channels == 1:
            yield chunk[:, 0]
            continue
        mean = chunk.mean(axis=1)
        power += float(np.square(chunk).mean(axis=1, dtype=np.float64).sum())
        power_of_mean += float(np.square(mean).sum(dtype=np.float64))
        yield mean
    if power_of_mean < CANCELLED * power:
        raise AudioError(
            f"{path}: its channels cancel each other, so that nothing is left of their mean; give one of them"
        )
    if end is not None and begin + n_read >= end:
        return
    declared = reader.declared or 0
    if begin + n_read < min(declared, end or declared) - SLACK_S * reader.sample_rate:
        at_s, of_s = (begin + n_read) / reader.sample_rate, declared / reader.sample_rate
        raise AudioError(f"{path}: truncated or damaged, breaks off at {at_s:.2f} s of {of_s:.2f} s")
