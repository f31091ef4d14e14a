"""A trained stage, rebuilt from its checkpoint alone and within sizes that the checkpoint can account for."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Literal, TypedDict, cast
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.utils._python_dispatch import TorchDispatchMode

from cry_lightning import lineage
from cry_lightning.audio import Fit
from cry_lightning.console import UserError, one_line
from cry_lightning.corpora.base import check_cutting
from cry_lightning.data.datamodule import CryDataModule, check_front_end, check_lengths
from cry_lightning.data.subset import Caching
from cry_lightning.features import Feature
from cry_lightning.files import Checkpoint, Json
from cry_lightning.files.former_names import OF_DATA, regrouped
from cry_lightning.inference import reference
from cry_lightning.inference.novelty import Layers
from cry_lightning.inference.reference import Reference, way_out
from cry_lightning.lineage.check import synthetic_warning
from cry_lightning.tasks.base import Stage
from cry_lightning.tasks.checkpoints import read_checkpoint, size_of
from cry_lightning.tasks.checks import check_default_dtype
from cry_lightning.tasks.making import checkpoint_error, made, maker_of
from cry_lightning.trust.configs import check_plain
from cry_lightning.trust.names import Trust, in_python

BESIDE_WEIGHTS = 20_000_000  # numbers, 80 MB: filters and windows, which no checkpoint keeps
MOST_MADE = 2**29  # numbers, 2 GB: the result of one step on one clip


def refuse_larger(path: Path, n_tensors: int, make: Callable[[], Stage], features: Tensor) -> None:
    """Make a network without numbers (torch's device "meta"), and refuse it where it has more than its checkpoint.

    Args:
        path: the checkpoint.
        n_tensors: in it.
        make: makes the network.
        features: of one clip (1, C, F, T), through which it is passed without computing numbers.

    Raises:
        UserError: it has, or makes more of one clip than memory holds.
    """
    with (
        torch.device("meta"),
        _counted(size_of(path) + BESIDE_WEIGHTS, 1_000 + 10 * n_tensors),
        torch.inference_mode(),
    ):
        stage = make().eval().to("meta")
        try:
            with _Measured():  # type: ignore[no-untyped-call]
                stage.embed(features.to("meta"))
        except UserError:
            raise
        except (RuntimeError, NotImplementedError):  # looks at numbers, or takes no such features
            return


class _Measured(TorchDispatchMode):
    """Refuses steps of a network that make more numbers than `MOST_MADE`."""

    def __torch_dispatch__(
        self, func: Callable[..., object], types: object, args: Sequence[object] = (), kwargs: Json | None = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.numel() > MOST_MADE:
            raise UserError(f"its network makes {made.numel():,} numbers of one clip, and more than {MOST_MADE:,}")
        return made


@contextmanager
def _counted(most_numbers: int, most_parts: int) -> Iterator[None]:
    """Count the parts of modules, and their numbers, as they are put together."""
    numbers = parts = 0

    def count_part(*_: object) -> None:
        nonlocal parts
        parts += 1
        if parts > most_parts:
            raise UserError(f"a network of more than {most_parts:,} parts, which its checkpoint has no weights for")

    def count_numbers(_: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal numbers
        count_part()
        numbers += 0 if tensor is None or isinstance(tensor, nn.UninitializedParameter) else tensor.numel()
        if numbers > most_numbers:
            raise UserError(f"a network of more numbers than the checkpoint has bytes, at its {name}")

    hooks = [
        registration.register_module_module_registration_hook(count_part),
        registration.register_module_parameter_registration_hook(count_numbers),
        registration.register_module_buffer_registration_hook(count_numbers),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Data:
    """What a checkpoint tells of the data, as far as a model depends on it; see `CryDataModule`."""

    feature: Feature
    clip_s: float
    shift_s: float
    fit: Fit
    cache: Caching


class Fitting(TypedDict):
    """How clips are fitted and turned into features; see `ClipBatches`."""

    feature: Feature
    clip_s: float
    fit: Fit
    dtype: Literal["float32", "float16"]


class Cutting(TypedDict):
    """How long recordings are cut; see `Corpus`."""

    window_s: float | None
    hop_s: float | None
    min_active_db: float | None


THERE_ARE: "WeakSet[TrainedStage]" = WeakSet()


def _unlock() -> None:
    """In a forked process, no thread computes that could let go of a lock."""
    for trained in THERE_ARE:
        trained.lock = Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_unlock)


class TrainedStage:
    """A network with all that it needs to process a recording as `test` does.

    Args:
        path: checkpoint of a stage, or the folder that one was exported to.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        trust: whose classes it may name.

    Raises:
        UserError: the checkpoint is damaged, no stage's, names a class that is not trusted, or cannot be made into a
            network.
    """

    def __init__(self, path: Path, device: str = "cpu", trust: Trust = Trust()) -> None:  # noqa: B008  # frozen
        check_default_dtype()
        self.device = _device(device)
        checkpoint = read_checkpoint(path)
        _refuse_foreign(path, checkpoint, trust)
        self.path = path
        self.trust = trust
        self.lock = Lock()  # held by the one thread that computes: novelty looks into the layers of the network
        THERE_ARE.add(self)
        self.hyper_parameters = checkpoint["hyper_parameters"]
        self.classes = checkpoint.get("classes")  # in the order of the logits; None: it tells none
        data, kept = checkpoint["datamodule_hyper_parameters"], checkpoint.get("CryDataModule")
        try:
            check_plain(self.hyper_parameters, "hyper_parameters")
            check_plain(data, "data")
            data = regrouped(data, OF_DATA)
            _check_classes(self.classes, kept)
            self.lineage = lineage.of_checkpoint(checkpoint)
            self.synthetic = synthetic_warning(self.lineage.stages[-1:], corpus=data.get("corpus"))
            wanted = {name: data[name] for name in Data.__annotations__}
            given = Data(**trust.arguments(Data, wanted, "data"))
            check_lengths(given.feature, given.clip_s, given.shift_s)
            self.clip_s = given.clip_s
            self.feature = given.feature
            self.fitting: Fitting = {  # of a clip and its margins, as the cache has them
                "feature": self.feature,
                "clip_s": given.clip_s + 2 * given.shift_s,
                "fit": given.fit,
                "dtype": given.cache.dtype,
            }
            # The shortest stretch that clips can be made of: those of the fit "crop" take their margins from it.
            self.shortest_s = self.fitting["clip_s"] if given.fit == "crop" else given.clip_s
            self.cutting = _cutting(trust, data["corpus"], self.shortest_s, self.clip_s)
            self.of_windows = data["corpus"].get("init_args", {}).get("window_s") is not None  # of longer recordings
            self.stage = self._stage(checkpoint)
        except Exception as error:
            raise checkpoint_error(path, error) from error
        if kept:
            check_front_end(self.feature, kept["front_end"])
        self.stage.to(self.device)

    def __getstate__(self) -> Json:
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: Json) -> None:
        vars(self).update(state, lock=Lock())
        THERE_ARE.add(self)

    def _stage(self, checkpoint: Checkpoint) -> Stage:
        make, state = maker_of(checkpoint, self.trust), checkpoint["state_dict"]
        if not self.trust.named:  # such code need not know of torch's device without numbers
            silence = torch.zeros(1, round(self.clip_s * self.feature.sample_rate))
            refuse_larger(self.path, len(state), make, self.feature(silence))
        return made(make, state)

    @cached_property
    def reference(self) -> Reference | None:
        """What lies beside the checkpoint, read once.

        Raises:
            UserError: it is damaged, or of another network.
        """
        found, parts = reference.beside(self.path, self.classes), dict(self.stage.encoder.named_modules())
        if found is None:
            return None
        if unknown := [name for name in found.novelty.names if name not in parts]:
            raise UserError(f"{self.path}: its reference has the layer {unknown[0]}, which the network has not")
        silence = np.zeros((1, round(self.fitting["clip_s"] * self.feature.sample_rate)), np.float32)
        for (name, layer), numbers in zip(found.novelty.layers.items(), self._layers(found, silence), strict=True):
            if layer.mean.shape != numbers.shape[1:]:
                widths = f"{len(layer.mean)} numbers of the layer {name}, where the network has {numbers.shape[1]}"
                raise UserError(f"{self.path}: its reference has {widths}; {way_out(self.path)}")
        return found

    def _layers(self, known: Reference, waveforms: np.ndarray) -> list[Tensor]:
        """What the layers of a reference have of fitted waveforms (B, N).

        Raises:
            UserError: one has neither maps nor tokens.
        """
        try:
            with torch.inference_mode(), Layers(self.stage.encoder, known.novelty.names) as layers:
                self.stage(self.front_end(waveforms))
            return layers.taken()
        except torch.OutOfMemoryError:  # is a RuntimeError, too
            raise
        except (LookupError, RuntimeError, AttributeError) as error:
            raise UserError(
                one_line(f"{self.path}: its reference is of layers without maps ({error}); {way_out(self.path)}")
            ) from error

    def needs_one_rate(self, doing: str) -> None:
        """Refuse, for what is `doing` this, a front end that wants each recording at its own sample rate.

        Raises:
            UserError: it does.
        """
        if self.feature.own_rate:
            raise UserError(
                f"{self.path}: {type(self.feature).__name__} takes each recording at its own sample rate, and {doing}"
                " is of one rate; fit it with --data.feature=configs/feature/picture.yaml"
            )

    def seen(self, features: np.ndarray | Tensor) -> Tensor:
        """What the network sees of features (B, C, F, T) of fitted clips: all but their margins, on its device.

        Raises:
            UserError: torch's default is other numbers by now.
        """
        check_default_dtype()
        n_frames = self.feature.n_frames(self.clip_s)
        first = (features.shape[-1] - n_frames) // 2
        return torch.as_tensor(features[..., first : first + n_frames]).float().to(self.device)

    def front_end(self, waveforms: np.ndarray) -> torch.Tensor:
        """The same of fitted waveforms (B, N)."""
        return self.seen(self.feature(torch.from_numpy(waveforms)).numpy().astype(self.fitting["dtype"]))


def _refuse_foreign(path: Path, checkpoint: Checkpoint, trust: Trust) -> None:
    if "source" in checkpoint:
        raise UserError(
            f"{path}: published weights alone, which do not tell their network; fit a stage with"
            f" model.init_args.weights={path}, and give that stage's best.ckpt"
        )
    own, data = checkpoint.get("hyper_parameters"), checkpoint.get("datamodule_hyper_parameters")
    task = str(own.get("_class_path")) if isinstance(own, dict) else "None"
    if not trust.holds(task) or not isinstance(data, dict) or "feature" not in data:
        foreign = task != "None" and not trust.holds(task)
        trusting = f"--trust {task.partition('.')[0]}{in_python(task)}"
        made_by = f" but of {task} ({trusting}, lets it name such)" if foreign else ""
        raise UserError(f"{path}: not a checkpoint of a stage of cry_lightning{made_by}; give a run's best.ckpt")


def _check_classes(classes: object, kept: object) -> None:
    """Refuse what is not of the form that `test` writes."""
    texts = [] if classes is None else classes
    if not (isinstance(texts, list) and all(isinstance(name, str) for name in texts) and len({*texts}) == len(texts)):
        raise UserError("classes: expected a list of different names")
    if kept and not (isinstance(kept, dict) and isinstance(kept.get("front_end"), str)):
        raise UserError(f"{CryDataModule.__qualname__}: expected a table with the front_end, a text")


def _cutting(trust: Trust, corpus: object, shortest_s: float, clip_s: float) -> Cutting:
    """How long recordings are cut: as the training corpus was, or else so that clips follow each other."""
    given = corpus.get("init_args", {}) if isinstance(corpus, dict) else None
    if not isinstance(given, dict):
        raise UserError("data.corpus: expected class_path and init_args")
    hint = float | None
    made = {name: trust.made(hint, given.get(name), f"data.corpus.{name}") for name in Cutting.__annotations__}
    cutting = cast(Cutting, made)
    if cutting["window_s"] is None:
        return {"window_s": shortest_s, "hop_s": clip_s, "min_active_db": None}
    check_cutting(cutting["window_s"], cutting["hop_s"])
    return cutting


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device(name)
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise UserError(f"--device {name}: is none of auto, cpu, cuda and cuda:NUMBER")
    if not int(number or 0) < torch.cuda.device_count():
        raise UserError(f"--device {name}: torch finds no such GPU here; leave it out, or give cpu")
    return torch.device(name)
