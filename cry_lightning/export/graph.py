"""From waveforms to probabilities and embeddings: a trained stage and its front end as one module, traced."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config
from torch.nn.functional import pad
from torch.overrides import TorchFunctionMode

from cry_lightning.console import UserError, one_line
from cry_lightning.files import Json
from cry_lightning.inference.model import TrainedStage
from cry_lightning.tasks import Classifier, Detector

LOUDNESS = 0.1  # of the noise that is passed through while tracing
PROBABILITIES, EMBEDDING = "probabilities", "embedding"
Usual = dict[str, tuple[object, ...] | None]
# What is replaced, by its arguments: others than these values are left to torch, None where any will do.
RFFT: Usual = {"input": None, "n": None, "dim": (-1,), "norm": (None, "backward")}
STFT: Usual = {
    **dict.fromkeys(("input", "n_fft", "hop_length", "win_length", "window", "center", "pad_mode")),
    "normalized": (False,),
    "onesided": (None, True),
    "return_complex": (True,),
    "align_to_window": (None,),
}


class WaveformModel(nn.Module):
    """Probabilities (B, K) and embeddings (B, D) of waveforms (B, N) at the model's rate, as `predict` computes them.

    All that `predict` does to a window of the clip's length is inside: margins for shifts, front end, rounding of the
    cache, normalisation. A stage without classes gives embeddings alone.

    Args:
        trained: the stage.

    Raises:
        UserError: it is a `Detector`, which answers frame by frame, or takes recordings of any rate.
    """

    def __init__(self, trained: TrainedStage) -> None:
        super().__init__()
        if isinstance(trained.stage, Detector):
            raise UserError(f"{trained.path}: a Detector is not exported; `acquire --detector` applies it")
        trained.needs_one_rate("a graph")
        self.feature, self.stage = trained.feature, trained.stage
        self.classes = trained.classes if isinstance(trained.stage, Classifier) else None
        self.stage.channels_last = False  # a layout of memory, of which a traced graph would make conditions
        self.stage.to(memory_format=torch.contiguous_format)
        self.outputs = [PROBABILITIES, EMBEDDING] if self.classes else [EMBEDDING]
        self.fit, self.is_rounded = trained.fitting["fit"], trained.fitting["dtype"] == "float16"
        rate, clip_s, whole_s = self.feature.sample_rate, trained.clip_s, trained.fitting["clip_s"]
        self.window = round(trained.shortest_s * rate)  # samples
        self.missing = round(whole_s * rate) - self.window
        n_margins = self.feature.n_frames(whole_s) - self.feature.n_frames(clip_s)
        self.before, self.after = n_margins // 2, n_margins - n_margins // 2  # frames
        with torch.inference_mode():
            self.takes_any_length = self._takes(self.window + self.feature.sample_rate)

    def _takes(self, n_samples: int) -> bool:
        try:
            self(torch.zeros(1, n_samples))
        except (UserError, RuntimeError):
            return False
        return True

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """What `outputs` names, of waveforms (B, N) of `window` samples or, where it takes any length, more."""
        features = self.feature(self.with_margins(waveform))
        if self.is_rounded:
            features = features.half().float()
        embedding = self.stage.embed(features[..., self.before : features.shape[-1] - self.after])
        if not isinstance(self.stage, Classifier):
            return (embedding.float(),)
        return self.stage.scores(self.stage.head(embedding)), embedding.float()

    def with_margins(self, waveform: Tensor) -> Tensor:
        """Waveforms with what a shift in training would have shown of their surroundings; see `fit_to_length`."""
        if not self.missing:
            return waveform
        if self.fit == "pad":
            return nn.functional.pad(waveform, (self.missing // 2, self.missing - self.missing // 2))
        times = 1 + -(-self.missing // self.window)
        return waveform.repeat(1, times)[:, : waveform.shape[1] + self.missing]


def traced(model: WaveformModel) -> ExportedProgram:
    """The model as a graph for any number of waveforms and, where it takes any, of any length from its window on.

    Raises:
        UserError: it does what no graph can hold.
    """
    model.requires_grad_(False)  # or outputs would be no plain numbers to those who load it
    noise = LOUDNESS * torch.randn(2, model.window, generator=torch.Generator().manual_seed(0))
    lengths = {1: Dim("samples", min=model.window)} if model.takes_any_length else {}
    with torch.no_grad(), Products():
        model(noise)
        try:
            return _exported(model, noise, {0: Dim("batch"), **lengths})
        except Exception as error:  # of any of torch's parts
            parts = f"{type(model.feature).__name__} and {type(model.stage.encoder).__name__}"
            raise UserError(
                f"{parts} cannot be traced as a graph ({one_line(str(error))}); take --format hub"
            ) from error


def _exported(model: WaveformModel, example: Tensor, shapes: dict[int, Dim]) -> ExportedProgram:
    """A graph without conditions on its shapes.

    By torch's first way, a network that pools a window to one value is traced as if every length gave one; by its
    second, a batch of one is an exception to products with some matrices.
    """
    try:
        return torch.export.export(model, (example,), dynamic_shapes=(shapes,))
    except RuntimeError:  # it would have conditions
        with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            return torch.export.export(model, (example,), dynamic_shapes=(shapes,))


class Products(TorchFunctionMode):
    """While it is active, `torch.fft.rfft` and `torch.stft` of real numbers are products with matrices.

    That is all that front ends do differently when they are exported. ONNX has operators for both, but onnxruntime's
    take twenty times as long for frames of 240 samples, and are off by 0.5 in the MFCCs of a pure tone.

    The matrices are kept, so that tracing finds them as constants after a first run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bases: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., object], types: object, args: Sequence[object] = (), kwargs: Json | None = None
    ) -> object:
        replaced: list[tuple[object, Usual, Callable[..., Tensor]]] = [
            (torch.fft.rfft, RFFT, self.rfft),
            (torch.stft, STFT, self.stft),
        ]
        for transform, usual, ours in replaced:
            if func is transform and (given := _usual(usual, args, kwargs or {})):
                return ours(**given)
        return func(*args, **kwargs or {})

    def rfft(self, input: Tensor, n: int | None = None) -> Tensor:
        """Spectra (..., n // 2 + 1) of frames (..., N), which are cut or filled up with zeros to n samples.

        A cosine is the same from both ends of the frame, a sine is its negative: so half of each matrix will do.
        """
        n_fft = n or input.shape[-1]
        frames = pad(input[..., :n_fft], (0, max(0, n_fft - input.shape[-1])))
        n_pairs = (n_fft - 1) // 2
        ahead, behind = frames[..., 1 : 1 + n_pairs], frames[..., n_fft - n_pairs :].flip(-1)
        alone = frames[..., :1], frames[..., 1 + n_pairs : n_fft - n_pairs]  # the first sample, and one in the middle
        cosine, sine = self.bases_of(n_fft, input.dtype)
        return torch.complex(torch.cat([alone[0], ahead + behind, alone[1]], -1) @ cosine, (behind - ahead) @ sine)

    def stft(
        self,
        input: Tensor,
        n_fft: int,
        hop_length: int | None = None,
        win_length: int | None = None,
        window: Tensor | None = None,
        center: bool = True,
        pad_mode: str = "reflect",
    ) -> Tensor:
        """Spectra (B, n_fft // 2 + 1, T) of waveforms (B, N)."""
        win_length = win_length or n_fft
        if window is None:
            window = torch.ones(win_length, dtype=input.dtype)
        before = (n_fft - win_length) // 2
        window = pad(window, (before, n_fft - win_length - before))
        if center:
            input = pad(input, (n_fft // 2, n_fft // 2), mode=pad_mode)
        return self.rfft(input.unfold(-1, n_fft, hop_length or win_length // 4) * window).transpose(-1, -2)

    def bases_of(self, n_fft: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines (n_fft // 2 + 1, F) and sines ((n_fft - 1) // 2, F) of the F = n_fft // 2 + 1 frequencies."""
        key = n_fft, dtype
        if key not in self.bases:
            frequencies = torch.arange(n_fft // 2 + 1)
            turns = frequencies[:, None] * frequencies % n_fft  # in whole numbers, which are not rounded
            angles = turns.double() * (2 * torch.pi / n_fft)
            self.bases[key] = angles.cos().to(dtype), angles[1 : 1 + (n_fft - 1) // 2].sin().to(dtype)
        return self.bases[key]


def _usual(usual: Usual, args: Sequence[object], kwargs: Json) -> Json:
    """The arguments by name, without those that are the default; none where one has another value than usual."""
    given = dict(zip(usual, args, strict=False)) | kwargs
    if len(args) > len(usual) or not given.keys() <= usual.keys():
        return {}
    if any((values := usual[name]) is not None and value not in values for name, value in given.items()):
        return {}
    return {name: value for name, value in given.items() if usual[name] is None}
