"""How well EfficientAT, trained on AudioSet alone, tells cries from noise: the AUC of "Baby cry, infant cry".

.venv/bin/python benchmarks/zero_shot.py mn04_as_mAP_432.pt data/donateacry data/noise

The first figure is of the recordings as they are: of 8 kHz the cries, of 16 kHz the noise, so that what is missing
above 4 kHz may tell them apart, too. The second is of both at 8 kHz, brought to 32 kHz as the package does it, since a
shallower filter leaves mirror images above 4 kHz that the network hears. Recordings are padded, or cropped in the
middle, to 5 s.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soxr
import torch
from sklearn.metrics import roc_auc_score

import cry_lightning
from cry_lightning import audio
from cry_lightning.corpora import DonateACry
from cry_lightning.corpora.listing import find_recordings
from cry_lightning.encoders.audioset import AudioSetHead, EfficientAT
from cry_lightning.features import EfficientATLogMel
from cry_lightning.tasks.checkpoints import load_encoder

RATE = 32000
BABY_CRY = 23  # "Baby cry, infant cry" in AudioSet's class_labels_indices.csv
CLIP_S = 5.0
RESAMPLES = 1000


def network(file: Path) -> torch.nn.Module:
    """Logits (B, 527) of waveforms (B, N) at 32 kHz, by the published file."""
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder, "imported.ckpt")
        cry_lightning.import_weights("efficientat", file, to=checkpoint)
        width_mult = len(torch.load(file, weights_only=True)["features.16.1.bias"]) / 960
        encoder, head = EfficientAT(width_mult), AudioSetHead(width_mult)
        state = load_encoder(encoder, checkpoint)["state_dict"]
    head.load_state_dict({name.removeprefix("head."): state[name] for name in state if name.startswith("head.")})
    return torch.nn.Sequential(EfficientATLogMel(), encoder, head).eval()


def scores(network: torch.nn.Module, paths: list[Path], rate: int) -> np.ndarray:
    """Logits of a baby's cry (n,) in recordings, heard at a rate and brought to 32 kHz."""
    heard = (soxr.resample(audio.load_fitted(path, rate, CLIP_S, "pad"), rate, RATE, quality="HQ") for path in paths)
    with torch.inference_mode():
        return np.array([network(torch.from_numpy(waveform)[None])[0, BABY_CRY].item() for waveform in heard])


def auc(cries: np.ndarray, noise: np.ndarray, installs: np.ndarray) -> str:
    """Area under the ROC curve, with its interval over installs and noises."""
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(installs == install) for install in np.unique(installs)]

    def area(cries: np.ndarray, noise: np.ndarray) -> float:
        return float(roc_auc_score(np.repeat([1, 0], [len(cries), len(noise)]), np.concatenate([cries, noise])))

    drawn = [
        area(
            cries[np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])],
            rng.choice(noise, len(noise)),
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{area(cries, noise):.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("weights", "donateacry", "noise"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    hear = network(options.weights)
    clips = DonateACry(options.donateacry).recordings()
    cries = [options.donateacry / clip.path for clip in clips]
    noise = [options.noise / name for name in find_recordings(options.noise)]
    installs = np.array([clip.subject for clip in clips])
    for told, rate in (("as recorded", RATE), ("both at 8 kHz", 8000)):
        area = auc(scores(hear, cries, rate), scores(hear, noise, rate), installs)
        print(f"{told}: AUC {area}, {len(cries)} cries of {len(set(installs))} installs, {len(noise)} noises")
