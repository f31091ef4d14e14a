"""A support vector machine on what a frozen encoder makes of the features, as a stage."""

from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD

from cry_lightning.errors import UserError
from cry_lightning.progress import progress_bar
from cry_lightning.tasks.classifier import Classifier
from cry_lightning.tasks.svm.fitting import Embedded, Gamma, Recipe, fit
from cry_lightning.tasks.svm.machines import Kernel
from cry_lightning.tasks.svm.support_vectors import SupportVectors

MOST_CLIPS = 10_000  # their kernel takes 0.8 GB, and a search a few times that


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
            SGD,
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
        """Whether there were subjects to hold out for Platt scaling."""
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
            fewer = "take fewer by data.per_class or data.label_fraction"
            raise UserError(f"SVM: at most {MOST_CLIPS} training clips fit into memory, not {len(labels)}; {fewer}")
        if self.trainer.world_size > 1:
            raise UserError("SVM: fitted by one process; set trainer.devices and trainer.num_nodes to 1")
        if self.trainer.max_epochs != 1:
            raise UserError("SVM: fitted in one pass; set trainer.max_epochs to 1")
        if self.choose == "validation" and not self.trainer.limit_val_batches:
            raise UserError("SVM: there is no validation here to choose by; set model.init_args.choose to groups")

    def configure_optimizers(self) -> dict[str, Any]:
        """An optimizer of nothing: a fit without steps would leave no checkpoint."""
        return {"optimizer": self.optimizer([nn.Parameter(torch.zeros(0))])}

    def on_train_start(self) -> None:
        """Fit the machines, before the one validation."""
        show_bar = self.trainer.progress_bar_callback is not None
        balanced = self.data.balanced or self.data.class_weights
        recipe = Recipe(self.kernel, self.penalties, self.gammas, self.standardize, balanced)
        judge = self.embedded("val", show_bar) if self.choose == "validation" else None
        fitted = fit(self.embedded("train", show_bar), judge, len(self.data.classes), recipe, show_bar)
        self.head.take(fitted.arrays)
        self.log_dict({f"svm/{name}": value for name, value in fitted.told.items()})

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
            raise UserError(f"SVM: the embeddings of {len(wrong)} {part} clips are no numbers, first of {wrong[0]}")
        return Embedded(embeddings.numpy(), labels.numpy(), np.array([clip.subject for clip in clips]))


def _positive(name: str, values: Any) -> list[Any]:
    values = values if isinstance(values, list) else [values]
    if not values or any(value != "scale" and not value > 0 for value in values):
        raise UserError(f"SVM: {name} must be above 0, not {', '.join(map(str, values))}")
    return values
