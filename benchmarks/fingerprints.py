"""How often a recording is found again by its acoustic fingerprint, and how often another one is taken for it.

.venv/bin/python benchmarks/fingerprints.py --cleaned path/to/donateacry --raw path/to/donateacry_raw \\
    --others path/to/fsdd path/to/arabic_commands

The subjects are divided into halves by a hash of their ids: the parameters were chosen on one half, figures are of the
other unless `--chosen-on` asks for the first. Of other corpora (`--others`), recordings of one speaker are compared.
"""

import argparse
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import scipy.signal
import soundfile
import soxr
import torch

from cry_lightning import audio
from cry_lightning.console import progress_bar
from cry_lightning.corpora import DonateACry, corpus_at
from cry_lightning.corpora.listing import find_recordings
from cry_lightning.data.building import ClipBatches
from cry_lightning.features import MFCC, Feature, LogMel
from cry_lightning.lineage.acoustic_fingerprint import SAMPLE_RATE, alike, decoded, landmarks, of_no_device

SPEAKER = re.compile(r"_(?P<fsdd>[a-z]+)_\d+\.wav$|/(?P<arabic>\d{8})_NO_\d+\.flac$")
Sound = tuple[np.ndarray, int]  # samples (N,), Hz
# Hz of the tones, s from one round to the next, from tone to tone and of a tone; harmonics (as of IEC 60601-1-8).
DEVICES = {
    "an alarm of three tones": ((523, 659, 784), 2.5, 0.3, 0.18, 4),
    "an alarm of four tones": ((880, 740, 880, 587), 3.3, 0.25, 0.2, 5),
    "a monitor's beep": ((960,), 0.8, 0.8, 0.12, 3),
}
LEVELS_DB = (0, -6, -12)
Change = Callable[[np.ndarray, int, Path], Path | Sound]


def written(path: Path, sound: np.ndarray, rate: int, **form: str) -> Path:
    soundfile.write(path, sound, rate, **form)
    return path


def amr(sound: np.ndarray, bit_rate: int, path: Path) -> Path:
    """AMR-NB, as phones record it."""
    with av.open(str(path.with_suffix(".3gp")), "w") as container:
        stream = container.add_stream("libopencore_amrnb", rate=8000)
        stream.bit_rate, stream.layout = bit_rate, "mono"
        for first in range(0, len(sound) - 159, 160):
            samples = (sound[first : first + 160].clip(-1, 1) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.with_suffix(".3gp")


def resampled(sound: np.ndarray, rate: int, to: int, path: Path) -> Path:
    return written(path.with_suffix(".wav"), soxr.resample(sound, rate, to), to)


def in_room(sound: np.ndarray, rate: int, decay_s: float) -> np.ndarray:
    """Played in a room that it decays in by 60 dB within so long, 6 dB louder at first than its echoes."""
    echoes = np.random.default_rng(0).normal(size=rate // 2) * 10 ** (-3 * np.arange(rate // 2) / rate / decay_s)
    echoes[0] = 2
    return scipy.signal.oaconvolve(sound, echoes)[: len(sound)].astype(np.float32)


def with_device(sound: np.ndarray, name: str, level_db: float, rng: np.random.Generator) -> np.ndarray:
    """Beside a device of the same ward, whose sounds began at another time; its level is relative to the recording."""
    pitches, period_s, step_s, length_s, n_harmonics = DEVICES[name]
    one, time = np.zeros(round(period_s * SAMPLE_RATE)), np.arange(round(length_s * SAMPLE_RATE)) / SAMPLE_RATE
    for place, pitch in enumerate(pitches):
        tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, n_harmonics + 1))
        one[round(place * step_s * SAMPLE_RATE) :][: len(time)] += tone
    device = np.resize(np.roll(one, rng.integers(len(one))), len(sound))
    return (sound + device * sound.std() / device.std() * 10 ** (level_db / 20)).astype(np.float32)


CHANGES: dict[str, Change] = {
    "another header (WAV in float)": lambda x, rate, path: written(path.with_suffix(".wav"), x, rate, subtype="FLOAT"),
    "FLAC": lambda x, rate, path: written(path.with_suffix(".flac"), x, rate),
    "gain -20 dB, 16 bits": lambda x, rate, path: written(path.with_suffix(".wav"), 0.1 * x, rate),
    "gain +12 dB, clipped": lambda x, rate, path: written(path.with_suffix(".wav"), (4 * x).clip(-1, 1), rate),
    "first 1 ms cut": lambda x, rate, path: (x[rate // 1000 :], rate),
    "first 0.3 s cut": lambda x, rate, path: (x[round(0.3 * rate) :], rate),
    "the second half": lambda x, rate, path: (x[len(x) // 2 :], rate),
    "1 s from the middle": lambda x, rate, path: (x[len(x) // 2 - rate // 2 :][:rate], rate),
    "resampled to 11,025 Hz": lambda x, rate, path: resampled(x, rate, 11025, path),
    "resampled to 44,100 Hz": lambda x, rate, path: resampled(x, rate, 44100, path),
    "MP3": lambda x, rate, path: written(path.with_suffix(".mp3"), x, rate),
    "OGG Vorbis": lambda x, rate, path: written(path.with_suffix(".ogg"), x, rate),
    "OGG Opus": lambda x, rate, path: written(path.with_suffix(".opus"), x, rate, format="OGG", subtype="OPUS"),
    "AMR-NB, 12.2 kbit/s": lambda x, rate, path: amr(x, 12200, path),
    "AMR-NB, 4.75 kbit/s": lambda x, rate, path: amr(x, 4750, path),
    "speed 1.002": lambda x, rate, path: (soxr.resample(x, 1002, 1000), rate),
    "speed 1.01": lambda x, rate, path: (soxr.resample(x, 101, 100), rate),
    "speed 1.05": lambda x, rate, path: (soxr.resample(x, 105, 100), rate),
    "a room of 0.2 s": lambda x, rate, path: (in_room(x, rate, 0.2), rate),
    "a room of 0.5 s": lambda x, rate, path: (in_room(x, rate, 0.5), rate),
    "white noise at 10 dB": lambda x, rate, path: (
        x + np.random.default_rng(0).normal(0, x.std() * 10**-0.5, len(x)).astype(np.float32),
        rate,
    ),
}


def named(name: str, sound: np.ndarray) -> str:
    """A sound at 8 kHz as the lineage has it; the name stands for the hash of its file."""
    return f"{name}#0.000-end#{landmarks(sound[None], SAMPLE_RATE)[0]}"


def changed(name: str, change: Change, sound: np.ndarray, folder: Path) -> str:
    found = change(sound, SAMPLE_RATE, folder / "changed")
    waveform = audio.load(found, SAMPLE_RATE) if isinstance(found, Path) else found[0]
    return named(f"changed {name}", waveform)


def is_found(one: str, other: str, one_in: int = 1) -> bool:
    """Whether a sound is found again by as many of the landmarks of another as a sketch keeps."""
    return len(alike([one], of_no_device(decoded([other]).at(slice(None, None, one_in))))) > 0


def halved(subject: str, chosen_on: bool) -> bool:
    return (int(hashlib.md5(subject.encode(), usedforsecurity=False).hexdigest(), 16) % 2 == 0) == chosen_on


def rows_of_changes(
    sounds: dict[str, np.ndarray], titles: Sequence[str], kept: Sequence[int]
) -> Iterator[tuple[str, list[int]]]:
    """How many are found again after each change, by one in so many of their landmarks."""
    known = {name: named(name, sound) for name, sound in sounds.items()}
    with TemporaryDirectory() as folder:
        for title, change in progress_bar([(title, CHANGES[title]) for title in titles], "changes"):
            again = {name: changed(name, change, sound, Path(folder)) for name, sound in sounds.items()}
            yield title, [sum(is_found(again[name], known[name], one_in) for name in sounds) for one_in in kept]


def false_matches(groups: Sequence[Sequence[str]]) -> tuple[int, int, set[tuple[str, str]]]:
    """Pairs found alike, and all pairs, of different recordings of one subject; and the names of those found."""
    found = set()
    for group in groups:
        for one, other in alike(group, group).tolist():
            found.add(tuple(sorted((group[one].split("#")[0], group[other].split("#")[0]))))
    return len(found), sum(len(group) * (len(group) - 1) // 2 for group in groups), found


def report_devices(sounds: dict[str, np.ndarray]) -> None:
    """How many pairs of different recordings are taken for the same, for the device that is heard in all of them."""
    rng = np.random.default_rng(0)
    for device in DEVICES:
        found = []
        for level_db in LEVELS_DB:
            group = [named(name, with_device(sound, device, level_db, rng)) for name, sound in sounds.items()]
            n_found, n_all, _ = false_matches([group])
            found.append(str(n_found))
        levels = ", ".join(f"{level_db} dB" for level_db in LEVELS_DB)
        print(f"| cleaned, beside {device} at {levels} | {', '.join(found)} of {n_all:,} |", flush=True)


def report_words(title: str, sounds: dict[str, np.ndarray], n_most: int = 150) -> None:
    """How many of some short recordings are found again after a few changes."""
    chosen = sorted(sounds, key=lambda name: hashlib.md5(name.encode(), usedforsecurity=False).digest())[:n_most]
    changes = ["FLAC", "first 1 ms cut", "MP3", "OGG Opus", "AMR-NB, 12.2 kbit/s"]
    rows = rows_of_changes({name: sounds[name] for name in chosen}, changes, [1])
    print(f"| {title}: {'; '.join(changes)} | {', '.join(str(n_found) for _, (n_found,) in rows)} of {len(chosen)} |")


def grouped(names: dict[str, str], sounds: dict[str, str]) -> list[list[str]]:
    """Sounds by what their names are mapped to."""
    groups: dict[str, list[str]] = {}
    for name, sound in sounds.items():
        groups.setdefault(names[name], []).append(sound)
    return list(groups.values())


def report_false(title: str, groups: Sequence[Sequence[str]]) -> None:
    n_found, n_all, names = false_matches(groups)
    print(f"| {title} | {n_found} of {n_all:,} |")
    for one, other in sorted(names)[:10]:
        print(f"  {one} = {other}")


def cost(folder: Path, feature: Feature, n_clips: int = 1024, repeats: int = 3) -> float:
    """Processor time of decoding and features of windows of 1 s with landmarks, over that without, on one core."""
    corpus = DonateACry(folder, window_s=1.0, hop_s=1.0)
    with TemporaryDirectory() as levels:
        clips = corpus.clips(Path(levels))[:n_clips]
    spent = {False: 0.0, True: 0.0}
    for with_landmarks in [True, False] * repeats:
        rows, began = ClipBatches(corpus, clips, feature, 1.0, "pad", "float32", with_landmarks), time.process_time()
        for first in range(0, len(clips), 64):
            rows[range(first, min(first + 64, len(clips)))]
        spent[with_landmarks] += time.process_time() - began
    return spent[True] / spent[False]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cleaned", type=Path, required=True, help="cleaned Donate-a-Cry")
    parser.add_argument("--raw", type=Path, help="raw uploads of Donate-a-Cry")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="spoken words, for false matches")
    parser.add_argument("--chosen-on", action="store_true", help="the half on which parameters were chosen")
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="CHANGE")
    parser.add_argument("--one-in", type=int, nargs="+", default=[1], help="keep one in so many landmarks, as sketches")
    parser.add_argument("--cost", action="store_true", help="only what they add to the building of a cache")
    given = parser.parse_args()
    if given.cost:
        torch.set_num_threads(1)
        for feature in (MFCC(), LogMel()):
            print(f"{type(feature).__name__}: {cost(given.cleaned, feature):.2f} times the processor time")
        return

    clips = {clip.path: clip for clip in corpus_at(given.cleaned).recordings()}
    clips = {path: clip for path, clip in clips.items() if halved(clip.subject, given.chosen_on)}
    cleaned = {path: audio.load(given.cleaned / path, SAMPLE_RATE) for path in clips}
    known = {path: named(path, sound) for path, sound in cleaned.items()}
    print(f"{len(cleaned)} recordings of {len({clip.subject for clip in clips.values()})} installs\n")
    print("| change | found again |\n|---|---|")
    for title, n_found in rows_of_changes(cleaned, given.changes, given.one_in):
        print(f"| {title} | {', '.join(map(str, n_found))} of {len(cleaned)} |", flush=True)
    raw: dict[str, str] = {}
    if given.raw:
        raw_clips = [clip for clip in DonateACry(given.raw).recordings() if halved(clip.subject, given.chosen_on)]
        for clip in progress_bar(raw_clips, "raw"):
            try:
                raw[clip.path] = named(clip.path, audio.load(given.raw / clip.path, SAMPLE_RATE))
            except audio.AudioError:
                continue  # empty uploads
        of_stem = {Path(path).stem.lower(): sound for path, sound in raw.items()}
        uploads = {path: of_stem.get(Path(path).stem.lower()) for path in known}
        pairs = [(known[path], upload) for path, upload in uploads.items() if upload is not None]
        print(f"| the raw upload of a cleaned recording | {sum(is_found(*pair) for pair in pairs)} of {len(pairs)} |")

    print("\n| different recordings | pairs taken for the same |\n|---|---|")
    install = {path: clip.subject for path, clip in clips.items()}
    report_false("cleaned, of one install", grouped(install, known))
    others = [sound for _, sound in known.items()]
    n_found = len({tuple(sorted(pair)) for pair in alike(others, others).tolist() if install_of(pair, others, install)})
    n_all = sum(install[a] != install[b] for a, b in combinations(install, 2))
    print(f"| cleaned, of different installs | {n_found} of {n_all:,} |")
    report_devices(cleaned)
    if raw:
        report_false("raw, of one install", grouped({clip.path: clip.subject for clip in raw_clips}, raw))
    for folder in given.others:
        speaker = {
            path: next(filter(None, SPEAKER.search(f"/{path}").groups()), "") for path in find_recordings(folder)
        }
        own = [path for path in speaker if halved(speaker[path], given.chosen_on)]
        sounds = {path: audio.load(folder / path, SAMPLE_RATE) for path in own}
        fingerprints = {path: named(path, sound) for path, sound in sounds.items()}
        report_false(f"{folder.name}, of one speaker", grouped(speaker, fingerprints))
        report_words(folder.name, sounds)


def install_of(pair: Sequence[int], sounds: Sequence[str], install: dict[str, str]) -> bool:
    one, other = (install[sounds[place].split("#")[0]] for place in pair)
    return one != other


if __name__ == "__main__":
    main()
