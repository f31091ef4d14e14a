"""Lengths: what decodes decides, and what is missing of a declared length is told, in every container."""

import os
import shutil
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from test_audio import chirp, encode

from cry_lightning import audio
from cry_lightning.audio import AudioError
from cry_lightning.audio.containers import MOST_WARNINGS
from cry_lightning.audio.decoders import OPTIONS

RATE = 16000
ENCODED = {  # name -> codec, container, rate
    "a.mp3": ("libmp3lame", "mp3", RATE),
    "a.m4a": ("aac", "ipod", RATE),
    "a.mov": ("pcm_s16le", "mov", RATE),
    "alac.m4a": ("alac", "ipod", RATE),
    "a.3gp": ("aac", "3gp", RATE),
    "a.aac": ("aac", "adts", RATE),
    "a.mka": ("aac", "matroska", RATE),
    "mp3.mkv": ("libmp3lame", "matroska", RATE),
    "a.webm": ("libopus", "webm", 48000),
    "a.caf": ("adpcm_ima_qt", "caf", RATE),
    "pcm.caf": ("pcm_s16be", "caf", RATE),
    "a.opus": ("libopus", "ogg", 48000),
    "flac.oga": ("flac", "ogg", RATE),
    "a.avi": ("libmp3lame", "avi", RATE),
    "pcm.avi": ("pcm_s16le", "avi", RATE),
    "a.ts": ("mp2", "mpegts", RATE),
    "a.mpg": ("mp2", "mpeg", RATE),
    "a.mp2": ("mp2", "mp2", RATE),
    "a.ac3": ("ac3", "ac3", 32000),
    "ac3.mp4": ("ac3", "mp4", 32000),
    "a.flv": ("aac", "flv", RATE),
    "a.wv": ("wavpack", "wv", RATE),
    "a.tta": ("tta", "tta", RATE),
    "g722.wav": ("adpcm_g722", "wav", RATE),
    "a.g722": ("g722", "g722", RATE),
    "yamaha.wav": ("adpcm_yamaha", "wav", RATE),
    "mp3.wav": ("libmp3lame", "wav", RATE),
    "a.amr": ("libopencore_amrnb", "amr", 8000),
}
WRITTEN = {  # name -> format and subtype of libsndfile's
    "pcm.wav": ("WAV", "PCM_16"),
    "pcm24.wav": ("WAVEX", "PCM_24"),
    "mulaw.wav": ("WAV", "ULAW"),
    "ima.wav": ("WAV", "IMA_ADPCM"),
    "ms.wav": ("WAV", "MS_ADPCM"),
    "gsm.wav": ("WAV", "GSM610"),
    "g721.wav": ("WAV", "G721_32"),
    "a.w64": ("W64", "PCM_16"),
    "a.rf64": ("RF64", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.aifc": ("AIFF", "FLOAT"),
    "a.au": ("AU", "ALAW"),
    "float.caf": ("CAF", "FLOAT"),
    "a.sph": ("NIST", "PCM_16"),
}
UNDECLARED = {"a.ts", "a.mpg", "a.mp2", "a.ac3", "a.g722"}  # their length is what is there


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("healthy")
    for name, (codec, container, rate) in ENCODED.items():
        encode(folder / name, chirp(6.0, rate), codec, container, rate)
    for name, (form, subtype) in WRITTEN.items():
        soundfile.write(folder / name, chirp(6.0), RATE, format=form, subtype=subtype)
    return folder


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", [*ENCODED, *WRITTEN])
def test_length_segments_and_blocks_are_those_of_the_whole(healthy, name):
    path = healthy / name
    rate = audio.info(path).sample_rate
    whole = audio.load(path, rate)
    assert whole.size / rate == pytest.approx(6.0, abs=0.15)
    assert audio.info(path).duration_s == pytest.approx(whole.size / rate, abs=audio.SLACK_S)
    with audio.Recording(path) as recording:
        for start_s in (0.0, 0.3, 0.8, 4.8718, 4.2, 2.0):  # backwards too
            first = round(start_s * rate)
            expected = whole[first : first + rate]
            assert np.array_equal(audio.load(path, rate, start_s, 1.0), expected)
            assert np.array_equal(recording.segment(rate, start_s, 1.0), expected)
            assert np.array_equal(np.concatenate(list(audio.blocks(path, rate, 0.3, start_s, 1.0))), expected)


@pytest.mark.parametrize("name", [name for name in [*ENCODED, *WRITTEN] if name not in UNDECLARED])
@pytest.mark.parametrize("share", [0.3, 0.61])
def test_a_truncated_file_is_told(healthy, tmp_path, name, share):
    content = (healthy / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(AudioError, match=name):
        audio.load(tmp_path / name, RATE)


# --- MP3


def mp3(path: Path, variable: bool, tell_length: bool = False) -> bytes:
    """9 s, first noise and then a tone, so that the first frames are much larger than the last."""
    time = np.arange(9 * RATE) / RATE
    sound = np.where(time < 3, 0.3 * np.random.default_rng(0).standard_normal(time.size), 0.3 * np.sin(2000 * time))
    mode = {"bitrate_mode": "VARIABLE" if variable else "CONSTANT", "compression_level": 0.3}
    soundfile.write(path, sound, RATE, format="MP3", **mode)
    if not tell_length:
        with av.open(str(path)) as file:  # the frame that tells the length is no packet
            content = b"".join(bytes(packet) for packet in file.demux(file.streams.audio[0]) if packet.size)
        assert not any(word in content[:4096] for word in (b"Xing", b"Info"))
        path.write_bytes(content)
    return path.read_bytes()


@pytest.mark.parametrize("variable", [True, False])
def test_an_mp3_without_a_frame_count_is_as_long_as_it_is(tmp_path, variable):
    path = tmp_path / "a.mp3"
    mp3(path, variable)
    whole = audio.load(path, RATE)
    assert 9 <= whole.size / RATE < 9.2 and audio.info(path).duration_s == whole.size / RATE
    assert np.array_equal(audio.load(path, RATE, 7.5, 1.0), whole[120000:136000])


TAGS = {
    "zeros": bytes(9000),
    "a few zeros": bytes(3),
    "ID3v1": b"TAG" + b"title".ljust(125, b"\0"),
    "APE": b"APETAGEX" + struct.pack("<4I", 2000, 32 + 9, 1, 0) + bytes(8) + b"x" * 9
    + b"APETAGEX" + struct.pack("<4I", 2000, 32 + 9, 1, 0) + bytes(8),
}  # fmt: skip


@pytest.mark.parametrize("tell_length", [True, False])
@pytest.mark.parametrize("tail", TAGS.values(), ids=TAGS)
def test_what_follows_an_mp3_is_no_sound_and_no_fault(tmp_path, tail, tell_length):
    content = mp3(tmp_path / "a.mp3", True, tell_length)
    (tmp_path / "b.mp3").write_bytes(content + tail)
    expected, found = audio.load(tmp_path / "a.mp3", RATE), audio.load(tmp_path / "b.mp3", RATE)
    assert np.array_equal(found[: expected.size], expected)
    assert found.size - expected.size < 0.01 * RATE  # what the encoder filled up the last frame with
    lengths_s = [audio.info(tmp_path / name).duration_s for name in ("a.mp3", "b.mp3")]
    assert lengths_s[1] == pytest.approx(lengths_s[0], abs=0.01)


def test_an_mp3_half_of_which_is_no_sound_is_refused(tmp_path):
    content = mp3(tmp_path / "a.mp3", False)
    half = len(content) // 2
    (tmp_path / "b.mp3").write_bytes(content[:half] + b"\x11" * half)
    with pytest.raises(AudioError, match=r"b\.mp3: damaged"):
        audio.load(tmp_path / "b.mp3", RATE)


# --- Ogg


def test_all_links_of_a_chained_ogg_are_read(tmp_path, healthy):
    for name in ("a.ogg", "a.opus"):
        content = (healthy / name).read_bytes()
        (tmp_path / name).write_bytes(2 * content)
        rate = audio.info(healthy / name).sample_rate
        whole = audio.load(tmp_path / name, rate)
        assert audio.info(tmp_path / name).duration_s == whole.size / rate == pytest.approx(12.0, abs=0.05)
        assert np.array_equal(audio.load(tmp_path / name, rate, 9.0, 1.0), whole[9 * rate : 10 * rate])


def test_links_of_different_rates_are_refused_with_that_reason(tmp_path, healthy):
    soundfile.write(tmp_path / "other.ogg", chirp(2.0, 22050), 22050, format="OGG")
    (tmp_path / "a.ogg").write_bytes((healthy / "a.ogg").read_bytes() + (tmp_path / "other.ogg").read_bytes())
    with pytest.raises(AudioError, match=r"a\.ogg: .*(sample rate changes|Sample rate)"):
        audio.load(tmp_path / "a.ogg", RATE)


# --- WAV and FLAC whose headers were never finished, or are a little off


def sized(healthy: Path, path: Path, riff: int, data: int, tail: bytes = b"") -> Path:
    content = bytearray((healthy / "pcm.wav").read_bytes())
    assert content[36:40] == b"data"
    content[4:8], content[40:44] = struct.pack("<I", riff), struct.pack("<I", data)
    path.write_bytes(content + tail)
    return path


WHOLE = 6 * RATE * 2


@pytest.mark.parametrize(
    ("riff", "data", "tail", "warns"),
    [
        (0, 0, b"", True),
        (36, 0, b"", True),
        (36 + WHOLE, 0, b"", True),
        (36 + 32000, 32000, b"", True),  # closed at 1 s, and then gone on with
        (0xFFFFFFFF, 0xFFFFFFFF, b"", False),
        (0x7FFFF024, 0x7FFFF000, b"", False),
        (36 + WHOLE + 10, WHOLE + 10, b"", False),
        (36 + WHOLE, WHOLE, b"\x01", False),
        (36 + WHOLE + 18, WHOLE, b"LIST\x0a\0\0\0INFOxxxxxx", False),
        (36 + WHOLE, WHOLE, bytes(8000), False),
    ],
)
def test_a_wav_is_read_whole_whatever_its_header_says(healthy, tmp_path, caplog, riff, data, tail, warns):
    path = sized(healthy, tmp_path / "a.wav", riff, data, tail)
    expected = audio.load(healthy / "pcm.wav", RATE)
    assert audio.info(path).duration_s == 6.0 and np.array_equal(audio.load(path, RATE), expected)
    assert np.array_equal(audio.load(path, RATE, 5.0, 1.0), expected[-RATE:])
    assert bool(caplog.messages) == warns and all("never closed" in told for told in caplog.messages)


def test_a_wav_a_few_bytes_short_is_whole_and_one_far_shorter_is_not(healthy, tmp_path):
    assert audio.load(sized(healthy, tmp_path / "a.wav", 36 + WHOLE, WHOLE - 10), RATE).size == 6 * RATE - 5
    with pytest.raises(AudioError, match="truncated, the header promises"):
        audio.load(sized(healthy, tmp_path / "b.wav", 0, WHOLE + 8000), RATE)


def test_a_flac_written_to_a_pipe_is_sound(healthy, tmp_path):
    content = bytearray((healthy / "a.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples, 36 bits, is not known
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    whole = audio.load(healthy / "a.flac", RATE)
    assert audio.info(tmp_path / "a.flac").duration_s == 6.0
    assert np.array_equal(audio.load(tmp_path / "a.flac", RATE), whole)
    assert np.array_equal(audio.load(tmp_path / "a.flac", RATE, 5.0, 1.0), whole[5 * RATE :])


# --- what cannot be true


@pytest.mark.parametrize(
    ("rate", "told"), [(1, "1 Hz"), (1999, "1,999 Hz"), (800000, "800,000 Hz"), (0, "damaged|decoded")]
)
def test_an_implausible_sample_rate_is_refused(healthy, tmp_path, rate, told):
    content = bytearray((healthy / "pcm.wav").read_bytes())
    content[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=told):
        audio.load(tmp_path / "a.wav", RATE)


@pytest.mark.parametrize(
    "content", [b"\x00", b"f", b"\xff\xf1\x50", b"ID3", b"OggS", b"RIFF", b"RIFF\0\0\0\0WAVE", b"NIST"]
)
def test_a_file_of_a_few_bytes_is_refused(tmp_path, content):
    for name in ("a.wav", "a.aac", "a.flac", "a.mp3"):
        (tmp_path / name).write_bytes(content)
        for read in (audio.info, lambda path: audio.load(path, RATE)):
            with pytest.raises(AudioError, match=name):
                read(tmp_path / name)


def test_what_is_no_file_is_refused_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    (tmp_path / "c.wav").symlink_to("/dev/zero")
    for name, told in (("a.wav", "is a named pipe"), ("b.wav", "is a named pipe"), ("c.wav", "is a device")):
        with pytest.raises(AudioError, match=told):
            audio.load(tmp_path / name, RATE)


def test_ffmpeg_may_open_files_alone(tmp_path, healthy):
    assert OPTIONS["protocol_whitelist"] == "file"
    assert not {"hls", "concat", "dash", "sdp", "rtsp", "lavfi", "image2"} & set(OPTIONS["format_whitelist"].split(","))
    shutil.copy(healthy / "a.ts", tmp_path / "a.ts")
    for name in ("list.m3u8", "list.mp3"):
        (tmp_path / name).write_text("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n")
        with pytest.raises(AudioError):
            audio.load(tmp_path / name, RATE)


# --- tracks and channels


def test_channels_that_cancel_are_told(tmp_path):
    sound = chirp(2.0)
    for name, right in (("anti.wav", -sound), ("half.wav", 0 * sound), ("same.wav", sound)):
        soundfile.write(tmp_path / name, np.stack([sound, right], axis=1), RATE)
    with pytest.raises(AudioError, match="channels cancel each other"):
        audio.load_fitted(tmp_path / "anti.wav", 8000, 1.0, "pad")
    with pytest.raises(AudioError, match="channels cancel each other"):
        list(audio.blocks(tmp_path / "anti.wav", 8000, 1.0))
    for name in ("half.wav", "same.wav"):
        assert audio.load_fitted(tmp_path / name, 8000, 1.0, "pad").any()


def test_of_two_tracks_the_default_one_is_read(tmp_path):
    path, sounds = tmp_path / "a.mka", (np.full(RATE, 0.1), np.full(RATE, 0.4))
    with av.open(str(path), "w", format="matroska") as output:
        streams = [output.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in sounds]
        streams[0].disposition = 0
        streams[1].disposition = av.stream.Disposition.default
        for stream, sound in zip(streams, sounds, strict=True):
            frame = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16)[None], format="s16", layout="mono")
            frame.rate, frame.pts = RATE, 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    assert audio.load(path, RATE).mean() == pytest.approx(0.4, abs=1e-3)


def test_warnings_are_remembered_but_not_without_end(caplog):
    """A server has something to say of ever other recordings."""
    for _ in range(2):
        audio.warn_once("odd")
    assert caplog.messages == ["odd"]
    caplog.set_level("ERROR")
    for number in range(MOST_WARNINGS + 5):
        audio.warn_once(f"odd {number}")
    assert audio.warn_once.cache_info().currsize == MOST_WARNINGS
    audio.warn_once.cache_clear()
