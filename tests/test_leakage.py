"""Whether training subjects, checkpoint-choosing subjects and copied sounds are found in the test."""

import json

import pandas as pd
import pytest

from cry_lightning.console import UserError
from cry_lightning.lineage import (
    UNKNOWN,
    FoldedLineage,
    Lineage,
    check,
    count_shared,
    fingerprint,
    parse,
    read,
    sound_fingerprint,
    subject_fingerprint,
    write,
)


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
    assert found.reason == "2 of 3 tested subjects trained on: stage simclr on made"


def test_subject_that_chose_the_checkpoint() -> None:
    found = check(rows(), lineage(stage("pretrain"), stage("finetune", validation="c")))
    assert found.status == "LEAKY"
    assert found.reason == "1 of 3 tested subjects used to choose the checkpoint: stage finetune on made"


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
    assert count_shared(["f#0.000-end", "g#0.000-1.000"], ["f#9.000-1.000", "f#2.000-1.000"]) == 1


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
    assert check(rows(), read(path)).status == "UNKNOWN LINEAGE"


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


def of_stages(*stages: dict) -> str:
    return json.dumps({"complete": True, "stages": stages})


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
    "'schema' is 4, where this version reads up to 3": json.dumps({"schema": 4}),
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
