"""ONNX files: written, run, and reduced to weights of 8 bits."""

import ast
import json
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from cry_lightning.console import UserError
from cry_lightning.export.check import About, Outputs, Run
from cry_lightning.export.graph import WaveformModel, traced

OPSET = 18  # the first whose Resize averages where it shrinks, as the spectrogram pictures do
LARGEST = 2**31 - 2**24  # bytes of a protobuf file, less what is not weights
SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules that it is of
FRONT_ENDS, PREFIX = ("feature", "stage.front_end"), "front_end/"  # these modules, and how names of their nodes begin


def write(model: WaveformModel, about: About, path: Path) -> Run:
    """Write a graph as one file; returns what runs it.

    Raises:
        UserError: it is larger than such a file can be.
    """
    size = sum(tensor.nbytes for tensor in model.stage.state_dict().values())
    if size > LARGEST:
        raise UserError(f"{size / 2**30:.1f} GB of weights are more than one ONNX file holds; take --format pt2")
    program = torch.onnx.export(
        traced(model),
        dynamo=True,
        opset_version=OPSET,
        input_names=["waveform"],
        output_names=model.outputs,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for node in proto.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
        if any(scope in FRONT_ENDS for scope in ast.literal_eval(scopes)):
            node.name = PREFIX + node.name
    _forget_origin(proto.graph)
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}
    onnx.helper.set_model_props(proto, texts)
    onnx.save(proto, path)
    return runner(path)


def _forget_origin(graph: onnx.GraphProto) -> None:
    """Remove the lines of code, and their paths on this machine, that the exporter notes everywhere."""
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def runner(path: Path) -> Run:
    """Runs a file on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(waveforms: np.ndarray) -> Outputs:
        return dict(zip(names, session.run(names, {"waveform": waveforms}), strict=True))

    return run


def reduce_to_int8(path: Path) -> Run:
    """Give the network of a file weights of 8 bits, and round its activations as they come; returns what runs the file.

    The front end stays as it is, and so do depthwise convolutions: they are small, and one scale for all channels takes
    more from them than from all others.
    """
    nodes = onnx.load(path).graph.node
    kept = [node.name for node in nodes if node.name.startswith(PREFIX) or _is_depthwise(node)]
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # onnxruntime's advice
    try:
        quantize_dynamic(path, path, weight_type=QuantType.QUInt8, nodes_to_exclude=kept)
    finally:
        logging.disable(disabled)
    return runner(path)


def _is_depthwise(node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" and any(one.name == "group" and one.i > 1 for one in node.attribute)
