"""Commands that train a stage or apply a trained one, as functions."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cry_lightning.commands.arguments import (
    Checkpoint,
    Device,
    Overrides,
    Size,
    Taken,
    Trusted,
    check_there,
    command,
    refuse_existing,
)
from cry_lightning.console import UserError

if TYPE_CHECKING:
    import pandas as pd

    from cry_lightning.inference.predictor import Predictor

NETWORKS: Mapping[str, tuple[str, ...]] = {  # publisher -> the networks that its weights are for
    "panns": ("cnn14", "cnn10", "cnn6"),
    "speechbrain": ("cnn14", "cnn10", "cnn6"),
    "honk": ("res8",),
    "vggish": ("vggish",),
    "efficientat": ("efficientat",),
}
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
Format = Literal["onnx", "pt2", "hub"]
ENDINGS: Mapping[str, str] = {"onnx": ".onnx", "pt2": ".pt2", "hub": "-hub"}
FOR_ONNX = ("onnx", "onnxruntime", "onnxscript")
FOR_SERVING = ("fastapi", "uvicorn", "python_multipart")
OVERRIDDEN = ("--data.corpus", "--data.cache.folder")  # by `embed`


@command
def fit(config: Sequence[str], overrides: Overrides = ()) -> Path:
    """Train one stage from a YAML (pretraining, adaptation or fine-tuning).

    Args:
        config: the stage's YAML; of several, each overrides those before it.
        overrides: {"trainer.max_epochs": 3}, or arguments as in the shell: ["--trainer.max_epochs=3"].

    Returns: its run folder.

    Raises:
        UserError: a mistake in the config, or the folder holds another run.

    Example: python -m cry_lightning fit --config configs/finetune.yaml --trainer.max_epochs=30
    """
    return run_stage("fit", [*(f"--config={one}" for one in config), *overrides])


@command
def test(config: Sequence[str], overrides: Overrides = ()) -> Path:
    """Run a trained stage on its test subjects: predictions.csv and lineage.json.

    Args:
        config: the config.yaml of its run folder.
        overrides: as of `fit`.

    Returns: its run folder.

    Raises:
        UserError: a mistake in the config, or its run is not finished.

    Example: python -m cry_lightning test --config runs/synthetic-cries/finetune/config.yaml
    """
    return run_stage("test", [*(f"--config={one}" for one in config), *overrides])


def run_stage(name: str, argv: Sequence[str]) -> Path:
    """Run `fit` or `test` with the arguments of the shell."""
    from cry_lightning.commands.stage import arguments

    arguments([name, *argv])
    import torch
    from lightning.pytorch.utilities.seed import isolate_rng

    from cry_lightning.cli.stage import main

    with isolate_rng(torch.cuda.is_initialized()):  # what a notebook draws next is not the same after each fit
        ran = main([name, *("--help" if arg == "--help-all" else arg for arg in argv)])
    if ran.config[name].seed_everything is False:
        torch.rand(())  # the next fit without a seed does not draw what this one did
    if name == "test" and ran.trainer.is_global_zero:
        print(_table(ran.run_folder.path))
    return ran.run_folder.path


def _table(folder: Path) -> str:
    """The first table of `evaluate` of a run that has been tested."""
    from cry_lightning.evaluation.compare import as_text, summary
    from cry_lightning.evaluation.run import evaluated

    return as_text(summary([evaluated(folder)]))


@command
def predict(
    paths: Annotated[Sequence[str], Taken("PATH", instead="give recordings, or folders of them")],
    ckpt: Checkpoint,
    *,
    trust: Trusted = (),
    out: Annotated[Path | None, Taken("FILE", in_shell="predictions.csv")] = None,
    device: Device = "auto",
    batch_size: Size = 64,
    hop_s: Annotated[float | None, Taken("S")] = None,
    detect: bool = False,
    detector: Annotated[Path | None, Taken("CKPT", instead="name a run's best.ckpt", what="checkpoint")] = None,
) -> "pd.DataFrame":
    """What a trained classifier says of recordings, by window or by cry.

    Recordings of any container are cut into windows as the training corpus was, or, if it was not, into clips of the
    model's length; what is left over at the end is dropped. A recording shorter than one window is filled up as in the
    training. With --detect, cries are found first, and only they are cut. Writes one row per window, or cry, into OUT,
    and their means per recording, with those that could not be used, into OUT_recordings.csv.

    Beside the scores are probabilities calibrated on the validation clips, how unlike the training clips a window is
    (1: the limit beyond which 5 % of a new subject's windows are expected, and another one of its recordings; noise may
    lie below), and a decision, withheld where the window is unlike the training or the classes cannot be distinguished.
    They come from the reference.pt that `test` writes beside the checkpoint.

    The ending of OUT names its form: .csv, .json or .parquet; .TextGrid (Praat), .txt (Audacity labels) or
    .selections.txt (Raven), of which each recording has a file of its own: OUT, or OUT/RECORDING.TextGrid for several.

    Args:
        paths: a recording, or a folder of them.
        ckpt: of a stage: RUN/best.ckpt.
        trust: let the files name classes of this package, too (may be repeated); without it they name classes of
            cry_lightning, torch.nn, torch.optim and timm alone.
        out: the table of windows; in Python, none is written unless this names one. The table is returned, too, and
            its `attrs["failed"]` has why recordings could not be used, `attrs["empty"]` those with nothing to classify.
        device: where to compute.
        batch_size: clips at once.
        hop_s: from window to window (default: as in the training).
        detect: find cries first, by the thresholds of `acquire`.
        detector: find them by this trained Detector.

    Raises:
        UserError: an argument or the checkpoint is at fault, or no recording could be used.

    Example: python -m cry_lightning predict phone/ --ckpt runs/synthetic-cries/finetune/best.ckpt
    """
    # Without torch, which takes many seconds to import; no mistake should be reported that late.
    from cry_lightning.corpora.base import SHORTEST_S
    from cry_lightning.corpora.listing import recordings_named
    from cry_lightning.inference.output import check_place

    if out is not None:
        check_place(out)
    if hop_s is not None and not SHORTEST_S <= hop_s < math.inf:  # nor NaN
        raise UserError(f"--hop-s {hop_s:g}: it is a length of time, of {SHORTEST_S} s or more")
    recordings_named(paths)
    from cry_lightning.inference.predict import run

    return run(paths, ckpt, trust, out, device, batch_size, hop_s, detect, detector)


@command
def embed(
    paths: Annotated[Sequence[str], Taken("PATH", instead="give folders of recordings, manifests or data YAMLs")],
    ckpt: Checkpoint,
    *,
    trust: Trusted = (),
    out: Annotated[Path | None, Taken("FILE", in_shell="embeddings.h5")] = None,
    device: Device = "auto",
    batch_size: Size = 64,
    color: Annotated[str, Taken("COLUMN")] = "label",
    method: Literal["pca", "tsne"] = "pca",
    overrides: Overrides = (),
) -> "pd.DataFrame":
    """Embeddings of clips by a trained encoder, and a map of them.

    Written as HDF5 with all that is known of the clips; returned with a row for each. Folders and manifests are cut
    into windows as the training corpus was, or, if it was not, into clips of the model's length; a data YAML says
    itself how its corpus is cut. The front end is always the checkpoint's. Further arguments override the corpus as in
    fit, e.g. --data.corpus.init_args.target=age.

    Args:
        paths: a folder of recordings, a manifest.csv or a data YAML.
        ckpt: of a stage: RUN/best.ckpt.
        trust: let the files name classes of this package, too (may be repeated).
        out: the file to be written; the map lies beside it. In Python, none is written unless this names one.
        device: where to compute.
        batch_size: clips at once.
        color: of the map.
        method: of the map.
        overrides: of the corpus.

    Raises:
        UserError: an argument, the checkpoint or the data is at fault, or no clip could be used.

    Example: python -m cry_lightning embed data/cries --ckpt runs/synthetic-words/simclr/best.ckpt --color subject
    """
    given = list(overrides)
    for key in (text for text in given if text.startswith("--") and not text.startswith(OVERRIDDEN)):
        reason = f"unrecognized argument {key}: but for {' and '.join(OVERRIDDEN)}, all is the checkpoint's"
        raise UserError(f"{reason}; see python -m cry_lightning embed --help")
    if out is not None and out.suffix not in (".h5", ".hdf5"):
        raise UserError(f"--out {out}: embeddings are written as HDF5; name a file that ends in .h5")
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise UserError(f"a corpus is named twice among {', '.join(paths)}; name each once")
    if out is not None:
        refuse_existing(out, out.with_suffix(".png"))
    from cry_lightning.inference.embed import run

    return run(paths, ckpt, trust, out, device, batch_size, color, method, given)


@command
def load(
    path: Annotated[Path, Taken(instead="name a run's best.ckpt", what="checkpoint")],
    device: str = "cpu",
    trust: Trusted = (),
) -> "Predictor":
    """A trained stage, applied to recordings and waveforms.

    Args:
        path: its checkpoint, RUN/best.ckpt.
        device: "cpu", "cuda", one of several GPUs as "cuda:1", or "auto" for a GPU where there is one.
        trust: packages whose classes the checkpoint may name, beside the project's own libraries.

    Raises:
        UserError: there is none, or it is at fault.
    """
    from cry_lightning.inference.predictor import Predictor

    return Predictor(path, device, trust)


@command
def export(
    ckpts: Annotated[Sequence[Path], Taken("CKPT", instead="name a run's best.ckpt", what="checkpoint")],
    *,
    format: Format = "onnx",
    out: Annotated[Path | None, Taken("OUT")] = None,
    int8: bool = False,
    check: Annotated[Sequence[str], Taken("RECORDING", instead="give recordings")] = (),
    licence: Annotated[str | None, Taken("TEXT")] = None,
    trust: Trusted = (),
) -> list[Path]:
    """A trained stage for other programs: waveforms in, probabilities and embeddings out.

    The front end and everything else that predict does to a window is part of the graph. Each model is compared with
    PyTorch on synthetic sounds, and not written where it differs; its size and speed are printed. onnx needs the
    packages onnx, onnxruntime and onnxscript; hub is a folder for Hugging Face, which predict and cry.load take.

    Args:
        ckpts: of a stage: RUN/best.ckpt.
        format: of the file or, for hub, the folder.
        out: where to write it; default: beside the checkpoint, as best.onnx, best.pt2 or best-hub.
        int8: weights of 8 bits in the ONNX file; what that changes is printed.
        check: recordings to compare on, too.
        licence: of the weights, such as cc-by-4.0, for those who get them.
        trust: let the files name classes of this package, too (may be repeated).

    Returns: what was written.

    Raises:
        UserError: an argument or a checkpoint is at fault, or its model cannot be exported.

    Example: python -m cry_lightning export runs/synthetic-cries/finetune/best.ckpt
    """
    if out is not None and len(ckpts) > 1:
        raise UserError(
            "--out: names one place, but there are several checkpoints; leave it out, or export them singly"
        )
    if int8 and format != "onnx":
        raise UserError(f"--int8: weights of 8 bits are for --format onnx, not {format}")
    if out is not None and format != "hub" and out.suffix != ENDINGS[format]:
        raise UserError(f"--out {out}: --format {format} is written as {ENDINGS[format]}; name such a file")
    if format == "onnx":
        missing = [name for name in FOR_ONNX if find_spec(name) is None]
        if missing:
            raise UserError(f"--format onnx: {', '.join(missing)} not installed; pip install {' '.join(FOR_ONNX)}")
    places = [ckpt if ckpt.name else ckpt.absolute() for ckpt in ckpts]  # "." has no name
    outs = [out] if out else [place.with_name(f"{place.stem}{ENDINGS[format]}") for place in places]
    refuse_existing(*outs)
    from cry_lightning.export.command import run

    run(ckpts, outs, format, trust, int8, licence, check)
    return outs


@command
def serve(
    ckpt: Checkpoint,
    *,
    host: Annotated[str, Taken("ADDRESS")] = "127.0.0.1",
    port: int = 7860,
    allow_host: Annotated[Sequence[str], Taken("NAME", repeated=True)] = (),
    language: Literal["en", "de"] = "en",
    detector: Annotated[Path | None, Taken("CKPT", instead="name a run's best.ckpt", what="checkpoint")] = None,
    max_mb: Annotated[float, Taken("MB")] = 50.0,
    max_seconds: Annotated[float, Taken("S")] = 600.0,
    queue: Annotated[int, Taken("N", counted="requests")] = 16,
    per_minute: Annotated[int, Taken("N", counted="requests")] = 600,
    trust: Trusted = (),
    device: Device = "auto",
) -> None:
    """A trained classifier as a local page and a REST service.

    The page takes recordings that are chosen, dropped or made there, and shows waveform, spectrogram, cries, calibrated
    probabilities and the decision, or why there is none. Programs send a file to /api/predict, and get the rows that
    `predict` writes; /openapi.json describes it. Nothing is fetched from the network, sent there or kept. Only this
    machine reaches the server, unless --host names another address. It needs the packages of the extra `serve`.

    Args:
        ckpt: of a stage: RUN/best.ckpt.
        host: the address to listen at; 0.0.0.0 for every one of this machine, ::1 for its own by IPv6.
        port: there; 0 for any that is free.
        allow_host: a name by which others call this machine (may be repeated); requests under other names are refused.
        language: of the page, which has links to the others.
        detector: find cries by this trained Detector, instead of by the thresholds of `acquire`.
        max_mb: of one file.
        max_seconds: of one recording.
        queue: requests at once that have come in whole; more are refused.
        per_minute: requests of one client; more are refused.
        trust: let the files name classes of this package, too (may be repeated).
        device: where to compute.

    Raises:
        UserError: an argument or the checkpoint is at fault, or the address is in use.

    Example: python -m cry_lightning serve --ckpt runs/synthetic-cries/finetune/best.ckpt
    """
    if missing := [name for name in FOR_SERVING if find_spec(name) is None]:
        raise UserError(f"serve: {', '.join(missing)} not installed; pip install 'cry-lightning[serve]'")
    for name, value in (("--max-mb", max_mb), ("--max-seconds", max_seconds)):
        if value <= 0:
            raise UserError(f"{name} {value:g}: must be above 0")
    if odd := [name for name in (host, *allow_host) if not _is_host(name)]:
        raise UserError(f"--host or --allow-host {odd[0]}: give an IP address or a name, without port, path or *")
    if host not in ("localhost", "127.0.0.1", "::1") and not allow_host:
        raise UserError(f"--host {host}: name this machine as others call it, too, by --allow-host NAME")
    from cry_lightning.serving.app import run
    from cry_lightning.serving.guard import Limits

    run(ckpt, host, port, trust, device, detector, max_seconds, Limits(max_mb, queue, per_minute), language, allow_host)


def _is_host(text: str) -> bool:
    """Whether a text is a name or an address."""
    with suppress(ValueError):
        return "%" not in text and bool(IPv6Address(text))
    return HOST.fullmatch(text) is not None


@command
def import_weights(
    publisher: Annotated[str, Taken(choices=tuple(NETWORKS))],
    file: Path,
    *,
    to: Annotated[Path, Taken("CKPT")],
    encoder: Literal["cnn10", "cnn14", "cnn6", "efficientat", "res8", "vggish"] | None = None,
) -> Path:
    """Published weights into an encoder checkpoint.

    `weights:` takes it. What the weights were trained on is not known: evaluation says UNKNOWN LINEAGE of what is built
    on them.

    Args:
        publisher: whose they are.
        file: their file, such as PANNs' Cnn14_16k_mAP=0.438.pth, SpeechBrain's *.ckpt, honk's res8.pt, torchvggish's
            vggish-10086976.pth, EfficientAT's mn04_as_mAP_432.pt.
        to: the checkpoint to be written.
        encoder: the network, for panns and speechbrain (default: cnn14).

    Raises:
        UserError: the file is not there or another's, or the checkpoint is there already.

    Example: python -m cry_lightning import-weights honk res8.pt --to runs/res8.ckpt
    """
    refuse_existing(to, option="--to")
    check_there(file, "download the weights from their publisher first")
    if encoder not in (None, *NETWORKS[publisher]):
        raise UserError(f"--encoder {encoder}: not among the networks of {publisher}")
    from cry_lightning.download.import_weights import run

    return run(publisher, file, to, encoder)
