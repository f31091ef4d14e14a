"""Commands on recordings and corpora, as functions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cry_lightning.acquire.settings import Settings
from cry_lightning.commands.arguments import (
    Folder,
    Overrides,
    Stage,
    Taken,
    Trusted,
    command,
)
from cry_lightning.console import UserError
from cry_lightning.download.published import SOURCES, WEIGHTS

if TYPE_CHECKING:
    import pandas as pd


@command
def acquire(
    recordings: Annotated[Path, Taken("IN", instead="give a recording, or a folder of them")],
    out: Annotated[Path, Taken("OUT", folder=True)],
    *,
    name_pattern: Annotated[str | None, Taken("REGEX")] = None,
    table: Annotated[Path | None, Taken("CSV")] = None,
    figures: bool = False,
    annotations: Literal["textgrid", "audacity", "raven"] | None = None,
    jobs: Annotated[int, Taken("N", counted="files")] = 1,
    overwrite: bool = False,
    detector: Annotated[Path | None, Taken("CKPT", instead="name a run's best.ckpt", what="checkpoint")] = None,
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
        annotations: write the units of each file as intervals into OUT/annotations, for Praat, Audacity or Raven.
        jobs: files at once.
        overwrite: cut OUT anew where thresholds or IN have changed.
        detector: a trained Detector that finds cries in place of the thresholds; a unit is then as long as the cry.
        thresholds: what a unit is.

    Raises:
        UserError: an argument is at fault, OUT was made otherwise, or no source could be read.

    Example: python -m cry_lightning acquire phone/ data/cries --figures
    """
    if name_pattern and table:
        raise UserError("argument --table: not allowed with argument --name-pattern")
    from cry_lightning.acquire.command import run

    finder = None
    if detector:
        thresholds.check_used()
        from cry_lightning.inference.windows import Finder

        finder = Finder(detector)
    return run(recordings, out, thresholds, name_pattern, table, figures, annotations, jobs, overwrite, finder)


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
    from cry_lightning.cli.reading import write_pictures

    return write_pictures(recordings, config, out, [*given, *(f"--trust={name}" for name in trust)])


@command
def prepare(
    config: Stage | None = None,
    *,
    verify: bool = False,
    list_: bool = False,
    remove: Annotated[Sequence[str], Taken("NAME")] = (),
    folder: str = "cache",
    shard: Annotated[str | None, Taken("I/N")] = None,
    overrides: Overrides = (),
) -> None:
    """Build, list, verify or remove feature caches.

    Further arguments override the YAML as in fit, e.g. --data.cache.workers=4. With --shard 1/4, 2/4 ... four machines
    that share the folder of caches build one at the same time.

    Args:
        config: build the cache of this stage.
        verify: with --config: read all audio and every row again.
        list_: what is cached, for which corpus and feature.
        remove: remove caches by the name that --list shows.
        folder: folder of the caches, for --list and --remove.
        shard: with --config: build this one of N shares of the rows.
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
    share = _share(shard)
    if shard and (verify or not config):
        raise UserError(f"--shard: builds a share of a cache, with --config and without --verify; {help_}")
    if config:
        from cry_lightning.commands.stage import check_overrides

        check_overrides(config, given)
        from cry_lightning.cli.reading import build

        build([f"--config={config}", *given], verify, share)
    if list_ or remove:
        from cry_lightning.data.inventory import look_after

        look_after(folder, list_, remove)


def _share(text: str | None) -> tuple[int, int]:
    """Number and count of the shares in "1/4"; one share where there is no text."""
    if text is None:
        return 1, 1
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--shard {text}: give its number and how many there are, from 1/4 to 4/4 for four")
    return int(number), int(count)


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
    from cry_lightning.download.archives import run

    return run(corpus, to, from_, sha256, accept_unverified)


@command
def weights(
    action: Literal["list", "get"],
    names: Annotated[Sequence[str], Taken("NAME")] = (),
    *,
    file: Path | None = None,
    to: Annotated[Path | None, Taken("CKPT")] = None,
    sha256: Annotated[str | None, Taken("HASH")] = None,
    accept_unverified: bool = False,
) -> dict[str, Path]:
    """Published weights by name: list them, or get them as encoder checkpoints.

    A file is verified by its hash, then imported as by import-weights. What the weights were trained on is not known
    here: evaluation says UNKNOWN LINEAGE of what is built on them.

    Args:
        action: list tells what there is, get makes the checkpoints.
        names: which to get.
        file: take this published file instead of fetching it; for one name.
        to: the checkpoint to be written, for one name (default: runs/weights/NAME.ckpt, where recipes look for it).
        sha256: the hash that the published file must have, for one name.
        accept_unverified: take a file whatever its hash is; the hash is printed, and kept in a checkpoint that is
            imported from it.

    Returns: name -> its checkpoint.

    Raises:
        UserError: an argument makes no sense, or a file cannot be had, verified or imported.

    Example: python -m cry_lightning weights get vggish
    """
    from cry_lightning.download.weights import get, places, table

    if action == "list":
        if names or file or to:
            raise UserError("weights list: takes no further arguments; weights get NAME gets one")
        print(table())
        return places()
    if not names or set(names) - WEIGHTS.keys():
        unknown = ", ".join(name for name in names if name not in WEIGHTS) or "nothing is named"
        raise UserError(f"weights get: {unknown}; there are {', '.join(WEIGHTS)}")
    if len(names) > 1 and (file or to or sha256):
        raise UserError("weights get: --file, --to and --sha256 are of one file: name one at a time")
    return {name: get(name, file, to, sha256, accept_unverified) for name in names}


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
