"""Whether a model was tested on what a stage of it was trained on; whether its figures are of synthetic sounds."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from cry_lightning.console import UserError, clip_in_words, counted, first_few
from cry_lightning.lineage.acoustic_fingerprint import Landmarks, alike, decoded, of_no_device
from cry_lightning.lineage.recorded import fingerprint
from cry_lightning.lineage.records import (
    FILE,
    NO_FILE,
    AnyLineage,
    FoldedLineage,
    Sounds,
    StageRecord,
    near_fingerprint,
    subject_fingerprint,
)
from cry_lightning.lineage.sketch import Sketch, Stretches
from cry_lightning.lineage.spelling import NEAR

MAX_REPORTED = 3  # overlaps, since a cross-validation has one for each fold; and clips that are named
Status = Literal["CLEAN", "SUBJECTS UNKNOWN", "UNKNOWN LINEAGE", "LEAKY"]
ORDER: list[Status] = ["CLEAN", "SUBJECTS UNKNOWN", "UNKNOWN LINEAGE", "LEAKY"]  # what weighs more comes later
TRAINED, CHOSE, NOISE = "trained on", "used to choose the checkpoint", "used as augmenting noise"
SUBJECT, CONTENT, ACOUSTIC = "subject", "content", "acoustic fingerprint"  # what a leak is found by
REMEDY = (
    "state whose recording each is: subject_pattern finds it in the paths, and a manifest.csv has a column `subject`;"
    " stages that were trained without are then trained anew"
)
OTHERS = (
    "none of their sounds is; if they are other infants of the same ids, they need a `collection` of their own, and a"
    " new training"
)
PARTS = "none of their clips is, but other parts of the same recordings"
SYNTHETIC_COLLECTIONS = ("synthetic-cries", "synthetic-words")  # as subjects and stages name them
SYNTHETIC_CORPORA = ("SyntheticCries", "SyntheticWords")  # as configs do, whatever name a corpus is given there
SYNTHETIC = "The recordings are synthetic, made by a program: figures of this model say nothing about infants."


class Leak(NamedTuple):
    """A tested clip, and whom or what a stage had."""

    clip: str
    subject: str
    use: str  # that the stage made of it
    found_by: str
    other: str  # fingerprint of the subject, or of the hash of the recording, that the stage had
    other_clip: str = ""  # a clip of that recording, where the same table predicts one beside those that are tested


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
    noise_clips: int = 0  # the same of what augmentation added
    alike: dict[str, list[str]] = field(default_factory=dict)  # use -> tested clips that sound like what had it
    compared: bool = False  # whether all sounds were
    same_files: bool = False  # whether any of them is of a file that was met, too
    leaks: Sequence[Leak] = field(default=(), repr=False)  # all of it

    def __bool__(self) -> bool:
        """Whether anything is shared."""
        counts = (self.subjects, self.validation_subjects, self.clips, self.validation_clips, self.noise_clips)
        return any(counts) or any(self.alike.values())

    def __str__(self) -> str:
        """What is shared, in words."""
        shared = [
            (self.subjects, self.of_subjects, f"tested subjects {TRAINED}"),
            (self.validation_subjects, self.of_subjects, f"tested subjects {CHOSE}"),
            (self.clips, self.of_clips, f"tested clips {TRAINED} (found by {CONTENT})"),
            (self.validation_clips, self.of_clips, f"tested clips {CHOSE} (found by {CONTENT})"),
            (self.noise_clips, self.of_clips, f"tested clips {NOISE} (found by {CONTENT})"),
        ]
        for use, clips in self.alike.items():
            named = first_few([*map(clip_in_words, clips)], MAX_REPORTED, "; ", "; and")
            shared.append((len(clips), self.of_clips, f"tested clips {use} (found by {ACOUSTIC}: {named})"))
        counts = ", ".join(f"{count} of {total} {text}" for count, total, text in shared if count)
        by_sound = self.clips or self.validation_clips or self.noise_clips or any(self.alike.values())
        others = f" ({PARTS if self.same_files else OTHERS})" if self.compared and not by_sound else ""
        return f"{counts}: stage {self.stage} on {self.corpus}{others}"


@dataclass(frozen=True)
class Leakage:
    """The verdict on one run, and what it rests on."""

    status: Status
    overlaps: list[Overlap]
    unknown: str = ""  # why the lineage does not tell all
    uncalibrated: bool = False  # the scores rank, but are no probabilities
    unknown_subjects: str = ""  # whose subjects are not known
    remarks: Sequence[str] = ()  # what may be wrong

    @property
    def reason(self) -> str:
        """What was found, or why nothing can be ruled out; empty when clean."""
        reported = [str(overlap) for overlap in self.overlaps[:MAX_REPORTED]]
        if len(self.overlaps) > MAX_REPORTED:
            reported.append(f"{len(self.overlaps) - MAX_REPORTED} more such")
        if self.unknown_subjects:
            reported.append(f"{self.unknown_subjects}, so that one infant may be on both sides: {REMEDY}")
        return "; ".join([*reported, *([self.unknown] if self.unknown else [])])

    @property
    def leaks(self) -> pd.DataFrame:
        """A row for each tested clip and each subject or recording of a stage that it was met by."""
        rows = [(one.stage, one.corpus, *leak) for one in self.overlaps for leak in one.leaks]
        return pd.DataFrame(rows, columns=["stage", "corpus", *Leak._fields]).drop_duplicates()


def check(predictions: pd.DataFrame, lineage: AnyLineage | None) -> Leakage:
    """Compare the subjects and sounds in `predictions` with those of every stage of the lineage.

    Predictions on validation rows have by their nature chosen the checkpoint of the run's own (last) stage: that alone
    does not count against them. The same sound is found as stretches that overlap in files of the same bytes, and in
    other files by its landmarks (`acoustic_fingerprint`).

    Args:
        predictions: clip, subject, split and `subject_source` (how the subject is known; blank: not recorded).
        lineage: of the model that made them.
    """
    if lineage is None:
        return Leakage("UNKNOWN LINEAGE", [], unknown=NO_FILE)
    if isinstance(lineage, FoldedLineage):
        folds = predictions.groupby(["repeat", "fold"])
        return worst([check(rows, lineage.of_fold(str(repeat), str(fold))) for (repeat, fold), rows in folds])
    tested = Tested(predictions, lineage.test_clips)
    on_validation = (predictions["split"] == "val").all()
    overlaps = []
    for stage in lineage.stages:
        if on_validation and stage is lineage.stages[-1]:
            stage = replace(stage, validation_subjects=[], validation_clips=[])
        if overlap := tested.overlap(stage):
            overlaps.append(overlap)
    unknown = lineage.unknown or _cannot_be_compared(tested.sounds, lineage.stages) or _miscounted(lineage.stages)
    whose = " and ".join(
        [*tested.unknown_subjects(), *(text for stage in lineage.stages for text in _unknown_in(stage))]
    )
    found = {"LEAKY": bool(overlaps), "UNKNOWN LINEAGE": bool(unknown), "SUBJECTS UNKNOWN": bool(whose)}
    status = max((name for name in ORDER if found.get(name, True)), key=ORDER.index)
    remarks = [
        *map(_unlearned, lineage.stages[-1:]),
        *tested.namesakes(lineage.stages),
        *tested.near_namesakes(lineage.stages),
        *map(_sketched, lineage.stages),
    ]
    return Leakage(status, overlaps, unknown, lineage.uncalibrated, whose, list(filter(None, remarks)))


class Tested:
    """The tested rows, hashed as those of the stages are.

    Args:
        predictions: as of `check`.
        content: clip -> its sound, as of `sound_fingerprint`.
    """

    def __init__(self, predictions: pd.DataFrame, content: dict[str, str]) -> None:
        blank = pd.Series("", predictions.index)
        self.rows = predictions[["clip", "subject"]].assign(source=predictions.get("subject_source", blank))
        self.rows = self.rows.drop_duplicates("clip")
        whose = self.rows[["subject", "source"]].drop_duplicates("subject").itertuples(index=False)
        # As they are spelled too, which is what older releases recorded.
        self.subjects = {name: (subject_fingerprint(name, source), fingerprint(name)) for name, source in whose}
        self.sounds = self.rows["clip"].map(content)
        self.known = self.sounds.dropna()
        self.content = content

    @cached_property
    def others(self) -> dict[str, str]:
        """Files of clips that are predicted beside those that are tested, and a clip of each."""
        tested = set(self.rows["clip"])
        return {sound.partition("#")[0]: clip for clip, sound in self.content.items() if clip not in tested}

    @cached_property
    def located(self) -> Stretches:
        """Where the tested sounds lie in their files."""
        return Stretches.of(self.known.tolist())

    @cached_property
    def landmarks(self) -> Landmarks:
        """How they sound, without devices."""
        return of_no_device(decoded(self.known.tolist()))

    def overlap(self, stage: StageRecord) -> Overlap:
        """What is shared with a stage."""
        uses: dict[str, Sounds] = {TRAINED: stage.clips, CHOSE: stage.validation_clips, NOISE: stage.noise}
        located = {use: _located(sounds) for use, sounds in uses.items()}
        found = {use: self.located.found_in(theirs) for use, theirs in located.items()}
        counts = {use: int(places.sum()) for use, places in found.items()}
        alike = {use: self._alike(use, sounds) for use, sounds in uses.items()}
        whose = {TRAINED: self._shared(stage.subjects), CHOSE: self._shared(stage.validation_subjects)}
        leaks = [leak for use, shared in whose.items() for leak in self._of_subjects(use, shared)]
        leaks += [leak for use, places in found.items() for leak in self._same(use, np.flatnonzero(places))]
        return Overlap(
            stage=stage.stage,
            corpus=stage.corpus,
            subjects=len(whose[TRAINED]),
            validation_subjects=len(whose[CHOSE]),
            clips=counts[TRAINED],
            validation_clips=counts[CHOSE],
            of_subjects=len(self.subjects),
            of_clips=len(self.sounds),
            noise_clips=counts[NOISE],
            compared=not (_sketched(stage) or _cannot_be_compared(self.sounds, [stage])),
            same_files=any(np.isin(self.located.file, theirs.file).any() for theirs in located.values()),
            alike={use: list(dict.fromkeys(leak.clip for leak in those)) for use, those in alike.items() if those},
            leaks=[*leaks, *(leak for those in alike.values() for leak in those)],
        )

    def _alike(self, use: str, sounds: Sounds) -> list[Leak]:
        """Those that sound like any of others, with each file that they do."""
        if not len(sounds):
            return []
        theirs = sounds.known if isinstance(sounds, Sketch) else sounds
        pairs = alike(self.landmarks, theirs).tolist()
        files = theirs.files if isinstance(theirs, Landmarks) else theirs
        named = dict.fromkeys((place, files[other].partition("#")[0]) for place, other in pairs)
        return [self._leak(self.known.index[place], use, ACOUSTIC, file) for place, file in named]

    def _same(self, use: str, places: np.ndarray) -> list[Leak]:
        """Those at some places among the known sounds, whose very file was met."""
        files = (self.known.iloc[place].partition("#")[0] for place in places)
        return [self._leak(row, use, CONTENT, file) for row, file in zip(self.known.index[places], files, strict=True)]

    def _of_subjects(self, use: str, shared: dict[str, str]) -> list[Leak]:
        """The clips of some subjects, each with its fingerprint."""
        whose = self.rows["subject"][self.rows["subject"].isin(shared.keys())]
        return [self._leak(row, use, SUBJECT, shared[subject]) for row, subject in whose.items()]

    def _leak(self, row: Hashable, use: str, found_by: str, other: str) -> Leak:
        clip, subject = (str(self.rows.at[row, column]) for column in ("clip", "subject"))
        return Leak(clip, subject, use, found_by, other, self.others.get(other, ""))

    def _shared(self, subjects: Iterable[str]) -> dict[str, str]:
        """Tested subjects that are among others, each with the fingerprint that it has there."""
        theirs = {subject.partition("/")[0] for subject in subjects}
        same = ((name, one.partition("/")[0]) for name, ours in self.subjects.items() for one in ours)
        return {name: whole for name, whole in same if whole in theirs}

    def unknown_subjects(self) -> list[str]:
        """Of how many tested clips the subject is not known, in words."""
        n_unknown = int((self.rows["source"] == "unknown").sum())
        return [f"the subjects of {n_unknown} of {len(self.rows)} tested clips are not known"] if n_unknown else []

    def namesakes(self, stages: Sequence[StageRecord]) -> list[str]:
        """Tested subjects whose id is that of others that were trained on, in another collection, in words."""
        ids = {ours[0].split("/")[1]: name for name, ours in self.subjects.items() if "/" in ours[0]}
        found = []
        for stage in stages:
            theirs = dict(subject.split("/")[:2] for subject in stage.subjects if "/" in subject)
            ours = {one[0].partition("/")[0] for one in self.subjects.values()}
            same = sorted(ids[own] for subject, own in theirs.items() if subject not in ours and own in ids)
            if same:
                of = f"of {len(self.subjects)} tested subjects"
                found.append(
                    f"{counted(len(same), f'{of} bears', f'{of} bear')} the id of one that stage {stage.stage}"
                    f" was trained on in another collection, first {same[0]}. If these are the same infants, give both"
                    " corpora the same `collection`."
                )
        return found

    def near_namesakes(self, stages: Sequence[StageRecord]) -> list[str]:
        """Tested subjects whose id is nearly spelled as that of others of the same collection, in words."""
        found = []
        for stage in stages:
            used = [*stage.subjects, *stage.validation_subjects]
            equal, near = {one.partition("/")[0] for one in used}, {*filter(None, map(near_fingerprint, used))}
            ours = ((name, one) for name, (one, _) in self.subjects.items() if one.partition("/")[0] not in equal)
            if same := sorted(name for name, one in ours if near_fingerprint(one) in near):
                of = f"of {len(self.subjects)} tested subjects"
                found.append(
                    f"{counted(len(same), f'{of} has', f'{of} have')} an id that differs in {NEAR} alone from one that"
                    f" stage {stage.stage} used, first {same[0]}. If these are the same infants, spell them in one way,"
                    " and train anew."
                )
        return found


def _unlearned(stage: StageRecord) -> str:
    """The classes that it could not learn, in words; empty where there is none."""
    named = " nor of ".join(stage.untrained)
    return f"Stage {stage.stage} was trained on no clip of {named}, and cannot have learned it." if named else ""


def _sketched(stage: StageRecord) -> str:
    """What a sketch of its clips can tell, in words; empty where all are kept."""
    sketches = [one for one in (stage.clips, stage.validation_clips) if isinstance(one, Sketch)]
    return f"Of stage {stage.stage} on {stage.corpus}, {'; and '.join(map(str, sketches))}." if sketches else ""


def _unknown_in(stage: StageRecord) -> list[str]:
    n_unknown, n_all = (stage.subject_sources or {}).get("unknown", 0), sum((stage.subject_sources or {}).values())
    if not n_unknown:
        return []
    of = f"of {n_all} subjects of stage {stage.stage} on {stage.corpus}"
    return [f"{counted(n_unknown, f'{of} is', f'{of} are')} not known"]


def _cannot_be_compared(sounds: pd.Series, stages: list[StageRecord]) -> str:
    """Why the tested sounds and those of the stages cannot all be compared, in words; empty where they can."""
    if unseen := int(sounds.isna().sum()):
        return f"{unseen} of {len(sounds)} tested clips have no content fingerprint in {FILE}"
    for stage in stages:
        of_stage = [one for one in (stage.clips, stage.validation_clips) if not isinstance(one, Sketch)]
        if stage.subject_sources is None or not all(sound.count("#") == 2 for one in of_stage for sound in one):
            return (
                f"stage {stage.stage} was trained with an older release, which did not record how its sounds are found"
                " again nor how its subjects are known: fit it again"
            )
    if not sounds.str.count("#").eq(2).all():
        return f"{FILE} is by an older release, which did not record how sounds are found again: test again"
    return ""


def _miscounted(stages: list[StageRecord]) -> str:
    """Which stage does not list the subjects that it counts, or of its clips, in words; empty where all do."""
    for stage in stages:
        n_listed = len({*stage.subjects, *stage.validation_subjects})  # fewer than names, if one is spelled in two ways
        n_counted = sum((stage.subject_sources or {}).values())
        parts = ((stage.clips, stage.subjects), (stage.validation_clips, stage.validation_subjects))
        nobody = any(len(clips) and not subjects for clips, subjects in parts)
        if nobody or n_listed > n_counted or bool(n_listed) != bool(n_counted):
            listed = f"lists {n_listed}{' and none of some clips' * nobody}"
            return f"stage {stage.stage} counts {counted(n_counted, 'subject')} and {listed}: {FILE} was changed"
    return ""


def worst(verdicts: Sequence[Leakage]) -> Leakage:
    """One verdict on the folds of a cross-validation: leaky if one is, clean if all are."""
    return Leakage(
        max((verdict.status for verdict in verdicts), key=ORDER.index),
        [overlap for verdict in verdicts for overlap in verdict.overlaps],
        next((verdict.unknown for verdict in verdicts if verdict.unknown), ""),
        any(verdict.uncalibrated for verdict in verdicts),
        next((verdict.unknown_subjects for verdict in verdicts if verdict.unknown_subjects), ""),
        list(dict.fromkeys(remark for verdict in verdicts for remark in verdict.remarks)),
    )


def count_shared(tested: Iterable[str], trained: Sounds) -> int:
    """How many of some sounds share a stretch of a file with any of others, all as from `sound_fingerprint`."""
    return int(Stretches.of(tested).found_in(_located(trained)).sum())


def _located(sounds: Sounds) -> Stretches:
    return sounds.located if isinstance(sounds, Sketch) else Stretches.of(sounds).merged()


def refuse_leaky(verdicts: Iterable[tuple[str, Leakage]], way_out: str) -> None:
    """Refuse runs, each with its name, that were trained on what they are tested on.

    Raises:
        UserError: naming each of them, what is shared, and the way out.
    """
    leaky = [f"{name}: LEAKY, {leakage.reason}" for name, leakage in verdicts if leakage.status == "LEAKY"]
    if leaky:
        raise UserError(f"{'; '.join(leaky)}. {way_out}")


def synthetic_warning(last: Iterable[StageRecord], subjects: Iterable[str] = (), corpus: object = None) -> str:
    """The sentence that says so; empty where nothing known is synthetic.

    Args:
        last: stage of each model, which set its classifier.
        subjects: whose recordings are tested.
        corpus: of the last stage, as its config has it.
    """
    trained = any(stage.corpus in SYNTHETIC_COLLECTIONS for stage in last)
    tested = any(subject.partition(":")[0] in SYNTHETIC_COLLECTIONS for subject in subjects)
    return SYNTHETIC if trained or tested or is_synthetic(corpus) else ""


def is_synthetic(corpus: object) -> bool:
    """Whether a corpus in a config, or a member of it, is one of ours that a program makes."""
    if isinstance(corpus, list | tuple):
        return any(map(is_synthetic, corpus))
    if not isinstance(corpus, Mapping):
        return False
    return str(corpus.get("class_path")).rpartition(".")[2] in SYNTHETIC_CORPORA or any(
        map(is_synthetic, corpus.values())
    )
