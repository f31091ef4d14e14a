"""`import-weights`: published weights in a file -> a checkpoint that `weights:` takes; files of timm, checked."""

from collections.abc import Callable, Mapping
from math import isclose
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from cry_lightning.console import UserError, first_few, on_one_line, one_line
from cry_lightning.encoders.importers import PUBLISHERS, Publisher, faults, misfits, publisher_of
from cry_lightning.features import MFCC, EfficientATLogMel, Feature, LogMel, VGGishLogMel
from cry_lightning.files import replacing
from cry_lightning.lineage import UNKNOWN
from cry_lightning.tasks.checkpoints import identity_of, load_data, load_tensors, sha256

ENCODERS = {network.__name__.lower(): network for publisher in PUBLISHERS.values() for network in publisher.networks}
KIND, WAY_OUT = "file of weights", "download the weights from their publisher first"
PANNS_STFT = "spectrogram_extractor.stft.conv_real.weight"  # (n_fft // 2 + 1, 1, n_fft)
PANNS_RATES_HZ = {256: 8000, 512: 16000, 1024: 32000}  # by n_fft
# PANNs' files hold, beside the weights, arrays of integers in which the training kept its place; NumPy 1 wrote them.
Known = Callable[..., object]
REBUILD_ARRAY = (cast(Known, np.empty(0).__reduce__()[0]), "numpy.core.multiarray._reconstruct")
INTEGER_ARRAYS: list[Known | tuple[Known, str]] = [REBUILD_ARRAY, np.ndarray, np.dtype, np.dtypes.Int64DType]
SAFE = ".safetensors"  # how the names of files end that timm reads as such; all others are torch's


def run(whose: str, file: Path, to: Path, named: str | None, sizes: Mapping[str, float] = MappingProxyType({})) -> Path:
    """Run the command; returns the checkpoint written.

    Args:
        whose: the publisher.
        file: the published file.
        to: the checkpoint.
        named: the encoder, where the publisher has several.
        sizes: of the network and its front end, that the file must have.

    Raises:
        UserError: the file holds something else.
    """
    publisher = PUBLISHERS[whose]
    network = ENCODERS[named] if named else publisher.networks[0]
    published = read(file, whose)
    encoder = encoder_of(published, publisher, network, file)
    source = {"publisher": whose, "file": file.name, "sha256": sha256(file)}
    feature = front_end(whose, published)
    found = dict(publisher.sizes(published)) | ({"sample_rate": feature.sample_rate} if feature else {})
    for what, size in sizes.items():
        if not isclose(found.get(what, size), size):
            raise UserError(f"{file}: not those weights: its {what} is {found[what]:g}, theirs is {size:g}")
    state = {f"encoder.{name}": tensor for name, tensor in publisher.imported(published, encoder).items()}
    state |= {f"head.{name}": tensor for name, tensor in publisher.head(published).items()}
    write(to, state, source, feature)
    print(table(published, encoder, publisher))
    in_words = " and ".join(f"{name} {size}" for name, size in publisher.sizes(published).items())
    print(f"{to}: {type(encoder).__name__} with {in_words}")
    return to


def read(path: Path, publisher: str) -> dict[str, Tensor]:
    """The tensors of a published file by their published names; no code in it is run.

    Raises:
        UserError: where the file is missing, damaged, another publisher's, or would run code on loading.
    """
    with torch.serialization.safe_globals(INTEGER_ARRAYS):
        content = load_data(path, KIND, WAY_OUT)
    owner = publisher_of(content) if isinstance(content, dict) else None
    if owner not in (publisher, None):
        raise UserError(f"{path}: looks like a file of {owner}, not of {publisher}: import-weights {owner} {path}")
    tensors = PUBLISHERS[publisher].tensors(content) if isinstance(content, dict) else None
    return named_tensors(tensors, path, f" in the layout of {publisher}")


def named_tensors(content: object, path: Path, which: str = "") -> dict[str, Tensor]:
    """The content of a file, which must be a table of tensors by their names.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: not a table of tensors{which}")
    if odd := [name for name in content if not isinstance(name, str)]:
        raise UserError(f"{path}: a tensor is called {str(odd[0])[:100]}, and that is no text; not a file of weights")
    return content


def encoder_of(published: dict[str, Tensor], publisher: Publisher, network: type[nn.Module], path: Path) -> nn.Module:
    """The encoder that these weights fit, itself without any.

    Raises:
        UserError: naming the tensors that are missing, left over, or of another shape (both shapes), or no weights.
    """
    try:
        with torch.device("meta"):
            encoder = network(**publisher.sizes(published))
        problems = publisher.misfits(published, encoder)
    except KeyError as error:
        raise UserError(f"{path}: holds no {error}: another publisher's, or not this network at all") from error
    except (TypeError, RuntimeError, UserError) as error:  # a number in the place of a vector, a width that none has
        raise UserError(f"{path}: its tensors are of no network ({one_line(str(error))})") from error
    if problems:
        why = on_one_line(first_few(problems, 4, "; "))
        raise UserError(f"{path}: does not fit --encoder {network.__name__.lower()}: {why}")
    if odd := publisher.faults(published, encoder):
        raise UserError(f"{path}: damaged, or no weights: {first_few(odd, 4, '; ')}")
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


def check_network(file: Path, network: str, to: Path) -> None:
    """Refuse a file that does not hold, tensor for tensor, a network of timm and its classifier; no code in it is run.

    Args:
        file: the published one.
        network: as timm calls it.
        to: the name that timm will read it by.

    Raises:
        UserError: it is damaged, of another kind or network, or would run code on loading.
    """
    import timm  # which takes a while, and no publisher's file needs it

    given = load_tensors(file, WAY_OUT) if to.suffix == SAFE else load_data(file, KIND, WAY_OUT)
    tensors = named_tensors(given, file)
    with torch.device("meta"):
        wanted = timm.create_model(network).state_dict()
    # Files of old count no batches.
    shapes = {n: tuple(t.shape) for n, t in wanted.items() if n in tensors or not n.endswith("num_batches_tracked")}
    problems = misfits(shapes, {name: tuple(tensor.shape) for name, tensor in tensors.items()}) or faults(tensors)
    if problems:
        raise UserError(f"{file}: not the weights of {network}: {on_one_line(first_few(problems, 4, '; '))}")
