"""Damaged files of twenty containers: each is read or refused in one line, soon, and in bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_audio import chirp, encode

ENCODED = {  # name -> codec and container of FFmpeg's
    "a.mp3": ("libmp3lame", "mp3"),
    "a.m4a": ("aac", "ipod"),
    "a.mp4": ("aac", "mp4"),
    "a.mov": ("pcm_s16le", "mov"),
    "a.3gp": ("aac", "3gp"),
    "a.aac": ("aac", "adts"),
    "a.mkv": ("flac", "matroska"),
    "a.webm": ("libopus", "webm"),
    "a.caf": ("adpcm_ima_qt", "caf"),
    "b.caf": ("pcm_s16be", "caf"),
    "a.opus": ("libopus", "ogg"),
    "a.avi": ("libmp3lame", "avi"),
    "a.ts": ("mp2", "mpegts"),
    "a.ac3": ("ac3", "ac3"),
    "a.flv": ("aac", "flv"),
    "a.wv": ("wavpack", "wv"),
    "a.tta": ("tta", "tta"),
    "b.wav": ("adpcm_g722", "wav"),
}
WRITTEN = {  # name -> format and subtype of libsndfile's
    "a.wav": ("WAV", "PCM_16"),
    "c.wav": ("WAV", "GSM610"),
    "d.wav": ("WAV", "MS_ADPCM"),
    "a.w64": ("W64", "PCM_24"),
    "a.rf64": ("RF64", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.au": ("AU", "ULAW"),
}
MOST_S = 10  # for one file
MOST_MEMORY = 4 << 30  # bytes of address space
HEARER = f"""
import json, logging, resource, signal, sys
from pathlib import Path
from cry_lightning import audio
logging.disable(logging.WARNING)
resource.setrlimit(resource.RLIMIT_AS, ({MOST_MEMORY}, {MOST_MEMORY}))
class Hangs(BaseException): pass
def hangs(*_): raise Hangs
signal.signal(signal.SIGALRM, hangs)
for path in map(Path, sys.stdin.read().splitlines()):
    what = {{
        "info": lambda: audio.info(path),
        "load": lambda: audio.load(path, 8000),
        "segment": lambda: audio.load(path, 8000, 0.7, 0.5),
        "fitted": lambda: audio.load_fitted(path, 16000, 1.0, "pad"),
        "blocks": lambda: sum(map(len, audio.blocks(path, 8000, 0.5))),
    }}
    print(json.dumps([path.name, "begun", ""]), flush=True)
    for name, call in what.items():
        signal.alarm({MOST_S})
        told = "read"
        try:
            call()
        except audio.AudioError as error:
            told_well = str(error).startswith(f"{{path}}: ") and "\\n" not in str(error)
            told = "refused" if told_well else f"badly told: {{error}}"
        except BaseException as error:
            told = f"{{type(error).__name__}}: {{error}}"
        signal.alarm(0)
        print(json.dumps([path.name, name, told]), flush=True)
status = Path("/proc/self/status")  # what getrusage has begins, on Linux, at what the starting process held
told = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.exists() else {{}}
peak = int(told["VmHWM"].split()[0]) if told else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(["", "peak", peak]))
"""


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("healthy")
    for name, (codec, container) in ENCODED.items():
        rate = {"libopus": 48000, "ac3": 32000}.get(codec, 16000)
        encode(folder / name, chirp(2.0, rate), codec, container, rate)
    for name, (form, subtype) in WRITTEN.items():
        soundfile.write(folder / name, chirp(2.0), 16000, format=form, subtype=subtype)
    return sorted(folder.iterdir())


def mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """A file cut, with flipped bytes, with a header of zeros or noise, with a piece twice, or with a piece missing."""
    spoilt, n = bytearray(content), len(content)
    kind, place = rng.integers(7), int(rng.integers(n))
    size = int(min(n - place, 1 + rng.integers(4000)))
    if kind == 0:
        return content[:place]
    if kind == 1:
        for at in rng.integers(n, size=int(rng.integers(1, 40))):
            spoilt[at] = int(rng.integers(256))
    elif kind == 2:  # where sizes, rates and counts lie
        for at in rng.integers(min(n, 200), size=int(rng.integers(1, 12))):
            spoilt[at] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
    elif kind == 3:
        first = int(rng.integers(min(n, 200)))
        spoilt[first : first + 16] = bytes(len(spoilt[first : first + 16]))
    elif kind == 4:
        spoilt[place:place] = content[place : place + size]
    elif kind == 5:
        del spoilt[place : place + size]
    else:
        spoilt[place : place + size] = rng.bytes(size)
    return bytes(spoilt)


def heard(healthy: list[Path], folder: Path, n_mutants: int, seed: int, at_once: int) -> tuple[list[list[str]], int]:
    """What became of so many mutants, and the highest peak of memory (kB) of the processes that heard them."""
    rng = np.random.default_rng(seed)
    outcomes, peak = [], 0
    for first in range(0, n_mutants, at_once):
        paths = []
        for number in range(first, min(first + at_once, n_mutants)):
            source = healthy[number % len(healthy)]
            paths.append(folder / f"{number}-{source.name}")
            paths[-1].write_bytes(mutant(source.read_bytes(), rng))
        process = subprocess.run(
            [sys.executable, "-c", HEARER],
            input="\n".join(map(str, paths)),
            capture_output=True,
            text=True,
            timeout=60 + 5 * MOST_S * at_once,
        )
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        assert process.returncode == 0, f"the process died at {lines[-1:]}: {process.stderr[-2000:]}"
        outcomes += [line for line in lines if line[1] not in ("peak", "begun")]
        peak = max(peak, *(line[2] for line in lines if line[1] == "peak"))
        for path in paths:
            path.unlink()
    return outcomes, peak


def check(outcomes: list[list[str]], n_mutants: int) -> None:
    bad = [line for line in outcomes if line[2] not in ("read", "refused")]
    assert not bad, bad[:10]
    assert len(outcomes) == 5 * n_mutants
    told = {what: sum(line[2] == what for line in outcomes) for what in ("read", "refused")}
    assert min(told.values()) > n_mutants / 4, told  # the damage is neither too small nor too great to tell anything


def test_a_few_damaged_files_are_read_or_refused(healthy, tmp_path):
    check(heard(healthy, tmp_path, 81, seed=1, at_once=81)[0], 81)


@pytest.mark.slow
def test_thousands_of_damaged_files_are_read_or_refused(healthy, tmp_path):
    outcomes, peak = heard(healthy, tmp_path, 3240, seed=2, at_once=108)
    refused = sum(line[2] == "refused" for line in outcomes)
    print(f"{len(outcomes)} readings of 3240 mutants, {refused} refused; peak of a process {peak / 1024:.0f} MB")
    check(outcomes, 3240)
    assert peak < 2 << 20  # kB
