"""VGGSound: 10 s of YouTube videos, one of some 300 labels each."""

from pathlib import Path
from typing import Any

from cry_lightning.corpora.clip_list import ClipList, Row


class VGGSound(ClipList):
    """VGGSound by its list, vggsound.csv; the column `split` is the list's own, train or test.

    Args:
        root: folder with the clips.
        clip_list: vggsound.csv.
        name: names the run folder and the cache.

    Source: Chen et al. 2020, VGGSound: a large-scale audio-visual dataset, ICASSP.
    """

    form = "YouTube id, start in seconds, label, split"

    def __init__(self, root: str | Path, clip_list: str | Path, name: str = "vggsound", **kwargs: Any) -> None:
        super().__init__(root, clip_list, name, **kwargs)

    def row_of(self, fields: list[str]) -> Row:
        """A clip."""
        video, start_s, label, split = fields
        return Row(video, float(start_s), label, {"split": split})
