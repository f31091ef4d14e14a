"""How well acquisition finds synthetic cries under noise: recall and precision of units at known SNR, and false alarms.

.venv/bin/python benchmarks/acquire.py                           in white noise
.venv/bin/python benchmarks/acquire.py --noise path/to/noise     in recordings, each looped

Each noise is heard for 15 s with three cries in it, and without. A cry is found if units cover half of it; a unit is
right if half of it is cry. The SNR is that of the cry against the whole noise.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cry_lightning import audio
from cry_lightning.acquire.segmentation import BLOCK_S, units
from cry_lightning.acquire.settings import SAMPLE_RATE, Settings
from cry_lightning.corpora.listing import find_recordings
from cry_lightning.corpora.synthesis import NORMAL, Bout, Infant, frame_times

SCENE_S = 15.0
STARTS_S = (2.0, 6.0, 10.5)
LENGTH_S = (0.4, 2.4)
NOISE_DB = -35.0  # so that no sum is clipped
SNRS_DB = (30.0, 20.0, 10.0, 5.0, 0.0)
N_WHITE = 20  # scenes without recordings


def noises(folder: Path | None, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Noise of one scene after another (N,), all of one level."""
    n_samples = round(SCENE_S * SAMPLE_RATE)
    sounds = (
        (audio.load(folder / name, SAMPLE_RATE) for name in find_recordings(folder))
        if folder
        else (rng.standard_normal(n_samples) for _ in range(N_WHITE))
    )
    for sound in sounds:
        yield np.resize(sound * 10 ** (NOISE_DB / 20) / sound.std(), n_samples)


def cries(rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """First sample and sound (N,) of the cries of one infant, at level 1 (RMS)."""
    infant = Infant.draw(rng)
    made = []
    for start_s in STARTS_S:
        length_s = rng.uniform(*LENGTH_S)
        bout = Bout(infant, NORMAL, frame_times(round(length_s * SAMPLE_RATE), SAMPLE_RATE), rng)
        bout.expire(0.0, length_s)
        sound = bout.sound(SAMPLE_RATE)
        made.append((round((start_s + rng.uniform(0, 1)) * SAMPLE_RATE), sound / sound.std()))
    return made


def marked(stretches: list[tuple[int, int]]) -> np.ndarray:
    """Which samples of a scene lie in stretches from a first sample to the one after the last."""
    mask = np.zeros(round(SCENE_S * SAMPLE_RATE), bool)
    for first, last in stretches:
        mask[first:last] = True
    return mask


def found(sound: np.ndarray, settings: Settings) -> list[tuple[int, int]]:
    block = round(BLOCK_S * SAMPLE_RATE)
    blocks = (sound[first : first + block] for first in range(0, sound.size, block))
    firsts = [(round(unit.start_s * SAMPLE_RATE), unit.samples.size) for unit in units(blocks, settings)]
    return [(first, first + size) for first, size in firsts]


def covered(stretches: list[tuple[int, int]], by: np.ndarray) -> list[bool]:
    """Which stretches are marked for half of their length at least."""
    return [bool(by[first:last].mean() >= 0.5) for first, last in stretches]


def score(scenes: list[tuple[np.ndarray, list[tuple[int, np.ndarray]]]], snr_db: float, settings: Settings) -> str:
    hits, right = [], []
    for noise, made in scenes:
        sound = noise.copy()
        for first, cry in made:
            sound[first : first + cry.size] += cry * 10 ** ((NOISE_DB + snr_db) / 20)
        truth = [(first, first + cry.size) for first, cry in made]
        spans = found(np.clip(sound, -1, 1), settings)
        hits += covered(truth, marked(spans))
        right += covered(spans, marked(truth))
    return f"{100 * np.mean(hits):5.0f} % {100 * np.mean(right) if right else np.nan:8.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=Path, help="folder of recordings; white noise without it")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    scenes = [(noise, cries(rng)) for noise in noises(arguments.noise, rng)]
    minutes = len(scenes) * SCENE_S / 60
    print(f"{len(scenes)} noises, {len(scenes) * len(STARTS_S)} cries")
    for settings in (Settings(), Settings(min_harmonicity=0.0)):
        alarms = sum(len(found(noise, settings)) for noise, _ in scenes)
        print(f"\nmin_harmonicity {settings.min_harmonicity:g}: {alarms / minutes:.1f} units a minute of noise alone")
        print("  SNR      recall  precision")
        for snr_db in SNRS_DB:
            print(f"  {snr_db:2.0f} dB  {score(scenes, snr_db, settings)}")


if __name__ == "__main__":
    main()
