"""Whether a sound is found again, and nothing else."""

import base64

import numpy as np
import pytest
import soxr
from made import cry

from cry_lightning.corpora import SyntheticWords
from cry_lightning.lineage import acoustic_fingerprint
from cry_lightning.lineage.acoustic_fingerprint import TYPE, alike, landmarks, most_letters

RATE = 8000


def sound(name: str, waveform: np.ndarray, rate: int = RATE, start_s: float = 0.0) -> str:
    return f"{name}#{start_s:.3f}-{len(waveform) / rate:.3f}#{landmarks(waveform[None], rate)[0]}"


CHANGES = {
    "gain": lambda x: 0.01 * x,
    "1 ms": lambda x: x[8:],
    "0.3 s": lambda x: x[2400:],
    "the second half": lambda x: x[len(x) // 2 :],
    "noise": lambda x: x + 0.01 * np.random.default_rng(9).standard_normal(len(x)).astype(np.float32),
    "8 bits": lambda x: np.round(x * 127) / 127,
    "upside down": lambda x: -x,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_no_other(change) -> None:
    known = [sound(f"file{seed}", cry(seed, 6.0)) for seed in range(6)]
    changed = sound("copy", CHANGES[change](cry(3, 6.0)).astype(np.float32))
    assert alike([changed], known).tolist() == [[0, 3]]


@pytest.mark.parametrize("rate", [11025, 16000, 44100])
def test_another_sample_rate_is_no_hindrance(rate) -> None:
    again = sound("copy", soxr.resample(cry(0), RATE, rate), rate)
    assert alike([again], [sound("one", cry(1)), sound("two", cry(0))]).tolist() == [[0, 1]]


def test_silence_short_sounds_and_steady_tones_have_no_landmarks() -> None:
    n = np.arange(4 * RATE)
    hum = sum(np.sin(2 * np.pi * 50 * k * n / RATE) for k in range(5, 60, 10)).astype(np.float32)
    assert landmarks(np.zeros((2, RATE), np.float32), RATE) == ["", ""]
    assert landmarks(cry(0)[None, :500], RATE) == [""]
    others = [
        sound(str(shift), hum[shift:] + 0.01 * cry(shift, 4 - shift / RATE)[: 4 * RATE - shift])
        for shift in (0, 777, 1234)
    ]
    assert not len(alike(others, others))


def test_a_row_does_not_depend_on_the_others() -> None:
    rows = np.stack([cry(seed) * 10**seed for seed in range(4)])
    assert landmarks(rows, RATE) == [landmarks(row[None], RATE)[0] for row in rows]


def test_there_are_no_more_than_the_cache_has_room_for() -> None:
    rng = np.random.default_rng(0)
    for seconds in (0.5, 1.0, 1.3, 7.0):
        (text,) = landmarks(rng.standard_normal((1, round(seconds * RATE))).astype(np.float32), RATE)
        assert 0 < len(text) <= most_letters(seconds)
        assert not len(base64.b64decode(text)) % TYPE.itemsize


def test_windows_of_one_file_are_compared_as_one_recording(monkeypatch) -> None:
    """Windows too short to be recognised alone are, together, and the same whatever is in memory at once."""
    windows = [sound("file", cry(0)[k * 4000 : (k + 1) * 4000], start_s=k / 2) for k in range(8)]
    copy = [sound("copy", cry(0)[1000:])]
    others = [sound(f"other{seed}", cry(seed)) for seed in range(1, 5)]
    found = alike(windows, [*others, *copy])
    assert set(found[:, 1].tolist()) == {4} and len(found) >= 5
    assert not len(alike(windows[:1], windows[1:]))  # of one file, lineage compares the stretches
    monkeypatch.setattr(acoustic_fingerprint, "AT_ONCE", 1)
    assert alike(windows, [*others, *copy]).tolist() == found.tolist()


def packed(name: str, times: list[int], hashes: list[int]) -> str:
    """A sound of such landmarks, each of its own frequencies, beside eight of its own."""
    own = name.encode()[0] << 8
    rows = [*((hashed << 6, time) for hashed, time in zip(hashes, times, strict=True))]
    rows += [(own + k << 6, 3 * k) for k in range(8)]
    return f"{name}#0.000-7.000#{base64.b64encode(np.array(rows, TYPE).tobytes()).decode()}"


@pytest.mark.parametrize(
    ("times", "is_copy"),
    [
        ([5, 5, 6, 6, 6, 9, 10], False),  # as two speakers' words do, within a second
        ([5, 8, 10, 14], False),
        ([5, 18, 30, 47], True),  # over a second
        ([5, 8, 10, 14, 17], True),
        ([5, 5, 5, 5, 5, 9, 9, 9], True),  # a copied word of few peaks
        ([5, 5, 5, 5, 5, 5, 5, 5], False),  # one beginning, as of a click
    ],
)
def test_a_short_sound_needs_more_to_be_a_copy(times, is_copy) -> None:
    shifted = packed("bb", [time + 7 for time in times], list(range(len(times))))
    assert len(alike([packed("aa", times, list(range(len(times))))], [shifted])) == is_copy


@pytest.mark.parametrize("n_landmarks", [3, 4])
def test_all_of_few_landmarks_are_a_copy(n_landmarks) -> None:
    rows = [(hashed, 5) for hashed in range(n_landmarks)]
    one, other, more = (
        f"{name}#0.000-0.400#{base64.b64encode(np.array(own, TYPE).tobytes()).decode()}"
        for name, own in (("one", rows), ("other", rows), ("more", [*rows, (99, 6)]))
    )
    assert len(alike([one], [other])) == (n_landmarks == 4)
    assert not len(alike([one], [more]))


def test_overlapping_windows_make_no_copy_of_a_few_landmarks() -> None:
    def windows(name: str, own: int) -> list[str]:
        hop_s = 0.024  # a frame
        rows = [np.array([*((k, 40) for k in range(4)), *((own + k, 2 * k + 60) for k in range(8))], TYPE)] * 9
        for n, row in enumerate(rows := [row.copy() for row in rows]):
            row["time"] -= n
        return [
            f"{name}#{n * hop_s:.3f}-2.000#{base64.b64encode(row.tobytes()).decode()}" for n, row in enumerate(rows)
        ]

    assert len(alike(windows("aa", 100), windows("bb", 100))) == 81
    assert not len(alike(windows("aa", 100), windows("bb", 200)))


def test_other_words_are_no_copies_and_copies_of_words_are(tmp_path) -> None:
    words = [
        waveform for _, waveform in SyntheticWords(n_speakers=3, n_words=4, n_takes=4, folder=str(tmp_path)).render()
    ]
    known = [sound(str(place), waveform) for place, waveform in enumerate(words)]
    assert not len(alike(known, known))
    found = alike([sound(f"copy {place}", 0.5 * waveform) for place, waveform in enumerate(words)], known)
    assert (found[:, 0] == found[:, 1]).all() and len(found) > 0.95 * len(words)


def alarm(n: int, phase_s: float) -> np.ndarray:
    """A ward's monitor: three tones with harmonics, every 2.5 s."""
    one, time = np.zeros(int(2.5 * RATE)), np.arange(int(0.18 * RATE)) / RATE
    for place, pitch in enumerate((523, 659, 784)):
        tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 5))
        one[int(0.3 * place * RATE) :][: len(time)] = tone
    return np.resize(np.roll(one, int(phase_s * RATE)), n)


def test_the_alarm_of_a_ward_makes_no_copies_and_hides_none() -> None:
    rng, cries = np.random.default_rng(0), [cry(seed, 6.0) for seed in range(16)]
    mixed = [x + 2.3 * x.std() * alarm(len(x), rng.uniform(0, 2.5)).astype(np.float32) for x in cries]  # as loud
    known = [sound(f"ward{place}", waveform) for place, waveform in enumerate(mixed)]
    copies = [sound(f"copy{place}", CHANGES["1 ms"](waveform)) for place, waveform in enumerate(mixed)]
    assert not len(alike(known, known))
    assert alike(copies, known).tolist() == [[place, place] for place in range(len(known))]


def test_nothing_is_alike_to_nothing() -> None:
    assert (
        alike([], []).shape
        == alike([sound("a", cry(0))], []).shape
        == alike(["ab12"], ["ab12#0.0-1.0"]).shape
        == (0, 2)
    )
