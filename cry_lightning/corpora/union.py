"""Several corpora as one."""

from dataclasses import replace
from pathlib import Path

from cry_lightning.corpora.base import Clip, Corpus
from cry_lightning.errors import UserError


class Union(Corpus):
    """Several corpora as one, for instance words, noise and raw cries to pretrain on.

    Classes and windows are those of each member; a subject that is in several members stays one subject.

    Args:
        corpora: the members; every one needs a name of its own, which begins the paths of its clips.
        name: names the run folder and the cache.
        labels: keep the members' labels; without them, all clips are unlabelled.
    """

    collection = "union"

    def __init__(self, corpora: list[Corpus], name: str = "union", labels: bool = True) -> None:
        super().__init__(" + ".join(str(corpus.root) for corpus in corpora), name=name)  # no path, but it tells where
        self.members = {corpus.name: corpus for corpus in corpora}
        self.labels = labels
        if len(self.members) < max(1, len(corpora)):
            names = ", ".join(corpus.name for corpus in corpora) or "there is none"
            raise UserError(f"corpus {name}: each of its corpora needs a name of its own ({names}): set `name`")

    def prepare(self) -> None:
        """Make the recordings of members that are made."""
        for corpus in self.members.values():
            corpus.prepare()

    def recordings(self) -> list[Clip]:
        """Every member's clips, in the order of the members."""
        return [clip for corpus in self.members.values() for clip in self._joined(corpus, corpus.recordings())]

    def clips(self, levels_folder: Path = Path("cache")) -> list[Clip]:
        """The clips to work on, mapped and cut as each member says."""
        self.left_out.clear()
        return [clip for corpus in self.members.values() for clip in self._joined(corpus, corpus.clips(levels_folder))]

    def path_of(self, clip: Clip) -> Path:
        """The file that holds a clip."""
        name, _, path = clip.path.partition("/")
        return self.members[name].path_of(replace(clip, path=path))

    def class_names(self) -> list[str]:
        """The members' classes in their order, each once; none without labels."""
        if not self.labels:
            return []
        return list(dict.fromkeys(name for corpus in self.members.values() for name in corpus.class_names()))

    def _joined(self, corpus: Corpus, clips: list[Clip]) -> list[Clip]:
        for what, n in corpus.left_out.items():
            self.left_out[f"{what}, of {corpus.name}"] = n
        renamed = [replace(clip, path=f"{corpus.name}/{clip.path}") for clip in clips]
        return renamed if self.labels else [replace(clip, label=None) for clip in renamed]
