"""The classical baseline: fitted by scikit-learn, kept and scored as tensors, a stage like any other."""

import logging
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerConfig
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import recall_score
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor, nn
from torch.optim import SGD

from cry_lightning.console import UserError, progress_bar
from cry_lightning.tasks.classifier import Classifier
from cry_lightning.tasks.heads import SupportVectors
from cry_lightning.tasks.optimisation import Optimisation

log = logging.getLogger(__name__)
Kernel = Literal["rbf", "linear"]
Gamma = float | Literal["scale"]
G = TypeVar("G", bound=Gamma)
Folds = list[tuple[np.ndarray, np.ndarray]]  # rows to fit to, rows held out
MOST_CLIPS = 10_000  # their kernel takes 0.8 GB, and a search a few times that
MOST_FOLDS = 5
FLATTEST = 1e-3  # slope of Platt scaling: a probability never falls where the decision value rises
FEWEST = 3  # subjects of a class that Platt scaling takes, as `evaluation.clinical` has it
LONE = "of some class, there are training clips of one subject alone"


class Embedded(NamedTuple):
    """Clips of one part: embeddings (n, D) in float64, class indices (n,) and subjects (n,)."""

    embeddings: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray


class SvmSettings(NamedTuple):
    """How to fit; see `SVM`, whose arguments these are, lists of `C` and `gamma` making a grid."""

    kernel: Kernel
    C: Sequence[float]
    gamma: Sequence[Gamma]
    standardize: bool
    balanced: bool


def fit(
    train: Embedded, validation: Embedded | None, n_classes: int, recipe: SvmSettings, show_bar: bool = False
) -> tuple[dict[str, np.ndarray | float], dict[str, float]]:
    """What `SupportVectors` takes of K classes, and what was chosen: C, gamma and, where there was a choice, their UAR.

    The choice goes by the clips of `judge`, or else by training subjects held out in folds.

    Raises:
        UserError: the training subjects are too few to choose by.
    """
    n, n_features = train.embeddings.shape
    scaler = StandardScaler().fit(train.embeddings)  # for all folds: held-out clips tell it no labels
    mean, scale = (scaler.mean_, scaler.scale_) if recipe.standardize else (np.zeros(n_features), np.ones(n_features))
    parts = [train, validation] if validation else [train]
    vectors = (np.concatenate([part.embeddings for part in parts]) - mean) / scale
    usual = 1 / float(n_features * vectors[:n].var() or 1.0)
    gammas = [usual if gamma == "scale" else gamma for gamma in recipe.gamma]
    # computed once for all machines, folds and C: of long vectors, kernels are most of the work
    gram = partial(pairwise_kernels, metric=recipe.kernel, filter_params=True)
    folds = grouped_folds(train.labels, train.subjects)
    chosen: dict[str, float] = {"C": recipe.C[0], "gamma": gammas[0]}
    if len(recipe.C) * len(gammas) > 1:
        divisions = [(np.arange(n), np.arange(n, len(vectors)))] if validation else folds
        if divisions is None:
            raise UserError(f"SVM: {LONE}, so nobody can be held out to choose by; give one C and one gamma")
        grams = (gram(vectors, gamma=gamma) for gamma in progress_bar(gammas, "SVM", leave=False, hidden=not show_bar))
        chosen = search(grams, np.concatenate([part.labels for part in parts]), divisions, recipe, gammas)
    if folds is None:
        log.warning("SVM: %s, so nobody can be held out: scores rank but are not calibrated", LONE)
    elif (fewest := fewest_subjects(train)) < FEWEST:
        log.warning("SVM: of some class, there are %d training subjects: scores rank but are not calibrated", fewest)
        folds = None
    kernel = gram(vectors[:n], gamma=chosen["gamma"])
    sides = [train.labels == label for label in ([1] if n_classes == 2 else range(n_classes))]
    binary_classifiers = [machine(kernel, side, chosen["C"], folds, recipe.balanced) for side in sides]
    dual, intercept, slope, offset = map(np.array, zip(*binary_classifiers, strict=True))
    if n_flat := int((slope <= FLATTEST).sum()):
        which = f"of {n_flat} of {n_classes} classes " if n_classes > 2 else ""
        log.warning("SVM: scores %srank held-out subjects the wrong way; they show only how frequent a class is", which)
    used = dual.any(axis=0)
    fitted = {"mean": mean, "scale": scale, "vectors": vectors[:n][used], "dual": dual[:, used], "intercept": intercept}
    fitted |= {"gamma": chosen["gamma"], "slope": slope, "offset": offset, "calibrated": float(folds is not None)}
    return fitted, chosen


def search(
    grams: Iterable[np.ndarray], labels: np.ndarray, folds: Folds, recipe: SvmSettings, gammas: Sequence[float]
) -> dict[str, float]:
    """C and gamma of the highest UAR, a mean over the folds, the first of equals, and that UAR."""
    binary_classifiers = OneVsRestClassifier(
        SVC(kernel="precomputed", class_weight="balanced" if recipe.balanced else None)
    )
    grid = GridSearchCV(
        binary_classifiers, {"estimator__C": recipe.C}, scoring=uar, cv=folds, refit=False, error_score="raise"
    )
    scores = np.transpose([grid.fit(gram, labels).cv_results_["mean_test_score"] for gram in grams])  # of C and gamma
    for (i, j), score in np.ndenumerate(scores):
        log.info("C %.4g, gamma %.4g: UAR %.3f", recipe.C[i], gammas[j], score)
    i, j = divmod(int(scores.argmax()), len(gammas))
    return {"uar": float(scores[i, j]), "C": recipe.C[i], "gamma": gammas[j]}


def uar(binary_classifiers: OneVsRestClassifier, gram: np.ndarray, labels: np.ndarray) -> float:
    """Unweighted average recall over the classes that there are."""
    return float(recall_score(labels, binary_classifiers.predict(gram), labels=np.unique(labels), average="macro"))


def machine(
    gram: np.ndarray, side: np.ndarray, penalty: float, folds: Folds | None, balanced: bool
) -> tuple[np.ndarray, float, float, float]:
    """Dual coefficients (n,) and intercept of a machine that tells one side, and slope and offset of its Platt scaling.

    Those two come from the clips that the folds hold out; where there are none, they change nothing.

    Source: Platt 1999, "Probabilistic outputs for support vector machines", section 2.2.
    """
    svc, slope, offset = SVC(C=penalty, kernel="precomputed"), 1.0, 0.0
    weights = compute_sample_weight("balanced" if balanced else None, side)
    if folds is None:
        svc.fit(gram, side, weights)
    else:
        scaled = CalibratedClassifierCV(svc, cv=folds, ensemble=False).fit(gram, side, weights)
        ((svc, (sigmoid,)),) = ((one.estimator, one.calibrators) for one in scaled.calibrated_classifiers_)
        slope, offset = -sigmoid.a_, -sigmoid.b_
        if slope < FLATTEST:  # those held out tell nothing: the answer is how frequent the side is
            slope, offset = FLATTEST, float(np.log(weights[side].sum() / weights[~side].sum()))
    dual = np.zeros(len(side))
    dual[svc.support_] = svc.dual_coef_[0]
    return dual, svc.intercept_[0], slope, offset


def fewest_subjects(train: Embedded) -> int:
    """How many subjects the class of the fewest has."""
    return min(len(np.unique(train.subjects[train.labels == label])) for label in np.unique(train.labels))


def grouped_folds(labels: np.ndarray, subjects: np.ndarray) -> Folds | None:
    """Folds of whole subjects: five, or fewer, so that each fold trains on every class; None if none do."""
    classes, counts = np.unique(labels, return_counts=True)
    for n_folds in range(min(MOST_FOLDS, counts.max(), len(np.unique(subjects))), 1, -1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class of few clips need not be in every fold
            folds = list(StratifiedGroupKFold(n_folds).split(labels, labels, subjects))
        if all(len(held) and len(np.unique(labels[rows])) == len(classes) for rows, held in folds):
            return folds
    return None


class SVM(Classifier):
    """A support vector machine on embeddings; one-vs-rest where there are more than two classes.

    It is fitted once, to all training clips as they stand: no shift, no augmentation. Errors weigh by the inverse
    frequency of their class where the data has `balanced` or `class_weights`. Scores are probabilities by Platt
    scaling of the decision values of subjects that were held out.

    Args:
        encoder: see `Stage`; `encoders.fixed` has some without weights.
        kernel: "rbf" or "linear".
        C: penalty of errors; a list is searched.
        gamma: width of the RBF kernel; a list is searched. "scale" is 1 / (D * variance).
        standardize: embeddings to zero mean and unit variance over the training clips.
        choose: what the search goes by: UAR on training subjects held out in folds ("groups"), or on the validation
            part.
        num_classes: see `Classifier`.
        weights: see `Stage`.
        front_end: see `Stage`.
        normalize: see `Stage`.

    Source: Cortes and Vapnik 1995, "Support-vector networks".
    """

    head: SupportVectors

    def __init__(
        self,
        encoder: nn.Module,
        kernel: Kernel = "rbf",
        C: float | list[float] = 1.0,  # noqa: N803
        gamma: Gamma | list[Gamma] = "scale",
        standardize: bool = True,
        choose: Literal["groups", "validation"] = "groups",
        num_classes: int | None = None,
        weights: str | None = None,
        front_end: nn.Module | None = None,
        normalize: nn.Module | None = None,
    ) -> None:
        super().__init__(
            encoder,
            Optimisation(SGD),
            head=partial(SupportVectors, kernel=kernel),
            num_classes=num_classes,
            weights=weights,
            frozen=True,
            front_end=front_end,
            normalize=normalize,
        )
        self.kernel = kernel
        self.penalties: list[float] = _positive("C", C)
        self.gammas: list[Gamma] = _positive("gamma", gamma) if kernel == "rbf" else ["scale"]
        self.standardize = standardize
        self.choose = choose
        self.automatic_optimization = False

    @property
    def calibrated(self) -> bool:
        """Whether there were enough subjects to hold out for Platt scaling."""
        return bool(self.head.calibrated)

    def setup(self, stage: str) -> None:
        """See `Classifier`; refuses what a fit in one pass cannot do."""
        super().setup(stage)
        if stage != "fit":
            return
        labels = self.data.labels[self.data.rows("train")]
        if missing := [name for index, name in enumerate(self.data.classes) if not (labels == index).any()]:
            raise UserError(f"SVM: the training part has no clip of {', '.join(missing)}; see data.split")
        if len(self.data.classes) < 2:
            raise UserError(f"SVM: there is one class alone ({self.data.classes[0]}), and nothing to tell it from")
        if len(labels) > MOST_CLIPS:
            fewer = "take fewer by data.subset.per_class or data.subset.label_fraction"
            raise UserError(f"SVM: at most {MOST_CLIPS} training clips fit into memory, not {len(labels)}; {fewer}")
        if self.trainer.world_size > 1:
            raise UserError("SVM: fitted by one process; set trainer.devices and trainer.num_nodes to 1")
        if self.trainer.max_epochs != 1:
            raise UserError("SVM: fitted in one pass; set trainer.max_epochs to 1")
        if self.choose == "validation" and not self.trainer.limit_val_batches:
            raise UserError("SVM: there is no validation here to choose by; set model.init_args.choose to groups")

    def configure_optimizers(self) -> OptimizerConfig:
        """An optimizer of nothing: a fit without steps would leave no checkpoint."""
        return {"optimizer": self.optimisation.optimizer([nn.Parameter(torch.zeros(0))])}

    def on_train_start(self) -> None:
        """Fit the machines, before the one validation."""
        show_bar = self.trainer.progress_bar_callback is not None
        balanced = self.data.sampling.balanced or self.data.sampling.class_weights
        recipe = SvmSettings(self.kernel, self.penalties, self.gammas, self.standardize, balanced)
        validation = self.embedded("val", show_bar) if self.choose == "validation" else None
        fitted, chosen = fit(self.embedded("train", show_bar), validation, len(self.data.classes), recipe, show_bar)
        self.head.take(fitted)
        self.log_dict({f"train/{name}": value for name, value in chosen.items()})

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing: the machines are fitted by now."""
        self.optimizers().step()  # type: ignore[union-attr]  # there is but one

    @torch.no_grad()
    def embedded(self, part: str, show_bar: bool = False) -> Embedded:
        """All clips of a part, each once.

        Raises:
            UserError: some embedding is not a number.
        """
        found = []
        bar = progress_bar(self.data.loader(part), f"embed {part}", leave=False, hidden=not show_bar)
        with self.trainer.precision_plugin.forward_context():  # as in the validation
            for batch in bar:
                features = self.view(batch["features"].to(self.device), augmented=False)
                found.append((self.encoder(features).double().cpu(), batch["label"], batch["index"]))
        embeddings, labels, rows = (torch.cat(column) for column in zip(*found, strict=True))
        clips = [self.data.clips[row] for row in rows.tolist()]
        if wrong := [clip.name for clip, row in zip(clips, embeddings, strict=True) if not row.isfinite().all()]:
            raise UserError(f"SVM: {len(wrong)} {part} embeddings contain NaN or inf (first: {wrong[0]})")
        return Embedded(embeddings.numpy(), labels.numpy(), np.array([clip.subject for clip in clips]))


def _positive(name: str, values: G | list[G]) -> list[G]:
    listed = values if isinstance(values, list) else [values]
    if not listed or any(not isinstance(value, str) and not value > 0 for value in listed):
        raise UserError(f"SVM: {name} must be above 0, not {', '.join(map(str, listed))}")
    return listed
