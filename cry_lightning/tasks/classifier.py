"""Supervised training: pretraining on one corpus and fine-tuning on another are this same task."""

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score

from cry_lightning.console import UserError
from cry_lightning.files import Checkpoint
from cry_lightning.tasks.base import HeadFactory, Stage
from cry_lightning.tasks.checks import check_loss
from cry_lightning.tasks.optimisation import Optimisation


class Classifier(Stage):
    """An encoder with a head that distinguishes classes.

    Args:
        encoder: see `Stage`.
        optimisation: see `Stage`.
        head: makes the layers behind the encoder (of num_features and num_classes), torch.nn.Linear where left out.
        loss: of logits (B, K) and labels (B,), cross-entropy where left out; its `weight` is set where the data asks
            for class weights.
        num_classes: number of classes K; the data's own number where left out, checked against it where given.
        **kwargs: see `Stage`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        optimisation: Optimisation,
        head: HeadFactory | None = None,
        loss: nn.Module | None = None,
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, optimisation, **kwargs)
        self.save_hyperparameters()
        self.head_factory = head or nn.Linear
        self.loss = loss or nn.CrossEntropyLoss()
        self.num_classes = num_classes
        self.head: nn.Module
        if num_classes is not None:
            self.build_head(num_classes)

    def build_head(self, num_classes: int) -> None:
        """Make the head and the metrics for K classes."""
        self.num_classes = num_classes
        self.head = self.head_factory(self.num_features, num_classes)
        metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(num_classes, average="micro"),
                "uar": MulticlassAccuracy(num_classes, average="macro"),
                "f1": MulticlassF1Score(num_classes, average="macro"),
            }
        )
        self.train_metrics = metrics.clone(prefix="train/")
        metrics.add_metrics({"auc": MulticlassAUROC(num_classes, average="macro")})
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")

    def configure_model(self) -> None:
        """See `Stage`; also build the head from the data's classes where the config leaves their number open."""
        super().configure_model()
        if self.trainer.state.fn == "predict":  # of any batches of features
            return
        found = len(self.data.classes)
        if found < 2:
            raise UserError(
                f"a classifier wants two classes, and the labelled clips have {found} ({', '.join(self.data.classes)}):"
                " give recordings of others too, or see data.corpus.init_args.classes"
            )
        if self.num_classes is None:
            self.build_head(found)
        elif found != self.num_classes:
            raise UserError(
                f"model.init_args.num_classes is {self.num_classes}, but the corpus has {found} classes"
                f" ({', '.join(self.data.classes)}); correct it or leave it out"
            )
        if self.channels_last:
            self.to(memory_format=torch.channels_last)
        if self.fitting and (weights := self.data.loss_weights()) is not None:
            if not hasattr(self.loss, "weight"):
                raise UserError(
                    f"data.sampling.class_weights: {type(self.loss).__name__} has no `weight` to be set; set them to"
                    " false, or take a loss that has, such as torch.nn.CrossEntropyLoss"
                )
            # not persistent: testing has no use for it, and a checkpoint must load without it
            self.loss.register_buffer("weight", weights, persistent=False)

    def on_save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """See `Stage`; also keep the class names, in the order of the logits."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["classes"] = list(self.data.classes)

    def setup(self, stage: str) -> None:
        """See `Stage`; also refuse clips without labels."""
        super().setup(stage)
        if stage == "fit" and (self.data.probe is not None or (self.data.labels[self.data.rows("train")] < 0).any()):
            raise UserError(
                "a Classifier learns from labels alone: set data.probe to null and data.subset.unlabelled to false"
            )

    def check_parts(self, features: Tensor) -> None:
        """See `Stage`; also refuse a loss that is none."""
        super().check_parts(features)
        if type(self).training_step is Classifier.training_step:
            check_loss(self, features)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, K) of features (B, C, F, T)."""
        return self.head(self.embed(features))

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities (B, K) in float32, or uncalibrated stand-ins under a loss that is not a likelihood."""
        return logits.float().softmax(-1)

    @property
    def calibrated(self) -> bool:
        """Whether the softmax of the logits was trained to be a probability."""
        return isinstance(self.loss, nn.CrossEntropyLoss)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch; metrics are gathered over the epoch."""
        logits = self(batch["features"])
        loss = self.refuse_nan(self.loss(logits, batch["label"]), batch)
        self.train_metrics.update(logits.detach().float(), batch["label"])
        self.log_mean("train/loss", loss, len(logits), prog_bar=True)
        self.log_at_end(self.train_metrics)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Scores (B, K) and cache rows (B,) of one batch."""
        logits = self(batch["features"])
        self.log("val/loss", self.loss(logits, batch["label"]), batch_size=len(logits), sync_dist=True)
        self.val_metrics.update(self.scores(logits), batch["label"])
        self.log_dict(self.val_metrics)
        return {"scores": self.scores(logits), "index": batch["index"]}

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Scores (B, K) and cache rows (B,) of one batch; loader 0 is the test part, loader 1 the validation part."""
        logits = self(batch["features"])
        if dataloader_idx == 0:
            self.test_metrics.update(self.scores(logits), batch["label"])
            self.log_dict(self.test_metrics, add_dataloader_idx=False)
        return {"scores": self.scores(logits), "index": batch["index"]}

    def predict_step(self, batch: dict[str, Tensor] | Tensor, batch_idx: int) -> Tensor:
        """Scores (B, K) of a batch of the data, or of features (B, C, F, T)."""
        return self.scores(self(batch["features"] if isinstance(batch, dict) else batch))
