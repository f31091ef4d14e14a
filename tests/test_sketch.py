"""What a stage of very many clips keeps of them, and that no leak is lost by it."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from made import cry

from cry_lightning.console import UserError
from cry_lightning.lineage import (
    Lineage,
    Sketch,
    StageRecord,
    check,
    count_shared,
    parse,
    sketch,
    sketched,
    subject_fingerprint,
)
from cry_lightning.lineage.acoustic_fingerprint import landmarks

LETTERS = landmarks(np.stack([cry(seed, 1.0) for seed in range(8)]), 8000)


def windows(n_files: int, per_file: int, seed: int = 0, letters: list[str] = LETTERS) -> list[str]:
    """Fingerprints of windows of 1 s of files with random hashes."""
    files = np.random.default_rng(seed).integers(2**64, size=n_files, dtype=np.uint64).tolist()
    return [
        f"{file:016x}#{start}.000-1.000#{letters[(start + file) % 8]}" for file in files for start in range(per_file)
    ]


def stage(sounds: list[str]) -> StageRecord:
    whose = [subject_fingerprint("made:x", "given")]
    return StageRecord("simclr", "made", whose, sketched(sounds), [], subject_sources={"given": 1})


def verdict(tested: list[str], *stages: StageRecord):
    clips = {f"{place}.wav#0.000-1.000": sound for place, sound in enumerate(tested)}
    table = pd.DataFrame({"clip": list(clips), "subject": "made:y", "split": "test", "subject_source": "given"})
    return check(table, Lineage(True, list(stages), clips))


def overlapping(tested: list[str], trained: list[str]) -> int:
    """The same, pair by pair."""

    def located(sound: str) -> tuple[str, float, float]:
        file, stretch = sound.split("#")[:2]
        start, duration = stretch.split("-")
        return file, float(start), np.inf if duration == "end" else float(start) + float(duration)

    ours, theirs = ([located(sound) for sound in sounds] for sounds in (tested, trained))
    return sum(any(f == g and min(e, d) - max(s, c) > 0.002001 for g, c, d in theirs) for f, s, e in ours)


@pytest.mark.parametrize("seed", range(8))
def test_stretches_are_found_as_pair_by_pair(seed) -> None:
    rng = np.random.default_rng(seed)

    def some(n: int) -> list[str]:
        starts, lengths = rng.integers(3000, size=n), rng.choice([1, 2, 3, 50, 400], n)
        ends = ["end" if rng.random() < 0.02 else f"{length / 1000:.3f}" for length in lengths]
        files = rng.integers(8, size=n)
        return [f"{file:016x}#{a / 1000:.3f}-{b}" for file, a, b in zip(files, starts, ends, strict=True)]

    tested, trained = some(60), some(40)
    assert 0 < count_shared(tested, trained) == overlapping(tested, trained) < 60
    assert count_shared(tested, Sketch.of([f"{sound}#" for sound in trained])) == overlapping(tested, trained)
    assert count_shared(tested, []) == 0 == count_shared([], trained)


@pytest.mark.parametrize(
    ("n_files", "per_file"), [(3_000, 1), pytest.param(1_000_000, 1, marks=pytest.mark.slow), (100, 30)]
)
def test_every_planted_leak_is_found_among_very_many(monkeypatch, n_files, per_file) -> None:
    monkeypatch.setattr(sketch, "FROM", 2_999)
    sounds = windows(n_files, per_file)
    record = stage(sounds)
    assert isinstance(record.clips, Sketch) and len(record.clips) == len(sounds)
    text = json.dumps(record.as_dict())
    assert len(text) < 5e6 + 9 * n_files  # the first is of landmarks
    planted, others = [f"{sound[: sound.rindex('#')]}#" for sound in sounds[::997]], windows(2_000, 1, 1, [""] * 8)
    assert verdict(others, record).status == "CLEAN"
    found = verdict([*planted, *others], record)
    assert found.status == "LEAKY" and found.overlaps[0].clips == len(planted)
    assert f"{len(sounds):,} clips are kept as a sketch" in found.remarks[0]


def test_as_many_files_are_mistaken_for_others_as_is_stated(monkeypatch) -> None:
    monkeypatch.setattr(sketch, "BITS", 18)
    trained, tested = (windows(10_000, 1, seed, [""] * 8) for seed in range(2))
    known = Sketch.of(trained)
    expected = len(tested) * known.chance
    assert 340 < expected < 390
    assert count_shared(tested, known) == pytest.approx(expected, abs=4 * expected**0.5)
    monkeypatch.setattr(sketch, "BITS", 64)
    whole = Sketch.of(trained)
    assert whole.chance < 1e-15 and count_shared(tested, whole) == 0 and count_shared(trained, whole) == 10_000
    assert "with a probability of 5e-16" in str(whole)


def test_a_sketch_is_plain_data_in_checkpoints_and_files(monkeypatch) -> None:
    monkeypatch.setattr(sketch, "FROM", 10)
    record = stage(windows(20, 3))
    known = Lineage(True, [record])
    file = io.BytesIO()
    torch.save(known.as_dict(), file)
    file.seek(0)
    assert parse(torch.load(file, weights_only=True)) == known == parse(json.loads(json.dumps(known.as_dict())))
    assert known != Lineage(True, [stage(windows(20, 3, seed=1))])
    assert isinstance(stage(windows(3, 3)).clips, list)


@pytest.mark.parametrize("landmarks_kept", [10**6, 700])
def test_a_copy_in_another_file_is_found_by_what_is_kept_of_its_landmarks(monkeypatch, landmarks_kept) -> None:
    monkeypatch.setattr(sketch, "FROM", 3)
    monkeypatch.setattr(sketch, "MOST_LANDMARKS", landmarks_kept)
    longer = [np.concatenate([cry(10 * seed + part) for part in range(6)]) for seed in range(9)]
    record = stage([f"{seed:016x}#0.000-end#{landmarks(longer[seed][None], 8000)[0]}" for seed in range(8)])
    assert (record.clips.one_in > 2) == (landmarks_kept < 1000)
    copy, other = (f"{99:016x}#0.000-end#{landmarks(sound[None], 8000)[0]}" for sound in (longer[3][900:], longer[8]))
    found = verdict([copy, other], record)
    assert found.overlaps[0].alike == {"trained on": ["0.wav#0.000-1.000"]} and found.overlaps[0].clips == 0
    assert found.leaks["other"].tolist() == [f"{3:016x}"]
    assert ("of their landmarks is kept" in found.remarks[0]) == (landmarks_kept < 1000)
    assert verdict([other], record).status == "CLEAN"


SPOILED = {
    "'clips' is not a sketch": lambda content: {"n_clips": 3},
    "'clips' is a damaged sketch": lambda content: content | {"stretches": "AAAA"},
    "'validation_clips' is not a sketch": lambda content: content | {"one_in": "2"},
}


@pytest.mark.parametrize("message", SPOILED)
def test_a_damaged_sketch_is_refused(monkeypatch, message) -> None:
    monkeypatch.setattr(sketch, "FROM", 3)
    key = message.split("'")[1]
    record = stage(windows(4, 2))
    spoiled = record.as_dict() | {key: SPOILED[message](record.clips.as_dict())}
    with pytest.raises(UserError, match=rf"stages\[0\]: {message}"):
        parse({"complete": True, "stages": [spoiled]})
    files = sketch._packed(*np.zeros((3, 0), int))
    nowhere = replace(record.clips, stretches=files).as_dict()
    with pytest.raises(UserError, match="damaged"):
        parse({"complete": True, "stages": [record.as_dict() | {"clips": nowhere}]})


@pytest.mark.parametrize("n", [-1, 0, True, 10**30, 1.5])
def test_counts_that_are_none_are_refused(n) -> None:
    whole = Sketch.of(windows(4, 2)).as_dict()
    for key in ("n_clips", "one_in"):
        if n is not True:  # which is 1
            with pytest.raises(UserError, match="is not a sketch"):
                Sketch.parse(whole | {key: n})


@pytest.mark.parametrize(
    ("start", "length"), [([5000, 0], [1000, 1000]), ([0, 50], [100, 100]), ([0, 500], [-100, 10]), ([-5, 9], [10, 10])]
)
def test_stretches_in_which_a_leak_would_not_be_found_are_refused(start, length) -> None:
    """Out of order, overlapping, backwards, or before the beginning of their file."""
    whole = Sketch.of(windows(1, 2))
    file = np.full(2, whole.located.file[0]).view(np.int64)
    with pytest.raises(UserError, match="damaged"):
        Sketch.parse(whole.as_dict() | {"stretches": sketch._packed(file, np.array(start), np.array(length))})


def test_a_sketch_that_would_fill_the_memory_is_refused(monkeypatch) -> None:
    whole = Sketch.of(windows(100, 1)).as_dict()
    monkeypatch.setitem(sketch.MOST_BYTES, "stretches", 1000)
    with pytest.raises(UserError, match="damaged"):
        Sketch.parse(whole)


def test_a_checkpoint_from_before_there_were_sketches_is_compared_as_one(monkeypatch) -> None:
    """A stage that is resumed finds itself among those before it."""
    sounds = windows(20, 3)
    before = json.loads(json.dumps(Lineage(True, [stage(sounds)]).as_dict()))
    monkeypatch.setattr(sketch, "FROM", 10)
    assert parse(before) == Lineage(True, [stage(sounds)])


def test_a_duration_of_a_thousand_digits_is_no_fingerprint() -> None:
    record = stage([]).as_dict() | {"clips": [f"{7:016x}#0.000-{'9' * 1000}.0#"]}
    with pytest.raises(UserError, match="not a list of fingerprints"):
        parse({"complete": True, "stages": [record]})
