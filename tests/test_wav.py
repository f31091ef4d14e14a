"""Short plain WAVs: the samples of libsndfile, bit for bit, and every odd header left to the decoders."""

import struct
from contextlib import suppress

import numpy as np
import pytest
import soundfile

from cry_lightning import audio
from cry_lightning.audio import AudioError, recording
from cry_lightning.audio.containers import WavReader
from cry_lightning.audio.decoders import SoundFileReader

SUBTYPES = ("PCM_16", "PCM_24", "PCM_32", "FLOAT")
RATE = 8000


def sound(n_channels: int = 1, n: int = 999) -> np.ndarray:
    noise = np.random.default_rng(n_channels).uniform(-1, 1, (n, n_channels))
    noise[:3] = [[-1.0], [1.0], [2**-31]]
    return noise


def riff(data: bytes, form: bytes | None = None, before: bytes = b"", after: bytes = b"", size: int | None = None):
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16) if form is None else form
    chunks = b"WAVE" + chunk(b"fmt ", form) + before + chunk(b"data", data) + after
    return b"RIFF" + struct.pack("<I", len(chunks) if size is None else size) + chunks


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) % 2)


def outcome(path) -> tuple:
    """The samples, or the error, of a file, of its middle, and what it says of itself."""
    found = []
    for load in (
        lambda: audio.load(path, RATE),
        lambda: audio.load(path, 16000),
        lambda: audio.load(path, RATE, 0.02, 0.05),
        lambda: audio.load_fitted(path, RATE, 0.1, "pad"),
        lambda: np.concatenate([np.zeros(0), *audio.blocks(path, RATE, 0.03)]),
    ):
        try:
            found.append(load().tobytes())
        except AudioError as error:
            found.append(str(error))
    try:
        found.append(audio.info(path))
    except AudioError as error:
        found.append(str(error))
    return tuple(found)


@pytest.fixture
def same_as_before(monkeypatch):
    """Asserts that a file is what it is to the decoders alone; returns whether it was read without them."""

    def check(path) -> bool:
        plain = False
        with suppress(AudioError), recording.opened(path) as reader:
            plain = isinstance(reader, WavReader)
        now = outcome(path)
        with monkeypatch.context() as patch:
            patch.setattr(recording, "plain_wav", lambda file: None)
            assert outcome(path) == now
        return plain

    return check


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_samples_are_those_of_libsndfile(tmp_path, same_as_before, subtype, n_channels):
    path = tmp_path / "a.wav"
    soundfile.write(path, sound(n_channels), RATE, subtype)
    assert same_as_before(path)
    reference = SoundFileReader(path)
    with recording.opened(path) as reader:
        (here,), (there,) = reader.chunks(0, None), reference.chunks(0, None)
        assert here.dtype == np.float32 and here.tobytes() == there.tobytes() and here.shape == there.shape
        for name in ("sample_rate", "n_channels", "container", "codec", "n_samples", "declared", "random_access"):
            assert getattr(reader, name) == getattr(reference, name), name
    reference.close()


@pytest.mark.parametrize("subtype", ["PCM_U8", "ULAW", "ALAW", "DOUBLE", "IMA_ADPCM"])
def test_other_codecs_are_left_to_libsndfile(tmp_path, same_as_before, subtype):
    soundfile.write(tmp_path / "a.wav", sound(), RATE, subtype)
    assert not same_as_before(tmp_path / "a.wav")


DATA = np.arange(-400, 400, dtype="<i2").tobytes()
FORM = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
PLAIN = {
    "as it should be": riff(DATA),
    "a list before the data": riff(DATA, before=chunk(b"LIST", b"INFOISFT\x05\0\0\0test\0\0")),
    "a list behind it": riff(DATA, after=chunk(b"LIST", b"INFOISFT\x04\0\0\0test")),
}
ODD = {
    "an odd list": riff(DATA, before=chunk(b"LIST", b"INFO123")),
    "an odd list behind it": riff(DATA, after=chunk(b"LIST", b"INFOISFT\xff\0\0\0test")),
    "an odd fact": riff(DATA, before=chunk(b"fact", b"12")),
    "an odd peak": riff(DATA, before=chunk(b"PEAK", b"12")),
    "half of it": riff(DATA)[:900],
    "a byte less": riff(DATA)[:-1],
    "a header alone": riff(DATA)[:44],
    "half a header": riff(DATA)[:20],
    "no data chunk": riff(DATA)[:36],
    "no sound": riff(b""),
    "half a sample": riff(DATA[:-1]),
    "an unclosed recorder": riff(DATA, size=0)[:40] + bytes(4) + DATA,
    "the size of a pipe": riff(DATA, size=0xFFFFFFFF)[:40] + b"\xff" * 4 + DATA,
    "a size too small": riff(DATA)[:40] + struct.pack("<I", 100) + DATA,
    "a size too large": riff(DATA)[:40] + struct.pack("<I", len(DATA) + 1000) + DATA,
    "a wrong size of the whole": riff(DATA, size=12),
    "bytes behind": riff(DATA) + b"TAG" * 50,
    "zeros behind": riff(DATA) + bytes(100),
    "a foreign chunk": riff(DATA, before=chunk(b"\xff\xfe\0\1", b"what")),
    "two data chunks": riff(DATA, after=chunk(b"data", DATA)),
    "data before the form": b"RIFF" + struct.pack("<I", len(DATA) + 36) + b"WAVE" + chunk(b"data", DATA)
    + chunk(b"fmt ", FORM),
    "no channels": riff(DATA, struct.pack("<HHIIHH", 1, 0, RATE, 2 * RATE, 2, 16)),
    "many channels": riff(DATA, struct.pack("<HHIIHH", 1, 400, RATE, 800 * RATE, 800, 16)),
    "no rate": riff(DATA, struct.pack("<HHIIHH", 1, 1, 0, 0, 2, 16)),
    "a great rate": riff(DATA, struct.pack("<HHIIHH", 1, 1, 4_000_000, 8_000_000, 2, 16)),
    "a wrong byte rate": riff(DATA, struct.pack("<HHIIHH", 1, 1, RATE, RATE, 2, 16)),
    "a wrong frame": riff(DATA, struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 4, 16)),
    "12 bits": riff(DATA, struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 12)),
    "an extensible form": riff(DATA, FORM + struct.pack("<H", 0)),
    "an unknown codec": riff(DATA, struct.pack("<HHIIHH", 0x2000, 1, RATE, 2 * RATE, 2, 16)),
    "no RIFF": b"RIFX" + riff(DATA)[4:],
    "no WAVE": riff(DATA).replace(b"WAVE", b"WAVF"),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_whatever_the_header_nothing_changes(tmp_path, same_as_before, name):
    path = tmp_path / "a.wav"
    path.write_bytes((PLAIN | ODD)[name])
    assert same_as_before(path) == (name in PLAIN)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.nan, "holds NaN or infinite samples"),
        (-np.inf, "holds NaN or infinite samples"),
        (-32768.0, r"its samples reach 32,768, where sound is between -1 and 1; divide those of 16 bits by 32768"),
        (8.5, r"its samples reach 8\.5, where"),
        (-3.0, ""),
    ],
)
def test_numbers_that_are_no_samples_are_refused_as_before(tmp_path, same_as_before, value, reason):
    samples = sound().astype(np.float32)
    samples[500] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, "FLOAT")
    same_as_before(tmp_path / "a.wav")
    if not reason:
        assert audio.load(tmp_path / "a.wav", RATE)[500] == value
        return
    with pytest.raises(AudioError, match=reason):
        audio.load(tmp_path / "a.wav", RATE)


def test_a_long_one_is_read_in_pieces(tmp_path, same_as_before):
    soundfile.write(tmp_path / "a.wav", sound(n=2**18 + 1), RATE)
    assert not same_as_before(tmp_path / "a.wav")


@pytest.mark.slow
def test_any_byte_of_the_header_changed_changes_nothing_else(tmp_path, same_as_before):
    path, rng = tmp_path / "a.wav", np.random.default_rng(0)
    for whole in [*PLAIN.values()][:2]:
        for place in range(72):
            for value in (255, int(rng.integers(0, 255))):
                path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
                same_as_before(path)
