"""Made corpora: the same bytes every time, the acoustics that were asked for, and knobs that do what they say."""

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.fft import dct
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cry_lightning.console import UserError
from cry_lightning.corpora.synthesis import (
    CRY_STYLES,
    Bout,
    Infant,
    Utterance,
    cry,
    frame_length,
    frame_times,
    noise_frequencies,
    tract_gain,
)
from cry_lightning.corpora.synthetic import PHONES, Speaker, SyntheticCries, SyntheticWords, word

SAMPLE_RATE = 8000
NORMAL, ASPHYXIA = CRY_STYLES["normal"], CRY_STYLES["asphyxia"]


def contents(corpus) -> dict[str, bytes]:
    folder = corpus.root.parent
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def f0_hz(sound: np.ndarray, lowest_hz: float = 200, highest_hz: float = 1000) -> float:
    """Median over 50 ms frames of the autocorrelation's first high peak, by the parabola through it."""
    pitches = []
    for frame in sound[: len(sound) // 400 * 400].reshape(-1, 400):
        frame = frame - frame.mean()
        correlation = np.correlate(frame, frame, "full")[399:] / np.arange(400, 0, -1)
        lags = np.arange(int(SAMPLE_RATE / highest_hz), int(SAMPLE_RATE / lowest_hz))
        peaks = lags[(correlation[lags] > correlation[lags - 1]) & (correlation[lags] >= correlation[lags + 1])]
        peaks = peaks[correlation[peaks] > 0.85 * correlation[peaks].max()] if len(peaks) else peaks
        if len(peaks):
            left, middle, right = correlation[peaks[0] - 1 : peaks[0] + 2]
            pitches.append(SAMPLE_RATE / (peaks[0] + 0.5 * (left - right) / (left - 2 * middle + right)))
    return float(np.median(pitches))


def features(corpus) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means and SDs over time of 20 cepstral coefficients from 32 bands; labels; subjects."""
    rows, samples = zip(*corpus.render(), strict=True)
    frames = np.lib.stride_tricks.sliding_window_view(np.stack(samples) / 32768, 256, axis=1)[:, ::128]
    power = np.abs(np.fft.rfft(frames * np.hanning(256))[..., :128]) ** 2
    bands = power.reshape(*power.shape[:2], 32, 4).sum(-1)
    cepstra = dct(np.log(bands + 1e-8), norm="ortho")[..., :20]
    labels, subjects = np.array([row["label"] for row in rows]), np.array([row["subject"] for row in rows])
    return np.concatenate([cepstra.mean(1), cepstra.std(1)], axis=-1), labels, subjects


def uar(data: tuple[np.ndarray, np.ndarray, np.ndarray], subject_wise: bool) -> float:
    x, labels, subjects = data
    folds = (StratifiedGroupKFold if subject_wise else StratifiedKFold)(5, shuffle=True, random_state=0)
    groups = {"groups": subjects} if subject_wise else {}
    model = make_pipeline(StandardScaler(), SVC(C=3))
    return float(balanced_accuracy_score(labels, cross_val_predict(model, x, labels, cv=folds, **groups)))


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [(SyntheticWords, {"n_speakers": 2, "n_words": 2, "n_takes": 2}), (SyntheticCries, {"n_infants": 2, "n_cries": 3})],
)
def test_same_arguments_give_the_same_bytes_and_other_seeds_do_not(kind, sizes, tmp_path: Path) -> None:
    first, again = kind(folder=str(tmp_path / "a"), **sizes), kind(folder=str(tmp_path / "b"), **sizes)
    other = kind(folder=str(tmp_path / "a"), seed=1, **sizes)
    for corpus in (first, again, other):
        corpus.prepare()
    assert contents(first) == contents(again)
    assert other.root != first.root
    sounds = [content for made in (first, other) for path, content in contents(made).items() if path.endswith(".wav")]
    assert len(set(sounds)) == len(sounds)


def test_a_clip_does_not_depend_on_the_size_of_the_corpus(tmp_path: Path) -> None:
    small = SyntheticCries(2, 2, folder=str(tmp_path))
    large = SyntheticCries(3, 4, folder=str(tmp_path))
    small.prepare()
    large.prepare()
    of_large = contents(large)
    for path, content in contents(small).items():
        assert path == "manifest.csv" or of_large[path] == content


def test_clips_carry_what_is_known_of_them(tmp_path: Path) -> None:
    cries = SyntheticCries(3, 4, folder=str(tmp_path)).clips()
    words = SyntheticWords(2, 3, 1, sample_rate=16000, folder=str(tmp_path))
    assert {clip.subject for clip in cries} == {f"synthetic-cries:seed0-infant{index:03d}" for index in range(3)}
    assert {clip.label for clip in cries} == {"normal", "asphyxia"}
    assert set(cries[0].columns) == {"sex", "age_days"}
    assert len(words.clips()) == 6
    clip = words.clips()[-1]
    assert (clip.subject, clip.label, dict(clip.columns)) == ("synthetic-words:seed0-speaker001", "fenu", {"sex": "f"})
    info = soundfile.info(words.path_of(clip))
    assert (info.samplerate, info.frames, info.channels, info.subtype) == (16000, 16000, 1, "PCM_16")


def test_every_argument_gives_a_folder_of_its_own() -> None:
    changes = [{}, {"n_infants": 7}, {"n_cries": 7}, {"kinds": ["pain", "hunger"]}, {"label_strength": 0.5}]
    changes += [{"identity_confound": 0.5}, {"duration_s": 2.0}, {"sample_rate": 16000}, {"seed": 7}]
    assert len({SyntheticCries(**change).root for change in changes}) == len(changes)


def test_mistakes_are_named() -> None:
    for mistake in ({"label_strength": 1.5}, {"kinds": ["joy"]}, {"n_infants": 0}, {"duration_s": 0}):
        with pytest.raises(UserError, match="synthetic-cries"):
            SyntheticCries(**mistake)
    with pytest.raises(UserError, match="12 words"):
        SyntheticWords(n_words=13)


def _prepare(folder: str) -> None:
    SyntheticCries(4, 50, folder=folder).prepare()


@pytest.mark.slow
def test_a_killed_render_is_not_trusted_and_swept_away(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_prepare, args=(str(tmp_path / "killed"),))
    process.start()
    while not list(tmp_path.rglob("*.wav")):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    killed, whole = (SyntheticCries(4, 50, folder=str(tmp_path / name)) for name in ("killed", "whole"))
    assert not killed.root.parent.exists() and len(list((tmp_path / "killed").iterdir())) == 1
    whole.prepare()
    killed.prepare()
    assert contents(killed) == contents(whole)
    assert list((tmp_path / "killed").iterdir()) == [killed.root.parent]


def test_a_failed_render_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(UserError, match=r"cannot be written \(disk full\)"):
        SyntheticCries(1, 1, folder=str(tmp_path)).prepare()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_that_want_one_corpus_render_it_once(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=_prepare, args=(str(tmp_path),)) for _ in range(2)]
    for process in processes:
        process.start()
    made = set()
    while any(process.is_alive() for process in processes):
        with suppress(FileNotFoundError):  # the folder takes its final name meanwhile
            made |= {path.stat().st_ino for path in tmp_path.rglob("000.wav")}
        time.sleep(0.002)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    corpus = SyntheticCries(4, 50, folder=str(tmp_path))
    assert len(corpus.clips()) == 200 and list(tmp_path.iterdir()) == [corpus.root.parent]
    assert made <= {path.stat().st_ino for path in tmp_path.rglob("000.wav")}


@pytest.mark.parametrize("asked_hz", [310.0, 450.0, 640.0])
def test_a_steady_voice_has_the_pitch_that_was_asked(asked_hz: float) -> None:
    frames = frame_times(SAMPLE_RATE, SAMPLE_RATE)
    formants_hz = np.tile([1150.0, 3450.0], (len(frames), 1))
    silence = np.zeros((len(frames), len(noise_frequencies(SAMPLE_RATE))))
    voice = Utterance(np.full(len(frames), asked_hz), formants_hz, np.ones(len(frames)), silence)
    assert f0_hz(voice.render(SAMPLE_RATE, np.random.default_rng(0))) == pytest.approx(asked_hz, rel=0.02)


def test_a_cry_has_the_melody_that_was_asked() -> None:
    calm = replace(NORMAL, biphonation=0, dysphonation=0)
    for index in range(8):
        rng = np.random.default_rng(index)
        bout = Bout(Infant.draw(rng), calm, frame_times(SAMPLE_RATE, SAMPLE_RATE), rng)
        bout.expire(0.0, 1.0)
        asked_hz = np.median(bout.f0_hz)
        measured_hz = f0_hz(bout.sound(SAMPLE_RATE), 0.6 * asked_hz, 1.6 * asked_hz)  # no octave is mistaken
        assert measured_hz == pytest.approx(asked_hz, rel=0.04)


def test_infants_differ_in_pitch_around_that_of_the_style() -> None:
    rng = np.random.default_rng(0)
    pitches_hz = [Bout(Infant.draw(rng), NORMAL, np.zeros(1), rng).mean_f0_hz for _ in range(400)]
    assert np.median(pitches_hz) == pytest.approx(496, rel=0.03)
    assert 0.08 < np.std(np.log(pitches_hz)) < 0.16


def test_tract_resonates_at_its_formants() -> None:
    frequency_hz = np.arange(0.0, 4000.0, 5.0)
    gain = tract_gain(frequency_hz, np.array([[1150.0, 3450.0]]))[0]
    peaks = frequency_hz[1:-1][(gain[1:-1] > gain[:-2]) & (gain[1:-1] > gain[2:])]
    assert gain[0] == pytest.approx(1)
    assert peaks == pytest.approx([1150, 3450], abs=20)


def test_asphyxia_is_higher_and_shorter_on_the_audio() -> None:
    def measured(style) -> tuple[float, float]:
        pitches, silent = [], []
        for index in range(25):
            infant = Infant.draw(np.random.default_rng(index))
            sound = cry(infant, style, 2 * SAMPLE_RATE, SAMPLE_RATE, np.random.default_rng([index, 1]))
            level = np.sqrt((sound[: len(sound) // 80 * 80].reshape(-1, 80) ** 2).mean(-1))
            pitches.append(f0_hz(sound))
            silent.append((level < 0.15 * level.max()).mean())
        return float(np.mean(pitches)), float(np.mean(silent))

    normal, asphyxia = measured(NORMAL), measured(ASPHYXIA)
    assert asphyxia[0] > 1.1 * normal[0]
    assert asphyxia[1] > 1.2 * normal[1]  # shorter expirations: more of the time is pauses


def test_dysphonation_makes_the_sound_noisier() -> None:
    infant = Infant.draw(np.random.default_rng(0))
    times_s = frame_times(SAMPLE_RATE, SAMPLE_RATE)

    def noise_share(dysphonation: float) -> float:
        shares = []
        for index in range(40):
            bout = Bout(infant, replace(NORMAL, dysphonation=dysphonation), times_s, np.random.default_rng(index))
            bout.expire(0.0, 1.0)
            shares.append(bout.noise.sum() / bout.voicing.sum())
        return float(np.mean(shares))

    assert noise_share(0.35) > 1.3 * noise_share(0.1)


def test_a_word_is_voiced_in_vowels_and_noisy_in_fricatives() -> None:
    speaker = Speaker.draw("m", np.random.default_rng(0))
    low, high = [], []
    for index in range(10):
        sound = word("sa", speaker, 8000, SAMPLE_RATE, np.random.default_rng(index))
        power = np.abs(np.fft.rfft(sound.reshape(-1, 160), axis=1)) ** 2
        loud = power.sum(1) > 1e-4 * power.sum(1).max()
        share_above_2500_hz = power[loud][:, 50:].sum(1) / power[loud].sum(1)
        low.append(share_above_2500_hz[-3])
        high.append(share_above_2500_hz[1])
    assert PHONES["s"].voicing == 0
    assert np.median(high) > 0.7
    assert np.median(low) < 0.2


def test_at_strength_0_labels_do_not_touch_the_sound() -> None:
    free = list(SyntheticCries(4, 6, label_strength=0).render())
    bound = list(SyntheticCries(4, 6, label_strength=0, identity_confound=1).render())
    assert [row["label"] for row, _ in free] != [row["label"] for row, _ in bound]
    for (_, one), (_, other) in zip(free, bound, strict=True):
        assert np.array_equal(one, other)


def test_identity_confound_makes_the_label_a_function_of_the_infant() -> None:
    corpus = SyntheticCries(4, 12, identity_confound=1)
    assert all(len({corpus._kind(infant, take) for take in range(12)}) == 1 for infant in range(4))
    assert {corpus._kind(infant, 0) for infant in range(4)} == {0, 1}
    free = SyntheticCries(4, 12)
    assert all(len({free._kind(infant, take) for take in range(12)}) == 2 for infant in range(4))


@pytest.mark.slow
def test_knobs_decide_what_a_classifier_can_learn() -> None:
    strong = features(SyntheticCries(30, 12))
    none = features(SyntheticCries(30, 12, label_strength=0))
    leaky = features(SyntheticCries(30, 12, label_strength=0, identity_confound=1))
    assert 0.72 < uar(strong, subject_wise=True) < 0.97
    assert uar(none, subject_wise=True) == pytest.approx(0.5, abs=0.1)
    # Subjects are the units here: 30 of them, so chance scatters more widely than over 360 free clips.
    assert uar(leaky, subject_wise=True) == pytest.approx(0.5, abs=0.15)
    assert uar(leaky, subject_wise=False) > 0.65
    assert uar(leaky, subject_wise=False) > uar(leaky, subject_wise=True) + 0.12


def test_a_voice_is_the_sum_of_its_harmonics_where_it_sounds():
    """Against cosines summed one by one over the whole utterance, silence included."""
    rate, frames = 8000, 60
    hop, voicing = frame_length(rate), np.zeros(frames)
    voicing[20:41] = np.hanning(23)[1:-1]
    f0_hz, formants_hz = np.linspace(300, 400, frames), np.full((frames, 2), [700.0, 1200.0])
    still = {"jitter": 0.0, "shimmer": 0.0, "tilt": 1.0}
    spoken = Utterance(f0_hz, formants_hz, voicing, np.zeros((frames, hop + 1)), **still)
    sound = spoken.render(rate, np.random.default_rng(0))
    times = np.arange(frames * hop) / hop
    phase = 2 * np.pi * np.cumsum(np.interp(times, np.arange(frames), f0_hz)) / rate
    summed = np.zeros(frames * hop)
    for k in range(1, 1 + int(0.5 * rate / 300)):
        fades = np.clip(20 * (0.5 - k * f0_hz / rate), 0, 1)
        gain = voicing * tract_gain(k * f0_hz[:, None], formants_hz)[:, 0] / k * fades
        summed += np.interp(times, np.arange(frames), gain) * np.cos(k * phase)
    np.testing.assert_allclose(sound, summed, atol=1e-9)
    assert not sound[: 19 * hop].any() and not sound[41 * hop :].any() and sound[19 * hop : 41 * hop].any()
