"""The commands as functions: data, stages and trained models; `api_studies` has those after training.

Importing this takes no time: each checks its arguments before what it runs is imported.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cry_lightning.acquire.settings import Settings
from cry_lightning.archives import SOURCES
from cry_lightning.arguments import Overrides, Taken, as_arguments, check_there, command
from cry_lightning.console import UserError

if TYPE_CHECKING:
    import pandas as pd

    from cry_lightning.inference.predictor import Predictor

Checkpoint = Annotated[Path, Taken("CKPT", option=True, instead="name a run's best.ckpt", what="checkpoint")]
Folder = Annotated[Path, Taken("DIR", folder=True)]
Recording = Annotated[str, Taken("RECORDING", instead="give recordings, or folders of them")]
Stage = Annotated[str, Taken("STAGE.yaml", option=True)]
Device = Literal["auto", "cpu", "cuda"]
Trusted = Annotated[Sequence[str], Taken("PACKAGE", repeated=True)]
Size = Annotated[int, Taken("B", counted="clips")]
NETWORKS: Mapping[str, tuple[str, ...]] = {  # publisher -> the networks that its weights are for
    "panns": ("cnn14", "cnn10", "cnn6"),
    "speechbrain": ("cnn14", "cnn10", "cnn6"),
    "honk": ("res8",),
    "vggish": ("vggish",),
    "efficientat": ("efficientat",),
}
OVERRIDDEN = ("--data.corpus", "--data.cache_dir")  # by `embed`


@command
def acquire(
    recordings: Annotated[Path, Taken("IN", instead="give a recording, or a folder of them")],
    out: Annotated[Path, Taken("OUT", folder=True)],
    *,
    name_pattern: Annotated[str | None, Taken("REGEX")] = None,
    table: Annotated[Path | None, Taken("CSV")] = None,
    figures: bool = False,
    jobs: Annotated[int, Taken("N", counted="files")] = 1,
    overwrite: bool = False,
    thresholds: Settings = Settings(),  # noqa: B008  # frozen
) -> "pd.DataFrame":
    r"""Phone videos and recordings into short cry units and a manifest.

    Recordings of any container, videos included, are cut into mono WAV files of 16 kHz and 16 bits in OUT/units, listed
    with level, label and subject in OUT/manifest.csv, which is a corpus. Units are active and voiced at the pitch of
    cries. What else is so, such as voices of women and children, music and animals, is kept too: listen, and look at
    --figures. Files already done are not done again, so that a killed run goes on with the same command.

    Labels and subjects are those of Donate-a-Cry names, or else of class folders (class/subject/file or class/file),
    unless --name-pattern or --table tells them. A recording of which no subject is known is one.

    Args:
        recordings: a recording, or a folder of them at any depth.
        out: folder to make, or to go on with; not within IN.
        name_pattern: finds groups named label or subject in a path relative to IN, e.g.
            '(?P<subject>baby\d+)_(?P<label>[a-z]+)'.
        table: columns source (a path relative to IN), and label, subject or further ones.
        figures: draw each file and its units into OUT/figures.
        jobs: files at once.
        overwrite: cut OUT anew where thresholds or IN have changed.
        thresholds: what a unit is.

    Raises:
        UserError: an argument is at fault, OUT was made otherwise, or no source could be read.

    Example: python -m cry_lightning acquire phone/ data/cries --figures
    """
    if name_pattern and table:
        raise UserError("argument --table: not allowed with argument --name-pattern")
    from cry_lightning.acquire.command import run

    return run(recordings, out, thresholds, name_pattern, table, figures, jobs, overwrite)


@command
def describe(
    data: Annotated[str, Taken("DATA", True, instead="give a data YAML, a folder of recordings or a manifest.csv")],
    *,
    by: Annotated[Sequence[str] | None, Taken("COLUMN")] = None,
    sample: Annotated[int | None, Taken("N", counted="recordings")] = None,
    out: Folder | None = None,
    overrides: Overrides = (),
) -> Path:
    """What a corpus holds, how it sounds, and the splits it can support.

    Subjects, recordings, clips and minutes are counted by class and column, the sound is measured, and copies are
    found. Nothing is trained and no feature cache is built. Subjects appear as numbers only, recordings by name where
    one is at fault. Further arguments override the data as in fit, e.g. --data.corpus.init_args.target=age.

    Args:
        data: data YAML, folder of recordings or manifest.csv.
        by: columns to count by; default: those with few values.
        sample: decode only N recordings, drawn at random.
        out: where describe.md is written, whose path is returned; default: runs/CORPUS/describe.
        overrides: of the data.

    Raises:
        UserError: an argument makes no sense, or the data cannot be read.

    Example: python -m cry_lightning describe --data configs/data/cries.yaml
    """
    from cry_lightning.commands.stage import check_data

    check_data(data, list(overrides))
    from cry_lightning.describe.command import run

    return run(data, list(overrides), by, sample, out)


def fit(config: str | Path | Sequence[str | Path], overrides: Overrides = ()) -> Path:
    """Train one stage from a YAML (pretraining, adaptation or fine-tuning).

    Args:
        config: the stage's YAML; of several, each overrides those before it.
        overrides: {"trainer.max_epochs": 3}, or arguments as in the shell: ["--trainer.max_epochs=3"].

    Returns: its run folder.

    Raises:
        UserError: a mistake in the config, or the folder holds another run.

    Example: python -m cry_lightning fit --config configs/finetune.yaml --trainer.max_epochs=30
    """
    return run_stage("fit", _given(config, overrides))


def test(config: str | Path | Sequence[str | Path], overrides: Overrides = ()) -> Path:
    """Run a trained stage on its test subjects: predictions.csv and lineage.json.

    Args:
        config: the config.yaml of its run folder.
        overrides: as of `fit`.

    Returns: its run folder.

    Raises:
        UserError: a mistake in the config, or its run is not finished.

    Example: python -m cry_lightning test --config runs/synthetic-cries/finetune/config.yaml
    """
    return run_stage("test", _given(config, overrides))


def run_stage(name: str, argv: Sequence[str]) -> Path:
    """Run `fit` or `test` with the arguments of the shell."""
    from cry_lightning.commands.stage import arguments

    arguments([name, *argv])
    from cry_lightning import cli

    return cli.main([name, *("--help" if arg == "--help-all" else arg for arg in argv)]).run_folder.path


def _given(config: str | Path | Sequence[str | Path], overrides: Overrides) -> list[str]:
    configs = [config] if isinstance(config, str | Path) else config
    return as_arguments([*(f"--config={one}" for one in configs), *as_arguments(overrides)])


@command
def predict(
    paths: Annotated[Sequence[str], Taken("PATH", instead="give recordings, or folders of them")],
    ckpt: Checkpoint,
    *,
    trust: Trusted = (),
    out: Annotated[Path, Taken("FILE")] = Path("predictions.csv"),
    device: Device = "auto",
    batch_size: Size = 64,
    hop_s: Annotated[float | None, Taken("S")] = None,
) -> "pd.DataFrame":
    """What a trained classifier says of recordings, window by window.

    Recordings of any container are cut into windows as the training corpus was, or, if it was not, into clips of the
    model's length; what is left over at the end is dropped. A recording shorter than one window is filled up as in the
    training. Writes one row per window into OUT, and their means per recording, with those that could not be used,
    into OUT_recordings.csv.

    Args:
        paths: a recording, or a folder of them.
        ckpt: of a stage: RUN/best.ckpt.
        trust: let the files name classes of this package, too (may be repeated); without it they name classes of
            cry_lightning, torch.nn, torch.optim and timm alone.
        out: the table of windows, which is returned too.
        device: where to compute.
        batch_size: clips at once.
        hop_s: from window to window (default: as in the training).

    Raises:
        UserError: an argument or the checkpoint is at fault, or no recording could be used.

    Example: python -m cry_lightning predict phone/ --ckpt runs/synthetic-cries/finetune/best.ckpt
    """
    from cry_lightning.arguments import by_recording, refuse_existing

    refuse_existing(out, by_recording(out))
    from cry_lightning.inference.predict import run

    return run(paths, ckpt, trust, out, device, batch_size, hop_s)


@command
def embed(
    paths: Annotated[Sequence[str], Taken("PATH", instead="give folders of recordings, manifests or data YAMLs")],
    ckpt: Checkpoint,
    *,
    trust: Trusted = (),
    out: Annotated[Path, Taken("FILE")] = Path("embeddings.h5"),
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
        out: the file to be written; the map lies beside it.
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
        told = f"unrecognized argument {key}: but for {' and '.join(OVERRIDDEN)}, all is the checkpoint's"
        raise UserError(f"{told}; see python -m cry_lightning embed --help")
    if out.suffix not in (".h5", ".hdf5"):
        raise UserError(f"--out {out}: embeddings are written as HDF5; name a file that ends in .h5")
    from cry_lightning.arguments import refuse_existing

    refuse_existing(out, out.with_suffix(".png"))
    from cry_lightning.inference.embed import run

    return run(paths, ckpt, trust, out, device, batch_size, color, method, given)


def load(path: str | Path, device: str = "cpu", trust: Sequence[str] = ()) -> "Predictor":
    """A trained stage that hears recordings and waveforms.

    Args:
        path: its checkpoint, RUN/best.ckpt.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        trust: packages whose classes the checkpoint may name, beside the project's own libraries.

    Raises:
        UserError: there is none, or it is at fault.
    """
    check_there(path, "name a run's best.ckpt", "checkpoint")
    from cry_lightning.inference.predictor import Predictor

    return Predictor(path, device, trust)


@command
def picture(
    recordings: Annotated[Sequence[str], Taken("RECORDING", instead="give recordings, or folders of them")],
    config: Stage,
    *,
    out: Folder,
    trust: Trusted = (),
    overrides: Overrides = (),
) -> list[Path]:
    """What a network that sees pictures sees of recordings, as PNG files.

    A PNG for each recording, or for each of its windows, of as many pixels as the feature has, highest frequency on
    top. Further arguments override the YAML as in fit, with = and no blank: --data.feature.init_args.size=[120,180].

    Args:
        recordings: any container, or a folder of them.
        config: a stage that sees pictures, e.g. configs/papers/le2020/resnet50.yaml.
        out: where the pictures are written.
        trust: let the files name classes of this package, too (may be repeated).
        overrides: of the YAML.

    Raises:
        UserError: an argument makes no sense, the network sees no colour pictures, or no recording can be used.

    Example: python -m cry_lightning picture cry.wav --config configs/papers/le2020/resnet50.yaml --out pictures
    """
    from cry_lightning.commands.stage import check_overrides

    given = list(overrides)
    check_overrides(config, given)
    from cry_lightning.picture import run

    return run(recordings, config, out, [*given, *(f"--trust={name}" for name in trust)])


@command
def prepare(
    config: Stage | None = None,
    *,
    verify: bool = False,
    list_: bool = False,
    remove: Annotated[Sequence[str], Taken("NAME")] = (),
    folder: str = "cache",
    overrides: Overrides = (),
) -> None:
    """Build, list, verify or remove feature caches.

    Further arguments override the YAML as in fit, e.g. --data.workers=4.

    Args:
        config: build the cache of this stage.
        verify: with --config: read all audio and every row again.
        list_: what is cached, for which corpus and feature.
        remove: remove caches by the name that --list shows.
        folder: folder of the caches, for --list and --remove.
        overrides: of the YAML.

    Raises:
        UserError: there is nothing to do, the stage has a mistake, or a cache is damaged.

    Example: python -m cry_lightning prepare --config configs/finetune.yaml
    """
    given, help_ = list(overrides), "see python -m cry_lightning prepare --help"
    if given and not config:
        raise UserError(f"unrecognized arguments: {' '.join(given)}; {help_}")
    if not (config or list_ or remove):
        raise UserError(f"give --config STAGE.yaml, --list or --remove NAME; {help_}")
    if config:
        from cry_lightning.commands.stage import check_overrides

        check_overrides(config, given)
    from cry_lightning.prepare import build, look_after

    if config:
        build([f"--config={config}", *given], verify)
    look_after(folder, list_, remove)


@command
def download(
    corpus: Annotated[str, Taken(choices=SOURCES)],
    *,
    to: Annotated[Path | None, Taken("DIR")] = None,
    from_: Annotated[Path | None, Taken("PATH")] = None,
    sha256: Annotated[str | None, Taken("HASH")] = None,
    accept_unverified: bool = False,
) -> Path:
    """Fetch a public corpus.

    Its hash is checked, and it is unpacked whole or not at all. An archive is refused that has links, a password, or
    more than 500,000 files or 100 GB.

    Args:
        corpus: which.
        to: folder to make, which is returned (default: data/CORPUS).
        from_: take this archive or folder instead.
        sha256: the hash the archive must have.
        accept_unverified: take the archive whatever its hash is.

    Raises:
        UserError: it cannot be had, or is not what it should be.

    Example: python -m cry_lightning download donateacry --accept-unverified
    """
    from cry_lightning.corpora.download import run

    return run(corpus, to, from_, sha256, accept_unverified)


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
    if to.exists():
        raise UserError(f"{to} exists already; remove it, or name another with --to")
    check_there(file, "download the weights from their publisher first")
    if encoder not in (None, *NETWORKS[publisher]):
        raise UserError(f"--encoder {encoder}: not among the networks of {publisher}")
    from cry_lightning.import_weights import run

    return run(publisher, file, to, encoder)


@command
def list_(kind: Literal["encoders", "features", "corpora", "augmentations", "losses", "tasks"]) -> dict[str, str]:
    """What a YAML can name: encoders, features, corpora, augmentations, losses, tasks.

    Args:
        kind: of classes.

    Returns: class path -> what it is, in one sentence.

    Example: python -m cry_lightning list encoders
    """
    from cry_lightning.commands.signatures import summaries

    found = summaries(kind)
    print("\n\n".join(f"{path}\n  {about}\n  {example}" for path, (about, example) in found.items()))
    return {path: about for path, (about, _) in found.items()}
