"""The LightningDataModule: recordings in, batches of cached features out, one front end throughout."""

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from cry_lightning.audio import FRONT_END_VERSION, Fit
from cry_lightning.commands.arguments import check_name
from cry_lightning.commands.messages import OneLineParser, instantiation_error
from cry_lightning.commands.stage import taken_out
from cry_lightning.console import UserError
from cry_lightning.corpora import Clips, Corpus
from cry_lightning.corpora.base import named_subjects
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.loader import BatchLoader, EpochOrder, inverse_frequency
from cry_lightning.data.splits import Split
from cry_lightning.data.subset import (
    Caching,
    Sampling,
    Subset,
    class_indices,
    column,
    divide,
    in_words,
    known_classes,
)
from cry_lightning.features import Feature
from cry_lightning.features.base import HIGHEST_RATE_HZ
from cry_lightning.lineage import without_training
from cry_lightning.lineage.spelling import doubts, named_by_recording
from cry_lightning.trust.configs import resolving

log = logging.getLogger(__name__)
LONGEST_S = 600.0  # of a clip, and of a shift
MOST_NUMBERS = 2**28  # in the frames of one clip: 1 GB
AT_A_PATH = (  # divided as `make` does it, by configs/data/own.yaml
    "--data.corpus=cry_lightning.corpora.corpus_at",
    "--data.feature=cry_lightning.features.LogMel",
    "--data.split.test=0.3",
    "--data.split.shares_of=recordings",
)


def front_end(feature: Feature) -> str:
    """All that decides what a sound looks like to a network, as JSON."""
    return json.dumps({"audio": FRONT_END_VERSION, **feature.identity()})


def check_front_end(feature: Feature, trained_on: str) -> None:
    """Refuse to give a network another front end than it was trained on.

    Raises:
        UserError: the arguments differ, or the code gives other numbers by now.
    """
    if front_end(feature) != trained_on:
        raise UserError(
            f"the checkpoint was trained on the front end {trained_on}, not {front_end(feature)}: go on with the config"
            " and the release that made it, or train anew"
        )


def check_lengths(feature: Feature, clip_s: float, shift_s: float) -> None:
    """Refuse clips of no length, of more sound than a network is given at once, or of more frames than memory holds.

    Raises:
        UserError: naming the limit.
    """
    if not (0 < clip_s <= LONGEST_S and 0 <= shift_s <= LONGEST_S):  # nor NaN
        raise UserError(
            f"data: clip_s must be above 0 and shift_s 0 or more, and both {LONGEST_S:g} s at most, not {clip_s} and"
            f" {shift_s}; longer recordings are cut by the corpus's window_s"
        )
    if (numbers := numbers_of(feature, clip_s + 2 * shift_s)) > MOST_NUMBERS:
        raise UserError(
            f"data: a clip of {clip_s + 2 * shift_s:g} s is {numbers:.2g} numbers in frames, and more than"
            f" {MOST_NUMBERS}: raise the feature's hop_length, or lower n_fft, sample_rate or clip_s"
        )


def numbers_of(feature: Feature, seconds: float) -> int:
    """How many numbers a clip is in the frames that a feature is computed from."""
    n_samples = round(seconds * feature.rate_of(HIGHEST_RATE_HZ))
    return max(n_samples, n_samples // feature.hop_length * getattr(feature, "n_fft", 1), 1)


def check_shift(feature: Feature, clip_s: float, shift_s: float) -> None:
    """Refuse a time shift that a feature cannot show: a shift is a crop of the features of a longer clip.

    Raises:
        UserError: the longer clip has no more frames.
    """
    if shift_s and feature.n_frames(clip_s + 2 * shift_s) == feature.n_frames(clip_s):
        raise UserError(
            f"data: shift_s {shift_s:g} changes nothing: {type(feature).__name__} has as many frames with it as"
            " without; set it to 0, or shift the sound: the feature Waveform, and this one as model.init_args.front_end"
        )


class CryDataModule(L.LightningDataModule):
    """Clips of one corpus as batches of one cached feature, split by subject.

    Args:
        corpus: where the clips come from.
        feature: front end from waveform to feature.
        split: how the clips are divided into train, val and test.
        clip_s: seconds of sound that the network is given at once.
        shift_s: time shift at random by up to this many seconds in training; the cache holds clips longer by twice as
            much, and a shift is a crop of them.
        fit: what to do with a clip that is too short: "pad" with zeros, "repeat" it, or refuse it ("crop"). A longer
            one is cut at its centre.
        subset: which clips of the training part are trained on.
        sampling: how they are drawn into batches, and weighed.
        cache: where features are kept.
        probe: labelled clips, under the same feature, on whose training and validation parts an encoder that learns
            without labels is tried out as it learns.
        seed: of the order of batches and of the label subsets.
    """

    feature: Feature  # declared here, since those of a probe are looked at before they are set
    subset: Subset

    def __init__(
        self,
        corpus: Corpus,
        feature: Feature,
        split: Split | None = None,
        clip_s: float = 1.0,
        shift_s: float = 0.0,
        fit: Fit = "pad",
        subset: Subset = Subset(),  # noqa: B008  # frozen
        sampling: Sampling = Sampling(),  # noqa: B008
        cache: Caching = Caching(),  # noqa: B008
        probe: "CryDataModule | None" = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        check_lengths(feature, clip_s, shift_s)
        check_shift(feature, clip_s, shift_s)
        if sampling.balanced and subset.unlabelled:
            raise UserError("data.sampling.balanced draws by class, so it cannot go with data.subset.unlabelled")
        if probe is not None and probe.feature.identity() != feature.identity():
            raise UserError("data: the probe must have the very feature of the data it goes with")
        if probe is not None and probe.subset.unlabelled:
            raise UserError(
                "data: the probe scores labels, so clips without one are no part: set its subset.unlabelled to false"
            )
        self.corpus = corpus
        self.feature = feature
        self.split = split or Split()
        self.clip_s = clip_s
        self.shift_s = shift_s
        self.fit = fit
        self.subset = subset
        self.sampling = sampling
        self.cache = cache
        self.called = ""  # before its parts, where they are told
        self.probe = probe
        if probe is not None:
            probe.called = "probe, "
        self.seed = seed
        self.trained_classes: list[str] | None = None  # of the model that is tested or resumed, in its order
        self._built: FeatureCache | None = None  # by this process, which need not list it again
        self._ready = False

    def feature_cache(self) -> FeatureCache:
        """The cache of this corpus under this feature; listed anew at each call."""
        return FeatureCache(
            self.corpus,
            self.feature,
            self.clip_s + 2 * self.shift_s,
            self.fit,
            self.cache.dtype,
            self.cache.folder,
        )

    def prepare_data(self) -> None:
        """Make what is made, and build the cache, in one process only."""
        with isolate_rng():  # a model must not depend on whether its cache was built just now
            self.corpus.prepare()
            self._built = self.feature_cache()
            self._built.build(self.cache.workers)
        if self.probe is not None:
            self.probe.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Open the cache and divide its rows; the same for every stage."""
        if self._ready:
            return
        cache, self._built = self._built or self.feature_cache(), None
        self.features = cache.open()
        self.clips = cache.clips
        self.classes = known_classes(self.corpus.name, self.corpus.class_names(), self.trained_classes)
        whose = ((clip.subject, clip.path) for clip in self.clips.used if clip.subject_source == "given")
        for doubt in [*doubts(named_subjects(self.clips), self.classes), *named_by_recording(whose)]:
            log.warning("%s: %s", self.corpus.name, doubt)
        self.n_frames = self.feature.n_frames(self.clip_s)
        self.labels = torch.from_numpy(class_indices(self.clips, self.classes))
        self.parts = self.divide()
        for part in ("train", "val", "test"):
            log.info("%s%s: %s", self.called, part, in_words(self.clips_of(part), self.classes))
        if unlearned := without_training(self.classes, {clip.label for clip in self.clips_of("train").used}):
            log.warning(
                "%s: no clip to train on of the class %s, which no network can learn so; %s",
                self.corpus.name,
                " and of ".join(unlearned),
                "leave it out by the corpus's `classes`, or see what is left out and how it is divided by `describe`",
            )
        if self.probe is not None and stage == "fit":
            self.probe.setup("fit")
        self._ready = True

    def state_dict(self) -> dict[str, str]:
        """What a checkpoint keeps of the data."""
        return {"front_end": front_end(self.feature)}

    def load_state_dict(self, state_dict: dict[str, str]) -> None:
        """Refuse to resume or test a network that was trained on another front end."""
        check_front_end(self.feature, state_dict["front_end"])

    def divide(self) -> np.ndarray:
        """The part of every clip, see `subset.divide`."""
        try:
            return divide(self.clips, self.features.good, self.split, self.subset, self.seed)
        except UserError as error:
            raise UserError(f"corpus {self.corpus.name} at {self.corpus.root}: {error}") from error

    def rows(self, part: str) -> Tensor:
        """Cache rows (n,) of one part."""
        return torch.from_numpy(np.flatnonzero(self.parts == part))

    @property
    def labelled_rows(self) -> np.ndarray:
        """Cache rows (n,) of all clips that have a label and can be used."""
        return np.flatnonzero((self.labels.numpy() >= 0) & self.features.good)

    def subjects(self, part: str) -> list[str]:
        """Subject ids of one part, sorted."""
        return sorted({clip.subject for clip in self.clips_of(part).used})

    def clips_of(self, part: str) -> Clips:
        """Clips of one part, in the order of the cache."""
        return self.clips[self.rows(part).numpy()]

    def loss_weights(self) -> Tensor | None:
        """Inverse class frequency (K,) of the training clips, mean 1; None unless asked for."""
        labels = self.labels[self.rows("train")]
        return inverse_frequency(labels, len(self.classes)) if self.sampling.class_weights else None

    def loader(self, part: str, train: bool = False) -> BatchLoader:
        """The loader of one part, for this process's share where there are several."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        rows = self.rows(part)
        if not len(rows):
            raise UserError(f"corpus {self.corpus.name}: no clip is left for {part}; see data.split")
        if not train:
            rows = rows[rank::world_size]
        labels = self.labels[rows]
        how = self.sampling
        subjects = column(self.clips_of(part), "subject").codes if how.by_subject else None
        drawn = (how.balanced, self.seed, rank, world_size, subjects, how.batch_size, how.min_batches)
        order = EpochOrder(labels, *drawn) if train else None
        drop_last = order is not None and how.drop_last and order.n_visits >= order.joint_batch
        return BatchLoader(self.features, rows, labels, how.batch_size, self.n_frames, order, drop_last)

    def train_dataloader(self) -> BatchLoader:
        """Shuffled, shifted batches of the training part."""
        return self.loader("train", train=True)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """The validation part, in order; then the training and validation parts of the probe, if there is one."""
        if self.probe is None:
            return self.loader("val")
        return [self.loader("val"), self.probe.loader("train"), self.probe.loader("val")]

    def test_dataloader(self) -> list[BatchLoader]:
        """The test part, then the validation part if there is one: both go into the predictions table."""
        return [self.loader(part) for part in ("test", "val") if part == "test" or len(self.rows(part))]


def open_data(given: str, overrides: Sequence[str] = ()) -> CryDataModule:
    """The datamodule of a data YAML; or of a folder or manifest.csv, whole recordings under the default front end.

    Args:
        given: which of these.
        overrides: further arguments as of `fit`, e.g. `--data.corpus.init_args.target=age`.

    Raises:
        UserError: there is no such thing, or an argument does not fit.
    """
    trust, overrides = taken_out(overrides)
    parser = OneLineParser()
    parser.add_lightning_class_args(CryDataModule, "data")
    is_yaml = Path(given).suffix.lower() in (".yaml", ".yml")
    named = [f"--data={given}"] if is_yaml else [*AT_A_PATH, f"--data.corpus.init_args.path={given}"]
    arguments = [*named, *overrides]
    with resolving(trust, arguments), warnings.catch_warnings():
        config = parser.parse_args(arguments)
        warnings.filterwarnings("ignore", ".*is an instance of `nn.Module`.*")  # hyper-parameters that nobody saves
        try:
            data: CryDataModule = parser.instantiate_classes(config).data
        except Exception as error:
            raise instantiation_error(error, "data") from error
    check_name("data.corpus.name", data.corpus.name)
    return data
