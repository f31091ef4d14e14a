"""Free Spoken Digit Dataset: the digits 0 to 9, fifty times by each of six speakers."""

import re
from pathlib import Path

from cry_lightning.corpora.base import Clip
from cry_lightning.corpora.trees import Tree

NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)\.", re.IGNORECASE)
N_TEST = 5  # the official test set: the first five recordings of each digit by each speaker


class FSDD(Tree):
    """The repository or its `recordings` folder; the subject is the speaker, the column `split` the official one."""

    collection = "fsdd"

    def clip_at(self, path: str) -> Clip | None:
        """The clip at `digit_speaker_index.wav`."""
        if not (name := NAME.match(Path(path).name)):
            return None
        split = "test" if int(name["index"]) < N_TEST else "train"
        return Clip(path, f"{self.collection}:{name['speaker']}", label=name["digit"], columns={"split": split})
