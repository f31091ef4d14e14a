"""Published weights that timm's networks read as they are: what must be in such a file."""

from pathlib import Path

import timm
import torch

from cry_lightning.console import UserError, first_few, on_one_line
from cry_lightning.download.import_weights import KIND, WAY_OUT, named_tensors
from cry_lightning.encoders.tensors import faults, misfits
from cry_lightning.tasks.checkpoints import load_data, load_tensors

SAFE = ".safetensors"  # how the names of files end that timm reads as such; all others are torch's


def check(file: Path, network: str, to: Path) -> None:
    """Refuse a file that does not hold, tensor for tensor, a network of timm and its classifier; no code in it is run.

    Args:
        file: the published one.
        network: as timm calls it.
        to: the name that timm will read it by.

    Raises:
        UserError: it is damaged, of another kind or network, or would run code on loading.
    """
    given = load_tensors(file, WAY_OUT) if to.suffix == SAFE else load_data(file, KIND, WAY_OUT)
    tensors = named_tensors(given, file)
    with torch.device("meta"):
        wanted = timm.create_model(network).state_dict()
    # Files of old count no batches.
    shapes = {n: tuple(t.shape) for n, t in wanted.items() if n in tensors or not n.endswith("num_batches_tracked")}
    problems = misfits(shapes, {name: tuple(tensor.shape) for name, tensor in tensors.items()}) or faults(tensors)
    if problems:
        raise UserError(f"{file}: not the weights of {network}: {on_one_line(first_few(problems, 4, '; '))}")
