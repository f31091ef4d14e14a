"""From waveforms to probabilities and embeddings: a trained stage and its front end as one module, traced."""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config

from cry_lightning.console import UserError, one_line
from cry_lightning.export.spectra import Products
from cry_lightning.inference.model import TrainedStage
from cry_lightning.tasks import Classifier, Detector

LOUDNESS = 0.1  # of the noise that is passed through while tracing
PROBABILITIES, EMBEDDING = "probabilities", "embedding"


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
