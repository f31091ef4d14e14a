"""`import-weights`: published weights in a local file -> a checkpoint that `weights:` takes."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from cry_lightning.console import UserError, first_few
from cry_lightning.encoders.importers import PUBLISHERS, Publisher, publisher_of
from cry_lightning.features import MFCC, EfficientATLogMel, Feature, LogMel, VGGishLogMel
from cry_lightning.files import replacing
from cry_lightning.lineage import UNKNOWN
from cry_lightning.tasks.checkpoints import identity_of, load_data, sha256

ENCODERS = {network.__name__.lower(): network for publisher in PUBLISHERS.values() for network in publisher.networks}
PANNS_STFT = "spectrogram_extractor.stft.conv_real.weight"  # (n_fft // 2 + 1, 1, n_fft)
PANNS_RATES_HZ = {256: 8000, 512: 16000, 1024: 32000}  # by n_fft
# PANNs' files hold, beside the weights, arrays of integers in which the training kept its place; NumPy 1 wrote them.
Known = Callable[..., object]
REBUILD_ARRAY = (cast(Known, np.empty(0).__reduce__()[0]), "numpy.core.multiarray._reconstruct")
INTEGER_ARRAYS: list[Known | tuple[Known, str]] = [REBUILD_ARRAY, np.ndarray, np.dtype, np.dtypes.Int64DType]


def run(whose: str, file: Path, to: Path, named: str | None) -> Path:
    """Run the command; returns the checkpoint written."""
    publisher = PUBLISHERS[whose]
    network = ENCODERS[named] if named else publisher.networks[0]
    published = read(file, whose)
    encoder = encoder_of(published, publisher, network, file)
    source = {"publisher": whose, "file": file.name, "sha256": sha256(file)}
    feature = front_end(whose, published)
    state = {f"encoder.{name}": tensor for name, tensor in publisher.imported(published, encoder).items()}
    state |= {f"head.{name}": tensor for name, tensor in publisher.head(published).items()}
    write(to, state, source, feature)
    print(table(published, encoder, publisher))
    sizes = " and ".join(f"{name} {size}" for name, size in publisher.sizes(published).items())
    print(f"{to}: {type(encoder).__name__} with {sizes}")
    return to


def read(path: Path, publisher: str) -> dict[str, Tensor]:
    """The tensors of a published file by their published names; no code in it is run.

    Raises:
        UserError: where the file is missing, damaged, another publisher's, or would run code on loading.
    """
    with torch.serialization.safe_globals(INTEGER_ARRAYS):
        content = load_data(path, "file of weights", "download the weights from their publisher first")
    owner = publisher_of(content) if isinstance(content, dict) else None
    if owner not in (publisher, None):
        raise UserError(f"{path}: looks like a file of {owner}, not of {publisher}: import-weights {owner} {path}")
    tensors = PUBLISHERS[publisher].tensors(content) if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path}: not a table of tensors in the layout of {publisher}")
    return tensors


def encoder_of(published: dict[str, Tensor], publisher: Publisher, network: type[nn.Module], path: Path) -> nn.Module:
    """The encoder that these weights fit, itself without any.

    Raises:
        UserError: naming the tensors that are missing, left over, or of another shape (both shapes).
    """
    try:
        with torch.device("meta"):
            encoder = network(**publisher.sizes(published))
    except KeyError as error:
        raise UserError(f"{path}: holds no {error}: another publisher's, or not this network at all") from error
    problems = publisher.misfits(published, encoder)
    if problems:
        raise UserError(f"{path}: does not fit --encoder {network.__name__.lower()}: {first_few(problems, 4, '; ')}")
    return encoder


def front_end(publisher: str, published: dict[str, Tensor]) -> Feature | None:
    """What a published network was trained behind; None where neither its publication nor its file tells.

    SpeechBrain's is not checked: its recipes for the same network differ.

    Source: Tang & Lin 2018; Hershey et al. 2017; Kong et al. 2020; Schmid et al. 2023; as their released code has it.
    """
    if publisher == "honk":
        return MFCC(sample_rate=16000, n_fft=480, hop_length=160)
    if publisher == "vggish":
        return VGGishLogMel()
    if publisher == "efficientat":
        return EfficientATLogMel()
    n_fft = published[PANNS_STFT].shape[-1] if PANNS_STFT in published else None
    if n_fft not in PANNS_RATES_HZ:
        return None
    rate = PANNS_RATES_HZ[n_fft]
    return LogMel(rate, n_fft, rate // 100, len(published["bn0.weight"]), f_min=50.0, f_max=min(14000.0, rate / 2))


def table(published: dict[str, Tensor], encoder: nn.Module, publisher: Publisher) -> str:
    """A line for every published tensor: its name, the encoder's tensor that it goes into, and its shape."""
    ours = {name: into for name, (into, _) in publisher.uses(published, encoder).items()}
    width = max(map(len, published))
    return "\n".join(
        f"{name:<{width}}  {ours.get(name, '(left out)'):<35} {tuple(tensor.shape)}"
        for name, tensor in published.items()
    )


def write(path: Path, state: dict[str, Tensor], source: dict[str, str], feature: Feature | None) -> None:
    """Write a checkpoint of unknown lineage that holds an encoder, and the head where one is kept."""
    checkpoint = {
        "state_dict": state,
        "lineage": UNKNOWN.as_dict(),
        "source": source,
        "front_end": identity_of(feature) if feature else None,
    }
    with replacing(path) as part:
        torch.save(checkpoint, part)
