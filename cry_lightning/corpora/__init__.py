"""Where clips come from: a Corpus lists Clips and decodes nothing."""

from cry_lightning.corpora.base import Corpus as Corpus, Union as Union
from cry_lightning.corpora.clip_lists import AudioSet as AudioSet, VGGSound as VGGSound
from cry_lightning.corpora.clips import Clip as Clip, Clips as Clips
from cry_lightning.corpora.cries import BabyChillanto as BabyChillanto, CryCeleb as CryCeleb, DonateACry as DonateACry
from cry_lightning.corpora.intervals import Intervals as Intervals
from cry_lightning.corpora.manifest import Manifest as Manifest, corpus_at as corpus_at
from cry_lightning.corpora.synthetic import SyntheticCries as SyntheticCries, SyntheticWords as SyntheticWords
from cry_lightning.corpora.trees import ClassFolders as ClassFolders, UnlabelledTree as UnlabelledTree
from cry_lightning.corpora.words import FSDD as FSDD, Keywords as Keywords, SpeechCommands as SpeechCommands
