"""By how much a model's probabilities differ from those of `predict` where another resampler came before it.

    python benchmarks/resampling.py RUN/best.ckpt RECORDING ...

Each figure is the largest over all windows and classes.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
import torchaudio
from scipy.signal import resample_poly

import cry_lightning as cry

RESAMPLERS = {
    "soxr HQ": lambda sound, rate, to: soxr.resample(sound, rate, to, quality="HQ"),
    "soxr VHQ": lambda sound, rate, to: soxr.resample(sound, rate, to, quality="VHQ"),
    "soxr QQ": lambda sound, rate, to: soxr.resample(sound, rate, to, quality="QQ"),
    "scipy resample_poly": lambda sound, rate, to: resample_poly(
        sound, to // math.gcd(rate, to), rate // math.gcd(rate, to)
    ),
    "torchaudio": lambda sound, rate, to: torchaudio.functional.resample(torch.from_numpy(sound), rate, to).numpy(),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("recordings", type=Path, nargs="+")
    args = parser.parse_args()
    model, largest, rates = cry.load(args.ckpt), dict.fromkeys(RESAMPLERS, 0.0), set()
    for path in args.recordings:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        rates.add(rate)
        expected = model(path).filter(like="score_").to_numpy()
        for name, resample in RESAMPLERS.items():
            found = model(resample(sound.mean(1), rate, model.sample_rate).astype(np.float32))
            off = np.abs(found.filter(like="score_").to_numpy() - expected).max(initial=0)
            largest[name] = max(largest[name], float(off))
    of_rates = " and ".join(f"{rate} Hz" for rate in sorted(rates))
    print(f"{len(args.recordings)} recordings at {of_rates}, a model at {model.sample_rate} Hz")
    for name, off in largest.items():
        print(f"{name:<20} off by up to {off:.2g}")


if __name__ == "__main__":
    main()
