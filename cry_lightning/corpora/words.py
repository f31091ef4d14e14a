"""Corpora of spoken words: FSDD, Speech Commands, and keywords among the words of any of them."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from cry_lightning import audio
from cry_lightning.audio import warn_once
from cry_lightning.audio.loading import torchaudio
from cry_lightning.console import UserError
from cry_lightning.corpora.base import Corpus, Union, part_by_hash
from cry_lightning.corpora.clips import Clip, Clips
from cry_lightning.corpora.trees import Tree, UnlabelledTree

NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)\.", re.IGNORECASE)
N_TEST = 5  # the official test set: the first five recordings of each digit by each speaker
LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}
BELOW = ("speech_commands_v0.0[12]", "SpeechCommands/speech_commands_v0.0[12]")  # where torchaudio unpacks it
UNKNOWN, SILENCE = "unknown", "silence"
SHARE = 0.1
CUT_S, HOP_S = 1.0, 0.05
FLOOR_DB = -90.0  # below it lies the padding of a recording, which is no noise
REGIONS = ("train", "train", "train", "val", "test")  # the part that each fifth of a noise recording is for


class FSDD(Tree):
    """The repository or its `recordings` folder; the subject is the speaker, the column `split` the official one."""

    collection = "fsdd"

    def clip_at(self, path: str) -> Clip | None:
        """The clip at `digit_speaker_index.wav`."""
        if not (name := NAME.match(Path(path).name)):
            return None
        split = "test" if int(name["index"]) < N_TEST else "train"
        return Clip(path, f"{self.collection}:{name['speaker']}", label=name["digit"], columns={"split": split})


class SpeechCommands(Corpus):
    """All words of Speech Commands, either version; the subject is the speaker, by the hash in a file's name.

    The column `split` is the corpus's own division (train, val, test), which keeps every speaker on one side.

    Args:
        root: the folder of the words and lists, or one that holds it, named by its version as torchaudio names it.

    Source: Warden 2018, "Speech Commands: a dataset for limited-vocabulary speech recognition", arXiv:1804.03209.
    """

    collection = "speech_commands"

    def recordings(self) -> list[Clip]:
        """One clip per spoken word, in the order of their paths.

        Raises:
            UserError: the corpus is not there, or holds files or lines of another form.
        """
        folder = self._folder()
        try:
            part_of = {path: "val" for path, *_ in _metadata(folder, "validation")}
            part_of |= {path: "test" for path, *_ in _metadata(folder, "testing")}
            spoken_words = list(_metadata(folder))
        except ValueError as error:
            raise UserError(
                f"{folder}: holds a file, or a line in {' or '.join(LISTS.values())}, that is not"
                f" WORD/SPEAKER_nohash_NUMBER.wav ({error})"
            ) from error
        below = folder.relative_to(self.root)
        return [
            Clip(
                path=(below / word / Path(path).name).as_posix(),
                subject=f"{self.collection}:{speaker}",
                label=word,
                columns={"split": part_of.get(path, "train")},
            )
            for path, word, speaker in spoken_words
        ]

    def _folder(self) -> Path:
        """The folder of the word folders."""
        candidates = [self.root, *(folder for pattern in BELOW for folder in sorted(self.root.glob(pattern)))]
        found = [folder for folder in candidates if all((folder / name).is_file() for name in LISTS.values())]
        if len(found) > 1:
            raise UserError(f"{self.root}: holds {' and '.join(folder.name for folder in found)}: take one for root")
        if not found:
            raise UserError(
                f"{self.root}: not Speech Commands, which has {' and '.join(LISTS.values())} beside the folders of its"
                " words; `python -m cry_lightning download speech_commands` fetches it"
            )
        return found[0]


def _metadata(folder: Path, subset: Literal["validation", "testing"] | None = None) -> Iterator[tuple[str, str, str]]:
    """Path, word and speaker of every file in the folder, or in one of its lists."""
    folder = folder.resolve()
    # torchaudio takes the folder's name from that of the archive, less its two suffixes.
    corpus = torchaudio("datasets").SPEECHCOMMANDS
    dataset = corpus(folder.parent, url=f"{folder.name}.tar.gz", folder_in_archive="", subset=subset)
    for index in range(len(dataset)):
        path, _, word, speaker, _ = dataset.get_metadata(index)
        yield path, word, speaker


class Keywords(Union):
    """Words to be distinguished from each other, from all other words (`unknown`) and from noise (`silence`).

    `unknown` and `silence` have a tenth as many clips as the words, in each part of the corpus's own division where
    there is one. Other words are drawn at random and stay with their speaker. Of each noise recording, the first three
    fifths are for train, the fourth for val, the last for test; the subject of a cut is the fifth it lies in, so that a
    split by subject keeps fifths apart, too.

    Args:
        corpus: the words, labelled.
        words: the labels that are classes, in their order.
        noise: folder with recordings of noise, of 5 s or longer.
        name: names the run folder and the cache.
        column: holds the corpus's own division; null where it has none, or another is made.
        seed: of what is drawn.
        shares: of the speakers that are `val` and `test` by the hash of their names, as in Speech Commands; for a
            corpus without a division of its own, which has this one in `column` then.

    Source: Warden 2018, "Speech Commands: a dataset for limited-vocabulary speech recognition", section 7.1; the order
    of the classes is that of Tang & Lin 2018, "Deep residual learning for small-footprint keyword spotting".
    """

    def __init__(
        self,
        corpus: Corpus,
        words: list[str],
        noise: str | Path,
        name: str = "keywords",
        column: str | None = "split",
        seed: int = 0,
        shares: dict[str, float] | None = None,
    ) -> None:
        if shares is not None and (column is None or set(shares) != {"val", "test"}):
            raise UserError(f"Keywords: shares {shares} are those of val and test, and go into a column")
        if shares is not None and (min(shares.values()) < 0 or sum(shares.values()) >= 1):
            raise UserError(f"Keywords: shares {shares} must not be negative and sum to less than 1")
        self.corpus, self.noise = corpus, NoiseRegions(noise, name=SILENCE)
        super().__init__([self.corpus, self.noise], name)
        self.words = words
        self.column = column
        self.seed = seed
        self.shares = shares

    def class_names(self) -> list[str]:
        """Silence, unknown, then the words."""
        return [SILENCE, UNKNOWN, *self.words]

    def clips(self, levels_folder: Path = Path("cache")) -> Clips:
        """The words in the order of the corpus, then what is drawn of the other words and of the silence.

        Raises:
            UserError: the corpus has no such word or column, or there is no noise.
        """
        members = (self.corpus, self.noise)
        spoken, noise = (self._renamed(member, Clips.of(member.clips(levels_folder))) for member in members)
        if self.shares and self.column:
            spoken = Clips.of([_divided(clip, self.column, **self.shares) for clip in spoken])
            noise = Clips.of([replace(cut, columns={self.column: cut.columns["split"]}) for cut in noise])
        there = {clip.label for clip in spoken if clip.label is not None}
        if missing := [word for word in self.words if word not in there]:
            raise UserError(f"words: {self.corpus.name} has no {', '.join(missing)}, only {', '.join(sorted(there))}")
        other = there - set(self.words)
        words = [clip for clip in spoken if clip.label in self.words]
        unknown = [replace(clip, label=UNKNOWN) for clip in spoken if clip.label in other]
        silence = [replace(cut, path=f"{SILENCE}@{cut.start_s:.3f}{cut.path.removeprefix(SILENCE)}") for cut in noise]
        n_words = Counter(self._part(clip) for clip in words)
        for part, share in (self.shares or {}).items():
            if share and not n_words[part]:
                raise UserError(
                    f"corpus {self.name}: by their hashes, no speaker of the words falls to {part}; move shares"
                )
        for part in n_words:
            if absent := set(self.words) - {clip.label for clip in words if self._part(clip) == part}:
                where = f"the part {part!r}" if part else "the corpus"
                warn_once(f"corpus {self.name}: {where} has no {', '.join(sorted(absent))}: recordings are missing")
        return Clips.of([*words, *self._drawn(unknown, n_words), *self._drawn(silence, n_words)])

    def path_of(self, clip: Clip) -> Path:
        """The file that holds a clip; each cut of noise has a path, and so a level, of its own."""
        member, _, path = clip.path.partition("/")
        return super().path_of(replace(clip, path=f"{member.partition('@')[0]}/{path}"))

    def _part(self, clip: Clip) -> str:
        if self.column is None:
            return ""
        if self.column not in clip.columns:
            raise UserError(
                f"corpus {self.name}: {clip.path} has no column {self.column!r}; set `column` to null, or give `shares`"
            )
        return clip.columns[self.column]

    def _drawn(self, clips: list[Clip], n_words: Counter[str]) -> list[Clip]:
        """A tenth of the number of words in each part: those first in an order that only seed and names decide."""
        drawn = []
        for part, n in sorted(n_words.items()):
            pool = [clip for clip in clips if self._part(clip) == part]
            pool.sort(key=lambda clip: hashlib.sha256(f"{self.seed} {clip.name}".encode()).digest())
            wanted = round(SHARE * n)
            drawn += pool[:wanted]
            if len(pool) < wanted:
                what = f"{clips[0].label if clips else UNKNOWN}, {part}".rstrip(", ")
                warn_once(f"corpus {self.name}: only {len(pool)} clips of {what}; {wanted} are a tenth of the words")
        return drawn


def _divided(clip: Clip, column: str, val: float, test: float) -> Clip:
    """A clip with the part of its subject, whose name is hashed without its collection."""
    part = part_by_hash(clip.subject.partition(":")[2] or clip.subject, val, test)
    return replace(clip, columns={**clip.columns, column: part})


class NoiseRegions(UnlabelledTree):
    """Recordings of noise, each in fifths that are subjects of their own, cut into pieces of 1 s, labelled `silence`.

    Args:
        root: folder with the recordings.
        name: names the paths of its clips.
    """

    def __init__(self, root: str | Path, name: str) -> None:
        super().__init__(root, "(.+)", name=name, window_s=CUT_S, hop_s=HOP_S, min_active_db=FLOOR_DB)

    def recordings(self) -> list[Clip]:
        """The fifths of every recording that is long enough.

        Raises:
            UserError: the folder is not there, or holds no such recording, or one that cannot be read.
        """
        if not self.root.is_dir():
            raise UserError(
                f"{self.root}: no such folder; silence is cut from recordings of noise, in Speech Commands those in"
                " _background_noise_"
            )
        if not (regions := [region for clip in super().recordings() for region in self._regions(clip)]):
            raise UserError(f"{self.root}: no recording lasts {len(REGIONS) * CUT_S:g} s, to cut silence from")
        return regions

    def _regions(self, clip: Clip) -> list[Clip]:
        length_s = audio.info(self.path_of(clip)).duration_s / len(REGIONS)
        if length_s < CUT_S:
            return []
        starts_s = [index * length_s for index in range(len(REGIONS))]
        return [
            Clip(
                clip.path,
                subject=f"{clip.subject}#{start_s:.2f}-{start_s + length_s:.2f}",
                label=SILENCE,
                start_s=start_s,
                duration_s=length_s,
                columns={"split": part},
            )
            for start_s, part in zip(starts_s, REGIONS, strict=True)
        ]
