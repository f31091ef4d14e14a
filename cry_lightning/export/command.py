"""`export`: a trained stage for other programs, compared with PyTorch before it is written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from cry_lightning.console import UserError
from cry_lightning.export import hub, pt2
from cry_lightning.export.about import describe
from cry_lightning.export.check import (
    LIMIT,
    Reference,
    Run,
    batches,
    differences,
    latency_ms,
    refuse_different,
    sounds,
    windows_of,
)
from cry_lightning.export.graph import PROBABILITIES, WaveformModel
from cry_lightning.files import replacing, replacing_folder
from cry_lightning.inference.model import TrainedStage
from cry_lightning.trust.names import Trust


def run(
    ckpts: Sequence[Path],
    outs: Sequence[Path],
    form: str,
    trust: Sequence[str],
    int8: bool,
    licence: str | None,
    recordings: Sequence[str],
) -> None:
    """Run the command."""
    with one_thread():
        for ckpt, out in zip(ckpts, outs, strict=True):
            trained = TrainedStage(ckpt, trust=Trust(tuple(trust)))
            if form != "hub":
                refuse_other_windows(trained)
            Export(trained, licence, recordings).write(form, int8, out)


def refuse_other_windows(trained: TrainedStage) -> None:
    """Refuse a model of the middle of longer windows, which would be cut otherwise than `predict` does.

    Raises:
        UserError: naming both lengths.
    """
    window_s = trained.cutting["window_s"]
    if window_s and abs(window_s - trained.shortest_s) > 1e-6:
        raise UserError(
            f"{trained.path}: takes {trained.clip_s:g} s of windows of {window_s:g} s, so that a graph would not answer"
            f" as predict does; use --format hub, or fine-tune with data.clip_s={window_s:g}"
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """While the block runs, torch computes by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Export:
    """A stage to be exported, and what it is compared on.

    Args:
        trained: the stage.
        licence: of its weights.
        recordings: that are compared, too.

    Raises:
        UserError: one of them cannot be read, or the stage cannot be exported.
    """

    def __init__(self, trained: TrainedStage, licence: str | None, recordings: Sequence[str]) -> None:
        self.trained, self.model = trained, WaveformModel(trained)
        self.about = describe(trained, self.model, licence)
        self.reference = Reference(trained, self.model)
        rate = self.about["sample_rate"]
        recorded = windows_of(recordings, rate, self.model.window)
        self.inputs = list(batches(self.model, recorded))
        self.compared_on = (
            f"{len(self.inputs[0]) - len(recorded)} synthetic sounds and {len(recorded)} recorded windows"
        )
        self.timed = sounds(rate, max(rate, self.model.window) if self.model.takes_any_length else self.model.window)[
            :1
        ]

    def write(self, form: str, int8: bool, out: Path) -> None:
        """Write the model where it gives what PyTorch gives, and print what was found."""
        with (replacing_folder if form == "hub" else replacing)(out) as part:
            written = self._written(form, part)
            found = differences(self.reference, written, self.inputs)
            refuse_different(found, out)
            lines = [
                f"as PyTorch on {self.compared_on}: off by {_in_words(found)} (at most {LIMIT:g})",
                self._costs(part, written),
            ]
            if int8:
                from cry_lightning.export import onnx

                reduced = onnx.reduce_to_int8(part)
                lines += [f"int8: {self._change(reduced)}", f"int8: {self._costs(part, reduced)}"]
        print("\n  ".join([f"{out}: {self._signature()}", *lines, self._origin()]))

    def _written(self, form: str, part: Path) -> Run:
        if form == "hub":
            return hub.write(self.trained, self.about, part)
        if form == "pt2":
            return pt2.write(self.model, self.about, part)
        from cry_lightning.export import onnx  # whose libraries are an extra

        return onnx.write(self.model, self.about, part)

    def _signature(self) -> str:
        about, model = self.about, self.model
        length = f"N >= {model.window}" if model.takes_any_length else f"N = {model.window}"
        sizes = {"probabilities": len(model.classes or ()), "embedding": about["embedding_size"]}
        outputs = ", ".join(f"{name} (B, {sizes[name]})" for name in model.outputs)
        return f"waveform (B, N) at {about['sample_rate']} Hz, {length}, to {outputs}"

    def _costs(self, part: Path, written: Run) -> str:
        files = [path for path in part.rglob("*") if path.is_file()] if part.is_dir() else [part]
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        seconds = self.timed.shape[1] / self.about["sample_rate"]
        return (
            f"{megabytes:.2f} MB, {latency_ms(written, self.timed):.2f} ms for {seconds:g} s of sound on one core (p50)"
        )

    def _change(self, reduced: Run) -> str:
        """What the rounding changes, in words."""
        changed = differences(self.reference, reduced, self.inputs)
        if PROBABILITIES not in changed:
            return f"off by {_in_words(changed)}"
        ours, theirs = (one(self.inputs[0])[PROBABILITIES] for one in (self.reference, reduced))
        others = int((ours.argmax(1) != theirs.argmax(1)).sum())
        mean = float(np.abs(ours - theirs).mean())
        return (
            f"off by {_in_words(changed)}, the probabilities by {mean:.2g} in the mean; {others} of {len(ours)} windows"
            " change their class"
        )

    def _origin(self) -> str:
        return f"lineage {self.about['lineage']}, licence {self.about['licence']}"


def _in_words(found: dict[str, float]) -> str:
    return " and ".join(f"{difference:.2g} in the {name}" for name, difference in found.items())
