"""Speech Commands: 30 (v0.01) or 35 (v0.02) words, each said for one second by many speakers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from cry_lightning.corpora.base import Clip, Corpus
from cry_lightning.errors import UserError
from cry_lightning.from_torchaudio import torchaudio

LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}
BELOW = ("speech_commands_v0.0[12]", "SpeechCommands/speech_commands_v0.0[12]")  # where torchaudio unpacks it


class SpeechCommands(Corpus):
    """All words of Speech Commands, either version; the subject is the speaker, by the hash in a file's name.

    The column `split` is the corpus's own division (train, val, test), which keeps every speaker on one side.

    Args:
        root: the folder of the words and lists, or one that holds it, named by its version as torchaudio names it.

    Source: Warden 2018, "Speech Commands: a dataset for limited-vocabulary speech recognition", arXiv:1804.03209.
    """

    collection = "speech_commands"

    def recordings(self) -> list[Clip]:
        """One clip per word said, in the order of their paths.

        Raises:
            UserError: the corpus is not there, or holds files or lines of another form.
        """
        folder = self._folder()
        try:
            part_of = {path: "val" for path, *_ in _metadata(folder, "validation")}
            part_of |= {path: "test" for path, *_ in _metadata(folder, "testing")}
            said = list(_metadata(folder))
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
            for path, word, speaker in said
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
