"""Whether training subjects, checkpoint-choosing subjects and copied sounds are found in the test."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from made import cry

from cry_lightning import audio
from cry_lightning.callbacks.records import LineageRecorder, noise_of, sounds_of
from cry_lightning.console import UserError
from cry_lightning.corpora import ClassFolders, Clip, Clips, Corpus, Manifest, UnlabelledTree
from cry_lightning.evaluation import predictions
from cry_lightning.files import sha256
from cry_lightning.lineage import (
    UNKNOWN,
    FoldedLineage,
    Leakage,
    Lineage,
    check,
    count_shared,
    fingerprint,
    of_table,
    parse,
    read,
    sketch,
    sound_fingerprint,
    subject_fingerprint,
    write,
)
from cry_lightning.lineage.acoustic_fingerprint import landmarks
from cry_lightning.lineage.check import OTHERS, PARTS
from cry_lightning.lineage.records import NO_HASH, NO_LINEAGE, OTHER_TABLE, SCHEMA
from cry_lightning.lineage.spelling import NEAR
from cry_lightning.tasks.augment import BackgroundNoise

RATE = 8000


def rows(split: str = "test") -> pd.DataFrame:
    """Subjects a, b and c with two clips each."""
    subjects = ["made:a", "made:a", "made:b", "made:b", "made:c", "made:c"]
    clips = [f"{n}.wav#0.000-1.000" for n in range(6)]
    return pd.DataFrame({"clip": clips, "subject": subjects, "split": split})


def stage(name: str, subjects: str = "x", clips: tuple[str, ...] = (), validation: str = "y") -> dict:
    return {
        "stage": name,
        "corpus": "made",
        "subjects": [subject_fingerprint(f"made:{subject}", "given") for subject in subjects],
        "clips": [sound_fingerprint(clip, "") for clip in clips],
        "validation_subjects": [subject_fingerprint(f"made:{subject}", "given") for subject in validation],
        "subject_sources": {"given": len(subjects + validation)},
    }


def lineage(*stages: dict, complete: bool = True) -> Lineage:
    contents = {clip: sound_fingerprint(f"sound of {clip}", "") for clip in rows()["clip"]}
    return parse({"complete": complete, "stages": list(stages), "test_clips": contents})


def test_fingerprint_is_the_head_of_sha256() -> None:
    assert fingerprint("abc") == "ba7816bf8f01cfea"


def test_clean() -> None:
    found = check(rows(), lineage(stage("pretrain"), stage("finetune")))
    assert (found.status, found.overlaps, found.reason) == ("CLEAN", [], "")


def test_subject_of_an_earlier_stage() -> None:
    found = check(rows(), lineage(stage("simclr", subjects="xab"), stage("finetune")))
    assert found.status == "LEAKY"
    assert [(one.stage, one.subjects, one.clips) for one in found.overlaps] == [("simclr", 2, 0)]
    assert found.reason == f"2 of 3 tested subjects trained on: stage simclr on made ({OTHERS})"


def test_other_parts_of_the_recordings_that_were_trained_on_are_no_other_infants() -> None:
    """By clip, as the ladder divides: windows of one recording are on both sides."""
    parts = ("sound of 1.wav#1.000-1.000", "sound of 2.wav#1.000-1.000")
    (overlap,) = check(rows(), lineage(stage("pretrain", subjects="a", clips=parts))).overlaps
    assert (overlap.subjects, overlap.clips) == (1, 0)
    assert str(overlap) == f"1 of 3 tested subjects trained on: stage pretrain on made ({PARTS})"


def test_subject_that_chose_the_checkpoint() -> None:
    found = check(rows(), lineage(stage("pretrain"), stage("finetune", validation="c")))
    assert found.status == "LEAKY"
    assert found.reason == f"1 of 3 tested subjects used to choose the checkpoint: stage finetune on made ({OTHERS})"


def test_sound_that_chose_the_checkpoint_under_another_subject() -> None:
    chose = stage("finetune") | {"validation_clips": [sound_fingerprint("sound of 3.wav#0.000-1.000", "")]}
    found = check(rows(), lineage(stage("pretrain"), chose))
    told = "1 of 6 tested clips used to choose the checkpoint (found by content)"
    assert found.reason == f"{told}: stage finetune on made"
    assert check(rows("val"), lineage(stage("pretrain"), chose)).status == "CLEAN"


def test_sound_under_another_name_and_subject() -> None:
    copies = ("sound of 1.wav#0.000-1.000", "sound of 4.wav#0.000-1.000")
    found = check(rows(), lineage(stage("pretrain", clips=copies), stage("finetune")))
    assert found.status == "LEAKY"
    assert [(one.subjects, one.clips) for one in found.overlaps] == [(0, 2)]


def test_every_tested_clip_is_named_with_what_it_was_found_as() -> None:
    copies = ("sound of 0.wav#0.000-1.000", "sound of 0.wav#0.500-1.000", "sound of 3.wav#0.000-1.000")
    heard, copied = (sound_fingerprint(f"{name}#0.000-end", landmarks(cry(1)[None], RATE)[0]) for name in ("t", "u"))
    known = lineage(stage("pretrain", clips=copies), stage("finetune", validation="c") | {"validation_clips": [copied]})
    known.test_clips.update({"5.wav#0.000-1.000": heard, "chose.wav": copied})
    leaks = check(rows(), known).leaks
    assert " ".join(leaks.columns) == "stage corpus clip subject use found_by other other_clip"
    c, chose = fingerprint("made:c"), "used to choose the checkpoint"
    assert leaks.drop(columns="corpus").to_numpy().tolist() == [
        ["pretrain", "0.wav#0.000-1.000", "made:a", "trained on", "content", fingerprint("sound of 0.wav"), ""],
        ["pretrain", "3.wav#0.000-1.000", "made:b", "trained on", "content", fingerprint("sound of 3.wav"), ""],
        ["finetune", "4.wav#0.000-1.000", "made:c", chose, "subject", c, ""],
        ["finetune", "5.wav#0.000-1.000", "made:c", chose, "subject", c, ""],
        ["finetune", "5.wav#0.000-1.000", "made:c", chose, "acoustic fingerprint", fingerprint("u"), "chose.wav"],
    ]
    assert check(rows(), lineage(stage("finetune"))).leaks.empty


def test_another_stretch_of_the_same_file_is_heard_where_they_overlap() -> None:
    def heard(tested: str, trained: str) -> int:
        return count_shared([sound_fingerprint(tested)], [sound_fingerprint(trained)])

    assert heard("f#0.000-end", "f#1.000-1.000") == 1  # a window of the whole file
    assert heard("f#1.000-1.000", "f#0.000-end") == 1
    assert heard("f#1.500-1.000", "f#1.000-1.000") == 1
    assert heard("f#2.000-1.000", "f#1.000-1.000") == 0  # its neighbour
    assert heard("f#0.667-0.333", "f#0.333-0.334") == 0  # three to the second, their times rounded
    assert heard("f#0.000-1.000", "g#0.000-1.000") == 0
    assert heard("f#3.000-end", "f#2.000-1.000") == 0
    assert count_shared(["f#0.000-end", "e#0.000-1.000"], ["f#9.000-1.000", "f#2.000-1.000"]) == 1


@pytest.mark.parametrize(
    "older",
    [
        {"clips": [fingerprint("sound of 1.wav#0.000-1.000")]},
        {"clips": [sound_fingerprint("sound of another.wav#0.000-1.000")]},
        {"subject_sources": None},
    ],
)
def test_a_stage_of_an_older_release_leaves_the_lineage_unknown(older) -> None:
    found = check(rows(), lineage(stage("pretrain") | older, stage("finetune")))
    assert found.status == "UNKNOWN LINEAGE"
    assert (
        found.reason.startswith("stage pretrain was trained with an older release") and "fit it again" in found.reason
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"subjects": [], "validation_subjects": [], "subject_sources": {"given": 1}},
        {"subjects": [], "clips": [sound_fingerprint("another#0.000-1.000", "")]},
        {"subject_sources": {"given": 1}},
        {"subject_sources": {}},
    ],
)
def test_a_stage_that_does_not_list_whom_it_counts_leaves_the_lineage_unknown(changed) -> None:
    found = check(rows(), lineage(stage("pretrain") | changed, stage("finetune")))
    assert found.status == "UNKNOWN LINEAGE" and found.reason.startswith("stage pretrain counts ")


def test_a_stage_of_an_older_release_still_shows_a_leak() -> None:
    raw = {"subjects": [fingerprint("made:a")], "subject_sources": None}
    assert check(rows(), lineage(stage("pretrain") | raw, stage("finetune"))).status == "LEAKY"


def test_unknown_without_lineage_or_with_a_gap_in_it() -> None:
    assert check(rows(), None).status == "UNKNOWN LINEAGE"
    gap = check(rows(), lineage(stage("finetune"), complete=False))
    assert gap.status == "UNKNOWN LINEAGE"
    assert "an earlier stage is not known" in gap.reason
    assert check(rows(), lineage(stage("finetune", subjects="a"), complete=False)).status == "LEAKY"


def test_checkpoint_from_elsewhere_has_no_stages(tmp_path) -> None:
    path = tmp_path / "lineage.json"
    write(lineage(complete=False), path)
    found = check(rows(), read(path))
    assert (found.status, found.reason) == ("UNKNOWN LINEAGE", NO_LINEAGE)


def test_unknown_when_a_tested_clip_has_no_fingerprint() -> None:
    stale = lineage(stage("finetune"))
    del stale.test_clips["0.wav#0.000-1.000"]
    found = check(rows(), stale)
    assert found.status == "UNKNOWN LINEAGE"
    assert "1 of 6 tested clips" in found.reason


def test_validation_rows_are_no_leak_of_their_own_stage_only() -> None:
    own = lineage(stage("pretrain"), stage("finetune", validation="abc"))
    assert check(rows("val"), own).status == "CLEAN"
    assert check(rows("test"), own).status == "LEAKY"
    earlier = lineage(stage("pretrain", validation="abc"), stage("finetune", validation="abc"))
    assert check(rows("val"), earlier).status == "LEAKY"


def test_lineage_is_read_back(tmp_path) -> None:
    path = tmp_path / "lineage.json"
    assert read(path) is None
    write(lineage(stage("finetune")), path)
    assert read(path) == lineage(stage("finetune"))
    of_folds = FoldedLineage({("0", "1"): lineage(stage("finetune")), ("0", "2"): UNKNOWN})
    write(of_folds, path)
    assert read(path) == of_folds
    of_old = json.loads(path.read_text())["folds"][0]  # by a version that wrote neither a schema nor these clips
    del of_old["schema"], of_old["stages"][0]["validation_clips"]
    assert parse(of_old) == lineage(stage("finetune"))


SPOILED = {
    "cannot be read as JSON": "{",
    "is not a JSON object": "[]",
    "'complete' is not true or false": json.dumps({"stages": [], "test_clips": {}}),
    "'test_clips' is not an object": json.dumps({"complete": True, "stages": [stage("a")], "test_clips": []}),
    "'stages' is not a list that holds at least": json.dumps({"complete": True, "stages": [], "test_clips": {}}),
    r"stages\[0\] has no stage and corpus": json.dumps({"complete": True, "stages": [{}], "test_clips": {}}),
    r"stages\[0\]: 'validation_clips' is not": json.dumps(
        {"complete": True, "stages": [stage("a") | {"validation_clips": 3}]}
    ),
    f"'schema' is {SCHEMA + 1}, where this version reads up to {SCHEMA}": json.dumps({"schema": SCHEMA + 1}),
    r"stages\[1\]: 'clips' is not a list": json.dumps(
        {"complete": True, "stages": [stage("a"), stage("b") | {"clips": None}]}
    ),
}


@pytest.mark.parametrize("message", SPOILED)
def test_damaged_lineage_is_refused(tmp_path, message: str) -> None:
    path = tmp_path / "lineage.json"
    path.write_text(SPOILED[message])
    with pytest.raises(UserError, match=message) as refusal:
        read(path)
    assert str(path) in str(refusal.value)


def test_table_and_lineage_are_bound(tmp_path) -> None:
    """An edited table, or the lineage of another run, is noticed; the checkpoint's hash is kept."""
    scored = rows().assign(recording="r", repeat="0", fold="0", label="a", score_a=1.0, score_b=0.0)
    for name in ("one", "other"):
        predictions.write(
            scored.assign(score_a=[1.0, *[0.9995] * 5] if name == "other" else 1.0), tmp_path / name / "predictions.csv"
        )
        write(replace(lineage(stage("finetune")), checkpoint="c0ffee"), tmp_path / name / "lineage.json")
    table = tmp_path / "one/predictions.csv"
    assert check(rows(), of_table(table)).status == "CLEAN"
    assert of_table(table).checkpoint == "c0ffee"

    text = table.read_text()
    table.write_text(text.replace("made:c", "made:d"))
    edited = check(rows(), of_table(table))
    assert (edited.status, edited.reason) == ("UNKNOWN LINEAGE", OTHER_TABLE)
    table.write_text(text)
    (tmp_path / "one/lineage.json").write_bytes((tmp_path / "other/lineage.json").read_bytes())
    assert check(rows(), of_table(table)).status == "UNKNOWN LINEAGE"
    (tmp_path / "one/lineage.json").write_text(json.dumps(lineage(stage("finetune")).as_dict() | {"schema": 2}))
    assert check(rows(), of_table(table)).reason == NO_HASH


def test_one_infant_spelled_in_two_ways_is_one() -> None:
    same = [("Ward:Baby1", "ward:baby 1"), ("w:007", "w:7"), ("w:12.0", "w:12"), ("w:Jose\u0301", "w:jos\u00e9")]
    for one, other in same:
        assert subject_fingerprint(one, "given") == subject_fingerprint(other, "rule")
    for one, other in [("w:1", "v:1"), ("w:1", "w:11"), ("w:a/01.wav", "w:a/1.wav")]:
        assert subject_fingerprint(one, "unknown") != subject_fingerprint(other, "unknown")
    assert subject_fingerprint("w:1", "given").split("/")[0] != subject_fingerprint("v:1", "given").split("/")[0]


def test_a_class_that_was_not_trained_on_is_remarked() -> None:
    stages = [stage("pretrain") | {"untrained": ["one"]}, stage("finetune") | {"untrained": ["rare", "odd"]}]
    (remark,) = check(rows(), lineage(*stages)).remarks
    assert remark == "Stage finetune was trained on no clip of rare nor of odd, and cannot have learned it."
    with pytest.raises(UserError, match=r"stages\[0\]: 'untrained' is not a list of classes"):
        lineage(stage("finetune") | {"untrained": [3]})


def test_an_id_that_another_collection_has_too_is_remarked() -> None:
    other = stage("pretrain") | {"subjects": [subject_fingerprint("ward:B", "given")]}
    found = check(rows(), lineage(other, stage("finetune")))
    assert found.status == "CLEAN"
    (remark,) = found.remarks
    assert "1 of 3 tested subjects bears the id" in remark and "made:b" in remark and "`collection`" in remark


@pytest.mark.parametrize(
    ("trained", "tested"), [("Ward-12", "ward12"), ("Ward-12", "Ward_12"), ("Zo\u00e9", "Zoe"), ("B3", "B\u0663")]
)
@pytest.mark.parametrize("part", ["subjects", "validation_subjects"])
def test_an_id_that_is_nearly_spelled_as_one_of_a_stage_is_remarked(trained: str, tested: str, part: str) -> None:
    one, other = (subject_fingerprint(f"made:{subject}", "given") for subject in (trained, tested))
    used = stage("finetune") | {part: [one]}
    named = rows().replace({"subject": {"made:b": f"made:{tested}"}})
    found = check(named, lineage(used))
    assert found.status == "CLEAN"
    (remark,) = found.remarks
    assert f"1 of 3 tested subjects has an id that differs in {NEAR} alone" in remark and f"made:{tested}." in remark
    equal = check(named, lineage(used | {part: [other]}))
    assert (equal.status, equal.remarks) == ("LEAKY", [])
    assert check(named, lineage(used | {part: [subject_fingerprint("ward:x-1", "given")[:25]]})).status == "CLEAN"


def test_an_id_as_it_is_mostly_spelled_takes_no_more_letters_than_before() -> None:
    assert [len(subject_fingerprint(f"made:{own}", "given")) for own in ("baby12", "b-1")] == [25, 34]


def test_stand_ins_leave_a_run_clean_and_unknown_subjects_of_any_stage_do_not() -> None:
    assert check(rows().assign(subject_source="stand-in"), lineage(stage("finetune"))).status == "CLEAN"
    blank = stage("pretrain") | {"subject_sources": {"given": 3, "unknown": 2}}
    found = check(rows(), lineage(blank, stage("finetune")))
    assert found.status == "SUBJECTS UNKNOWN"
    assert (
        "2 of 5 subjects of stage pretrain on made are not known" in found.reason and "subject_pattern" in found.reason
    )
    gap = check(rows(), lineage(blank, stage("finetune"), complete=False))
    assert gap.status == "UNKNOWN LINEAGE" and "subject_pattern" in gap.reason
    assert check(rows(), lineage(blank, stage("finetune", subjects="a"))).status == "LEAKY"


class Part:
    """A corpus all of which is one part of a datamodule, with the sounds that a cache would have."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus, self.clips, self.features, self.probe = corpus, corpus.clips(), self, None
        self.classes = corpus.class_names()

    def rows(self, part: str) -> np.ndarray:
        return np.arange(len(self.clips) if part in ("train", "test") else 0)

    def clips_of(self, part: str) -> Clips:
        return self.clips[self.rows(part)]

    def sounds(self, rows: np.ndarray) -> list[str]:
        return [*map(self.sound, self.clips[rows])]

    def sound(self, clip: Clip) -> str:
        path = self.corpus.path_of(clip)
        waveform = audio.load(path, RATE, clip.start_s, clip.duration_s)
        return sound_fingerprint(f"{sha256(path)}#{clip.name.rpartition('#')[2]}", *landmarks(waveform[None], RATE))


def verdict(trained: Corpus, tested: Corpus, noise: Path | None = None) -> Leakage:
    """What is found where one corpus was trained on, with noise of a folder, and another is tested."""
    recorder, part = LineageRecorder("finetune", Path()), Part(tested)
    own = recorder.own_stage(Part(trained))
    if noise:
        own = replace(own, noise=noise_of(BackgroundNoise(noise, RATE)))
    rows = [(clip.name, clip.subject, clip.subject_source, "test") for clip in part.clips]
    table = pd.DataFrame(rows, columns=["clip", "subject", "subject_source", "split"])
    return check(table, Lineage(True, [own], sounds_of(part, "test")))


def put(folder: Path, cries: dict[str, np.ndarray], **form: str) -> Path:
    for name, sound in cries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, sound, RATE, **form)
    return folder


def manifest(path: Path, subject_of: dict[str, str], **arguments: str) -> Manifest:
    path.write_text("path,subject\n" + "".join(f"{name},{subject}\n" for name, subject in subject_of.items()))
    return Manifest(path, **arguments)


def without_subjects(tmp_path: Path) -> Leakage:
    paths = [[f"pain/{n}.wav", f"hunger/{n}.wav"] for n in range(2)]
    roots = [
        put(tmp_path / str(n), {path: cry(10 * n + k) for k, path in enumerate(own)}) for n, own in enumerate(paths)
    ]
    return verdict(*map(ClassFolders, roots))


def cuts_of_one_file(tmp_path: Path) -> Leakage:
    pieces = np.split(cry(0, 8.0), 8)
    roots = [
        put(tmp_path / name, {f"a/{k}.wav": pieces[k] for k in own})
        for name, own in (("train", range(4)), ("test", range(4, 8)))
    ]
    return verdict(*map(ClassFolders, roots))


def another_header(tmp_path: Path) -> Leakage:
    put(tmp_path, {"a.wav": cry(0), "b.wav": cry(1)})
    put(tmp_path, {"copy.wav": cry(0)}, subtype="FLOAT")
    trained, tested = {"copy.wav": "c"}, {"a.wav": "a", "b.wav": "b"}
    return verdict(
        manifest(tmp_path / "one.csv", trained, collection="w"), manifest(tmp_path / "two.csv", tested, collection="w")
    )


def one_infant_in_two_manifests(tmp_path: Path) -> Leakage:
    put(tmp_path, {"a.wav": cry(0), "b.wav": cry(1)})
    trained = manifest(tmp_path / "one.csv", {"a.wav": "Baby1"}, collection="ward")
    return verdict(trained, manifest(tmp_path / "two.csv", {"b.wav": "baby01"}, collection="ward"))


def uploads_in_an_unlabelled_tree(tmp_path: Path) -> Leakage:
    uploads = put(tmp_path / "uploads", {"x.mp3": cry(0)[2400:], "y.mp3": cry(5)})
    put(tmp_path, {"a.wav": cry(0), "b.wav": cry(1)})
    return verdict(UnlabelledTree(uploads), manifest(tmp_path / "two.csv", {"a.wav": "a", "b.wav": "b"}))


def recordings_as_noise(tmp_path: Path) -> Leakage:
    noise = put(tmp_path / "noise", {"n.ogg": cry(1)})
    put(tmp_path, {"a.wav": cry(0), "b.wav": cry(1)})
    trained, tested = (manifest(tmp_path / f"{name}.csv", {f"{name}.wav": name}) for name in "ab")
    return verdict(trained, tested, noise)


ONCE_CLEAN = {
    without_subjects: ("SUBJECTS UNKNOWN", "the subjects of 2 of 2 tested clips are not known"),
    cuts_of_one_file: ("SUBJECTS UNKNOWN", "4 of 4 subjects of stage finetune on"),
    another_header: ("LEAKY", "1 of 2 tested clips trained on (found by acoustic fingerprint: a.wav)"),
    one_infant_in_two_manifests: ("LEAKY", "1 of 1 tested subjects trained on"),
    uploads_in_an_unlabelled_tree: ("LEAKY", "1 of 2 tested clips trained on (found by acoustic fingerprint: a.wav"),
    recordings_as_noise: (
        "LEAKY",
        "1 of 1 tested clips used as augmenting noise (found by acoustic fingerprint: b.wav",
    ),
}


@pytest.mark.parametrize("leak", ONCE_CLEAN, ids=lambda leak: leak.__name__)
def test_what_was_stamped_clean_once_is_not(tmp_path, leak) -> None:
    found = leak(tmp_path)
    status, reason = ONCE_CLEAN[leak]
    assert found.status == status and reason in found.reason


def test_a_stage_of_many_clips_is_recorded_as_a_sketch_that_shows_the_same_leaks(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sketch, "FROM", 0)
    found = another_header(tmp_path)
    status, reason = ONCE_CLEAN[another_header]
    assert found.status == status and reason in found.reason
    assert found.remarks[0].startswith("Of stage finetune on w, 1 clips are kept as a sketch")
    part, recorder = Part(UnlabelledTree(tmp_path)), LineageRecorder("finetune", Path())
    assert len(recorder.own_stage(part).clips) == 3
    assert recorder.own_stage(part) is recorder.own_stage(part)  # it takes seconds, of so many clips


def test_other_recordings_of_known_subjects_are_clean(tmp_path) -> None:
    put(tmp_path, {f"{n}.wav": cry(n) for n in range(8)})
    trained, tested = ({f"{n}.wav": f"s{n}" for n in own} for own in (range(4), range(4, 8)))
    found = verdict(manifest(tmp_path / "one.csv", trained), manifest(tmp_path / "two.csv", tested))
    assert (found.status, found.reason, found.remarks) == ("CLEAN", "", [])


def test_windows_are_found_in_a_copy_under_another_subject_only(tmp_path) -> None:
    """Of one file, stretches decide; another file with the same sound is compared whole, whatever its windows."""
    put(tmp_path, {"a.wav": cry(2, 6.0)})  # whose pitch wanders most: what stays the same might be a device
    put(tmp_path, {"copy.flac": cry(2, 6.0)[1000:]})
    halves = [manifest(tmp_path / f"{name}.csv", {}, collection="w") for name in ("one", "two")]
    for own, start_s in zip(halves, (0, 3), strict=True):
        own.root.write_text(f"path,subject,start_s,duration_s\na.wav,s{start_s},{start_s},3\n")
    assert verdict(*halves).status == "CLEAN"  # two infants in one recording, one after the other
    copied = manifest(tmp_path / "copy.csv", {"copy.flac": "c"}, window_s=1.0, hop_s=0.5)
    assert verdict(copied, halves[1]).status == "LEAKY"
