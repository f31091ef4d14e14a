"""Cutting recordings into units: one by one, resumable, with manifest and figures."""

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cry_lightning import annotations, audio
from cry_lightning.acquire.inputs import Finder, Identities, Identity, Record, cut, done, folder_name
from cry_lightning.acquire.settings import SAMPLE_RATE, Settings
from cry_lightning.console import UserError, counted, first_few, printable, progress_bar
from cry_lightning.files import Json, replacing

MANIFEST, SOURCES = "manifest.csv", "sources.csv"
MAX_LABELS = 12  # in the terminal
N_COLUMNS = 1500  # at most, whatever the length of the recording
SHORTEST_COLUMN_S = 0.02
N_FFT = 512
RANGE_DB = 70.0
TOP_HZ = 6000.0
FIGURES, ANNOTATIONS = "figures", "annotations"  # folders in OUT


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


def annotate(records: Sequence[Record], out: Path, form: str) -> None:
    """Write the units of each source as intervals labelled `cry` into OUT/annotations, which is made anew.

    Raises:
        UserError: two sources differ in nothing but their endings.
    """
    folder = out / ANNOTATIONS
    shutil.rmtree(folder, ignore_errors=True)
    written: dict[Path, str] = {}
    for record in records:
        source = record["source"]
        path = folder / f"{Path(source).with_suffix('')}{annotations.FORMS[form]}"
        if path in written:
            raise UserError(f"{source} and {written[path]} would have the same {path}; rename one of them")
        written[path] = source
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
