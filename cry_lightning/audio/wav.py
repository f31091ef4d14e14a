"""Short plain WAVs without a decoder: a header in which every number agrees, and samples as they lie in the file."""

import os
import struct
from collections.abc import Iterator
from io import FileIO

import numpy as np

from cry_lightning.audio.containers import MOST_CHANNELS, RIFF_HEADER, SAMPLE_RATES

LARGEST = 1 << 20  # bytes
MOST_NUMBERS = 1 << 18  # of all channels; more are better read in pieces
PCM, FLOAT = 1, 3
CODECS = {(PCM, 16): "pcm_16", (PCM, 24): "pcm_24", (PCM, 32): "pcm_32", (FLOAT, 32): "float"}


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
