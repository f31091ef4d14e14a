"""The sounds of a cache in columns: all that is made of them is what is made of their texts, one by one."""

import base64

import numpy as np
import pytest

from cry_lightning.lineage import Recorded, Sketch, recorded, sketch, sketched, sound_fingerprint
from cry_lightning.lineage.acoustic_fingerprint import TYPE, decoded
from cry_lightning.lineage.sketch import Stretches

STRETCHES = ["0.000-end", "1.000-0.200", "1.000-0.250", "10.000-0.200", "100.020-1.000", "0.200-12345.678"]
STRETCHES += ["99999999.999-1.000", "3.000-0.001", "7.000-99999999.999", "1.000-end"]


def letters(rng: np.random.Generator) -> bytes:
    marks = np.zeros(rng.integers(4), TYPE)
    marks["hash"], marks["time"] = rng.integers(9, size=len(marks)), rng.integers(40, size=len(marks))
    return base64.b64encode(marks.tobytes())


def made(n: int, seed: int, odd: bool = False) -> Recorded:
    """Some rows of a cache, in any order, several of one stretch, with the same landmarks or with others."""
    rng = np.random.default_rng(seed)
    files = [f"{number:064x}" for number in rng.integers(2**62, size=5)]
    content = [
        f"{file}#{stretch}" for file, stretch in zip(rng.choice(files, n), rng.choice(STRETCHES, n), strict=True)
    ]
    rows = rng.permutation(n)[n // 10 :]
    if odd:
        content[rows[-1]] = "unreadable:Größe, не читается#0.000-end"
    return Recorded(np.array([text.encode() for text in content]), np.array([letters(rng) for _ in range(n)]), rows)


def one_by_one(sounds: Recorded) -> list[str]:
    rows = [(sounds.content[row].decode(), sounds.landmarks[row].decode()) for row in sounds.rows.tolist()]
    return [sound_fingerprint(content, marks) for content, marks in rows]


@pytest.fixture(autouse=True, params=[7, 10_000])
def few_at_once(request, monkeypatch):
    monkeypatch.setattr(recorded, "AT_ONCE", request.param)


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("n", [1, 50, 500])
def test_their_texts_are_those_of_each_row(n, odd):
    sounds, texts = made(n, 0, odd), one_by_one(made(n, 0, odd))
    assert [*sounds] == texts and len(sounds) == len(texts) and (sounds.columns is None) == odd
    assert sounds[0] == texts[0] and sounds[-1] == texts[-1] and sounds[3:9] == texts[3:9]
    with pytest.raises(IndexError):
        sounds[len(texts)]


@pytest.mark.parametrize("n", [1, 50, 500])
def test_where_they_lie_and_how_they_sound_are_as_of_the_texts(n):
    sounds, texts = made(n, 1), one_by_one(made(n, 1))
    assert all(map(np.array_equal, Stretches.of(sounds), Stretches.of(texts)))
    theirs, ours = decoded(texts), sounds.decoded(slice(None))
    assert [ours.files[file] for file in ours.file] == [theirs.files[file] for file in theirs.file]
    assert all(map(np.array_equal, ours[2:], theirs[2:])) and sounds.n_letters() == 8 * len(theirs.hash)


@pytest.mark.parametrize("seed", range(5))
def test_each_is_kept_once_in_the_order_of_the_texts(seed):
    sounds = made(400, seed)
    distinct = [*sounds.distinct()]
    assert distinct == sorted(set(one_by_one(sounds))) and len(distinct) < len(sounds)
    assert len({text.rpartition("#")[0] for text in distinct}) < len(distinct)  # landmarks alone tell some apart


@pytest.mark.parametrize("most_landmarks", [10**6, 100])
@pytest.mark.parametrize("odd", [False, True])
def test_a_stage_keeps_of_them_what_it_kept_of_texts(monkeypatch, most_landmarks, odd):
    monkeypatch.setattr(sketch, "MOST_LANDMARKS", most_landmarks)
    sounds, others = made(400, 2, odd), made(30, 3)
    texts = sorted(set(one_by_one(sounds)))
    assert sketched(sounds) == texts == sketched([*reversed(texts)]) and sketched() == [] == sketched([])
    assert sketched(sounds, others) == sorted({*texts, *one_by_one(others)})
    monkeypatch.setattr(sketch, "FROM", len(texts))
    assert sketched(sounds) == texts
    monkeypatch.setattr(sketch, "FROM", len(texts) - 1)
    kept = sketched(sounds)
    assert isinstance(kept, Sketch) and kept.as_dict() == Sketch.of(texts).as_dict()
    assert (kept.one_in > 1) == (most_landmarks == 100)


def test_none_of_them():
    assert [*made(1, 0)[:0]] == [] and sketched(Recorded(*2 * [np.array([b""])], np.zeros(0, int))) == []
