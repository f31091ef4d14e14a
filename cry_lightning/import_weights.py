"""`import-weights`: published weights in a local file -> a checkpoint that `weights:` takes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cry_lightning.arguments import ArgumentParser
from cry_lightning.encoders import CNN6, CNN10, CNN14
from cry_lightning.encoders.importers import LAYOUTS, Layout, imported, misfits, published_name, sizes
from cry_lightning.encoders.panns import PANN
from cry_lightning.errors import UserError
from cry_lightning.tasks.weights import load_data, sha256

ENCODERS: dict[str, type[PANN]] = {"cnn14": CNN14, "cnn10": CNN10, "cnn6": CNN6}
# PANNs' files hold, beside the weights, arrays of integers in which the training kept its place; NumPy 1 wrote them.
REBUILD_ARRAY = (np.empty(0).__reduce__()[0], "numpy.core.multiarray._reconstruct")
INTEGER_ARRAYS: list[Any] = [REBUILD_ARRAY, np.ndarray, np.dtype, np.dtypes.Int64DType]


def main(args: list[str]) -> None:
    """Run the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning import-weights",
        description="Turn published weights, in a local file, into a checkpoint that `weights:` takes.",
        epilog="What they were trained on is not known: evaluation says UNKNOWN LINEAGE of what is built on them.",
    )
    parser.add_argument("publisher", choices=LAYOUTS, help="whose they are")
    parser.add_argument("file", type=Path, help="their file: PANNs' Cnn14_16k_mAP=0.438.pth, SpeechBrain's *.ckpt")
    parser.add_argument("--to", type=Path, required=True, metavar="CKPT", help="the checkpoint to be written")
    parser.add_argument("--encoder", choices=ENCODERS, default="cnn14", help="the network (default: %(default)s)")
    options = parser.parse_args(args)
    if options.to.exists():
        raise UserError(f"{options.to} exists already; remove it, or name another with --to")
    published, layout = read(options.file, options.publisher), LAYOUTS[options.publisher]
    encoder = encoder_of(published, layout, options.encoder, options.file)
    source = {"publisher": options.publisher, "file": options.file.name, "sha256": sha256(options.file)}
    write(options.to, imported(published, encoder, layout), source)
    print(table(published, encoder, layout))
    print(f"{options.to}: {type(encoder).__name__} with n_mels {encoder.n_mels} and width {encoder.width}")


def read(path: Path, publisher: str) -> dict[str, Tensor]:
    """The tensors of a published file by their published names; no code in it is run.

    Raises:
        UserError: where the file is missing, damaged, of another layout, or would run code on loading.
    """
    with torch.serialization.safe_globals(INTEGER_ARRAYS):
        content = load_data(path, "file of weights", "download the weights from their publisher first")
    if publisher == "panns":
        content = content.get("model") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: not a table of tensors in the layout of {publisher}")
    return content


def encoder_of(published: dict[str, Tensor], layout: Layout, name: str, path: Path) -> PANN:
    """The encoder that these weights fit, itself without any.

    Raises:
        UserError: naming the tensors that are missing, left over, or of another shape (both shapes).
    """
    try:
        with torch.device("meta"):
            encoder = ENCODERS[name](**sizes(published, layout))
    except KeyError as error:
        raise UserError(f"{path}: holds no {error}: another publisher's, or not this network at all") from error
    problems = misfits(published, encoder, layout)
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise UserError(f"{path}: does not fit --encoder {name}: {'; '.join(problems[:4])}{more}")
    return encoder


def table(published: dict[str, Tensor], encoder: PANN, layout: Layout) -> str:
    """A line for every published tensor: its name, the encoder's name for it, and its shape."""
    ours = {published_name(name, layout): name for name in encoder.state_dict()}
    width = max(map(len, published))
    return "\n".join(
        f"{name:<{width}}  {ours.get(name, '(left out)'):<35} {tuple(tensor.shape)}"
        for name, tensor in published.items()
    )


def write(path: Path, state: dict[str, Tensor], source: dict[str, str]) -> None:
    """Write a checkpoint that holds an encoder only, of unknown lineage."""
    checkpoint = {
        "state_dict": {f"encoder.{name}": tensor for name, tensor in state.items()},
        "lineage": {"complete": False, "stages": []},
        "source": source,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    torch.save(checkpoint, part)
    part.replace(path)
