"""What a user of an exported model must know of it, its difference from PyTorch on sounds, and how long it takes."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Required, TypedDict, cast

import numpy as np
import torch

import cry_lightning
from cry_lightning import audio
from cry_lightning.audio import Fit, fit_to_length
from cry_lightning.console import UserError
from cry_lightning.evaluation.run import read_run
from cry_lightning.export.graph import EMBEDDING, PROBABILITIES, WaveformModel
from cry_lightning.files import Json
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.predict import scores_of
from cry_lightning.lineage import FILE, FoldedLineage, read
from cry_lightning.tasks import Classifier
from cry_lightning.tasks.checkpoints import identity_of, sha256

NOT_TESTED = "NOT TESTED"
NOT_STATED = "not stated"
RESAMPLING = "soxr HQ"  # what `audio` resamples by; other filters give a network other bands near the edge
Outputs = dict[str, np.ndarray]  # by what they are called: (B, K) and (B, D)
Run = Callable[[np.ndarray], Outputs]  # of waveforms (B, N)
LIMIT = 1e-4  # of probabilities, and of embeddings as a share of the largest number in them
LENGTHS = (1.37, 2.0)  # windows, where a network takes any length
PITCH_HZ, HARMONICS = 430.0, 6
MOST_RECORDED = 64  # windows of recordings
RUNS, WARM_UP = 50, 5  # of the latency
LONGEST_S = 10.0  # of its measurement


class Decision(TypedDict):
    """What windows are calibrated and decided by."""

    slope: float
    intercept: float
    thresholds: dict[str, float]  # of each class
    subjects: int  # that these were chosen on
    subjects_of: dict[str, int]  # each class


class About(TypedDict, total=False):
    """Texts, numbers and tables by their names; `docs/export.md` lists them."""

    producer: Required[str]
    sample_rate: Required[int]
    resampling: Required[str]
    window_samples: Required[int]
    hop_samples: Required[int]
    length: Required[str]
    fit: Required[Fit]
    min_active_db: float
    outputs: Required[list[str]]
    embedding_size: Required[int]
    front_end: Json
    checkpoint_sha256: Required[str]
    lineage: Required[str]
    lineage_sha256: Required[str]
    licence: Required[str]
    synthetic: str
    classes: list[str]
    calibrated: bool
    decision: Decision


def describe(trained: TrainedStage, model: WaveformModel, licence: str | None) -> About:
    """Texts, numbers and tables by their names; `docs/export.md` lists them."""
    stage, rate = trained.stage, trained.feature.sample_rate
    hop_s = trained.cutting["hop_s"]
    front_end = identity_of(stage.front_end or trained.feature)
    known: Json = {
        "producer": f"cry_lightning {cry_lightning.__version__}",
        "sample_rate": rate,
        "resampling": RESAMPLING,
        "window_samples": model.window,
        "hop_samples": model.window if hop_s is None else round(hop_s * rate),
        "length": "window_samples or more" if model.takes_any_length else "window_samples",
        "fit": model.fit,
        "min_active_db": trained.cutting["min_active_db"],
        "outputs": model.outputs,
        "embedding_size": stage.num_features,
        "front_end": json.loads(front_end) if front_end else None,
        "checkpoint_sha256": sha256(trained.path),
        "lineage": status_of(trained),
        "lineage_sha256": hashlib.sha256(json.dumps(trained.lineage.as_dict()).encode()).hexdigest(),
        "licence": licence or NOT_STATED,
        "synthetic": trained.synthetic or None,
    }
    if model.classes and isinstance(stage, Classifier):
        known |= {"classes": model.classes, "calibrated": stage.calibrated}
        known |= {"decision": decision_of(trained)}
    return cast(About, {name: value for name, value in known.items() if value is not None})


def status_of(trained: TrainedStage) -> str:
    """The stamp of the test of this very checkpoint; without one, only what is known of its training."""
    folder = trained.path.parent
    known = read(folder / FILE) if (folder / "predictions.csv").is_file() else None
    if known is None or isinstance(known, FoldedLineage) or known.checkpoint != sha256(trained.path):
        return NOT_TESTED if trained.lineage.complete else "UNKNOWN LINEAGE"
    return read_run(str(folder), "test").leakage.status


def decision_of(trained: TrainedStage) -> Decision | None:
    """What `predict` calibrates and decides windows by; None of a stage that has not been tested."""
    known = trained.reference
    windows = known.levels["clip"] if known else None
    if known is None or windows is None or not np.isfinite(windows.slope):
        return None
    thresholds = {name: round(one, 9) for name, one in zip(known.classes, windows.thresholds, strict=True)}
    return {
        "slope": round(windows.slope, 9),
        "intercept": round(windows.intercept, 9),
        "thresholds": thresholds,
        "subjects": known.n_subjects,
        "subjects_of": dict(zip(known.classes, windows.subjects, strict=False)),  # none: an older release's
    }


def sounds(sample_rate: int, n_samples: int) -> np.ndarray:
    """Synthetic waveforms (4, N), the same at every call: a cry, loud and quiet noise, and noise that ends in silence.

    All are rounded to 16 bits: what lies below no recording has.
    """
    rng = np.random.default_rng(0)
    seconds = np.arange(n_samples) / sample_rate
    phase = 2 * np.pi * np.cumsum(PITCH_HZ * (1 + 0.1 * np.sin(2 * np.pi * 1.3 * seconds))) / sample_rate
    cry = sum(np.sin(k * phase) / k for k in range(1, HARMONICS + 1)) * (np.sin(2 * np.pi * 1.1 * seconds) > -0.5)
    noise = rng.standard_normal((3, n_samples))
    noise[2, n_samples // 2 :] = 0
    waveforms = np.concatenate([0.15 * cry[None] + 0.002 * noise[:1], [[0.2], [0.002], [0.1]] * noise])
    return (np.round(waveforms.clip(-1, 1) * 32767) / 32768).astype(np.float32)


def windows_of(recordings: Sequence[str], sample_rate: int, n_samples: int) -> np.ndarray:
    """The first windows (n, N) of recordings, shared out among them.

    Raises:
        AudioError: one cannot be decoded.
    """
    found = [np.zeros((0, n_samples), np.float32)]
    for path in map(Path, recordings):
        waveform = audio.load(path, sample_rate)
        starts = range(0, max(waveform.size - n_samples, 0) + 1, n_samples)[: -(-MOST_RECORDED // len(recordings))]
        pieces = [fit_to_length(waveform[start : start + n_samples], n_samples, "pad") for start in starts]
        found.append(np.stack(pieces))
    return np.concatenate(found)


class TorchOutputs:
    """What PyTorch computes: of windows as `predict` does, of longer waveforms by the same modules.

    Args:
        trained: the stage.
        model: the same as a module.
    """

    def __init__(self, trained: TrainedStage, model: WaveformModel) -> None:
        self.trained, self.model = trained, model
        self.n_samples = round(trained.fitting["clip_s"] * trained.feature.sample_rate)
        self.scores = scores_of(trained) if model.classes else None

    def __call__(self, waveforms: np.ndarray) -> Outputs:
        """The outputs of waveforms (B, N)."""
        with torch.inference_mode():
            if waveforms.shape[1] != self.model.window:
                return as_outputs(self.model, self.model(torch.from_numpy(waveforms)))
            fitted = [fit_to_length(one, self.n_samples, self.trained.fitting["fit"]) for one in waveforms]
            features = self.trained.front_end(np.stack(fitted))
            found = {EMBEDDING: self.trained.stage.embed(features).float().numpy()}
            return found | ({PROBABILITIES: self.scores(features).numpy()} if self.scores else {})


def as_outputs(model: WaveformModel, tensors: Sequence[torch.Tensor]) -> Outputs:
    """The outputs of a graph by their names."""
    return {name: tensor.numpy() for name, tensor in zip(model.outputs, tensors, strict=True)}


def batches(model: WaveformModel, recorded: np.ndarray) -> Iterator[np.ndarray]:
    """What the two are compared on: windows together, one alone and, where the network takes them, longer waveforms."""
    rate = model.feature.sample_rate
    windows = np.concatenate([sounds(rate, model.window), recorded])
    yield windows
    yield windows[:1]
    if model.takes_any_length:
        yield from (sounds(rate, round(share * model.window)) for share in LENGTHS)


def differences(reference: Run, found: Run, inputs: Sequence[np.ndarray]) -> dict[str, float]:
    """The largest difference of each output; that of embeddings as a share of their largest number."""
    largest: dict[str, float] = {}
    for waveforms in inputs:
        ours, theirs = reference(waveforms), found(waveforms)
        for name, values in ours.items():
            scale = (float(np.abs(values).max()) or 1.0) if name == EMBEDDING else 1.0
            difference = float(np.abs(theirs[name] - values).max()) / scale
            largest[name] = max(largest.get(name, 0.0), difference if np.isfinite(difference) else np.inf)
    return largest


def refuse_different(found: dict[str, float], path: Path) -> None:
    """Refuse an export that computes something else.

    Raises:
        UserError: naming the output.
    """
    for name, difference in found.items():
        if difference > LIMIT:
            raise UserError(
                f"{path}: not written, its {name} is off by {difference:.2g}, and more than {LIMIT:g}: a part of this"
                " model cannot be exported as a graph; take --format hub"
            )


def latency_ms(run: Run, waveform: np.ndarray) -> float:
    """The median time in ms that one waveform (1, N) takes; one thread is the caller's care."""
    for _ in range(WARM_UP):
        run(waveform)
    times: list[float] = []
    while len(times) < RUNS and sum(times) < LONGEST_S:
        start = time.perf_counter()
        run(waveform)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))
