"""Finding events in recordings: the probability of each frame, from an encoder's maps over time."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, binary_cross_entropy_with_logits, interpolate, pad

from cry_lightning.annotations.spans import Hysteresis, choose, frames, marked_in
from cry_lightning.console import UserError
from cry_lightning.tasks.base import Stage
from cry_lightning.tasks.optimisation import Optimisation

STEP = 2  # frames of the features that the head joins, and separates again at its end
DILATIONS = (1, 2, 4, 8, 16, 32)  # of the head's convolutions: a frame's answer rests on 1.3 s to either side
MOST_KEPT = 2**29  # numbers in the maps of a frozen encoder that are kept, 1 GB


class Dilated(nn.Module):
    """A dilated convolution over time (B, D, T), with a skip.

    Source: Lea et al. 2017, "Temporal convolutional networks for action segmentation and detection".
    """

    def __init__(self, width: int, dilation: int, dropout: float = 0.1) -> None:
        super().__init__()
        conv = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.block = nn.Sequential(
            conv, nn.BatchNorm1d(width), nn.ReLU(), nn.Conv1d(width, width, 1), nn.Dropout(dropout)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (B, D, T)."""
        return frames + self.block(frames)


class FrameHead(nn.Module):
    """Logits (B, T) of the frames of features (B, 1, F, T) and of maps of an encoder.

    Args:
        in_features: numbers of a frame, of the features and of each map.
        width: channels.
        level_jitter: standard deviation of what is added to the features of a clip in training: its loudness.
        dropout: of the numbers of each.
    """

    def __init__(self, in_features: Sequence[int], width: int, level_jitter: float = 0.3, dropout: float = 0.2) -> None:
        super().__init__()
        self.level_jitter = level_jitter
        self.inputs = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(size), nn.Dropout(dropout), nn.Conv1d(size, width, 3, padding=1))
            for size in in_features
        )
        joined = nn.Conv1d(width * len(in_features), width, 1)
        self.join = nn.Sequential(nn.ReLU(), joined, nn.BatchNorm1d(width), nn.ReLU())
        self.context = nn.Sequential(*(Dilated(width, dilation) for dilation in DILATIONS))
        self.output = nn.Conv1d(width, STEP, 3, padding=1)

    def forward(self, features: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Logits (B, T), of maps (B, C, F', T') each."""
        n_frames = features.shape[-1]
        own = avg_pool2d(pad(features, (0, -n_frames % STEP, 0, 0), mode="replicate"), STEP).flatten(1, 2)
        if self.training:
            own = own + self.level_jitter * torch.randn(len(own), 1, 1, device=own.device)
        inputs = (own, *(one.flatten(1, 2) for one in maps))
        alike = [
            interpolate(layer(one), size=own.shape[-1], mode="linear")
            for layer, one in zip(self.inputs, inputs, strict=True)
        ]
        logits = self.output(self.context(self.join(torch.cat(alike, 1))))
        return logits.transpose(1, 2).flatten(1)[:, :n_frames]


class Detector(Stage):
    """Where in recordings a class of sound is, frame by frame, of the corpus `Intervals`.

    How probabilities become events (`Hysteresis`) is chosen on the validation part, whenever it is scored, and kept in
    the checkpoint. A clip's score is the mean of its frames, since a clip has the label where half of it is marked.

    Args:
        encoder: has the method `maps`, as `EfficientAT` has.
        optimisation: see `Stage`.
        layers: of the encoder, whose maps are used: early ones for when, late ones for what.
        bands: frequency bands that the map of each layer is averaged to.
        n_bands: frequency bands of the features.
        width: channels of the head.
        **kwargs: see `Stage`. The maps of a frozen encoder are computed once for each clip.
    """

    calibrated = False  # the score of a clip is the share of it that is marked

    def __init__(
        self,
        encoder: nn.Module,
        optimisation: Optimisation,
        layers: list[int] | None = None,
        bands: list[int] | None = None,
        n_bands: int = 128,
        width: int = 48,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, optimisation, **kwargs)
        self.save_hyperparameters()
        if not hasattr(encoder, "maps"):
            raise UserError(f"Detector: {type(encoder).__name__} has no maps over time; take EfficientAT")
        self.layers, self.bands = layers or [6, 12, 16], bands or [8, 8, 1]
        if len(self.layers) != len(self.bands):
            raise UserError(f"Detector: {len(self.layers)} layers, but {len(self.bands)} bands; give each layer one")
        self.head = FrameHead([n_bands // STEP, *self._sizes(n_bands)], width)
        self.hysteresis = nn.Buffer(torch.tensor(astuple(Hysteresis())))
        self.scored: list[tuple[np.ndarray, np.ndarray]] = []  # probabilities and targets (B, T) of the validation
        self._kept: dict[int, list[Tensor]] | None = None  # cache row -> maps of the frozen encoder

    @torch.no_grad()
    def _sizes(self, n_bands: int) -> list[int]:
        """Numbers of a frame in each map."""
        self.encoder.eval()
        maps = self.maps(torch.zeros(1, 1, n_bands, 64))
        self.train()  # all but what is frozen
        return [one.shape[1] * one.shape[2] for one in maps]

    def setup(self, stage: str) -> None:
        """See `Stage`; also refuse what would move frames away from their intervals."""
        super().setup(stage)
        if stage not in ("fit", "test"):
            return
        if self.data.shift_s:
            raise UserError("Detector: a shift moves frames away from their intervals; set data.shift_s to 0")
        if self.trainer.world_size > 1:
            raise UserError("Detector: trained by one process; set trainer.devices and trainer.num_nodes to 1")
        augmented = len(self.augment) + len(self.augment_waveform) > 0
        self._kept = {} if self.encoder in self.frozen_modules and not augmented else None

    def maps(self, features: Tensor) -> list[Tensor]:
        """Maps (B, C, bands, T') of features (B, 1, F, T)."""
        found = self.encoder.maps(features, self.layers)  # type: ignore[operator]
        return [adaptive_avg_pool2d(one, (n, one.shape[3])) for one, n in zip(found, self.bands, strict=True)]

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, T) of features (B, 1, F, T)."""
        return self.head(features, self.maps(features))

    def probabilities(self, batch: Tensor) -> Tensor:
        """Probability (B, T) of each frame of a batch's features or waveforms."""
        return self(self.view(batch, augmented=False)).float().sigmoid()

    @property
    def chosen(self) -> Hysteresis:
        """How probabilities become events, as chosen on the validation part."""
        onset, release, min_gap, min_length = self.hysteresis.tolist()
        return Hysteresis(round(onset, 6), round(release, 6), round(min_gap), round(min_length))

    def logits_of(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits (B, T) of a batch of the data."""
        features = self.view(batch["features"], augmented=self.training)
        return self.head(features, self._maps_of(features, batch["index"].tolist()))

    def _maps_of(self, features: Tensor, rows: list[int]) -> list[Tensor]:
        """Maps of cached clips, those of a frozen encoder from memory after the first time."""
        if self._kept is None:
            return self.maps(features)
        if new := [place for place, row in enumerate(rows) if row not in self._kept]:
            for place, *maps in zip(new, *self.maps(features[new]), strict=True):
                self._kept[rows[place]] = [one.half() for one in maps]
        layers = zip(*map(self._kept.get, rows), strict=True)
        kept = [torch.stack([one.to(features.dtype) for one in each]) for each in layers]  # no half under autocast
        if len(self._kept) * sum(one[0].numel() for one in kept) > MOST_KEPT:
            self._kept.clear()
        return kept

    def targets(self, rows: Sequence[int], n_frames: int) -> Tensor:
        """Which frames of clips are marked (B, T): those whose centre lies within an interval."""
        hop_s = self.data.feature.hop_length / self.data.feature.sample_rate
        marked = []
        for clip in (self.data.clips[row] for row in rows):
            padding_s = max(0.0, self.data.clip_s - (clip.duration_s or self.data.clip_s)) / 2  # on either side
            later_s = padding_s - clip.start_s + hop_s / 2  # the first frame's centre is the first sample
            spans = [(begin + later_s, end + later_s) for begin, end in marked_in(clip.path, clip.columns)]
            marked.append(frames(spans, n_frames, hop_s))
        return torch.from_numpy(np.stack(marked)).float().to(self.device)

    def loss_of(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean cross-entropy of the frames of a batch, their logits and their targets (B, T)."""
        logits = self.logits_of(batch)
        targets = self.targets(batch["index"].tolist(), logits.shape[1])
        return binary_cross_entropy_with_logits(logits, targets), logits, targets

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        loss, logits, _ = self.loss_of(batch)
        self.log_mean("train/loss", loss, len(logits), prog_bar=True)
        return self.refuse_nan(loss, batch)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Scores (B, 2) and cache rows (B,) of one batch."""
        loss, logits, targets = self.loss_of(batch)
        self.log("val/loss", loss, batch_size=len(logits))
        self.scored.append((logits.float().sigmoid().cpu().numpy(), targets.cpu().numpy() > 0))
        return {"scores": clip_scores(logits), "index": batch["index"]}

    def on_validation_epoch_end(self) -> None:
        """Choose how probabilities become events, and log what comes of it on the same clips."""
        probabilities, targets = (np.concatenate(column) for column in zip(*self.scored, strict=True))
        self.scored.clear()
        chosen, (frame_f1, event_f1) = choose(probabilities, targets)
        self.hysteresis.copy_(torch.tensor(astuple(chosen)))
        self.log_dict({"val/frame_f1": frame_f1, "val/event_f1": event_f1})

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Scores (B, 2) and cache rows (B,) of one batch; loader 0 is the test part, loader 1 the validation part."""
        return {"scores": clip_scores(self.logits_of(batch)), "index": batch["index"]}


def clip_scores(logits: Tensor) -> Tensor:
    """Scores (B, 2) of clips from the logits (B, T) of their frames: the mean probability, and what it lacks of 1."""
    share = logits.float().sigmoid().mean(1)
    return torch.stack([share, 1 - share], 1)
