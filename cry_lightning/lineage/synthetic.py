"""Whether a model was trained last, or is tested, on what a program made: its figures then are of no infant."""

from collections.abc import Iterable, Mapping

from cry_lightning.lineage.records import StageRecord

COLLECTIONS = ("synthetic-cries", "synthetic-words")  # as subjects and stages name them
CLASSES = ("SyntheticCries", "SyntheticWords")  # as configs do, whatever name a corpus is given there
SAID = "The recordings are synthetic, made by a program: figures of this model say nothing about infants."


def in_words(last: Iterable[StageRecord], subjects: Iterable[str] = (), corpus: object = None) -> str:
    """The sentence that says so; empty where nothing known is synthetic.

    Args:
        last: stage of each model, which set its classifier.
        subjects: whose recordings are tested.
        corpus: of the last stage, as its config has it.
    """
    trained = any(stage.corpus in COLLECTIONS for stage in last)
    tested = any(subject.partition(":")[0] in COLLECTIONS for subject in subjects)
    return SAID if trained or tested or is_of_class(corpus) else ""


def is_of_class(corpus: object) -> bool:
    """Whether a corpus in a config, or a member of it, is one of ours that a program makes."""
    if isinstance(corpus, list | tuple):
        return any(map(is_of_class, corpus))
    if not isinstance(corpus, Mapping):
        return False
    return str(corpus.get("class_path")).rpartition(".")[2] in CLASSES or any(map(is_of_class, corpus.values()))
