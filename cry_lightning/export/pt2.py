"""Files of `torch.export`: for PyTorch without this package, and for what compiles such graphs."""

import json
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from cry_lightning.export.about import About
from cry_lightning.export.check import Outputs, Run, as_outputs
from cry_lightning.export.graph import WaveformModel, traced

METADATA = "cry_lightning.json"  # the name of the file within


def write(model: WaveformModel, about: About, path: Path) -> Run:
    """Write a graph; returns what runs the file."""
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
