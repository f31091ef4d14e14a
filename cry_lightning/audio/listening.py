"""Clips to be listened to by people, not by networks."""

import io
from pathlib import Path

import soundfile

from cry_lightning.audio.containers import AudioError
from cry_lightning.audio.recording import Recording

LISTEN_HZ, LISTEN_S = 16_000, 10.0


def as_mp3(path: Path, start_s: float, duration_s: float | None) -> bytes:
    """The first ten seconds of a clip as MP3; of a long one no more is decoded.

    Raises:
        AudioError: as `load`; or this libsndfile writes no MP3.
    """
    with Recording(path) as recording:
        length_s = recording.duration_s - start_s if duration_s is None else duration_s
        sound = recording.segment(LISTEN_HZ, start_s, min(LISTEN_S, length_s))
    written = io.BytesIO()
    try:
        soundfile.write(written, sound, LISTEN_HZ, format="MP3")
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: cannot be written as MP3 ({error})") from error
    return written.getvalue()
