"""What stages without labels share: a loss on sound alone, and how good what they learn is, by probes and collapse."""

import math
import warnings
from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from cry_lightning.console import UserError
from cry_lightning.files import Checkpoint
from cry_lightning.tasks.base import Stage
from cry_lightning.tasks.optimisation import Optimisation

COLLAPSED_RANK = 2.0  # effective rank below which the embeddings say next to nothing
MIN_CLIPS = 10  # of fewer the rank is low whatever the encoder does
VALIDATION_SEED = 0  # what is drawn in validation is the same in every epoch, so that its curves compare
MAX_ROWS = 2048  # evenly spaced ones of more: the work grows with the square, what it tells hardly
MAX_ITERATIONS = 300


class Pretext(Stage):
    """An encoder that learns without labels, by a task that the sound itself sets.

    Logged in validation: `val/loss`, and what else the task measures; `val/effective_rank` of the embeddings; and
    `val/probe_uar`, where the data has a `probe`: balanced accuracy of a classifier on the embeddings of the probe's
    training part, tested on its validation part.

    Args:
        encoder: see `Stage`.
        optimisation: see `Stage`.
        adaptation: this stage goes on from another one, so `weights` must name it.
        probe: kind of the classifier on the embeddings.
        probe_every_n_epochs: how often it is fitted, beside the last of max_epochs; in between its last score is logged
            again.
        **kwargs: see `Stage`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        optimisation: Optimisation,
        adaptation: bool = False,
        probe: Literal["linear", "knn"] = "linear",
        probe_every_n_epochs: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, optimisation, **kwargs)
        if probe_every_n_epochs < 1:
            raise UserError(f"probe_every_n_epochs must be at least 1, not {probe_every_n_epochs}")
        if adaptation and not self.weights:
            raise UserError("adaptation goes on from another stage: give its checkpoint as model.init_args.weights")
        self.probe = probe
        self.probe_every_n_epochs = probe_every_n_epochs
        self.probe_uar: float | None = None
        self.probed_in: int | None = None  # epoch
        self.embeddings: list[list[Tensor]] = []  # of this validation, for each of its loaders
        self.labels: list[list[Tensor]] = []

    @abstractmethod
    def loss_of(self, features: Tensor) -> Tensor:
        """The loss of a batch's features (B, C, F, T) or waveforms; whatever is drawn, is drawn by torch."""

    def measures(self, features: Tensor) -> dict[str, Tensor]:
        """What validation logs of a batch's features, "val/loss" among it; nothing where the batch is too small."""
        return {"val/loss": self.loss_of(features)}

    def has_collapsed(self, rank: Tensor) -> bool:
        """Whether embeddings of this effective rank say next to nothing."""
        return bool(rank < COLLAPSED_RANK)

    def on_fit_start(self) -> None:
        """See `Stage`; also refuse a probe that compares nothing."""
        super().on_fit_start()
        probe = self.data.probe
        classes = sorted({str(clip.label) for clip in probe.clips_of("train")}) if probe else []
        if probe and len(classes) < 2:
            raise UserError(
                f"data.probe: its training part is all of one class, {' '.join(classes)}; the probe compares classes"
            )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        loss, clips = self.loss_of(batch["features"]), len(batch["features"])
        self.log_mean("train/loss", loss, clips, prog_bar=True)
        return self.refuse_nan(loss, batch)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self.embeddings, self.labels = [[], [], []], [[], [], []]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Loss of a batch of loader 0; embeddings for the probe from its loaders, 1 to fit it and 2 to test it."""
        features = batch["features"]
        if dataloader_idx == 0:
            self.log_measures(batch, batch_idx)
        elif not self.probing:
            return
        self.embeddings[dataloader_idx].append(self.embed(features).float().cpu())
        self.labels[dataloader_idx].append(batch["label"].cpu())

    def log_measures(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log what a batch measures, drawn alike in every epoch."""
        features = batch["features"]
        with torch.random.fork_rng(devices=[features.device] if features.is_cuda else []):
            torch.manual_seed(VALIDATION_SEED + batch_idx)
            values = self.measures(features)
        if values:
            self.refuse_nan(values["val/loss"], batch)
            self.log_dict(values, batch_size=len(features), sync_dist=True, add_dataloader_idx=False)

    @property
    def probing(self) -> bool:
        """Whether the probe is fitted in this validation; there may be none in some epochs, several in others."""
        epoch = self.current_epoch
        if self.probed_in is None or epoch + 1 == self.trainer.max_epochs:
            return True
        return not 0 < epoch - self.probed_in < self.probe_every_n_epochs

    def on_validation_epoch_end(self) -> None:
        """Log the effective rank and the probe's score; warn where the embeddings have collapsed."""
        embeddings = torch.cat(self.embeddings[0])
        rank = effective_rank(embeddings)
        self.log("val/effective_rank", rank, sync_dist=True)
        if self.has_collapsed(rank) and len(embeddings) >= MIN_CLIPS:
            warnings.warn(
                f"the embeddings have collapsed (effective rank {float(rank):.1f} of {self.num_features}): a lower"
                " learning rate or weaker augmentation may help",
                stacklevel=1,
            )
        if self.data.probe and self.probing:
            self.probe_uar = probe(self.probe, *self.gathered(1), *self.gathered(2))
            self.probed_in = self.current_epoch
        if self.probe_uar is not None:
            self.log("val/probe_uar", self.probe_uar, prog_bar=True, sync_dist=True)

    def gathered(self, loader: int) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (n, D) and labels (n,) of one loader in this validation."""
        return torch.cat(self.embeddings[loader]).numpy(), torch.cat(self.labels[loader]).numpy()

    def on_save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """See `Stage`; also keep the probe's last score, which is logged until the next one."""
        super().on_save_checkpoint(checkpoint)
        checkpoint |= {"probe_uar": self.probe_uar, "probed_in": self.probed_in}

    def on_load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Take the probe's last score over."""
        self.probe_uar, self.probed_in = checkpoint["probe_uar"], checkpoint["probed_in"]


@torch.no_grad()
def alignment(z: Tensor) -> Tensor:
    """Mean squared distance of the two views (rows i and i + B) among normalised projections (2B, D); 0 is perfect.

    Source: Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity
    on the Hypersphere", section 4.1.
    """
    first, second = F.normalize(z.float()).chunk(2)
    return (first - second).square().sum(dim=1).mean()


@torch.no_grad()
def uniformity(z: Tensor) -> Tensor:
    """Log of the mean Gaussian potential exp(-2 d^2) over pairs of normalised projections (n, D); 0 is collapse.

    About -4 is the best there is in many dimensions. Of many rows, 2,048 are compared.

    Source: Wang and Isola 2020, section 4.1.2.
    """
    z = F.normalize(_some(z).float())
    return torch.pdist(z).square().mul(-2).exp().mean().log()


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> Tensor:
    """Number of directions that embeddings (n, D) really fill: exp of the entropy of their singular values.

    Embeddings are centred first; 0 where all are the same but for rounding. Of many rows, 2,048 are used.

    Source: Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", section 2.
    """
    embeddings = _some(embeddings).double()  # or rounding of the mean would pass for a direction
    values = torch.linalg.svdvals((embeddings - embeddings.mean(dim=0)).float())
    rounding = torch.finfo(torch.float32).eps * embeddings.norm()
    values = values[values > rounding]
    if not len(values):
        return values.new_zeros(())
    return torch.special.entr(values / values.sum()).sum().exp()


def _some(rows: Tensor) -> Tensor:
    return rows[:: max(1, math.ceil(len(rows) / MAX_ROWS))]


Kind = Literal["linear", "knn"]


def probe(
    kind: Kind,
    train_embeddings: np.ndarray,
    train_labels: np.ndarray,
    test_embeddings: np.ndarray,
    test_labels: np.ndarray,
    k: int = 20,
) -> float:
    """Unweighted average recall on test embeddings (m, D) of a classifier fitted to train embeddings (n, D).

    Args:
        kind: "linear", a class-balanced logistic regression on standardised embeddings, or "knn", a vote of the
            nearest neighbours by cosine, the nearer the weightier.
        train_embeddings: (n, D).
        train_labels: (n,).
        test_embeddings: (m, D).
        test_labels: (m,).
        k: neighbours of "knn"; all n where there are fewer.

    Raises:
        UserError: where the training rows are not of two classes at least, or there is no test row.
    """
    classes = np.unique(train_labels)
    if len(classes) < 2:
        raise UserError(f"probe: training rows of two classes or more are needed, not of {classes.tolist()}")
    if not len(test_labels):
        raise UserError("probe: no test rows; give the labelled corpus a split with some")
    if kind == "linear":
        logistic = LogisticRegression(class_weight="balanced", max_iter=MAX_ITERATIONS)
        classifier = make_pipeline(StandardScaler(), logistic)
    else:
        classifier = KNeighborsClassifier(min(k, len(train_labels)), metric="cosine", weights="distance")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly converged is as good for comparing epochs
        classifier.fit(train_embeddings, train_labels)
    predicted = classifier.predict(test_embeddings)
    return float(recall_score(test_labels, predicted, labels=np.unique(test_labels), average="macro"))
