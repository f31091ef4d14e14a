"""Audio: any container, any segment, and every way a file can be bad."""

import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from made import DATA, real

from cry_lightning import audio
from cry_lightning.audio import AudioError, recording
from cry_lightning.console import UserError

RATE = 16000


def chirp(seconds: float, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (300 + 40 * time) * time) * (1 + 0.5 * np.sin(9 * time))).astype(np.float32)


def encode(path: Path, samples: np.ndarray, codec: str, container: str, rate: int = RATE) -> Path:
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        size = stream.codec_context.frame_size or 1024
        to_codec = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate, frame_size=size)
        for piece in [*to_codec.resample(frame), *to_codec.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.square(found - expected).mean() / np.square(expected).mean()))


@pytest.fixture(scope="module")
def wav(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("wav") / "chirp.wav"
    soundfile.write(path, chirp(3.0), RATE, subtype="PCM_16")
    return path


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.wav", {"subtype": "PCM_16"}, 2e-4),
        ("a.wav", {"subtype": "PCM_24"}, 1e-6),
        ("a.flac", {}, 2e-4),
        ("a.ogg", {}, 0.05),
        ("a.mp3", {}, 0.05),
    ],
)
def test_soundfile_formats_are_read_whatever_the_extension_says(tmp_path, name, options, tolerance):
    sound = chirp(3.0)
    soundfile.write(tmp_path / name, sound, RATE, **options)
    renamed = (tmp_path / name).rename(tmp_path / "disguised.3gp")
    loaded = audio.load(renamed, RATE)
    assert loaded.dtype == np.float32 and audio.info(renamed) == audio.AudioInfo(RATE, 1, 3.0)
    assert relative_error(loaded, sound) < tolerance


@pytest.mark.parametrize(
    ("name", "codec", "container", "tolerance"),
    [
        ("a.mov", "pcm_s16le", "mov", 2e-4),
        ("a.m4a", "aac", "mp4", 0.02),
        ("a.mp4", "aac", "mp4", 0.02),
        ("a.3gp", "aac", "3gp", 0.02),
        ("a.caf", "adpcm_ima_qt", "caf", 0.06),
    ],
)
def test_ffmpeg_formats_decode_to_what_was_encoded(tmp_path, name, codec, container, tolerance):
    sound = chirp(3.0)
    path = encode(tmp_path / name, sound, codec, container)
    assert audio.info(path) == audio.AudioInfo(RATE, 1, 3.0)
    assert relative_error(audio.load(path, RATE)[: sound.size], sound) < tolerance


@pytest.mark.parametrize(
    ("name", "codec", "container", "tolerance"),
    [
        ("a.mov", "pcm_s16le", "mov", 0),
        ("a.m4a", "aac", "mp4", 0),
        ("a.caf", "adpcm_ima_qt", "caf", 0),  # the decoder keeps the fine part of its state from packet to packet
        ("a.mp3", "libmp3lame", "mp3", 0),
        ("a.opus", "libopus", "ogg", 0),
        ("a.flac", "flac", "flac", 0),
        ("a.aac", "aac", "adts", 0),
        ("a.webm", "libopus", "webm", 0),  # stamps too coarse to seek by
    ],
)
def test_a_segment_equals_the_slice_of_the_whole(tmp_path, name, codec, container, tolerance):
    rate = 48000 if codec == "libopus" else RATE
    path = encode(tmp_path / name, chirp(9.0, rate), codec, container, rate)
    whole = audio.load(path, rate)
    for start_s in (0.0, 0.3, 4.2718, 5.0, 7.9):
        first = round(start_s * rate)
        segment = audio.load(path, rate, start_s, 1.0)
        assert np.abs(segment - whole[first : first + rate]).max() <= tolerance


@pytest.mark.slow
def test_segments_of_variable_bit_rate_mp3_are_clean(tmp_path):
    rng = np.random.default_rng(0)
    noisy = chirp(30.0, 44100) + 0.1 * rng.standard_normal(30 * 44100) * (np.arange(30 * 44100) % 88200 > 44100)
    soundfile.write(tmp_path / "a.mp3", noisy, 44100, bitrate_mode="VARIABLE", compression_level=0.0)
    whole = audio.load(tmp_path / "a.mp3", 44100)
    for start_s in (9.9, 17.3, 28.5):
        first = round(start_s * 44100)
        segment = audio.load(tmp_path / "a.mp3", 44100, start_s, 1.0)
        assert np.abs(segment - whole[first : first + 44100]).max() < 1e-6


@pytest.mark.parametrize("rate", [11025, 22050, 44100, 44101])
def test_resampled_segments_and_blocks_lie_on_the_grid_of_the_whole(tmp_path, rate):
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(1).normal(size=rate * 4 + 17) * 0.2, rate, subtype="FLOAT")
    whole = audio.load(path, 8000)
    for start_s in (0.0, 0.1, 1.00317, 2.5):
        first = round(start_s * 8000)
        assert np.abs(audio.load(path, 8000, start_s, 1.2) - whole[first : first + 9600]).max() < 1e-6
    blocks = list(audio.blocks(path, 8000, 0.7))
    assert {len(block) for block in blocks[:-1]} == {5600}
    assert np.array_equal(np.concatenate(blocks), whole)


def test_resampling_leaves_no_alias(tmp_path):
    time = np.arange(RATE * 2) / RATE
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 6000 * time), RATE, subtype="FLOAT")
    middle = audio.load(tmp_path / "a.wav", 8000)[2000:-2000]
    assert 20 * np.log10(np.abs(middle).max() / 0.5) < -100


def test_stereo_of_24_bit_and_44_100_hz_becomes_the_mean_of_its_channels(tmp_path):
    left, right = chirp(1.0, 44100), np.full(44100, 0.25, np.float32)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 44100, subtype="PCM_24")
    assert audio.info(tmp_path / "a.wav").n_channels == 2
    assert np.abs(audio.load(tmp_path / "a.wav", 44100) - (left + right) / 2).max() < 2e-7


@pytest.mark.parametrize(
    ("name", "subtype"), [("long.wav", "PCM_16"), ("long.flac", "PCM_16"), ("long.ogg", "VORBIS"), ("long.mov", "pcm")]
)
def test_a_segment_of_a_long_file_decodes_little_more_than_itself(tmp_path, monkeypatch, name, subtype):
    path = tmp_path / name
    if subtype == "pcm":
        encode(path, chirp(120.0), "pcm_s16le", "mov")
    else:
        with soundfile.SoundFile(path, "w", RATE, 1, subtype) as file:
            for _ in range(12):  # a long write in one piece overflows the Vorbis encoder's stack
                file.write(chirp(10.0))
    seen = []
    for reader in (recording.SoundFileReader, recording.FFmpegReader):
        chunks = reader.chunks
        monkeypatch.setattr(
            reader, "chunks", lambda self, b, e, chunks=chunks: (seen.append(c.size) or c for c in chunks(self, b, e))
        )
    tracemalloc.start()
    audio.load(path, 8000, 110.0, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(seen) < 2 * RATE and peak < 2e6  # the whole is 7.7 MB


def test_blocks_need_memory_for_one_block_only(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.wav", "w", RATE, 1) as file:
        for _ in range(60):
            file.write(chirp(10.0))
    tracemalloc.start()
    n_samples = sum(map(len, audio.blocks(tmp_path / "a.wav", 8000, 1.0)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_samples == 600 * 8000 and peak < 8e6  # the whole is 38 MB


def test_fit_to_length():
    ramp = np.arange(1, 6, dtype=np.float32)
    assert audio.fit_to_length(ramp, 3, "crop").tolist() == [2, 3, 4]
    assert audio.fit_to_length(ramp, 5, "crop").tolist() == [1, 2, 3, 4, 5]
    assert audio.fit_to_length(ramp, 8, "pad").tolist() == [0, 1, 2, 3, 4, 5, 0, 0]
    assert audio.fit_to_length(ramp, 8, "repeat").tolist() == [1, 2, 3, 4, 5, 1, 2, 3]
    with pytest.raises(UserError, match="pad"):
        audio.fit_to_length(ramp, 8, "crop")


def test_load_fitted_takes_the_centre_of_the_clip(wav):
    whole = audio.load(wav, 8000)
    for found, first in [
        (audio.load_fitted(wav, 8000, 1.0, "crop"), 8000),
        (audio.load_fitted(wav, 8000, 1.0, "crop", start_s=2.0), 16000),
        (audio.load_fitted(wav, 8000, 1.0, "crop", start_s=0.5, clip_duration_s=2.0), 8000),
    ]:
        assert found.size == 8000 and np.abs(found - whole[first : first + 8000]).max() < 1e-6
    padded = audio.load_fitted(wav, 8000, 4.0, "pad")
    assert padded.size == 32000 and np.array_equal(padded[4000:28000], whole)
    with pytest.raises(AudioError, match=str(wav)):
        audio.load_fitted(wav, 8000, 4.0, "crop")


def spoil(path: Path, kind: str) -> None:
    samples = chirp(1.0)
    if kind in ("one sample", "silent", "not finite"):
        samples = {"one sample": samples[:1], "silent": 0 * samples, "not finite": samples}[kind].copy()
        if kind == "not finite":
            samples[5] = np.nan
        soundfile.write(path, samples, RATE, subtype="FLOAT", format="WAV")
        return
    soundfile.write(path, samples, RATE, format="FLAC" if kind == "cut FLAC" else "MP3" if kind == "cut MP3" else "WAV")
    content = path.read_bytes()
    spoilt = {
        "empty": b"",
        "text": b"Patient 12, crying since 3 o'clock.\n" * 50,
        "random": np.random.default_rng(0).bytes(5000),
        "header only": content[:30],
        "no samples": content[:40] + struct.pack("<I", 0),
        "truncated": content[: len(content) // 2],
        "cut FLAC": content[: len(content) // 2],
        "cut MP3": content[: len(content) // 2],
    }
    path.write_bytes(spoilt[kind])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "empty"),
        ("text", "cannot be decoded"),
        ("random", "cannot be decoded"),
        ("header only", "cannot be decoded"),
        ("no samples", "no samples"),
        ("truncated", "truncated"),
        ("cut FLAC", "cannot be decoded"),
        ("cut MP3", "truncated"),
        ("one sample", "too short"),
        ("silent", "silent"),
        ("not finite", "NaN"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_reason(tmp_path, kind, reason):
    path = tmp_path / "bad.wav"
    spoil(path, kind)
    with pytest.raises(AudioError, match=reason) as error:
        audio.load_fitted(path, 8000, 1.0, "pad")
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_file_that_neither_decoder_knows_is_not_said_to_be_missing(tmp_path):
    (tmp_path / "bad.mp3").write_bytes(b"\xff\xfb\x90\x64" + np.random.default_rng(0).bytes(100) + bytes(50))
    with pytest.raises(AudioError, match="neither libsndfile nor FFmpeg finds sound in it"):
        audio.load(tmp_path / "bad.mp3", 8000)


def test_cut_containers_and_missing_files_are_refused(tmp_path):
    whole = encode(tmp_path / "a.caf", chirp(4.0), "adpcm_ima_qt", "caf").read_bytes()
    (tmp_path / "cut.caf").write_bytes(whole[: len(whole) // 2])
    for name in ("cut.caf", "missing.wav", "."):
        with pytest.raises(AudioError, match=name):
            audio.load(tmp_path / name, 8000)


def test_a_video_without_sound_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        output.mux(stream.encode(None))
    with pytest.raises(AudioError, match="no audio track"):
        audio.load(tmp_path / "a.mp4", 8000)


def test_a_playlist_that_names_another_file_is_not_followed(tmp_path, wav):
    playlist = tmp_path / "list.wav"
    playlist.write_text(f"ffconcat version 1.0\nfile '{wav.name}'\n")
    (tmp_path / wav.name).write_bytes(wav.read_bytes())
    with pytest.raises(AudioError):
        audio.load(playlist, 8000)


def test_a_wav_written_to_a_pipe_is_read_whole(tmp_path, wav):
    content = bytearray(wav.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "pipe.wav").write_bytes(content)
    assert np.array_equal(audio.load(tmp_path / "pipe.wav", RATE), audio.load(wav, RATE))


def test_a_segment_past_the_end_is_refused_and_a_rounded_one_is_not(wav):
    assert audio.load(wav, RATE, 2.0, 1.05).size == RATE
    for start_s, duration_s in ((2.0, 5.0), (3.5, 1.0), (3.5, None)):
        with pytest.raises(AudioError, match=r"chirp\.wav"):
            audio.load(wav, RATE, start_s, duration_s)


@real("donateacry_raw")
@pytest.mark.parametrize("suffix", ["3gp", "caf"])
def test_real_uploads_decode_and_their_segments_fit(suffix):
    for path in sorted((DATA / "donateacry_raw").glob(f"*.{suffix}"))[::60]:
        whole = audio.load(path, 8000)
        first = round(whole.size * 0.8)
        segment = audio.load(path, 8000, first / 8000, 0.5)
        assert np.abs(segment - whole[first : first + segment.size]).max() < 0.005
