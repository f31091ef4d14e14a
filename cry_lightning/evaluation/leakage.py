"""Whether a model was tested on subjects or sounds that it, or a model it came from, had learned from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from cry_lightning.errors import UserError
from cry_lightning.evaluation.fingerprints import count_heard, fingerprint
from cry_lightning.evaluation.jsonfile import read_object

Status = Literal["CLEAN", "LEAKY", "UNKNOWN LINEAGE"]
WAY_OUT = "run the test that writes it again"
STAGE_TEXTS = ("stage", "corpus")
FOLD_KEYS = {"repeat", "fold"}
MAX_TOLD = 3  # overlaps; a cross-validation has one for each fold
STAGE_LISTS = ("subjects", "clips", "validation_subjects")
LATER_LISTS: dict[str, list[str]] = {"validation_clips": []}  # which lineages of old do not tell


@dataclass(frozen=True)
class Overlap:
    """What the tested rows share with one training stage."""

    stage: str
    corpus: str
    subjects: int  # tested subjects that were trained on
    validation_subjects: int  # tested subjects that chose the checkpoint
    clips: int  # tested clips, some of whose very sound was trained on, under whatever name and subject
    validation_clips: int  # the same of what chose the checkpoint
    of_subjects: int  # how many subjects were tested
    of_clips: int

    def __str__(self) -> str:
        """What is shared, in words."""
        told = [
            (self.subjects, self.of_subjects, "tested subjects trained on"),
            (self.validation_subjects, self.of_subjects, "tested subjects used to choose the checkpoint"),
            (self.clips, self.of_clips, "tested clips trained on (found by content)"),
            (self.validation_clips, self.of_clips, "tested clips used to choose the checkpoint (found by content)"),
        ]
        counts = ", ".join(f"{count} of {total} {text}" for count, total, text in told if count)
        return f"{counts}: stage {self.stage} on {self.corpus}"


@dataclass(frozen=True)
class Leakage:
    """The verdict on one run, and what it rests on."""

    status: Status
    overlaps: list[Overlap]
    unknown: str = ""  # why the lineage does not tell all
    uncalibrated: bool = False  # the scores rank, but are no probabilities

    @property
    def reason(self) -> str:
        """What was found, or why nothing can be ruled out; empty when clean."""
        told = [str(overlap) for overlap in self.overlaps[:MAX_TOLD]]
        if len(self.overlaps) > MAX_TOLD:
            told.append(f"{len(self.overlaps) - MAX_TOLD} more such")
        return "; ".join([*told, *([self.unknown] if self.unknown else [])])


def read_lineage(path: Path) -> dict[str, Any] | None:
    """The lineage beside a predictions table, or none where there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None
    lineage = read_object(path, WAY_OUT)
    fault = _fault(lineage)
    if fault:
        raise UserError(f"{path}: {fault}; {WAY_OUT}")
    return lineage


def check(predictions: pd.DataFrame, lineage: dict[str, Any] | None) -> Leakage:
    """Compare the subjects and sounds in `predictions` with those of every stage of the lineage.

    Predictions on validation rows have by their nature chosen the checkpoint of the run's own (last) stage: that alone
    does not count against them. The same sound is found as stretches that overlap in files of the same bytes:
    re-encoded copies go unseen, which is why subjects are compared too.
    """
    if lineage is None:
        return Leakage("UNKNOWN LINEAGE", [], unknown="no lineage.json beside the predictions")
    if "folds" in lineage:
        return _of_folds(predictions, lineage["folds"])
    subjects = {fingerprint(subject) for subject in predictions["subject"].unique()}
    sounds = predictions["clip"].drop_duplicates().map(lineage["test_clips"])
    on_validation = (predictions["split"] == "val").all()

    overlaps = []
    for stage in lineage["stages"]:
        itself = on_validation and stage is lineage["stages"][-1]
        overlap = Overlap(
            stage=stage["stage"],
            corpus=stage["corpus"],
            subjects=len(subjects & set(stage["subjects"])),
            validation_subjects=0 if itself else len(subjects & set(stage["validation_subjects"])),
            clips=count_heard(sounds.dropna(), stage["clips"]),
            validation_clips=0 if itself else count_heard(sounds.dropna(), stage.get("validation_clips", [])),
            of_subjects=len(subjects),
            of_clips=len(sounds),
        )
        if any((overlap.subjects, overlap.validation_subjects, overlap.clips, overlap.validation_clips)):
            overlaps.append(overlap)

    unknown = "" if lineage["complete"] else "the training data of an earlier stage is not known"
    unknown = unknown or _cannot_be_compared(sounds, lineage["stages"])
    status: Status = "LEAKY" if overlaps else "UNKNOWN LINEAGE" if unknown else "CLEAN"
    return Leakage(status, overlaps, unknown, bool(lineage.get("uncalibrated", False)))


def sounds(lineage: dict[str, Any] | None) -> dict[str, str]:
    """What each tested clip holds, by its fingerprint, as far as it is known."""
    folds = lineage.get("folds", [lineage]) if lineage else []
    return {clip: content for fold in folds for clip, content in fold["test_clips"].items()}


def other_sound(name: str, ours: dict[str, str], other: str, theirs: dict[str, str]) -> str:
    """The first clip that is another sound in another run, in words; empty where none is known to be."""
    clip = next((clip for clip, content in ours.items() if theirs.get(clip, content) != content), None)
    return f"clip {clip} is one sound in {name} and another in {other}, by their lineage.json" if clip else ""


def _cannot_be_compared(sounds: pd.Series, stages: list[dict[str, Any]]) -> str:
    """Why the tested sounds and those of the stages cannot all be compared, in words; empty where they can."""
    if unseen := int(sounds.isna().sum()):
        return f"{unseen} of {len(sounds)} tested clips have no content fingerprint in lineage.json"
    if sounds.str.contains("#").any():
        for stage in stages:
            if not all("#" in sound for sound in stage["clips"]):
                return f"stage {stage['stage']} does not tell which stretches of files it heard: fit it again"
    return ""


def _of_folds(predictions: pd.DataFrame, lineages: list[dict[str, Any]]) -> Leakage:
    """A cross-validation, each fold compared with what its own model was trained on."""
    of_fold = {(str(lineage["repeat"]), str(lineage["fold"])): lineage for lineage in lineages}
    folds = predictions.groupby(["repeat", "fold"])
    return worst([check(rows, of_fold.get((str(repeat), str(fold)))) for (repeat, fold), rows in folds])


def worst(verdicts: list[Leakage]) -> Leakage:
    """One verdict on the folds of a cross-validation: leaky if one is, clean if all are."""
    order: list[Status] = ["CLEAN", "UNKNOWN LINEAGE", "LEAKY"]
    return Leakage(
        max((verdict.status for verdict in verdicts), key=order.index),
        [overlap for verdict in verdicts for overlap in verdict.overlaps],
        next((verdict.unknown for verdict in verdicts if verdict.unknown), ""),
        any(verdict.uncalibrated for verdict in verdicts),
    )


def _fault(lineage: Any) -> str | None:
    """What keeps parsed JSON from being a lineage, in words."""
    if not isinstance(lineage, dict):
        return "is not a JSON object"
    if "folds" in lineage:
        folds = lineage["folds"]
        known = isinstance(folds, list) and all(isinstance(fold, dict) and fold.keys() >= FOLD_KEYS for fold in folds)
        if not known or any("folds" in fold for fold in folds):
            return "'folds' is not a list of lineages, each with its repeat and fold"
        return next(filter(None, map(_fault, folds)), None)
    if not isinstance(lineage.get("complete"), bool):
        return "'complete' is not true or false"
    clips = lineage.get("test_clips")
    if not isinstance(clips, dict) or not all(isinstance(sound, str) for sound in clips.values()):
        return "'test_clips' is not an object of clip names and fingerprints"
    stages = lineage.get("stages")
    if not isinstance(stages, list) or (lineage["complete"] and not stages):
        return "'stages' is not a list that holds at least the run's own stage"
    for number, stage in enumerate(stages):
        if not isinstance(stage, dict) or not all(isinstance(stage.get(key), str) for key in STAGE_TEXTS):
            return f"stages[{number}] has no {' and '.join(STAGE_TEXTS)}"
        for key in (*STAGE_LISTS, *LATER_LISTS):
            texts = (LATER_LISTS | stage).get(key)
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                return f"stages[{number}]: {key!r} is not a list of fingerprints"
    return None
