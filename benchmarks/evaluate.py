"""Time and memory of `evaluate` on a large test: by default 500,000 rows of 1,000 subjects.

.venv/bin/python benchmarks/evaluate.py                            two classes
.venv/bin/python benchmarks/evaluate.py --classes 5 --profile      five; and where the time goes, in a second run
.venv/bin/python benchmarks/evaluate.py --clinical                 clinical figures too; a tenth is validation

The run folder is one as `test` leaves it, of windows of 1 s: predictions.csv, and a lineage.json of one stage that was
trained on other subjects. Landmarks are drawn one by one from those of synthetic cries. The command runs in a process
of its own.
"""

import argparse
import base64
import json
import os
import pstats
import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from common import machine
from scipy.special import softmax

import cry_lightning
from cry_lightning import lineage
from cry_lightning.corpora import SyntheticCries
from cry_lightning.evaluation import predictions
from cry_lightning.lineage import Lineage, StageRecord, sketched, sound_fingerprint, subject_fingerprint
from cry_lightning.lineage.acoustic_fingerprint import HOP, PER_S, SAMPLE_RATE, TYPE, landmarks

CRIES = 400  # whose landmarks are drawn from
SHIFT = 8  # by up to so many bins a drawn frequency is moved: there are more sounds than so few cries show
HIGH_WATER = re.compile(r"VmHWM:\s+(\d+) kB")
SHARE = 0.02  # of the time, from which a function is listed


@dataclass(frozen=True)
class Windows:
    """Windows of recordings of some subjects, as columns (n,) of texts."""

    subject: np.ndarray
    recording: np.ndarray
    clip: np.ndarray
    sound: list[str]


def windows(n: int, n_subjects: int, corpus: str, per_recording: int, rng: np.random.Generator) -> Windows:
    """So many windows of 1 s, each subject with as many as the next."""
    recording = np.arange(n) // per_recording
    subject = recording % n_subjects
    names = [f"{corpus}/infant{who:04d}/{number:05d}.wav" for who, number in zip(subject, recording, strict=True)]
    stretches = [f"{place:.3f}-1.000" for place in np.arange(n) % per_recording]
    return Windows(
        np.array([f"{corpus}:infant{who:04d}" for who in subject]),
        np.array(names),
        np.array([f"{name}#{stretch}" for name, stretch in zip(names, stretches, strict=True)]),
        sounds(names, stretches, rng),
    )


def sounds(files: list[str], stretches: list[str], rng: np.random.Generator) -> list[str]:
    """A fingerprint for each stretch of a file, with as many landmarks as a window of 1 s can have."""
    cries = [sound for _, sound in islice(SyntheticCries(n_infants=CRIES, n_cries=1).render(), CRIES)]
    letters = "".join(landmarks(np.stack(cries) / np.float32(2**15), SAMPLE_RATE))
    known = np.frombuffer(base64.b64decode(letters), TYPE)["hash"].astype(int)
    drawn = rng.choice(known, (len(files), PER_S))
    low, then, gap = drawn >> 14, drawn >> 6 & 255, drawn & 63
    moved = rng.integers(-SHIFT, SHIFT + 1, (2, *drawn.shape))
    packed = np.zeros(drawn.shape, TYPE)
    packed["hash"] = (np.clip(low + moved[0], 0, 201) * 256 + np.clip(then + moved[1], 0, 201)) * 64 + gap
    packed["time"] = np.sort(rng.integers(SAMPLE_RATE // HOP, size=drawn.shape))
    return [
        sound_fingerprint(f"{file}#{stretch}", base64.b64encode(row.tobytes()).decode())
        for file, stretch, row in zip(files, stretches, packed, strict=True)
    ]


def make_run(
    folder: Path, n_rows: int, n_subjects: int, n_classes: int, n_trained: int, per_recording: int, n_validated: int
) -> tuple[int, int]:
    """A run that was tested on so many windows, and trained on so many others; bytes of these in a checkpoint.

    The second number is of those without a sketch. `n_validated` of the subjects are of validation.
    """
    rng = np.random.default_rng(0)
    tested = windows(n_rows, n_subjects, "tested", per_recording, rng)
    trained = windows(n_trained, n_subjects, "trained", per_recording, rng)
    recording = np.arange(n_rows) // per_recording
    truth = rng.integers(n_classes, size=recording.max() + 1)[recording]
    names = [f"class{k}" for k in range(n_classes)]
    scores = softmax(rng.normal(size=(n_rows, n_classes)) + 1.0 * (np.arange(n_classes) == truth[:, None]), axis=1)
    table = pd.DataFrame({"clip": tested.clip, "recording": tested.recording, "subject": tested.subject})
    split = np.where(recording % n_subjects < n_validated, "val", "test")
    table = table.assign(repeat="0", fold="0", split=split, label=np.array(names)[truth], subject_source="given")
    table[[f"score_{name}" for name in names]] = scores.astype(np.float32).astype(float)
    predictions.write(table, folder / "predictions.csv")
    stage = StageRecord(
        stage="finetune",
        corpus="trained",
        subjects=sorted({subject_fingerprint(one, "given") for one in np.unique(trained.subject)}),
        clips=sketched(sorted(trained.sound)),
        validation_subjects=sorted(
            {subject_fingerprint(one, "given") for one in np.unique(tested.subject[split == "val"])}
        ),
        subject_sources={"given": n_subjects},
    )
    test_clips = dict(zip(tested.clip.tolist(), tested.sound, strict=True))
    lineage.write(Lineage(complete=True, stages=[stage], test_clips=test_clips), folder / lineage.FILE)
    return tuple(len(json.dumps(one.as_dict())) for one in (stage, replace(stage, clips=trained.sound)))


def run(arguments: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor of a command in a process of its own, and its peak memory in GB."""
    package = str(Path(cry_lightning.__file__).parents[1])
    before, start, peak_kb = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": package}, stdout=subprocess.DEVNULL
    )
    while process.poll() is None:  # its `ru_maxrss` would begin with the memory of this process
        found = HIGH_WATER.search(Path(f"/proc/{process.pid}/status").read_text())
        peak_kb = int(found[1]) if found else peak_kb
        time.sleep(0.05)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"evaluate ended with {process.returncode}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak_kb / 1e6


def report_profile(path: Path) -> None:
    """Prints which functions of the package, and of what it imports, take most of the time."""
    stats = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    total = max(cumulative for _, _, _, cumulative, _ in stats.values())
    rows = [
        (cumulative, own, f"{Path(file).parent.name}/{Path(file).name}:{name}")
        for (file, _, name), (_, _, own, cumulative, _) in stats.items()
        if cumulative > SHARE * total and "cry_lightning" in file
    ]
    print("\nunder the profiler: seconds in all, of its own")
    for cumulative, own, name in sorted(rows, reverse=True):
        print(f"  {cumulative:7.1f} {own:7.1f}  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="tested (default: %(default)s)")
    parser.add_argument("--subjects", type=int, default=1000, help="tested, and trained on (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--trained", type=int, default=500_000, help="windows trained on (default: %(default)s)")
    parser.add_argument("--windows", type=int, default=50, help="of each recording (default: %(default)s)")
    parser.add_argument("--clinical", action="store_true", help="the clinical figures, too; a tenth is validation")
    parser.add_argument("--profile", action="store_true", help="run it again under cProfile")
    arguments = parser.parse_args()
    print(machine())
    with TemporaryDirectory() as name:
        folder = Path(name)
        sizes = arguments.rows, arguments.subjects, arguments.classes, arguments.trained, arguments.windows
        kept, whole = make_run(folder / "run", *sizes, arguments.subjects // 10 if arguments.clinical else 0)
        table, known = ((folder / "run" / file).stat().st_size / 1e6 for file in ("predictions.csv", lineage.FILE))
        print("rows {:,}, subjects {:,}, classes {}, windows trained on {:,}, {} a recording".format(*sizes))
        print(f"predictions.csv {table:.0f} MB, lineage.json {known:.0f} MB")
        print(f"of the training in a checkpoint: {kept / 1e6:.1f} MB, without a sketch {whole / 1e6:.1f} MB")
        command = ["-m", "cry_lightning", "evaluate", "run", *["--clinical"] * arguments.clinical]
        wall_s, cpu_s, peak_gb = run(command, folder)
        print(f"evaluate: {wall_s:.1f} s, of the processor {cpu_s:.1f} s; {peak_gb:.2f} GB at its peak")
        if arguments.profile:
            run(["-m", "cProfile", "-o", str(folder / "profile"), *command], folder)
            report_profile(folder / "profile")


if __name__ == "__main__":
    main()
