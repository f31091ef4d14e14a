"""Acquisition: cry units out of recordings of any container, and the manifest that lists them."""

import json
import multiprocessing
import os
import tracemalloc
from fractions import Fraction
from functools import partial
from pathlib import Path
from unicodedata import normalize

import av
import numpy as np
import pandas as pd
import pytest
import soundfile
from made import DATA, real

from cry_lightning import annotations, audio
from cry_lightning.__main__ import run as command
from cry_lightning.acquire import command as acquiring, inputs, segmentation
from cry_lightning.acquire.segmentation import spans
from cry_lightning.acquire.settings import Settings
from cry_lightning.console import UserError
from cry_lightning.corpora import Intervals, Manifest, UnlabelledTree

main = partial(command, "acquire")


RATE = 16000
CRIES = [(0.803, 0.6), (2.037, 1.2), (4.4, 0.35), (6.106, 1.9)]  # start and length in seconds
NOISE_DB = -45.0


def voice(length_s: float, pitch_hz: float = 450.0, rate: int = RATE) -> np.ndarray:
    """Harmonics with a little vibrato, level for all their length but 5 ms at either end."""
    time = np.arange(round(length_s * rate)) / rate
    phase = 2 * np.pi * pitch_hz * (time + 0.002 * np.sin(2 * np.pi * 5 * time) / 5)
    sound = sum(np.cos(k * phase) / k for k in range(1, 1 + min(8, int(3400 / pitch_hz))))
    edge = np.minimum(1, np.minimum(time, length_s - time) / 0.005)
    return 0.2 * edge * sound


def scene(cries=CRIES, length_s: float = 9.0, pitch_hz: float = 450.0, rate: int = RATE) -> np.ndarray:
    sound = np.random.default_rng(0).standard_normal(round(length_s * rate)) * 10 ** (NOISE_DB / 20)
    for start_s, duration_s in cries:
        first = round(start_s * rate)
        one = voice(duration_s, pitch_hz, rate)
        sound[first : first + one.size] += one
    return sound.astype(np.float32)


def wav(path: Path, sound: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, subtype=subtype, format="WAV")
    return path


def encode(path: Path, sound: np.ndarray | None, codec: str = "aac", rate: int = RATE, video: bool = False) -> Path:
    """A container with sound, a picture, or both."""
    with av.open(str(path), "w") as output:
        if video:
            picture = output.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        if sound is not None:
            stream = output.add_stream(codec, rate=rate, layout="mono")
        if video:
            for _ in range(90):
                output.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
            output.mux(picture.encode(None))
        if sound is not None:
            frame = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16)[None], format="s16", layout="mono")
            frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            size = stream.codec_context.frame_size or 1024
            to_codec = av.AudioResampler(stream.codec_context.format, "mono", rate, frame_size=size)
            for piece in [*to_codec.resample(frame), *to_codec.resample(None)]:
                output.mux(stream.encode(piece))
            output.mux(stream.encode(None))
    return path


def acquire(given: Path, out: Path, *options: str) -> pd.DataFrame:
    """The manifest."""
    main([str(given), str(out), *options])
    return pd.read_csv(out / "manifest.csv", keep_default_na=False)


def found(table: pd.DataFrame) -> np.ndarray:
    return table[["source_start_s", "duration_s"]].to_numpy()


def heard(sound: np.ndarray, **thresholds: float) -> list[segmentation.Unit]:
    blocks = (sound[first : first + RATE] for first in range(0, sound.size, RATE))
    return list(segmentation.units(blocks, Settings(**thresholds)))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def tree_of_wavs(tmp_path) -> Path:
    for index in range(3):
        wav(tmp_path / "in" / f"{index}.wav", scene(CRIES[index:]))
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"codec": "aac", "rate": 44100, "video": True}),
        ("a.mov", {"codec": "aac", "rate": 48000, "video": True}),
        ("b.mov", {"codec": "pcm_s16le", "rate": 16000, "video": True}),
        ("a.m4a", {"codec": "aac", "rate": 16000}),
        ("a.3gp", {"codec": "libopencore_amrnb", "rate": 8000, "video": True}),
        ("b.3gp", {"codec": "aac", "rate": 32000}),
        ("a.caf", {"codec": "adpcm_ima_qt", "rate": 16000}),
    ],
)
def test_units_of_phone_containers_lie_where_the_cries_are(tmp_path, name, options):
    encode(tmp_path / name, scene(rate=options["rate"]), **options)
    table = acquire(tmp_path / name, tmp_path / "out")
    assert table.shape[0] == len(CRIES)
    starts, lengths = found(table).T
    ends = np.array(CRIES).sum(axis=1)
    assert np.abs(starts - np.array(CRIES)[:, 0]).max() <= 0.02 and np.abs(starts + lengths - ends).max() <= 0.02


def test_a_pattern_finds_names_in_either_form_of_unicode():
    sources = [normalize(form, f"Änne_{number}.wav") for number, form in enumerate(("NFC", "NFD"))]
    for form in ("NFC", "NFD"):
        found = inputs.by_pattern(normalize(form, "(?P<subject>Änne)"), sources)
        assert [found[source].subject for source in sources] == ["Änne"] * 2


def test_the_manifest_is_a_corpus_of_16_khz_16_bit_units_that_are_cut_from_their_source(tmp_path):
    path = wav(tmp_path / "in" / "a.wav", scene(rate=44100), 44100)
    table = acquire(path.parent, tmp_path / "out")
    clips = Manifest(tmp_path / "out" / "manifest.csv").clips()
    assert [clip.columns["source"] for clip in clips] == ["a.wav"] * len(CRIES)
    for clip, row in zip(clips, table.to_dict("records"), strict=True):
        unit = soundfile.info(tmp_path / "out" / clip.path)
        assert (unit.samplerate, unit.channels, unit.subtype) == (RATE, 1, "PCM_16")
        assert clip.start_s == 0 and clip.duration_s == unit.frames / RATE == row["duration_s"]
        cut = audio.load(tmp_path / "out" / clip.path, RATE, clip.start_s, clip.duration_s)
        original = audio.load(path, RATE, row["source_start_s"], row["duration_s"])
        assert np.abs(cut - original).max() < 2 / 32768


def test_levels_are_those_of_the_sound(tmp_path):
    time = np.arange(RATE) / RATE
    tone = np.zeros(4 * RATE)
    tone[RATE : 2 * RATE] = 0.1 * np.sin(2 * np.pi * 500 * time)
    (unit,) = heard(tone)
    assert unit.peak_db == pytest.approx(-20, abs=0.05)
    assert unit.active_level_db == pytest.approx(-23.01, abs=0.05)
    assert unit.clipped_fraction == 0 and unit.harmonicity > 0.95
    half = np.concatenate([tone[RATE : 2 * RATE], 0.001 * tone[RATE : 2 * RATE]])
    assert segmentation.Unit(0.0, half, 1.0).active_level_db == pytest.approx(
        -23.01, abs=0.05
    )  # the quiet half is no cry


@pytest.mark.parametrize(("rate", "subtype"), [(16000, "PCM_16"), (44100, "PCM_16"), (8000, "PCM_U8")])
def test_clipping_is_measured_in_any_format(tmp_path, rate, subtype):
    loud = np.clip(scene(rate=rate) * 8, -1, 1)
    clipped = acquire(wav(tmp_path / "loud.wav", loud, rate, subtype), tmp_path / "loud")["clipped_fraction"].mean()
    first, last = round(2.037 * rate), round(3.237 * rate)
    expected = (np.abs(loud[first:last]) >= 1).mean()
    assert expected > 0.3 and clipped == pytest.approx(expected, rel=0.35)  # resampled, flat tops ripple
    quiet = acquire(wav(tmp_path / "quiet.wav", loud / 4, rate, subtype), tmp_path / "quiet")
    assert (quiet["clipped_fraction"] == 0).all() and len(quiet) == len(CRIES)


def levels(*steps: tuple[float, float]) -> list[float]:
    """Frames of 10 ms: (seconds, dB above the floor)."""
    return [level for seconds, level in steps for _ in range(round(100 * seconds))]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([(1, 0), (0.5, 20), (1, 0)], [(100, 150)]),
        ([(1, 0), (0.3, 8), (0.5, 20), (0.3, 8), (1, 0)], [(100, 210)]),  # reaches as far as the release threshold
        ([(1, 0), (1, 11), (1, 0)], []),  # no onset
        ([(1, 0), (0.1, 20), (1, 0)], []),  # too short
        ([(1, 0), (0.1, 20), (0.05, 0), (0.1, 20), (1, 0)], [(100, 125)]),  # a short gap is bridged
        ([(1, 0), (0.3, 20), (0.1, 0), (0.3, 20)], [(100, 130), (140, 170)]),  # a longer one is not
        ([(2, 20), (0.05, 0), (2, 20)], [(0, 200), (205, 405)]),  # nor one that would make too long a unit
        ([(2.3, 20), (0.01, 9), (1, 20)], [(0, 230), (230, 331)]),  # cut where it is quietest
        ([(2.55, 20)], [(0, 18), (18, 255)]),  # no part too short
        ([(0.5, 20), (2.4, 8)], [(0, 50)]),  # the rest has no onset of its own
    ],
)
def test_hysteresis_gaps_and_lengths(steps, expected):
    assert list(spans(levels(*steps), Settings())) == expected


def test_a_span_is_told_once_it_is_certain():
    def steps():
        yield from levels((1, 0), (0.5, 20), (0.2, 0))
        raise AssertionError("heard on")

    assert next(spans(steps(), Settings())) == (100, 150)


def test_the_floor_follows_the_background():
    rng = np.random.default_rng(1)
    background = rng.standard_normal(60 * RATE) * np.repeat([0.001, 0.01], 30 * RATE)  # 20 dB louder in the second half
    cries = [(float(start), 0.5) for start in range(5, 60, 5)]
    sound = background + scene(cries, 60.0) * 0.8
    found = [unit.start_s for unit in heard(sound)]
    assert len(found) == len(cries) and np.abs(np.array(found) - np.array(cries)[:, 0]).max() <= 0.02
    assert not heard(background)


def test_what_is_not_voiced_at_the_pitch_of_cries_is_dropped():
    rng = np.random.default_rng(2)
    bursts = scene([])
    for start_s, duration_s in CRIES:
        first = round(start_s * RATE)
        bursts[first : first + round(duration_s * RATE)] += 0.1 * rng.standard_normal(round(duration_s * RATE))
    assert not heard(bursts) and len(heard(bursts, min_harmonicity=0.0)) == len(CRIES)
    assert not heard(scene(pitch_hz=110.0))  # the pitch of a man
    assert len(heard(scene(pitch_hz=800.0))) == len(CRIES) and not heard(scene(pitch_hz=800.0), f0_max_hz=600.0)


def test_music_and_high_voices_are_not_told_from_cries():
    chord = scene(pitch_hz=440.0) + scene(pitch_hz=550.0) + scene(pitch_hz=660.0)
    assert len(heard(chord)) == len(CRIES) and len(heard(scene(pitch_hz=230.0))) == len(CRIES)


def test_settings_that_contradict_each_other_are_refused(tmp_path):
    path = wav(tmp_path / "a.wav", scene())
    for option in ("--release-db=20", "--max-unit-s=0.2", "--f0-min-hz=2500", "--min-harmonicity=2"):
        with pytest.raises(UserError, match=option[2:].partition("=")[0].replace("-", "_")):
            main([str(path), str(tmp_path / "out"), option])
    with pytest.raises(UserError, match="--floor-min-db: invalid number value"):
        main([str(path), str(tmp_path / "out"), "--floor-min-db=nan"])
    assert not (tmp_path / "out").exists()


def spoil(folder: Path) -> dict[str, str]:
    """Bad files, and a word of why each is refused."""
    encode(folder / "mute.mp4", None, video=True)
    content = encode(folder / "whole.mp4", scene(), video=True).read_bytes()
    (folder / "cut.mp4").write_bytes(content[: len(content) // 2])
    (folder / "whole.mp4").unlink()
    (folder / "letter.mov").write_text("Dear doctor, it cries all night.\n" * 99)
    (folder / "empty.3gp").touch()
    wav(folder / "none.wav", np.zeros(0))
    (folder / "gone.wav").symlink_to(folder / "nowhere")
    return {
        "mute.mp4": "no audio track",
        "cut.mp4": "cannot be decoded",
        "letter.mov": "cannot be decoded",
        "empty.3gp": "empty",
        "none.wav": "no samples",
        "gone.wav": "No such file",
    }


def test_bad_files_are_refused_with_a_reason_and_the_rest_goes_on(tmp_path, capsys, caplog):
    (tmp_path / "in").mkdir()
    faults = spoil(tmp_path / "in")
    wav(tmp_path / "in" / "renamed.mp4", scene())
    wav(tmp_path / "in" / "silence.wav", np.zeros(3 * RATE))
    wav(tmp_path / "in" / "click.wav", np.ones(9) * 0.1)
    table = acquire(tmp_path / "in", tmp_path / "out")
    assert set(table["source"]) == {"renamed.mp4"} and len(table) == len(CRIES)
    listed = pd.read_csv(tmp_path / "out" / "sources.csv", keep_default_na=False, index_col="source")
    for name, reason in faults.items():
        assert reason in listed.loc[name, "refused"] and f"{name}: " in caplog.text
    assert str(tmp_path) not in "".join(listed["refused"])
    good = listed.loc[["click.wav", "renamed.mp4", "silence.wav"]]
    assert good["units"].tolist() == [0, len(CRIES), 0] and (good["refused"] == "").all()
    told = capsys.readouterr().out
    assert "3 files read" in told and "6 refused" in told and "2 files hold no unit" in told


def test_a_tree_that_cannot_be_read_at_all_is_an_error_and_leaves_nothing_behind(tmp_path, caplog):
    (tmp_path / "in").mkdir()
    faults = spoil(tmp_path / "in")
    with pytest.raises(UserError, match=r"none of 6 files could be read; the first is cut\.mp4: cannot be decoded"):
        main([str(tmp_path / "in"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists() and all(f"{name}: " in caplog.text for name in faults)
    wav(tmp_path / "in" / "a.wav", scene(CRIES[:1]))
    acquire(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "a.wav").unlink()  # what there was before stays a folder of units
    with pytest.raises(UserError, match=r"none of 6 .* see .*sources\.csv; the first is cut\.mp4: cannot be decoded"):
        main([str(tmp_path / "in"), str(tmp_path / "out")])
    listed = pd.read_csv(tmp_path / "out" / "sources.csv")
    assert len(listed) == 6 and listed["refused"].notna().all()


def test_subjects_are_missed_where_units_are_cut_alone(tmp_path, caplog):
    wav(tmp_path / "in" / "ann.wav", scene(CRIES[:1]))
    wav(tmp_path / "in" / "silence.wav", np.zeros(RATE))
    (tmp_path / "in" / "letter.mov").write_text("Dear doctor")
    acquire(tmp_path / "in", tmp_path / "out", "--name-pattern=^(?P<subject>ann)")
    assert "letter.mov: cannot be decoded" in caplog.text and "known subject" not in caplog.text
    wav(tmp_path / "in" / "ben.wav", scene(CRIES[:1]))
    acquire(tmp_path / "in", tmp_path / "out", "--name-pattern=^(?P<subject>ann)")
    assert "without a known subject" in caplog.text


def test_nothing_found_is_said(tmp_path, capsys):
    path = wav(tmp_path / "a.wav", scene())
    acquire(path, tmp_path / "out")
    main([str(path), str(tmp_path / "out"), "--onset-db=45", "--floor-range-db=50", "--overwrite"])
    assert "No unit was found" in capsys.readouterr().out and not (tmp_path / "out" / "manifest.csv").exists()


NAMES = ["two words.wav", 'it\'s "mine".wav', "Säugling 婴儿.wav", "a.wav", "a.flac", "-.wav", "x\ny.wav"]


def test_odd_names(tmp_path):
    for name in NAMES:
        soundfile.write(tmp_path / name, scene(CRIES[:2]), RATE, format=name.rpartition(".")[2])
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9\xff.wav")).touch()  # no UTF-8
    out = tmp_path.with_name("odd")
    table = acquire(tmp_path, out)
    assert len(table) == 2 * len(NAMES) == table["path"].nunique() and set(table["source"]) == set(NAMES)
    clips = Manifest(out / "manifest.csv").clips()
    assert len({clip.subject for clip in clips}) == len(NAMES)
    assert all(clip.path.isascii() and " " not in clip.path for clip in clips)
    assert "\\udce9\\udcff.wav" in (out / "sources.csv").read_text(encoding="utf-8")


def test_out_within_in_and_other_mistakes_are_refused(tmp_path, tree_of_wavs):
    before = tree(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    (tmp_path / "link").symlink_to(tree_of_wavs)
    for given, out, told in (
        (tree_of_wavs, tree_of_wavs / "out", "lies within"),
        (tree_of_wavs, tree_of_wavs, "lies within"),
        (tree_of_wavs, tmp_path / "link" / "out", "lies within"),
        (tree_of_wavs, tree_of_wavs / "0.wav", "is a file"),
        (tree_of_wavs, tmp_path / "full", "something else"),
        (tmp_path / "nothing", tmp_path / "out", "no such file"),
        (tmp_path / "full", tmp_path / "out", "no recordings"),
    ):
        with pytest.raises(UserError, match=told):
            main([str(given), str(out)])
    (tmp_path / "full" / "thesis.txt").unlink()
    assert {name: content for name, content in tree(tmp_path).items() if not name.startswith("link")} == before


def test_a_source_that_was_replaced_by_one_of_the_same_size_and_time_is_cut_again(tmp_path, tree_of_wavs, monkeypatch):
    out, source = tmp_path / "out", tree_of_wavs / "1.wav"
    acquire(tree_of_wavs, out)
    cut: list[str] = []
    monkeypatch.setattr(acquiring, "cut", lambda root, name, *rest: cut.append(name) or inputs.cut(root, name, *rest))
    source.chmod(0o600)  # its sound is as it was
    acquire(tree_of_wavs, out)
    assert cut == []
    times, other = source.stat().st_mtime_ns, tree_of_wavs / "other"
    other.write_bytes(source.read_bytes()[:44] + source.read_bytes()[:43:-1])
    os.utime(other, ns=(times, times))
    other.replace(source)
    acquire(tree_of_wavs, out)
    assert cut == ["1.wav"]
    for record in out.rglob("source.json"):  # as of an older release
        known = json.loads(record.read_text())
        record.write_text(json.dumps({key: value for key, value in known.items() if key not in ("entry", "sha256")}))
    acquire(tree_of_wavs, out)
    assert cut == ["1.wav"]


def test_done_sources_are_not_cut_again_but_changed_ones_are(tmp_path, tree_of_wavs, monkeypatch):
    out, cut = tmp_path / "out", []
    acquire(tree_of_wavs, out)
    first = tree(out)
    monkeypatch.setattr(acquiring, "cut", lambda *args: cut.append(args[1]) or inputs.cut(*args))
    acquire(tree_of_wavs, out)
    assert cut == [] and tree(out) == first
    wav(tree_of_wavs / "1.wav", scene(CRIES[:1]))
    next((out / "units").glob("2.wav-*/*.wav")).unlink()
    wav(tree_of_wavs / "3.wav", scene(CRIES[:2]))
    table = acquire(tree_of_wavs, out)
    assert cut == ["1.wav", "2.wav", "3.wav"] and table["source"].value_counts().to_dict() == {
        "0.wav": 4,
        "1.wav": 1,
        "2.wav": 2,
        "3.wav": 2,
    }
    assert len(list(out.glob("units/*/*.wav"))) == len(table)
    (tree_of_wavs / "0.wav").unlink()
    assert set(acquire(tree_of_wavs, out)["source"]) == {"1.wav", "2.wav", "3.wav"}


def test_changed_thresholds_are_refused_or_everything_is_cut_anew(tmp_path, tree_of_wavs):
    acquire(tree_of_wavs, tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(UserError, match=r"min_unit_s 0\.18, not 0\.5.*--overwrite"):
        main([str(tree_of_wavs), str(tmp_path / "out"), "--min-unit-s=0.5"])
    with pytest.raises(UserError, match=r"was made with the recordings in .*, not .*0\.wav; give --overwrite"):
        main([str(tree_of_wavs / "0.wav"), str(tmp_path / "out")])
    assert tree(tmp_path / "out") == before
    again = acquire(tree_of_wavs, tmp_path / "out", "--min-unit-s=0.5", "--overwrite")
    assert len(again) == 6 and again["duration_s"].min() >= 0.5
    assert tree(tmp_path / "out") == {**tree(tmp_path / "out"), **_fresh(tree_of_wavs, tmp_path, "--min-unit-s=0.5")}


class OneCry:
    """Finds the first cry."""

    digest = "abc"

    def __call__(self, recording: Path) -> tuple[list[tuple[float, float]], float]:
        """It, and the length of the scene."""
        return [(0.803, 1.403)], 9.0


def test_thresholds_that_a_detector_does_not_use_are_refused_and_do_not_count_later(tmp_path):
    path = wav(tmp_path / "a.wav", scene())
    with pytest.raises(UserError, match="--onset-db, --min-unit-s: not allowed with argument --detector"):
        main([str(path), str(tmp_path / "out"), "--detector", str(path), "--min-unit-s=0.5", "--onset-db=25"])
    assert not (tmp_path / "out").exists()
    Settings(highpass_hz=300.0).check_used()
    options = {"name_pattern": None, "table": None, "figures": False, "annotations": None, "jobs": 1}
    run = partial(acquiring.run, path, tmp_path / "out", overwrite=False, finder=OneCry(), **options)
    assert len(run(Settings())) == 1
    noted = tmp_path / "out" / "settings.json"
    noted.write_text(json.dumps(json.loads(noted.read_text()) | {"onset_db": 25.0}))
    assert len(run(Settings())) == 1 and json.loads(noted.read_text())["onset_db"] == 12.0
    with pytest.raises(UserError, match=r"out: was made with highpass_hz 200\.0, not 300\.0; give"):
        run(Settings(highpass_hz=300.0))


def _fresh(given: Path, tmp_path: Path, *options: str) -> dict[str, bytes]:
    acquire(given, tmp_path / "fresh", *options)
    return tree(tmp_path / "fresh")


def _killed_at(number: int, given: Path, out: Path) -> None:
    """Run until that many units are written, the last one half, and end as by SIGKILL."""
    written = []
    whole = soundfile.write

    def write(path, samples, *args, **kwargs):
        written.append(path)
        whole(path, samples[: len(samples) // 2] if len(written) == number else samples, *args, **kwargs)
        if len(written) == number:
            os._exit(9)

    soundfile.write = write
    main([str(given), str(out)])


@pytest.mark.parametrize("number", [1, 4, 6])
def test_killed_and_resumed_equals_unbroken(tmp_path, tree_of_wavs, number):
    killed = multiprocessing.get_context("fork").Process(
        target=_killed_at, args=(number, tree_of_wavs, tmp_path / "out")
    )
    killed.start()
    killed.join()
    assert killed.exitcode == 9 and not (tmp_path / "out" / "manifest.csv").exists()
    assert len(list(tmp_path.glob("out/units/*.part"))) == 1
    for record in tmp_path.glob("out/units/*/source.json"):
        assert not record.parent.name.endswith(".part")
        for unit in json.loads(record.read_text())["units"]:
            assert soundfile.info(tmp_path / "out" / unit["path"]).frames == round(unit["duration_s"] * RATE)
    acquire(tree_of_wavs, tmp_path / "out")
    assert tree(tmp_path / "out") == _fresh(tree_of_wavs, tmp_path)


def test_several_jobs_make_the_same(tmp_path, tree_of_wavs):
    (tree_of_wavs / "bad.wav").write_text("no sound")
    acquire(tree_of_wavs, tmp_path / "out", "--jobs=2")
    assert tree(tmp_path / "out") == _fresh(tree_of_wavs, tmp_path)


def test_labels_and_subjects_from_folders(tmp_path):
    for name in ("hungry/ann/1.wav", "hungry/ben/1.wav", "pain/ann/2.wav"):
        wav(tmp_path / "in" / name, scene(CRIES[:1]))
    table = acquire(tmp_path / "in", tmp_path / "out")
    assert table[["label", "subject"]].to_numpy().tolist() == [["hungry", "ann"], ["hungry", "ben"], ["pain", "ann"]]
    wav(tmp_path / "in" / "pain" / "3.wav", scene(CRIES[:1]))
    with pytest.raises(UserError, match=r"pain/3.wav has no subject folder below its class, as others have"):
        acquire(tmp_path / "in", tmp_path / "out")


def test_labels_and_subjects_from_a_pattern_or_a_table(tmp_path):
    for name in ("ann_pain_1.wav", "ben_hunger_1.wav", "unknown.wav"):
        wav(tmp_path / "in" / name, scene(CRIES[:2]))
    given, out = tmp_path / "in", tmp_path / "out"
    table = acquire(given, out, "--name-pattern", r"^(?P<subject>[a-z]+)_(?P<label>[a-z]+)_")
    whose = table.drop_duplicates("source")[["label", "subject"]].to_numpy().tolist()
    assert whose == [["pain", "ann"], ["hunger", "ben"], ["", "unknown.wav"]]
    (tmp_path / "who.csv").write_text("Source,label,Subject,ward\nann_pain_1.wav,colic,Ä,3\nunknown.wav,,ben,\n")
    table = acquire(given, out, "--table", str(tmp_path / "who.csv")).drop_duplicates("source")
    assert table[["label", "subject", "ward"]].to_numpy().tolist() == [
        ["colic", "Ä", "3"],
        ["", "ben_hunger_1.wav", ""],
        ["", "ben", ""],
    ]
    (tmp_path / "twice.csv").write_text("source\nann_pain_1.wav\nann_pain_1.wav\n")
    (tmp_path / "other.csv").write_text("source,label\nelse.wav,pain\n")
    (tmp_path / "two.csv").write_text("source,label,Label\nann_pain_1.wav,pain,colic\n")
    for options, told in (
        (["--name-pattern", "("], "not a regular expression"),
        (["--name-pattern", "(?P<baby>a)"], "named label or subject"),
        (["--name-pattern", "(?P<label>zebra)"], "in no path"),
        (["--table", str(tmp_path / "twice.csv")], "once more"),
        (["--table", str(tmp_path / "other.csv")], "no source that is there"),
        (["--table", str(tmp_path / "two.csv")], "more than one column label"),
        (["--table", str(out / "units")], "cannot be read"),
        (["--table", str(tmp_path / "who.csv"), "--name-pattern", "x"], "not allowed with"),
    ):
        with pytest.raises(UserError, match=told):
            main([str(given), str(out), *options])


def test_donate_a_cry_names_are_read(tmp_path):
    install = "0d1ad73e-4c5e-45f3-85c4-9a3cb71e8856"
    for code in ("f-04-bp", "m-26-dk"):
        wav(tmp_path / "in" / f"{install.upper()}-1430742197-1.0-{code}.wav", scene(CRIES[:1]))
    table = acquire(tmp_path / "in", tmp_path / "out")
    assert table["label"].tolist() == ["belly_pain", ""] and set(table["subject"]) == {install}
    assert table["age"].tolist() == ["0_4_weeks", "2_6_months"]
    clips = Manifest(tmp_path / "out" / "manifest.csv", collection="donateacry").clips()
    assert {clip.subject for clip in clips} == {f"donateacry:{install}"}


@pytest.mark.slow
def test_figures_are_drawn_once_and_again_when_units_change(tmp_path):
    path = wav(tmp_path / "$_{婴}.wav", scene()[: 3 * RATE])
    acquire(path, tmp_path / "out")
    assert not (tmp_path / "out" / "figures").exists()
    acquire(path, tmp_path / "out", "--figures")
    (figure,) = (tmp_path / "out" / "figures").iterdir()
    drawn = figure.stat().st_mtime_ns
    acquire(path, tmp_path / "out", "--figures")
    assert figure.stat().st_mtime_ns == drawn and figure.read_bytes()[:4] == b"\x89PNG"
    acquire(path, tmp_path / "out", "--figures", "--min-unit-s=0.5", "--overwrite")
    assert figure.stat().st_mtime_ns > drawn


def peak_memory(path: Path, seconds: int, out: Path) -> int:
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(seconds // 9):
            file.write(scene())
    tracemalloc.start()
    acquire(path, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path):
    acquire(wav(tmp_path / "warm.wav", scene()), tmp_path / "warm")
    short = peak_memory(tmp_path / "short.wav", 63, tmp_path / "short")
    assert peak_memory(tmp_path / "long.wav", 189, tmp_path / "long") < 1.1 * short


@pytest.mark.slow
def test_two_hours_are_cut_and_drawn_in_the_memory_of_two_minutes(tmp_path):
    acquire(wav(tmp_path / "warm.wav", scene()), tmp_path / "warm", "--figures")
    short = peak_memory(tmp_path / "short.wav", 120, tmp_path / "short")
    long = peak_memory(tmp_path / "long.wav", 7200, tmp_path / "long")
    assert long < short + 12e6  # the rows of 3,200 units; the samples would be 230 MB
    acquire(tmp_path / "long.wav", tmp_path / "long", "--figures")
    assert len(pd.read_csv(tmp_path / "long" / "manifest.csv")) == 4 * 800


@pytest.mark.slow
@real("donateacry_raw")
def test_real_uploads_hold_units_where_the_cleaned_set_has_them(tmp_path):
    cleaned = {path.stem.split("-")[5] for path in (DATA / "donateacry").rglob("*.wav")}
    (tmp_path / "in").mkdir()
    for path in sorted((DATA / "donateacry_raw").iterdir())[::20]:
        if path.stem.split("-")[5] in cleaned:
            (tmp_path / "in" / path.name).symlink_to(path)
    table = acquire(tmp_path / "in", tmp_path / "out")
    listed = pd.read_csv(tmp_path / "out" / "sources.csv", keep_default_na=False)
    assert (listed["refused"] == "").all() and (listed["units"] > 0).mean() > 0.9
    assert table["duration_s"].between(0.18, 2.5).all()


@pytest.mark.parametrize(("form", "ending"), [("textgrid", ".TextGrid"), ("audacity", ".txt")])
def test_units_are_written_as_intervals(tree_of_wavs, tmp_path, form, ending):
    (tree_of_wavs / "quiet.wav").write_bytes(wav(tmp_path / "q.wav", scene([])).read_bytes())
    table = acquire(tree_of_wavs, tmp_path / "out", "--annotations", form)
    files = annotations.find(tmp_path / "out" / "annotations")
    assert list(files) == ["0", "1", "2", "quiet"]
    assert files["0"].name == f"0{ending}"
    for name, path in files.items():
        marked = [(one.start_s, one.end_s - one.start_s) for one in annotations.read(path, duration_s=9.0)]
        np.testing.assert_allclose(np.reshape(marked, (-1, 2)), found(table[table["source"] == f"{name}.wav"]))


def test_recordings_that_differ_in_their_endings_alone_keep_them_in_the_names_of_their_intervals(tmp_path):
    for name in ("cry.wav", "cry.flac", "b.wav"):
        (tmp_path / "in" / "of").mkdir(exist_ok=True, parents=True)
        soundfile.write(tmp_path / "in" / "of" / name, scene(CRIES[:1]), RATE)
    table = acquire(tmp_path / "in", tmp_path / "out", "--annotations", "raven")
    written = {str(path.relative_to(tmp_path / "out" / "annotations")) for path in tmp_path.glob("out/annotations/*/*")}
    assert written == {f"of/{name}.selections.txt" for name in ("cry.wav", "cry.flac", "b.wav")} and len(table) == 3
    corpus = Intervals(UnlabelledTree(tmp_path / "in"), tmp_path / "out" / "annotations")
    assert len(corpus.recordings()) == 3
