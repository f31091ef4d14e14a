"""`python -m cry_lightning acquire`: recordings of any container in, cry units, a manifest and figures out."""

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cry_lightning import annotations, audio
from cry_lightning.acquire import inputs
from cry_lightning.acquire.inputs import Finder, Identities, Identity, Record, cut, done, folder_name
from cry_lightning.acquire.settings import SAMPLE_RATE, UNUSED, Settings
from cry_lightning.audio import what_it_is
from cry_lightning.commands.arguments import check_folder
from cry_lightning.console import UserError, counted, first_few, printable, progress_bar
from cry_lightning.corpora.listing import find_recordings
from cry_lightning.files import Json, read_object, replacing, write_json

log = logging.getLogger(__name__)
PROVENANCE = "settings.json"  # in OUT
MAX_TOLD = 20  # refused sources in the terminal; the file has them all
MANIFEST, SOURCES = "manifest.csv", "sources.csv"
MAX_LABELS = 12  # in the terminal
N_COLUMNS = 1500  # at most, whatever the length of the recording
SHORTEST_COLUMN_S = 0.02
N_FFT = 512
RANGE_DB = 70.0
TOP_HZ = 6000.0
FIGURES, ANNOTATIONS = "figures", "annotations"  # folders in OUT


def run(
    given: Path,
    out: Path,
    thresholds: Settings,
    name_pattern: str | None,
    table: Path | None,
    figures: bool,
    annotations: str | None,
    jobs: int,
    overwrite: bool,
    finder: Finder | None = None,
) -> pd.DataFrame:
    """Run the command; sources that cannot be used are reported with the reason, the rest goes on."""
    root, sources = find_sources(given)
    check_out(out, given)
    if table:
        identities = inputs.by_table(table, sources)
    else:
        identities = inputs.by_pattern(name_pattern, sources) if name_pattern else inputs.by_form(root, sources)
    detector = {"detector": finder.digest} if finder else {}
    is_new = not (out / PROVENANCE).exists()
    begin(out, {"in": str(given.resolve())} | asdict(thresholds) | detector, overwrite)
    records, refused = acquire(root, sources, out, thresholds, figures, jobs, finder)
    if is_new and not records:  # so that OUT is free for other recordings
        shutil.rmtree(out, ignore_errors=True)
        if len(refused) > 1:
            report_refused(refused)
        raise none_read(refused)
    inputs.warn_of_unnamed(identities, [one["source"] for one in records if one["units"]], root)
    overview, units = source_table(records, refused), unit_table(records, identities)
    write(overview, out / SOURCES)
    if units.empty:  # an empty manifest is no corpus, an older one would be false
        (out / MANIFEST).unlink(missing_ok=True)
    else:
        write(units, out / MANIFEST)
    if annotations:
        annotate(records, sources, out, annotations)
    see = f", see {out / SOURCES}"
    if not records:
        raise none_read(refused, see)
    if refused:
        report_refused(refused, see)
    print(as_text(overview, units))
    print(out / (SOURCES if units.empty else MANIFEST))
    return units


def find_sources(given: Path) -> tuple[Path, list[str]]:
    """The folder that sources are relative to, and the sources.

    Raises:
        UserError: there is none.
    """
    if given.is_file():
        return given.parent, [given.name]
    if not given.is_dir():
        kind = f"is {what_it_is(given)}" if given.exists() else "no such file or folder"
        raise UserError(f"{given}: {kind}; give a recording, or a folder of them")
    return given, find_recordings(given)


def check_out(out: Path, given: Path) -> None:
    """Refuse a folder whose units would be sources at the next run.

    Raises:
        UserError: it lies within IN, or cannot be a folder.
    """
    check_folder("OUT", out)
    if given.is_dir() and out.resolve().is_relative_to(given.resolve()):
        raise UserError(f"{out}: lies within {given}, where its units would pass for recordings; name another OUT")


def begin(out: Path, provenance: Mapping[str, object], overwrite: bool) -> None:
    """Note in OUT what its units are made of; thresholds that a detector does not use may have changed.

    Raises:
        UserError: they are made of something else, or there are other things in it.
    """
    path = out / PROVENANCE
    if not path.exists() and out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: holds something else than units; name a new folder")
    try:
        before = read_object(path, "") if path.exists() else provenance
    except UserError:
        if not overwrite:
            raise UserError(f"{path}: is damaged; give --overwrite to make {out} anew, or another OUT") from None
        before = {}
    unused = UNUSED if "detector" in provenance else ()
    known = dict.fromkeys(before) | dict(provenance)
    words = {"in": "the recordings in"}
    changed = [
        f"{words.get(key, key)} {before.get(key, 'none')}, not {'none' if value is None else value}"
        for key, value in known.items()
        if before.get(key) != value and key not in unused
    ]
    if changed and not overwrite:
        raise UserError(f"{out}: was made with {', '.join(changed)}; give --overwrite to make it anew, or another OUT")
    write_json(provenance, path)


def report_refused(refused: Mapping[str, str], see: str = "") -> None:
    """Log the sources that could not be read, with the reason; `see` tells where all of many are."""
    listed = first_few(in_words(refused), MAX_TOLD, "\n  ", "\n  and")
    log.warning("refused:\n  %s%s", listed, see if len(refused) > MAX_TOLD else "")


def none_read(refused: Mapping[str, str], see: str = "") -> UserError:
    """The error where all sources were refused."""
    return UserError(f"none of {len(refused)} files could be read{see}; the first is {in_words(refused)[0]}")


def in_words(refused: Mapping[str, str]) -> list[str]:
    """Each source with the reason why it was refused."""
    return [printable(f"{source}: {reason}") for source, reason in refused.items()]


def unit_table(records: Sequence[Record], identities: Identities) -> pd.DataFrame:
    """A row for each unit: path, source, label, subject, what was measured, and what else is known of the source.

    `path` is relative to the manifest. A manifest's `start_s` would be where a clip begins within `path`; as a unit is
    all of its file there is none, and where it begins within `source` is `source_start_s`. A source of which no subject
    is known is its own, so that its units stay together in a split.
    """
    rows = []
    for record in records:
        source = record["source"]
        whose = identities.get(source, Identity())
        of_source = {"source": source, "label": whose.label, "subject": whose.subject or source}
        for unit in record["units"]:
            own: Json = {"path": unit["path"], **of_source, **unit}
            rows.append(own | {name: value for name, value in whose.columns.items() if name not in own})
    return pd.DataFrame(rows).fillna("")


def source_table(records: Sequence[Record], refused: Mapping[str, str]) -> pd.DataFrame:
    """A row for each source: source, duration_s, units, units_s (their length), and why it was refused."""
    rows = [
        (one["source"], one["duration_s"], len(one["units"]), sum(unit["duration_s"] for unit in one["units"]), "")
        for one in records
    ]
    rows += [(source, 0.0, 0, 0.0, reason) for source, reason in refused.items()]
    return pd.DataFrame(rows, columns=["source", "duration_s", "units", "units_s", "refused"]).sort_values("source")


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file, whole or not at all."""
    with replacing(path) as part:
        table.to_csv(part, index=False, float_format="%.9g", errors="backslashreplace")


def annotate(records: Sequence[Record], sources: Sequence[str], out: Path, form: str) -> None:
    """Write the units of each source as intervals labelled `cry` into OUT/annotations, which is made anew."""
    folder = out / ANNOTATIONS
    shutil.rmtree(folder, ignore_errors=True)
    names = dict(zip(sources, annotations.names_for(sources), strict=True))
    for record in records:
        path = folder / f"{names[record['source']]}{annotations.FORMS[form]}"
        ends = [(unit["source_start_s"], unit["source_start_s"] + unit["duration_s"]) for unit in record["units"]]
        cries = [annotations.Interval(round(begin, 6), round(end, 6), "cry") for begin, end in ends]
        annotations.write(cries, path, round(record["duration_s"], 6))


def as_text(overview: pd.DataFrame, units: pd.DataFrame) -> str:
    """What was read and what was cut of it, in a few lines."""
    read = overview[overview["refused"] == ""]
    without = counted((read["units"] == 0).sum(), "file holds", "files hold")
    lines = [
        f"{counted(len(read), 'file')} read, {_hours(read['duration_s'])}; {len(overview) - len(read)} refused",
        f"{counted(len(units), 'unit')}, {_hours(read['units_s'])}; {without} no unit",
    ]
    if units.empty:
        return "\n".join([*lines, "No unit was found: --figures shows why, the thresholds are arguments."])
    labels = units["label"].replace("", "(unlabelled)").value_counts()
    of_labels = first_few([f"{label} {count}" for label, count in labels.items()], MAX_LABELS)
    lines.append(f"{counted(units['subject'].nunique(), 'subject')}; {printable(of_labels)}")
    return "\n".join(lines)


def _hours(seconds: pd.Series) -> str:
    return f"{seconds.sum() / 3600:.2f} h" if seconds.sum() >= 360 else f"{seconds.sum():.1f} s"


def draw(source: Path, record: Record, path: Path) -> None:
    """Write the picture of a source with the units of its record marked, as PNG, in constant memory.

    Raises:
        AudioError: the source cannot be decoded.
    """
    duration_s, units = record["duration_s"], record["units"]
    column_s = max(SHORTEST_COLUMN_S, duration_s / N_COLUMNS)
    lowest, highest, power = map(np.array, zip(*map(_column, audio.blocks(source, SAMPLE_RATE, column_s)), strict=True))
    level = 10 * np.log10(np.maximum(power.T, 1e-12))
    seconds = np.arange(len(lowest)) * column_s
    figure = Figure(figsize=(11, 5), layout="constrained")
    figure.suptitle(printable(f"{record['source']}: {counted(len(units), 'unit')}"), fontsize=10, parse_math=False)
    wave, spectrogram = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.6])
    wave.fill_between(seconds, lowest, highest, step="post", linewidth=0.3)
    wave.set(ylabel="amplitude", xlim=(0, max(duration_s, column_s)))
    extent = (0.0, len(lowest) * column_s, 0.0, SAMPLE_RATE / 2)
    top = float(level.max())
    spectrogram.imshow(level, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=top - RANGE_DB, vmax=top)
    spectrogram.set(xlabel="time (s)", ylabel="frequency (Hz)", ylim=(0, TOP_HZ))
    for unit in units:
        begin, end = unit["source_start_s"], unit["source_start_s"] + unit["duration_s"]
        wave.axvspan(begin, end, color="tab:orange", alpha=0.35, linewidth=0)
        spectrogram.plot([begin, end], [0.97 * TOP_HZ] * 2, color="cyan", linewidth=4, solid_capstyle="butt")
        for axes in (wave, spectrogram):
            axes.axvline(begin, color="tab:green", linewidth=0.6)
            axes.axvline(end, color="tab:red", linewidth=0.6)
    with replacing(path) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name in letters that the font lacks
        figure.savefig(part, format="png", dpi=110)


def _column(block: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Lowest and highest sample of a block (N,), and the mean power spectrum (F,) of its frames."""
    size = min(block.size, N_FFT)
    frames = block[: block.size // size * size].reshape(-1, size)
    power = np.abs(np.fft.rfft(frames * np.hanning(size), N_FFT)) ** 2
    return float(block.min()), float(block.max()), power.mean(axis=0)


Outcome = Record | str  # or why there is none


def acquire(
    root: Path,
    sources: Sequence[str],
    out: Path,
    settings: Settings,
    figures: bool = False,
    jobs: int = 1,
    finder: Finder | None = None,
) -> tuple[list[Record], dict[str, str]]:
    """The records of all sources in a folder, and why others were refused.

    Raises:
        UserError: nothing can be written, or a process was killed.
    """
    one = partial(acquire_one, root=root, out=out, settings=settings, figures=figures, finder=finder)
    records: list[Record] = []
    refused: dict[str, str] = {}
    with _mapping(jobs) as mapped:
        outcomes = progress_bar(mapped(one, sources), "acquire", len(sources), unit="file")
        for source, outcome in zip(sources, outcomes, strict=True):
            if isinstance(outcome, str):
                refused[source] = outcome
            else:
                records.append(outcome)
    return records, refused


def acquire_one(
    source: str, root: Path, out: Path, settings: Settings, figures: bool, finder: Finder | None = None
) -> Outcome:
    """The record of a source, cut unless it was before."""
    picture = out / FIGURES / f"{folder_name(source)}.png"
    try:
        record = done(root, source, out, settings, finder)
        if record is None:
            picture.unlink(missing_ok=True)
            record = cut(root, source, out, settings, finder)
        if figures and not picture.exists():
            draw(root / source, record, picture)
    except audio.AudioError as error:
        return str(error).removeprefix(f"{root / source}: ")
    return record


@contextmanager
def _mapping(jobs: int) -> Iterator[Callable[..., Iterator[Outcome]]]:
    """A `map` that works in so many processes."""
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield pool.map
        except BrokenProcessPool as error:
            raise UserError("a process was killed, perhaps for want of memory; give fewer --jobs") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else all the rest would be done first
            raise
