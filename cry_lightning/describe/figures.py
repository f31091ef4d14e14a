"""Waveform and feature of one clip of each class."""

import math
import textwrap
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cry_lightning import audio
from cry_lightning.corpora.levels import measure as levels_of
from cry_lightning.describe.summary import AT_MOST, UNLABELLED
from cry_lightning.evaluation.drawing import COLOUR_RANGE
from cry_lightning.features import EfficientATLogMel, Fbank, Feature, LogMel, VGGishLogMel
from cry_lightning.features.spectrogram import Spectrogram

LONGEST_S = 10.0  # of a longer clip, the centre is shown
SHORTEST_S = 0.1  # a shorter clip is padded: front ends want a frame or two
ACROSS = 4
N_TICKS = 5
TITLE_WIDTH = 30  # characters


@dataclass(frozen=True)
class Example:
    """A clip of a class."""

    label: str
    waveform: np.ndarray  # (N,)
    sample_rate: int  # Hz
    feature: np.ndarray  # (F, T), the first channel


def choose(clips: pd.DataFrame, recordings: pd.DataFrame, paths: Mapping[str, Path]) -> pd.DataFrame:
    """A row of `clips` for each class: the clip of median level in the recording of median level.

    Of more than 12 classes, those with the most clips; without any label, one clip of all.

    Args:
        clips: as from `clip_table`, usable ones only.
        recordings: as from `survey`; what was not decoded is not chosen.
        paths: recording -> file.
    """
    decoded = clips[clips["recording"].map(recordings["rms_dbfs"]).notna()]
    if (labelled := decoded["class"] != UNLABELLED).any():
        decoded = decoded[labelled]
    counts = decoded["class"].value_counts().sort_index()  # of equally many clips, the first by name
    common = counts.sort_values(ascending=False, kind="stable").index[:AT_MOST]
    chosen: list[Hashable] = []
    for _, own in decoded[decoded["class"].isin(common)].groupby("class", observed=True):
        recording = median(recordings.loc[own["recording"].unique(), "rms_dbfs"])
        of_one = own[own["recording"] == recording].sort_values(["start_s", "duration_s"])
        if len(of_one) == 1:
            chosen.append(of_one.index[0])
        else:
            spans = list(zip(of_one["start_s"], of_one["duration_s"], strict=True))
            chosen.append(median(pd.Series(levels_of(paths[str(recording)], spans), of_one.index)))
    return clips.loc[chosen]


def median(levels: pd.Series) -> Hashable:
    """The index of the median level, the lower of two; equal levels in the order of the index."""
    return levels.sort_index().sort_values(kind="stable").index[(len(levels) - 1) // 2]


def example(clip: pd.Series, path: Path, feature: Feature) -> Example:
    """One row of `clips` decoded.

    Raises:
        AudioError: the clip is silent.
        UserError: the front end cannot take it.
    """
    shown_s = min(max(clip["duration_s"], SHORTEST_S), LONGEST_S)
    with audio.Recording(path) as recording:
        rate = feature.rate_of(recording.sample_rate)
        waveform = recording.fitted(rate, shown_s, "pad", clip["start_s"], clip["duration_s"])
    with torch.inference_mode():
        return Example(clip["class"], waveform, rate, feature(torch.from_numpy(waveform)[None])[0, 0].numpy())


def draw(examples: Sequence[Example], feature: Feature, title: str) -> Figure:
    """Each waveform above its feature, at most four classes across; the features share one colour scale."""
    bands = math.ceil(len(examples) / ACROSS)
    across = math.ceil(len(examples) / bands)
    panels = 1 if examples[0].feature.shape[0] == 1 else 2  # the front end may be the waveform itself
    figure = Figure(figsize=(2.8 * across + 2, 1.6 * panels * bands + 0.8), layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    grid = figure.subplots(panels * bands, across, squeeze=False, height_ratios=[1, 1.6][:panels] * bands)
    for axes in grid.ravel():
        axes.set_visible(False)
    low, high = np.percentile(np.concatenate([one.feature.ravel() for one in examples]), COLOUR_RANGE)
    for number, one in enumerate(examples):
        row, column = number // across, number % across
        own = grid[panels * row : panels * (row + 1), column]
        first = column == 0
        draw_waveform(own[0], one, first)
        if panels == 2:
            image = draw_feature(own[1], one, feature, (low, high), first)
            own[0].tick_params(labelbottom=False)
        own[-1].set_xlabel("time (s)")
    if panels == 2:
        figure.colorbar(image, ax=grid, label=unit(feature), extend="both", aspect=40, fraction=0.03)
    return figure


def draw_waveform(axes: Axes, one: Example, labelled: bool) -> None:
    """Samples against seconds, each clip up to its own peak."""
    axes.set_visible(True)
    peak = np.abs(one.waveform).max()
    seconds = np.arange(one.waveform.size) / one.sample_rate
    axes.plot(seconds, one.waveform, linewidth=0.4, rasterized=True)
    title = textwrap.fill(one.label, TITLE_WIDTH, max_lines=2, placeholder="...")
    axes.set_title(title, fontsize=11, parse_math=False)  # a class may be called what it likes, dollars included
    axes.set(xlim=(0, one.waveform.size / one.sample_rate), ylim=(-1.05 * peak, 1.05 * peak))
    axes.set_yticks([-peak, 0, peak], [f"{-peak:.2g}", "0", f"{peak:.2g}"])
    axes.tick_params(labelsize=8)
    if labelled:
        axes.set_ylabel("amplitude")


def draw_feature(axes: Axes, one: Example, feature: Feature, colours: tuple[float, float], labelled: bool) -> AxesImage:
    """Rows of the feature against seconds."""
    axes.set_visible(True)
    n_rows, low, high = one.feature.shape[0], *colours
    extent = (0, one.waveform.size / one.sample_rate, -0.5, n_rows - 0.5)
    image = axes.imshow(one.feature, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap="magma")
    ticks = np.linspace(0, n_rows - 1, N_TICKS).round().astype(int)
    axes.set_yticks(ticks, row_names(feature, ticks) if labelled else [""] * len(ticks))
    axes.tick_params(labelsize=8)
    if labelled:
        axes.set_ylabel(row_label(feature))
    return image


def row_label(feature: Feature) -> str:
    """What the rows are."""
    if isinstance(feature, Spectrogram):
        return "share of its highest frequency" if feature.own_rate else "frequency (Hz)"
    return "mel band (Hz)" if isinstance(feature, LogMel | Fbank | VGGishLogMel | EfficientATLogMel) else "coefficient"


def unit(feature: Feature) -> str:
    """What the colours stand for."""
    if isinstance(feature, VGGishLogMel):
        return "natural log of magnitude"
    levels = isinstance(feature, LogMel | Fbank | Spectrogram)
    return "level (dB)" if levels else f"{type(feature).__name__} (no unit)"


def row_names(feature: Feature, rows: np.ndarray) -> list[str]:
    """Centre frequencies of bands, or the numbers of coefficients."""
    if isinstance(feature, LogMel | Fbank | VGGishLogMel | EfficientATLogMel):
        rows = feature.mel.argmax(0).numpy()[rows] * feature.sample_rate / feature.n_fft
    elif isinstance(feature, Spectrogram):
        rows = rows / (feature.size[0] - 1)
        if feature.own_rate:  # of which each example may have another
            return [f"{row:.2g}" for row in rows]
        rows = rows * feature.sample_rate / 2
    return [f"{row:,.0f}" for row in rows]
