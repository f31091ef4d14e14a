"""What the bytes of a file show: endings, limits, declared lengths, plain WAVs, and errors that name the file."""

import logging
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path

import numpy as np

from cry_lightning.console import UserError
from cry_lightning.files import kind_of

log = logging.getLogger(__name__)
UNCOMPRESSED = """
.wav .wave .bwf .rf64 .w64 .aif .aiff .aifc .au .snd .caf .voc .svx .8svx .iff
.sph .nist .ircam .sf .htk .paf .pvf .avr
"""
COMPRESSED = """
.flac .fla .alac .wv .tta .ape .tak .mp3 .mp2 .mp1 .mpga .m4a .m4b .m4r .aac .adts .ogg .oga .opus .spx .wma .asf .amr
.awb .3ga .ac3 .eac3 .dts .mpc .mka .weba .gsm .g722 .ra .rm .dss .qcp .latm .loas .dsf
"""
VIDEO = """
.mp4 .m4v .mov .qt .3gp .3g2 .3gpp .3gpp2 .mkv .webm .avi .wmv .flv .f4v .ts .mts .m2ts .mpg .mpeg .vob .ogv
"""
EXTENSIONS = frozenset(f"{UNCOMPRESSED} {COMPRESSED} {VIDEO}".split())
BESIDE = """
.txt .csv .tsv .md .rst .json .jsonl .yaml .yml .toml .cfg .ini .xml .html .htm .pdf .doc .docx .xls .xlsx .odt .ods
.rtf .tex .bib .log .textgrid .eaf .lab .trs .ctm .stm .rttm .srt .vtt .cha .praat .pitch .png .jpg .jpeg .gif .bmp
.tif .tiff .svg .webp .eps .ps .py .m .r .ipynb .sh .js .npy .npz .h5 .hdf5 .mat .pkl .pt .ckpt .parquet .feather .zip
.gz .tar .tgz .bz2 .xz .7z .rar .db .sha256 .md5 .cff .lock .part .tmp .bak .url .lnk .license
"""
NO_SOUND = frozenset(BESIDE.split())  # what lies beside recordings and holds none
SAMPLE_RATES = (2_000, 768_000)  # Hz; a header that says otherwise is damaged
MOST_CHANNELS = 64
MOST_SAMPLES = 1 << 30  # of a recording in memory at once, 4 GiB; longer ones are read in blocks or windows
SLACK_S = 0.1  # a declared length that is off by less is right: lossy codecs are padded, headers rounded
SILENT = "silent"  # begins the fault of a clip of zeros
NO_FILE, EMPTY = "there is no such file", "the file is empty"
KINDS_OF_FAULTS = {NO_FILE: "missing", EMPTY: "empty", SILENT: "silent"}  # by their beginnings; else "unreadable"
MOST_WARNINGS = 10_000  # remembered, so that none is repeated
SHORTEST_S = 0.01  # a clip shorter than this holds no sound worth a row
LOUDEST = 8.0  # of samples, where full scale is 1: recorders of floats go a little beyond, whole numbers far
CANCELLED = 1e-3  # channels whose mean has less than this share of their power cancel each other
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
RIFF_HEADER = 12
OGG_HEADER = 27
OGG_FIRST, OGG_LAST = 2, 4  # flags of a page
FRAME_COUNTS = (b"Xing", b"Info", b"VBRI")  # one of them stands in the first frame of an MP3 that tells its length
MP3_LOOKED_AT = 1 << 12  # bytes behind the tag: more than the longest frame
TAG_ID3V1, TAG_APE = 128, 32  # bytes, of the whole tag and of an APE tag's footer
LOOKED_AT = 1 << 20
LARGEST = 1 << 20  # bytes
MOST_NUMBERS = 1 << 18  # of all channels; more are better read in pieces
PCM, FLOAT = 1, 3
NOT_THERE = "File does not exist"  # as libsndfile has it where it cannot tell what a file is
CODECS = {(PCM, 16): "pcm_16", (PCM, 24): "pcm_24", (PCM, 32): "pcm_32", (FLOAT, 32): "float"}


class AudioError(UserError):
    """A file, or a part of one, that cannot be used as sound; the message begins with its path."""


@contextmanager
def as_audio_errors(path: str | Path) -> Iterator[None]:
    """Turn whatever a decoder raises, lack of memory included, into an AudioError of this file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # decoders raise what they like when a header is damaged
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
        if isinstance(error, MemoryError):
            reason = "it would need more memory than there is"
        reason = " ".join(str(reason).replace(str(path), "").split()) or type(error).__name__
        if reason.startswith(NOT_THERE):  # of a file that is there
            reason = "neither libsndfile nor FFmpeg finds sound in it"
        if (kind := kind_of(path)) not in ("", "a recording"):
            reason = f"it is {kind}"
        raise AudioError(f"{path}: cannot be decoded as sound ({reason})") from error


@lru_cache(MOST_WARNINGS)  # a server goes on for years
def warn_once(text: str) -> None:
    """Log what is odd about recordings, the first time that this process has it to say."""
    log.warning(text)


def what_it_is(path: Path) -> str:
    """What lies at a path, links followed, where it is no file: "a named pipe"; empty where it is one.

    Raises:
        OSError: nothing is there.
    """
    return _kind(path.stat().st_mode)


def _kind(mode: int) -> str:
    kind = stat.S_IFMT(mode)
    return "" if kind == stat.S_IFREG else KINDS.get(kind, "no file")


def kind_of_fault(reason: str) -> str:
    """What is wrong with a clip, in a word, by what an AudioError says of it behind its path."""
    return next((kind for text, kind in KINDS_OF_FAULTS.items() if reason.startswith(text)), "unreadable")


def check_file(path: Path) -> None:
    """Refuse what is no file with something in it; opening a named pipe would wait for ever.

    Raises:
        AudioError: it is none.
    """
    try:
        status = path.stat()
    except PermissionError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from error
    except (OSError, ValueError) as error:  # a name may be none
        raise AudioError(f"{path}: {NO_FILE}") from error
    if kind := _kind(status.st_mode):
        raise AudioError(f"{path}: is {kind}, no recording")
    if not status.st_size:
        raise AudioError(f"{path}: {EMPTY}")


def check_form(path: Path, sample_rate: int, n_channels: int) -> None:
    """Refuse a header that cannot be true.

    Raises:
        AudioError: its sample rate or number of channels is not plausible.
    """
    low, high = SAMPLE_RATES
    if sample_rate == 0:
        raise AudioError(f"{path}: states no sample rate: it is damaged, or holds no sound")
    if not low <= sample_rate <= high:
        raise AudioError(
            f"{path}: its header says {sample_rate:,} Hz, and sample rates are {low:,} to {high:,} Hz: it is damaged"
        )
    if not 1 <= n_channels <= MOST_CHANNELS:
        raise AudioError(f"{path}: its header says {n_channels} channels, and 1 to {MOST_CHANNELS} are plausible")


def bytes_behind_wav(path: Path) -> int:
    """How many bytes behind a WAV's data belong to no chunk, 0 if they are zeros: sound, if nobody closed the file."""
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(RIFF_HEADER)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return 0
        position, end_of_data = RIFF_HEADER, length
        while len(header := file.read(8)) == 8:
            size = int.from_bytes(header[4:], "little")
            after = position + 8 + size
            is_chunk = header[:4].isascii() and header[:4].decode().isprintable() and after <= length
            if end_of_data < length and not is_chunk:
                file.seek(end_of_data)
                return length - end_of_data if file.read(LOOKED_AT).strip(b"\0") else 0
            if header[:4] == b"data":
                end_of_data = after
            position = after + size % 2
            file.seek(position)
    return 0


@dataclass(frozen=True)
class OggPages:
    """What the pages of an Ogg file are, without decoding them."""

    n_links: int  # streams that follow each other, each with a beginning of its own
    is_cut: bool  # the last page is not whole
    is_closed: bool  # the last page says that it is the last


def ogg_pages(path: Path) -> OggPages:
    """Walk through the pages of an Ogg file."""
    n_links, flags, is_cut, began = 0, 0, False, False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        position = content.find(b"OggS")
        while position >= 0:
            end = position + OGG_HEADER
            if end > len(content):
                is_cut = True
                break
            end += content[end - 1]
            after = end + sum(content[position + OGG_HEADER : end])
            if is_cut := after > len(content):
                break
            flags = content[position + 5]
            n_links += bool(flags & OGG_FIRST) and not began  # several tracks of one link begin side by side
            began = bool(flags & OGG_FIRST)
            position = content.find(b"OggS", after)
    return OggPages(n_links, is_cut, bool(flags & OGG_LAST))


def mp3_tells_length(path: Path) -> bool:
    """Whether the first frame of an MP3 holds the number of frames; else any length is a guess from the bit rate."""
    with path.open("rb") as file:
        tag = file.read(10)
        if tag[:3] == b"ID3":
            file.seek(10 + int("".join(f"{byte & 0x7F:07b}" for byte in tag[6:]) or "0", 2))
        else:
            file.seek(0)
        head = file.read(MP3_LOOKED_AT)
    return any(name in head for name in FRAME_COUNTS)


def bytes_of_sound_from(path: Path, position: int) -> int:
    """How many bytes from a position on may be sound: zeros at the end, and ID3v1 and APE tags, are none."""
    with path.open("rb") as file:
        file.seek(position)
        tail = file.read(LOOKED_AT)
    if tail[-TAG_ID3V1:].startswith(b"TAG"):
        tail = tail[:-TAG_ID3V1]
    if tail[-TAG_APE:].startswith(b"APETAGEX"):
        size = int.from_bytes(tail[-TAG_APE:][12:16], "little") + TAG_APE
        tail = tail[: max(0, len(tail) - size)]
    return len(tail.strip(b"\0"))


class WavReader:
    """A recording in memory; see `recording.Reader`."""

    random_access = seeks_exactly = True
    container = "wav"

    def __init__(self, samples: np.ndarray, sample_rate: int, codec: str) -> None:
        self.samples = samples  # (N, C)
        self.sample_rate = sample_rate
        self.n_samples, self.n_channels = samples.shape
        self.declared: int | None = self.n_samples
        self.codec = codec

    def close(self) -> None:
        """Nothing is open."""

    def chunks(self, begin: int, end: int | None) -> Iterator[np.ndarray]:
        """Float32 (N, C) of the samples from `begin` to `end`."""
        if len(found := self.samples[begin:end]):
            yield found


def plain_wav(file: FileIO) -> WavReader | None:
    """The reader for a short WAV of 16, 24 or 32 bits or of float32, bit for bit as libsndfile reads it.

    None for any other file, and wherever the header is not as writers make it: such are for the decoders to judge.

    Args:
        file: open, at its beginning.
    """
    if os.fstat(file.fileno()).st_size > LARGEST or (found := _form_and_data(file.readall())) is None:
        return None
    form, data = found
    tag, n_channels, sample_rate, byte_rate, frame, bits = struct.unpack("<HHIIHH", form[:16])
    low, high = SAMPLE_RATES
    agrees = (
        len(form) == 16
        and (tag, bits) in CODECS
        and 1 <= n_channels <= MOST_CHANNELS
        and low <= sample_rate <= high
        and frame == n_channels * bits // 8
        and byte_rate == sample_rate * frame
        and 0 < len(data) <= MOST_NUMBERS * bits // 8
        and len(data) % frame == 0
    )
    if not agrees:
        return None
    samples = _as_float(data, tag, bits).reshape(-1, n_channels)
    return WavReader(samples, sample_rate, CODECS[tag, bits])


def _form_and_data(content: bytes) -> tuple[bytes, memoryview] | None:
    """The chunks `fmt ` and `data` of a WAV whose chunks fill the file exactly."""
    if content[:4] != b"RIFF" or content[8:RIFF_HEADER] != b"WAVE":
        return None
    if int.from_bytes(content[4:8], "little") != len(content) - 8:
        return None
    form = data = None
    position = RIFF_HEADER
    while position < len(content):
        name, size = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], "little")
        first = position + 8
        position = first + size + size % 2
        if position > len(content):
            return None
        if name == b"fmt " and form is None and data is None and size >= 16:
            form = content[first : first + size]
        elif name == b"data" and form is not None and data is None:
            data = memoryview(content)[first : first + size]
        elif not _changes_nothing(name, content[first : first + size], form):
            return None
    return None if form is None or data is None else (form, data)


def _changes_nothing(name: bytes, body: bytes, form: bytes | None) -> bool:
    """Whether a chunk is one that changes no sample, and as writers make it."""
    if name == b"fact":
        return len(body) == 4
    if name == b"PEAK":
        return form is not None and len(body) == 8 + 8 * int.from_bytes(form[2:4], "little")
    if name != b"LIST" or body[:4] != b"INFO":
        return False
    position = 4
    while position < len(body):
        size = int.from_bytes(body[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return position == len(body)


def _as_float(data: memoryview, tag: int, bits: int) -> np.ndarray:
    """Float32 (n,) of samples, whole numbers scaled to -1 to 1."""
    if tag == FLOAT:
        return np.frombuffer(data, "<f4").astype(np.float32)
    if bits == 24:  # as the upper bytes of 32
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return np.multiply(padded.view("<i4")[:, 0], np.float32(2**-31), dtype=np.float32)
    return np.multiply(np.frombuffer(data, f"<i{bits // 8}"), np.float32(2.0 ** (1 - bits)), dtype=np.float32)
