"""All that is found out about a corpus, before anything is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from cry_lightning.corpora import Clip
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.describe.counts import choose_columns, clip_table, columns_of
from cry_lightning.describe.recordings import survey
from cry_lightning.errors import UserError


@dataclass
class Census:
    """A corpus with its recordings heard."""

    data: CryDataModule
    listed: Sequence[Clip]
    clips: pd.DataFrame  # one row per listed clip, as from `clip_table`
    columns: pd.DataFrame  # to count by, of the same clips
    recordings: pd.DataFrame  # as from `survey`
    paths: dict[str, Path]  # recording -> file
    uncounted: list[str]  # columns that are counted by only when asked for

    @cached_property
    def usable(self) -> pd.DataFrame:
        """The clips that can be used."""
        return self.clips[self.clips["fault"] == ""]

    @cached_property
    def heard(self) -> pd.DataFrame:
        """The recordings that were decoded and can be used."""
        return self.recordings[self.recordings["sound"] != ""]

    @property
    def n_unheard(self) -> int:
        """Recordings that are not in the sample, and known by their headers only."""
        return int(((self.recordings["sound"] == "") & (self.recordings["fault"] == "")).sum())


def take(data: CryDataModule, by: Sequence[str] | None, sample: int | None) -> Census:
    """Make what is made, list the clips, and hear the recordings.

    Args:
        data: whose corpus and windows; no feature is computed.
        by: columns to count by; see `choose_columns`.
        sample: decode only this many recordings.

    Raises:
        UserError: there is no such column, or nothing can be used.
    """
    corpus = data.corpus
    corpus.prepare()
    clips = corpus.clips(Path(data.cache_dir))
    columns = columns_of(clips)
    chosen = choose_columns(columns, clips, by)  # a wrong name is told before anything is decoded
    uncounted = [] if by else [str(name) for name in columns if name not in chosen]
    paths = {clip.path: corpus.path_of(clip) for clip in clips}
    recordings = survey(paths, sample)
    table = clip_table(clips, recordings, corpus.class_names())
    census = Census(data, clips, table, columns[chosen], recordings, paths, uncounted)
    if census.usable.empty:
        faults = table.loc[table["fault"] != "", ["recording", "fault"]]
        first = ": ".join(faults.iloc[0]) if len(faults) else "it lists no clip"
        raise UserError(f"corpus {corpus.name} at {corpus.root}: no clip can be used; the first, {first}")
    return census
