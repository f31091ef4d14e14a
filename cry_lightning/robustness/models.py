"""Trained models beside the clips that they were tested on."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cry_lightning.console import UserError, one_line
from cry_lightning.corpora import Clip, Corpus
from cry_lightning.corpora.synthetic import Rendered
from cry_lightning.evaluation.pairs import unlikeness
from cry_lightning.evaluation.predictions import classes_of
from cry_lightning.evaluation.run import evaluate_run, read_run
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.predict import scores_of
from cry_lightning.tasks.weights import read_checkpoint
from cry_lightning.trust.names import Trust


class ModelUnderTest:
    """A trained classifier and its run, whose predictions.csv tells the tested clips.

    Args:
        path: checkpoint in the folder of a run that was tested.
        name: of the run, in tables and figures.
        device: see `TrainedStage`.
        trust: see `TrainedStage`.

    Raises:
        UserError: the checkpoint tells no classes apart, was not tested, or its corpus no longer has the tested clips.
    """

    def __init__(self, path: Path, name: str, device: str, trust: Trust) -> None:
        self.name = name
        self.trained = TrainedStage(path, device, trust)
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
            raise UserError(f"--ckpt: {model.name} and {first.name} tell other classes apart; give them one by one")
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
    if isinstance(corpus, Rendered) and not corpus.root.exists():
        raise UserError(f"{path}: its corpus is no longer at {corpus.root}; `prepare` with the stage's config makes it")
    return corpus
