"""What a model was trained on, stage by stage, and whether it was tested on any of it. No torch."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from cry_lightning.console import UserError
from cry_lightning.files import read_object, replacing

SCHEMA = 2  # of a lineage in a checkpoint or in lineage.json; 1 had no number, and at first no validation_clips
FILE = "lineage.json"
WAY_OUT = "run the test that writes it again"
MIN_OVERLAP_S = 0.002  # names give times to the millisecond, so that neighbours may seem to share as much
MAX_REPORTED = 3  # overlaps; a cross-validation has one for each fold
Status = Literal["CLEAN", "LEAKY", "UNKNOWN LINEAGE"]


@dataclass(frozen=True)
class StageRecord:
    """Whose recordings one stage was trained on, and whose chose its checkpoint; all lists are of fingerprints."""

    stage: str
    corpus: str
    subjects: list[str]
    clips: list[str]  # as of `sound_fingerprint`
    validation_subjects: list[str]
    validation_clips: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Lineage:
    """The stages that a model went through, and what it was tested on."""

    complete: bool  # false where the training data of an earlier stage is unknown
    stages: list[StageRecord]  # oldest first
    test_clips: dict[str, str] = field(default_factory=dict)  # clip -> `sound_fingerprint`
    uncalibrated: bool = False  # the scores rank, but are no probabilities

    def of_fold(self, repeat: str, fold: str) -> "Lineage":
        """What is known of the model of one fold: all, since there is one model."""
        return self

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and checkpoints."""
        return {"schema": SCHEMA, **vars(self), "stages": [dict(vars(stage)) for stage in self.stages]}


@dataclass(frozen=True)
class FoldedLineage:
    """The lineages of the models of a cross-validation, by repeat and fold."""

    folds: dict[tuple[str, str], Lineage]

    @property
    def test_clips(self) -> dict[str, str]:
        """Those of all folds."""
        return {clip: sound for fold in self.folds.values() for clip, sound in fold.test_clips.items()}

    def of_fold(self, repeat: str, fold: str) -> Lineage:
        """What is known of the model of one fold."""
        return self.folds.get((str(repeat), str(fold)), UNKNOWN)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        folds = [{"repeat": repeat, "fold": fold, **one.as_dict()} for (repeat, fold), one in self.folds.items()]
        return {"schema": SCHEMA, "folds": folds}


UNKNOWN = Lineage(complete=False, stages=[])
AnyLineage = Lineage | FoldedLineage


def parse(content: Any) -> AnyLineage:
    """The lineage in plain data, as from `as_dict`.

    Raises:
        UserError: the data is not of that form; the message names the key.
    """
    if not isinstance(content, dict):
        raise UserError("the lineage is not a table")
    if not isinstance(schema := content.get("schema", 1), int) or schema > SCHEMA:
        raise UserError(f"'schema' is {schema}, where this version reads up to {SCHEMA}; update cry_lightning")
    if "folds" not in content:
        return _parse_one(content)
    folds = content["folds"]
    if not isinstance(folds, list) or not all(
        isinstance(one, dict) and {"repeat", "fold"} <= one.keys() for one in folds
    ):
        raise UserError("'folds' is not a list of lineages, each with its repeat and fold")
    return FoldedLineage({(str(one["repeat"]), str(one["fold"])): _parse_one(one) for one in folds})


def _parse_one(content: dict[str, Any]) -> Lineage:
    stages, clips = content.get("stages"), content.get("test_clips", {})
    if not isinstance(content.get("complete"), bool):
        raise UserError("'complete' is not true or false")
    if not isinstance(clips, dict) or not all(isinstance(sound, str) for sound in clips.values()):
        raise UserError("'test_clips' is not an object of clip names and fingerprints")
    if not isinstance(stages, list) or (content["complete"] and not stages):
        raise UserError("'stages' is not a list that holds at least the run's own stage")
    parsed = [_parse_stage(stage, f"stages[{number}]") for number, stage in enumerate(stages)]
    return Lineage(content["complete"], parsed, clips, bool(content.get("uncalibrated", False)))


def _parse_stage(content: Any, where: str) -> StageRecord:
    if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in ("stage", "corpus")):
        raise UserError(f"{where} has no stage and corpus")
    given: dict[str, Any] = {one.name: content.get(one.name) for one in fields(StageRecord)}
    given["validation_clips"] = content.get("validation_clips", [])
    for key, texts in given.items():
        if key not in ("stage", "corpus") and not _are_texts(texts):
            raise UserError(f"{where}: {key!r} is not a list of fingerprints")
    return StageRecord(**given)


def _are_texts(texts: Any) -> bool:
    return isinstance(texts, list) and all(isinstance(text, str) for text in texts)


def read(path: Path) -> AnyLineage | None:
    """The lineage beside a predictions table, or none where there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None
    content = read_object(path, WAY_OUT)
    try:
        return parse(content)
    except UserError as error:
        raise UserError(f"{path}: {error}; {WAY_OUT}") from error


def write(lineage: AnyLineage, path: Path) -> None:
    """Write a lineage whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(lineage.as_dict(), indent=1), encoding="utf-8")


def of_checkpoint(checkpoint: Mapping[str, Any]) -> Lineage:
    """The lineage that a stage wrote into its checkpoint; unknown where it wrote none.

    Raises:
        UserError: what is there is no lineage.
    """
    lineage = parse(checkpoint["lineage"]) if "lineage" in checkpoint else UNKNOWN
    if isinstance(lineage, FoldedLineage):
        raise UserError("'folds' in a checkpoint, which holds one model")
    return lineage


def union(lineages: Iterable[Lineage]) -> Lineage:
    """All stages and tested clips of several lineages, as complete as the least complete of them."""
    lineages = list(lineages)
    stages: list[StageRecord] = []
    for lineage in lineages:
        stages += [stage for stage in lineage.stages if stage not in stages]  # they may share a pretraining
    return Lineage(
        complete=all(lineage.complete for lineage in lineages),
        stages=stages,
        test_clips={clip: sound for lineage in lineages for clip, sound in lineage.test_clips.items()},
        uncalibrated=any(lineage.uncalibrated for lineage in lineages),
    )


def fingerprint(text: str) -> str:
    """First 16 hex digits of SHA-256: lets subjects be compared without being named."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sound_fingerprint(content: str) -> str:
    """Of "file#start-duration", as a cache names what a row holds: the stretch stays in clear, to find overlaps by."""
    file, hash_sign, stretch = content.partition("#")
    return fingerprint(file) + hash_sign + stretch


def count_shared(tested: Iterable[str], trained: Iterable[str]) -> int:
    """How many of some sounds share a stretch of a file with any of others, both as from `sound_fingerprint`."""
    wanted = [_located(sound) for sound in tested]
    found: dict[str, list[tuple[float, float]]] = {file: [] for file, _, _ in wanted}
    for file, start, end in map(_located, trained):
        if file in found:
            found[file].append((start, end))
    return sum(any(min(end, e) - max(start, s) > MIN_OVERLAP_S for s, e in found[file]) for file, start, end in wanted)


def _located(sound: str) -> tuple[str, float, float]:
    """File, start and end in seconds; one that is given without its stretch is a whole file of its own."""
    file, _, stretch = sound.partition("#")
    start, _, duration = (stretch or "0-end").partition("-")
    return file, float(start), math.inf if duration == "end" else float(start) + float(duration)


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

    def __bool__(self) -> bool:
        """Whether anything is shared."""
        return any((self.subjects, self.validation_subjects, self.clips, self.validation_clips))

    def __str__(self) -> str:
        """What is shared, in words."""
        shared = [
            (self.subjects, self.of_subjects, "tested subjects trained on"),
            (self.validation_subjects, self.of_subjects, "tested subjects used to choose the checkpoint"),
            (self.clips, self.of_clips, "tested clips trained on (found by content)"),
            (self.validation_clips, self.of_clips, "tested clips used to choose the checkpoint (found by content)"),
        ]
        counts = ", ".join(f"{count} of {total} {text}" for count, total, text in shared if count)
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
        reported = [str(overlap) for overlap in self.overlaps[:MAX_REPORTED]]
        if len(self.overlaps) > MAX_REPORTED:
            reported.append(f"{len(self.overlaps) - MAX_REPORTED} more such")
        return "; ".join([*reported, *([self.unknown] if self.unknown else [])])


def check(predictions: pd.DataFrame, lineage: AnyLineage | None) -> Leakage:
    """Compare the subjects and sounds in `predictions` with those of every stage of the lineage.

    Predictions on validation rows have by their nature chosen the checkpoint of the run's own (last) stage: that alone
    does not count against them. The same sound is found as stretches that overlap in files of the same bytes:
    re-encoded copies go unseen, which is why subjects are compared too.
    """
    if lineage is None:
        return Leakage("UNKNOWN LINEAGE", [], unknown=f"no {FILE} beside the predictions")
    if isinstance(lineage, FoldedLineage):
        folds = predictions.groupby(["repeat", "fold"])
        return worst([check(rows, lineage.folds.get((str(repeat), str(fold)))) for (repeat, fold), rows in folds])
    subjects = {fingerprint(subject) for subject in predictions["subject"].unique()}
    sounds = predictions["clip"].drop_duplicates().map(lineage.test_clips)
    on_validation = (predictions["split"] == "val").all()
    overlaps = []
    for stage in lineage.stages:
        if on_validation and stage is lineage.stages[-1]:
            stage = replace(stage, validation_subjects=[], validation_clips=[])
        if overlap := _overlap(stage, subjects, sounds):
            overlaps.append(overlap)
    unknown = "" if lineage.complete else "the training data of an earlier stage is not known"
    unknown = unknown or _cannot_be_compared(sounds, lineage.stages)
    status: Status = "LEAKY" if overlaps else "UNKNOWN LINEAGE" if unknown else "CLEAN"
    return Leakage(status, overlaps, unknown, lineage.uncalibrated)


def _overlap(stage: StageRecord, subjects: set[str], sounds: pd.Series) -> Overlap:
    return Overlap(
        stage=stage.stage,
        corpus=stage.corpus,
        subjects=len(subjects & {*stage.subjects}),
        validation_subjects=len(subjects & {*stage.validation_subjects}),
        clips=count_shared(sounds.dropna(), stage.clips),
        validation_clips=count_shared(sounds.dropna(), stage.validation_clips),
        of_subjects=len(subjects),
        of_clips=len(sounds),
    )


def _cannot_be_compared(sounds: pd.Series, stages: list[StageRecord]) -> str:
    """Why the tested sounds and those of the stages cannot all be compared, in words; empty where they can."""
    if unseen := int(sounds.isna().sum()):
        return f"{unseen} of {len(sounds)} tested clips have no content fingerprint in {FILE}"
    if sounds.str.contains("#").any():
        for stage in stages:
            if not all("#" in sound for sound in stage.clips):
                return f"stage {stage.stage} does not record which stretches of files it was trained on: fit it again"
    return ""


def worst(verdicts: list[Leakage]) -> Leakage:
    """One verdict on the folds of a cross-validation: leaky if one is, clean if all are."""
    order: list[Status] = ["CLEAN", "UNKNOWN LINEAGE", "LEAKY"]
    return Leakage(
        max((verdict.status for verdict in verdicts), key=order.index),
        [overlap for verdict in verdicts for overlap in verdict.overlaps],
        next((verdict.unknown for verdict in verdicts if verdict.unknown), ""),
        any(verdict.uncalibrated for verdict in verdicts),
    )


def refuse_leaky(verdicts: Iterable[tuple[str, Leakage]], way_out: str) -> None:
    """Refuse runs, each with its name, that were trained on what they are tested on.

    Raises:
        UserError: naming each of them, what is shared, and the way out.
    """
    leaky = [f"{name}: LEAKY, {leakage.reason}" for name, leakage in verdicts if leakage.status == "LEAKY"]
    if leaky:
        raise UserError(f"{'; '.join(leaky)}. {way_out}")


def other_sound(name: str, ours: AnyLineage | None, other: str, theirs: AnyLineage | None) -> str:
    """The first clip that is another sound in another run, in words; empty where none is known to be."""
    if ours is None or theirs is None:
        return ""
    known = theirs.test_clips
    clip = next((clip for clip, sound in ours.test_clips.items() if known.get(clip, sound) != sound), None)
    return f"clip {clip} is one sound in {name} and another in {other}, by their {FILE}" if clip else ""
