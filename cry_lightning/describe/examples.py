"""One clip for each class, chosen by its level, as sound and as feature."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cry_lightning import audio
from cry_lightning.corpora.levels import measure as levels_of
from cry_lightning.describe.counts import AT_MOST, UNLABELLED
from cry_lightning.features import Feature

LONGEST_S = 10.0  # of a longer clip, the centre is shown
SHORTEST_S = 0.1  # a shorter clip is padded: front ends want a frame or two


@dataclass(frozen=True)
class Example:
    """A clip of a class."""

    label: str
    waveform: np.ndarray  # (N,) at the feature's sample rate
    feature: np.ndarray  # (F, T), the first channel


def choose(clips: pd.DataFrame, recordings: pd.DataFrame, paths: Mapping[str, Path]) -> pd.DataFrame:
    """A row of `clips` for each class: the clip of median level in the recording of median level.

    Of more than 12 classes, those with the most clips; without any label, one clip of all.

    Args:
        clips: as from `clip_table`, usable ones only.
        recordings: as from `survey`; what was not decoded is not chosen.
        paths: recording -> file.
    """
    heard = clips[clips["recording"].map(recordings["rms_dbfs"]).notna()]
    if (labelled := heard["class"] != UNLABELLED).any():
        heard = heard[labelled]
    counts = heard["class"].value_counts().sort_index()  # of equally many clips, the first by name
    common = counts.sort_values(ascending=False, kind="stable").index[:AT_MOST]
    chosen = []
    for _, own in heard[heard["class"].isin(common)].groupby("class", observed=True):
        recording = median(recordings.loc[own["recording"].unique(), "rms_dbfs"])
        of_one = own[own["recording"] == recording].sort_values(["start_s", "duration_s"])
        if len(of_one) == 1:
            chosen.append(of_one.index[0])
        else:
            spans = list(zip(of_one["start_s"], of_one["duration_s"], strict=True))
            chosen.append(median(pd.Series(levels_of(paths[recording], spans), of_one.index)))
    return clips.loc[chosen]


def median(levels: pd.Series) -> Any:
    """The index of the median level, the lower of two; equal levels in the order of the index."""
    return levels.sort_index().sort_values(kind="stable").index[(len(levels) - 1) // 2]


def example(clip: pd.Series, path: Path, feature: Feature) -> Example:
    """One row of `clips` decoded.

    Raises:
        AudioError: the clip is silent.
        UserError: the front end cannot take it.
    """
    shown_s = min(max(clip["duration_s"], SHORTEST_S), LONGEST_S)
    waveform = audio.load_fitted(path, feature.sample_rate, shown_s, "pad", clip["start_s"], clip["duration_s"])
    with torch.inference_mode():
        return Example(clip["class"], waveform, feature(torch.from_numpy(waveform)[None])[0, 0].numpy())
