"""`robustness`: trained models on their own test clips, disturbed."""

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from cry_lightning.console import UserError, one_line, progress_bar
from cry_lightning.corpora import Clip, Corpus
from cry_lightning.corpora.synthetic import SyntheticCorpus
from cry_lightning.dashboard.runs import send_curves
from cry_lightning.data.building import ClipBatches
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.compare import unlikeness
from cry_lightning.evaluation.predictions import KEYS, classes_of, score_columns
from cry_lightning.evaluation.run import evaluate_run, read_run
from cry_lightning.files import safe_name
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.predict import scores_of
from cry_lightning.lineage import refuse_leaky
from cry_lightning.studies import disturbances, robustness_report
from cry_lightning.studies.disturbances import UNDISTURBED, VERSION, Condition, Sounds, noise_recordings
from cry_lightning.tasks.checkpoints import read_checkpoint, sha256
from cry_lightning.trust.names import Trust

log = logging.getLogger(__name__)
BATCH_SIZE = 64  # larger batches leave the processor's cache
CLOSE = 1e-3  # another precision or device changes probabilities by less


class ModelUnderTest:
    """A trained classifier and its run, whose predictions.csv tells the tested clips.

    Args:
        path: checkpoint in the folder of a run that was tested.
        name: of the run, in tables and figures.
        device: see `TrainedStage`.
        trust: see `TrainedStage`.

    Raises:
        UserError: the checkpoint is of no classifier, was not tested, or its corpus no longer has the tested clips.
    """

    def __init__(self, path: Path, name: str, device: str, trust: Trust) -> None:
        self.name = name
        self.trained = TrainedStage(path, device, trust)
        self.trained.needs_one_rate("robustness")
        self.network = scores_of(self.trained)
        tested = read_run(str(path.parent), "test")
        self.run = evaluate_run(tested, "test", positive=None)
        self.table = self.run.table
        if self.run.classes != self.trained.classes:
            raise UserError(f"{path}: its classes are not those of the predictions.csv beside it: test it again")
        self.corpus = _corpus(path, trust)
        with TemporaryDirectory() as folder:  # for the levels of windows: a checkpoint has no say in what is written
            listed = {clip.name: clip for clip in self.corpus.clips(Path(folder))}
        if missing := [clip for clip in self.table["clip"] if clip not in listed]:
            raise UserError(
                f"{path}: {len(missing)} clips that it was tested on are no longer in its corpus at"
                f" {self.corpus.root}, first {missing[0]}"
            )
        self.clips: list[Clip] = [listed[clip] for clip in self.table["clip"]]

    @property
    def sample_rate(self) -> int:
        """Of the waveforms that its front end takes, Hz."""
        return self.trained.feature.sample_rate

    def scores(self, waveforms: np.ndarray) -> np.ndarray:
        """Probabilities (B, K) of fitted waveforms (B, N), margins included, as `test` computes them."""
        scores = self.network(self.trained.front_end(waveforms)).double().cpu().numpy()
        return scores / scores.sum(1, keepdims=True)

    def knows_noise(self, folder: Path) -> bool:
        """Whether noise from this folder, or from one in or around it, was mixed in when it was trained."""
        modules = self.trained.hyper_parameters.get("augment_waveform") or []
        arguments = [module.get("init_args") for module in modules if isinstance(module, dict)]
        folders = [given.get("folder") for given in arguments if isinstance(given, dict)]
        own, given = [Path(known).resolve() for known in folders if isinstance(known, str)], folder.resolve()
        return any(given.is_relative_to(known) or known.is_relative_to(given) for known in own)


def open_models(paths: Sequence[Path], device: str, trust: Trust) -> list[ModelUnderTest]:
    """The models of these checkpoints, named by their runs' folders.

    Raises:
        UserError: one cannot be used, or they were not tested on the same clips.
    """
    names = [path.resolve().parent.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path.parent) for path in paths]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"--ckpt: {', '.join(sorted(twice))} is named twice; a run's predictions are of one checkpoint")
    models = [ModelUnderTest(path, name, device, trust) for path, name in zip(paths, names, strict=True)]
    first, *others = models
    for model in others:
        if classes_of(model.table) != classes_of(first.table):
            raise UserError(f"--ckpt: {model.name} and {first.name} have different classes; give them one by one")
        if unlike := unlikeness(model.run, first.run):
            raise UserError(f"--ckpt: not tested on the same clips, so give them one by one: {unlike}")
    return models


def _corpus(path: Path, trust: Trust) -> Corpus:
    """The corpus that a checkpoint was trained on, and tested; found, and never made."""
    try:
        corpus: Corpus = trust.made(
            Corpus, read_checkpoint(path)["datamodule_hyper_parameters"]["corpus"], "data.corpus"
        )
    except Exception as error:  # classes that are no longer there may fail in any way
        raise UserError(one_line(f"{path}: its corpus cannot be opened ({error})")) from error
    if isinstance(corpus, SyntheticCorpus) and not corpus.root.exists():
        raise UserError(f"{path}: its corpus is no longer at {corpus.root}; `prepare` with the stage's config makes it")
    return corpus


def predict(model: ModelUnderTest, points: Sequence[Condition], folder: Path) -> list[pd.DataFrame]:
    """The predictions table of the tested clips at each point; a point whose file is in the folder is only read.

    A file's name holds a hash of all that its numbers depend on; a damaged one is written again. The points of a kind
    are computed, and written, together.

    Raises:
        UserError: a clip or a noise recording cannot be decoded.
    """
    files = [folder / safe_name(model.name) / name for name in file_names(model, points)]
    columns = score_columns(model.table)
    for kind in dict.fromkeys(point.kind for point in points):
        of_kind = {file: point for file, point in zip(files, points, strict=True) if point.kind == kind}
        missing = {file: point for file, point in of_kind.items() if not _is_whole(file)}
        for file, scores in zip(missing, _scores(model, list(missing.values())), strict=True):
            table = model.table[[*KEYS]].assign(**dict(zip(columns, scores.T, strict=True)))
            predictions.write(table, file)
    return [predictions.read(file) for file in files]


def _is_whole(file: Path) -> bool:
    try:
        return file.exists() and not predictions.read(file).empty
    except UserError:
        return False


def file_names(model: ModelUnderTest, points: Sequence[Condition]) -> list[str]:
    """`kind_severity-hash.csv` of each point; the undisturbed one is the same for every kind."""
    provenance = [VERSION, sha256(model.trained.path), model.table[[*KEYS]].to_csv(index=False)]
    names = []
    for point in points:
        settings = dict(getattr(point.disturb, "keywords", {}))
        if "folder" in settings:
            settings["folder"] = _noise_digest(Path(settings["folder"]), model.sample_rate)
        described = UNDISTURBED if point.severity == UNDISTURBED else f"{point.kind}_{point.severity}"
        key = hashlib.sha256(json.dumps([*provenance, described, settings]).encode()).hexdigest()
        names.append(f"{safe_name(described)}-{key[:10]}.csv")
    return names


def warn_if_different(model: ModelUnderTest, undisturbed: pd.DataFrame) -> None:
    """Warn where the undisturbed scores are not those of the run's own predictions.csv."""
    columns = score_columns(model.table)
    difference = np.abs(undisturbed[columns].to_numpy() - model.table[columns].to_numpy()).max()
    if difference > CLOSE:
        log.warning(
            "%s: undisturbed, its scores differ by up to %.2g from %s; was that made by another checkpoint, of other"
            " recordings, or in another precision?",
            model.name,
            difference,
            model.run.folder / "predictions.csv",
        )


def _scores(model: ModelUnderTest, points: Sequence[Condition]) -> np.ndarray:
    """Probabilities (P, n, K) of the n tested clips at P points; each clip is decoded once."""
    n_clips, sample_rate = len(model.clips), model.sample_rate
    n_heard = round(model.trained.clip_s * sample_rate)
    scores = np.empty((len(points), n_clips, len(model.run.classes)))
    if not points:
        return scores
    bar = progress_bar(range(n_clips * len(points)), f"{model.name}, {points[0].kind}", unit="clip")
    clips = ClipBatches(model.corpus, model.clips, **model.trained.fitting)
    with torch.inference_mode(), bar:
        for first in range(0, n_clips, BATCH_SIZE):
            rows = range(first, min(first + BATCH_SIZE, n_clips))
            waveforms = np.stack([clips.waveform(row)[0] for row in rows])
            sounds = Sounds(waveforms, [model.clips[row].name for row in rows], sample_rate, n_heard)
            for of_point, point in zip(scores, points, strict=True):
                of_point[rows.start : rows.stop] = model.scores(point.disturb(sounds))
                bar.update(len(rows))
    return scores


@cache
def _noise_digest(folder: Path, sample_rate: int) -> str:
    digest = hashlib.sha256()
    for recording in noise_recordings(folder, sample_rate):
        digest.update(recording.tobytes())
    return digest.hexdigest()


def run(
    checkpoints: Sequence[Path],
    out: Path,
    trust: Sequence[str],
    severities: disturbances.Severities,
    device: str,
    allow_leaky: bool,
    command: str,
) -> pd.DataFrame:
    """Run the command; points that are finished are not run again. Returns the curves."""
    models, noise = open_models(checkpoints, device, Trust(tuple(trust))), severities.noise
    for model in models:
        if not allow_leaky:
            refuse_leaky([(model.name, model.run.leakage)], "--allow-leaky reports it all the same, stamped")
        if "noise" in severities.kinds and noise and model.knows_noise(Path(noise)):
            log.warning("%s was trained with noise of %s, so its curve flatters it", model.name, noise)
    planned = disturbances.points(severities, min(model.sample_rate for model in models))
    predicted = [predict(model, planned, out / "predictions") for model in models]
    undisturbed = next(number for number, point in enumerate(planned) if point.severity == disturbances.UNDISTURBED)
    for model, tables in zip(models, predicted, strict=True):
        warn_if_different(model, tables[undisturbed])
    result = robustness_report.curves(models, planned, predicted)
    notes = [f"{model.name}: {note}" for model in models for note in (_lineage(model), *model.run.notes)]
    written = robustness_report.write(result, out, models[0].table["label"].nunique(), notes, command)
    print(f"\n{robustness_report.text(result)}")
    for model in models:
        send_curves(model.run.folder, robustness_report.shown(result, model.name))
        print("\n".join([f"\n{model.name}: {_lineage(model)}", *(f"- {note}" for note in model.run.notes)]))
    print("\n".join(["", *map(str, written)]))
    return result


def _lineage(model: ModelUnderTest) -> str:
    leakage = model.run.leakage
    return ", ".join(filter(None, [leakage.status, leakage.reason]))
