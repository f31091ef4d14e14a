"""Batches of cached features, gathered in the main process and exactly resumable."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cry_lightning.data.building import CachedFeatures


class EpochOrder:
    """The order in which one process visits the training rows: a function of (seed, epoch) alone.

    Args:
        labels: class index of each row (n,), -1 where unlabelled.
        balanced: draw rows with replacement so that every class is equally likely, instead of a permutation.
        seed: of the order.
        rank: this process among `world_size`; each takes every `world_size`-th row of one common order.
        subjects: of each row (n,), as names or numbers, for batches of as few subjects as can be; None mixes them.
        batch_size: rows of a process's batch, needed with `subjects` and `min_batches`.
        min_batches: of an epoch, at least: fewer rows are visited several times.

    Source: for the batches by subject, van den Oord et al. 2018, "Representation learning with contrastive predictive
    coding", table 2, negatives of the same speaker.
    """

    def __init__(
        self,
        labels: Tensor,
        balanced: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        subjects: np.ndarray | None = None,
        batch_size: int = 1,
        min_batches: int = 0,
    ) -> None:
        self.labels = labels
        self.balanced = balanced
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.subjects = None if subjects is None else torch.from_numpy(np.unique(subjects, return_inverse=True)[1])
        self.joint_batch = batch_size * world_size
        self.n_visits = max(len(labels), min_batches * self.joint_batch)  # of all ranks, in an epoch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n_visits // self.world_size)  # ceiling: every rank has the same number

    def generator(self, batch: int = -1) -> torch.Generator:
        """Random numbers for this (seed, epoch, batch, rank); batch -1 is the order itself, common to all ranks."""
        words = [self.seed, self.epoch, batch + 1, 0 if batch < 0 else self.rank]
        state = 0
        for word in words:  # a linear congruential mix: distinct tuples give unrelated streams
            state = (state * 6364136223846793005 + word + 1442695040888963407) % 2**63
        return torch.Generator().manual_seed(state)

    def positions(self) -> Tensor:
        """Positions of this rank's rows in this epoch (len(self),)."""
        n, generator = self.n_visits, self.generator()
        if self.balanced:
            counts = torch.bincount(self.labels)
            order = torch.multinomial(1.0 / counts[self.labels].double(), n, replacement=True, generator=generator)
        else:
            rounds = -(-n // len(self.labels))
            order = torch.cat([torch.randperm(len(self.labels), generator=generator) for _ in range(rounds)])[:n]
        if self.subjects is not None:
            order = self.by_subject(order, self.subjects, generator)
        wrapped = order.repeat(self.world_size)[: len(self) * self.world_size]  # repeats a few rows to even out ranks
        return wrapped[self.rank :: self.world_size]

    def by_subject(self, order: Tensor, subjects: Tensor, generator: torch.Generator) -> Tensor:
        """The rows of an order (n,) subject after subject, cut into all ranks' joint batches, and those shuffled."""
        turns = torch.randperm(int(subjects.max()) + 1, generator=generator)
        order = order[turns[subjects[order]].argsort(stable=True)]
        whole = len(order) // self.joint_batch * self.joint_batch
        batches = order[:whole].view(-1, self.joint_batch)
        shuffled = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([shuffled.flatten(), order[whole:]])  # a batch that is not full stays the last


def inverse_frequency(labels: Tensor, n_classes: int) -> Tensor:
    """Weights (K,) of the classes by how rare their labels (n,) are, mean 1; labels of -1 do not count."""
    weights = 1.0 / torch.bincount(labels[labels >= 0], minlength=n_classes).clamp(min=1)
    return weights / weights.mean()


class BatchLoader:
    """Iterates over batches {"features": (B, C, F, T), "label": (B,), "index": (B,)} from a feature cache.

    `state_dict` and `load_state_dict` make an interrupted training epoch continue at its next batch. An epoch that was
    left early (`limit_train_batches`) is not continued by the next one.

    Args:
        features: the opened cache.
        rows: cache rows to visit (n,).
        labels: class index of each of them (n,).
        batch_size: rows per batch.
        n_frames: length T of a batch; longer cached rows are cropped, at random when training, else at the centre.
        order: the training order; None visits `rows` once as they stand.
        drop_last: leave out a last batch that is not full.
    """

    def __init__(
        self,
        features: CachedFeatures,
        rows: Tensor,
        labels: Tensor,
        batch_size: int,
        n_frames: int,
        order: EpochOrder | None = None,
        drop_last: bool = False,
    ) -> None:
        self.features = features
        self.rows = rows
        self.labels = labels
        self.batch_size = batch_size
        self.n_frames = n_frames
        # The Trainer looks for `sampler.set_epoch` under these names of torch's DataLoader.
        self.sampler, self.batch_sampler = order, None
        self.drop_last = drop_last
        self.place = (0, 0)  # the epoch that is under way, and its next batch

    def __len__(self) -> int:
        n = len(self.rows) if self.sampler is None else len(self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        # A generator: the order is drawn at the first batch, after the Trainer has set the epoch.
        positions = torch.arange(len(self.rows)) if self.sampler is None else self.sampler.positions()
        epoch = 0 if self.sampler is None else self.sampler.epoch
        first = self.place[1] if self.sampler is not None and self.place[0] == epoch else 0
        for batch in range(first, len(self)):
            self.place = (epoch, (batch + 1) % len(self))
            yield self.batch(positions[batch * self.batch_size : (batch + 1) * self.batch_size], batch)

    def batch(self, positions: Tensor, batch: int) -> dict[str, Tensor]:
        """The batch of these positions; `batch` numbers it within the epoch."""
        rows = self.rows[positions]
        features = self.features.gather(rows)
        spare = features.shape[-1] - self.n_frames
        if self.sampler is None or spare == 0:
            features = features[..., spare // 2 : spare // 2 + self.n_frames]
        else:
            starts = torch.randint(spare + 1, (len(rows),), generator=self.sampler.generator(batch))
            features = crop(features, starts, self.n_frames)
        return {"features": features.contiguous(), "label": self.labels[positions], "index": rows}

    def state_dict(self) -> dict[str, int]:
        """Where the running epoch stands."""
        return {"epoch": self.place[0], "next_batch": self.place[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the batch after the last one given."""
        self.place = (state["epoch"], state["next_batch"])


def crop(features: Tensor, starts: Tensor, n_frames: int) -> Tensor:
    """Cut `n_frames` from each row of (B, C, F, T), beginning at its own start (B,)."""
    frames = starts[:, None] + torch.arange(n_frames)
    index = frames[:, None, None, :].expand(-1, features.shape[1], features.shape[2], -1)
    return torch.gather(features, -1, index)
