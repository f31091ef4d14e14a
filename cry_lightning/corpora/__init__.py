"""Where clips come from: a Corpus lists Clips and decodes nothing."""

from cry_lightning.corpora.base import Corpus, Union
from cry_lightning.corpora.clip_lists import AudioSet, VGGSound
from cry_lightning.corpora.clips import Clip, Clips
from cry_lightning.corpora.cries import BabyChillanto, CryCeleb, DonateACry
from cry_lightning.corpora.intervals import Intervals
from cry_lightning.corpora.manifest import Manifest, corpus_at
from cry_lightning.corpora.synthetic import SyntheticCries, SyntheticWords
from cry_lightning.corpora.trees import ClassFolders, UnlabelledTree
from cry_lightning.corpora.words import FSDD, Keywords, SpeechCommands

__all__ = [
    "FSDD",
    "AudioSet",
    "BabyChillanto",
    "ClassFolders",
    "Clip",
    "Clips",
    "Corpus",
    "CryCeleb",
    "DonateACry",
    "Intervals",
    "Keywords",
    "Manifest",
    "SpeechCommands",
    "SyntheticCries",
    "SyntheticWords",
    "Union",
    "UnlabelledTree",
    "VGGSound",
    "corpus_at",
]
