"""`export`: a trained stage for other programs, compared with PyTorch before it is written."""

import json
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from cry_lightning.console import UserError
from cry_lightning.export import hub
from cry_lightning.export.check import (
    LIMIT,
    About,
    Outputs,
    Run,
    TorchOutputs,
    as_outputs,
    batches,
    describe,
    differences,
    latency_ms,
    refuse_different,
    sounds,
    windows_of,
)
from cry_lightning.export.graph import PROBABILITIES, WaveformModel, traced
from cry_lightning.files import replacing, replacing_folder
from cry_lightning.inference.model import TrainedStage
from cry_lightning.trust.names import Trust

METADATA = "cry_lightning.json"  # of a file of `torch.export`, the name of the file within


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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for ckpt, out in zip(ckpts, outs, strict=True):
            trained = TrainedStage(ckpt, trust=Trust(tuple(trust)))
            if form != "hub":
                refuse_other_windows(trained)
            export(trained, form, int8, out, licence, recordings)
    finally:
        torch.set_num_threads(threads)


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


def export(
    trained: TrainedStage, form: str, int8: bool, out: Path, licence: str | None, recordings: Sequence[str]
) -> None:
    """Write a stage where it gives what PyTorch gives, on recordings, too, and print what was found.

    Raises:
        UserError: a recording cannot be read, or the stage cannot be exported.
    """
    model = WaveformModel(trained)
    about, reference = describe(trained, model, licence), TorchOutputs(trained, model)
    rate = about["sample_rate"]
    recorded = windows_of(recordings, rate, model.window)
    inputs = list(batches(model, recorded))
    timed = sounds(rate, max(rate, model.window) if model.takes_any_length else model.window)[:1]
    with (replacing_folder if form == "hub" else replacing)(out) as part:
        written = _written(trained, model, about, form, part)
        found = differences(reference, written, inputs)
        refuse_different(found, out)
        compared_on = f"{len(inputs[0]) - len(recorded)} synthetic sounds and {len(recorded)} recorded windows"
        lines = [
            f"{out}: {_signature(model, about)}",
            f"as PyTorch on {compared_on}: off by {_in_words(found)} (at most {LIMIT:g})",
            _costs(part, written, timed, rate),
        ]
        if int8:
            from cry_lightning.export import onnx

            reduced = onnx.reduce_to_int8(part)
            lines += [f"int8: {_change(reference, reduced, inputs)}", f"int8: {_costs(part, reduced, timed, rate)}"]
    print("\n  ".join([*lines, f"lineage {about['lineage']}, licence {about['licence']}"]))


def _written(trained: TrainedStage, model: WaveformModel, about: About, form: str, part: Path) -> Run:
    if form == "hub":
        return hub.write(trained, about, part)
    if form == "pt2":
        return write_pt2(model, about, part)
    from cry_lightning.export import onnx  # whose libraries are an extra

    return onnx.write(model, about, part)


def write_pt2(model: WaveformModel, about: About, path: Path) -> Run:
    """Write a file of `torch.export`, for PyTorch without this package; returns what runs it."""
    file = BytesIO()  # torch wants a path that ends in .pt2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found")  # of a constant that is part of another
        torch.export.save(traced(model), file, extra_files={METADATA: json.dumps(about)})
        path.write_bytes(file.getbuffer())
        file.seek(0)
        module = torch.export.load(file).module()

    def run(waveforms: np.ndarray) -> Outputs:
        with torch.inference_mode():
            return as_outputs(model, module(torch.from_numpy(waveforms)))

    return run


def _signature(model: WaveformModel, about: About) -> str:
    length = f"N >= {model.window}" if model.takes_any_length else f"N = {model.window}"
    sizes = {"probabilities": len(model.classes or ()), "embedding": about["embedding_size"]}
    outputs = ", ".join(f"{name} (B, {sizes[name]})" for name in model.outputs)
    return f"waveform (B, N) at {about['sample_rate']} Hz, {length}, to {outputs}"


def _costs(part: Path, written: Run, timed: np.ndarray, rate: int) -> str:
    files = [path for path in part.rglob("*") if path.is_file()] if part.is_dir() else [part]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    seconds = timed.shape[1] / rate
    return f"{megabytes:.2f} MB, {latency_ms(written, timed):.2f} ms for {seconds:g} s of sound on one core (p50)"


def _change(reference: TorchOutputs, reduced: Run, inputs: Sequence[np.ndarray]) -> str:
    """What the rounding changes, in words."""
    changed = differences(reference, reduced, inputs)
    if PROBABILITIES not in changed:
        return f"off by {_in_words(changed)}"
    ours, theirs = (one(inputs[0])[PROBABILITIES] for one in (reference, reduced))
    others = int((ours.argmax(1) != theirs.argmax(1)).sum())
    mean = float(np.abs(ours - theirs).mean())
    return (
        f"off by {_in_words(changed)}, the probabilities by {mean:.2g} in the mean; {others} of {len(ours)} windows"
        " change their class"
    )


def _in_words(found: dict[str, float]) -> str:
    return " and ".join(f"{difference:.2g} in the {name}" for name, difference in found.items())
