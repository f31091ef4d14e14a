"""Time of making the two SimCLR views of every clip of an epoch, as ratios within one run: per item, or in batches.

.venv/bin/python benchmarks/views.py                           on synthetic words
.venv/bin/python benchmarks/views.py --data path/to/fsdd       on the Free Spoken Digit Dataset

Wants the package installed with its extra `dev` (`make install`).
"""

import os
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread for everyone, and in each worker

import numpy as np
import soundfile
import torch
from common import machine, measured, note, options, seconds, words
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cry_lightning.corpora.base import Corpus
from cry_lightning.data.building import CachedFeatures
from cry_lightning.data.cache import FeatureCache
from cry_lightning.features import LogMel, Waveform
from cry_lightning.tasks import augment

CLIP_S, CROP_S = 1.25, 1.0
BATCH = 64
GAIN_DB = 6.0
SNR_DB = (5.0, 20.0)
LOG_MEL = LogMel()
N_SAMPLES = round(CROP_S * LOG_MEL.sample_rate)
N_FRAMES = 1 + N_SAMPLES // LOG_MEL.hop_length


class ViewsPerItem(Dataset[Tensor]):
    """Both views (2, 1, F, T) of a waveform (N,) that lies decoded in memory, each cropped, noised and transformed."""

    def __init__(self, waveforms: Tensor, noise: Tensor) -> None:
        self.waveforms, self.noise = waveforms, noise

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, item: int) -> Tensor:
        return torch.cat([LOG_MEL(self.view(self.waveforms[item])[None]) for _ in range(2)])

    def view(self, waveform: Tensor) -> Tensor:
        crop, noise = stretch(waveform), stretch(self.noise)
        snr = 10 ** (random.uniform(*SNR_DB) / 10)
        noisy = crop + noise * (crop.square().mean() / (noise.square().mean() * snr)).sqrt()
        return noisy * 10 ** (random.uniform(-GAIN_DB, GAIN_DB) / 20)


def stretch(sound: Tensor) -> Tensor:
    start = random.randrange(len(sound) - N_SAMPLES + 1)
    return sound[start : start + N_SAMPLES]


def batches(cached: CachedFeatures, *steps: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """The views of a shuffled epoch, both of a batch of clips at once."""
    for rows in torch.randperm(cached.shape[0]).split(BATCH):
        batch = cached.gather(rows)
        if steps:
            batch = nn.Sequential(*steps)(torch.cat([batch, batch]))
        yield batch


def ways_to_views(corpus: Corpus, folder: Path) -> dict[str, Callable[[], Iterable[Tensor]]]:
    def cached(feature: LogMel | Waveform) -> CachedFeatures:
        cache = FeatureCache(corpus, feature, CLIP_S, folder=folder)
        cache.build()
        return cache.open()

    waveforms, features = cached(Waveform(LOG_MEL.sample_rate)), cached(LOG_MEL)
    noise = np.random.default_rng(0).normal(0, 0.05, 30 * LOG_MEL.sample_rate).astype(np.float32)
    soundfile.write(folder / "noise.wav", noise, LOG_MEL.sample_rate)
    per_item = ViewsPerItem(waveforms.gather(torch.arange(waveforms.shape[0])).flatten(1), torch.from_numpy(noise))
    on_waveforms = [
        augment.RandomCrop(N_SAMPLES),
        augment.WaveformNoise(folder, LOG_MEL.sample_rate, SNR_DB, probability=1.0),
        augment.WaveformGain(GAIN_DB),
        LOG_MEL,
    ]
    crop, spec_augment = augment.RandomCrop(N_FRAMES), augment.SpecAugment(time_warp=8)
    more = [augment.FeatureGain(GAIN_DB), augment.MixupNoise(), augment.RandomResizedCrop()]
    return {
        "waveforms per item, 0 workers": lambda: DataLoader(per_item, BATCH, shuffle=True),
        "waveforms per item, 2 workers": lambda: DataLoader(per_item, BATCH, shuffle=True, num_workers=2),
        "waveforms in batches: crop, noise, gain": lambda: batches(waveforms, nn.Flatten(), *on_waveforms),
        "features in batches: crop, SpecAugment": lambda: batches(features, crop, spec_augment),
        "  gain, mixup, resized crop as well": lambda: batches(features, crop, *more, spec_augment),
        "features in batches: crop alone": lambda: batches(features, crop),
        "features gathered, no views": lambda: batches(features),
    }


def run_through(way: Callable[[], Iterable[Tensor]]) -> None:
    for _ in way():
        pass


def compare(ways: dict[str, Callable[[], Iterable[Tensor]]], epochs: int) -> None:
    """Prints how long an epoch takes each way, and how many times longer it is per item."""
    for way in list(ways.values())[:-1]:  # all make views of one size
        assert {views.shape[-2:] for views in way()} == {(LOG_MEL.n_mels, N_FRAMES)}
    times = measured({name: partial(seconds, partial(run_through, way)) for name, way in ways.items()}, epochs)
    slowest = np.array(times["waveforms per item, 0 workers"])
    print(f"{machine()}\nmedians of {epochs} epochs")
    for name, taken in times.items():
        print(f"  {name:44} {np.median(taken):8.3f} s   {np.median(slowest / taken):7.1f} x faster")
    peer = ("waveforms, item by item", float(np.median(slowest)))
    limit = ("gathering the clips", float(np.median(times["features gathered, no views"])))
    for name in ("waveforms in batches: crop, noise, gain", "features in batches: crop, SpecAugment"):
        note(f"SimCLR's views, {name}", float(np.median(times[name])), peer, limit)


def main() -> None:
    arguments = options(__doc__, "epochs of each way")
    with TemporaryDirectory() as folder:
        corpus = words(arguments.data, folder)
        print(f"two views of {CROP_S:g} s of {len(corpus.clips())} clips of {CLIP_S:g} s, {BATCH} clips per batch")
        compare(ways_to_views(corpus, Path(folder)), arguments.epochs)


if __name__ == "__main__":
    main()
