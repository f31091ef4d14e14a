"""What a model was trained on, stage by stage, in hashes: in memory, in checkpoints and in lineage.json."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeGuard

from cry_lightning.console import UserError, clip_in_words, counted, counted_plural
from cry_lightning.files import Json, nfc, read_object, sha256, write_json
from cry_lightning.lineage.recorded import fingerprint
from cry_lightning.lineage.sketch import Sketch, sketched
from cry_lightning.lineage.spelling import loose, own_part, plain

# Of a lineage in a checkpoint or in lineage.json. 1 had no number, and at first no validation_clips; 2 had subjects as
# they were spelled, and no landmarks, noise, subject sources or hashes of files; 3 had no sketches; 4 did not
# tell of subjects that are spelled nearly as others.
SCHEMA = 5
FILE, TABLE = "lineage.json", "predictions.csv"
SUBJECT = re.compile("[0-9a-f]{16}(/[0-9a-f]{8}){0,2}")
TIME = r"[0-9]{1,9}\.[0-9]{1,9}"
SOUND = re.compile(rf"[0-9a-f]{{16}}(?:#{TIME}-(?:end|{TIME})(?:#(?:[A-Za-z0-9+/]{{8}})*)?)?")
WAY_OUT = "run the test that writes it again"
NO_HASH = f"{FILE} holds no hash of its {TABLE} (an older release wrote it, or something else): test again"
NO_FILE = f"no {FILE} beside the predictions"
NO_LINEAGE = "the checkpoint holds no lineage, so it is not known what the model was trained on"
EARLIER = "the training data of an earlier stage is not known"
Sounds = list[str] | Sketch
OTHER_TABLE = f"{TABLE} is not the one that {FILE} was written for: either was edited or exchanged; test again"


@dataclass(frozen=True)
class StageRecord:
    """Whose recordings one stage was trained on, and whose chose its checkpoint; all lists are of fingerprints.

    Subjects are as of `subject_fingerprint`, sounds as of `sound_fingerprint`, or of very many clips a sketch.
    """

    stage: str
    corpus: str
    subjects: list[str]
    clips: Sounds
    validation_subjects: list[str]
    validation_clips: Sounds = field(default_factory=list)
    noise: list[str] = field(default_factory=list)  # recordings that augmentation added
    subject_sources: dict[str, int] | None = None  # how subjects are known -> how many; None: not recorded
    untrained: list[str] = field(default_factory=list)  # classes without a training clip, where others have some
    # What chose the checkpoint, of the validation: how many clips and subjects; none of either: they are the last
    # weights; None: not recorded.
    chosen_on: dict[str, int] | None = None
    probed_on: str = ""  # the corpus of these, where a probe chose it

    def as_dict(self) -> Json:
        """Plain data, for JSON and checkpoints."""
        return {key: value.as_dict() if isinstance(value, Sketch) else value for key, value in vars(self).items()}


@dataclass(frozen=True)
class Lineage:
    """The stages that a model went through, and what it was tested on."""

    complete: bool  # false where the training data of a stage is unknown
    stages: list[StageRecord]  # oldest first
    test_clips: dict[str, str] = field(default_factory=dict)  # clip -> `sound_fingerprint`
    uncalibrated: bool = False  # the scores rank, but are no probabilities
    table: str = ""  # SHA-256 of the predictions that this is the lineage of
    checkpoint: str = ""  # SHA-256 of the file that made them
    recordings: int = 0  # of the tested corpus; 0: not recorded, all that is left out are clips
    recordings_left_out: dict[str, int] = field(default_factory=dict)  # of these, what cannot be used: why -> how many
    listed: int = 0  # clips of that corpus; 0: not recorded
    left_out: dict[str, int] = field(default_factory=dict)  # of these, what other recordings have that cannot be used
    not_listed: dict[str, int] = field(default_factory=dict)  # what that corpus leaves out: what and why -> how many
    gap: str = ""  # why it is not complete, where it is no earlier stage that is unknown
    doubt: str = ""  # why this may be the lineage of something else; never written

    @property
    def unknown(self) -> str:
        """Why it does not tell all, in words; empty where it does."""
        if self.doubt or self.complete:
            return self.doubt
        return self.gap or (EARLIER if self.stages else NO_LINEAGE)

    def of_fold(self, repeat: str, fold: str) -> "Lineage":
        """What is known of the model of one fold: all, since there is one model."""
        return self

    @property
    def left_out_in_words(self) -> str:
        """What the tested corpus had to do without; empty where it was nothing, or is not recorded."""
        sentences = []
        for left_out, n, what in (
            (self.recordings_left_out, self.recordings, "recordings"),
            (self.left_out, self.listed, "clips"),
        ):
            if left_out:
                kinds = ", ".join(f"{n_kind:,} {kind}" for kind, n_kind in left_out.items())
                of = f"of {n:,} {what}"
                sentences.append(f"{counted(sum(left_out.values()), f'{of} was', f'{of} were')} left out: {kinds}.")
        others = "; ".join(counted_plural(n, what) for what, n in self.not_listed.items())
        return " ".join([*sentences, *([f"The corpus does not list {others}."] if others else [])])

    def as_dict(self) -> Json:
        """Plain data, for JSON and checkpoints."""
        plain_data = {"schema": SCHEMA, **vars(self), "stages": [stage.as_dict() for stage in self.stages]}
        del plain_data["doubt"]
        return plain_data


@dataclass(frozen=True)
class FoldedLineage:
    """The lineages of the models of a cross-validation, by repeat and fold."""

    folds: dict[tuple[str, str], Lineage]
    table: str = ""  # as of a `Lineage`, of all folds
    doubt: str = ""

    @property
    def left_out_in_words(self) -> str:
        """As of a `Lineage`: the folds divide one corpus."""
        return next((sentences for fold in self.folds.values() if (sentences := fold.left_out_in_words)), "")

    @property
    def test_clips(self) -> dict[str, str]:
        """Those of all folds."""
        return {clip: sound for fold in self.folds.values() for clip, sound in fold.test_clips.items()}

    def of_fold(self, repeat: str, fold: str) -> Lineage:
        """What is known of the model of one fold."""
        known = self.folds.get((str(repeat), str(fold)), replace(UNKNOWN, doubt=f"{FILE} has no such fold"))
        return replace(known, doubt=self.doubt or known.doubt)

    def as_dict(self) -> Json:
        """Plain data, for JSON."""
        folds = [{"repeat": repeat, "fold": fold, **one.as_dict()} for (repeat, fold), one in self.folds.items()]
        return {"schema": SCHEMA, "folds": folds, "table": self.table}


UNKNOWN = Lineage(complete=False, stages=[])
AnyLineage = Lineage | FoldedLineage


def parse(content: object) -> AnyLineage:
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
    of_folds = {(str(one["repeat"]), str(one["fold"])): _parse_one(one) for one in folds}
    return FoldedLineage(of_folds, _text(content, "table"))


def _text(content: Json, key: str) -> str:
    if not isinstance(text := content.get(key, ""), str):
        raise UserError(f"{key!r} is not a text")
    return text


def _counts(content: Json, key: str) -> dict[str, int]:
    counts = content.get(key, {})
    if not (isinstance(counts, dict) and all(map(_is_count, counts.values()))):
        raise UserError(f"{key!r} is not an object of counts")
    return counts


def _counts_if_recorded(content: Json, key: str) -> dict[str, int] | None:
    return None if content.get(key) is None else _counts(content, key)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _parse_one(content: Json) -> Lineage:
    stages, clips = content.get("stages"), content.get("test_clips", {})
    if not isinstance(complete := content.get("complete"), bool):
        raise UserError("'complete' is not true or false")
    if not isinstance(clips, dict) or not _are_texts([*clips.values()], SOUND):
        raise UserError("'test_clips' is not an object of clip names and fingerprints")
    if not isinstance(stages, list) or (complete and not stages):
        raise UserError("'stages' is not a list that holds at least the run's own stage")
    parsed = [_parse_stage(stage, f"stages[{number}]") for number, stage in enumerate(stages)]
    recordings, recordings_left_out = _listed(content, "recordings", "recordings_left_out")
    listed, left_out = _listed(content, "listed", "left_out")
    return Lineage(
        complete,
        parsed,
        {nfc(clip): sound for clip, sound in clips.items()},
        uncalibrated=bool(content.get("uncalibrated", False)),
        table=_text(content, "table"),
        checkpoint=_text(content, "checkpoint"),
        recordings=recordings,
        recordings_left_out=recordings_left_out,
        listed=listed,
        left_out=left_out,
        not_listed=_counts(content, "not_listed"),
        gap=_text(content, "gap"),
    )


def _listed(content: Json, key: str, of_which: str) -> tuple[int, dict[str, int]]:
    """How many are listed, and of these, how many are left out, by why."""
    if not _is_count(listed := content.get(key, 0)):
        raise UserError(f"{key!r} is not a count")
    if sum((left_out := _counts(content, of_which)).values()) > listed:
        raise UserError(f"{of_which!r} counts more than {key!r}")
    return listed, left_out


def _parse_stage(content: object, where: str) -> StageRecord:
    if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in ("stage", "corpus")):
        raise UserError(f"{where} has no stage and corpus")
    sounds_and_subjects = {
        "subjects": content.get("subjects"),
        "clips": content.get("clips"),
        "validation_subjects": content.get("validation_subjects"),
        "validation_clips": content.get("validation_clips", []),
        "noise": content.get("noise", []),
    }
    for key, texts in sounds_and_subjects.items():
        if key in ("clips", "validation_clips") and isinstance(texts, dict):
            try:
                sounds_and_subjects[key] = Sketch.parse(texts)
            except UserError as error:
                raise UserError(f"{where}: {key!r} {error}") from error
        elif not _are_texts(texts, SUBJECT if "subjects" in key else SOUND):
            raise UserError(f"{where}: {key!r} is not a list of fingerprints")
        elif key in ("clips", "validation_clips") and all(text.count("#") == 2 for text in texts):
            sounds_and_subjects[key] = sketched(texts)  # as this release has very many, to be compared with its own
    untrained = content.get("untrained", [])
    if not (isinstance(untrained, list) and all(isinstance(name, str) for name in untrained)):
        raise UserError(f"{where}: 'untrained' is not a list of classes")
    return StageRecord(
        content["stage"],
        content["corpus"],
        **sounds_and_subjects,
        subject_sources=_counts_if_recorded(content, "subject_sources"),
        untrained=untrained,
        chosen_on=_counts_if_recorded(content, "chosen_on"),
        probed_on=_text(content, "probed_on"),
    )


def _are_texts(texts: object, form: re.Pattern[str]) -> bool:
    return isinstance(texts, list) and all(isinstance(text, str) and form.fullmatch(text) for text in texts)


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


def of_table(path: Path) -> AnyLineage | None:
    """The lineage beside a predictions table; doubted where it is not known to be that of this very table.

    This detects accidents, not fraud: nothing is signed.

    Raises:
        UserError: the file is damaged.
    """
    found = read(path.with_name(FILE))
    if found is None or found.table == sha256(path):
        return found
    return replace(found, doubt=OTHER_TABLE if found.table else NO_HASH)


def write(lineage: AnyLineage, path: Path) -> None:
    """Write a lineage whole or not at all, bound to the predictions that lie beside it."""
    table = path.with_name(TABLE)
    bound = replace(lineage, table=sha256(table) if table.exists() else "")
    write_json(bound.as_dict(), path)


def of_checkpoint(checkpoint: Mapping[str, object]) -> Lineage:
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
    fullest = max(lineages, key=lambda lineage: lineage.listed, default=UNKNOWN)  # all were tested on the same clips
    stages: list[StageRecord] = []
    for lineage in lineages:
        stages += [stage for stage in lineage.stages if stage not in stages]  # they may share a pretraining
    return Lineage(
        complete=all(lineage.complete and not lineage.doubt for lineage in lineages),
        stages=stages,
        test_clips={clip: sound for lineage in lineages for clip, sound in lineage.test_clips.items()},
        uncalibrated=any(lineage.uncalibrated for lineage in lineages),
        recordings=fullest.recordings,
        recordings_left_out=fullest.recordings_left_out,
        listed=fullest.listed,
        left_out=fullest.left_out,
        not_listed=fullest.not_listed,
    )


def subject_fingerprint(subject: str, source: str) -> str:
    """Of "collection:id", of whatever spelling, and behind a slash of the id alone, to find it in other collections by.

    Behind a second slash, where it is another one, is that of its `loose` form, to find it by in nearly this spelling.
    One that is not known has the name of its recording, which is compared as it is, and with this collection only.
    """
    if source == "unknown":
        return fingerprint(subject)
    own = own_part(subject)
    collection, spelled, near = plain(subject.removesuffix(own)), plain(own), loose(own)
    parts = [fingerprint(collection + spelled), fingerprint(spelled)[:8]]
    return "/".join(parts + [fingerprint(collection + near)[:8]] * (near != spelled))


def near_fingerprint(subject: str) -> str:
    """That of the `loose` form in a `subject_fingerprint`; empty of one that is compared as it is."""
    whole, _, short = subject.partition("/")
    return (short.partition("/")[2] or whole[:8]) if short else ""


def without_training(classes: Iterable[str], labels: Collection[str | None]) -> list[str]:
    """The classes that none of the labels of the training clips is, where some are."""
    untrained = [name for name in classes if name not in labels]
    return untrained if set(labels).intersection(classes) else []


def other_sound(name: str, ours: AnyLineage | None, other: str, theirs: AnyLineage | None) -> str:
    """The first clip that is another sound in another run, in words; empty where none is known to be."""
    if ours is None or theirs is None:
        return ""
    known = {clip: without_landmarks(sound) for clip, sound in theirs.test_clips.items()}
    pairs = ((clip, without_landmarks(sound)) for clip, sound in ours.test_clips.items())
    clip = next((clip for clip, content in pairs if known.get(clip, content) != content), None)
    of = f"is one sound in {name} and another in {other}, by their {FILE}"
    return f"clip {clip_in_words(clip)} {of}" if clip else ""


def without_landmarks(sound: str) -> str:
    """A sound less its landmarks, which a change of theirs would make another one."""
    return "#".join(sound.split("#")[:2])
