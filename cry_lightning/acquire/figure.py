"""A recording at a glance: waveform, spectrogram, and the units found in it."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cry_lightning import audio
from cry_lightning.acquire.settings import SAMPLE_RATE
from cry_lightning.acquire.sources import Record, printable
from cry_lightning.writing import replacing

N_COLUMNS = 1500  # at most, whatever the length of the recording
SHORTEST_COLUMN_S = 0.02
N_FFT = 512
RANGE_DB = 70.0
TOP_HZ = 6000.0


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
    figure.suptitle(printable(f"{record['source']}: {len(units)} units"), fontsize=10, parse_math=False)
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
