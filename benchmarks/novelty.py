"""How often `predict` calls noise, and cries of subjects that were never trained on, unlike the training.

    python benchmarks/novelty.py RUN/best.ckpt --noise data/noise --cries data/donateacry [--rate 8000]

Noise is brought to the rate at which the cries were recorded, since its bandwidth alone might tell it, and is taken as
it is beside that. The method was chosen on every other file of noise, in the order of their names, at that rate, and on
validation cries; the rest is reported.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import soundfile

import cry_lightning as cry
from cry_lightning import audio
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.intervals import Jackknife
from cry_lightning.evaluation.metrics import Groups, Measures
from cry_lightning.inference.predict import predicted, recordings_at


def share(table: pd.DataFrame, group: np.ndarray | None, positive: str | None) -> Measures:
    """Share of the flagged rows, of all subjects and without each group of them."""
    groups = Groups.of(table, group)
    return {("flagged", ""): groups.total(table["flagged"].to_numpy()) / groups.total()}


def report(name: str, table: pd.DataFrame) -> None:
    jackknife = Jackknife(table.assign(label="all"), measure=share)
    value, low, high = jackknife.estimate(jackknife.measures["flagged", ""], jackknife.subjects("accuracy"))
    print(f"{name}: {value:.3f} [{low:.3f}, {high:.3f}] of {len(table)}, {table['subject'].nunique()} subjects")


def separation(level: str, cries: pd.DataFrame, noise: pd.DataFrame) -> None:
    """How far apart the two lie, whatever the limit."""
    ours, others = cries["novelty"].to_numpy(), noise["novelty"].to_numpy()
    ranked, above = (others[:, None] > ours).mean(), (others > np.quantile(ours, 0.95)).mean()
    print(f"{level}: {ranked:.3f} of pairs ranked rightly; {above:.3f} of the noise above 0.95 of the cries")


def flagged(model, paths: list[str], subject_of) -> dict[str, pd.DataFrame]:
    """By level, what is called unlike the training."""
    found = predicted(model.trained, recordings_at(model.trained, paths), 64)
    tables = {"windows": found.rows, "recordings": found.recordings[found.recordings["windows"] > 0]}
    subjects = {path: subject_of(path) for path in paths}
    return {
        level: table.assign(flagged=(table["novelty"] > 1).astype(float), subject=table["path"].map(subjects))
        for level, table in tables.items()
    }


def resampled(path: Path, rate: int, folder: Path) -> Path:
    """A copy of a recording at another rate."""
    copy = folder / f"{path.stem}.wav"
    soundfile.write(copy, audio.load(path, rate), rate)
    return copy


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--cries", type=Path, required=True)
    parser.add_argument("--rate", type=int, default=8000)
    args = parser.parse_args()
    model = cry.load(args.ckpt)
    tested = predictions.read(args.ckpt.with_name("predictions.csv"))
    tested = tested[tested["split"] == "test"].drop_duplicates("recording")
    subject_of = {str(args.cries / path): one for path, one in zip(tested["recording"], tested["subject"], strict=True)}
    cries = flagged(model, list(subject_of), subject_of.get)
    for level, table in cries.items():
        report(f"cries of test subjects, {level}", table)
    label_of = {str(args.cries / path): one for path, one in zip(tested["recording"], tested["label"], strict=True)}
    windows = cries["windows"].assign(label=cries["windows"]["path"].map(label_of))
    decided = windows[windows["decision"] != ""]
    right = [
        (table[column] == table["label"]).mean() for table, column in ((decided, "decision"), (windows, "predicted"))
    ]
    print(f"decided: {len(decided) / len(windows):.3f} of windows, {right[0]:.3f} right; of all {right[1]:.3f} right")
    noise = sorted(args.noise.glob("*.flac"))
    with TemporaryDirectory() as folder:
        for rate in (args.rate, None):
            copies = [str(path if rate is None else resampled(path, rate, Path(folder))) for path in noise]
            for name, paths in (("chosen on", copies[::2]), ("held out", copies[1::2])):
                source = {path: Path(path).stem.rpartition("-")[0] for path in paths}  # clips of one recording
                for level, table in flagged(model, paths, source.get).items():
                    report(f"noise at {'its own rate' if rate is None else f'{rate} Hz'}, {name}, {level}", table)
                    if name == "chosen on" and rate:
                        separation(level, cries[level], table)


if __name__ == "__main__":
    main()
